"""Discriminators on the encoder's features, the decoder's features and the output masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from stainda.strategies.align.base import DomainAnswers, JudgedAlign, Site, Step
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor, nn


@register("align", "feature_mask_adversarial")
class FeatureMaskAdversarial(JudgedAlign):
    """Three discriminators at once: on the encoder's features, the decoder's features and the output masks.

    Each minimises the cross-entropy of the domain; behind a gradient reversal of its own weight the network maximises
    it. The features' discriminators give a verdict per position; the mask's looks at the softmax maps (the
    paper's tells masks from annotations).
    """

    tasks: ClassVar[tuple[str, ...]] = ("segmentation",)
    reference: ClassVar[str] = "Mei et al. 2020, Cross-stained Segmentation from Renal Biopsy Images, arXiv 2002.08587"
    target_logits: ClassVar[bool] = True
    compares: ClassVar[bool] = True
    judges: ClassVar[tuple[str, ...]] = ("encoder", "decoder", "mask")

    encoder: str = Field("bottleneck", description="layer of the first discriminator")
    decoder: str = Field("decoder", description="layer of the second discriminator")
    encoder_weight: float = Field(1.0, ge=0, description="of the reversed gradient at the encoder")
    decoder_weight: float = Field(1.0, ge=0, description="of the reversed gradient at the decoder")
    mask_weight: float = Field(0.1, ge=0, description="of the reversed gradient at the output")
    schedule: Literal["warm_up", "constant"] = Field("warm_up", description="the weights grow from 0, or are constant")
    hidden: int = Field(32, ge=1, description="channels of the discriminators' hidden layers")

    @property
    def tapped(self) -> str | None:
        return self.encoder

    @property
    def also_tapped(self) -> tuple[str, ...]:
        return (self.decoder,)

    def modules(self, site: Site) -> dict[str, nn.Module]:
        from stainda.strategies.align.support.discriminators import SpatialDiscriminator
        from stainda.strategies.align.support.map_discriminators import MapDiscriminator

        norm = self.discriminator_norm
        return {
            "encoder": SpatialDiscriminator(site.channels, self.hidden, 2, norm),
            "decoder": SpatialDiscriminator(site.more_channels[0], self.hidden, 2, norm),
            "mask": MapDiscriminator(site.n_classes, self.hidden, 3, norm),
        }

    def losses(self, step: Step) -> dict[str, Tensor]:
        from stainda.strategies.align.support.gradient_reversal import reverse
        from stainda.strategies.align.support.map_discriminators import side_loss, verdict

        assert step.target is not None and step.compared.logits is not None and step.target.logits is not None
        grown = self.growth(step)
        result: dict[str, Tensor] = {}
        source, target = step.features()
        for name, weight, source_input, other in (
            ("encoder", self.encoder_weight, source, target),
            ("decoder", self.decoder_weight, step.compared.more_features[0], step.target.more_features[0]),
        ):
            judge = step.modules[name]
            sides = [
                side_loss(judge(reverse(seen, weight * grown)), side) for side, seen in enumerate((source_input, other))
            ]
            result[f"domain_{name}"] = 0.5 * (sides[0] + sides[1])
        masks = [logits.float().softmax(1) for logits in (step.compared.logits, step.target.logits)]
        judge, weight = step.modules["mask"], self.mask_weight * grown
        domain_losses = [verdict(judge(reverse(mask, weight)), side) for side, mask in enumerate(masks)]
        result["domain_mask"] = 0.5 * (domain_losses[0] + domain_losses[1])
        return result

    def verdicts(self, step: Step) -> dict[str, DomainAnswers]:
        from stainda.strategies.align.support.map_discriminators import of_two_sides

        assert step.target is not None and step.compared.logits is not None and step.target.logits is not None
        seen = {
            "encoder": step.features(),
            "decoder": (step.compared.more_features[0], step.target.more_features[0]),
            "mask": [logits.float().softmax(1) for logits in (step.compared.logits, step.target.logits)],
        }
        return {name: of_two_sides([step.modules[name](side) for side in sides]) for name, sides in seen.items()}
