"""The batches of one step: drawn, augmented, sent through the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from stainda.arrays import Array
from stainda.errors import TrainingError
from stainda.stains import BlurNoise, ColourJitter, HedJitter
from stainda.strategies import Strategy
from stainda.strategies.align.base import AugmentedView, Batch, DenseBatch, Manner, PairBatch
from stainda.strategies.augmented_pixels import centred, first_places, looked_up, places_of, restore
from stainda.strategies.capture import listening
from stainda.strategies.detector import Detector
from stainda.strategies.features import FeatureTap
from stainda.strategies.norm.statistics import DomainStatistics
from stainda.training.batches import Patches, PatchMetadata, parted, with_weights
from stainda.training.losses import IGNORE
from stainda.training.ranks import Ranks
from stainda.training.tasks import task_of
from stainda.training.windows import Windows, augments_after_cutting

if TYPE_CHECKING:
    from stainda.patches.serial import Pairs

STRONG = (ColourJitter.of("strong"), HedJitter.of("strong"), BlurNoise())
"""What ``strong`` adds to a strategy's own augmentation."""


@dataclass(frozen=True, eq=False)
class PatchAccess:
    """Patches by their index, and what is known of them.

    Attributes:
        domain_index: number of each domain.
        windows: what is cut of a patch and its margin, drawn anew for every batch. Draws of the same patch under
            another augmentation (``redraw``) start from the window that was cut.
        groups: number of each labelled patch's group by index, for parts that compare groups.
    """

    data: Patches
    origins: PatchMetadata
    domain_index: Mapping[str, int]
    windows: Windows
    groups: Mapping[int, int] | None = None

    def numbers(self, domains: Sequence[str], device: torch.device) -> Tensor:
        """Long ``[N]``: the number of each of these domains."""
        return torch.tensor([self.domain_index[domain] for domain in domains], device=device)


@dataclass(frozen=True, eq=False)
class RunningNetwork:
    """The network as the loop runs it.

    Attributes:
        network: as it is. forward: images to logits.
        tap: reads the align part's layer; ``None`` for a part that reads none.
        by_domain: running batch statistics per domain, where the strategy keeps them.
        batchnorm: the network has batch normalisation.
        ranks: the processes of the training. Layers give what this one's share of a batch gives, and :meth:`heard` and
            :meth:`until` what the whole batch does.
    """

    network: nn.Module
    forward: Callable[[Tensor], Tensor]
    tap: FeatureTap | None
    by_domain: DomainStatistics | None
    batchnorm: bool
    ranks: Ranks

    def heard(self, images: Tensor, layers: Sequence[str] = ()) -> tuple[Tensor, Tensor | None, list[Tensor]]:
        """Logits, features of the align part's layer where it reads one, and outputs of further layers (float32)."""
        with listening(self.network, layers) as outputs:
            logits, features = (self.forward(images), None) if self.tap is None else self.tap(images)
        whole = None if features is None else self.ranks.whole(features, len(images))
        return logits, whole, [self.ranks.whole(output, len(images)) for output in outputs]

    def until(self, images: Tensor) -> Tensor:
        """Features of the align part's layer alone."""
        assert self.tap is not None
        return self.ranks.whole(self.tap.until(images), len(images))

    def use(self, domain: str) -> None:
        """Batch statistics become those of a domain, where they are kept per domain."""
        if self.by_domain is not None:
            self.by_domain.use(domain)


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Patches as they were cut (``raw``), as the network sees them, and what is asked about them.

    Attributes:
        labels: whole numbers ``[N, H, W]``, of a patch classification ``[N]``. weights: of them; ``None``: all alike.
        dense: what the task asks besides; without the loss of a head. votes: of :attr:`Batch.votes`.
    """

    raw: Tensor
    images: Tensor
    labels: Tensor
    weights: Tensor | None
    dense: DenseBatch | None = None
    votes: Tensor | None = None


class BatchPipeline:
    """Patches by their index to batches that went through the network.

    Args:
        generators: ``labelled``, ``target``, ``compared``, ``redraw`` and ``pairs``: each kind of batch draws from its
            own.
    """

    def __init__(
        self,
        strategy: Strategy,
        detector: Detector,
        patches: PatchAccess,
        running: RunningNetwork,
        generators: Mapping[str, torch.Generator],
    ) -> None:
        self._strategy, self._detector, self._patches, self._running = strategy, detector, patches, running
        self._generators = generators
        self._task = task_of(detector.task)
        self._after_cutting = augments_after_cutting(strategy)

    def labelled(self, indices: Array) -> Batch:
        patches, running = self._patches, self._running
        seen = self._labelled_images(indices, self._generators["labelled"])
        images, raw = seen.images, seen.raw
        self._use(indices)
        layers = self._strategy.align.also_tapped
        logits, features, more = running.heard(images, (*layers, *self._detector.watched))
        dense = seen.dense
        if dense is not None and self._detector.watched:
            dense = replace(dense, loss=self._detector.object_loss(more[len(layers) :], seen.labels, dense))
        groups = None
        if patches.groups is not None:
            groups = torch.tensor([patches.groups[index] for index in np.asarray(indices).tolist()], device=raw.device)
        return Batch(
            images, self._numbers(indices), features, logits, seen.labels, weights=seen.weights,
            groups=groups, redraw=self._redraw(raw, patches.origins.slides(indices)),
            more_features=tuple(more[: len(layers)]), dense=dense, votes=seen.votes,
        )  # fmt: skip

    def _labelled_images(self, indices: Array, generator: torch.Generator) -> LabelledImages:
        """Labelled patches as the network sees them."""
        patches = self._patches
        windows = patches.windows.draw(len(indices), generator)
        raw, slides = self._raw(indices, windows), patches.origins.slides(indices)
        weights = patches.data.weights(indices, windows)
        if self._task.has_details:
            return self._detailed(indices, windows, raw, generator)
        if self._strategy.align.needs_votes:
            return self._voted(indices, windows, raw, generator)
        coded = torch.from_numpy(with_weights(patches.data.labels(indices, windows), weights)).to(raw.device)
        images, coded = self._augmented(raw, coded, slides, generator, "same")
        labels, counts = self._task.answers(*parted(self._detector.network.crop(coded), weights is not None))
        return LabelledImages(raw, images, labels, counts)

    def _detailed(self, indices: Array, windows: Array, raw: Tensor, generator: torch.Generator) -> LabelledImages:
        """As :meth:`_labelled_images`, for a task that asks more of a pixel than its class.

        Augmentation moves the places of pixels; labels and details are looked up there, so that numbers of any size
        move alike, and targets are made of objects as they lie in the augmented patch.
        """
        data, slides = self._patches.data, self._patches.origins.slides(indices)
        weights, details = data.weights(indices, windows), data.details(indices, windows)
        if details is None:
            raise TrainingError(
                "the patches hold no numbers of objects", remedy="Remove the run's folder patches and run again"
            )
        images, marks = self._augmented(raw, first_places(raw), slides, generator, "same")
        places = self._detector.network.crop(places_of(marks))
        labels = looked_up(data.labels(indices, windows).astype(np.int64), places, IGNORE)
        dense = self._task.dense(labels, looked_up(details.astype(np.int64), places, 0))
        shown = None if weights is None else looked_up(weights, places, 0)
        return LabelledImages(raw, images, *self._task.answers(labels, shown), dense)

    def _voted(self, indices: Array, windows: Array, raw: Tensor, generator: torch.Generator) -> LabelledImages:
        """As :meth:`_labelled_images`, with the answers of each annotator."""
        data, slides = self._patches.data, self._patches.origins.slides(indices)
        images, marks = self._augmented(raw, first_places(raw), slides, generator, "same")
        places = self._detector.network.crop(places_of(marks))

        def answered(labels: Array) -> Tensor:
            return self._task.answers(looked_up(labels.astype(np.int64), places, IGNORE))[0]

        votes = torch.stack([answered(of_one) for of_one in data.votes(indices, windows)])
        return LabelledImages(raw, images, answered(data.labels(indices, windows)), None, votes=votes)

    def target(self, indices: Array) -> Batch:
        """Patches of targets."""
        return self._unlabelled(indices, self._generators["target"])

    def source_unlabelled(self, indices: Array) -> Batch:
        """Patches of sources, drawn and treated as those of targets."""
        return self._unlabelled(indices, self._generators["compared"])

    def _unlabelled(self, indices: Array, generator: torch.Generator) -> Batch:
        running = self._running
        raw = self._raw(indices, self._patches.windows.draw(len(indices), generator))
        slides, align = self._patches.origins.slides(indices), self._strategy.align
        drawn = self._drawn(raw, slides, generator, align.target_manner)
        self._use(indices)
        more: dict[str, Any] = {"places": drawn.places, "redraw": self._redraw(raw, slides)}
        images = drawn.images
        if running.tap is None:
            return Batch(images, self._numbers(indices), logits=running.forward(images), **more)
        if align.target_logits or align.also_tapped or (running.batchnorm and running.by_domain is None):
            # with shared batch statistics every layer has to see the target, or the average is of other images
            # in some layers than in others
            logits, features, others = running.heard(images, align.also_tapped)
            return Batch(images, self._numbers(indices), features, logits, **more, more_features=tuple(others))
        return Batch(images, self._numbers(indices), running.until(images), **more)

    def pairs(self, drawn: Pairs) -> PairBatch:
        """Pairs of patches of registered sections, their logits turned back to how the patches lie on the sections.

        Each side is augmented on its own. A patch classifier answers for the middle of a patch: its logits are maps of
        one pixel, compared where the same tissue lies in the middle of both patches, to an eighth of their side.
        """
        sides, known = [], []
        for images, slides, domains in (
            (drawn.one, drawn.one_slides, drawn.one_domains),
            (drawn.two, drawn.two_slides, drawn.two_domains),
        ):
            raw = self._detector.images(images)
            seen = self._drawn(raw, slides, self._generators["pairs"], "same", cut=False)
            self._running.use(domains[0])
            logits = self._running.forward(seen.images)
            if logits.dim() == 2:
                logits, shown = logits[..., None, None], centred(seen.places)[:, None, None]
            else:
                logits, shown = restore(logits, seen.places, self._detector.network.margin)
            numbers = self._patches.numbers(domains, raw.device)
            sides.append(Batch(seen.images, numbers, logits=logits, places=seen.places))
            known.append(shown)
        device, network = known[0].device, self._detector.network
        grid, certainty, radius = (
            torch.from_numpy(array).to(device) for array in (drawn.grid, drawn.certainty, drawn.radius)
        )
        if self._detector.task.kind == "classification":
            return PairBatch(sides[0], sides[1], *_of_centres(grid, certainty, known[0] & known[1]), 0 * radius)
        if network.margin:  # the output is the middle of the patch, on both sides
            grid = network.crop(grid.movedim(-1, 1)).movedim(1, -1) * (drawn.grid.shape[1] / known[0].shape[1])
            certainty = network.crop(certainty)
        inside = torch.nn.functional.grid_sample(
            known[1][:, None].float(), grid, mode="nearest", padding_mode="zeros", align_corners=False
        )[:, 0]
        return PairBatch(sides[0], sides[1], grid, certainty * known[0] * inside, radius)

    def as_domain(self, batch: Batch) -> None:
        """Batch statistics become those of a batch's domain, where they are kept per domain."""
        if self._running.by_domain is not None:  # a number read from the GPU waits for it
            self._running.use(list(self._patches.domain_index)[int(batch.domains[0])])

    def plain(self, indices: Array) -> Tensor:
        """Patches as the network sees them at prediction: without augmentation."""
        return self._detector.see(self._raw(indices), self._patches.origins.slides(indices))

    def _raw(self, indices: Array, windows: Array | None = None) -> Tensor:
        return self._detector.images(self._patches.data.images(indices, windows))

    def _redraw(self, raw: Tensor, slides: Sequence[str]) -> Callable[[Manner], AugmentedView]:
        return lambda manner: self._drawn(raw, slides, self._generators["redraw"], manner)

    def _drawn(
        self, raw: Tensor, slides: Sequence[str], generator: torch.Generator, manner: Manner, cut: bool = True
    ) -> AugmentedView:
        images, marks = self._augmented(raw, first_places(raw), slides, generator, manner, cut)
        return AugmentedView(images, places_of(marks))

    def _augmented(
        self,
        images: Tensor,
        labels: Tensor,
        slides: Sequence[str],
        generator: torch.Generator,
        manner: Manner,
        cut: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Normalisers, then augmentation, then views that drop colour, then standardisation.

        Args:
            cut: patches are windows, and have their size by that.
        """
        view = self._strategy.view
        if view.is_colour:
            images = view(images, slides)
        parts = self._after_cutting if cut else self._strategy.augment
        for part in parts if manner != "none" else ():
            images, labels = part(images, labels, generator)
        for change in STRONG if manner == "strong" else ():
            images, _ = change(images, None, generator)
        if not view.is_colour:
            images = view(images, slides)
        return self._detector.standard(images).contiguous(memory_format=torch.channels_last), labels

    def _use(self, indices: Array) -> None:
        self._running.use(self._patches.origins.domains(indices[:1])[0])

    def _numbers(self, indices: Array) -> Tensor:
        return self._patches.numbers(self._patches.origins.domains(indices), self._detector.device)


def _of_centres(grid: Tensor, certainty: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Grid ``[N, 1, 1, 2]`` and certainty ``[N, 1, 1]`` of maps of one pixel, from those of patches.

    Args:
        grid: ``[N, S, S, 2]``. certainty: ``[N, S, S]``. known: bool ``[N, 1, 1]``.
    """
    middle = grid.shape[1] // 2
    near_centre = grid[:, middle, middle].abs().amax(1) <= 0.25  # of half a side: grids run from -1 to 1
    least = max(1, grid.shape[1] // 8)
    sure = certainty[:, middle - least : middle + least, middle - least : middle + least].mean(dim=(1, 2))
    return torch.zeros_like(grid[:, :1, :1]), (sure * near_centre)[:, None, None] * known
