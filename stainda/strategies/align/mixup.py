"""Mixup: labelled patches laid over each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from stainda.strategies.align.base import Align, Step
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor


@register("align", "mixup")
class Mixup(Align):
    """Labelled patches are laid over each other, and so are their losses.

    ``x̃ = λ x + (1 - λ) x'`` with the patches x' of the batch in another order, λ of one step from Beta(α, α); the task
    loss is ``λ L(f(x̃), y) + (1 - λ) L(f(x̃), y')``. Of several source domains patches of any two meet. Running batch
    statistics are those of the patches as they are, for the network is used on such. Each step runs the network once
    more.
    """

    reference: ClassVar[str] = "Zhang et al. 2018, mixup: Beyond Empirical Risk Minimization, arXiv 1710.09412"
    needs_targets: ClassVar[bool] = False
    needs_pixels: ClassVar[bool] = True
    replaces_task: ClassVar[bool] = True

    alpha: float = Field(0.2, gt=0, le=10, description="α of the Beta distribution of λ; small: hardly mixed")

    def losses(self, step: Step) -> dict[str, Tensor]:
        import torch

        from stainda.strategies.align.support.shares import beta_draw
        from stainda.strategies.norm.frozen_statistics import quiet

        source = step.source
        assert source.labels is not None and step.loss is not None and step.generator is not None
        share = beta_draw(self.alpha, step.generator)
        order = torch.randperm(len(source.images), generator=step.generator).to(source.images.device)
        with quiet(step.network):
            logits = step.run(share * source.images + (1 - share) * source.images[order], source)
        own = step.task_loss_of(logits)
        return {"task": share * own + (1 - share) * step.task_loss_of(logits, order)}
