"""What the parts share that align the network's output maps by a discriminator."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from stainda.strategies.align.base import DomainAnswers, JudgedAlign, Site, Step
from stainda.strategies.parts import Field

if TYPE_CHECKING:
    from torch import Tensor, nn


class OutputAdversarial(JudgedAlign):
    """A patch discriminator D on a map made of the softmax output; one summed loss, no turns.

    With maps ``M`` of source and target, ``L_D = ½ [BCE(D(M_s), 0) + BCE(D(M_t), 1)]`` reaches D alone (the maps are
    detached), and ``L_adv = λ BCE(D(M_t), 0)`` reaches the network alone (D's weights are held): the target's outputs
    are to be taken for the source's. The source's outputs get no gradient from it, as in the authors' code. It is the
    layout of a map that D judges, so there is none for a classification, whose answer is one vector.
    """

    tasks: ClassVar[tuple[str, ...]] = ("segmentation",)
    target_logits: ClassVar[bool] = True
    compares: ClassVar[bool] = True

    weight: float = Field(0.1, ge=0, description="λ of the adversarial term at the end of the schedule")
    schedule: Literal["warm_up", "constant"] = Field("warm_up", description="λ grows from 0, or is constant")
    hidden: int = Field(32, ge=1, description="channels of the discriminator's first layer")
    layers: int = Field(3, ge=1, le=6, description="halvings of the discriminator: how wide it looks")

    def modules(self, site: Site) -> dict[str, nn.Module]:
        from stainda.strategies.align.support.map_discriminators import MapDiscriminator

        judge = MapDiscriminator(site.n_classes, self.hidden, self.layers, self.discriminator_norm)
        return {"discriminator": judge}

    def losses(self, step: Step) -> dict[str, Tensor]:
        from stainda.strategies.align.support.map_discriminators import held, verdict

        assert step.target is not None and step.compared.logits is not None and step.target.logits is not None
        discriminator = step.modules["discriminator"]
        source, target = self.maps(step.compared.logits), self.maps(step.target.logits)
        domain_loss = 0.5 * (verdict(discriminator(source.detach()), 0) + verdict(discriminator(target.detach()), 1))
        weight = self.weight * self.growth(step)
        return {"domain": domain_loss, "adversarial": weight * verdict(held(discriminator, target), 0)}

    def verdicts(self, step: Step) -> dict[str, DomainAnswers]:
        from stainda.strategies.align.support.map_discriminators import of_two_sides

        assert step.target is not None and step.compared.logits is not None and step.target.logits is not None
        judge = step.modules["discriminator"]
        maps = [self.maps(step.compared.logits), self.maps(step.target.logits)]
        return {"discriminator": of_two_sides([judge(map_) for map_ in maps])}

    def maps(self, logits: Tensor) -> Tensor:
        """What D sees, ``[N, K, H, W]``, of logits of that shape."""
        raise NotImplementedError
