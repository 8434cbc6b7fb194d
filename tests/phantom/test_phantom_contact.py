"""Glomeruli that touch: how many do, where, and that nothing else of a block changes."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from stainda.config import PhantomConfig
from stainda.phantom.contact import OVERLAP, outline
from stainda.phantom.section import RenderedSection, anatomy_of, plan_sections
from stainda.phantom.shapes import Surface, unit_vectors


def config(**settings):
    return PhantomConfig(
        patients=2, centres=("A",), stains=("PAS", "JONES", "SR", "CD68"), size=1536, mpp=0.75, seed=5, **settings
    )


def glomeruli_of(plan):
    """Outlines of the glomeruli of a section, in the frame, micrometres."""
    section = RenderedSection(plan)
    bodies = section.anatomy.bodies
    return {bodies.name[i]: shape for i, shape in section.scene.outlines.items() if bodies.is_glomerulus[i]}


def touching(shapes):
    """Names of those that touch another one, and how deep the deepest overlap is, as a share of the smaller one."""
    pairs = [(a, b) for a in shapes for b in shapes if a < b and shapes[a].distance(shapes[b]) <= 0.5]
    overlaps = [shapes[a].intersection(shapes[b]).area / min(shapes[a].area, shapes[b].area) for a, b in pairs]
    return {name for pair in pairs for name in pair}, max(overlaps, default=0.0)


def test_none_touches_without_the_setting_and_the_share_does_with_it():
    for plan in plan_sections(config()):
        assert not touching(glomeruli_of(plan))[0]
    seen, met = 0, 0
    for plan in plan_sections(config(touching=0.5)):
        shapes = glomeruli_of(plan)
        names, deepest = touching(shapes)
        assert len(names) >= 4 and deepest < 0.05
        seen, met = seen + len(shapes), met + len(names)
    assert 0.35 <= met / seen <= 0.6


def test_the_glomeruli_are_the_same_ones_and_some_of_them_have_moved():
    plain, moved = (anatomy_of(plan_sections(config(**more))[0]).bodies for more in ({}, {"touching": 0.4}))
    assert plain.name == moved.name and plain.uuid == moved.uuid
    np.testing.assert_array_equal(plain.outer.radius, moved.outer.radius)
    changed = (plain.centre != moved.centre).any(1)
    assert 0 < changed.sum() <= 0.25 * plain.is_glomerulus.sum() and plain.is_glomerulus[changed].all()


def test_bodies_that_are_no_pair_stay_apart():
    bodies = anatomy_of(plan_sections(config(touching=1.0))[0]).bodies
    apart = np.linalg.norm(bodies.centre[:, None] - bodies.centre[None], axis=2)
    close = apart < 1.08 * (bodies.outer.radius[:, None] + bodies.outer.radius[None]) + 7
    np.fill_diagonal(close, False)
    assert close.any() and close.sum(1).max() == 1


@pytest.mark.parametrize("dz", [0.0, 30.0])
def test_the_cut_of_a_ball_is_a_circle(dz):
    rng = np.random.default_rng(1)
    ball = Surface(np.array([50.0]), unit_vectors(rng, 1, 5), np.zeros((1, 5)), 3.0)
    cut = outline(ball, 0, dz)
    assert cut.area == pytest.approx(np.pi * (50**2 - dz**2), rel=0.03)
    assert shapely.Point(0, 0).within(cut) and OVERLAP < 3
