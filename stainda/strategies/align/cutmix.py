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
    1906.01916). What lies about an object is then no longer what always lies about it.

    Of a classification, all patches of a step have the same rectangle and the loss is
    ``λ L(f(x̃), y) + (1 - λ) L(f(x̃), y')``, as the authors have it, 1 - λ being the share that was replaced in the end.
    A patch here has the class of a square in its middle (``task.centre``), so λ is the share that is left of that
    square: a rectangle next to it changes the surroundings and not the label. With ``centre: 1`` it is the authors'
    share of the patch.
    """

    reference: ClassVar[str] = "Yun et al. 2019, CutMix: Regularization Strategy, arXiv 1905.04899"
    needs_targets: ClassVar[bool] = False
    needs_pixels: ClassVar[bool] = True
    replaces_task: ClassVar[bool] = True

    alpha: float = Field(1.0, gt=0, le=10, description="α of the Beta distribution of λ; 1: any size alike")
    p: float = Field(1.0, ge=0, le=1, description="share of the steps at which patches are cut")

    def losses(self, step: Step) -> dict[str, Tensor]:
        import torch

        source = step.source
        assert source.labels is not None and step.generator is not None
        if float(torch.rand((), generator=step.generator)) >= self.p:
            return {"task": step.task_loss()}
        return {"task": self._of_pixels(step) if source.labels.ndim == 3 else self._of_patches(step)}

    def _of_pixels(self, step: Step) -> Tensor:
        """The task loss of patches whose pixels have labels."""
        import torch

        from stainda.strategies.align.support.pasting import paste, rectangles, without_rim
        from stainda.strategies.norm.frozen_statistics import quiet

        source = step.source
        assert source.labels is not None and step.loss is not None and step.generator is not None
        cut = rectangles(source.images, self.alpha, step.generator)
        order = torch.randperm(len(source.images), generator=step.generator).to(source.images.device)
        inner = without_rim(cut, getattr(step.network, "margin", 0))
        with quiet(step.network):
            logits = step.run(paste(source.images[order], source.images, cut), source)
        weights = () if source.weights is None else (torch.where(inner, source.weights[order], source.weights),)
        return step.loss(logits, torch.where(inner, source.labels[order], source.labels), *weights)

    def _of_patches(self, step: Step) -> Tensor:
        """The task loss of patches that have a label each."""
        import torch

        from stainda.strategies.align.support.pasting import middle_square, paste, rectangles
        from stainda.strategies.norm.frozen_statistics import quiet

        images = step.source.images
        assert step.generator is not None
        cut = rectangles(images[:1], self.alpha, step.generator)
        order = torch.randperm(len(images), generator=step.generator).to(images.device)
        replaced = middle_square(cut, step.middle).float().mean()
        with quiet(step.network):
            logits = step.run(paste(images[order], images, cut.expand(len(images), -1, -1)), step.source)
        return (1 - replaced) * step.task_loss_of(logits) + replaced * step.task_loss_of(logits, order)
