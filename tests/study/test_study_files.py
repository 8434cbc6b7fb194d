"""Every study file is loaded and planned as far as it can be without pixels; every small one is run for two steps."""

from pathlib import Path

import pandas as pd
import pytest

from stainda.config import load_study
from stainda.models import check_model
from stainda.strategies import build, check
from stainda.study import run_study
from stainda.study.budget import budgets
from stainda.study.checks import plan_rotations

STUDIES = Path(__file__).parents[2] / "studies"
FILES = sorted(path.relative_to(STUDIES).as_posix() for path in STUDIES.rglob("*.yaml"))
SMALL = [name for name in FILES if name.startswith("small/") and "monuseg" not in name and "slides" not in name]


@pytest.mark.parametrize("name", FILES)
def test_every_study_file_is_sound(name):
    study = load_study(STUDIES / name)
    for model, _ in study.networks():
        check_model(model.model_copy(update={"weights": None}))  # which are not shipped
    for strategy in study.strategies:
        check(build(strategy), study)
    costs = budgets(study)
    budgets_of_all = {(cost.trials, cost.seeds, cost.steps, cost.labelled) for cost in costs}
    assert len(budgets_of_all) == bool(study.strategies), "one budget for all"
    if study.phantom is not None:
        study = study.model_copy(update={"starts": {}})  # runs of other studies
        found = plan_rotations(study, Path("a phantom that is not made yet") / "manifest.csv")
        turns = study.phantom.centres if study.protocol.leave_out == ("*",) else study.protocol.leave_out
        assert len(found) == (len(turns) if study.protocol.scheme == "leave_one_centre_out" else 1)


def test_the_large_comparison_asks_what_the_issue_asks():
    study = load_study(STUDIES / "phantom_strategies.yaml")
    assert study.phantom is not None
    assert len(study.phantom.stains) >= 4 and len(study.phantom.centres) >= 2 and study.phantom.patients >= 6
    assert study.protocol.seeds >= 3 and len(study.strategies) >= 40


def _run(name, folder, *more):
    short = ["training.epochs=1", "training.steps_per_epoch=2", "search.trials=1", "protocol.seeds=1", "workers=1"]
    return run_study(STUDIES / name, folder / "run", overrides=[*short, "registration.method=identity", *more])


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_small_studies_run_for_two_steps(name, tmp_path):
    study = load_study(STUDIES / name)
    first = [strategy.name for strategy in study.strategies][:2]
    short = ["phantom.size=768", "evaluation.resamples=100"]
    for start, given in study.starts.items():
        other = _run(f"small/{given.run.name.removesuffix('_small')}.yaml", tmp_path / start, *short)
        short.append(f"starts.{start}.run={other}")
    run = _run(name, tmp_path, *short)
    trials = pd.read_csv(run / "trials.csv")
    assert (trials["state"] == "complete").all(), trials["reason"].dropna().tolist()
    assert set(first) <= set(trials["strategy"]) and (run / "report" / "index.html").is_file()


@pytest.mark.slow
def test_the_small_study_of_slides_runs_to_its_page(tmp_path):
    run = run_study(
        STUDIES / "small/slides.yaml", tmp_path / "run", overrides=["workers=1", "evaluation.resamples=200"]
    )
    summary = pd.read_csv(run / "slide_level" / "summary.csv")
    assert set(summary["aggregator"]) == {"mean", "svm", "fisher", "attention", "clam", "transmil"} and "PAS@B" in set(
        summary["domain"]
    )
    assert summary.loc[summary["domain"] == "PAS@B", "mean"].notna().all()
    assert "AUROC of chronic in PAS@B" in (run / "report" / "answer.txt").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["monuseg_networks", "monuseg_instances"])
def test_nuclei_of_real_images(name, real_data, tmp_path):
    from stainda.datasets import make_public_manifest

    make_public_manifest("monuseg", real_data / "nuclei_monuseg_test14", tmp_path / "cohort")
    first = load_study(STUDIES / f"small/{name}.yaml").strategies[:2]
    run = _run(
        f"small/{name}.yaml", tmp_path, f"manifest={tmp_path / 'cohort' / 'manifest.csv'}", "evaluation.resamples=100"
    )
    records = pd.read_parquet(run / "records.parquet")
    tested = records[records["split"] == "test"]
    assert {strategy.name for strategy in first} <= set(tested["strategy"]) and tested["patient"].nunique() == 14
    assert (run / "report" / "index.html").is_file()


@pytest.mark.slow
def test_nuclei_across_sites(real_data, tmp_path):
    from stainda.datasets import make_public_manifest

    made = make_public_manifest("monuseg", real_data / "nuclei_monuseg_test14", tmp_path / "cohort")
    run = _run(
        "small/monuseg_sites.yaml", tmp_path, f"manifest={tmp_path / 'cohort' / 'manifest.csv'}",
        "protocol.leave_out=[A6]", "strategies=[source_only, hed_augmentation]",
    )  # fmt: skip
    assert made is not None
    rotations = pd.read_csv(run / "rotations.csv")
    assert rotations["rotation"].tolist() == ["without_A6"] and rotations["test"].str.contains("A6").all()
    records = pd.read_parquet(run / "records.parquet")
    assert set(records.loc[records["split"] == "test", "centre"]) == {"A6"}
