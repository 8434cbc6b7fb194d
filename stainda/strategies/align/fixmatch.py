"""FixMatch: confident predictions become labels of the same patches in strong colours."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from stainda.strategies.align.base import Align, Manner, Step, ramp_up
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor


@register("align", "fixmatch")
class FixMatch(Align):
    """Confident predictions on target patches as they are become labels of the same patches in strong colours.

    Pseudo-labels are the network's most probable classes on the patch without augmentation, where their probability is
    at least τ; they are warped to where the strongly augmented patch shows them. The loss is the cross-entropy there,
    divided by all pixels (as in the paper), or by class first: then the rare class counts as much as the background.
    """

    reference: ClassVar[str] = "Sohn et al. 2020, FixMatch, arXiv 2001.07685"
    target_logits: ClassVar[bool] = True
    needs_pixels: ClassVar[bool] = True

    weight: float = Field(1.0, ge=0, description="of the loss on pseudo-labels, once it has grown")
    threshold: float = Field(0.9, gt=0, lt=1, description="τ, probability from which a prediction is believed")
    grow: float = Field(0.4, ge=0, le=1, description="share of the steps during which the weight grows")
    balance: bool = Field(True, description="each pseudo-class counts equally, however few its pixels")

    @property
    def target_manner(self) -> Manner:
        return "strong"

    def losses(self, step: Step) -> dict[str, Tensor]:
        import torch

        from stainda.strategies.augmented_pixels import warp_maps
        from stainda.strategies.norm.frozen_statistics import quiet

        batch = step.target
        assert batch is not None and batch.redraw is not None and batch.logits is not None and batch.places is not None
        with torch.no_grad(), quiet(step.network):
            sure = step.run(batch.redraw("none").images, batch).float().softmax(1)
        wanted, known = warp_maps(sure, batch.places, getattr(step.network, "margin", 0))
        weight = self.weight * ramp_up(self.grow, step.progress)
        return {"pseudo_labels": weight * pseudo_label_loss(batch.logits, wanted, known, self.threshold, self.balance)}


def pseudo_label_loss(logits: Tensor, wanted: Tensor, known: Tensor, threshold: float, balance: bool) -> Tensor:
    """Cross-entropy with the most probable class of ``wanted`` where it reaches the threshold.

    Args:
        logits, wanted: ``[N, K, H, W]`` or ``[N, K]``; the second are probabilities. known: bool, without K.
        balance: the sum over pixels of each class is divided by what that class would have if all were equally many.
    """
    import torch
    from torch.nn import functional

    confidence, labels = wanted.detach().max(1)
    believed = known & (confidence >= threshold)
    loss = functional.cross_entropy(logits.float(), labels, reduction="none") * believed
    if balance:
        counts = torch.bincount(labels[believed], minlength=logits.shape[1]).float()
        present = (counts > 0).sum().clamp(min=1)
        loss = loss * (counts.sum() / present / counts.clamp(min=1))[labels]
    return loss.sum() / known.sum().clamp(min=1)
