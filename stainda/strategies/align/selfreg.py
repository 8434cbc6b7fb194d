"""SelfReg: features and answers of one class are drawn together, without pairs that are pushed apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from stainda.strategies.align.base import FeatureAlign, Site, Step
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor, nn


@register("align", "selfreg")
class SelfReg(FeatureAlign):
    """Features and logits of one class are drawn together, whichever domain they come from; nothing is pushed apart.

    Each row meets another of its class, drawn at random over all domains: the individual loss is the mean squared
    difference from its logits, and ``feature_weight`` times that from its features after a small network of the part's
    own (the class-specific perturbation). The other loss compares with a mixture ``γ a + (1 - γ) b`` of two such rows,
    γ of a step from Beta(1/2, 1/2). Both are added, γ and ``1 - γ`` their weights, times the task loss where that is
    below 1: what is not learned yet is not drawn together. Rows are patches, or ``samples`` labelled pixels per patch,
    drawn evenly by class.
    """

    reference: ClassVar[str] = (
        "Kim et al. 2021, SelfReg: Self-supervised Contrastive Regularization for DG, arXiv 2104.09841"
    )
    needs_targets: ClassVar[bool] = False

    layer: str = Field("decoder", description="layer whose output is drawn together")
    weight: float = Field(1.0, ge=0, description="of both losses")
    feature_weight: float = Field(0.3, ge=0, description="of features next to logits; 0.3 in the paper's code")
    samples: int = Field(64, ge=2, description="pixels per patch")

    def modules(self, site: Site) -> dict[str, nn.Module]:
        from torch import nn

        width = site.channels
        return {"perturbation": nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))}

    def losses(self, step: Step) -> dict[str, Tensor]:
        from stainda.strategies.align.support.shares import beta_draw

        assert step.generator is not None
        share = beta_draw(0.5, step.generator)
        single, mixed = self._both(step, share)
        trust = min(1.0, float(step.task_loss().detach()))
        return {"same_class": self.weight * trust * (share * single + (1 - share) * mixed)}

    def distance(self, step: Step) -> Tensor | None:
        return self._both(step, 0.5)[0]

    def _both(self, step: Step, share: float) -> tuple[Tensor, Tensor]:
        """The individual loss and that of mixtures."""
        from stainda.strategies.align.support.labelled_rows import labelled_rows, partners

        features, logits, labels = labelled_rows(step.source, self.samples, step.generator)
        changed = step.modules["perturbation"](features)
        one, other = (partners(labels, step.generator) for _ in range(2))

        def apart(rows: Tensor, features_of: Tensor) -> Tensor:
            return ((logits - rows) ** 2).mean() + self.feature_weight * ((features - features_of) ** 2).mean()

        return apart(logits[one], changed[one]), apart(
            share * logits[one] + (1 - share) * logits[other], share * changed[one] + (1 - share) * changed[other]
        )
