"""What the parts with a domain discriminator share: it names the domain, and the network tries to prevent it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from stainda.strategies.align.base import DomainAnswers, FeatureAlign, JudgedAlign, Site, Step
from stainda.strategies.parts import Field

if TYPE_CHECKING:
    from torch import Tensor

    from stainda.strategies.align.support.rows import Rows


BOTH = ("segmentation", "classification")


class Adversarial(JudgedAlign, FeatureAlign):
    """Base of the parts with a domain discriminator: what it is asked about, and which domains it distinguishes."""

    tasks: ClassVar[tuple[str, ...]] = BOTH
    compares: ClassVar[bool] = True

    weight: float = Field(1.0, ge=0, description="λ, strength of the network's side at the end of the schedule")
    schedule: Literal["warm_up", "constant"] = Field("warm_up", description="λ grows from 0 (Ganin) or is constant")
    features: Literal["spatial", "pooled", "sampled"] = Field(
        "spatial", description="one verdict per position, per patch, or at sampled positions"
    )
    samples: int = Field(16, ge=1, description="positions per patch, for features: sampled")
    domains: Literal["source_target", "each"] = Field(
        "source_target", description="D tells source from target, or names each domain"
    )
    hidden: int = Field(64, ge=1, description="channels of the discriminator's hidden layers")

    @property
    def judges_vectors(self) -> bool:
        return True

    def strength(self, step: Step) -> float:
        """λ at this step."""
        return self.weight * self.growth(step)

    def outputs(self, site: Site) -> int:
        """Domains the discriminator distinguishes."""
        return site.n_domains if self.domains == "each" else 2

    def labels(self, domains: Tensor, n_sources: int) -> Tensor:
        """What the discriminator is to answer, long ``[M]``: each domain's number, or 0 for sources and 1 for targets.

        The side is that of the patch's domain, not of its batch: a labelled patch may lie on a target.
        """
        return domains if self.domains == "each" else (domains >= n_sources).long()

    def judged(self, step: Step) -> list[tuple[Tensor, Tensor, Tensor]]:
        """What the discriminator reads of source and target; of each patch or row of it the domain, and its patch."""
        return [(rows.features, rows.domains, rows.patch) for rows in self.rows(step)]

    def verdicts(self, step: Step) -> dict[str, DomainAnswers]:
        from stainda.strategies.align.support.rows import joined_answers, rows_of

        result = []
        for seen, domains, patch in self.judged(step):
            logits = step.modules["discriminator"](seen)
            labels, positions = self.labels(domains, step.n_sources), logits[0, 0].numel()
            repeated = [rows.repeat_interleave(positions) for rows in (labels, patch)]
            result.append(DomainAnswers(rows_of(logits), *repeated))
        return {"discriminator": joined_answers(result)}

    def rows(self, step: Step) -> tuple[Rows, Rows]:
        """The chosen rows of source and target."""
        from stainda.strategies.align.support.rows import both_rows

        return both_rows(step, self.features, self.samples, self.target_logits)


def certainty(probabilities: Tensor) -> Tensor:
    """Weights ``[M]`` ``1 + exp(-H(p))`` of rows ``[M, K]``, scaled to mean 1 (Long et al. 2018, eq. 7)."""
    from stainda.strategies.align.support.pytorch_adapt import layers

    weights = layers.EntropyWeights(after_softmax=True)(probabilities)  # its default scales them to the sum 1
    return weights * len(probabilities)


def dense_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy ``[N]`` of one label per patch with logits ``[N, K]`` or ``[N, K, h, w]``, mean over positions."""
    from torch.nn.functional import cross_entropy

    flat = logits.flatten(2) if logits.dim() > 2 else logits.unsqueeze(2)
    return cross_entropy(flat, labels.long().unsqueeze(1).expand(-1, flat.shape[2]), reduction="none").mean(1)
