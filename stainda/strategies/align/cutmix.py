"""CutMix: rectangles of labelled patches replaced by those of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from stainda.strategies.align.base import Align, Step
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor


@register("align", "cutmix")
class CutMix(Align):
    """A rectangle of every labelled patch is replaced by that of another, image and labels alike.

    The rectangle covers the share ``1 - λ`` of the patch, λ from Beta(α, α), its middle anywhere; what reaches over the
    rim is cut off. Labels of pixels move with them, as in its use for segmentation (French et al. 2020, arXiv
    1906.01916). What lies about an object is then no longer what always lies about it. For a classification of patches
    by what lies in their middle there is Mixup.
    """

    reference: ClassVar[str] = "Yun et al. 2019, CutMix: Regularization Strategy, arXiv 1905.04899"
    tasks: ClassVar[tuple[str, ...]] = ("segmentation",)
    needs_targets: ClassVar[bool] = False
    needs_pixels: ClassVar[bool] = True

    alpha: float = Field(1.0, gt=0, le=10, description="α of the Beta distribution of λ; 1: any size alike")
    p: float = Field(1.0, ge=0, le=1, description="share of the steps at which patches are cut")

    def losses(self, step: Step) -> dict[str, Tensor]:
        import torch

        from stainda.strategies.align.support.pasting import paste, rectangles, without_rim
        from stainda.strategies.norm.frozen_statistics import quiet

        source = step.source
        assert source.labels is not None and step.loss is not None and step.generator is not None
        if float(torch.rand((), generator=step.generator)) >= self.p:
            return {"task": step.task_loss()}
        cut = rectangles(source.images, self.alpha, step.generator)
        order = torch.randperm(len(source.images), generator=step.generator).to(source.images.device)
        inner = without_rim(cut, getattr(step.network, "margin", 0))
        with quiet(step.network):
            logits = step.run(paste(source.images[order], source.images, cut), source)
        weights = () if source.weights is None else (torch.where(inner, source.weights[order], source.weights),)
        return {"task": step.loss(logits, torch.where(inner, source.labels[order], source.labels), *weights)}
