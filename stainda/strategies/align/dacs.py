"""DACS: source objects pasted into target patches, whose other pixels a teacher labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from stainda.strategies.align.base import Step, ramp_up
from stainda.strategies.align.teachers import TeacherAlign, pseudo_labels, weighted_cross_entropy
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor


@register("align", "dacs")
class Dacs(TeacherAlign):
    """Pixels of source patches are pasted into target patches; the others are labelled by a teacher.

    ``x = M x_S + (1 - M) x_T`` with labels ``M y_S + (1 - M) ŷ_T``, ŷ the teacher's most probable classes. M is what
    ClassMix cuts (``paste: classes``): half of the classes the source patch shows, drawn at random, background among
    them; ``objects``: all but background, for one class of objects; ``rectangle``: what CutMix cuts. Cross-entropy;
    pasted pixels count 1, the others as much as the share of the target patch's pixels on which the teacher reaches
    ``threshold``.
    """

    reference: ClassVar[str] = (
        "Tranheden et al. 2021, DACS: Cross-domain Mixed Sampling, arXiv 2007.08702; ClassMix: Olsson et al. 2021, "
        "arXiv 2007.07936"
    )
    tasks: ClassVar[tuple[str, ...]] = ("segmentation",)

    weight: float = Field(1.0, ge=0, description="of the loss on mixed patches, once it has grown")
    paste: Literal["classes", "objects", "rectangle"] = Field("classes", description="what of a source patch is pasted")
    threshold: float = Field(0.968, gt=0, lt=1, description="probability from which the teacher counts as sure")
    grow: float = Field(0.0, ge=0, le=1, description="share of the steps during which the weight grows")

    def losses(self, step: Step) -> dict[str, Tensor]:
        import torch

        from stainda.strategies.align.support.pasting import paste
        from stainda.strategies.norm.frozen_statistics import quiet

        source, target = step.source, step.target
        assert target is not None and source.labels is not None
        labels, counts = pseudo_labels(*self.taught(step), self.threshold)
        n = min(len(source.images), len(target.images))
        where, inner = self._cut(step, n)
        mixed = torch.where(inner, source.labels[:n], labels[:n])
        own = torch.ones_like(counts[:n]) if source.weights is None else source.weights[:n]
        with quiet(step.network):
            logits = step.run(paste(source.images[:n], target.images[:n], where), target)
        loss = weighted_cross_entropy(logits, mixed, torch.where(inner, own, counts[:n]))
        return {"mixed": self.weight * ramp_up(self.grow, step.progress) * loss}

    def _cut(self, step: Step, n: int) -> tuple[Tensor, Tensor]:
        """What is pasted of the first source patches: of patches, and of what the network answers."""
        from stainda.strategies.align.support.pasting import (
            class_masks,
            object_masks,
            rectangles,
            with_rim,
            without_rim,
        )

        margin = getattr(step.network, "margin", 0)
        assert step.source.labels is not None and step.generator is not None
        if self.paste == "rectangle":
            where = rectangles(step.source.images[:n], 1.0, step.generator)
            return where, without_rim(where, margin)
        labels = step.source.labels[:n]
        inner = object_masks(labels) if self.paste == "objects" else class_masks(labels, step.generator)
        return with_rim(inner, margin), inner
