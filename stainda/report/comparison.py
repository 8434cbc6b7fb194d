"""Several studies side by side, as tables."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from stainda.evaluation.summary import ALL_SOURCES, ALL_TARGETS
from stainda.report.study_view import StudyView


@dataclass(frozen=True)
class Study:
    """One of the runs: ``key`` is the name it has in every table, unique among them."""

    key: str
    view: StudyView


@dataclass(frozen=True)
class StudyComparison:
    """Tables of several studies.

    Attributes:
        scores: one row per study, strategy and domain (and all targets together), as in ``results.csv``.
        paired: every later study against the first, the same strategy on the same patients and domains.
        shared: patients and slides that two studies share, and what kept slides of one name from being paired.
    """

    studies: tuple[Study, ...]
    measure: str
    selection: str
    scores: pd.DataFrame
    paired: pd.DataFrame
    shared: pd.DataFrame

    @property
    def overall(self) -> pd.DataFrame:
        """The scores over all that a study asks about: its targets, or all its domains where each of them teaches."""
        rows = self.scores[self.scores["domain"] == ALL_TARGETS]
        return rows if len(rows) else self.scores[self.scores["domain"] == ALL_SOURCES]

    @property
    def asked(self) -> str:
        """What :attr:`overall` is over, in a word."""
        return "targets" if (self.scores["domain"] == ALL_TARGETS).any() else "domains"
