"""Adversarial segmentation: a discriminator tells annotated masks from predicted ones, each with its image."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from stainda.strategies.align.base import Batch, DomainAnswers, JudgedAlign, Site, Step
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor, nn


@register("align", "adversarial_segmentation")
class AdversarialSegmentation(JudgedAlign):
    """Predicted masks are to pass for annotated ones; labelled source patches alone, so that no domains are aligned.

    D sees an image x next to a mask: the annotation y as one channel a class (0 and 1), or the network's softmax f(x).
    ``L_D = ½ [BCE(D(x, y), 0) + BCE(D(x, f(x)), 1)]`` reaches D alone, ``L_adv = λ BCE(D(x, f(x)), 0)`` the network
    alone, next to its task loss. What a loss of single pixels does not see is so learned: that a structure is thin, or
    in one piece. Where pixels are ignored, image and both masks are 0, and a verdict counts by the share of known
    pixels in its cell, so that ignored pixels carry nothing.

    Differences: Arbelle & Riklin Raviv train by the adversarial term alone, and their D gives one verdict for a patch
    from a "rib cage", in which image and mask also have layers of their own. Here the task loss stays (as in Luc et
    al. 2016, arXiv 1611.08408, and Hung et al. 2018, arXiv 1802.07934, from whose code λ is), image and mask meet in
    the first layer, and there is a verdict per position. An annotation has zeros and ones and a softmax has neither:
    D can tell them by that, and then teaches the network to be sure as well.
    """

    tasks: ClassVar[tuple[str, ...]] = ("segmentation",)
    needs_targets: ClassVar[bool] = False
    needs_pixels: ClassVar[bool] = True
    judges: ClassVar[tuple[str, ...]] = ("pairs",)
    reference: ClassVar[str] = (
        "Arbelle & Riklin Raviv 2018, Microscopy Cell Segmentation via Adversarial Neural Networks, arXiv 1709.05860"
    )

    weight: float = Field(0.1, ge=0, description="λ of the adversarial term at the end of the schedule")
    hidden: int = Field(32, ge=1, description="channels of the discriminator's first layer")
    layers: int = Field(3, ge=1, le=6, description="halvings of the discriminator: how wide it looks")

    def modules(self, site: Site) -> dict[str, nn.Module]:
        from stainda.strategies.align.support.map_discriminators import MapDiscriminator

        seen = int(getattr(site.network, "in_channels", 3))
        judge = MapDiscriminator(seen + site.n_classes, self.hidden, self.layers, self.discriminator_norm)
        return {"pairs": judge}

    def losses(self, step: Step) -> dict[str, Tensor]:
        from stainda.strategies.align.support.map_discriminators import held, shares_of, verdict

        judge = step.modules["pairs"]
        annotated, predicted, known = self._pairs(step.source)
        verdicts = judge(annotated), judge(predicted.detach())
        counts = shares_of(known, verdicts[0])
        pairs = 0.5 * (verdict(verdicts[0], 0, counts) + verdict(verdicts[1], 1, counts))
        weight = self.weight * self.growth(step)
        return {"pairs": pairs, "adversarial": weight * verdict(held(judge, predicted), 0, counts)}

    def verdicts(self, step: Step) -> dict[str, DomainAnswers]:
        from stainda.strategies.align.support.map_discriminators import of_two_sides, shares_of

        annotated, predicted, known = self._pairs(step.source)
        judge = step.modules["pairs"]
        sides = [judge(annotated), judge(predicted)]
        answers = of_two_sides(sides)
        seen = shares_of(known, sides[0]).flatten().repeat(2) > 0
        if not seen.any():
            return {}
        return {"pairs": DomainAnswers(answers.logits[seen], answers.labels[seen], answers.patches[seen])}

    @staticmethod
    def _pairs(source: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Images with annotated and with predicted masks, ``[N, C + K, H, W]``, and which pixels are known, float
        ``[N, 1, H, W]``; of a network that answers without the rim of a patch, the inner part of the image."""
        import torch
        from torch.nn import functional

        assert source.logits is not None and source.labels is not None
        shares = source.logits.float().softmax(1)
        height, width = shares.shape[-2:]
        top, left = ((whole - part) // 2 for whole, part in zip(source.images.shape[-2:], (height, width), strict=True))
        images = source.images[..., top : top + height, left : left + width].float()
        known = source.labels != 255
        classes = torch.where(known, source.labels, 0).long()
        masks = functional.one_hot(classes, shares.shape[1]).movedim(-1, 1).to(shares)
        there = known[:, None].to(shares)
        return torch.cat([images, masks], 1) * there, torch.cat([images, shares], 1) * there, there
