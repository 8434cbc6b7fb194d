"""What a network predicts: a class of every pixel, or of a patch as a whole.

The patch store holds labels of pixels for either; what a patch as a whole is follows from those at its centre, after
augmentation, so that the class of a shifted or turned patch is what it shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stainda.arrays import Array
from stainda.config import TaskConfig
from stainda.errors import TrainingError
from stainda.training.batches import Patches
from stainda.training.losses import IGNORE

_CHUNK = 256


@dataclass(frozen=True)
class Sorted:
    """Labelled patches that can be learned from.

    Attributes:
        indices: of them, those whose answer is not ignored.
        has_object: whether each shows (segmentation) or is (classification) of a class, bool ``(N,)``.
        shares: of the background and each class among the labelled places, for patches with an object (row 0) and
            for the others (row 1), float ``(2, K)``; a row is 0 where there are no such patches.
    """

    indices: Array
    has_object: Array
    shares: Array


class Segmentation:
    """Every pixel has a class."""

    score = "Dice"

    def __init__(self, config: TaskConfig) -> None:
        self.classes = config.classes

    def answers(self, labels: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """What the network is to answer, and how much that counts: labels ``[N, H, W]`` as they are."""
        return labels, weights

    def sort(self, data: Patches, indices: Array) -> Sorted:
        """Which labelled patches can be learned from, and which of them show an object."""
        has_object, counts = [], np.zeros((2, len(self.classes) + 1))
        for labels in self._answers_of(data, indices):
            shown = ((labels > 0) & (labels != IGNORE)).any(axis=tuple(range(1, labels.ndim)))
            has_object.append(shown)
            for row, chosen in enumerate((labels[shown], labels[~shown])):
                counts[row] += [(chosen == value).sum() for value in range(counts.shape[1])]
        result = np.concatenate(has_object) if has_object else np.zeros(0, bool)
        return Sorted(np.asarray(indices), result, counts / np.maximum(counts.sum(1, keepdims=True), 1))

    def _answers_of(self, data: Patches, indices: Array) -> Iterator[Array]:
        for start in range(0, len(indices), _CHUNK):
            labels = torch.from_numpy(np.ascontiguousarray(data.labels(indices[start : start + _CHUNK])))
            yield self.answers(labels)[0].numpy()


class Classification(Segmentation):
    """The class of a patch is what lies at its centre.

    Within a square in the middle, ``centre`` of the patch wide, let ``s_k`` be the share of class k and u that of
    ignored pixels. The answer is the class of the largest ``s_k`` where that is at least ``covered``; background where
    ``Σ s_k + u`` is at most ``clear``; else 255, for the patch is neither. It counts as much as the square's pixels do
    on average.
    """

    score = "F1"

    def __init__(self, config: TaskConfig) -> None:
        super().__init__(config)
        self._config = config

    def answers(self, labels: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Labels (whole numbers) and weights ``[N, H, W]`` to one answer (long) and one weight ``[N]`` per patch."""
        square = _middle(labels, self._config.centre)
        pixels = square[0].numel() if len(square) else 1
        shares = torch.stack([(square == k + 1).sum(dim=(1, 2)) for k in range(len(self.classes))], 1) / pixels
        most, which = shares.max(1)
        unknown = (square == IGNORE).sum(dim=(1, 2)) / pixels
        answer = torch.full_like(which, IGNORE)
        answer[shares.sum(1) + unknown <= self._config.clear + 1e-6] = 0
        named = most >= self._config.covered - 1e-6
        answer[named] = which[named] + 1
        return answer, None if weights is None else _middle(weights, self._config.centre).mean(dim=(1, 2))

    def sort(self, data: Patches, indices: Array) -> Sorted:
        result = list(self._answers_of(data, indices))
        answers = np.concatenate(result) if result else np.zeros(0, np.int64)
        kept = np.asarray(indices)[answers != IGNORE]
        answers = answers[answers != IGNORE]
        k = len(self.classes) + 1
        counts = np.stack([np.bincount(some, minlength=k) for some in (answers[answers > 0], answers[answers == 0])])
        return Sorted(kept, answers > 0, counts / np.maximum(counts.sum(1, keepdims=True), 1))


def task_of(config: TaskConfig) -> Segmentation:
    """What a study's task asks the network."""
    return (Classification if config.kind == "classification" else Segmentation)(config)


def class_weights(config: TaskConfig, patches: Sorted, object_share: float | None) -> Tensor | None:
    """Weights ``[K]`` of background and classes in the loss, float32; ``None`` where all weigh alike.

    ``balanced``: one over how often a class is met in the batches (objects having their share of patches there), scaled
    to weigh a place 1 on average; a class that is not met weighs 0.

    Raises:
        TrainingError: no class with a weight is met.
    """
    names = ("background", *config.classes)
    if config.class_weights == "none":
        return None
    if isinstance(config.class_weights, dict):
        return torch.tensor([float(config.class_weights.get(name, 1.0)) for name in names])
    share = float(patches.has_object.mean()) if object_share is None else object_share
    share = 1.0 if patches.has_object.all() else share if patches.has_object.any() else 0.0
    met = share * patches.shares[0] + (1 - share) * patches.shares[1]
    if not met.any():
        raise TrainingError("no labelled place is met in training", remedy="Check the annotations of the sources")
    weights = np.divide(1.0, met, out=np.zeros_like(met), where=met > 0)
    return torch.from_numpy(weights / (weights * met).sum()).float()


def need_answers(patches: Sorted, count: int, what: str, config: TaskConfig) -> None:
    """Refuse to train or validate where nothing is labelled.

    Args:
        asked: patches there were before those whose answer is ignored were left out.

    Raises:
        TrainingError: no patch shows an object; or, in classification, every patch is one.
    """
    words = " or ".join(config.classes)
    if config.kind == "segmentation":
        if not patches.has_object.any():
            raise TrainingError(
                f"none of the {count} {what} patches shows {words}",
                remedy="Check the annotations of the source domains, task.classes and the patient splits",
            )
        return
    side = f"the square at their centre, {config.centre:g} of their side"
    if not patches.has_object.any():
        raise TrainingError(
            f"none of the {count} {what} patches has {words} over {config.covered:.0%} of {side}",
            remedy="Lower task.centre to what an object covers, or make patches.size fit the objects; check the "
            "annotations of the source domains, their pixel sizes (the manifest's column mpp) and task.classes",
        )
    if patches.has_object.all():
        raise TrainingError(
            f"none of the {count} {what} patches is free of {words} in {side}",
            remedy="Raise patches.negatives_per_object, or task.clear. Where patches are smaller than objects, "
            "check the pixel sizes (the manifest's column mpp)",
        )


def _middle(values: Tensor, share: float) -> Tensor:
    """The square in the middle of ``[N, H, W]``, ``share`` of the side wide, at least a pixel."""
    height, width = values.shape[-2:]
    sides = [max(1, round(share * side)) for side in (height, width)]
    top, left = (height - sides[0]) // 2, (width - sides[1]) // 2
    return values[..., top : top + sides[0], left : left + sides[1]]
