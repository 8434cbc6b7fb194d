"""Every figure by name: what it is called, what it needs, and how it is made of a view of a study.

The page, ``stainda plot`` and :func:`stainda.report.plot` all draw from this list.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from stainda.errors import RecordError, did_you_mean
from stainda.evaluation.selection import DEFAULT_RULE
from stainda.report.kind_titles import TITLES
from stainda.report.study_view import NotDrawable, View
from stainda.report.words import PRIMARY


@dataclass(frozen=True)
class Plot:
    """A figure with its words; ``frame`` holds the numbers that are drawn."""

    figure: Figure
    frame: pd.DataFrame
    caption: str
    alt: str


Maker = Callable[[View, str, str], Plot]


@dataclass(frozen=True)
class Kind:
    """A kind of figure.

    Attributes:
        of_measure: it shows one measure, which can be chosen.
        of_selection: it shows what one selection rule chose, which can be chosen.
    """

    name: str
    title: str
    make: Maker
    of_measure: bool = True
    of_selection: bool = True

    def file(self, measure: str = PRIMARY, selection: str = DEFAULT_RULE) -> str:
        """Name of the figure's file, without ending."""
        parts = [self.name, *([measure] if self.of_measure else [])]
        return "_".join([*parts, *([selection] if self.of_selection and selection != DEFAULT_RULE else [])])


KINDS: dict[str, Kind] = {}


def kind(name: str) -> Kind:
    """The kind of that name.

    Raises:
        RecordError: there is none; the message names the nearest.
    """
    if name not in all_kinds():
        raise RecordError(f"there is no kind of figure {name!r}", remedy=did_you_mean(name, all_kinds()))
    return KINDS[name]


def all_kinds() -> dict[str, Kind]:
    """Every kind of figure: of scores, statistics, objects and pixels, training and search."""
    from importlib import import_module

    for subject in ("scores", "statistics", "evidence", "search"):
        import_module(f"stainda.report.kinds_of_{subject}")
    return KINDS


def register(name: str, *, of_measure: bool = True, of_selection: bool = True) -> Callable[[Maker], Maker]:
    """Let a function draw the kind of that name, which has a title in :data:`~stainda.report.kind_titles.TITLES`."""

    def keep(make: Maker) -> Maker:
        KINDS[name] = Kind(name, TITLES[name], make, of_measure, of_selection)
        return make

    return keep


def make(view: View, name: str, measure: str = PRIMARY, selection: str = DEFAULT_RULE) -> Plot:
    """Draw one kind of figure.

    Raises:
        NotDrawable: the run does not hold what it needs.
    """
    return kind(name).make(view, measure, selection)


__all__ = ["KINDS", "Kind", "NotDrawable", "Plot", "all_kinds", "kind", "make", "register"]
