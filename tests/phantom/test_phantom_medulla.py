"""The part of a section that has no glomeruli."""

import numpy as np
import pytest

from stainda.config import PhantomConfig
from stainda.phantom.section import anatomy_of, plan_sections


def bodies_of(share, patients=4):
    plans = plan_sections(PhantomConfig(patients=patients, stains=["PAS"], size=2000, mpp=1.0, medulla=share, seed=3))
    return [anatomy_of(plan) for plan in plans]


def test_medulla_takes_glomeruli_away_and_leaves_all_other_bodies_where_they_are():
    for plain, less in zip(bodies_of(0.0, 2), bodies_of(0.5, 2), strict=True):
        place = {name: index for index, name in enumerate(plain.bodies.name)}
        kept = [place[name] for name in less.bodies.name]
        assert less.bodies.is_glomerulus.sum() < plain.bodies.is_glomerulus.sum()
        assert np.array_equal(plain.bodies.centre[kept], less.bodies.centre)
        assert np.array_equal(plain.bodies.outer.lobes[kept], less.bodies.outer.lobes)
        assert [plain.bodies.uuid[index] for index in kept] == list(less.bodies.uuid)
        mimics = int((~plain.bodies.is_glomerulus).sum())
        assert mimics == int((~less.bodies.is_glomerulus).sum()) > 0


def test_the_share_of_glomeruli_that_are_gone_is_that_of_the_medulla_and_lies_on_one_side():
    share, gone, every = 0.6, 0, 0
    for plain, less in zip(bodies_of(0.0), bodies_of(share), strict=True):
        names = set(less.bodies.name)
        of_plain = plain.bodies.centre[plain.bodies.is_glomerulus][:, :2]
        kept = np.array([name in names for name in np.array(plain.bodies.name)[plain.bodies.is_glomerulus]])
        gone, every = gone + int((~kept).sum()), every + len(kept)
        normal = of_plain[~kept].mean(0) - of_plain[kept].mean(0)
        # some straight line parts the two: the best of many directions about the line between their means
        turns = np.arctan2(normal[1], normal[0]) + np.linspace(-1.5, 1.5, 3001)
        along = of_plain @ np.stack([np.cos(turns), np.sin(turns)])
        assert (along[~kept].min(0) > along[kept].max(0)).any()
    assert gone / every == pytest.approx(share, abs=0.08)
