"""A foreign stain on which plain colours fail: what a view or an augmentation is worth there, three seeds.

The task is that of ``tests/training/test_training_learning.py``, not tuned for any of them. With these settings (60
steps) the Dice on Sirius red by seed was: plain .29 .95 .10, any hue .66 .62 .60, channel swap .72 .82 .61, histogram
matching .94 .96 .92, FDA .64 .94 .51, all colour augmentations .55 .70 .73. RandStainNA (.48 .62 .16) did not help on
average: its templates are those of the one source stain.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "training"))
from blob_cohort import make_data, make_job
from test_training_learning import _dice as dice

from stainda.config import load_strategy
from stainda.training import train_on


def scores(name, folder):
    """Dice on the source and on the foreign stain, by seed."""
    found = []
    for seed in range(3):
        job = make_job(load_strategy(name).model_dump(), seed=seed, epochs=4, steps_per_epoch=15)
        train_on(job, make_data(job), folder / f"{name}{seed}")
        found.append([dice(folder / f"{name}{seed}", domain) for domain in ("PAS@A", "SR@A")])
    return np.asarray(found).T


def test_plain_colours_fail_and_a_view_fitted_to_the_stain_does_not(tmp_path):
    plain_source, plain = scores("source_only", tmp_path)
    source, matched = scores("histogram_matching", tmp_path)
    assert plain_source.min() > 0.9 and source.min() > 0.9
    assert plain.mean() < 0.6 and (plain < 0.5).sum() >= 2
    assert matched.min() > 0.8 and matched.mean() > plain.mean() + 0.25


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("channel_swap", 0.5), ("colour_jitter_strong", 0.5)])
def test_augmentation_of_colour_does_not_fail_where_plain_colours_do(name, least, tmp_path):
    source, target = scores(name, tmp_path)
    assert source.min() > 0.9 and target.min() > least
    assert target.mean() > scores("source_only", tmp_path)[1].mean() + 0.1
