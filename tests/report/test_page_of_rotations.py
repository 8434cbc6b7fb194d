"""The page of a study of several rotations: one answer in which every patient counts once, and the way to each page."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from make_run import ENVIRONMENT, make_run
from test_page_of_a_run import Reader

from stainda.config import StudyConfig
from stainda.errors import RecordError
from stainda.evaluation import PROBABILITY_COLUMNS, THRESHOLD_COLUMNS, as_records, write_evidence, write_records
from stainda.evaluation.curves import CALIBRATION_BINS
from stainda.files import write_csv, write_json
from stainda.report import catalogue, make_plot, make_report, view
from stainda.report.answer import answer
from stainda.report.between_rotations import own_answers
from stainda.report.comparing import compare_runs, make_comparison
from stainda.report.figure_registry import kind as kind_of
from stainda.report.loading import load_run
from stainda.report.study_view import NotDrawable
from stainda.study.pooled_tables import write_pooled_tables
from stainda.study.rotating import rotation_seed

NAMES = ("source_only", "dann", "oracle")
Scores = Mapping[tuple[str, str], tuple[float, ...]]
"""Dice of every strategy by test patient and domain."""

FROM_A: Scores = {
    ("P1", "SR@A"): (0.5, 0.7, 0.9), ("P3", "PAS@B"): (0.4, 0.5, 0.9), ("P1", "PAS@A"): (0.95, 0.95, 0.95),
}  # fmt: skip
FROM_B: Scores = {
    ("P1", "PAS@A"): (0.6, 0.8, 0.9), ("P1", "SR@A"): (0.2, 0.6, 0.8), ("P2", "PAS@A"): (0.6, 0.5, 0.9),
}  # fmt: skip
BASE = {"P1": (0.5 + (0.6 + 0.2) / 2) / 2, "P2": 0.6, "P3": 0.4}
DANN = {"P1": (0.7 + (0.8 + 0.6) / 2) / 2, "P2": 0.5, "P3": 0.5}
TOP = {"P1": (0.9 + (0.9 + 0.8) / 2) / 2, "P2": 0.9, "P3": 0.9}


def _rotation(name: str, sources: str, targets: str, scores: Scores, group: str = "", state: str = "complete") -> dict:
    return {
        "rotation": name, "group": group or name, "folder": f"rotations/{name}", "sources": sources, "targets": targets,
        "train": "P8", "val": "P9", "test": "; ".join(sorted({patient for patient, _ in scores})), "state": state,
        "reason": "the disc is full" if state == "failed" else "", "scores": scores,
    }  # fmt: skip


def make_root(folder: Path, rotations: list[dict], protocol: dict, classes: tuple[str, ...] = ("glomerulus",)) -> Path:
    """Write the run directory of a study of several rotations with these Dice scores, and the same of object F1."""
    config = StudyConfig.model_validate(
        {
            "study": "rotations", "title": "Turn by turn",
            "phantom": {"patients": 8, "stains": ["PAS", "SR"], "size": 640},
            "patches": {"size": 128, "mpp": 2.0},
            "task": {"name": "glomeruli", "classes": list(classes)}, "protocol": {"seeds": 1, **protocol},
            "search": {"trials": 1}, "evaluation": {"resamples": 200},
            "strategies": [{"name": name, "labels": "all" if name == "oracle" else "source"} for name in NAMES],
        }
    )  # fmt: skip
    folder.mkdir(parents=True)
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    (folder / "study.yaml").write_text(text)
    write_json(folder / "environment.json", ENVIRONMENT)
    cohort = [
        {"slide": f"{patient}_{stain}", "patient": patient, "block": patient, "stain": stain, "centre": centre,
         "domain": f"{stain}@{centre}", "split": "", "role": "source"}
        for patient, centre in (("P1", "A"), ("P2", "A"), ("P3", "B"), ("P8", "A"), ("P9", "A"))
        for stain in ("PAS", "SR")
    ]  # fmt: skip
    write_csv(folder / "cohort.csv", cohort, list(cohort[0]))
    columns = [name for name in rotations[0] if name != "scores"]
    write_csv(folder / "rotations.csv", [{key: rotation[key] for key in columns} for rotation in rotations], columns)
    for rotation in rotations:
        if not rotation["scores"]:
            continue
        place = folder / rotation["folder"]
        place.mkdir(parents=True)
        own = {**config.model_dump(mode="json"), "title": f"Turn by turn: {rotation['rotation']}"}
        own["protocol"] |= {
            "scheme": "one_to_all", "sources": rotation["sources"].split("; "),
            "targets": rotation["targets"].split("; "),
            "folds": None,
        }  # fmt: skip
        (place / "study.yaml").write_text(yaml.safe_dump(own, sort_keys=False))
        roles = [
            {**row, "split": "test", "role": "source" if row["domain"] in own["protocol"]["sources"] else "target"}
            for row in cohort
        ]
        write_csv(place / "cohort.csv", roles, list(roles[0]))
        write_records(as_records(pd.DataFrame(_records(rotation))), place / "records.parquet")
        trials = [
            {"strategy": name, "trial": 0, "seed": 0, "job": f"{name[:4]}{rotation['rotation']}", "state": "complete",
             "value": 0.8, "chosen": True, "params": "{}", "seconds": 10.0, "cpu_seconds": 10.0, "reason": ""}
            for name in NAMES
        ]  # fmt: skip
        write_csv(place / "trials.csv", trials, list(trials[0]))
    return folder


def _records(rotation: dict) -> list[dict]:
    source = rotation["sources"].split("; ")[0]
    rows = {("P9", source, "val"): (0.8, 0.8, 0.8)}
    rows |= {(patient, domain, "test"): values for (patient, domain), values in rotation["scores"].items()}
    return [
        {
            "study": "rotations", "strategy": name, "trial": 0, "seed": 0, "checkpoint": checkpoint,
            "job": f"{name[:4]}{rotation['rotation']}", "stain": domain.split("@")[0],
            "centre": domain.split("@")[1], "domain": domain, "patient": patient,
            "slide": f"{patient}_{domain.split('@')[0]}", "split": split, "class": "glomerulus", "measure": measure,
            "value": dice, "tp": 1000 * dice, "fp": 1000 * (1 - dice), "fn": 1000 * (1 - dice),
        }
        for (patient, domain, split), values in rows.items()
        for name, dice in zip(NAMES, values, strict=True)
        for checkpoint in ("best", "last")
        for measure in ("dice", "object_f1")
    ]  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Two rotations with scores, one that failed, one that never teaches. P1 is tested in both."""
    never = _rotation("SR@B", "", "", {}, state="left out") | {"folder": "", "group": "", "reason": "not annotated"}
    rotations = [
        _rotation("PAS@A", "PAS@A", "SR@A; PAS@B", FROM_A), _rotation("PAS@B", "PAS@B", "PAS@A; SR@A", FROM_B),
        _rotation("SR@A", "SR@A", "PAS@A", {}, state="failed"), never,
    ]  # fmt: skip
    made = make_root(tmp_path_factory.mktemp("rotations") / "root", rotations, {"scheme": "all_pairs"})
    lead = made / "rotations" / "PAS@A" / "report" / "index.html"
    lead.parent.mkdir()
    lead.write_text("the page of this rotation")
    return made


@pytest.fixture(scope="module")
def page(root) -> Path:
    return make_report(root)


@pytest.fixture(scope="module")
def folds(tmp_path_factory) -> Path:
    scores = {"P1": (0.5, 0.6, 0.9), "P2": (0.4, 0.7, 0.9), "P3": (0.3, 0.6, 0.8), "P4": (0.8, 0.7, 0.9)}
    rotations = [
        _rotation(f"fold_{number}", "PAS@A", "SR@A", {(one, "SR@A"): scores[one] for one in tested}, "all folds")
        for number, tested in enumerate((("P1", "P2"), ("P3", "P4")), start=1)
    ]
    protocol = {"sources": ["PAS@A"], "targets": ["SR@A"], "folds": 2}
    return make_root(tmp_path_factory.mktemp("folds") / "root", rotations, protocol)


def test_a_patient_tested_in_two_rotations_counts_once(root):
    seen = view(root)
    means = seen.overall()
    assert means.loc["source_only", "mean"] == pytest.approx(np.mean(list(BASE.values())))
    assert means.loc["dann", "mean"] == pytest.approx(np.mean(list(DANN.values())))
    assert means["n_patients"].tolist() == [3, 3, 3]
    by_pair = np.mean([0.5, 0.4, (0.6 + 0.2) / 2, 0.6])
    assert means.loc["source_only", "mean"] != pytest.approx(by_pair), "not the mean over (rotation, patient)"
    gains = np.array([DANN[name] - BASE[name] for name in BASE])
    row = seen.rows("dice", table="differences").query("strategy == 'dann' and domain == 'all targets'").iloc[0]
    assert row["difference"] == pytest.approx(gains.mean()) and row["n_patients"] == 3
    assert np.isnan(row["p"]) and row["interval_kind"] == "range", "three patients allow no test"
    assert (row["low"], row["high"]) == pytest.approx((gains.min(), gains.max()))


def test_a_rotation_by_itself_is_the_study_of_that_rotation(root):
    answers = own_answers(view(root))
    assert list(answers) == ["PAS@A", "PAS@B"]
    first, second = answers["PAS@A"], answers["PAS@B"]
    assert (first.baseline, first.mean) == pytest.approx((0.45, 0.6)) and first.n_patients == 2
    assert second.baseline == pytest.approx((0.4 + 0.6) / 2) and second.difference == pytest.approx((0.3 - 0.1) / 2)
    assert np.isnan(second.p_holm) and second.answer == "no test" and second.interval_kind == "range"
    alone = view(root / "rotations" / "PAS@A").overall()
    assert alone.loc["dann", "mean"] == pytest.approx(first.mean)


def test_the_answer_says_no_more_than_the_tests(page):
    read = Reader(page)
    answer = read.text[read.text.index("The answer over all rotations") : read.text.index("Rotation by rotation Every")]
    assert "but three patients are too few for a test" in answer
    assert "two rotations (every annotated domain teaches once" in answer
    assert "Each patient counts once, with its mean over the rotations that tested it; 1 of them was" in answer
    assert "One rotation of 3 failed and is not in the answer (SR@A: the disc is full)" in answer
    assert "Never a source: SR@B (not annotated)" in answer
    assert "By sources and target, dann ranges from 0.50 (PAS@B from PAS@A) to 0.70 (SR@A from PAS@A)" in answer
    assert "is shown to be better" not in answer


def test_the_page_stands_alone_and_leads_to_the_pages_there_are(page, root):
    text, read = page.read_text(encoding="utf-8"), Reader(page)
    assert all(address.startswith("data:") for address in read.loaded), "nothing is fetched"
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", text) and "url(http" not in text
    leads = [link for link in read.links if "rotations/" in link]
    assert leads == ["../rotations/PAS%40A/report/index.html"], "PAS@B has no page yet"
    for link in read.links:
        if link.startswith("#"):
            assert link[1:] in read.ids
        else:
            assert (page.parent / link.replace("%40", "@")).is_file(), link
    assert len(read.ids) == len(set(read.ids))


def test_headings_go_down_one_level_at_a_time_and_name_what_is_below(page):
    levels = [int(level) for level in re.findall(r"<h([1-6])\b", page.read_text(encoding="utf-8"))]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    read = Reader(page)
    for words in ("Rotation by rotation", "Strategy by rotation", "to each domain", "Methods text (copy)"):
        assert words in read.text, words
    assert "every patient counts once" in read.text and "in each of three rotations" in read.text


def test_files_beside_the_page_hold_its_numbers(page, root):
    report = page.parent
    rows = pd.read_csv(report / "tables" / "rotations_dice.csv").set_index("rotation")
    assert rows["state"].to_dict() == {"PAS@A": "complete", "PAS@B": "complete", "SR@A": "failed", "SR@B": "left out"}
    assert rows.loc["PAS@B", "baseline"] == pytest.approx(0.5) and rows.loc["SR@A", "reason"] == "the disc is full"
    pairs = pd.read_csv(report / "tables" / "pairs_dice.csv").set_index(["rotation", "domain", "strategy"])["mean"]
    assert pairs["PAS@B", "PAS@A", "dann"] == pytest.approx(0.65) and pairs["PAS@A", "PAS@A", "dann"] == 0.95
    splits = pd.read_csv(report / "tables" / "splits.csv").set_index("rotation")
    assert splits.loc["PAS@B", "test"] == "P1; P2"
    worst = pd.read_csv(report / "tables" / "worst_pair_dice.csv").set_index("strategy")
    assert worst.loc["source_only", "domain"] == "SR@A from PAS@B" and worst.loc["source_only", "mean"] == 0.2
    for name in ("forest_dice", "heat_map_dice", "source_target_dice", "worst_domain_dice"):
        for ending in ("svg", "png", "csv"):
            assert (report / "figures" / f"{name}.{ending}").is_file(), name
    for ending in ("md", "tex"):
        assert (report / "tables" / f"rotations_dice.{ending}").is_file()
    gaps = pd.read_csv(report / "tables" / "gap_closed_dice.csv").set_index(["strategy", "domain"])["gap_closed"]
    assert np.isnan(gaps["dann", "all targets"]), "three patients: no share"


def test_the_root_table_of_the_study_has_the_same_means(root, tmp_path):
    copy = tmp_path / "root"
    shutil.copytree(root, copy)
    for name in ("PAS@A", "PAS@B"):
        view(copy / "rotations" / name).analysis.results.to_csv(copy / "rotations" / name / "results.csv", index=False)
    write_pooled_tables(copy)
    overall = pd.read_csv(copy / "overall.csv").query("measure == 'dice'").set_index("strategy")
    assert overall.loc["dann", "mean"] == pytest.approx(np.mean(list(DANN.values())))
    assert overall.loc["dann", "difference"] == pytest.approx(np.mean([DANN[one] - BASE[one] for one in BASE]))
    assert overall["n_rotations"].tolist() == [2, 2, 2] and overall["n_patients"].tolist() == [3, 3, 3]


def test_a_strategy_that_lacks_a_rotation_is_compared_on_the_others_alone(root, tmp_path):
    copy = tmp_path / "root"
    shutil.copytree(root, copy)
    path = copy / "rotations" / "PAS@B" / "records.parquet"
    rows = pd.read_parquet(path)
    write_records(as_records(rows[rows["strategy"] != "dann"]), path)
    seen = view(copy)
    row = seen.rows("dice", table="differences").query("strategy == 'dann' and domain == 'all targets'").iloc[0]
    assert row["difference"] == pytest.approx((0.2 + 0.1) / 2) and row["n_patients"] == 2  # P1 and P3, from PAS@A
    unpaired = (0.7 - BASE["P1"] + 0.1) / 2
    assert row["difference"] != pytest.approx(unpaired), "the baseline's other rotation is no part of it"
    gaps = seen.rows("dice", table="gaps").query("strategy == 'dann' and domain == 'all targets'")
    assert gaps["gap"].tolist() == pytest.approx([(0.4 + 0.5) / 2]) and gaps["n_patients"].tolist() == [2]
    text = " ".join(one.text for one in answer(seen))
    assert "dann has scores in 1 of 2 rotations and is compared on these alone" in text


def test_folds_are_one_cohort(folds):
    seen = view(folds)
    assert seen.folds and seen.noun == "domain"
    assert seen.overall().loc["source_only", "mean"] == pytest.approx(0.5)
    assert seen.overall()["n_patients"].tolist() == [4, 4, 4]
    answers = own_answers(seen)
    assert answers["fold_1"].baseline == pytest.approx(0.45) and answers["fold_2"].baseline == pytest.approx(0.55)
    assert "The patients of all folds are one cohort." in make_plot(folds, "forest").caption
    text = " ".join(one.text for one in answer(seen))
    assert "the patients of all folds are one cohort, each with the scores of its own fold" in text
    assert "2 folds, so that every patient is tested" in text


def test_a_study_without_scores_says_so(root, tmp_path):
    rotations = [_rotation("PAS@A", "PAS@A", "SR@A", {}, state="until patches")]
    bare = make_root(tmp_path / "bare", rotations, {"scheme": "all_pairs"})
    text = Reader(make_report(bare)).text
    assert "There is no answer yet" in text and "One rotation of 1 is not scored yet" in text
    with pytest.raises(RecordError, match="no rotation has records of test patients"):
        view(bare)


def test_a_root_leads_nowhere_outside_itself(root, tmp_path):
    copy = tmp_path / "root"
    shutil.copytree(root, copy)
    table = pd.read_csv(copy / "rotations.csv").fillna("")
    table.loc[table["rotation"] == "PAS@A", "folder"] = "../../elsewhere"
    table.to_csv(copy / "rotations.csv", index=False)
    shutil.copytree(root / "rotations" / "PAS@A", tmp_path.parent / "elsewhere", dirs_exist_ok=True)
    found = load_run(copy)
    assert [one.name for one in found.scored] == ["PAS@B"]
    table.drop(columns="group").to_csv(copy / "rotations.csv", index=False)
    with pytest.raises(RecordError, match="columns group are missing"):
        load_run(copy)


@pytest.mark.parametrize("kind", [name for name, _ in catalogue()])
def test_every_kind_shows_all_rotations_or_says_whose_it_is(root, kind):
    seen = view(root)
    if not kind_of(kind).shows(seen.run):
        with pytest.raises(RecordError, match=r"shows one rotation.*rotations/PAS@A.*forest"):
            make_plot(seen, kind)
        return
    try:
        made = make_plot(seen, kind)
    except NotDrawable as lacking:
        assert kind in ("regret", "cost", "critical_difference", "variance", "gap_closed", "label_curve"), (
            lacking.message
        )
        return
    assert len(made.frame) and made.caption.endswith(".") and made.alt.endswith(".")
    made.figure.draw_without_rendering()


def test_two_roots_are_compared_by_pairs_and_a_root_with_a_run_is_refused(root, tmp_path):
    other = tmp_path / "second"
    shutil.copytree(root, other)
    better = {key: (base, min(dann + 0.1, 1), top) for key, (base, dann, top) in FROM_A.items()}
    rotation = _rotation("PAS@A", "PAS@A", "SR@A; PAS@B", better)
    write_records(as_records(pd.DataFrame(_records(rotation))), other / "rotations" / "PAS@A" / "records.parquet")
    found = compare_runs([root, other])
    rows = found.paired.set_index("strategy")
    expected = np.mean([np.mean([0.1, 0, 0]), 0, 0.1])  # P1: three pairs, one changed; P2; P3
    assert rows.loc["dann", "difference"] == pytest.approx(expected) and rows.loc["dann", "n_patients"] == 3
    assert rows.loc["source_only", "difference"] == 0
    assert "rotation" in Reader(make_comparison([root, other], tmp_path / "both")).text
    with pytest.raises(RecordError, match=r"a study of one rotation.*a study of several rotations \(all_pairs\)"):
        compare_runs([root, root / "rotations" / "PAS@A"])


def test_trainings_are_paired_by_number_where_each_rotation_has_seeds_of_its_own(root, tmp_path):
    """As in every real study; a score of every seed was once wanted in every cell, and nothing was paired."""
    roots = []
    for name, more in (("first", 0.0), ("second", 0.1)):
        folder = shutil.copytree(root, tmp_path / name)
        for of_rotation, scores in (("PAS@A", FROM_A), ("PAS@B", FROM_B)):
            changed = {key: (base, dann - more, top) for key, (base, dann, top) in scores.items()}
            rows = pd.DataFrame(_records(_rotation(of_rotation, of_rotation, "", changed)))
            seed = rotation_seed(1, of_rotation)
            write_records(as_records(rows.assign(seed=seed)), folder / "rotations" / of_rotation / "records.parquet")
            trials = pd.read_csv(folder / "rotations" / of_rotation / "trials.csv").assign(seed=seed)
            trials.to_csv(folder / "rotations" / of_rotation / "trials.csv", index=False)
        roots.append(folder)
    rows = compare_runs(roots).paired.set_index("strategy")
    assert rows.loc["dann", "difference"] == pytest.approx(-0.1) and rows.loc["dann", "n_patients"] == 3
    assert rows.loc["source_only", "difference"] == 0


def test_a_study_of_one_rotation_is_a_list_of_one(small):
    run = load_run(small)
    assert not run.rotates and [rotation.name for rotation in run.rotations] == [""] and run.scored == run.rotations
    seen = view(small)
    assert seen.noun == "domain" and not seen.folds and seen.over_rotations() == ""
    assert [group.label for group in seen.analysis.groups] == [""]
    assert len(seen.analysis.records) == (run.records["split"] == "test").sum()
    results = seen.analysis.results
    single = results[(results["stain"] != "*") & (results["measure"] == "dice")]
    pairs = seen.pairs("dice").set_index(["strategy", "domain"])["mean"]
    expected = single[single["selection"] == "source_validation"].set_index(["strategy", "domain"])["mean"]
    assert pairs.to_dict() == expected.to_dict()


def test_each_page_has_the_sections_and_figures_of_its_number_of_rotations(small, page):
    """One template and one list of kinds: those of one rotation alone, of several alone, and of both."""
    one, several = (
        set(re.findall(r"<section id=\"([\w-]+)\"", path.read_text())) for path in (make_report(small), page)
    )
    assert several - one == {"rotations"}
    assert one - several == {
        "centres",
        "objects",
        "examples",
        "models",
        "domain-gap",
    }  # nothing was propagated or followed here
    for path, sections in ((small / "report" / "index.html", one), (page, several)):
        links = re.search(r"<nav.*?</nav>", path.read_text(), re.S)[0]
        assert set(re.findall(r"href=\"#([\w-]+)\"", links)) == sections
    names = [{path.stem for path in (path.parent / "tables").glob("*.csv")} for path in (page, small / "report" / "i")]
    assert {"rotations_dice", "pairs_dice", "splits", "worst_pair_dice"} <= names[0] - names[1]
    assert {"patients", "choices", "selection", "strategies_dice", "differences_dice"} <= names[0] & names[1]


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    return make_run(
        tmp_path_factory.mktemp("small") / "run", test_patients=3, stains=("PAS", "SR"), centres=("A",), seeds=1,
        strategies=("source_only", "dann", "oracle"), registration=False, failed_job=False, trials=1,
    )  # fmt: skip


def test_ranks_and_effects_of_folds_are_over_targets_alone(tmp_path):
    """A strategy that is better on every target and worse on its own domain is better for all patients."""
    scores = {
        (f"P{number}", domain): values
        for number in range(1, 5)
        for domain, values in (("SR@A", (0.5, 0.6, 0.9)), ("PAS@A", (0.95, 0.1, 0.95)))
    }
    rotations = [
        _rotation(f"fold_{number}", "PAS@A", "SR@A", {key: scores[key] for key in scores if key[0] in tested}, "folds")
        for number, tested in enumerate((("P1", "P2"), ("P3", "P4")), start=1)
    ]
    root = make_root(tmp_path / "root", rotations, {"sources": ["PAS@A"], "targets": ["SR@A"], "folds": 2})
    seen = view(root)
    assert seen.analysis.tested == ("SR@A",) and "PAS@A" in seen.analysis.cubes["dice"].domains
    effects = seen.insights().effects.set_index("strategy")
    assert effects.loc["dann", "share_higher"] == 1
    assert seen.insights().ranking.ranks.tolist() == [2, 1]


def test_the_root_says_what_thresholds_cost_and_whether_trainings_had_converged(root, tmp_path):
    """As the page of a single rotation does: each patient counts once, with its mean over rotations."""
    copy = tmp_path / "root"
    shutil.copytree(root, copy)
    for rotation, scores in (("PAS@A", FROM_A), ("PAS@B", FROM_B)):
        _pixels(copy / "rotations" / rotation, rotation, scores)
        for name in NAMES:
            job = copy / "rotations" / rotation / "jobs" / f"{name[:4]}{rotation}"
            job.mkdir(parents=True)
            rising = np.linspace(0.2, 0.8, 12) if (name, rotation) == ("dann", "PAS@B") else np.full(12, 0.8)
            epochs = pd.DataFrame({"epoch": range(1, 13), "val_dice": rising})
            epochs.to_csv(job / "training.csv", index=False)
            write_json(job / "result.json", {"score": 0.8})
    report = make_report(copy).parent
    text = Reader(report / "index.html").text
    assert "Dice lost by the threshold, all targets" in text and "Had the trainings converged?" in text
    table = pd.read_csv(report / "tables" / "threshold_regret.csv")
    assert table.columns[0] == "rotation" and set(table["rotation"]) == {"PAS@A", "PAS@B"}
    row = table.set_index(["rotation", "domain", "strategy"]).loc[("PAS@B", "SR@A", "source_only")]
    assert row["lost"] == pytest.approx(0.8) and row["role"] == "target" and row["threshold"] == 0.5
    assert set(table.loc[table["domain"] == table["rotation"], "role"]) == {"source"}
    shown = (report / "tables" / "threshold_regret.md").read_text()
    lost = 1 - np.mean(list(BASE.values()))
    assert f"{lost:.3f}" in next(line for line in shown.splitlines() if "source_only" in line.replace(" ", "_"))
    assert "SR@A from PAS@B (0.800)" in shown
    states = pd.read_csv(report / "tables" / "convergence.csv").set_index("job")["converged"]
    assert states["dannPAS@B"] == "no" and states["dannPAS@A"] == "yes" and len(states) == 6
    assert "dann" in (report / "answer.txt").read_text() and "still rising" in text


def _pixels(place: Path, rotation: str, scores: Scores) -> None:
    """Pixels of which a threshold of 0.05 would have found every object and nothing else."""
    rows = [
        {
            "study": "rotations", "strategy": name, "trial": 0, "seed": 0, "checkpoint": "best",
            "job": f"{name[:4]}{rotation}", "stain": domain.split("@")[0], "centre": domain.split("@")[1],
            "domain": domain, "patient": patient, "slide": f"{patient}_{domain.split('@')[0]}", "split": "test",
            "class": "glomerulus", "bin": index, "positive": own, "negative": 0, "total": own * 0.5, "threshold": 0.5,
            "own": own, "other": 0,
        }
        for patient, domain in scores
        for name in NAMES
        for index, own in ((CALIBRATION_BINS - 1, 80), (CALIBRATION_BINS // 2, 20))
    ]  # fmt: skip
    columns = (*PROBABILITY_COLUMNS, *THRESHOLD_COLUMNS)
    write_evidence(pd.DataFrame(rows), columns, place / "probabilities.parquet")
