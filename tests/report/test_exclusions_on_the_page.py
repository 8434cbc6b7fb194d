"""Nothing in jobs/ disappears from the page: pruned, excluded, interrupted and unknown trainings are rows."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import yaml
from make_run import make_run

from stainda.evaluation import analyse, one_rotation
from stainda.report.answer import answer
from stainda.report.data_tables import left_out
from stainda.report.loading import load_run
from stainda.report.study_view import make_view


@pytest.fixture
def run(tmp_path):
    return make_run(
        tmp_path / "run", test_patients=3, stains=("PAS", "SR"), strategies=("source_only", "dann", "oracle"), seeds=1,
        trials=2, registration=False, failed_job=False, evidence=False,
    )  # fmt: skip


def _rows(run):
    return left_out(load_run(run)).frame


def test_each_fate_of_a_training_is_a_row(run):
    trials = pd.read_csv(run / "trials.csv", dtype={"job": str})
    trials.loc[1, ["state", "value"]] = ["pruned", None]
    trials["stopped_step"] = [None, 40.0, *[None] * (len(trials) - 2)]
    trials.to_csv(run / "trials.csv", index=False)
    why = "protocol.targets was rest, is now SR@A"
    excluded = [
        {"strategy": "macenko", "trial": t, "seed": 1, "job": f"old{t}", "state": "complete", "why": why}
        for t in (0, 1)
    ]
    pd.DataFrame([*excluded, {**excluded[0], "job": trials["job"][0]}]).to_csv(run / "exclusions.csv", index=False)
    pd.DataFrame([{"rotation": "PAS@B", "state": "complete"}]).to_csv(run / "earlier_rotations.csv", index=False)
    for name, file in (("unknown", "done"), ("broken", "error.txt"), ("half", "training.csv")):
        (run / "jobs" / name).mkdir()
        (run / "jobs" / name / file).write_text("epoch,val_dice\n" if file == "training.csv" else "out of memory")
    rows = _rows(run).set_index("what")
    assert "after step 40" in rows.loc["Source only, trial 1, seed 0", "reason"]
    assert rows.loc["macenko, 2 trainings, trials 0, 1, seed 1", "reason"] == why
    assert "no longer does" in rows.loc["PAS@B", "reason"]
    assert rows.loc["job unknown", "status"] == "not reported" and "sorts it in" in rows.loc["job unknown", "reason"]
    assert rows.loc["job broken", "reason"] == "out of memory" and rows.loc["job half", "status"] == "unfinished"
    said = [one.text for one in answer(make_view(load_run(run)))]
    assert any(text.startswith("Trained here, but not reported: macenko") and why in text for text in said)


def test_alone_in_its_study_the_baseline_is_not_said_to_be_the_only_one_ever_trained(run):
    for name in ("trials.csv", "records.parquet"):
        path = run / name
        table = pd.read_csv(path, dtype={"job": str}) if name.endswith("csv") else pd.read_parquet(path)
        table = table[table["strategy"] == "source_only"]
        _ = table.to_csv(path, index=False) if name.endswith("csv") else table.to_parquet(path, index=False)
    text = (run / "study.yaml").read_text()

    study = yaml.safe_load(text)
    study["strategies"] = study["strategies"][:1]
    (run / "study.yaml").write_text(yaml.safe_dump(study))
    lost = [{"strategy": "dann", "trial": 0, "seed": 1, "job": "x", "state": "complete", "why": "other epochs"}]
    pd.DataFrame(lost).to_csv(run / "exclusions.csv", index=False)
    loaded = load_run(run)
    said = " ".join(one.text for one in answer(make_view(loaded)))
    assert "No other strategy was evaluated as this study asks" in said and "not comparable: dann" in said


def test_a_kept_strategy_that_learned_from_target_labels_is_no_contender(run):

    study = yaml.safe_load((run / "study.yaml").read_text())
    study["strategies"] = [one for one in study["strategies"] if one["name"] != "dann"]
    (run / "study.yaml").write_text(yaml.safe_dump(study))
    for path in (run / "jobs").glob("dann*/settings.json"):
        about = {"name": "dann", "title": "DANN", "labels": {"name": "few_shot", "params": {"k": 8}}}
        path.write_text(json.dumps({"strategy": about}))
    loaded = load_run(run)
    assert loaded.earlier == ("dann",) and loaded.label("dann") == "DANN"
    view = make_view(loaded)
    assert view.look.few == {"dann"} and view.best() == "source_only"
    found = analyse([one_rotation(loaded.records, loaded.study, loaded.trials)], loaded.study)
    assert found.results["strategy"].eq("dann").any()
