"""Averages of weights along a training."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, cast

from stainda.strategies.align.base import Align, Grouping, Site, Step
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from stainda.strategies.align.support.weight_average import Valley


@register("align", "swad")
class Swad(Align):
    """The mean of all weights between the first good epoch and the first sign of overfitting: a flat minimum.

    Validation is looked at after each epoch, its loss being 1 - Dice on source patients; weights are averaged over
    every step. The average starts with the first epoch whose loss none of the next ``patience - 1`` undercuts, and ends
    before the first of ``tolerance`` epochs in a row whose losses all exceed ``ratio`` times the mean of those first
    ``patience``; or with the last. Where no epoch qualifies (validation still improves), the weights of the last epoch
    are averaged. The average is the result; batch statistics are estimated anew with it.

    Both numbers of epochs are for long trainings. Where the training has fewer than twice as many, they are made
    smaller in proportion (:func:`fitted`): an average that begins late in a short training could never end.

    Nothing is compared between groups; with ``groups`` set, batches are dealt evenly over them as for the other methods
    of domain generalisation.
    """

    reference: ClassVar[str] = "Cha et al. 2021, SWAD: Domain Generalization by Seeking Flat Minima, arXiv 2102.08604"
    needs_targets: ClassVar[bool] = False
    adds_loss: ClassVar[bool] = False

    patience: int = Field(3, ge=1, description="N_s, epochs looked at to find where the average starts")
    tolerance: int = Field(3, ge=1, description="N_e, worse epochs in a row that end it")
    ratio: float = Field(1.2, ge=1, description="r, how much worse")
    groups: Literal["none", "domain", "patient", "slide"] = Field(
        "none", description="what labelled batches are dealt evenly over, next to the usual turns of domains"
    )

    @property
    def grouping(self) -> Grouping | None:
        return None if self.groups == "none" else self.groups

    @property
    def averages(self) -> bool:
        return True

    def modules(self, site: Site) -> dict[str, nn.Module]:
        from stainda.strategies.align.support.weight_average import Valley

        assert site.network is not None
        epochs = max(1, site.steps // site.steps_per_epoch)
        return {"valley": Valley(site.network, *fitted(self.patience, self.tolerance, epochs), epochs)}

    def losses(self, step: Step) -> dict[str, Tensor]:
        return {}

    def after_step(self, step: Step) -> None:
        cast("Valley", step.modules["valley"]).add(step.network)

    def after_epoch(self, modules: nn.ModuleDict, network: nn.Module, score: float) -> None:
        cast("Valley", modules["valley"]).close(1.0 - score, self.ratio)

    def final_weights(self, modules: nn.ModuleDict) -> Mapping[str, Tensor] | None:
        valley = cast("Valley", modules["valley"])
        valley.finish(self.ratio)
        return valley.weights()


def fitted(patience: int, tolerance: int, epochs: int) -> tuple[int, int]:
    """``patience`` and ``tolerance`` of SWAD, at least 1 each and together at most half of the epochs where that is 2
    or more: enough epochs are then left to see where the average begins and ends."""
    room = max(2, epochs // 2)
    if patience + tolerance <= room:
        return patience, tolerance
    first = min(max(1, round(room * patience / (patience + tolerance))), room - 1)
    return first, room - first
