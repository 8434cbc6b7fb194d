"""Pixel measures against scikit-learn and against answers known on paper."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from stainda.errors import StaindaError
from stainda.evaluation import MEASURES, labels_from_probabilities, measure, pixel_counts


@pytest.mark.parametrize("seed", range(5))
def test_counts_agree_with_scikit_learn_where_labels_are_random_and_some_pixels_ignored(seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, (60, 70)).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.1] = 255
    predicted = np.where(rng.random(truth.shape) < 0.6, np.minimum(truth, 3), rng.integers(0, 4, truth.shape))
    counts = pixel_counts(predicted, truth, 3).T
    used = truth != 255
    arguments = dict(labels=[1, 2, 3], average=None)
    for name, theirs in (
        ("dice", f1_score), ("iou", jaccard_score), ("precision", precision_score), ("recall", recall_score),
    ):  # fmt: skip
        ours = MEASURES[name].formula(*counts)
        np.testing.assert_allclose(ours, theirs(truth[used], predicted[used], **arguments), atol=1e-12)


def test_two_shifted_discs_have_the_dice_of_the_formula():
    radius, shift = 100.0, 48.0
    y, x = np.mgrid[:400, :400] - 200.0
    first, second = x**2 + y**2 <= radius**2, (x - shift) ** 2 + y**2 <= radius**2
    counts = pixel_counts(first.astype(np.uint8), second.astype(np.uint8), 1)[0]
    t = shift / (2 * radius)
    expected = 2 / np.pi * (np.arccos(t) - t * np.sqrt(1 - t**2))
    assert float(MEASURES["dice"].formula(*counts)) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(
    ("truth", "predicted", "expected"),
    [
        (0, 0, {"dice": np.nan, "iou": np.nan, "precision": np.nan, "recall": np.nan}),
        (1, 0, {"dice": 0, "iou": 0, "precision": 0, "recall": 0}),
        (0, 1, {"dice": 0, "iou": 0, "precision": 0, "recall": np.nan}),
        (1, 1, {"dice": 1, "iou": 1, "precision": 1, "recall": 1}),
        (255, 1, {"dice": np.nan, "iou": np.nan, "precision": np.nan, "recall": np.nan}),
    ],
    ids=["nothing there, nothing found", "nothing found", "nothing there", "all found", "all ignored"],
)
def test_what_cannot_be_said_is_not_a_number(truth, predicted, expected):
    counts = pixel_counts(np.full((4, 4), predicted), np.full((4, 4), truth, np.uint8), 1)[0]
    for name, value in expected.items():
        assert np.array_equal(float(MEASURES[name].formula(*counts)), value, equal_nan=True), name


def test_masks_on_different_grids_and_unknown_classes_are_refused():
    with pytest.raises(StaindaError, match="same grid"):
        pixel_counts(np.zeros((4, 4), int), np.zeros((4, 5), int), 1)
    with pytest.raises(StaindaError, match=r"outside 0\.\.1"):
        pixel_counts(np.full((4, 4), 2), np.zeros((4, 4), int), 1)


def test_a_pixel_gets_its_most_probable_class_that_reaches_its_own_threshold():
    probabilities = np.array([[[0.9, 0.4, 0.55]], [[0.05, 0.45, 0.6]]])
    assert labels_from_probabilities(probabilities).tolist() == [[1, 0, 2]]
    assert labels_from_probabilities(probabilities, [0.3, 0.7]).tolist() == [[1, 1, 1]]
    assert labels_from_probabilities(np.zeros((2, 1, 1)), 0.0).tolist() == [[1]]


def test_a_mistyped_measure_is_answered_with_the_nearest():
    with pytest.raises(StaindaError, match="Did you mean 'object_f1'"):
        measure("object_f2")
