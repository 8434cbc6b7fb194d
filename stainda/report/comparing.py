"""Several studies side by side: what may be compared, the paired differences, and a page."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from stainda.arrays import Array
from stainda.errors import RecordError
from stainda.evaluation import ScoreCube, chosen_records, difference, holm, score_cube
from stainda.evaluation.metrics import measure as known_measure
from stainda.evaluation.pooling import by_rotation, joined_trainings
from stainda.evaluation.scores import nanmean
from stainda.evaluation.selection import DEFAULT_RULE, rule
from stainda.files import write_text
from stainda.progress import SILENT, Progress
from stainda.report import comparison_figures
from stainda.report.comparison import Study, StudyComparison
from stainda.report.drawings import draw
from stainda.report.layout import OF_A_COMPARISON
from stainda.report.page import render, replace_folder
from stainda.report.plotting import view
from stainda.report.sections import TEMPLATES
from stainda.report.study_view import StudyView, axis_title
from stainda.report.summary_text import PRIMARY, Sentence, count, hit_words, listed, measure_title, percent
from stainda.report.tables import Cell, PageTable, decimal, ends, number, p_value, plain_table, signed, text
from stainda.report.writer import Writer

PAIRED_COLUMNS = [
    "strategy", "first", "second", "domain", "difference", "low", "high", "p", "p_holm", "n_patients", "n_seeds",
    "interval_kind", "note",
]  # fmt: skip


def compare_runs(runs: Sequence[str | Path], measure: str = PRIMARY, selection: str = DEFAULT_RULE) -> StudyComparison:
    """Compare finished studies by one measure.

    The same strategy in two studies is compared patient by patient where both scored the same test slides (same name,
    patient and domain, and as many annotated objects): each patient's mean over the shared domains, the t test over
    patients and trainings, Holm over the strategies of a pair of studies. Where no slide is shared nothing is tested.

    Raises:
        RecordError: fewer than two runs, or they cannot be compared (other classes, overlap, domains, or no common
            measure); the message says which and why.
    """
    known_measure(measure)
    rule(selection)
    if len(runs) < 2:
        raise RecordError("one study has nothing to be compared with", remedy="Give at least two run directories")
    places = [Path(run).resolve() for run in runs]
    if len(set(places)) < len(places):
        raise RecordError("a run directory is given twice", remedy="Give each study once")
    views = [view(run) for run in runs]
    refuse_unlike(views)
    studies = tuple(Study(key, seen) for key, seen in zip(_keys(views), views, strict=True))
    tables = [study.view.rows(measure, selection).assign(study=study.key) for study in studies]
    scores = pd.concat(tables, ignore_index=True)
    paired: list[pd.DataFrame] = []
    shared: list[dict[str, Any]] = []
    for other in studies[1:]:
        table, facts = _pair(studies[0], other, measure, selection)
        paired.append(table)
        shared.append(facts)
    return StudyComparison(
        studies, measure, selection, scores, pd.concat(paired, ignore_index=True), pd.DataFrame(shared)
    )


def refuse_unlike(views: Sequence[StudyView]) -> None:
    """Refuse studies whose scores do not mean the same.

    Raises:
        RecordError: all reasons in one message.
    """
    first = views[0].run
    faults = []
    for seen in views[1:]:
        mine, theirs = first.study, seen.run.study
        name = seen.run.folder.name
        if set(mine.task.classes) != set(theirs.task.classes):
            faults.append(
                f"{name} finds {listed(theirs.task.classes)}, {first.folder.name} {listed(mine.task.classes)}"
            )
        hits = [hit_words(study, study.evaluation.overlap(study.task.kind)) for study in (theirs, mine)]
        if hits[0] != hits[1]:
            faults.append(f"objects of {name} are hit with {hits[0]}, those of {first.folder.name} with {hits[1]}")
        kinds = [kind_of_study(view) for view in (seen, views[0])]
        if kinds[0] != kinds[1]:
            faults.append(f"{name} is {kinds[0]}, {first.folder.name} {kinds[1]}")
        if mine.domain != theirs.domain:
            faults.append(f"domains of {name} are {' × '.join(theirs.domain)}, others {' × '.join(mine.domain)}")
    if faults:
        raise RecordError(
            f"these studies cannot be compared: {'; '.join(faults)}",
            remedy="Compare studies of the same classes, overlap, kind of domain and scheme of rotations; a single "
            "rotation is the folder below rotations/",
        )


def kind_of_study(view: StudyView) -> str:
    """What the mean over all means in a study, in words."""
    if not view.run.rotates:
        return (
            "a study of one rotation" if view.analysis.targets else "a study of one split in which every domain teaches"
        )
    return f"a study of several rotations ({view.run.study.protocol.scheme})"


def _keys(views: Sequence[StudyView]) -> list[str]:
    names = [seen.run.folder.name for seen in views]
    if len(set(names)) == len(names):
        return names
    return [f"{seen.run.folder.parent.name}/{seen.run.folder.name}" for seen in views]


def _pair(first: Study, second: Study, measure: str, selection: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    tables = [_test(side, selection) for side in (first, second)]
    slides = [_slides(frame) for frame in tables]
    both = slides[0].merge(slides[1], on=["slide", "patient", "domain"], suffixes=("_first", "_second"))
    alike = both[both["annotated_first"].eq(both["annotated_second"])]
    unlike = len(both) - len(alike)
    facts = {
        "first": first.key, "second": second.key, "shared_patients": alike["patient"].nunique(),
        "shared_slides": len(alike), "shared_domains": alike["domain"].nunique(),
        "note": f"{unlike} slides have the same name but other annotated objects: not paired" if unlike else "",
    }  # fmt: skip
    empty = pd.DataFrame(columns=PAIRED_COLUMNS)
    strategies = [name for name in first.view.look.order if name in set(second.view.look.order)]
    if alike.empty or not strategies:
        return empty, facts
    analyses = [study.view.analysis for study in (first, second)]
    wanted = set.intersection(*(set(analysis.targets or analysis.sources) for analysis in analyses))
    cubes = [score_cube(frame[frame["slide"].isin(alike["slide"])], measure) for frame in tables]
    patients = [name for name in cubes[0].patients if name in cubes[1].patients]
    domains = [name for name in cubes[0].domains if name in cubes[1].domains and name in wanted]
    strategies = [name for name in strategies if all(name in cube.strategies for cube in cubes)]
    if not patients or not domains or not strategies:
        return empty, facts
    settings = first.view.run.study.evaluation
    rows = []
    for name in strategies:
        first_scores, second_scores = _on_common_cells(cubes, name, patients, domains)
        estimate = difference(second_scores[..., None], first_scores[..., None], settings)
        rows.append(
            {
                "strategy": name, "first": first.key, "second": second.key, "domain": " + ".join(domains),
                "difference": estimate.mean[0], "low": estimate.low[0], "high": estimate.high[0], "p": estimate.p[0],
                "n_patients": estimate.n[0], "n_seeds": min(len(first_scores), len(second_scores)),
                "interval_kind": estimate.kinds[0], "note": estimate.notes[0],
            }
        )  # fmt: skip
    table = pd.DataFrame(rows)
    table["p_holm"] = holm(table["p"].to_numpy(float))
    return table[PAIRED_COLUMNS], facts


def _on_common_cells(
    cubes: Sequence[ScoreCube], strategy: str, patients: Sequence[str], domains: Sequence[str]
) -> list[Array]:
    """Scores of a strategy in two studies, each (trainings, patients), over the cells that both have."""
    classes = [name for name in cubes[0].classes if name in cubes[1].classes]
    blocks = []
    for cube in cubes:
        at = cube.strategies.index(strategy)
        block = cube.runs[at, : cube.seeds[at]]
        for axis, (names, wanted) in enumerate(
            ((cube.patients, patients), (cube.domains, domains), (cube.classes, classes)), 1
        ):
            block = block.take([names.index(name) for name in wanted], axis)
        blocks.append(block)
    both = np.all([np.isfinite(block).all(axis=0) for block in blocks], axis=0)
    return [nanmean(np.where(both, array, np.nan).reshape(*array.shape[:2], -1), axis=2) for array in blocks]


def _test(study: Study, selection: str) -> pd.DataFrame:
    """The chosen test records; the n-th trainings of all rotations, whose seeds differ, have the number n as seed."""
    rows = chosen_records(study.view.analysis.records, study.view.analysis.choices, selection)
    return joined_trainings(by_rotation(rows))


def _slides(rows: pd.DataFrame) -> pd.DataFrame:
    """Slides with their number of annotated objects, the same in two studies if they are the same slides."""
    objects = rows[rows["measure"] == "object_f1"]
    count_ = (objects["tp"] + objects["fn"]).groupby(
        [objects[name] for name in ("slide", "patient", "domain", "class")]
    )
    return count_.first().groupby(["slide", "patient", "domain"]).sum().rename("annotated").reset_index()


def make_comparison(
    runs: Sequence[str | Path],
    out: str | Path,
    measure: str = PRIMARY,
    selection: str = DEFAULT_RULE,
    progress: Progress = SILENT,
) -> Path:
    """Write a page that sets several studies side by side, with its tables and figures; returns the page.

    Args:
        out: folder to write; an earlier comparison in it is replaced, any other folder with files is refused.

    Raises:
        RecordError: see :func:`compare_runs`.
    """
    out = Path(out)
    if out.exists() and any(out.iterdir()) and not (out / "comparison.csv").is_file():
        raise RecordError("there are other files in this folder", file=out, remedy="Choose another with --out")
    with progress.task("Comparing", 2) as task:
        result = compare_runs(runs, measure, selection)
        task.advance(1, "statistics")
        aside = out.with_name(f".{out.name}-new")
        shutil.rmtree(aside, ignore_errors=True)
        write = Writer(aside)
        context = _context(result, write)
        write.finish()
        result.scores.to_csv(aside / "comparison.csv", index=False)
        write_text(aside / "index.html", render("compare.html.j2", context))
        replace_folder(aside, out)
        task.advance(1, "page")
    return out / "index.html"


def _context(result: StudyComparison, write: Writer) -> dict[str, Any]:
    title, level = measure_title(result.measure), percent(result.studies[0].view.run.study.evaluation.level)
    drawings = []
    for name, (figure, frame, caption) in {
        "studies": comparison_figures.studies(result, level),
        "source_target": comparison_figures.source_to_target(result),
        "paired": comparison_figures.paired(result, level),
    }.items():
        if figure is not None:
            drawings.append(
                draw(figure, name, caption, f"{caption.split('.')[0]}; numbers in the CSV.", frame, write.out)
            )
    return {
        "css": Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),  # noqa: S704  (our own)
        "script": Markup((TEMPLATES / "page.js").read_text(encoding="utf-8")),  # noqa: S704
        "title": f"{title} in {count(len(result.studies), 'study')}",
        "sections": {section.key: section for section in OF_A_COMPARISON},
        "sentences": sentences(result),
        "studies": write.table(_studies(result)),
        "shared": write.table(_shared(result)),
        "paired": write.table(_paired(result)),
        "scores": write.table(_scores(result)),
        "drawings_": drawings,
        "axis": axis_title(result.measure),
        "level": level,
    }


def sentences(comparison: StudyComparison) -> list[Sentence]:
    """What the comparison says, never beyond its tests."""
    out: list[Sentence] = []
    alpha = 1 - comparison.studies[0].view.run.study.evaluation.level
    title = measure_title(comparison.measure)
    for other in comparison.studies[1:]:
        rows = comparison.paired[(comparison.paired["second"] == other.key) & (comparison.paired["n_patients"] > 0)]
        facts = comparison.shared[comparison.shared["second"] == other.key].iloc[0]
        first = comparison.studies[0].key
        if rows.empty:
            unscored = "no strategy has a score of the same patient and domain in both"
            why = facts["note"] or (unscored if facts["shared_slides"] else "they share no test slide and strategy")
            out.append(Sentence(f"{other.key} and {first} cannot be compared patient by patient: {why}. Differences "
                                "between their means may be differences between their patients.", "limit"))  # fmt: skip
            continue
        n = count(int(rows["n_patients"].max()), "shared patient")
        shown = rows[rows["p_holm"] <= alpha]
        for word, part in (("better", shown[shown["difference"] > 0]), ("worse", shown[shown["difference"] < 0])):
            if len(part):
                names = [f"{_label(comparison, row.strategy)} ({signed(row.difference, 3)}, p {_sign(row.p_holm)})"
                         for row in part.itertuples()]  # fmt: skip
                higher = known_measure(comparison.measure).higher_is_better
                shown_word = word if higher else {"better": "worse", "worse": "better"}[word]
                out.append(
                    Sentence(
                        f"In {other.key} shown to be {shown_word} than in {first} by {title} ({n}): {listed(names)}."
                    )
                )
        if shown.empty:
            out.append(Sentence(f"No difference between {other.key} and {first} could be shown for any of the "
                                f"{count(len(rows), 'shared strategy')} with {n}.", "none"))  # fmt: skip
        if facts["note"]:
            out.append(Sentence(f"{other.key} and {first}: {facts['note']}.", "caution"))
    return out


def _sign(p: float) -> str:
    shown = p_value(p)
    return shown if shown.startswith("<") else f"= {shown}"


def _label(result: StudyComparison, strategy: str) -> str:
    return next(
        (study.view.run.label(strategy) for study in result.studies if strategy in study.view.look.order), strategy
    )


def _studies(result: StudyComparison) -> PageTable:
    frame = []
    for compared in result.studies:
        study, cohort = compared.view.run.study, compared.view.run.cohort
        patients, sources = cohort.loc[cohort["split"] == "test", "patient"].nunique(), study.protocol.teachers
        if compared.view.run.rotates:  # each rotation has its own split and sources
            patients, sources = compared.view.analysis.patients["patient"].nunique(), compared.view.analysis.sources
        frame.append(
            {
                "study": compared.key, "title": study.title or study.study, "sources": ", ".join(sources),
                "targets": len(compared.view.analysis.targets), "strategies": len(study.strategies),
                "patients": patients,
                "seeds": study.protocol.seeds, "trials": study.search.trials,
                "steps": study.training.epochs * study.training.steps_per_epoch,
                "network": ", ".join(study.network_names), "visible": study.protocol.visible,
            }
        )  # fmt: skip
    titles = {
        "study": "Run", "title": "Study", "sources": "Labels from", "targets": "Targets", "strategies": "Strategies",
        "patients": "Test patients", "seeds": "Seeds", "trials": "Trials", "steps": "Steps at most",
        "network": "Network", "visible": "Visible",
    }  # fmt: skip
    digits = dict.fromkeys(["targets", "strategies", "patients", "seeds", "trials", "steps"], 0)
    note = "Where budgets, networks or sources differ, a difference in score may come from them."
    return plain_table("studies", "The studies.", pd.DataFrame(frame), titles, digits, note)


def _shared(result: StudyComparison) -> PageTable:
    titles = {
        "first": "First", "second": "Second", "shared_patients": "Shared patients", "shared_slides": "Shared slides",
        "shared_domains": "Shared domains", "note": "Note",
    }  # fmt: skip
    digits = dict.fromkeys(["shared_patients", "shared_slides", "shared_domains"], 0)
    return plain_table("shared", "Test slides that two studies share.", result.shared, titles, digits)


def _paired(result: StudyComparison) -> PageTable | None:
    if result.paired.empty:
        return None
    shown = [
        [
            text(_label(result, row["strategy"])), text(f"{row['second']} − {row['first']}"),
            Cell(signed(row["difference"], 3), ends(row, 3), float(row["difference"]), True),
            Cell(p_value(row["p"]), sort=row["p"], number=True),
            Cell(p_value(row["p_holm"]), sort=row["p_holm"], number=True), number(row["n_patients"], 0),
            text(row["note"], True),
        ]
        for row in result.paired.to_dict("records")
    ]  # fmt: skip
    columns = [
        "Strategy",
        "Studies",
        f"Difference in {measure_title(result.measure)}",
        "p",
        "p, Holm",
        "Patients",
        "Note",
    ]
    note = (
        f"Each patient's mean over the {result.asked} that both studies scored; test over patients and trainings, "
        "Holm's correction over the strategies of a pair of studies."
    )
    return PageTable(
        "paired", "The same strategy in two studies, paired by patient.", columns, shown, result.paired, note
    )


def _scores(result: StudyComparison) -> PageTable:
    rows = result.overall
    keys = [study.key for study in result.studies]
    names = list(dict.fromkeys(name for study in result.studies for name in study.view.look.order))
    cells = rows.set_index(["strategy", "study"])
    shown = []
    for name in names:
        line = [text(_label(result, name))]
        for key in keys:
            row = cells.loc[(name, key)] if (name, key) in cells.index else None
            if row is None or not np.isfinite(row["mean"]):
                line.append(Cell("–", number=True))
            else:
                line.append(Cell(decimal(row["mean"]), ends(row), float(row["mean"]), True))
        shown.append(line)
    counts = {key: int(rows.loc[rows["study"] == key, "n_patients"].max()) for key in keys}
    columns = ["Strategy", *[f"{key}\nn = {counts[key]}" for key in keys]]
    caption = f"{axis_title(result.measure)} over each study's own {result.asked}: mean over test patients, n patients."
    note = f"{result.asked.capitalize()} and patients may differ between the columns; only the paired table compares."
    return PageTable("scores", re.sub(r"\s+", " ", caption), columns, shown, rows, note)
