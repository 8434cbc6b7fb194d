"""Trainings without one of the patients who teach."""

import json

import numpy as np
import pandas as pd
import pytest
from declared_files import faults_of_run
from small_cohorts import write_study

from stainda.cohort import Roles
from stainda.errors import ConfigError, LeakError
from stainda.evaluation.left_out import leave_one_out
from stainda.evaluation.records import RECORD_COLUMNS
from stainda.patches import PatchStore, TrainingData
from stainda.study import run_study
from stainda.study.status import read_status

ONE = ["workers=1", "search.trials=1", "protocol.seeds=1", "strategies=[source_only, dann]"]
ASKED = [*ONE, "protocol.leave_one_patient_out=true"]


@pytest.fixture(scope="module")
def runs(blob_manifest, tmp_path_factory):
    folder = tmp_path_factory.mktemp("left_out")
    study = write_study(blob_manifest, folder / "blobs.yaml")
    return study, run_study(study, folder / "run", overrides=ASKED)


def test_the_baseline_is_trained_again_without_each_source_patient(runs):
    _study, run = runs
    cohort = pd.read_csv(run / "cohort.csv")
    taught = set(cohort.loc[(cohort["split"] == "train") & (cohort["role"] == "source"), "patient"])
    left = pd.read_csv(run / "left_out.csv")
    assert set(left["without"]) == taught and len(taught) > 1 and set(left["strategy"]) == {"source_only"}
    assert (left["state"] == "complete").all()
    trials = pd.read_csv(run / "trials.csv")
    assert not set(left["job"]) & set(trials["job"]) and "without" not in trials
    patches = {
        row.without: json.loads((run / "jobs" / row.job / "result.json").read_text())["patches"]["labelled"]
        for row in left.itertuples()
    }
    whole = trials.loc[trials["strategy"] == "source_only", "job"].item()
    every = json.loads((run / "jobs" / whole / "result.json").read_text())["patches"]["labelled"]
    assert sum(every - number for number in patches.values()) == every, "each patient's own patches are gone once"
    records = pd.read_parquet(run / "records.parquet")
    assert not set(records["job"]) & set(left["job"]), "no result is made of them"
    found = pd.read_csv(run / "leave_one_out.csv").fillna({"without": ""})
    overall = found[found["domain"] == "all targets"].set_index("without")
    assert set(overall.index) == {"", *taught}
    assert overall["difference"].to_numpy() == pytest.approx(
        (overall["dice"] - overall.loc["", "dice"]).to_numpy(), abs=2e-6
    )
    budget = pd.read_csv(run / "budget.csv").set_index("strategy")["jobs"]
    assert budget["source_only"] == 1 + len(taught) and budget["dann"] == 1
    assert read_status(run).waiting == 0
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    assert "How the result depends on who taught" in page
    excluded = pd.read_csv(run / "exclusions.csv")
    assert excluded.empty and not any(job in page for job in left["job"]), "they are no forgotten trainings"


def test_a_study_that_leaves_patients_out_writes_what_is_declared(runs):
    assert faults_of_run(runs[1]) == [] and (runs[1] / "leave_one_out.csv").is_file()


def test_a_second_call_trains_nothing_and_without_the_option_the_page_says_what_is_missing(runs):
    study, run = runs
    before = {path: path.stat().st_mtime_ns for path in (run / "jobs").rglob("*") if path.is_file()}
    run_study(study, run, overrides=ASKED, until="evaluate")
    assert {path: path.stat().st_mtime_ns for path in (run / "jobs").rglob("*") if path.is_file()} == before
    run_study(study, run, overrides=ONE)
    assert not (run / "left_out.csv").is_file() and not (run / "leave_one_out.csv").is_file()
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    assert "How the result depends on who taught" not in page and "protocol.leave_one_patient_out=true" in page


def test_nothing_of_the_patient_can_be_seen(runs):
    _, run = runs
    store = PatchStore.open(run / "patches")
    cohort = pd.read_csv(run / "cohort.csv")
    roles = Roles(
        tuple(cohort.loc[cohort["role"] == "source", "domain"].unique()),
        tuple(cohort.loc[cohort["role"] == "target", "domain"].unique()), ("stain", "centre"), "targets",
    )  # fmt: skip
    patient = cohort.loc[(cohort["split"] == "train") & (cohort["role"] == "source"), "patient"].iloc[0]
    data = TrainingData(store, roles, labels="all", without=patient)
    gone = np.flatnonzero(store.table["patient"] == patient)
    seen = np.concatenate([data.labelled(), data.unlabelled(), data.source_unlabelled()])
    assert len(gone) and not set(gone) & set(seen)
    assert not {slide for slide in data.tissue_pixels if slide in set(store.table["slide"].iloc[gone])}
    with pytest.raises(LeakError, match="left out"):
        data.images(gone[:1])
    assert data.key != TrainingData(store, roles, labels="all").key


def test_an_unknown_strategy_is_named_before_anything_is_made(runs, tmp_path):
    study, _ = runs
    with pytest.raises(ConfigError, match="leave_one_patient_out: no strategy 'sauce_only'"):
        run_study(study, tmp_path / "run", overrides=[*ONE, "protocol.leave_one_patient_out=[sauce_only]"])


def test_differences_are_to_the_training_of_the_same_seed():
    def rows(seed: int, **values: tuple[int, int, int]) -> pd.DataFrame:
        made = [
            {**dict.fromkeys(RECORD_COLUMNS, ""), "strategy": "plain", "seed": seed, "checkpoint": "best",
             "domain": "B", "patient": patient, "slide": patient, "split": "test", "class": "g",
             "measure": "dice", "value": 0.0, "tp": tp, "fp": fp, "fn": fn}
            for patient, (tp, fp, fn) in values.items()
        ]  # fmt: skip
        return pd.DataFrame(made)

    whole = pd.concat([rows(1, p=(1, 0, 0), q=(1, 1, 1)), rows(2, p=(1, 1, 1), q=(1, 1, 1))])
    found = leave_one_out(whole, rows(1, p=(1, 1, 1), q=(0, 1, 1)).assign(without="X"), {"B"}, 1)
    overall = found[found["domain"] == "all targets"].set_index(["without", "seed"])
    assert overall.loc[("", 1), "dice"] == 0.75 and overall.loc[("", 2), "dice"] == 0.5
    assert overall.loc[("X", 1), "dice"] == 0.25 and overall.loc[("X", 1), "difference"] == -0.5


def test_differences_are_over_the_domains_that_both_trainings_have():
    """A section without objects, on which one training alone found something, once cost all of its Dice."""

    def rows(false: int) -> pd.DataFrame:
        made = [
            {**dict.fromkeys(RECORD_COLUMNS, ""), "strategy": "plain", "seed": 1, "checkpoint": "best",
             "domain": domain, "patient": patient, "slide": patient + domain, "split": "test", "class": "g",
             "measure": "dice", "value": np.nan, "tp": tp, "fp": fp, "fn": fn}
            for patient in ("p", "q") for domain, (tp, fp, fn) in {"B": (8, 2, 2), "C": (0, false, 0)}.items()
        ]  # fmt: skip
        return pd.DataFrame(made)

    found = leave_one_out(rows(0), rows(3).assign(without="X"), {"B", "C"}, 1).set_index(["without", "domain"])
    assert found.loc[("X", "all targets"), "dice"] == pytest.approx(0.4)
    assert found.loc[("X", "all targets"), "difference"] == found.loc[("X", "B"), "difference"] == 0
    assert np.isnan(found.loc[("X", "C"), "difference"]) and found.loc[("X", "C"), "dice"] == 0
