"""What parts share whose labels of target patches come from a slowly following copy of the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, cast

from stainda.strategies.align.base import Align, Manner, Site, Step
from stainda.strategies.parts import Field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from stainda.strategies.align.support.buffers import Copy


class TeacherAlign(Align):
    """A part with a teacher: ``θ' ← α θ' + (1 - α) θ`` after each step (α grows to its value: ``min(1 - 1/(t+1), α)``
    after step t, from 1). In training both normalise by the batch."""

    target_logits: ClassVar[bool] = True
    needs_pixels: ClassVar[bool] = True

    keep: float = Field(0.98, ge=0, lt=1, description="α, how much of the teacher stays at each step")
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

    def taught(self, step: Step) -> tuple[Tensor, Tensor]:
        """The teacher's probabilities on the target patches without augmentation, brought to how the augmented patches
        show them.

        Returns:
            float ``[N, K, H, W]`` or ``[N, K]``, and, bool without K, where they are known.
        """
        import torch

        from stainda.strategies.augmented_pixels import warp_maps

        batch = step.target
        assert batch is not None and batch.redraw is not None and batch.places is not None
        with torch.no_grad(), step.autocast():
            logits = step.modules["teacher"](batch.redraw("none").images)
        return warp_maps(logits.float().softmax(1), batch.places, getattr(step.network, "margin", 0))

    def after_step(self, step: Step) -> None:
        cast("Copy", step.modules["teacher"]).follow(step.network, min(1.0 - 1.0 / (step.index + 2.0), self.keep))

    @property
    def averages(self) -> bool:
        return self.predict == "teacher"

    def epoch_weights(self, modules: nn.ModuleDict) -> Mapping[str, Tensor] | None:
        return cast("Copy", modules["teacher"]).weights() if self.predict == "teacher" else None


def pseudo_labels(wanted: Tensor, known: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """The teacher's most probable classes, and how much each patch's count: the share q of its known places whose
    probability is at least ``threshold``.

    Args:
        wanted: probabilities ``[N, K, H, W]`` or ``[N, K]``. known: bool, without K.

    Returns:
        long and float, both of the shape of ``known``: classes, 255 where nothing is known, and q (0 there).
    """
    import torch

    confidence, labels = wanted.max(1)
    sure = ((confidence >= threshold) & known).reshape(len(known), -1).sum(1)
    share = sure / known.reshape(len(known), -1).sum(1).clamp(min=1)
    return torch.where(known, labels, 255), share.view(-1, *[1] * (known.dim() - 1)) * known


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """``Σ w (-log p_y)`` over the number of labelled places: where little is sure, the loss is small."""
    from torch.nn import functional

    losses = functional.cross_entropy(logits.float(), labels, ignore_index=255, reduction="none")
    return (losses * weights).sum() / (labels != 255).sum().clamp(min=1)
