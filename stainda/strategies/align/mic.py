"""MIC: target patches of which squares are hidden have to be answered as a teacher answers the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from stainda.strategies.align.base import Step, ramp_up
from stainda.strategies.align.teachers import TeacherAlign, pseudo_labels, weighted_cross_entropy
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Generator, Tensor


@register("align", "mic")
class Mic(TeacherAlign):
    """Masked image consistency: a target patch with hidden squares has to be answered as the teacher answers the whole.

    Of a grid of squares, ``block`` of the patch wide, each is hidden with probability ``hidden`` (shown in the mean
    colour of the standardised images). The student's cross-entropy with the teacher's most probable classes is taken
    over all pixels, so that it learns to use what lies about them; a patch counts as much as the share of its pixels on
    which the teacher reaches ``threshold``. May stand next to other parts (``align: together``).
    """

    reference: ClassVar[str] = "Hoyer et al. 2023, MIC: Masked Image Consistency, arXiv 2212.01322"

    weight: float = Field(1.0, ge=0, description="of the loss on masked patches, once it has grown")
    block: float = Field(0.125, gt=0, le=0.5, description="side of a hidden square, as a share of the patch's")
    hidden: float = Field(0.7, gt=0, lt=1, description="share of the squares that is hidden")
    threshold: float = Field(0.968, gt=0, lt=1, description="probability from which the teacher counts as sure")
    grow: float = Field(0.0, ge=0, le=1, description="share of the steps during which the weight grows")

    def losses(self, step: Step) -> dict[str, Tensor]:
        from stainda.strategies.norm.frozen_statistics import quiet

        batch = step.target
        assert batch is not None and step.generator is not None
        labels, counts = pseudo_labels(*self.taught(step), self.threshold)
        shown = shown_squares(batch.images, self.block, self.hidden, step.generator)
        with quiet(step.network):
            logits = step.run(batch.images * shown, batch)
        loss = weighted_cross_entropy(logits, labels, counts)
        return {"masked": self.weight * ramp_up(self.grow, step.progress) * loss}


def shown_squares(images: Tensor, block: float, hidden: float, generator: Generator) -> Tensor:
    """0 on hidden squares and 1 elsewhere, ``[N, 1, H, W]`` of the type of the images.

    Args:
        block: side of a square as a share of the patch's. hidden: probability that a square is hidden.
    """
    import torch

    n, _, height, width = images.shape
    count = max(2, round(1 / block))
    grid = (torch.rand(n, 1, count, count, generator=generator) >= hidden).to(images)
    return torch.nn.functional.interpolate(grid, size=(height, width), mode="nearest")
