"""The section of the page about labels of whole slides, from the tables of the run directory alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from stainda.evaluation import holm
from stainda.report import slide_level_figures as figures
from stainda.report.drawings import Drawing, draw
from stainda.report.figure_registry import Plot
from stainda.report.methods import slide_methods
from stainda.report.run import LoadedRun
from stainda.report.summary_text import Sentence, listed, percent
from stainda.report.tables import PageTable, decimal, p_value, plain_table, span
from stainda.report.writer import Writer
from stainda.run_directory import slide_level_tables as tables

MEASURE_TITLES = {
    "auroc": "AUROC", "average_precision": "average precision", "balanced_accuracy": "balanced accuracy",
}  # fmt: skip
ALL_TARGETS = "all targets"


@dataclass(frozen=True)
class SlideLevelSection:
    """What the section shows."""

    words: list[str]
    drawings: list[Drawing]
    tables: list[PageTable]
    methods: str
    more: list[PageTable] = field(default_factory=list)


def has_slide_level(run: LoadedRun) -> bool:
    """Whether labels of slides were scored."""
    return tables.SLIDE_SUMMARY.at(run.folder).is_file()


def slide_summary(run: LoadedRun) -> pd.DataFrame:
    """summary.csv, with a column ``where``: the domain, and the rotation where it stands in several."""
    summary = tables.SLIDE_SUMMARY.read(tables.SLIDE_SUMMARY.at(run.folder).parent)
    if "p" not in summary:
        summary = summary.assign(p=np.nan, difference_note="no test: scored by an earlier version")
    return summary.assign(where=_where(summary))


def slide_answers(run: LoadedRun) -> list[Sentence]:
    """What the page says first where labels of slides are all that a study learns."""
    assert run.study.slide_level is not None
    what, level = " or ".join(run.study.slide_level.positive), percent(run.study.evaluation.level)
    rows = _headline(slide_summary(run), "auroc")
    rows = rows.assign(p_holm=holm(rows["p"].to_numpy(float)))
    sentences = []
    for where, scores in rows.groupby("where", sort=False):
        known = scores[np.isfinite(scores["mean"])]
        if not len(known):
            continue
        parts = [f"{row['aggregator']} {_number(row)}" for row in known.to_dict("records")]
        sides = known.iloc[0]
        people = f"{sides['positive']:.0f} patients with it, {sides['negative']:.0f} without"
        ends = (
            f"{level} intervals" if np.isfinite(known["low"]).any() else "no intervals: too few patients or no spread"
        )
        sentences.append(Sentence(f"AUROC of {what} in {where} ({people}; {ends}): {listed(parts)}."))
        others = known[np.isfinite(known["difference"])]
        sentences += _differences(others, rows, str(where), 1 - run.study.evaluation.level)
    if not sentences:
        return [Sentence("No target domain has test patients with both labels, so there is no AUROC.", "none")]
    return [*sentences, *_cautions(run, rows)]


def make_slide_level(run: LoadedRun, write: Writer) -> SlideLevelSection:
    """Everything of the section; figures and tables are written under the report."""
    folder = tables.SLIDE_SUMMARY.at(run.folder).parent
    summary, scores = slide_summary(run), tables.SLIDE_SCORES.read(folder)
    drawn = [
        _draw(write, "slide_level_auroc", _auroc_plot(run, summary)),
        _draw(write, "slide_level_slides", _slides_plot(run, scores)),
    ]
    shown = [write.table(_summary_table(summary, measure)) for measure in MEASURE_TITLES]
    more = [write.table(_training_table(tables.SLIDE_TRAININGS.read(folder)))]
    if tables.SLIDE_LEFT_OUT.at(run.folder).is_file():
        left = tables.SLIDE_LEFT_OUT.read(folder)
        titles = {"slide": "Slide", "reason": "Why"}
        more += [
            write.table(plain_table("slide_level_left_out", "Slides that were not used.", left, titles, {}))
        ] * bool(len(left))
    return SlideLevelSection(
        [sentence.text for sentence in slide_answers(run)],
        [drawing for drawing in drawn if drawing is not None],
        [table for table in shown if table is not None],
        slide_methods(run),
        [table for table in more if table is not None],
    )


def _where(table: pd.DataFrame) -> pd.Series:
    if "rotation" not in table.columns:
        return table["domain"]
    several = table.groupby("domain")["rotation"].transform("nunique") > 1
    return table["domain"].where(~several, table["domain"] + " (" + table["rotation"] + ")")


def _headline(summary: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Target rows of a measure; of a pooled study, which has no target, those of its sources."""
    rows = summary[summary["measure"] == measure]
    targets = rows[rows["role"] == "target"]
    return targets if len(targets) else rows


def _number(row: dict[str, float]) -> str:
    if not np.isfinite(row["low"]):
        return decimal(row["mean"])
    return f"{decimal(row['mean'])} ({decimal(row['low'])} to {decimal(row['high'])})"


def _differences(others: pd.DataFrame, rows: pd.DataFrame, where: str, alpha: float) -> list[Sentence]:
    """What may be said of the differences in one place, from p corrected for all ``rows`` (Holm)."""
    first, tests = str(rows["aggregator"].iloc[0]), int(rows["p"].notna().sum())
    correction = f" after Holm's correction for {tests} comparisons" if tests > 1 else ""
    sentences = []
    for row in others[others["p"].notna()].to_dict("records"):
        name, p = row["aggregator"], p_value(row["p_holm"])
        ends = span(row["difference_low"], row["difference_high"])
        shown = f"{decimal(row['difference'])}, {ends}; p {p if p.startswith('<') else f'= {p}'}{correction}"
        if row["p_holm"] <= alpha:
            better = "higher" if row["difference"] > 0 else "lower"
            sentences.append(Sentence(f"In {where} {name} scores {better} than {first} ({shown})."))
        else:
            text = f"In {where} no difference between {name} and {first} could be shown ({shown})."
            sentences.append(Sentence(text, "none"))
    for note, untested in others[others["p"].isna()].groupby("difference_note", sort=False):
        parts = [
            f"{name} {decimal(value)}" + (f" ({ends})" if (ends := span(low, high)) else "")
            for name, value, low, high in untested[
                ["aggregator", "difference", "difference_low", "difference_high"]
            ].itertuples(index=False)
        ]
        sentences.append(Sentence(f"Less {first} in {where}: {listed(parts)}; {note}.", "none"))
    return sentences


def _cautions(run: LoadedRun, rows: pd.DataFrame) -> list[Sentence]:
    """What limits the answer."""
    from stainda.models import start_of

    assert run.study.slide_level is not None
    sentences = []
    if not start_of(run.study.slide_level.encoder):
        text = "The encoder has random weights: it sees colours and simple textures. A trained one reads more."
        sentences.append(Sentence(text, "caution"))
    if notes := [note for note in dict.fromkeys(rows["note"]) if note]:
        text = f"{'; '.join(notes)}."
        sentences.append(Sentence(text[0].upper() + text[1:], "caution"))
    return sentences


def _auroc_plot(run: LoadedRun, summary: pd.DataFrame) -> Plot | None:
    rows = _headline(summary, "auroc")
    rows = rows[np.isfinite(rows["mean"])]
    if not len(rows):
        return None
    caption = (
        f"AUROC by domain, means over trainings with {percent(run.study.evaluation.level)} intervals over patients and "
        "trainings (bootstrap). Dashed: chance."
    )
    return Plot(figures.auroc_by_domain(rows), rows, caption, "AUROC of labels of slides by domain")


def _slides_plot(run: LoadedRun, scores: pd.DataFrame) -> Plot | None:
    assert run.study.slide_level is not None
    tested = scores[(scores["split"] == "test") & (scores["label"] != "")]
    targets = tested[tested["role"] == "target"]
    rows = targets if len(targets) else tested
    if not len(rows):
        return None
    keys = ["aggregator", "domain", "slide", "patient", "label", "positive"]
    mean = rows.groupby(keys, sort=False, as_index=False)["log_odds"].mean()
    what = " or ".join(run.study.slide_level.positive)
    caption = f"Log odds of {what} of every test slide, mean over trainings, by its label. Bars: medians."
    return Plot(figures.slides_by_label(mean), mean, caption, f"Log odds of {what} of every test slide")


def _draw(write: Writer, name: str, plot: Plot | None) -> Drawing | None:
    if plot is None:
        return None
    if write.keep:
        write.plots.append((plot.alt, plot))
    return draw(plot.figure, name, plot.caption, plot.alt, plot.frame, write.out)


def _summary_table(summary: pd.DataFrame, measure: str) -> PageTable:
    rows = summary[(summary["measure"] == measure) & np.isfinite(summary["mean"])]
    titles = {
        "where": "Domain", "role": "Role", "aggregator": "Aggregator", "mean": MEASURE_TITLES[measure].capitalize()
        if measure != "auroc" else "AUROC", "low": "from", "high": "to", "sd_trainings": "SD of trainings",
        "difference": "Against the first", "difference_low": "from", "difference_high": "to",
        "positive": "Positive", "negative": "Negative patients",
    }  # fmt: skip
    digits = {name: 2 for name in ("mean", "low", "high", "sd_trainings", "difference", "difference_low",
                                   "difference_high")} | {"positive": 0, "negative": 0}  # fmt: skip
    caption = f"Labels of slides: {MEASURE_TITLES[measure]}."
    note = "Intervals of differences are of each alone, not corrected for their number."
    return plain_table(
        f"slide_level_{measure}", caption, rows, titles, digits, note if rows["difference_low"].notna().any() else ""
    )


def _training_table(trainings: pd.DataFrame) -> PageTable:
    titles = {"rotation": "Rotation", "aggregator": "Aggregator", "seed": "Seed", "epoch": "Epoch kept",
              "train_loss": "Loss in training", "val_loss": "on validation", "threshold": "Threshold",
              "weights": "Weights", "seconds": "Seconds"}  # fmt: skip
    titles = {name: title for name, title in titles.items() if name in trainings.columns}
    digits = {"seed": 0, "epoch": 0, "train_loss": 3, "val_loss": 3, "threshold": 2, "weights": 0, "seconds": 1}
    return plain_table("slide_level_trainings", "Trainings of aggregators.", trainings, titles, digits)
