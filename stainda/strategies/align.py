"""What every align part is given and gives back; the part that aligns nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from stainda.strategies.parts import Field, Part, register

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Batch:
    """One batch after it went through the network.

    Attributes:
        images: float ``[N, C, H, W]``, as the network sees them.
        domains: long ``[N]``, index of each patch's domain: sources first, then targets, in the order of the job.
        features: float32 output of the part's layer, ``[N, C, h, w]``; ``None`` for a part that reads none.
        logits: ``[N, n_classes, H, W]``; ``None`` for a target batch where the part does not ask for them.
        labels: uint8-valued long ``[N, H, W]`` (255 is ignored); always ``None`` for a target batch.
    """

    images: Tensor
    domains: Tensor
    features: Tensor | None = None
    logits: Tensor | None = None
    labels: Tensor | None = None


@dataclass(frozen=True)
class Site:
    """Where a part works: what it needs to make its own modules. ``channels`` are those of its layer (0: no layer)."""

    channels: int
    n_domains: int
    n_classes: int


@dataclass(frozen=True)
class Step:
    """All an align part sees of one optimiser step.

    Attributes:
        source: the labelled batch.
        target: the unlabelled batch, for parts that need one.
        progress: share of all steps already taken, 0 at the first one, 1 after the last one.
        modules: what :meth:`Align.modules` made, trained beside the network.
        network: the network itself, for parts that run it again.
    """

    source: Batch
    target: Batch | None
    progress: float
    modules: nn.ModuleDict
    network: nn.Module

    def features(self) -> tuple[Tensor, Tensor]:
        """Features of source and target, for parts that read both."""
        assert self.target is not None and self.source.features is not None and self.target.features is not None
        return self.source.features, self.target.features


class Align(Part):
    """A loss that draws domains together, from a labelled source batch and an unlabelled target batch.

    A part returns loss terms; the loop adds them to the task loss and takes one step on the sum. A term named ``task``
    replaces the task loss. Adversarial parts reverse gradients rather than take turns, so one step serves both sides.

    Class attributes:
        needs_targets: the part needs unlabelled target images in training; without them :attr:`Step.target` is
            ``None``.
        target_logits: the part reads the target's logits; otherwise the target's forward pass may end at the layer.
    """

    needs_targets: ClassVar[bool] = True
    target_logits: ClassVar[bool] = False

    @property
    def tapped(self) -> str | None:
        """The layer whose output the part reads, if it does."""
        return None

    def modules(self, site: Site) -> dict[str, nn.Module]:
        """Networks of the part's own (a discriminator), trained beside the segmenter."""
        return {}

    def losses(self, step: Step) -> dict[str, Tensor]:
        """Loss terms by name, weighted, each a scalar."""
        raise NotImplementedError


class FeatureAlign(Align):
    """An align part that reads features of a layer by its name."""

    layer: str = Field("bottleneck", description="layer whose output is aligned: bottleneck, decoder or a module path")

    @property
    def tapped(self) -> str | None:
        return self.layer


@register("align", "none")
class NoAlignment(Align):
    """Nothing is aligned: unlabelled images are not used by the loss."""

    needs_targets: ClassVar[bool] = False

    def losses(self, step: Step) -> dict[str, Tensor]:
        return {}


def ramp(schedule: Literal["constant", "warm_up"], progress: float) -> float:
    """Factor on a weight at ``progress`` p in 0..1: 1, or ``2 / (1 + exp(-10 p)) - 1`` (Ganin et al. 2016, 5.2.2)."""
    import math

    return 1.0 if schedule == "constant" else 2.0 / (1.0 + math.exp(-10.0 * progress)) - 1.0
