"""Neighbouring sections show the same tissue: what is said about it must not depend on its stain."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from stainda.strategies.align.base import Align, Step, ramp_up
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor


@register("align", "serial_consistency")
class SerialConsistency(Align):
    """Predictions on registered neighbouring sections must agree, as far as the registration is sure.

    A patch and the patch of the same tissue on a neighbouring section both go through the network. The second's
    probabilities are brought into the first's frame by the registration; both are averaged over a Gaussian window as
    wide as the registration may be wrong (``tolerance`` × its error), so that a displacement below the error costs
    nothing; then they are compared, each place weighted by its certainty c (round trip, stretch, tissue, overlap,
    sections apart):

    - ``dice``: ``1 - (2 Σ c p q) / (Σ c (p² + q²))`` of each foreground class over the batch, 0 where p = q;
    - ``js``: the Jensen-Shannon divergence in bits, mean over c;
    - ``both``: their sum.

    Between a source and a target section the source's side is held: its stain has the labels. Between two sections
    without labels (or two with) both move. No label of a target is read, and no propagated shape is needed. Of
    stainda's own; the idea of agreement across registered, differently stained sections follows Temerinac-Ott et al.
    2017, who compared detections after training.
    """

    reference: ClassVar[str] = "stainda; after Temerinac-Ott et al. 2017 (agreement of detections on serial sections)"
    needs_targets: ClassVar[bool] = False
    needs_pairs: ClassVar[bool] = True
    needs_pixels: ClassVar[bool] = True

    weight: float = Field(1.0, ge=0, description="of the disagreement, once it has grown")
    grow: float = Field(0.3, ge=0, le=1, description="share of the steps during which the weight grows")
    measure: Literal["dice", "js", "both"] = Field("both", description="how disagreement is measured")
    tolerance: float = Field(1.0, ge=0, le=4, description="spread of the window, in errors of the registration")
    certainty: float = Field(0.2, ge=0, lt=1, description="places less sure than this count nothing")

    def losses(self, step: Step) -> dict[str, Tensor]:
        from torch.nn.functional import grid_sample

        from stainda.strategies.align.support.disagreement import disagreement, windowed

        pairs = step.pairs
        assert pairs is not None and pairs.one.logits is not None and pairs.two.logits is not None
        first = pairs.one.logits.float().softmax(1)
        second = grid_sample(pairs.two.logits.float().softmax(1), pairs.grid, align_corners=False)
        sure = pairs.certainty * (pairs.certainty >= self.certainty)
        radius = self.tolerance * pairs.radius
        first, second = windowed(first, sure, radius), windowed(second, sure, radius)
        labelled = [(side.domains < step.n_sources).view(-1, 1, 1, 1) for side in (pairs.one, pairs.two)]
        held = first.where(~(labelled[0] & ~labelled[1]), first.detach())
        other = second.where(~(labelled[1] & ~labelled[0]), second.detach())
        weight = self.weight * ramp_up(self.grow, step.progress)
        return {"serial": weight * disagreement(held, other, sure, self.measure)}
