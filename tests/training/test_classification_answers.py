"""What a patch as a whole is, by the pixels at its centre; weights of classes; losses of one answer per patch."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional

from stainda.config import TaskConfig, available
from stainda.config.load import load_piece
from stainda.errors import TrainingError
from stainda.training.losses import IGNORE, LOSSES, make_loss
from stainda.training.tasks import Sorted, class_weights, need_answers, task_of

TASK = TaskConfig(kind="classification", classes=("glomerulus", "tubule"), centre=0.25, covered=0.5, clear=0.1)


def _patches(*fills):
    """Patches of 40 pixels; the square in their middle (10 pixels) filled by rows with (label, rows)."""
    labels = torch.zeros(len(fills), 40, 40, dtype=torch.long)
    for patch, rows in zip(labels, fills, strict=True):
        start = 15
        for label, count in rows:
            patch[start : start + count] = label  # whole rows: what lies next to the square does not matter
            start += count
    return labels


def test_a_patch_is_what_covers_its_centre():
    labels = _patches(
        [(1, 10)], [(2, 5)], [(1, 4)], [(1, 1)], [(1, 2)], [(1, 3), (2, 6)], [(255, 10)], [(255, 1)], [(255, 2)],
        [(2, 5), (255, 5)], [],
    )  # fmt: skip
    answers, weights = task_of(TASK).answers(labels)
    assert answers.tolist() == [1, 2, 255, 0, 255, 2, 255, 0, 255, 2, 0] and weights is None
    labels = torch.ones(1, 40, 40, dtype=torch.long)
    labels[:, 15:25, 15:25] = 0  # a ring of the class around a free centre
    assert task_of(TASK).answers(labels)[0].tolist() == [0]


def test_a_patch_counts_as_much_as_its_centre():
    weights = torch.ones(1, 40, 40)
    weights[:, 15:20] = 0.2
    weights[:, :15] = 0.0
    _, found = task_of(TASK).answers(_patches([(1, 10)]), weights)
    assert found.tolist() == [pytest.approx(0.6)]


def test_segmentation_asks_every_pixel():
    labels = _patches([(1, 4)])
    answers, _ = task_of(TaskConfig(classes=("a", "b"))).answers(labels)
    assert answers is labels


class _Data:
    def __init__(self, labels):
        self._labels = labels.numpy().astype(np.uint8)

    def labels(self, indices):
        return self._labels[indices]

    def rows(self, indices):
        return pd.DataFrame({"around": ["object", "object", "negative", "tissue", "object"]}).iloc[indices]


def test_patches_that_are_neither_are_not_learned_from():
    data = _Data(_patches([(1, 10)], [(1, 3)], [], [(2, 10)], [(1, 10)]))
    found = task_of(TASK).sort(data, np.arange(5))
    assert found.indices.tolist() == [0, 2, 3, 4] and found.has_object.tolist() == [True, False, True, True]
    np.testing.assert_allclose(found.shares, [[0, 2 / 3, 1 / 3], [1, 0, 0]])
    pixels = task_of(TaskConfig(classes=("a", "b"))).sort(data, np.arange(5))
    assert pixels.indices.tolist() == [0, 1, 2, 3, 4] and pixels.has_object.tolist() == [True, True, False, True, True]
    assert pixels.drawn_as_object.tolist() == [True, True, False, False, True], (
        "the fourth stands in for an empty patch"
    )
    np.testing.assert_allclose(pixels.shares, [np.array([97, 23, 0]) / 120, np.array([70, 0, 10]) / 80])


def test_balanced_classes_weigh_as_rarely_as_they_are_met():
    found = Sorted(np.arange(4), np.array([[80, 20, 0], [100, 0, 0], [100, 0, 0], [100, 0, 0]]))
    task = TaskConfig(classes=("a", "b"), class_weights="balanced")
    weights = class_weights(task, found, 0.5)  # half the patches show an object: 0.1 of the places are of class a
    met = torch.tensor([0.9, 0.1, 0.0])
    assert weights[2] == 0 and float((weights * met).sum()) == pytest.approx(1)
    assert float(weights[0] * met[0]) == pytest.approx(float(weights[1] * met[1]))
    as_they_come = class_weights(task, found, None)
    assert float(as_they_come[1] / as_they_come[0]) == pytest.approx(0.95 / 0.05)
    named = class_weights(TaskConfig(classes=("a", "b"), class_weights={"b": 7}), found, 0.5)
    assert named.tolist() == [1, 1, 7] and class_weights(TASK, found, 0.5) is None


@pytest.mark.parametrize("name", sorted(available("tasks")))
def test_every_task_file_is_whole(name):
    task = TaskConfig.model_validate(load_piece("tasks", name))
    assert task.description and task.name == name
    assert task.kind == "segmentation" or task.cell(64) == round(64 * task.centre)


def test_faults_say_what_to_change():
    nothing = Sorted(np.arange(3), np.zeros((3, 3)))
    with pytest.raises(TrainingError, match=r"none of the 9 source .* has glomerulus or tubule over 50%.*centre"):
        need_answers(nothing, 9, "source training", TASK)
    with pytest.raises(TrainingError, match=r"free of glomerulus or tubule.*negatives_per_object"):
        need_answers(Sorted(np.arange(3), np.array([[0, 1, 0]] * 3)), 9, "source training", TASK)
    for values, said in (
        ({"clear": 0.6}, "below covered"), ({"class_weights": {"glom": 2}}, "class_weights names 'glom'"),
        ({"kind": "classification", "objects": "peaks"}, "object_um"),
        ({"class_weights": {"glomerulus": -1}}, "at least 0"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            TaskConfig(**values)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_losses_of_patches_are_those_of_pixels(name):
    """One answer per patch is a picture of one pixel."""
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(6, 3, generator=generator), torch.tensor([0, 1, 2, 1, 255, 0])
    weights, classes = torch.rand(6, generator=generator), torch.tensor([1.0, 3.0, 0.5])
    for extra, own in (((), None), ((weights,), None), ((weights,), classes), ((), classes)):
        loss = make_loss(name, own)
        flat = loss(logits, labels, *extra)
        maps = loss(logits[..., None, None], labels[:, None, None], *(one[:, None, None] for one in extra))
        assert float(flat) == pytest.approx(float(maps), rel=1e-6) and math.isfinite(float(flat))
    assert torch.isfinite(LOSSES[name](logits, torch.full_like(labels, IGNORE)))


def test_class_weights_against_torch_and_by_hand():
    generator = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(2, 3, 5, 5, generator=generator), torch.randint(0, 3, (2, 5, 5), generator=generator)
    labels[0, :2] = 255
    classes = torch.tensor([1.0, 3.0, 0.5])
    expected = functional.cross_entropy(logits, labels, weight=classes, ignore_index=IGNORE)
    assert float(make_loss("cross_entropy", classes)(logits, labels)) == pytest.approx(float(expected), rel=1e-5)
    each = [float(make_loss("dice", torch.eye(3)[k])(logits, labels)) for k in (1, 2)]
    both = float(make_loss("dice", classes)(logits, labels))
    assert both == pytest.approx((3 * each[0] + 0.5 * each[1]) / 3.5, rel=1e-5)
    ones = make_loss("focal", torch.ones(3))(logits, labels)
    assert float(ones) == pytest.approx(float(LOSSES["focal"](logits, labels)), rel=1e-5)
    assert float(make_loss("focal_dice", classes)(logits, labels)) == pytest.approx(
        float(make_loss("focal", classes)(logits, labels)) + both, rel=1e-5
    )
