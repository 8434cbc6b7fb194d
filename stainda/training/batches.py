"""Which patches make up each batch: objects and empty patches in balance, domains in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import numpy as np
import pandas as pd

from stainda.errors import TrainingError
from stainda.training.losses import IGNORE

OBJECT_SHARE = 0.5
"""Share of a labelled batch that shows an object: objects are rare on a slide, and must not be in a batch."""


class Patches(Protocol):
    """What training asks of the data layer: ``stainda.patches.TrainingData``, which refuses what may not be seen."""

    @property
    def tissue_pixels(self) -> dict[str, np.ndarray]: ...

    def labelled(self, split: Literal["train", "val"] = ...) -> np.ndarray: ...

    def unlabelled(self) -> np.ndarray: ...

    def rows(self, indices: np.ndarray) -> pd.DataFrame: ...

    def images(self, indices: np.ndarray) -> np.ndarray: ...

    def labels(self, indices: np.ndarray) -> np.ndarray: ...


class Origins:
    """Slide and domain of the patches a job uses, by their index."""

    def __init__(self, data: Patches, indices: np.ndarray) -> None:
        used = np.unique(indices)
        rows = data.rows(used)
        self._slides = dict(zip(used.tolist(), rows["slide"].astype(str), strict=True))
        self._domains = dict(zip(used.tolist(), rows["domain"].astype(str), strict=True))

    def slides(self, indices: np.ndarray) -> list[str]:
        return [self._slides[index] for index in np.asarray(indices).tolist()]

    def domains(self, indices: np.ndarray) -> list[str]:
        return [self._domains[index] for index in np.asarray(indices).tolist()]


class Deck:
    """Indices dealt in random order, all of them once before any comes again."""

    def __init__(self, indices: np.ndarray, generator: np.random.Generator) -> None:
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
        self._deck = Deck(np.arange(len(domains)), generator)
        self._domains = list(domains)

    def next(self, count: int, one: bool) -> dict[str, int]:
        """How many patches of each domain: all of one domain, or as even as can be."""
        if one:
            return {self._domains[self._deck.deal(1)[0]]: count}
        turns: dict[str, int] = {}
        for index in self._deck.deal(count):
            turns[self._domains[index]] = turns.get(self._domains[index], 0) + 1
        return turns


class LabelledBatches:
    """Batches of labelled patches, half of them with an object (:data:`OBJECT_SHARE`), domains in turn.

    Args:
        indices: patches to draw from.
        domains: the domain of each of them.
        has_object: whether each of them shows an object.
        one_domain: every batch is of a single domain (for batch statistics per domain); otherwise domains are mixed
            evenly within a batch.
    """

    def __init__(
        self,
        indices: np.ndarray,
        domains: Sequence[str],
        has_object: np.ndarray,
        size: int,
        one_domain: bool,
        generator: np.random.Generator,
    ) -> None:
        names = np.asarray(domains)
        self._size, self._one = size, one_domain
        self._decks = {
            name: tuple(
                Deck(indices[(names == name) & (has_object == with_one)], generator) for with_one in (True, False)
            )
            for name in dict.fromkeys(domains)
        }
        self._turns = _Turns(list(self._decks), generator)

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(self._decks)

    def draw(self) -> np.ndarray:
        """Indices of one batch."""
        return self._of(self._turns.next(self._size, self._one))

    def draw_from(self, domain: str) -> np.ndarray:
        """Indices of one batch of this domain."""
        return self._of({domain: self._size})

    def _of(self, turns: Mapping[str, int]) -> np.ndarray:
        dealt: list[int] = []
        owed = 0.0  # so that single patches per domain still come out half with an object
        for name, count in turns.items():
            objects, empty = self._decks[name]
            exact = count * OBJECT_SHARE + owed
            wanted = count if not len(empty) else 0 if not len(objects) else min(count, round(exact))
            owed = exact - wanted
            dealt += objects.deal(wanted) + empty.deal(count - wanted)
        return np.asarray(dealt)


class UnlabelledBatches:
    """Batches of unlabelled patches, domains in turn or mixed evenly."""

    def __init__(
        self,
        indices: np.ndarray,
        domains: Sequence[str],
        size: int,
        one_domain: bool,
        generator: np.random.Generator,
    ) -> None:
        names = np.asarray(domains)
        self._size, self._one = size, one_domain
        self._decks = {name: Deck(indices[names == name], generator) for name in dict.fromkeys(domains)}
        self._turns = _Turns(list(self._decks), generator)

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(self._decks)

    def draw(self) -> np.ndarray:
        return self._of(self._turns.next(self._size, self._one))

    def draw_from(self, domain: str) -> np.ndarray:
        return self._of({domain: self._size})

    def _of(self, turns: Mapping[str, int]) -> np.ndarray:
        return np.asarray([index for name, count in turns.items() for index in self._decks[name].deal(count)])


def shows_object(data: Patches, indices: np.ndarray, chunk: int = 256) -> np.ndarray:
    """Whether each labelled patch has at least one pixel of a class, bool ``(N,)``."""
    found = [
        ((labels > 0) & (labels != IGNORE)).any(axis=(1, 2))
        for labels in (data.labels(indices[start : start + chunk]) for start in range(0, len(indices), chunk))
    ]
    return np.concatenate(found) if found else np.zeros(0, bool)


def need_objects(has_object: np.ndarray, what: str, classes: Sequence[str]) -> None:
    """Refuse to train or validate where nothing is labelled.

    Raises:
        TrainingError: no patch shows an object.
    """
    if not has_object.any():
        raise TrainingError(
            f"none of the {len(has_object)} {what} patches shows {' or '.join(classes)}",
            remedy="Check the annotations of the source domains, task.classes and the patient splits",
        )
