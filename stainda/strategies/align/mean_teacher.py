"""Mean teacher: consistency with a slowly following copy of the network on unlabelled patches."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, cast

from stainda.strategies.align.base import Align, Manner, Site, Step, ramp_up
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from stainda.strategies.align.support.buffers import Copy


@register("align", "mean_teacher")
class MeanTeacher(Align):
    """A slowly following copy of the network tells it what to say on augmented target patches.

    The teacher's weights are ``θ' ← α θ' + (1 - α) θ`` after each step (α grows to its value: ``min(1 - 1/(t+1), α)``
    after step t, from 1). It sees the patch without augmentation; its probabilities are warped to where the augmented
    patch shows them, and the loss is their mean squared difference from the student's. The teacher is what is validated
    and kept. In training both normalise by the batch.
    """

    reference: ClassVar[str] = (
        "Tarvainen & Valpola 2017, Mean teachers, arXiv 1703.01780; for segmentation Perone et al. 2019, 1811.06042"
    )
    target_logits: ClassVar[bool] = True
    needs_pixels: ClassVar[bool] = True

    weight: float = Field(5.0, ge=0, description="of the consistency loss, once it has grown")
    keep: float = Field(0.98, ge=0, lt=1, description="α, how much of the teacher stays at each step")
    grow: float = Field(0.4, ge=0, le=1, description="share of the steps during which the weight grows")
    colours: Literal["same", "strong"] = Field(
        "strong", description="the student's patches: augmented as the strategy says, or with strong colours next to it"
    )
    predict: Literal["teacher", "student"] = Field("teacher", description="whose weights are validated and kept")

    @property
    def target_manner(self) -> Manner:
        return self.colours

    def modules(self, site: Site) -> dict[str, nn.Module]:
        from stainda.strategies.align.support.buffers import Copy

        assert site.network is not None
        return {"teacher": Copy(site.network)}

    def losses(self, step: Step) -> dict[str, Tensor]:
        import torch

        from stainda.strategies.augmented_pixels import warp_maps

        batch = step.target
        assert batch is not None and batch.redraw is not None and batch.logits is not None and batch.places is not None
        with torch.no_grad(), step.autocast():
            taught = step.modules["teacher"](batch.redraw("none").images)
        wanted, known = warp_maps(taught.float().softmax(1), batch.places, getattr(step.network, "margin", 0))
        apart = ((batch.logits.float().softmax(1) - wanted) ** 2).sum(1)
        weight = self.weight * ramp_up(self.grow, step.progress)
        return {"consistency": weight * (apart * known).sum() / known.sum().clamp(min=1)}

    def after_step(self, step: Step) -> None:
        cast("Copy", step.modules["teacher"]).follow(step.network, min(1.0 - 1.0 / (step.index + 2.0), self.keep))

    @property
    def averages(self) -> bool:
        return self.predict == "teacher"

    def epoch_weights(self, modules: nn.ModuleDict) -> Mapping[str, Tensor] | None:
        return cast("Copy", modules["teacher"]).weights() if self.predict == "teacher" else None
