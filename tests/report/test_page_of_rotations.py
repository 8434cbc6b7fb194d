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
from stainda.evaluation import as_records, write_records
from stainda.files import write_csv, write_json
from stainda.report import catalogue, make_plot, make_report, view
from stainda.report.comparing import compare_runs, make_comparison
from stainda.report.rotations import load_root, root_view
from stainda.report.rotations_kinds import root_kinds
from stainda.report.rotations_tables import own_answers
from stainda.report.rotations_words import answer_of_rotations
from stainda.report.study_view import NotDrawable
from stainda.study.combining import combine

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


def make_root(folder: Path, turns: list[dict], protocol: dict, classes: tuple[str, ...] = ("glomerulus",)) -> Path:
    """Write the run directory of a study of several rotations with these Dice scores, and the same of object F1."""
    config = StudyConfig.model_validate(
        {
            "study": "turns", "title": "Turn by turn", "phantom": {"patients": 8, "stains": ["PAS", "SR"], "size": 640},
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
    columns = [name for name in turns[0] if name != "scores"]
    write_csv(folder / "rotations.csv", [{key: turn[key] for key in columns} for turn in turns], columns)
    for turn in turns:
        if not turn["scores"]:
            continue
        place = folder / turn["folder"]
        place.mkdir(parents=True)
        own = {**config.model_dump(mode="json"), "title": f"Turn by turn: {turn['rotation']}"}
        own["protocol"] |= {
            "scheme": "one_to_all", "sources": turn["sources"].split("; "), "targets": turn["targets"].split("; "),
            "folds": None,
        }  # fmt: skip
        (place / "study.yaml").write_text(yaml.safe_dump(own, sort_keys=False))
        roles = [
            {**row, "split": "test", "role": "source" if row["domain"] in own["protocol"]["sources"] else "target"}
            for row in cohort
        ]
        write_csv(place / "cohort.csv", roles, list(roles[0]))
        write_records(as_records(pd.DataFrame(_records(turn))), place / "records.parquet")
        trials = [
            {"strategy": name, "trial": 0, "seed": 0, "job": f"{name[:4]}{turn['rotation']}", "state": "complete",
             "value": 0.8, "chosen": True, "params": "{}", "seconds": 10.0, "cpu_seconds": 10.0, "reason": ""}
            for name in NAMES
        ]  # fmt: skip
        write_csv(place / "trials.csv", trials, list(trials[0]))
    return folder


def _records(turn: dict) -> list[dict]:
    source = turn["sources"].split("; ")[0]
    rows = {("P9", source, "val"): (0.8, 0.8, 0.8)}
    rows |= {(patient, domain, "test"): values for (patient, domain), values in turn["scores"].items()}
    return [
        {
            "study": "turns", "strategy": name, "trial": 0, "seed": 0, "checkpoint": checkpoint, "job": name[:4],
            "stain": domain.split("@")[0], "centre": domain.split("@")[1], "domain": domain, "patient": patient,
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
    turns = [
        _rotation("PAS@A", "PAS@A", "SR@A; PAS@B", FROM_A), _rotation("PAS@B", "PAS@B", "PAS@A; SR@A", FROM_B),
        _rotation("SR@A", "SR@A", "PAS@A", {}, state="failed"), never,
    ]  # fmt: skip
    made = make_root(tmp_path_factory.mktemp("turns") / "root", turns, {"scheme": "all_pairs"})
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
    turns = [
        _rotation(f"fold_{number}", "PAS@A", "SR@A", {(one, "SR@A"): scores[one] for one in tested}, "all folds")
        for number, tested in enumerate((("P1", "P2"), ("P3", "P4")), start=1)
    ]
    protocol = {"sources": ["PAS@A"], "targets": ["SR@A"], "folds": 2}
    return make_root(tmp_path_factory.mktemp("folds") / "root", turns, protocol)


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
    answers = own_answers(root_view(load_root(root)))
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
    assert "No difference to source only can be shown: three patients are too few for a test" in answer
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
    leads = [one for one in read.links if "rotations/" in one]
    assert leads == ["../rotations/PAS%40A/report/index.html"], "PAS@B has no page yet"
    for one in read.links:
        if one.startswith("#"):
            assert one[1:] in read.ids
        else:
            assert (page.parent / one.replace("%40", "@")).is_file(), one
    assert len(read.ids) == len(set(read.ids))


def test_headings_go_down_one_level_at_a_time_and_name_what_is_below(page):
    levels = [int(level) for level in re.findall(r"<h([1-6])\b", page.read_text(encoding="utf-8"))]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    read = Reader(page)
    for words in ("Rotation by rotation", "Strategy by rotation", "from sources to targets", "Methods, to be pasted"):
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
    combine(copy)
    overall = pd.read_csv(copy / "overall.csv").set_index("strategy")
    assert overall.loc["dann", "mean"] == pytest.approx(np.mean(list(DANN.values())))
    assert overall.loc["dann", "difference"] == pytest.approx(np.mean([DANN[one] - BASE[one] for one in BASE]))
    assert overall["n_rotations"].tolist() == [2, 2, 2] and overall["n_patients"].tolist() == [3, 3, 3]


def test_a_strategy_that_lacks_a_rotation_is_compared_on_the_others_alone(root, tmp_path):
    copy = tmp_path / "root"
    shutil.copytree(root, copy)
    path = copy / "rotations" / "PAS@B" / "records.parquet"
    rows = pd.read_parquet(path)
    write_records(as_records(rows[rows["strategy"] != "dann"]), path)
    seen = root_view(load_root(copy))
    row = seen.rows("dice", table="differences").query("strategy == 'dann' and domain == 'all targets'").iloc[0]
    assert row["difference"] == pytest.approx((0.2 + 0.1) / 2) and row["n_patients"] == 2  # P1 and P3, from PAS@A
    unpaired = (0.7 - BASE["P1"] + 0.1) / 2
    assert row["difference"] != pytest.approx(unpaired), "the baseline's other rotation is no part of it"
    gaps = seen.rows("dice", table="gaps").query("strategy == 'dann' and domain == 'all targets'")
    assert gaps["gap"].tolist() == pytest.approx([(0.4 + 0.5) / 2]) and gaps["n_patients"].tolist() == [2]
    text = " ".join(one.text for one in answer_of_rotations(seen, own_answers(seen)))
    assert "dann has scores in 1 of 2 rotations and is compared on these alone" in text


def test_folds_are_one_cohort(folds):
    seen = root_view(load_root(folds))
    assert seen.known.folds and seen.known.noun == "domain"
    assert seen.overall().loc["source_only", "mean"] == pytest.approx(0.5)
    assert seen.overall()["n_patients"].tolist() == [4, 4, 4]
    answers = own_answers(seen)
    assert answers["fold_1"].baseline == pytest.approx(0.45) and answers["fold_2"].baseline == pytest.approx(0.55)
    assert "The patients of all folds are one cohort." in make_plot(folds, "forest").caption
    text = " ".join(one.text for one in answer_of_rotations(seen, answers))
    assert "the patients of all folds are one cohort, each with the scores of its own fold" in text
    assert "2 folds, so that every patient is tested" in text


def test_a_study_without_scores_says_so(root, tmp_path):
    turns = [_rotation("PAS@A", "PAS@A", "SR@A", {}, state="until patches")]
    bare = make_root(tmp_path / "bare", turns, {"scheme": "all_pairs"})
    text = Reader(make_report(bare)).text
    assert "There is no answer yet" in text and "One rotation of 1 is not scored yet" in text
    with pytest.raises(RecordError, match="no rotation has records of test patients yet"):
        view(bare)


def test_a_root_leads_nowhere_outside_itself(root, tmp_path):
    copy = tmp_path / "root"
    shutil.copytree(root, copy)
    table = pd.read_csv(copy / "rotations.csv").fillna("")
    table.loc[table["rotation"] == "PAS@A", "folder"] = "../../elsewhere"
    table.to_csv(copy / "rotations.csv", index=False)
    shutil.copytree(root / "rotations" / "PAS@A", tmp_path.parent / "elsewhere", dirs_exist_ok=True)
    found = load_root(copy)
    assert [one.name for one in found.scored] == ["PAS@B"]
    table.drop(columns="group").to_csv(copy / "rotations.csv", index=False)
    with pytest.raises(RecordError, match="columns group are missing"):
        load_root(copy)


@pytest.mark.parametrize("kind", [name for name, _ in catalogue()])
def test_every_kind_shows_all_rotations_or_says_whose_it_is(root, kind):
    seen = view(root)
    if kind not in root_kinds():
        with pytest.raises(RecordError, match=r"shows one rotation.*rotations/PAS@A.*forest"):
            make_plot(seen, kind)
        return
    try:
        made = make_plot(seen, kind)
    except NotDrawable as lacking:
        assert kind in ("regret", "cost", "critical_difference", "variance", "gap_closed"), lacking.message
        return
    assert len(made.frame) and made.caption.endswith(".") and made.alt.endswith(".")
    made.figure.draw_without_rendering()


def test_two_roots_are_compared_by_pairs_and_a_root_with_a_run_is_refused(root, tmp_path):
    other = tmp_path / "second"
    shutil.copytree(root, other)
    better = {key: (base, min(dann + 0.1, 1), top) for key, (base, dann, top) in FROM_A.items()}
    turn = _rotation("PAS@A", "PAS@A", "SR@A; PAS@B", better)
    write_records(as_records(pd.DataFrame(_records(turn))), other / "rotations" / "PAS@A" / "records.parquet")
    found = compare_runs([root, other])
    rows = found.paired.set_index("strategy")
    expected = np.mean([np.mean([0.1, 0, 0]), 0, 0.1])  # P1: three pairs, one changed; P2; P3
    assert rows.loc["dann", "difference"] == pytest.approx(expected) and rows.loc["dann", "n_patients"] == 3
    assert rows.loc["source_only", "difference"] == 0
    assert "rotation" in Reader(make_comparison([root, other], tmp_path / "both")).text
    with pytest.raises(RecordError, match=r"a study of one rotation.*a study of several rotations \(all_pairs\)"):
        compare_runs([root, root / "rotations" / "PAS@A"])


def test_a_plain_run_is_no_root(tmp_path):
    run = make_run(tmp_path / "run", test_patients=1, stains=("PAS",), centres=("A",), strategies=("source_only",),
                   registration=False, failed_job=False, seeds=1, trials=1, evidence=False)  # fmt: skip
    with pytest.raises(RecordError, match="not a study of several rotations"):
        load_root(run)
