"""RTN: residual transfer between the classifiers of source and target."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from stainda.strategies.align.base import FeatureAlign, ScheduledAlign, Site, Step
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor, nn


@register("align", "rtn")
class Rtn(ScheduledAlign, FeatureAlign):
    """Residual transfer: the source's classifier is the target's plus a small learned difference.

    The network itself is the target's classifier; the source learns through ``z + r(z)``, r a small network on the
    logits (pytorch-adapt's ``PlusResidual``). Next to this task loss: the entropy of the target's predictions, and the
    MMD between the fused rows ``f ⊗ p`` of both domains (Gaussian kernels, as in JAN).

    The network is used, and selected on source validation, without r: where r is large the source itself is served
    worse than it was trained.
    """

    reference: ClassVar[str] = (
        "Long et al. 2016, Unsupervised Domain Adaptation with Residual Transfer Networks, arXiv 1602.04433"
    )
    tasks: ClassVar[tuple[str, ...]] = ("segmentation", "classification")
    target_logits: ClassVar[bool] = True

    compares: ClassVar[bool] = True
    replaces_task: ClassVar[bool] = True
    unscaled: ClassVar[tuple[str, ...]] = ("task",)

    weight: float = Field(1.0, ge=0, description="of the MMD of the fused rows, at the end of the schedule")
    entropy: float = Field(0.1, ge=0, description="of the entropy on the target, at the end of the schedule")
    schedule: Literal["warm_up", "constant"] = Field("warm_up", description="both grow from 0, or are constant")
    features: Literal["pooled", "sampled"] = Field("sampled", description="one row per patch, or per sampled position")
    samples: int = Field(16, ge=1, description="positions per patch, for features: sampled")
    hidden: int = Field(16, ge=1, description="width of the residual network")

    def modules(self, site: Site) -> dict[str, nn.Module]:
        from stainda.strategies.align.support.discriminators import Head
        from stainda.strategies.align.support.pytorch_adapt import layers

        return {"residual": layers.PlusResidual(Head(site.n_classes, self.hidden, site.n_classes))}

    def losses(self, step: Step) -> dict[str, Tensor]:
        from stainda.strategies.align.mmd import unit_bandwidth
        from stainda.strategies.align.support.pytorch_adapt import layers
        from stainda.strategies.align.support.rows import both_rows, rows_of

        assert step.target is not None and step.source.logits is not None and step.target.logits is not None
        fused = []
        for rows in both_rows(step, self.features, self.samples, predictions=True):
            assert rows.probabilities is not None
            fused.append((rows.features.unsqueeze(2) * rows.probabilities.unsqueeze(1)).flatten(1))
        growing = self.growth(step)
        return {
            "task": step.task_loss_of(step.modules["residual"](step.source.logits)),
            "mmd": self.weight * growing * self._mmd(*unit_bandwidth(*fused)),
            "entropy": self.entropy * growing * layers.EntropyLoss()(rows_of(step.target.logits).float()),
        }

    @cached_property
    def _mmd(self) -> Any:
        from stainda.strategies.align.mmd import mmd_layer

        return mmd_layer("many", bandwidth=1.0)
