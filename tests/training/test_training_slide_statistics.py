"""Batch statistics of each slide's own (``norm: reestimated``): of which images, and where one is too few."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from blob_cohort import make_data, make_job
from torch import nn

from stainda.prediction import load_predictor, predictor
from stainda.strategies import build
from stainda.strategies.after.tent import Tent
from stainda.strategies.norm.statistics import TooFewImages, batches_for_statistics, estimate_statistics
from stainda.training import train_on, validation
from stainda.training.preparation import Preparation
from stainda.training.unsupervised import PATCHES, serial_agreement
from stainda.training.validation import validate


def _prepared(per_slide, **strategy):
    job = make_job({"norm": "reestimated", **strategy})
    data = make_data(job, per_slide=per_slide)
    return Preparation(job, build(job.strategy), data), data


def test_a_small_last_batch_joins_the_one_before():
    sizes = {
        count: [some.stop - some.start for some in batches_for_statistics(count, 32)]
        for count in (0, 1, 3, 32, 33, 35, 36, 64, 67)
    }
    assert sizes == {0: [], 1: [1], 3: [3], 32: [32], 33: [33], 35: [35], 36: [32, 4], 64: [32, 32], 67: [32, 35]}
    assert [list(range(40))[some] for some in batches_for_statistics(34, 32)] == [list(range(34))]


def test_the_last_patch_of_a_slide_weighs_as_much_as_the_others():
    """33 validation patches of one slide: statistics are of all in one batch, not half of the last one."""
    made, data = _prepared(33)
    indices, seen = made.chosen.validation, []

    def look(part, statistics):
        seen.append(statistics)
        return made.detector.probabilities(data.images(part), made.origins.slides(part), statistics)

    validate(made.detector, data, made.origins, indices, probabilities=look)
    assert len(indices) == 33 and len(seen) == 2
    all_of_them = made.detector.see(made.detector.images(data.images(indices)), made.origins.slides(indices))
    expected = estimate_statistics(made.detector.network, [all_of_them])
    for statistics in seen:
        assert all(torch.equal(value, expected[name]) for name, value in statistics.items())


def _squeezed():
    """One value per channel of an image, as the pooling of an encoder's features leaves."""
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


def test_one_image_is_refused_where_a_layer_sees_one_value_of_it():
    network = _squeezed()
    with pytest.raises(TooFewImages, match="one value per channel"):
        estimate_statistics(network, [torch.rand(1, 3, 8, 8)])
    assert estimate_statistics(network, [torch.rand(2, 3, 8, 8)])
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with Tent(steps=1).adapted(network, [torch.rand(1, 3, 8, 8)], None) as found:
        assert found.note == "not adapted to the slide: one tile is too few" and found.statistics is None
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def _too_few(network, batches):
    raise TooFewImages("one value per channel")


def test_a_slide_of_one_patch_is_validated_and_predicted_with_the_statistics_of_training(tmp_path, monkeypatch):
    monkeypatch.setattr(validation, "estimate_statistics", _too_few)
    made, data = _prepared(4)
    found = validate(made.detector, data, made.origins, made.chosen.validation)
    assert found.fallbacks == {"PAS@A_val0": "batch statistics as trained: one patch is too few to estimate them from"}
    job = make_job({"norm": "reestimated"}, epochs=1, steps_per_epoch=2)
    train_on(job, make_data(job, per_slide=4), tmp_path)
    assert "PAS@A_val0: batch statistics as trained" in (tmp_path / "log.txt").read_text()
    monkeypatch.setattr(predictor, "estimate_statistics", _too_few)
    result = load_predictor(tmp_path).probabilities_array(np.full((48, 48, 3), 120, np.uint8), name="one")
    assert "batch statistics as trained: one tile is too few to estimate them from" in result.notes


def test_serial_agreement_is_of_predictions_with_the_statistics_of_each_slide(monkeypatch):
    made, data = _prepared(4, align="serial_consistency")
    detector, pairs, seen = made.detector, data.serial, []
    real = detector.probabilities

    def look(images, slides, statistics=None):
        seen.append((slides[0], statistics))
        return real(images, slides, statistics)

    monkeypatch.setattr(detector, "probabilities", look)
    agreement = serial_agreement(detector, pairs, np.random.default_rng(0))
    assert 0 <= agreement <= 1 and len(seen) == 2 * min(PATCHES, len(pairs))
    drawn = pairs.read(np.sort(np.random.default_rng(0).permutation(len(pairs))[:PATCHES]))
    for slide, images in (("PAS@A_train0", drawn.one), ("SR@A_train0", drawn.two)):
        shown = detector.see(detector.images(images), [slide] * len(images))
        expected = estimate_statistics(detector.network, [shown])
        of_slide = [statistics for name, statistics in seen if name == slide]
        assert of_slide and all(
            torch.equal(statistics[key], value) for statistics in of_slide for key, value in expected.items()
        )
