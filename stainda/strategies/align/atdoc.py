"""Pseudo-labels for the target from its own neighbourhoods."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, cast

from stainda.strategies.align.base import FeatureAlign, ScheduledAlign, Site, Step
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stainda.strategies.align.support.buffers import RowMemory


@register("align", "atdoc")
class Atdoc(ScheduledAlign, FeatureAlign):
    """Neighbourhood aggregation: target rows are labelled by the target rows nearest to them, not by the source.

    A memory keeps the latest ``memory`` rows of the target: features of length 1 and predictions sharpened and balanced
    within their batch, ``q = p² / Σ_batch p²``. A row's pseudo-label is the class with the largest mean q̄ among its
    ``neighbours`` of largest cosine, its weight that largest q̄; the loss is the weighted mean of
    ``-log p(pseudo-label)``.

    The paper keeps one entry per target image; the memory here is a queue, so that sampled positions of any number
    of patches fit. pytorch-adapt's ``NeighborhoodAggregation`` gives the same pseudo-labels from the same memory, but
    loops over rows and starts from random entries.
    """

    reference: ClassVar[str] = (
        "Liang et al. 2021, Domain Adaptation with Auxiliary Target Domain-Oriented Classifier, arXiv 2007.04171"
    )
    tasks: ClassVar[tuple[str, ...]] = ("segmentation", "classification")
    target_logits: ClassVar[bool] = True

    layer: str = Field("decoder", description="layer whose features decide who is near")
    weight: float = Field(0.2, ge=0, description="of the pseudo-label loss, at the end of the schedule")
    schedule: Literal["warm_up", "constant"] = Field("warm_up", description="the weight grows from 0, or is constant")
    features: Literal["pooled", "sampled"] = Field("sampled", description="one row per patch, or per sampled position")
    samples: int = Field(16, ge=1, description="positions per patch, for features: sampled")
    neighbours: int = Field(5, ge=1, description="rows of the memory that vote")
    memory: int = Field(2048, ge=8, description="rows of the target that are remembered")

    def modules(self, site: Site) -> dict[str, nn.Module]:
        from stainda.strategies.align.support.buffers import RowMemory

        return {"memory": RowMemory(self.memory, site.channels, site.n_classes)}

    def losses(self, step: Step) -> dict[str, Tensor]:
        from torch.nn import functional

        from stainda.strategies.align.support.rows import chosen_rows

        assert step.target is not None
        rows = chosen_rows(step.target, self.features, self.samples, step.generator)
        assert rows.probabilities is not None
        memory = cast("RowMemory", step.modules["memory"])
        near = functional.normalize(rows.features.detach())
        features, shares = memory.read()
        loss = rows.features.sum() * 0.0
        if len(features) >= self.neighbours:
            votes, labels = self.vote(near, features, shares)
            costs = functional.nll_loss(rows.probabilities.clamp(min=1e-6).log(), labels, reduction="none")
            loss = (votes * costs).sum() / votes.sum().clamp(min=1e-12)
        memory.write(near, sharpened(rows.probabilities.detach()))
        return {"pseudo_labels": self.weight * self.growth(step) * loss}

    def vote(self, rows: Tensor, features: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and pseudo-label ``[M]`` of rows of length 1 ``[M, C]``, from the memory ``[L, C]`` and ``[L, K]``."""
        nearest = (rows @ features.T).topk(self.neighbours, dim=1).indices
        result = shares[nearest].mean(1).max(1)
        return result.values, result.indices


def sharpened(probabilities: Tensor) -> Tensor:
    """``p² / Σ_rows p²`` of rows ``[M, K]``: sharper, and every class of the same total."""
    squared = probabilities.square()
    return squared / squared.sum(0).clamp(min=1e-12)
