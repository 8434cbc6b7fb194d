"""Which patches make up each batch: objects and empty patches in balance, domains in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import pandas as pd

from stainda.arrays import Array
from stainda.training.rare_classes import RareClasses

if TYPE_CHECKING:
    from torch import Tensor

    from stainda.patches.serial import Pairs, SerialPairs

OBJECT_SHARE = 0.5
"""Share of a labelled batch that shows an object, unless ``training.object_share`` says another: objects are rare on a
slide, and must not be in a batch. With seven negatives for each object, as Lampert et al. train, it is 0.125."""


class Patches(Protocol):
    """What training asks of the data layer: ``stainda.patches.TrainingData``, which refuses what may not be seen."""

    @property
    def tissue_pixels(self) -> dict[str, Array]: ...

    def labelled(self, split: Literal["train", "val"] = ...) -> Array: ...

    def unlabelled(self) -> Array: ...

    def source_unlabelled(self) -> Array: ...

    def rows(self, indices: Array) -> pd.DataFrame: ...

    @property
    def margin(self) -> int: ...

    def images(self, indices: Array, windows: Array | None = ...) -> Array: ...

    def labels(self, indices: Array, windows: Array | None = ...) -> Array: ...

    def weights(self, indices: Array, windows: Array | None = ...) -> Array | None: ...

    def details(self, indices: Array, windows: Array | None = ...) -> Array | None: ...

    @property
    def annotators(self) -> tuple[str, ...]: ...

    def votes(self, indices: Array, windows: Array | None = ...) -> Array: ...

    @property
    def serial(self) -> SerialPairs | None: ...


def with_weights(labels: Array, weights: Array | None) -> Array:
    """Labels and how little their pixels count, as one array of whole numbers: augmentation moves both alike.

    Args:
        labels: uint8 ``(N, H, W)``. weights: float ``(N, H, W)``, 0 to 1; ``None``: all 1.

    Returns:
        int64, the label plus 256 times ``255 (1 - weight)``: labels as they are where the weight is 1.
    """
    coded = labels.astype(np.int64)
    return coded if weights is None else coded + 256 * np.round(255 * (1 - weights)).astype(np.int64)


def parted(coded: Tensor, weighted: bool) -> tuple[Tensor, Tensor | None]:
    """Labels, and weights (float32) where there are any, from :func:`with_weights` after augmentation."""
    return (coded % 256, 1 - (coded // 256).float() / 255) if weighted else (coded, None)


class PatchMetadata:
    """Slide, domain and patient of the patches a job uses, by their index."""

    def __init__(self, data: Patches, indices: Array) -> None:
        used = np.unique(indices)
        rows = data.rows(used)
        self._slides = dict(zip(used.tolist(), rows["slide"].astype(str), strict=True))
        self._domains = dict(zip(used.tolist(), rows["domain"].astype(str), strict=True))
        self._patients = dict(zip(used.tolist(), rows["patient"].astype(str), strict=True))

    def slides(self, indices: Array) -> list[str]:
        return [self._slides[index] for index in np.asarray(indices).tolist()]

    def domains(self, indices: Array) -> list[str]:
        return [self._domains[index] for index in np.asarray(indices).tolist()]

    def patients(self, indices: Array) -> list[str]:
        return [self._patients[index] for index in np.asarray(indices).tolist()]


class EpochSampler:
    """Indices dealt in random order, all of them once before any comes again."""

    def __init__(self, indices: Array, generator: np.random.Generator) -> None:
        self._indices, self._generator = np.asarray(indices), generator
        self._left: list[int] = []

    def __len__(self) -> int:
        return len(self._indices)

    def deal(self, count: int) -> list[int]:
        dealt: list[int] = []
        while len(dealt) < count:
            if not self._left:
                self._left = self._generator.permutation(self._indices).tolist()
            taken = min(count - len(dealt), len(self._left))
            dealt += self._left[-taken:]
            del self._left[-taken:]
        return dealt


class _Turns:
    """Whose turn it is: every domain once, in random order, before any again."""

    def __init__(self, domains: Sequence[str], generator: np.random.Generator) -> None:
        self._deck = EpochSampler(np.arange(len(domains)), generator)
        self._domains = list(domains)

    def next(self, count: int, by_one: bool) -> dict[str, int]:
        """How many patches of each domain: all of one domain, or as even as can be."""
        if by_one:
            return {self._domains[self._deck.deal(1)[0]]: count}
        turns: dict[str, int] = {}
        for index in self._deck.deal(count):
            turns[self._domains[index]] = turns.get(self._domains[index], 0) + 1
        return turns


class RareClassSampler:
    """Indices dealt class by class: of each class all of its patches come once before any comes again.

    Args:
        indices: of patches, all of which show a class. rare: of these patches, in their order.
    """

    def __init__(self, indices: Array, rare: RareClasses, generator: np.random.Generator) -> None:
        here = rare.shows.any(0) & (rare.chances > 0)
        self._decks = [EpochSampler(indices[rare.shows[:, place]], generator) for place in np.flatnonzero(here)]
        self._chances = rare.chances[here] / max(rare.chances[here].sum(), 1e-300)
        self._count, self._generator = len(indices) if self._decks else 0, generator

    def __len__(self) -> int:
        return self._count

    def deal(self, count: int) -> list[int]:
        if not count:
            return []
        classes = self._generator.choice(len(self._decks), count, p=self._chances)
        return [index for place in classes.tolist() for index in self._decks[place].deal(1)]


def _objects(
    indices: Array, chosen: Array, rare: RareClasses | None, generator: np.random.Generator
) -> EpochSampler | RareClassSampler:
    """The deck of some patches with an object."""
    if rare is None:
        return EpochSampler(indices[chosen], generator)
    return RareClassSampler(indices[chosen], RareClasses(rare.shows[chosen], rare.chances), generator)


class LabelledBatches:
    """Batches of labelled patches, a share of them with an object (:data:`OBJECT_SHARE`), domains in turn.

    Args:
        indices: patches to draw from.
        domains: the domain of each of them.
        objects_drawn: whether each of them is drawn as the share with an object; the others are the rest.
        one_domain: every batch is of a single domain (for batch statistics per domain); otherwise domains are mixed
            evenly within a batch.
        object_share: of a batch that is drawn from ``objects_drawn``; ``None``: as patches come.
        rare: how patches with an object are drawn, of ``indices`` in their order; ``None``: each as often.
    """

    def __init__(
        self,
        indices: Array,
        domains: Sequence[str],
        objects_drawn: Array,
        size: int,
        one_domain: bool,
        generator: np.random.Generator,
        *,
        object_share: float | None = OBJECT_SHARE,
        rare: RareClasses | None = None,
    ) -> None:
        names = np.asarray(domains)
        self._size, self._one, self._share = size, one_domain, 1.0 if object_share is None else object_share
        if object_share is None:  # one deck
            objects_drawn = np.ones(len(names), bool)
        self._decks = {
            name: (
                _objects(indices, (names == name) & objects_drawn, rare, generator),
                EpochSampler(indices[(names == name) & ~objects_drawn], generator),
            )
            for name in dict.fromkeys(domains)
        }
        self._turns = _Turns(list(self._decks), generator)
        some_lack = not all(len(deck) for decks in self._decks.values() for deck in decks)
        self._owed, self._carried = 0.0, some_lack and not one_domain

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(self._decks)

    def draw(self) -> Array:
        """Indices of one batch."""
        return self._of(self._turns.next(self._size, self._one))

    def draw_from(self, domain: str) -> Array:
        """Indices of one batch of this domain."""
        return self._of({domain: self._size})

    def _of(self, turns: Mapping[str, int]) -> Array:
        dealt: list[int] = []
        # so that single patches per domain still come out half with an object; where few domains have both kinds, a
        # batch has too few of their patches for any share, and the next one owes the rest
        owed = self._owed if self._carried else 0.0
        for name, count in turns.items():
            objects, empty = self._decks[name]
            wanted = count if not len(empty) else 0
            if len(objects) and len(empty):  # what a domain lacks is not owed by others: which one it is would show
                exact = count * self._share + owed
                wanted = min(count, max(0, round(exact)))
                owed = exact - wanted
            dealt += objects.deal(wanted) + empty.deal(count - wanted)
        self._owed = owed
        return np.asarray(dealt)


class UnlabelledBatches:
    """Batches of unlabelled patches, domains in turn or mixed evenly."""

    def __init__(
        self,
        indices: Array,
        domains: Sequence[str],
        size: int,
        one_domain: bool,
        generator: np.random.Generator,
    ) -> None:
        names = np.asarray(domains)
        self._size, self._one = size, one_domain
        self._decks = {name: EpochSampler(indices[names == name], generator) for name in dict.fromkeys(domains)}
        self._turns = _Turns(list(self._decks), generator)

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(self._decks)

    def draw(self) -> Array:
        return self._of(self._turns.next(self._size, self._one))

    def draw_from(self, domain: str) -> Array:
        return self._of({domain: self._size})

    def _of(self, turns: Mapping[str, int]) -> Array:
        return np.asarray([index for name, count in turns.items() for index in self._decks[name].deal(count)])


class PairBatches:
    """Pairs of patches of registered sections; every batch is of one pair of domains where ``one_domain`` is set."""

    def __init__(self, pairs: SerialPairs, size: int, one_domain: bool, generator: np.random.Generator) -> None:
        self._pairs, self._size = pairs, size
        names = np.asarray(pairs.kinds)
        self._decks = {
            name: EpochSampler(np.flatnonzero(names == name), generator) for name in dict.fromkeys(pairs.kinds)
        }
        self._turns, self._one = _Turns(list(self._decks), generator), one_domain

    def draw(self) -> Array:
        """Indices of one batch."""
        turns = self._turns.next(self._size, self._one)
        return np.asarray([index for name, count in turns.items() for index in self._decks[name].deal(count)])

    def read(self, indices: Array) -> Pairs:
        return self._pairs.read(indices)


@dataclass(frozen=True, eq=False)
class Batches:
    """All that a training draws from; ``None`` where there is nothing of the kind.

    Attributes:
        labelled: of sources. unlabelled: of targets. compared: of sources, without labels. pairs: of sections.
    """

    labelled: LabelledBatches
    unlabelled: UnlabelledBatches | None = None
    compared: UnlabelledBatches | None = None
    pairs: PairBatches | None = None

    def drawn_each_step(self, targets: bool, compared: bool) -> list[LabelledBatches | UnlabelledBatches | PairBatches]:
        """Those of which every step draws once: of targets and compared patches only where the part asks for them."""
        drawn = (
            self.labelled, self.unlabelled if targets else None, self.compared if compared else None, self.pairs
        )  # fmt: skip
        return [batches for batches in drawn if batches is not None]
