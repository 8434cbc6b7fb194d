"""What the study says about each centre: its slides, its scores, what failed there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from stainda.evaluation.summary import ALL_SOURCES, ALL_TARGETS
from stainda.report.study_view import StudyView, measure_of
from stainda.report.summary_text import PRIMARY, count, measure_title
from stainda.report.tables import decimal


@dataclass(frozen=True)
class CentreText:
    """A part of the page; the scores by domain stand in the main table."""

    name: str
    key: str
    words: tuple[str, ...]


def centres(view: StudyView) -> list[CentreText]:
    """One per centre of the cohort, in the order of the tables."""
    names = list(dict.fromkeys(view.run.cohort["centre"]))
    return [_centre(view, str(name), index) for index, name in enumerate(sorted(names), start=1)]


def _centre(view: StudyView, name: str, index: int) -> CentreText:
    run = view.run
    slides = run.cohort[run.cohort["centre"] == name]
    people = {split: slides.loc[slides["split"] == split, "patient"].nunique() for split in ("train", "val", "test")}
    first = (
        f"{count(slides['slide'].nunique(), 'section').capitalize()} of "
        f"{count(slides['patient'].nunique(), 'patient')} "
        f"(training {people['train']}, validation {people['val']}, test {people['test']}), "
        f"stained {', '.join(dict.fromkeys(slides['stain']))}"
        f"{_scanners(slides)}."
    )
    words = [first, *_registration(view, slides)]
    rows = view.rows()
    rows = rows[(rows["centre"] == name) & ~rows["domain"].isin([ALL_TARGETS, ALL_SOURCES])]
    if rows.empty:
        return CentreText(name, f"centre-{index}", (*words, "No test slide of this centre was scored."))
    domains = list(dict.fromkeys(rows["domain"]))
    words += _scores(view, rows, domains)
    return CentreText(name, f"centre-{index}", tuple(words))


def _scores(view: StudyView, rows: pd.DataFrame, domains: list[str]) -> list[str]:
    """Baseline and best contender over the target domains of this centre; no claim of a difference."""
    targets = rows[(rows["role"] == "target") & np.isfinite(rows["mean"])]
    if targets.empty:
        return []
    means = targets.groupby("strategy")["mean"].mean()
    contenders = means[view.look.contenders(means.index)]
    parts = []
    if view.look.baseline in means:
        parts.append(f"{view.run.label(view.look.baseline)} has a mean {measure_title(PRIMARY)} of "
                     f"{decimal(means[view.look.baseline])}")  # fmt: skip
    if len(contenders):
        best = contenders.idxmax() if measure_of(PRIMARY).higher_is_better else contenders.idxmin()
        parts.append(f"the highest of those without target labels is {view.run.label(str(best))} with "
                     f"{decimal(contenders[best])}")  # fmt: skip
    n = int(targets["n_patients"].max())
    what = count(targets["domain"].nunique(), "target domain")
    return [
        f"Over the {what} here, {', '.join(parts)} ({count(n, 'test patient')} at most; no test is made per centre)."
    ]


def _registration(view: StudyView, slides: pd.DataFrame) -> list[str]:
    quality = view.run.quality
    mine = quality[quality["source"].isin(slides["slide"])]
    if mine.empty:
        return []
    refused = int(mine["status"].eq("refused").sum())
    return [f"{len(mine)} sections were to be registered, {refused} {'was' if refused == 1 else 'were'} refused."]


def _scanners(slides: pd.DataFrame) -> str:
    names = [name for name in dict.fromkeys(slides.get("scanner", pd.Series(dtype=str)).fillna("")) if name]
    return f", scanned with {', '.join(names)}" if names else ""
