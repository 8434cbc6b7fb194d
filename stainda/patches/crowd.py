"""Answers of several annotators about the same pixels, kept side by side for strategies that learn from all of them.

The store keeps them as one 16-bit number per pixel (``votes.npy``): ``256 + Σ_a d_a (K + 2)^a`` for annotators a and K
classes, ``d_a`` being 0 where the annotator is silent (the slide is not hers, or the place is ignored) and else 1 + the
label (0 background, i + 1 class i). So 255 means what it does in labels: nothing is known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stainda.annotations.votes import NO, SILENT, YES, reliability_among_peers, share_of_yes, staple
from stainda.config import FusionMethod
from stainda.errors import ConfigError
from stainda.randomness import generator_for

UNKNOWN = 255
"""Answer of an annotator who says nothing, and label where nobody says anything or they are undecided."""

_FIRST, _CODES = 256, 65536
_EVEN = 1e-9


def most_annotators(n_classes: int) -> int:
    """How many annotators one number holds: 10 of one class, 7 of two, 6 of three or four."""
    return int(np.log(_CODES - _FIRST) / np.log(n_classes + 2) + 1e-12)


def encode(answers: NDArray[np.uint8], n_classes: int) -> NDArray[np.uint16]:
    """One number per pixel, uint16 ``(h, w)``, of the labels of each annotator, uint8 ``(A, h, w)``, 255 silent.

    Raises:
        ConfigError: more annotators than a number holds.
    """
    check_count(len(answers), n_classes)
    digits = np.where(answers == UNKNOWN, 0, answers.astype(np.int64) + 1)
    places = (n_classes + 2) ** np.arange(len(answers))
    return (_FIRST + np.tensordot(places, digits, 1)).astype(np.uint16)


def check_count(count: int, n_classes: int) -> None:
    """Refuse more annotators than are kept side by side.

    Raises:
        ConfigError: more than :func:`most_annotators`.
    """
    if count > (most := most_annotators(n_classes)):
        raise ConfigError(
            f"{count} annotators of {n_classes} classes are more than are kept side by side ({most})",
            remedy="Leave out annotators in the manifest, or fuse them (labels: source)",
        )


def answers_by_code(n_annotators: int, n_classes: int) -> NDArray[np.uint8]:
    """The answers behind every number: uint8 ``(65536, A)``, 255 silent."""
    codes = np.arange(_CODES, dtype=np.int64)[:, None] - _FIRST
    digits = codes // (n_classes + 2) ** np.arange(n_annotators) % (n_classes + 2)
    return np.where((codes < 0) | (digits == 0), UNKNOWN, digits - 1).astype(np.uint8)


@dataclass(frozen=True)
class Crowd:
    """Which annotators teach, and how their answers become labels.

    Attributes:
        method: as in ``stainda.annotations.fusion``, here pixel by pixel over all training patches.
        count: so many annotators, drawn by ``seed``, a smaller number within a larger one; ``None``: all.
        reliability: of each annotator by name, 0 to 1, for ``weighted``; empty: mean Dice with each of the others.
    """

    method: FusionMethod
    count: int | None = None
    reliability: tuple[tuple[str, float], ...] = ()
    seed: int = 0

    def choose(self, names: Sequence[str]) -> NDArray[np.intp]:
        """Places of the annotators who teach, ascending.

        Raises:
            ConfigError: fewer than two, or fewer than ``count``.
        """
        wanted = len(names) if self.count is None else self.count
        if len(names) < max(2, wanted):
            raise ConfigError(
                f"{max(2, wanted)} annotators are to teach, and the training slides of the sources have {len(names)}",
                remedy="Name the files of several annotators in the manifest's column annotations, separated by ';', "
                "or take labels: source",
            )
        order = generator_for(self.seed, "annotators").permutation(len(names))
        return np.sort(order[:wanted])


class CrowdLabels:
    """Labels and answers by the number that the store keeps.

    Args:
        names: of all annotators of the store.
        patches: the numbers of the training patches, uint16 arrays of any shape.

    Attributes:
        names: of the annotators who teach.
        labels: uint8 ``(65536,)``; 255 where they are undecided or silent.
        answers: uint8 ``(65536, A)`` of those who teach, 255 silent.
    """

    def __init__(
        self, crowd: Crowd, names: Sequence[str], n_classes: int, patches: Iterable[NDArray[np.uint16]]
    ) -> None:
        chosen = crowd.choose(names)
        self.names = tuple(names[place] for place in chosen)
        self.answers = answers_by_code(len(names), n_classes)[:, chosen]
        weights = _weights(crowd, self.names)
        self.labels = np.full(_CODES, UNKNOWN, np.uint8)
        counts = np.zeros(_CODES, np.int64)
        for codes in patches:
            counts += np.bincount(codes.ravel(), minlength=_CODES)
        met = np.flatnonzero(counts)
        patterns, amounts = self.answers[met], counts[met].astype(float)
        fused = [
            _probability(_votes(patterns, index), amounts, crowd.method, weights) for index in range(1, n_classes + 1)
        ]
        self.labels[met] = _decided(np.stack(fused, 1), (patterns != UNKNOWN).any(1))

    def fused(self, codes: NDArray[np.uint16], own: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Labels uint8 of the shape of ``codes``; those of ``own`` where none of those who teach has answered."""
        spoken = (self.answers != UNKNOWN).any(1)
        return np.where(spoken[codes], self.labels[codes], own)


def _votes(answers: NDArray[np.uint8], index: int) -> NDArray[np.int8]:
    return np.where(answers == UNKNOWN, SILENT, np.where(answers == index, YES, NO)).astype(np.int8)


def _probability(
    patterns: NDArray[np.int8], amounts: NDArray[np.float64], method: FusionMethod, weights: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    if method == "staple":
        return staple(patterns, amounts).probability
    if method == "weighted" and weights is None:
        weights = reliability_among_peers(patterns, amounts)
    return share_of_yes(patterns, weights if method == "weighted" else None)


def _decided(probability: NDArray[np.float64], spoken: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The most probable class where that is above one half, background where all are below."""
    best = probability.max(1)
    labels = np.where(best > 0.5 + _EVEN, probability.argmax(1) + 1, 0)
    return np.where(spoken & (np.abs(best - 0.5) > _EVEN), labels, UNKNOWN).astype(np.uint8)


def _weights(crowd: Crowd, names: Sequence[str]) -> NDArray[np.float64] | None:
    given: Mapping[str, float] = dict(crowd.reliability)
    if not given:
        return None
    if missing := [name for name in names if name not in given]:
        raise ConfigError(
            f"the annotator {missing[0]!r} has no reliability", remedy="Add one to labels.reliability, 0 to 1"
        )
    return np.array([given[name] for name in names], float)
