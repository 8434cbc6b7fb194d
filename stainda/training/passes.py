"""The batches of one step: drawn, augmented, sent through the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from stainda.errors import TrainingError
from stainda.stains import BlurNoise, ColourJitter, HedJitter
from stainda.strategies import Strategy
from stainda.strategies.align.base import Batch, Manner, PairBatch, Redrawn
from stainda.strategies.augmented_pixels import centred, first_places, places_of, restore
from stainda.strategies.capture import listening
from stainda.strategies.detector import Detector
from stainda.strategies.features import FeatureTap
from stainda.strategies.norm.statistics import DomainStatistics
from stainda.training.batches import Origins, Patches, parted, with_weights
from stainda.training.tasks import task_of
from stainda.training.windows import Windows, augments_after_cutting

if TYPE_CHECKING:
    from stainda.patches.serial import Pairs

STRONG = (ColourJitter.of("strong"), HedJitter.of("strong"), BlurNoise())
"""What ``strong`` adds to a strategy's own augmentation."""


class Passes:
    """Patches by their index to batches that went through the network.

    Args:
        forward: the network as the loop runs it.
        tap: reads the align part's layer; ``None`` for a part that reads none.
        by_domain: running batch statistics per domain, where the strategy keeps them.
        batchnorm: the network has batch normalisation.
        windows: what is cut of a patch and its margin, drawn anew for every batch. Draws of the same patch under
            another augmentation (``redraw``) start from the window that was cut.
        groups: number of each labelled patch's group by index, for parts that compare groups.
        generators: ``labelled``, ``target``, ``compared``, ``redraw`` and ``pairs``: each kind of batch draws from its
            own.
    """

    def __init__(
        self,
        strategy: Strategy,
        detector: Detector,
        data: Patches,
        origins: Origins,
        domain_index: Mapping[str, int],
        forward: Callable[[Tensor], Tensor],
        tap: FeatureTap | None,
        by_domain: DomainStatistics | None,
        batchnorm: bool,
        windows: Windows,
        groups: Mapping[int, int] | None,
        generators: Mapping[str, torch.Generator],
    ) -> None:
        self._strategy, self._detector, self._data, self._origins = strategy, detector, data, origins
        self._index, self._forward, self._tap = domain_index, forward, tap
        self._by_domain, self._bn, self._groups, self._generators = by_domain, batchnorm, groups, generators
        self._task = task_of(detector.task)
        self._windows = windows
        self._after_cutting = augments_after_cutting(strategy)

    def labelled(self, indices: np.ndarray) -> Batch:
        windows = self._windows.draw(len(indices), self._generators["labelled"])
        raw, slides = self._raw(indices, windows), self._origins.slides(indices)
        weights = self._data.weights(indices, windows)
        coded = torch.from_numpy(with_weights(self._data.labels(indices, windows), weights)).to(raw.device)
        images, coded = self._augmented(raw, coded, slides, self._generators["labelled"], "same")
        labels, counts = self._task.answers(*parted(self._detector.network.crop(coded), weights is not None))
        self._use(indices)
        with listening(self._detector.network, self._strategy.align.also_tapped) as more:
            logits, features = (self._forward(images), None) if self._tap is None else self._tap(images)
        groups = None
        if self._groups is not None:
            groups = torch.tensor([self._groups[one] for one in np.asarray(indices).tolist()], device=raw.device)
        return Batch(
            images, self._numbers(indices), features, logits, labels, weights=counts,
            groups=groups, redraw=self._redraw(raw, slides), more_features=tuple(more),
        )  # fmt: skip

    def target(self, indices: np.ndarray) -> Batch:
        """Patches of targets."""
        return self._unlabelled(indices, self._generators["target"])

    def source_unlabelled(self, indices: np.ndarray) -> Batch:
        """Patches of sources, drawn and treated as those of targets."""
        return self._unlabelled(indices, self._generators["compared"])

    def _unlabelled(self, indices: np.ndarray, generator: torch.Generator) -> Batch:
        raw = self._raw(indices, self._windows.draw(len(indices), generator))
        slides, align = self._origins.slides(indices), self._strategy.align
        drawn = self._drawn(raw, slides, generator, align.target_manner)
        self._use(indices)
        more: dict[str, Any] = {"places": drawn.places, "redraw": self._redraw(raw, slides)}
        images = drawn.images
        if self._tap is None:
            return Batch(images, self._numbers(indices), logits=self._forward(images), **more)
        if align.target_logits or align.also_tapped or (self._bn and self._by_domain is None):
            # with shared batch statistics every layer has to see the target, or the average is of other images
            # in some layers than in others
            with listening(self._detector.network, align.also_tapped) as others:
                logits, features = self._tap(images)
            return Batch(images, self._numbers(indices), features, logits, **more, more_features=tuple(others))
        return Batch(images, self._numbers(indices), self._tap.until(images), **more)

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
            if self._by_domain is not None:
                self._by_domain.use(domains[0])
            logits = self._forward(seen.images)
            if logits.dim() == 2:
                logits, shown = logits[..., None, None], centred(seen.places)[:, None, None]
            else:
                logits, shown = restore(logits, seen.places, self._detector.network.margin)
            numbers = torch.tensor([self._index[one] for one in domains], device=raw.device)
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
        there = torch.nn.functional.grid_sample(
            known[1][:, None].float(), grid, mode="nearest", padding_mode="zeros", align_corners=False
        )[:, 0]
        return PairBatch(sides[0], sides[1], grid, certainty * known[0] * there, radius)

    def as_domain(self, batch: Batch) -> None:
        """Batch statistics become those of a batch's domain, where they are kept per domain."""
        if self._by_domain is not None:
            names = list(self._index)
            self._by_domain.use(names[int(batch.domains[0])])

    def plain(self, indices: np.ndarray) -> Tensor:
        """Patches as the network sees them at prediction: without augmentation."""
        return self._detector.see(self._raw(indices), self._origins.slides(indices))

    def _raw(self, indices: np.ndarray, windows: np.ndarray | None = None) -> Tensor:
        return self._detector.images(self._data.images(indices, windows))

    def _redraw(self, raw: Tensor, slides: Sequence[str]) -> Callable[[Manner], Redrawn]:
        return lambda manner: self._drawn(raw, slides, self._generators["redraw"], manner)

    def _drawn(
        self, raw: Tensor, slides: Sequence[str], generator: torch.Generator, manner: Manner, cut: bool = True
    ) -> Redrawn:
        images, marks = self._augmented(raw, first_places(raw), slides, generator, manner, cut)
        return Redrawn(images, places_of(marks))

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

    def _use(self, indices: np.ndarray) -> None:
        if self._by_domain is not None:
            self._by_domain.use(self._origins.domains(indices[:1])[0])

    def _numbers(self, indices: np.ndarray) -> Tensor:
        numbers = [self._index[domain] for domain in self._origins.domains(indices)]
        return torch.tensor(numbers, device=self._detector.device)


def _of_centres(grid: Tensor, certainty: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Grid ``[N, 1, 1, 2]`` and certainty ``[N, 1, 1]`` of maps of one pixel, from those of patches.

    Args:
        grid: ``[N, S, S, 2]``. certainty: ``[N, S, S]``. known: bool ``[N, 1, 1]``.
    """
    middle = grid.shape[1] // 2
    there = grid[:, middle, middle].abs().amax(1) <= 0.25  # of half a side: grids run from -1 to 1
    least = max(1, grid.shape[1] // 8)
    sure = certainty[:, middle - least : middle + least, middle - least : middle + least].mean(dim=(1, 2))
    return torch.zeros_like(grid[:, :1, :1]), (sure * there)[:, None, None] * known


def numbered_groups(grouping: str, data: Patches, indices: np.ndarray) -> tuple[dict[int, int], tuple[str, ...]]:
    """Number of each patch's group by index, and the groups' names in sorted order.

    Args:
        grouping: ``domain``, ``patient`` or ``slide``: a column of the data layer's rows.

    Raises:
        TrainingError: there is one group only.
    """
    values = data.rows(indices)[grouping].astype(str).tolist()
    names = tuple(sorted(set(values)))
    if len(names) < 2:
        raise TrainingError(
            f"the strategy compares groups of labelled patches by {grouping}, and there is one: {', '.join(names)}",
            remedy="Name a second source domain, or set groups of the align part to patient or slide",
        )
    numbers = {name: number for number, name in enumerate(names)}
    return {int(index): numbers[value] for index, value in zip(indices, values, strict=True)}, names
