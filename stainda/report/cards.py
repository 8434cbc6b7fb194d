"""Model cards: for each chosen model, what it is for, what it learned from, how it scores, and how to use it.

After Mitchell et al., Model Cards for Model Reporting, 2019.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stainda.config import StrategyConfig, StudyConfig
from stainda.evaluation.groups import few_labels, group_of
from stainda.evaluation.selection import DEFAULT_RULE
from stainda.evaluation.summary import ALL_SOURCES, ALL_TARGETS
from stainda.names import file_names
from stainda.report.exports import markdown
from stainda.report.result_tables import regions
from stainda.report.run import LoadedRun
from stainda.report.search_tables import parameters
from stainda.report.study_view import StudyView
from stainda.report.summary_text import count, listed, measure_title
from stainda.report.tables import Cell, PageTable, decimal, ends, number, spread_words, text
from stainda.run_directory.training_tables import LABEL_SHARES

MEASURES_SHOWN = ("dice", "object_f1", "hausdorff_95")


@dataclass(frozen=True)
class Card:
    """``items`` are heading and text; ``command`` applies the model."""

    strategy: str
    title: str
    file: str
    items: tuple[tuple[str, str], ...]
    scores: PageTable
    command: str
    role: str
    labels: str
    thresholds: str


def model_cards(view: StudyView) -> list[Card]:
    """A card per strategy whose chosen setting left a trained job, in the order of the study."""
    tables = {
        measure: view.rows(measure) for measure in MEASURES_SHOWN if (view.analysis.results["measure"] == measure).any()
    }
    places = regions(next(iter(tables.values())))
    test = _test_words(view)
    trained = view.run.records[["strategy", "trial", "seed", "checkpoint", "job"]].drop_duplicates()
    cards, names = [], list(view.analysis.results["strategy"])
    files = file_names(names)
    for name in view.look.present(names):
        job, seeds = _job(view, name, trained)
        if job is not None:
            mine = {measure: table[table["strategy"] == name].set_index("domain") for measure, table in tables.items()}
            scores = _scores(view, name, mine, places, files[name])
            cards.append(_card(view, name, job, seeds, test, scores, file=files[name]))
    return cards


def shared_items(cards: Sequence[Card]) -> list[tuple[str, str]]:
    """Heading and text of what is the same for every model, in the order of the cards."""
    return [item for item in cards[0].items if all(item in card.items for card in cards)] if cards else []


def models_table(cards: Sequence[Card]) -> PageTable:
    """A row per model, with the link to its card, what tells it from the others, and how to apply it."""
    columns = {"role": "Role", "labels": "Labels", "thresholds": "Threshold", "command": "How to apply"}
    frame = pd.DataFrame(
        [{column: getattr(card, column) for column in ("strategy", "file", *columns)} for card in cards]
    )
    rows = [
        [
            Cell(card.title, sort=card.title.lower(), link=card.file),
            *[text(getattr(card, column)) for column in columns],
        ]
        for card in cards
    ]
    caption = "The model of each strategy; its card has training data, limits, scores and licence."
    return PageTable("models", caption, ["Model card", *columns.values()], rows, frame, files=("csv",))


def card_text(view: StudyView, card: Card) -> str:
    """A card as Markdown."""
    study = view.run.study
    lines = [f"# {card.title}", "", f"Model card of study `{study.study}`, made from its records by stainda.", ""]
    for heading, words in card.items:
        lines += [f"## {heading}", "", words, ""]
    lines += ["## Scores", "", markdown(card.scores)]
    return "\n".join([*lines, "## How to apply", "", "```", card.command, "```", ""])


def _card(view: StudyView, name: str, job: Any, seeds: int, test: str, scores: PageTable, *, file: str) -> Card:
    run, study = view.run, view.run.study
    strategy = next((strategy for strategy in study.strategies if strategy.name == name), None)
    ceiling, baseline = name == view.look.ceiling, name == view.look.baseline
    group = group_of(study, name)
    role = (
        "the ceiling of the study: it saw target labels" if ceiling else "the baseline" if baseline
        else "ranked" if group == "without" else "excluded from the ranking: it saw target labels"
    )  # fmt: skip
    again = job.result.get("thresholds_of")
    training, of_source = run.cohort["split"] == "train", run.cohort["role"] == "source"
    labels = strategy.labels.name if strategy is not None else "source"
    learned = training if labels != "source" else training & of_source
    used = run.cohort[learned | (of_source & run.cohort["split"].eq("val"))] if again else run.cohort[learned]
    scale = f"{study.patches.mpp:g} µm per pixel" if study.patches.mpp else f"1:{study.patches.downsample:g} of level 0"
    patches = job.result.get("patches") or {}
    patch_counts = ", ".join(f"{number} {kind}" for kind, number in patches.items())
    thresholds = ", ".join(f"{key} {value:g}" for key, value in (job.result.get("thresholds") or {}).items())
    network = (study.model_of(strategy) if strategy else study.model).name
    items = (
        ("What it is", " ".join(filter(None, [
            f"{network} trained with the strategy {run.label(name)!r} ({role}) to find "
            f"{listed(study.task.classes)} on patches of {study.patches.size} pixels at {scale}.",
            _sentence(strategy.description if strategy else ""),
            _sentence(f"After {strategy.reference}" if strategy and strategy.reference else ""),
            _parameters(job.result),
            f"Job `{job.name}`, the first of {count(seeds, 'training')} of the chosen setting: {_setting(view, name)}.",
        ]))),
        ("Intended use", f"Research on how detectors of {listed(study.task.classes)} transfer between stains and "
         f"centres, on slides like those of {listed(_domains(view))}. Not a medical device; not for diagnosis."),
        ("Training data", f"{count(used['patient'].nunique(), 'patient').capitalize()}, "
         f"{count(used['slide'].nunique(), 'section')}, labels: {labels} ({listed(study.protocol.teachers)}"
         f"{_of_targets(study, name)}{_of_objects(run, job.name)}). Target images without labels: "
         f"{'seen in training where the strategy uses them' if study.protocol.visible == 'targets' else 'never seen'}."
         + (f" Patches: {patch_counts}." if patch_counts else "")
         + (f" Trained again from all patients of the source; job `{again}` chose its setting and threshold."
            if again else "")),
        ("Evaluation data", f"{test} Probability threshold, fixed on source validation: "
         f"{thresholds or 'not recorded'}."),
        ("Limits", _limits(view, name)),
        ("Licence", _licence(view, strategy)),
    )  # fmt: skip
    command = f"stainda predict {shlex.quote(_relative(job.folder))} SLIDE --out predictions/"
    return Card(
        name,
        run.label(name),
        f"model_cards/{file}.md",
        items,
        scores,
        command,
        role,
        labels,
        thresholds or "not recorded",
    )


def _scores(view: StudyView, name: str, tables: dict[str, pd.DataFrame], places: list[str], file: str) -> PageTable:
    """Scores of one strategy by domain; ``tables`` holds its rows by measure, indexed by domain."""
    shown: list[list[Cell]] = []
    for place in places:
        line: list[Cell] = [text(place)]
        n = 0
        for measure, rows in tables.items():
            if place not in rows.index or not np.isfinite(rows.loc[place, "mean"]):
                line.append(Cell("–", number=True))
                continue
            first = rows.loc[place]
            n = max(n, int(first["n_patients"]))
            digits = 2 if measure != "hausdorff_95" else 1
            line.append(Cell(decimal(first["mean"], digits), ends(first, digits),
                             float(first["mean"]), True))  # fmt: skip
        shown.append([*line, number(n, 0)])
    units = {"hausdorff_95": ", µm"}
    columns = ["Domain", *[measure_title(table) + units.get(table, "") for table in tables], "Patients"]
    words = spread_words((kind for rows in tables.values() for kind in rows["interval_kind"]), view.level)
    caption = f"{view.run.label(name)}: mean over test patients; below it {words}."
    return PageTable(f"card_{file}", caption, columns, shown, pd.concat(tables.values()).reset_index())


def _limits(view: StudyView, name: str) -> str:
    rows = view.rows()
    rows = rows[(rows["strategy"] == name) & (rows["role"] == "target") & np.isfinite(rows["mean"])]
    n = int(rows["n_patients"].max()) if len(rows) else 0
    parts = [f"Tested on {count(n, 'patient')} in the targets; other stains, centres, scanners, species and "
             "diseases are untested."]  # fmt: skip
    singles = rows[~rows["domain"].isin([ALL_TARGETS, ALL_SOURCES])]
    if len(singles) > 1:
        worst = singles.loc[singles["mean"].idxmin()]
        parts.append(f"Lowest on {worst['domain']} (Dice {decimal(worst['mean'])}).")
    if view.run.study.phantom is not None:
        parts.append("Trained and tested on synthetic sections: it is no model of real tissue.")
    if group_of(view.run.study, name) != "without":
        parts.append("Its scores are what labels of the target give, not what adaptation gives.")
    return " ".join(parts)


def _of_targets(study: StudyConfig, name: str) -> str:
    """Which labels of targets were learned from next to those of the source."""
    group = group_of(study, name)
    return "" if group == "without" else " and targets" if group == "all" else f", and {few_labels(study, name)}"


def _parameters(result: Mapping[str, Any]) -> str:
    """How many parameters the network has, and learned where not all did."""
    if "n_parameters" not in result:
        return ""
    total, trained = result["n_parameters"], result.get("n_trained")
    learned = "" if trained in (None, total) else f", of which {trained:,} learned"
    return f"{total:,} parameters{learned}."


def _of_objects(run: LoadedRun, job: str) -> str:
    """How many annotated objects were learned from, where the study counts them."""
    table = run.tables.get(LABEL_SHARES.path)
    rows = None if table is None else table[table["job"] == job]
    if rows is None or rows.empty:
        return ""
    return f"; {rows.iloc[0]['objects']:.0f} of {rows.iloc[0]['of']:.0f} annotated objects of the source's patients"


def _licence(view: StudyView, strategy: StrategyConfig | None) -> str:
    from stainda.models import trained_start

    random = strategy is not None and strategy.training.get("start", view.run.study.training.start) == "random"
    study = view.run.study
    model = study.model_of(strategy) if strategy else study.model
    weights = None if random or model.weights is None else model.weights.name
    if weights and model.weights_part is not None:
        weights = trained_start(model)
    start = f"Started from {weights}, whose licence applies." if weights else "Trained from random weights."
    return (
        f"{start} stainda is under the MIT licence; the weights were made from the slides and annotations of this "
        "study, "
        "whose owners decide who may have them."
    )


def _test_words(view: StudyView) -> str:
    test = view.run.records[view.run.records["split"] == "test"]
    return (
        f"{count(test['patient'].nunique(), 'test patient').capitalize()}, "
        f"{count(test['slide'].nunique(), 'section')}, "
        f"{count(test['domain'].nunique(), 'domain')}; none of these patients was seen in training."
    )


def _domains(view: StudyView) -> list[str]:
    names = [*view.analysis.sources, *view.analysis.targets]
    return names if len(names) <= 8 else [*names[:7], f"{len(names) - 7} more domains"]


def _setting(view: StudyView, name: str) -> str:
    chosen = view.run.trials[(view.run.trials["strategy"] == name) & view.run.trials["chosen"]]
    values = parameters(chosen.iloc[0]["params"]) if len(chosen) else {}
    shown = ", ".join(f"{key} = {value:.3g}" if isinstance(value, float) else f"{key} = {value}"
                      for key, value in values.items())  # fmt: skip
    return shown or "the defaults"


def _job(view: StudyView, name: str, trained: pd.DataFrame) -> tuple[Any, int]:
    """The job of the chosen setting with the lowest seed, and how many seeds it was trained with."""
    choice = view.analysis.choices
    choice = choice[(choice["strategy"] == name) & (choice["selection"] == DEFAULT_RULE)]
    if choice.empty:
        return None, 0
    rows = trained[(trained["strategy"] == name) & (trained["trial"] == choice.iloc[0]["trial"])]
    rows = rows[rows["checkpoint"] == choice.iloc[0]["checkpoint"]]
    jobs = rows.sort_values("seed")["job"].drop_duplicates()
    ended = [view.run.jobs[job] for job in jobs if job in view.run.jobs]
    return (ended[0], rows["seed"].nunique()) if ended else (None, 0)


def _relative(folder: Path) -> str:
    """The folder as a command finds it: from the current folder where it lies in it, else from the root."""
    folder, working = folder.resolve(), Path.cwd()
    return (folder.relative_to(working) if folder.is_relative_to(working) else folder).as_posix()


def _sentence(words: str) -> str:
    words = words.strip()
    return words if not words or words.endswith(".") else f"{words}."
