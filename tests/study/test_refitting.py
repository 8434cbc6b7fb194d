"""Chosen trainings made again from all patients of the source."""

import csv
import json
import math

import numpy as np
import pandas as pd
import pytest
from declared_files import faults_of_run
from small_cohorts import write_study

from stainda.cohort import Roles
from stainda.config import load_study
from stainda.errors import LeakError
from stainda.evaluation import REFIT
from stainda.patches import PatchStore, TrainingData
from stainda.study import run_study
from stainda.study.choosing import choose_job
from stainda.study.plan import plan_study
from stainda.study.status import read_status
from stainda.training import Job, read_result

ONE = ["workers=1", "search.trials=1", "protocol.seeds=2", "strategies=[source_only, dann]"]
ASKED = [*ONE, "protocol.refit=true"]


@pytest.fixture(scope="module")
def runs(blob_manifest, tmp_path_factory):
    folder = tmp_path_factory.mktemp("refit")
    study = write_study(blob_manifest, folder / "blobs.yaml")
    return study, run_study(study, folder / "run", overrides=ASKED)


def table(run, name):
    return pd.read_csv(run / name, dtype={"job": str, "repeats": str})


def files_of(run):
    return {path: path.stat().st_mtime_ns for path in (run / "jobs").rglob("*") if path.is_file()}


def test_every_chosen_training_is_made_again_and_counted(runs):
    study, run = runs
    trials, refits = table(run, "trials.csv"), table(run, "refits.csv")
    assert set(refits["repeats"]) == set(trials.loc[trials["chosen"], "job"]) and (refits["state"] == "complete").all()
    assert not set(refits["job"]) & set(trials["job"]) and len(refits) == 4
    budget = table(run, "budget.csv").set_index("strategy")
    assert list(budget["jobs"]) == [4, 4] and budget["note"].str.contains("2 trainings of them again").all()
    assert sum(budget.jobs for budget in plan_study(load_study(study, ASKED), run).budgets) == 8
    status = read_status(run)
    assert status.waiting == 0 and status.counts["done"] == 8 == len(list((run / "jobs").iterdir()))
    assert table(run, "exclusions.csv").empty


def test_a_refitted_study_writes_what_is_declared(runs):
    assert faults_of_run(runs[1]) == [] and (runs[1] / "refits.csv").is_file()


def test_validation_patients_teach_the_refit_and_only_it(runs):
    _, run = runs
    store = PatchStore.open(run / "patches").table
    own = store[(store["kind"] == "labelled") & (store["domain"] == "PAS@A")]
    number = own.groupby("split").size()
    assert number["train"] and number["val"]
    for row in table(run, "refits.csv").itertuples():
        first, again = (read_result(run / "jobs" / name) for name in (row.repeats, row.job))
        assert (first.patches["labelled"], first.patches["validation"]) == (number["train"], number["val"])
        assert (again.patches["labelled"], again.patches["validation"]) == (number["train"] + number["val"], 0)
        assert again.patches["unlabelled"] == first.patches["unlabelled"] and again.steps == first.steps
        assert again.thresholds == again.last_thresholds == first.last_thresholds
        assert again.thresholds_of == row.repeats and math.isnan(again.score) and again.best_epoch == again.epochs
        folder = run / "jobs" / row.job
        assert (folder / "model.safetensors").read_bytes() == (folder / "last.safetensors").read_bytes()
        assert (folder / "model.safetensors").read_bytes() != (
            run / "jobs" / row.repeats / "last.safetensors"
        ).read_bytes()
        with (folder / "training.csv").open() as stream:
            assert not [name for name in next(csv.reader(stream)) if name.startswith("val")]
        job, was = Job.load(folder), Job.load(run / "jobs" / row.repeats)
        assert job.hash == row.job and job.repeats == was.hash and job.training == was.training


def test_no_target_label_and_no_test_patient_can_be_reached(runs):
    _, run = runs
    store = PatchStore.open(run / "patches")
    roles = Roles(("PAS@A",), ("SR@A",), ("stain", "centre"), "targets")
    cohort = table(run, "cohort.csv")
    tested = set(cohort.loc[cohort["split"] == "test", "patient"])
    for rule in ("source", "propagated", "all"):
        plain = TrainingData(store, roles, labels=rule)
        again = TrainingData(store, roles, labels=rule, refit=True)
        more = set(again.labelled()) - set(plain.labelled())
        assert more == set(plain.labelled("val")) and set(again.labelled()) >= set(plain.labelled())
        assert set(store.table.loc[list(more), "domain"]) == {"PAS@A"} and not len(again.labelled("val"))
        for seen in ("unlabelled", "source_unlabelled"):
            assert np.array_equal(getattr(again, seen)(), getattr(plain, seen)())
        assert not tested & set(again.table.loc[again.labelled(), "patient"])
        assert again.key == plain.key, "no byte more can be read than by the first training, which validates on them"
        hidden = store.table.index[store.table["domain"].eq("SR@A") & store.table["split"].eq("val")]
        with pytest.raises(LeakError):
            again.labels(hidden[:1])


def test_the_refits_are_what_is_reported_and_the_first_trainings_choose(runs):
    _, run = runs
    refits, records = table(run, "refits.csv"), pd.read_parquet(run / "records.parquet")
    again = records[records["checkpoint"] == REFIT]
    assert set(again["job"]) == set(refits["job"]) and set(again["split"]) == {"test"}
    assert set(records.loc[records["split"] == "val", "job"]) == set(refits["repeats"])
    results = pd.read_csv(run / "results.csv")
    shown = results[(results["domain"] == "SR@A") & (results["measure"] == "dice")].set_index(["strategy", "selection"])
    dice = records[(records["measure"] == "dice") & (records["domain"] == "SR@A") & (records["split"] == "test")]
    for name in ("source_only", "dann"):
        mine = dice[dice["strategy"] == name]
        for rule, checkpoint in (("source_validation", REFIT), ("before_refit", "best"), ("last", "last")):
            value = mine.loc[mine["checkpoint"] == checkpoint, "value"].mean()
            assert shown.loc[(name, rule), "mean"] == pytest.approx(value, abs=1e-6)
    regret = table(run, "threshold_regret.csv")
    assert set(regret["job"]) == set(refits["job"]), "the first trainings are not reported"
    choice = choose_job(run)
    assert choice.folder.name in set(refits["job"]) and choice.checkpoint == "best"
    assert any("made again from all source patients" in reason for reason in choice.reasons)
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    row = page[page.index("Refitted on all source patients") :][:200]
    assert "yes" in row and "protocol.refit=true" not in page
    first = refits[(refits["strategy"] == "source_only")].sort_values("seed").iloc[0]
    card = (run / "report" / "model_cards" / "source_only.md").read_text(encoding="utf-8")
    assert first["job"] in card and f"job `{first['repeats']}` chose" in card
    assert not (run / "jobs" / first["job"] / "unsupervised.csv").exists()


def test_a_second_call_trains_nothing_and_a_lost_refit_alone_is_made_again(runs):
    study, run = runs
    before = files_of(run)
    run_study(study, run, overrides=ASKED, until="evaluate")
    assert files_of(run) == before
    lost = run / "jobs" / table(run, "refits.csv")["job"].iloc[0]
    weights = (lost / "model.safetensors").read_bytes()
    for path in (lost / "result.json", lost / "done", lost / "model.safetensors"):
        path.unlink()
    run_study(study, run, overrides=ASKED, until="evaluate")
    assert (lost / "model.safetensors").read_bytes() == weights
    changed = {path.parent for path, time in files_of(run).items() if before.get(path) != time}
    assert {path for path in changed if path.parent == run / "jobs"} == {lost}


def test_a_strategy_that_is_no_longer_asked_for_keeps_its_refits(runs):
    study, run = runs
    before, results = files_of(run), (run / "results.csv").read_text()
    run_study(study, run, overrides=[*ASKED[:3], "strategies=[source_only]", ASKED[-1]], until="evaluate")
    assert files_of(run) == before and len(table(run, "refits.csv")) == 4 and table(run, "exclusions.csv").empty
    assert (run / "results.csv").read_text() == results


def test_without_the_option_the_first_trainings_are_reported_again(runs):
    study, run = runs
    before, refits = files_of(run), table(run, "refits.csv")
    run_study(study, run, overrides=ONE)
    assert files_of(run) == before and not (run / "refits.csv").is_file()
    records = pd.read_parquet(run / "records.parquet")
    assert not set(records["job"]) & set(refits["job"]) and set(records["checkpoint"]) == {"best", "last"}
    excluded = table(run, "exclusions.csv").set_index("job")
    assert set(excluded.index) == set(refits["job"])
    for row in refits.itertuples():
        assert f"it makes training {row.repeats} again from all source patients" in excluded.loc[row.job, "why"]
        assert "other patches" not in excluded.loc[row.job, "why"]
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    assert "1 of 3 source patients served validation only" in page and "protocol.refit=true" in page
    choice = choose_job(run)
    assert choice.folder.name not in set(refits["job"])
    notes = plan_study(load_study(study, ONE), run).notes
    assert any("protocol.refit" in note for note in notes)
    assert not any("protocol.refit" in note for note in plan_study(load_study(study, ASKED), run).notes)
    assert json.loads((run / "jobs" / refits["job"].iloc[0] / "result.json").read_text())["score"] is None


def test_rotations_make_their_own_and_trainings_without_a_patient_stay_beside_the_first(runs, tmp_path):
    study, _ = runs
    asked = [
        "workers=1", "search.trials=1", "protocol.seeds=1", "strategies=[source_only]", "protocol.refit=true",
        "protocol.leave_one_patient_out=true", "protocol.scheme=all_pairs", "protocol.sources=[PAS@A, SR@A]",
    ]  # fmt: skip
    run = run_study(study, tmp_path / "run", overrides=asked, until="evaluate")
    status = read_status(run)
    assert status.waiting == 0 and status.counts["done"] == 2 * (1 + 1 + 2)
    matrix = pd.read_csv(run / "matrix.csv").set_index(["rotation", "target"])["mean"]
    for name, target in (("PAS@A", "SR@A"), ("SR@A", "PAS@A")):
        folder = run / "rotations" / name
        refits, left = table(folder, "refits.csv"), table(folder, "left_out.csv")
        records = pd.read_parquet(folder / "records.parquet")
        rows = records[(records["domain"] == target) & (records["measure"] == "dice")]
        means = rows.groupby("checkpoint")["value"].mean()
        found = pd.read_csv(folder / "leave_one_out.csv").fillna({"without": ""})
        whole = found[(found["without"] == "") & (found["domain"] == "all targets")]["dice"].item()
        assert whole == pytest.approx(means["best"], abs=1e-6) and len(left) == 2
        assert not {Job.load(folder / "jobs" / job).repeats for job in left["job"]} - {""}
        assert matrix[name, target] == pytest.approx(means[REFIT], abs=1e-6) and set(refits["state"]) == {"complete"}
