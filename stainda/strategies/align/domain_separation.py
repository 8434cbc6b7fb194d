"""Domain separation: what a domain has of its own is given a place of its own, away from what is shared."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from stainda.strategies.align.base import DomainAnswers, FeatureAlign, JudgedAlign, Site, Step
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor, nn


@register("align", "dsn")
class Dsn(JudgedAlign, FeatureAlign):
    """Domain separation networks: private encoders take up the colours, so that the shared features need not.

    With shared features h_c (the layer's), private features h_p of source and target by small encoders of their own,
    and a decoder that has to rebuild the patch (at a quarter of its size at most) from ``h_c + h_p``:
    ``L = L_task + α L_recon + β L_diff + γ L_sim``. ``L_recon`` is the scale-invariant squared error
    ``mean d² - (mean d)²`` of each patch; ``L_diff = ‖H_cᵀ H_p‖²`` of features of positions, centred, each of length 1
    (summed over source and target, divided by the squared number of positions); ``L_sim`` is a
    discriminator per position behind a gradient reversal.
    """

    compares: ClassVar[bool] = True
    needs_pixels: ClassVar[bool] = True
    unscaled: ClassVar[tuple[str, ...]] = ("reconstruction", "difference")
    reference: ClassVar[str] = "Bousmalis et al. 2016, Domain Separation Networks, arXiv 1608.06019"

    reconstruction: float = Field(0.01, ge=0, description="α, weight of rebuilding the patch")
    difference: float = Field(0.075, ge=0, description="β, weight of shared and private being orthogonal")
    similarity: float = Field(
        0.25, ge=0, description="γ, weight of the reversed gradient of the domain's discriminator"
    )
    schedule: Literal["warm_up", "constant"] = Field("warm_up", description="γ grows from 0, or is constant")
    hidden: int = Field(32, ge=1, description="channels inside private encoders, decoder and discriminator")

    def modules(self, site: Site) -> dict[str, nn.Module]:
        from stainda.strategies.align.support.discriminators import SpatialDiscriminator
        from stainda.strategies.align.support.separation_networks import PatchDecoder, PrivateEncoder

        assert site.network is not None
        seen = int(getattr(site.network, "in_channels", 3))
        return {
            "private_source": PrivateEncoder(seen, self.hidden, site.channels),
            "private_target": PrivateEncoder(seen, self.hidden, site.channels),
            "decoder": PatchDecoder(site.channels, self.hidden, seen),
            "discriminator": SpatialDiscriminator(site.channels, self.hidden, 2, self.discriminator_norm),
        }

    def losses(self, step: Step) -> dict[str, Tensor]:
        from stainda.strategies.align.support.gradient_reversal import reverse
        from stainda.strategies.align.support.map_discriminators import side_loss
        from stainda.strategies.align.support.separation_networks import orthogonality, scale_invariant

        assert step.target is not None
        weight = self.similarity * self.growth(step)
        rebuilt, apart, domain_losses = [], [], []
        for side, (batch, shared) in enumerate(zip((step.compared, step.target), step.features(), strict=True)):
            maps = shared if shared.dim() == 4 else shared[..., None, None]
            own = step.modules[("private_source", "private_target")[side]](batch.images, maps.shape[2:])
            picture = step.modules["decoder"](maps + own)
            rebuilt.append(scale_invariant(picture, batch.images))
            apart.append(orthogonality(maps, own))
            domain_losses.append(side_loss(step.modules["discriminator"](reverse(maps, weight)), side))
        return {
            "reconstruction": self.reconstruction * (rebuilt[0] + rebuilt[1]),
            "difference": self.difference * (apart[0] + apart[1]),
            "domain": 0.5 * (domain_losses[0] + domain_losses[1]),
        }

    def verdicts(self, step: Step) -> dict[str, DomainAnswers]:
        from stainda.strategies.align.support.map_discriminators import of_two_sides

        return {"discriminator": of_two_sides([step.modules["discriminator"](feature) for feature in step.features()])}
