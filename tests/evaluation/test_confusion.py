"""Which classes are mistaken for which: pixels against scikit-learn, objects against cases counted by hand."""

import numpy as np
import pandas as pd
import pytest
import shapely
from sklearn.metrics import confusion_matrix

from stainda.annotations import make_shapes
from stainda.config import TaskConfig
from stainda.evaluation.confusion import (
    BACKGROUND,
    confusion_rows,
    confusion_table,
    object_confusion,
    pixel_confusion,
    slide_confusion,
)

CLASSES = ("glomerulus", "sclerotic glomerulus")


def test_pixels_are_counted_as_scikit_learn_counts_them():
    rng = np.random.default_rng(1)
    truth, predicted = rng.integers(0, 3, (2, 40, 30))
    used = rng.random((40, 30)) < 0.7
    expected = confusion_matrix(truth[used], predicted[used], labels=[0, 1, 2])
    np.testing.assert_array_equal(pixel_confusion(predicted, truth, 2, used), expected)


def test_ignored_pixels_and_glass_do_not_count():
    probabilities = np.zeros((2, 2, 4))
    probabilities[0, 0], probabilities[1, 1] = 0.9, 0.6
    labels = np.array([[1, 1, 2, 255], [2, 2, 0, 0]], np.uint8)
    tissue = np.array([[True, True, True, True], [True, True, True, False]])
    counts = slide_confusion(probabilities, labels, CLASSES, threshold=[0.5, 0.5], tissue=tissue)
    np.testing.assert_array_equal(counts, [[0, 0, 1], [0, 2, 0], [0, 1, 2]])
    strict = slide_confusion(probabilities, labels, CLASSES, threshold=[0.5, 0.7], tissue=tissue)
    np.testing.assert_array_equal(strict, [[1, 0, 0], [0, 2, 0], [2, 1, 0]])


def _squares(corners, names, side=10.0):
    shapes = make_shapes([shapely.box(x, y, x + side, y + side) for x, y in corners], "glomerulus")
    return shapes.assign(**{"class": list(names)})


def test_an_object_of_the_wrong_class_is_one_mistake():
    first, second = CLASSES
    truth = _squares([(0, 0), (30, 0), (60, 0), (90, 0)], [first, first, second, second])
    predicted = _squares([(1, 0), (31, 0), (60, 1), (200, 0)], [first, second, second, second])
    counts = object_confusion(predicted, truth, CLASSES)
    np.testing.assert_array_equal(counts, [[0, 0, 1], [0, 1, 1], [1, 0, 1]])  # background, first, second
    assert counts[1:].sum() == len(truth) and counts[:, 1:].sum() == len(predicted)


def test_other_classes_and_ignored_regions_are_left_out():
    first, second = CLASSES
    truth = _squares([(0, 0), (30, 0), (60, 0)], [first, "tubule", second])
    predicted = _squares([(0, 0), (30, 0), (60, 0)], [first, first, first])
    counts = object_confusion(predicted, truth, CLASSES, ignored=_squares([(60, 0)], ["ignore"]))
    np.testing.assert_array_equal(counts, [[0, 1, 0], [0, 1, 0], [0, 0, 0]])


def test_rows_of_slides_add_up_to_their_table():
    counts = np.array([[5, 0, 1], [0, 2, 0], [1, 0, 3]])
    rows = confusion_rows({"pixels": counts}, CLASSES, {"slide": "a"})
    assert len(rows) == 5 and all(row["count"] for row in rows)
    both = pd.DataFrame([*rows, *confusion_rows({"pixels": counts}, CLASSES, {"slide": "b"})])
    np.testing.assert_array_equal(confusion_table(both, (BACKGROUND, *CLASSES)), 2 * counts)


@pytest.mark.parametrize("name", ["background", " Background"])
def test_no_class_is_called_background(name):
    with pytest.raises(ValueError, match="background is what is of no class"):
        TaskConfig(classes=("glomerulus", name))
