"""Learning from several annotators: what a training sees of them, and where AggNet beats STAPLE."""

import numpy as np
import pytest
from blob_cohort import make_job
from crowd_cohort import Quality, crowd_data
from test_training_learning import _dice

from stainda.training import train_on

OF_STAPLE = {"name": "annotators", "method": "staple"}
STAPLE, AGGNET = {"labels": OF_STAPLE}, {"labels": OF_STAPLE, "align": {"name": "aggnet"}}
MAJORITY = {"labels": {"name": "annotators"}}


def test_training_labels_are_the_crowds_and_validation_is_not():
    job = make_job(MAJORITY, visible="nothing")
    data = crowd_data(job, [Quality(), Quality(), Quality(missed=1.0)])
    train, val = data.labelled("train"), data.labelled("val")
    votes = data.votes(train)
    assert votes.shape == (3, len(train), 48, 48) and data.annotators == ("annotator0", "annotator1", "annotator2")
    np.testing.assert_array_equal(data.labels(train), votes[0])  # two of three drew every disc
    assert not votes[2].any() and (data.votes(val) == 255).all()
    np.testing.assert_array_equal(data.labels(val), data.store.labels("own")[val])
    windows = np.tile([5, -3, 48], (len(train), 1))
    moved = data.votes(train, windows)
    np.testing.assert_array_equal(moved[0, :, 3:, :-5], votes[0, :, :-3, 5:])
    assert (moved[:, :, :3] == 255).all() and (data.labels(train, windows)[:, :3] == 255).all()


def test_what_was_estimated_is_in_the_log(tmp_path):
    job = make_job(AGGNET)
    train_on(job, crowd_data(job, [Quality(), Quality(), Quality(missed=0.9)]), tmp_path)
    lines = [line for line in (tmp_path / "log.txt").read_text().splitlines() if "align aggnet: annotator" in line]
    assert len(lines) == 3 and all("sensitivity" in line for line in lines)


@pytest.mark.slow
def test_aggnet_beats_staple_where_few_see_each_patch(tmp_path):
    """Five annotators see 4 in 10 patches each, and four of them miss 3 in 10 discs: where two disagree, only the image
    can say who is right."""
    crowd = [Quality(missed=0.3, invented=0.1, seen=0.4)] * 4 + [Quality(missed=0.1, seen=0.4)]
    scores = {"staple": [], "aggnet": []}
    for name, strategy in (("staple", STAPLE), ("aggnet", AGGNET)):
        for seed in range(3):
            job = make_job(strategy, seed=seed, epochs=5, steps_per_epoch=20, loss="cross_entropy")
            train_on(job, crowd_data(job, crowd, seed=seed, per_slide=16), tmp_path / f"{name}{seed}")
            scores[name].append(_dice(tmp_path / f"{name}{seed}", "PAS@A"))
    assert (np.array(scores["aggnet"]) > scores["staple"]).all(), scores
