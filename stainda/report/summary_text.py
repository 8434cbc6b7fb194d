"""Sentences and parts of sentences that the page is made of, and the rows of the statistics they speak of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stainda.config import StudyConfig
from stainda.evaluation.analysis import Analysis
from stainda.evaluation.bootstrap import FEW_PATIENTS
from stainda.evaluation.crossed import RANGE
from stainda.evaluation.metrics import MEASURES
from stainda.evaluation.selection import DEFAULT_RULE
from stainda.evaluation.summary import ALL_CLASSES, ALL_TARGETS
from stainda.report.tables import decimal, span

PRIMARY = "dice"


@dataclass(frozen=True)
class Sentence:
    """``kind`` is 'result', 'none' (nothing could be shown), 'limit' (read this first) or 'caution'."""

    text: str
    kind: str = "result"


def headline_class(table: pd.DataFrame) -> str:
    """The class the answer speaks of: the mean of all, or the only one."""
    classes = list(dict.fromkeys(table["class"]))
    return ALL_CLASSES if ALL_CLASSES in classes else (classes[0] if classes else ALL_CLASSES)


def headline(table: pd.DataFrame, measure: str = PRIMARY, selection: str = DEFAULT_RULE) -> pd.DataFrame:
    """The rows of one measure under one rule, of the class the answer speaks of."""
    rows = table[(table["measure"] == measure) & (table["selection"] == selection)]
    return rows[rows["class"] == headline_class(rows)]


def percent(level: float) -> str:
    return f"{100 * level:g}\u00a0%"


def count(n: int, noun: str) -> str:
    words = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    shown = words[n] if 0 <= n < len(words) else str(n)
    plural = noun if n == 1 else noun[:-1] + "ies" if noun.endswith("y") and noun[-2] not in "aeiou" else noun + "s"
    return f"{shown} {plural}"


def listed(names: Sequence[str]) -> str:
    names = list(names)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def measure_title(name: str) -> str:
    return MEASURES[name].title if name in MEASURES else name.replace("_", " ")


def score_words(row: pd.Series, level: float) -> str:
    spread = spread_of(row, level)
    return f"{decimal(row['mean'])} ({spread})" if spread else decimal(row["mean"])


def spread_of(row: pd.Series, level: float, digits: int = 2, scale: float = 1.0, unit: str = "") -> str:
    """What the ends of a row are and where they lie; empty where there are none."""
    shown = span(scale * row["low"], scale * row["high"], digits)
    if not shown:
        return ""
    if row["interval_kind"] == RANGE:
        return f"patients from {shown}{unit}"
    return f"{percent(level)} interval {shown}{unit}"


def hit_words(study: StudyConfig, overlap: float = 0.5) -> str:
    """From when on a detection is a hit, in words.

    Args:
        overlap: that objects must be worth (``objects.matching.OverlapPairs``).
    """
    if study.task.kind == "points":
        return f"centres at most {study.evaluation.distance_um(overlap):g} µm away"
    return f"an IoU of at least {overlap:g}"


def answer_measure(study: StudyConfig) -> str:
    """The measure that the answer speaks of: AJI where objects that touch are to be kept apart, else Dice."""
    return "aji" if study.task.kind == "instances" else PRIMARY


def overall_differences(analysis: Analysis, measure: str = PRIMARY) -> pd.DataFrame:
    """Differences from the baseline over all targets, by strategy, of those without target labels."""
    rows = headline(analysis.differences, measure)
    rows = rows[(rows["domain"] == ALL_TARGETS) & (rows["family"] == "overall")].set_index("strategy")
    return rows[np.isfinite(rows["difference"])]


def shown_to_be_better(rows: pd.DataFrame, alpha: float) -> str | None:
    """Of :func:`overall_differences` the strategy with the largest that a test shows; ``None`` where none is shown."""
    shown = rows[(rows["p_holm"] <= alpha) & (rows["difference"] > 0)]["difference"]
    return str(shown.idxmax()) if len(shown) else None


def untested(n: int, trainings: int) -> str:
    """Why nothing is tested; empty where it is."""
    if n < FEW_PATIENTS:
        return f"{count(n, 'patient')} are too few for a test" if n > 1 else "one patient allows no test"
    return "with one training of each strategy, chance in training may be the difference" * (trainings < 2)
