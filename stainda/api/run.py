"""A study's run directory as an object: its tables, its figures and its page."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from stainda.errors import RecordError
from stainda.notebook import summary_html
from stainda.run_directory.contents import REPORT
from stainda.run_directory.tables import COHORT

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from stainda.config import StudyConfig
    from stainda.report.study_view import StudyView


class Run:
    """A run directory, read from its files: nothing is trained, registered or written.

    Every table is read when it is first requested, and kept: load the run again after it went on.

    Args:
        folder: a run directory that :func:`stainda.run` or ``stainda run`` made; also one in work.

    Attributes:
        folder: the run directory. study: its resolved study.

    Raises:
        StaindaError: it is no run directory.

    Example:
        >>> run = st.load_run("runs/mine")
        >>> run
        Run(runs/mine: mine, 2 strategies, 2 domains, complete)
        >>> run.strategies, run.domains
        (('source_only', 'adabn'), ('PAS@A', 'SR@A'))
    """

    def __init__(self, folder: str | Path) -> None:
        from stainda.study import read_study

        self.folder = Path(folder)
        self.study: StudyConfig = read_study(self.folder)

    @property
    def strategies(self) -> tuple[str, ...]:
        """Names of the strategies that the study compares, in its order."""
        return tuple(strategy.name for strategy in self.study.strategies)

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the domains of the cohort (``STAIN@CENTRE`` unless the study says otherwise), in its order."""
        return tuple(self.cohort["domain"].unique())

    @cached_property
    def cohort(self) -> pd.DataFrame:
        """``cohort.csv``: one row per section, with ``split`` and the ``role`` of its domain."""
        from stainda.study.tables import read_cohort

        return read_cohort(self.folder)

    @cached_property
    def results(self) -> pd.DataFrame:
        """``results.csv``: ``mean``, ``low`` and ``high`` (the interval) over patients and trainings, one row per
        strategy, domain, class, selection rule and measure.

        Raises:
            RecordError: the study was not evaluated yet.

        Example:
            >>> results = st.load_run("runs/mine").results
            >>> dice = results.query("measure == 'dice' and domain == 'SR@A' and selection == 'source_validation'")
            >>> sorted(dice["strategy"])
            ['adabn', 'source_only']
        """
        from stainda.study.tables import read_results

        return read_results(self.folder)

    @cached_property
    def records(self) -> pd.DataFrame:
        """``records.parquet``: one row per training, checkpoint, slide, class and measure: ``value``, and the raw
        counts ``tp``, ``fp`` and ``fn`` (pixels or objects). Any statistic can be made of it.

        Raises:
            RecordError: the study was not evaluated yet.

        Example:
            >>> records = st.load_run("runs/mine").records
            >>> sorted(records["split"].unique())
            ['test', 'train', 'val']
        """
        from stainda.study.tables import read_records

        return read_records(self.folder)

    @cached_property
    def objects(self) -> pd.DataFrame:
        """``objects.parquet``: one row per object found or annotated on a scored slide, for counts and sizes.

        Raises:
            RecordError: the study was not evaluated yet, or has several rotations, each with objects of its own.
        """
        from stainda.study.tables import read_objects

        return read_objects(self.folder)

    @property
    def report(self) -> Path:
        """The page ``report/index.html``.

        Raises:
            RecordError: it is not made yet.
        """
        page = REPORT.at(self.folder)
        if not page.is_file():
            raise RecordError("the report is not made yet", file=page, remedy="Run the study to its end: st.run")
        return page

    @property
    def answer(self) -> str:
        """The answer as the page has it, one sentence a line; empty where there is no page yet."""
        from stainda.study.ending import ANSWER

        path = self.folder / ANSWER
        return path.read_text(encoding="utf-8").strip() if path.is_file() else ""

    @property
    def failures(self) -> tuple[str, ...]:
        """Trainings that failed, each with its reason; of many, the first few."""
        from stainda.study.ending import failure_lines

        return tuple(failure_lines(self.folder))

    @property
    def kinds(self) -> dict[str, str]:
        """The kinds of figures that :meth:`plot` draws, with their titles."""
        from stainda.report import catalogue

        return dict(catalogue())

    def plot(self, kind: str = "forest", metric: str = "dice", selection: str = "source_validation") -> Figure:
        """One figure of the study, as the page and ``stainda plot`` draw it: show it, change it, save it.

        The statistics are made with the first figure and kept for the others.

        Args:
            kind: a name of :attr:`kinds`.
            metric: a measure of the records: ``dice``, ``object_f1``, ``hausdorff_95`` …
            selection: the rule that chooses trial and checkpoint.

        Raises:
            RecordError: the kind, the measure or the rule is unknown (the message names those that there are), or the
                study does not hold what the figure needs.

        Example:
            >>> figure = st.load_run("runs/mine").plot("forest", metric="object_f1")
            >>> figure.savefig("forest.svg")
        """
        from stainda.report import plot
        from stainda.report.figure_registry import kind as kind_of_figure

        kind_of_figure(kind)  # a wrong name is reported before the statistics are made
        return plot(self._view, kind, metric, selection)

    @cached_property
    def _view(self) -> StudyView:
        from stainda.report import view

        return view(self.folder)

    def __repr__(self) -> str:
        return f"Run({self.folder}: {self.study.study}, {self._size()}, {self._state()})"

    def _repr_html_(self) -> str:
        study = self.study
        facts = {
            "question": study.question, "folder": self.folder, "holds": self._size(), "state": self._state(),
            "answer": self.answer.replace("\n", " "), "strategies": ", ".join(self.strategies),
            "failures": " ".join(self.failures),
        }  # fmt: skip
        return summary_html(study.title or study.study, facts)

    def _size(self) -> str:
        if not COHORT.at(self.folder).is_file():
            return f"{len(self.strategies)} strategies"
        return f"{len(self.strategies)} strategies, {len(self.domains)} domains"

    def _state(self) -> str:
        from stainda.study.status import read_status

        status = read_status(self.folder)
        failed = status.counts["failed"]
        return f"{status.state}, {failed} failed trainings" if failed else status.state
