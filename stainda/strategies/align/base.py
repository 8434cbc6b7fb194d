"""What every align part is given and gives back; the part that aligns nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import model_validator

from stainda.strategies.parts import Field, Part, register

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

Manner = Literal["none", "same", "strong"]
"""How patches are drawn again: as they are, by the strategy's augmentation, or by that and strong changes of colour."""

Grouping = Literal["domain", "patient", "slide"]
"""What makes a group of labelled patches for methods that compare groups."""


@dataclass(frozen=True)
class AugmentedView:
    """Patches of a batch under another draw of the augmentation.

    Attributes:
        images: float ``[N, C, H, W]``, as the network sees them.
        places: long ``[N, H, W]``: which pixel (``row * W + column``) of the patch before augmentation is shown where;
            -1 where what is shown comes from outside the patch.
    """

    images: Tensor
    places: Tensor


@dataclass(frozen=True)
class Batch:
    """One batch after it went through the network.

    Attributes:
        images: float ``[N, C, H, W]``, as the network sees them.
        domains: long ``[N]``, index of each patch's domain: sources first, then targets, in the order of the job.
        features: float32 output of the part's layer, ``[N, C, h, w]``; ``None`` for a part that reads none.
        logits: ``[N, n_classes, H, W]``; ``None`` for a target batch where the part does not ask for them.
        labels: uint8-valued long ``[N, H, W]`` (255 is ignored); always ``None`` for a target batch.
        weights: float ``[N, H, W]``, how much each labelled pixel counts in the task loss; ``None``: all alike.
        more_features: outputs of the layers of :attr:`Align.also_tapped`, in their order.
        places: of :class:`AugmentedView`, for ``images``; ``None`` for a source batch.
        groups: long ``[N]``, number of each patch's group (:attr:`Align.grouping`); ``None`` where none is requested.
        dense: of a labelled batch of a task that asks more of a pixel than its class.
        votes: long ``[A, N, H, W]`` (of a classification ``[A, N]``): the label each annotator gives, 255 where one is
            silent; ``None`` where the part does not ask (:attr:`Align.needs_votes`).
        redraw: gives the same patches under another draw (:class:`AugmentedView`). Every draw comes from a generator of
            its own, so that asking changes nothing else.
    """

    images: Tensor
    domains: Tensor
    features: Tensor | None = None
    logits: Tensor | None = None
    labels: Tensor | None = None
    weights: Tensor | None = None
    places: Tensor | None = None
    groups: Tensor | None = None
    redraw: Callable[[Manner], AugmentedView] | None = None
    more_features: tuple[Tensor, ...] = ()
    dense: DenseBatch | None = None
    votes: Tensor | None = None


@dataclass(frozen=True, eq=False)
class DenseBatch:
    """What a task asks of each labelled pixel besides its class.

    Attributes:
        targets: float ``[N, M, H, W]``: of the maps of a dense head (instances), numbers of objects (of a two-stage
            network, ``M`` 1), or nearness to points of each class.
        inside: bool ``[N, 1, H, W]``, in an object. known: bool ``[N, 1, H, W]``, not ignored.
        loss: of the head, a scalar; ``None`` for a task without one.
    """

    targets: Tensor
    inside: Tensor
    known: Tensor
    loss: Tensor | None = None


@dataclass(frozen=True, eq=False)
class DomainAnswers:
    """What a discriminator answers at one step: logits ``[M, K]``; long ``[M]``: the right answers, and the patch of
    each row by a number of its own (positions of one patch are alike)."""

    logits: Tensor
    labels: Tensor
    patches: Tensor


@dataclass(frozen=True)
class Site:
    """Where a part works: what it needs to make its own modules. ``channels`` are those of its layer (0: no layer).

    Attributes:
        n_sources: the first of the ``n_domains`` are sources.
        groups: names of the groups of labelled patches, for parts that ask for them.
        more_channels: those of the layers of :attr:`Align.also_tapped`.
        annotators: names of those whose answers are in :attr:`Batch.votes`, for parts that ask for them.
        network: the network at its start, for parts that keep a copy.
        steps: optimiser steps of the whole training. steps_per_epoch: between two validations.
    """

    channels: int
    n_domains: int
    n_classes: int
    n_sources: int = 1
    groups: tuple[str, ...] = ()
    network: nn.Module | None = None
    steps: int = 1
    steps_per_epoch: int = 1
    more_channels: tuple[int, ...] = ()
    annotators: tuple[str, ...] = ()


@dataclass(frozen=True)
class PairBatch:
    """Patches of the same tissue on two registered sections, one batch for each side.

    Attributes:
        one, two: both sides after the network (``logits`` set; no labels).
        grid: float ``[N, h, w, 2]``: for every pixel of ``one``'s logits where its tissue lies in ``two``'s, in the
            coordinates of ``torch.nn.functional.grid_sample`` (``align_corners=False``).
        certainty: float ``[N, h, w]`` in 0..1, how sure that is (0: outside, or no tissue).
        radius: float ``[N]``, pixels within which the registration may be wrong.
    """

    one: Batch
    two: Batch
    grid: Tensor
    certainty: Tensor
    radius: Tensor


@dataclass(frozen=True)
class Step:
    """All an align part sees of one optimiser step.

    Attributes:
        source: the labelled batch, for the task.
        target: the unlabelled batch, for parts that need one.
        source_unlabelled: patches of source domains drawn by the rule of ``target`` (on tissue at random, without
            labels), which is compared with it; ``None``: the labelled batch is compared.
        scale: factor on the part's weights, of :class:`ScheduledAlign`.
        middle: of a classification, the square in the middle of a patch whose class it has, as a share of its side.
        progress: share of all steps already taken, 0 at the first one, 1 after the last one.
        modules: what :meth:`Align.modules` made, trained in addition to the network.
        network: the network itself, for parts that look into it.
        index: steps already taken.
        n_sources: domains 0 to n_sources - 1 are sources.
        loss: the task loss of the study on (a part of) a batch: logits ``[N, K, H, W]`` or ``[N, K]``, labels
            ``[N, H, W]`` or ``[N]``, optionally the weights of the labels; a scalar.
        generator: on the CPU, for draws of the part's own.
        forward: the network as the loop runs it (precision, device): images to logits.
        as_domain: points batch statistics at the domain of a batch, before a part runs the network on it again.
        pairs: patches of registered neighbouring sections, for parts that need them.
        autocast: a context in which a network other than ``forward`` runs in the loop's precision.
    """

    source: Batch
    target: Batch | None
    progress: float
    modules: nn.ModuleDict
    network: nn.Module
    index: int = 0
    n_sources: int = 1
    loss: Callable[..., Tensor] | None = None
    generator: Generator | None = None
    forward: Callable[[Tensor], Tensor] | None = None
    as_domain: Callable[[Batch], None] | None = None
    pairs: PairBatch | None = None
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext
    source_unlabelled: Batch | None = None
    scale: float = 1.0
    middle: float = 1.0

    @property
    def compared(self) -> Batch:
        """The batch of the source side that is compared with the target's."""
        return self.source if self.source_unlabelled is None else self.source_unlabelled

    def run(self, images: Tensor, like: Batch) -> Tensor:
        """Logits of images, batch statistics being those of the domain of ``like``."""
        if self.as_domain is not None:
            self.as_domain(like)
        return self.network(images) if self.forward is None else self.forward(images)

    def task_loss(self, members: Tensor | slice = slice(None), scale: Tensor | float = 1.0) -> Tensor:
        """The task loss of some patches of the source batch, their logits times ``scale``: a scalar."""
        assert self.source.logits is not None
        return self.task_loss_of(self.source.logits[members] * scale, members)

    def task_loss_of(self, logits: Tensor, members: Tensor | slice = slice(None)) -> Tensor:
        """The task loss of other logits against the labels of some patches of the source batch: a scalar."""
        assert self.loss is not None and self.source.labels is not None
        weights = () if self.source.weights is None else (self.source.weights[members],)
        return self.loss(logits, self.source.labels[members], *weights)

    def features(self) -> tuple[Tensor, Tensor]:
        """Features of the batches that are compared, of source and target."""
        assert self.target is not None and self.compared.features is not None and self.target.features is not None
        return self.compared.features, self.target.features


class Align(Part):
    """A loss that draws domains together, from a labelled source batch and an unlabelled target batch.

    A part returns loss terms; the loop adds them to the task loss and takes one step on the sum. A term named ``task``
    replaces the task loss. Adversarial parts reverse gradients rather than take turns, so one step serves both sides.

    Class attributes:
        needs_targets: the part needs unlabelled target images in training; without them :attr:`Step.target` is
            ``None``.
        target_logits: the part reads the target's logits; otherwise the target's forward pass may end at the layer.
        needs_pairs: the part needs pairs of patches of registered sections (:attr:`Step.pairs`).
        compares: the part compares source and target patches, which then have to be drawn by one rule
            (:attr:`Step.compared`).
        adds_loss: the part has loss terms, whose gradient is recorded in addition to the task's.
        needs_pixels: the part looks at images, or runs the network on others; it cannot learn from features alone.
        needs_votes: the part reads what each annotator answers (``labels: annotators``).
        moves_weights: the part differentiates the loss of a batch by the network's weights itself, to move them. A
            training with it has one device, and is not compiled.
        replaces_task: a term of the part takes the place of the task loss.
    """

    needs_targets: ClassVar[bool] = True
    adds_loss: ClassVar[bool] = True
    compares: ClassVar[bool] = False
    target_logits: ClassVar[bool] = False
    needs_pairs: ClassVar[bool] = False
    needs_pixels: ClassVar[bool] = False
    needs_votes: ClassVar[bool] = False
    moves_weights: ClassVar[bool] = False
    replaces_task: ClassVar[bool] = False

    @property
    def tapped(self) -> str | None:
        """The layer whose output the part reads, if it does."""
        return None

    @property
    def also_tapped(self) -> tuple[str, ...]:
        """Further layers whose outputs the part reads, in addition to :attr:`tapped`."""
        return ()

    @property
    def grouping(self) -> Grouping | None:
        """What the part compares: every labelled batch is then dealt evenly over these groups."""
        return None

    @property
    def target_manner(self) -> Manner:
        """How target patches are augmented before they go through the network."""
        return "same"

    def modules(self, site: Site) -> dict[str, nn.Module]:
        """Networks of the part's own (a discriminator), trained next to the segmenter.

        All that a part remembers from step to step lives here, as parameters without gradient or as buffers: an
        interrupted training takes it up again from there.
        """
        return {}

    def rates(self) -> Mapping[str, float]:
        """Learning rates of some of :meth:`modules` by their path, as factors on the network's; others have 1."""
        return {}

    def losses(self, step: Step) -> dict[str, Tensor]:
        """Loss terms by name, weighted, each a scalar."""
        raise NotImplementedError

    def verdicts(self, step: Step) -> dict[str, DomainAnswers]:
        """What each discriminator answers at this step, by its name, for the record of whether it can tell."""
        return {}

    def distance(self, step: Step) -> Tensor | None:
        """What the part minimises, without its weight, for the record of whether it falls; ``None``: no one number."""
        return None

    def statements(self, modules: nn.ModuleDict) -> list[str]:
        """What the part has learned besides weights, in lines for the log of the training."""
        return []

    def after_step(self, step: Step) -> None:
        """Called when the optimiser has stepped (a teacher follows its student)."""

    def after_epoch(self, modules: nn.ModuleDict, network: nn.Module, score: float) -> None:
        """Called after each validation with its score, for parts that watch it."""

    @property
    def averages(self) -> bool:
        """Whether the part's own weights (a teacher's, an average) are the result: ``training.averaging`` is not used
        then."""
        return False

    def epoch_weights(self, modules: nn.ModuleDict) -> Mapping[str, Tensor] | None:
        """Weights that are validated and kept in place of the network's (a teacher's); buffers may be missing."""
        return None

    def final_weights(self, modules: nn.ModuleDict) -> Mapping[str, Tensor] | None:
        """Weights that are the result of the whole training, whatever validation preferred; buffers may be missing."""
        return None


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
    adds_loss: ClassVar[bool] = False

    def losses(self, step: Step) -> dict[str, Tensor]:
        return {}


class ScheduledAlign(Align):
    """An align part whose strength follows a schedule, and may be set as a share of the task's gradient.

    A weight means something else for every loss: at the same 0.1 one term sends a thousandth of the task's gradient
    into the network, another as much as the task. With ``share`` the strength is scaled while the network trains so
    that what the part adds to the network's gradient is this share of the task's (both as Euclidean norms over all
    parameters, as GradNorm compares tasks: Chen et al. 2018, arXiv 1711.02257), and one search range serves all parts.

    Class attributes:
        unscaled: terms that reach the network whatever the schedule and ``share`` say; the share is without them.
    """

    unscaled: ClassVar[tuple[str, ...]] = ()

    schedule: Literal["warm_up", "constant"] = Field("warm_up", description="grows from 0 (Ganin), or is constant")
    begin: float = Field(
        0.0, ge=0, lt=1, description="share of the steps before the network feels the part; the schedule starts there"
    )
    share: float | None = Field(
        None, gt=0, le=10, description="of the task's gradient, which the part's is scaled to; empty: weights as given"
    )

    def growth(self, step: Step) -> float:
        """Factor on the part's weights at this step: the schedule's, times the scale that ``share`` asks for."""
        if step.progress < self.begin:
            return 0.0
        return ramp(self.schedule, (step.progress - self.begin) / (1.0 - self.begin)) * step.scale


DiscriminatorNorm = Literal["none", "instance", "spectral"]
"""What keeps a discriminator in bounds: nothing, instance normalisation of its hidden maps, or weights of spectral norm
1 (Miyato et al. 2018, arXiv 1802.05957)."""


class JudgedAlign(ScheduledAlign):
    """An align part with discriminators, which may learn at a rate of their own.

    Class attributes:
        judges: names of the discriminators among :meth:`modules`.
    """

    judges: ClassVar[tuple[str, ...]] = ("discriminator",)

    discriminator_rate: float = Field(
        1.0, gt=0, le=100, description="learning rate of the discriminators, as a factor on the network's"
    )
    discriminator_norm: DiscriminatorNorm = Field(
        "none", description="of the discriminators: none, instance (of maps alone) or spectral"
    )

    @property
    def judges_vectors(self) -> bool:
        """Whether the discriminators read vectors, of which there is no instance normalisation."""
        return False

    @model_validator(mode="after")
    def _has_what_is_normalised(self) -> JudgedAlign:
        if self.discriminator_norm == "instance" and self.judges_vectors:
            raise ValueError(f"discriminator_norm: instance needs maps, and {self.name} judges vectors: take spectral")
        return self

    def rates(self) -> Mapping[str, float]:
        return dict.fromkeys(self.judges, self.discriminator_rate)


def ramp(schedule: Literal["constant", "warm_up"], progress: float) -> float:
    """Factor on a weight at ``progress`` p in 0..1: 1, or ``2 / (1 + exp(-10 p)) - 1`` (that of Ganin's code)."""
    return 1.0 if schedule == "constant" else 2.0 / (1.0 + math.exp(-10.0 * progress)) - 1.0


def ramp_up(share: float, progress: float) -> float:
    """``exp(-5 (1 - p / share)²)`` up to ``share`` of the steps, then 1 (Laine & Aila 2017, arXiv 1610.02242)."""
    return 1.0 if share <= 0 or progress >= share else math.exp(-5.0 * (1.0 - progress / share) ** 2)
