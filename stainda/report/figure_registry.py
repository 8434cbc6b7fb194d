"""Every figure and table by name: what it is called, which studies it shows, and how it is made.

The page, ``stainda plot`` and :func:`stainda.report.plot` all draw from these lists. A kind that shows one rotation is
left off the page of a study of several, and one that compares rotations off the page of a study of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Literal, TypeVar

import pandas as pd
from matplotlib.figure import Figure

from stainda.errors import RecordError, did_you_mean
from stainda.evaluation.selection import DEFAULT_RULE
from stainda.report.figure_titles import TITLES
from stainda.report.run import LoadedRun
from stainda.report.study_view import NotDrawable, StudyView
from stainda.report.summary_text import PRIMARY
from stainda.report.tables import PageTable

Rotations = Literal["any", "one", "several"]
"""Studies that a kind shows: of one rotation, at the root of a study of several, or both."""


@dataclass(frozen=True)
class Plot:
    """A figure with its words; ``frame`` holds the numbers that are drawn."""

    figure: Figure
    frame: pd.DataFrame
    caption: str
    alt: str


Maker = Callable[[StudyView, str, str], Plot]
TableMaker = Callable[[LoadedRun, StudyView | None, str], PageTable | None]
ScoreTableMaker = TypeVar("ScoreTableMaker", bound=Callable[[StudyView, str], PageTable | None])
RunTable = TypeVar("RunTable", bound=PageTable | None)
AnyMaker = TypeVar("AnyMaker", Maker, TableMaker)


@dataclass(frozen=True)
class Kind:
    """A kind of figure.

    Attributes:
        makers: by the studies that each shows.
        of_measure: it shows one measure, which can be chosen.
        of_selection: it shows what one selection rule chose, which can be chosen.
        overall: it shows all targets together; over several rotations its caption says what these are.
        needs: which runs have what it draws, where most have not: the page leaves it out of the others without a word.
    """

    name: str
    title: str
    makers: Mapping[Rotations, Maker]
    of_measure: bool = True
    of_selection: bool = True
    overall: bool = False
    needs: Callable[[LoadedRun], bool] = lambda run: True

    def shows(self, run: LoadedRun) -> bool:
        """Whether it shows studies of as many rotations."""
        return _of(self.makers, run) is not None

    def on_page(self, run: LoadedRun) -> bool:
        """Whether the page of this run has it."""
        return self.shows(run) and self.needs(run)

    def make(self, view: StudyView, measure: str = PRIMARY, selection: str = DEFAULT_RULE) -> Plot:
        """Draw it.

        Raises:
            RecordError: it shows a single rotation, and the study has several.
            NotDrawable: the run does not hold what it needs.
        """
        maker = _of(self.makers, view.run)
        if maker is None:
            first = view.run.folder / view.run.scored[0].folder
            raise RecordError(
                f"{self.name!r} shows one rotation, and this is a study of {len(view.run.rotations)}",
                file=view.run.folder,
                remedy=f"Give the folder of one ({first}), or a kind that shows all: "
                f"{', '.join(sort.name for sort in kinds_of(view.run))}",
            )
        plot = maker(view, measure, selection)
        if not self.overall:
            return plot
        return replace(plot, caption=f"{plot.caption} {view.over_rotations()}".strip())

    def file(self, measure: str = PRIMARY, selection: str = DEFAULT_RULE) -> str:
        """Name of the figure's file, without ending."""
        parts = [self.name, *([measure] if self.of_measure else [])]
        return "_".join([*parts, *([selection] if self.of_selection and selection != DEFAULT_RULE else [])])


@dataclass(frozen=True)
class TableKind:
    """A table of the page. ``title`` is what the page says of it where it cannot be made."""

    name: str
    title: str
    makers: Mapping[Rotations, TableMaker]

    def make(self, run: LoadedRun, view: StudyView | None, measure: str = PRIMARY) -> PageTable | None:
        """The table; ``None`` where it does not show this study, or has no rows.

        Raises:
            NotDrawable: the run does not hold what it needs.
        """
        maker = _of(self.makers, run)
        return None if maker is None else maker(run, view, measure)


FIGURE_MODULES = (
    "registered_scores", "registered_statistics", "registered_evidence", "registered_search", "rotation_matrix",
    "few_labels", "class_tables",
)  # fmt: skip
TABLE_MODULES = (
    "data_tables", "recipe_tables", "result_tables", "insight_tables", "training_tables", "effect_tables", "reviewing",
    "costs", "between_rotations", "few_labels", "encoder_figures",
)  # fmt: skip
"""Where kinds are registered: imported when the first is wanted, since they import this module."""
KINDS: dict[str, Kind] = {}
TABLES: dict[str, TableKind] = {}


def _of(makers: Mapping[Rotations, AnyMaker], run: LoadedRun) -> AnyMaker | None:
    return makers.get("any") or makers.get("several" if run.rotates else "one")


def table_kind(name: str) -> TableKind:
    """The kind of table of that name."""
    for module in TABLE_MODULES:
        import_module(f"stainda.report.{module}")
    return TABLES[name]


def kind(name: str) -> Kind:
    """The kind of that name.

    Raises:
        RecordError: there is none; the message names the nearest.
    """
    if name not in all_kinds():
        raise RecordError(f"there is no kind of figure {name!r}", remedy=did_you_mean(name, all_kinds()))
    return KINDS[name]


def all_kinds() -> dict[str, Kind]:
    """Every kind of figure: of scores, statistics, objects and pixels, training and search, and between rotations."""
    for module in FIGURE_MODULES:
        import_module(f"stainda.report.{module}")
    return KINDS


def kinds_of(run: LoadedRun) -> list[Kind]:
    """The kinds of figures that the page of this study has."""
    return [sort for sort in all_kinds().values() if sort.on_page(run)]


def register(
    name: str,
    *,
    of_measure: bool = True,
    of_selection: bool = True,
    overall: bool = False,
    rotations: Rotations = "any",
    needs: Callable[[LoadedRun], bool] = lambda run: True,
) -> Callable[[Maker], Maker]:
    """Let a function draw the kind of that name, which has a title in :data:`~stainda.report.figure_titles.TITLES`."""

    def keep(make: Maker) -> Maker:
        makers = dict(KINDS[name].makers) if name in KINDS else {}
        KINDS[name] = Kind(
            name, TITLES[name], {**makers, rotations: make}, of_measure=of_measure, of_selection=of_selection,
            overall=overall, needs=needs,
        )  # fmt: skip
        return make

    return keep


def register_table(
    name: str, *, rotations: Rotations = "any"
) -> Callable[[Callable[[LoadedRun], RunTable]], Callable[[LoadedRun], RunTable]]:
    """Let a function make the table of that name of a run."""

    def keep(make: Callable[[LoadedRun], RunTable]) -> Callable[[LoadedRun], RunTable]:
        add_table(name, lambda run, view, measure: make(run), rotations=rotations)
        return make

    return keep


def register_score_table(
    name: str, title: str = "", *, rotations: Rotations = "any"
) -> Callable[[ScoreTableMaker], ScoreTableMaker]:
    """Let a function make the table of that name of a view and a measure, where there are scores.

    ``title`` is what the page says of it where it cannot be made.
    """

    def keep(make: ScoreTableMaker) -> ScoreTableMaker:
        def made(run: LoadedRun, view: StudyView | None, measure: str) -> PageTable | None:
            return None if view is None else make(view, measure)

        add_table(name, made, title=title, rotations=rotations)
        return make

    return keep


def add_table(name: str, make: TableMaker, *, title: str = "", rotations: Rotations = "any") -> None:
    """Keep what makes the table of that name for the studies it shows."""
    makers = dict(TABLES[name].makers) if name in TABLES else {}
    TABLES[name] = TableKind(name, title, {**makers, rotations: make})


__all__ = [
    "Kind", "NotDrawable", "Plot", "Rotations", "TableKind", "add_table", "all_kinds", "kind", "kinds_of", "register",
    "register_score_table", "register_table", "table_kind",
]  # fmt: skip
