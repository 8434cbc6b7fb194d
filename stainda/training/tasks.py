"""What a network predicts: a class of every pixel, which of them are one object, middles, or a class of a patch.

The patch store holds labels of pixels for either; what a patch as a whole is follows from those at its centre, after
augmentation, so that the class of a shifted or turned patch is what it shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from stainda.arrays import Array
from stainda.config import TaskConfig
from stainda.errors import TrainingError
from stainda.instances import DenseHead, build_head
from stainda.strategies.align.base import Batch, DenseBatch
from stainda.strategies.align.support.pasting import middle_square
from stainda.training.batches import Patches
from stainda.training.losses import IGNORE, Loss
from stainda.training.rare_classes import RareClasses

_CHUNK = 256


@dataclass(frozen=True)
class Sorted:
    """Labelled patches that can be learned from.

    Attributes:
        indices: of them, those whose answer is not ignored.
        places: labelled places of background and each class in each of them, ``(N, K)``: pixels (segmentation), or one
            (classification).
        stand_ins: whether each lies anywhere on tissue, because too few places of its slide are free of objects, bool
            ``(N,)``; ``None``: none of them.
    """

    indices: Array
    places: Array
    stand_ins: Array | None = None

    @cached_property
    def has_object(self) -> Array:
        """Whether each shows (segmentation) or is (classification) of a class, bool ``(N,)``."""
        return np.asarray((self.places[:, 1:] > 0).any(1))

    @cached_property
    def drawn_as_object(self) -> Array:
        """Which are drawn as the share of a batch that shows an object, bool ``(N,)``: those with one, unless they
        stand in for patches without.

        Where tissue is full of objects, few places are free of them, often at one rim of one slide. If these alone were
        the rest of every batch, half of a training would see them and nothing else.
        """
        return self.has_object if self.stand_ins is None else self.has_object & ~self.stand_ins

    def rare(self, temperature: float | None) -> RareClasses | None:
        """How patches are drawn by their classes; ``None`` without a temperature."""
        return None if temperature is None else RareClasses.of(self.places, temperature, self.drawn_as_object)

    @property
    def shares(self) -> Array:
        """Of the background and each class among the labelled places, for patches drawn as objects (row 0) and for the
        others (row 1), float ``(2, K)``; a row is 0 where there are no such patches."""
        counts = np.stack([self.places[chosen].sum(0) for chosen in (self.drawn_as_object, ~self.drawn_as_object)])
        return counts / np.maximum(counts.sum(1, keepdims=True), 1)


class Segmentation:
    """Every pixel has a class."""

    score = "Dice"
    has_details: ClassVar[bool] = False

    def __init__(self, config: TaskConfig) -> None:
        self.classes = config.classes

    def dense(self, labels: Tensor, details: Tensor) -> DenseBatch:
        """What is asked of each pixel besides its class, for tasks that have details.

        Args:
            labels, details: whole numbers ``[N, H, W]``, after augmentation (``patches.details``).
        """
        raise NotImplementedError

    def loss(self, source: Batch, loss: Loss) -> Tensor:
        """Of a labelled batch; ``loss`` is that of the classes by ``training.loss``."""
        assert source.logits is not None and source.labels is not None
        return loss(source.logits, source.labels, source.weights)

    def more_terms(self, source: Batch) -> dict[str, Tensor]:
        """Further terms of the loss, whatever the align part makes of the first."""
        return {}

    def answers(self, labels: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """What the network is to answer, and how much that counts: labels ``[N, H, W]`` as they are."""
        return labels, weights

    def sort(self, data: Patches, indices: Array) -> Sorted:
        """Which labelled patches can be learned from, and which of them show an object."""
        values = range(len(self.classes) + 1)
        places = [np.zeros((0, len(values)), np.int64)]
        for labels in self._answers_of(data, indices):
            inner = tuple(range(1, labels.ndim))
            places.append(np.stack([(labels == value).sum(axis=inner) for value in values], 1))
        around = data.rows(indices)["around"].to_numpy()
        return Sorted(np.asarray(indices), np.concatenate(places), around == "tissue")

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
        square = middle_square(labels, self._config.centre)
        pixels = square[0].numel() if len(square) else 1
        shares = torch.stack([(square == k + 1).sum(dim=(1, 2)) for k in range(len(self.classes))], 1) / pixels
        most, which = shares.max(1)
        unknown = (square == IGNORE).sum(dim=(1, 2)) / pixels
        answer = torch.full_like(which, IGNORE)
        answer[shares.sum(1) + unknown <= self._config.clear + 1e-6] = 0
        named = most >= self._config.covered - 1e-6
        answer[named] = which[named] + 1
        return answer, None if weights is None else middle_square(weights, self._config.centre).mean(dim=(1, 2))

    def sort(self, data: Patches, indices: Array) -> Sorted:
        result = list(self._answers_of(data, indices))
        answers = np.concatenate(result) if result else np.zeros(0, np.int64)
        kept = np.asarray(indices)[answers != IGNORE]
        answers = answers[answers != IGNORE]
        return Sorted(kept, (answers[:, None] == np.arange(len(self.classes) + 1)).astype(np.int64))


class Instances(Segmentation):
    """Every pixel has a class, and a head says which pixels are of one object (``stainda.instances``)."""

    has_details = True

    def __init__(self, config: TaskConfig) -> None:
        super().__init__(config)
        self._head, self._weight = build_head(config.instances), config.instances_weight

    def dense(self, labels: Tensor, details: Tensor) -> DenseBatch:
        inside = (labels > 0) & (labels != IGNORE)
        objects = torch.where(inside, details, 0).cpu().numpy()
        made = self._head.targets if isinstance(self._head, DenseHead) else lambda patch: patch[None].astype(np.float32)
        targets = torch.from_numpy(np.stack([made(patch) for patch in objects])).to(labels.device)
        return DenseBatch(targets, inside[:, None], (labels != IGNORE)[:, None])

    def more_terms(self, source: Batch) -> dict[str, Tensor]:
        if not self._head.channels:
            return {}
        dense = source.dense
        assert dense is not None and dense.loss is not None
        return {"instances": self._weight * dense.loss}


class Points(Segmentation):
    """The probability of a class is how near a pixel is to a point of it: a heat map, regressed.

    Target of class c: ``h_c = exp(-d² / 2σ²)``, d being the distance to the nearest point, where that is of c; of the
    background ``1 - Σ h_c``. Loss: cross-entropy with these shares, pixels weighted by ``1 + 10 Σ h_c``, for points are
    rare; it is least where the probabilities are the shares. (Höfener et al. 2018, Deep learning nuclei detection: a
    simple approach can deliver state-of-the-art results, doi 10.1016/j.compmedimag.2018.08.010, regress such maps with
    a squared error.) Align parts with a task loss of their own (mcd, group_dro, irm …) learn discs of half height as
    classes instead.
    """

    has_details = True

    def dense(self, labels: Tensor, details: Tensor) -> DenseBatch:
        near, of = (details % 256).float() / 255, details // 256
        shares = torch.stack([near * (of == index) for index in range(1, len(self.classes) + 1)], 1)
        return DenseBatch(shares, ((labels > 0) & (labels != IGNORE))[:, None], (labels != IGNORE)[:, None])

    def loss(self, source: Batch, loss: Loss) -> Tensor:
        assert source.logits is not None and source.dense is not None
        return heat_loss(source.logits, source.dense.targets, source.dense.known, source.weights)


def heat_loss(logits: Tensor, heat: Tensor, known: Tensor, weights: Tensor | None = None) -> Tensor:
    """See :class:`Points`.

    Args:
        logits: ``[N, K, H, W]``. heat: ``[N, K - 1, H, W]`` in 0..1. known: bool ``[N, 1, H, W]``.
        weights: ``[N, H, W]``, how much each pixel counts; ``None``: all alike.
    """
    total = heat.sum(1, keepdim=True).clamp(max=1)
    shares = torch.cat([1 - total, heat], 1)
    each = -(shares * torch.log_softmax(logits.float(), 1)).sum(1, keepdim=True)
    counts = known * (1 + 10 * total) * (1 if weights is None else weights[:, None])
    return (each * counts).sum() / counts.sum().clamp(min=1e-6)


TASKS: dict[str, type[Segmentation]] = {
    "segmentation": Segmentation, "classification": Classification, "instances": Instances, "points": Points,
}  # fmt: skip


def task_of(config: TaskConfig) -> Segmentation:
    """What a study's task asks the network."""
    return TASKS[config.kind](config)


def class_weights(
    config: TaskConfig, patches: Sorted, object_share: float | None, rare: RareClasses | None = None
) -> Tensor | None:
    """Weights ``[K]`` of background and classes in the loss, float32; ``None`` where all weigh alike.

    ``balanced``: one over how often a class is met in the batches (objects having their share of patches there, and
    rare classes their chance), scaled to weigh a place 1 on average; a class that is not met weighs 0.

    Raises:
        TrainingError: no class with a weight is met.
    """
    names = ("background", *config.classes)
    if config.class_weights == "none":
        return None
    if isinstance(config.class_weights, dict):
        return torch.tensor([float(config.class_weights.get(name, 1.0)) for name in names])
    objects = patches.drawn_as_object
    share = float(objects.mean()) if object_share is None else object_share
    share = 1.0 if objects.all() else share if objects.any() else 0.0
    with_objects = patches.shares[0] if rare is None else rare.met(patches.places)
    met = share * with_objects + (1 - share) * patches.shares[1]
    if not met.any():
        raise TrainingError("no labelled place is met in training", remedy="Check the annotations of the sources")
    weights = np.divide(1.0, met, out=np.zeros_like(met), where=met > 0)
    return torch.from_numpy(weights / (weights * met).sum()).float()


def need_answers(patches: Sorted, count: int, what: str, config: TaskConfig) -> None:
    """Refuse to train or validate where nothing is labelled.

    Args:
        count: patches there were before those whose answer is ignored were left out.
        what: they are for, in the message.

    Raises:
        TrainingError: no patch shows an object; or, in classification, every patch is one.
    """
    words = " or ".join(config.classes)
    if config.network == "segmentation":
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
