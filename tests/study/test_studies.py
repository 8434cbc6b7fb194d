"""Every study file runs from end to end, for a step or two; the numbers come from the records."""

from pathlib import Path

import pandas as pd
import pytest
from small_cohorts import write_study

from stainda.errors import StaindaError
from stainda.study import run_study
from stainda.study.predicting import predict_slides
from stainda.study.steps import report_run

ROOT = Path(__file__).parents[2]
SHORT = ["training.epochs=1", "training.steps_per_epoch=2", "search.trials=1", "protocol.seeds=1", "workers=1"]
TABLES = (
    "cohort.csv", "registration/quality.csv", "annotations/propagation.csv", "annotations/agreement.csv", "trials.csv",
    "records.parquet", "results.csv", "stages.csv", "environment.json", "study.yaml", "report/index.html",
)  # fmt: skip


def test_the_synthetic_study(tmp_path):
    run = run_study(
        ROOT / "studies" / "quickstart.yaml",
        tmp_path / "run",
        overrides=[*SHORT, "phantom.patients=6", "phantom.size=768", "phantom.stains=[PAS, SR]", "phantom.centres=[A]",
                   "registration.method=identity", "strategies=[source_only, dann, oracle]"],
    )  # fmt: skip
    assert [name for name in TABLES if not (run / name).is_file()] == []
    trials = pd.read_csv(run / "trials.csv")
    assert set(trials["strategy"]) == {"source_only", "dann", "oracle"} and (trials["state"] == "complete").all()


@pytest.mark.valis
def test_the_real_sections(real_data, tmp_path):
    run = run_study(
        ROOT / "studies" / "rat_kidney.yaml",
        tmp_path / "run",
        overrides=[*SHORT, "strategies=[source_only, propagated_labels]"],
        data=real_data,
    )
    assert [name for name in TABLES if not (run / name).is_file()] == []
    quality = pd.read_csv(run / "registration" / "quality.csv")
    assert quality["status"].tolist() == ["registered"]
    assert quality["tre_nonrigid_px"].item() <= 4.5 < quality["tre_before_px"].item()
    agreement = pd.read_csv(run / "annotations" / "agreement.csv")
    assert agreement.loc[agreement["class"] == "papilla", "dice"].item() >= 0.95
    assert (agreement["class"] == "vessel_lumen").sum() == 5
    results = pd.read_csv(run / "results.csv")
    assert (results["n_patients"] == 1).all() and results["low"].isna().all(), "one patient has no interval"
    assert "one patient" in (run / "report" / "index.html").read_text(encoding="utf-8").lower()


@pytest.fixture(scope="module")
def blob_run(blob_manifest, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return run_study(write_study(blob_manifest, folder / "blobs.yaml"), folder / "run", overrides=["workers=1"])


def test_what_lies_beside_the_records(blob_run):
    looks = pd.read_csv(blob_run / "unsupervised.csv")
    trials = pd.read_csv(blob_run / "trials.csv")
    assert len(looks) == 2 * len(trials), "both checkpoints of every training"
    assert looks[["entropy", "information", "clusters", "mmd", "deep_embedded"]].notna().all(axis=None)
    gaps = pd.read_csv(blob_run / "domain_gap.csv")
    assert (gaps["optical_density_distance"] > 0.01).all() and gaps["proxy_a_distance"].between(0, 2).all()
    objects = pd.read_parquet(blob_run / "objects.parquet")
    records = pd.read_parquet(blob_run / "records.parquet")
    counted = records[(records["measure"] == "object_f1") & (records["checkpoint"] == "best")]
    found = (objects["kind"] == "hit").sum()
    assert counted["tp"].sum() == found > 0
    pixels = pd.read_parquet(blob_run / "probabilities.parquet")
    counted_pixels = pixels[["positive", "negative", "own", "other"]].sum(axis=1)
    assert (counted_pixels > 0).all() and set(pixels["slide"]) == set(counted["slide"])


def test_a_second_call_does_nothing_again(blob_manifest, blob_run):
    before = {path: path.stat().st_mtime_ns for path in (blob_run / "jobs").rglob("*") if path.is_file()}
    run_study(write_study(blob_manifest, blob_run.parent / "blobs.yaml"), blob_run, overrides=["workers=1"])
    assert {path: path.stat().st_mtime_ns for path in (blob_run / "jobs").rglob("*") if path.is_file()} == before


def test_every_strategy_had_the_same_budget(blob_run):
    trials = pd.read_csv(blob_run / "trials.csv")
    budget = trials.groupby("strategy").agg(
        trials=("trial", "nunique"), seeds=("seed", "nunique"), runs=("job", "size")
    )
    assert (budget == (2, 2, 3)).all(axis=None), budget
    steps = {pd.read_json(blob_run / "jobs" / job / "result.json", typ="series")["steps"] for job in trials["job"]}
    assert steps == {8}


def test_the_default_setting_is_tried_first(blob_run):
    trials = pd.read_csv(blob_run / "trials.csv")
    first = trials[(trials["trial"] == 0) & (trials["strategy"] == "source_only")]
    assert '"training.learning_rate": 0.005' in first["params"].iloc[0]


def test_results_are_made_from_the_records_alone(blob_run):
    before = (blob_run / "results.csv").read_bytes()
    (blob_run / "results.csv").unlink()
    assert report_run(blob_run).is_file()
    assert (blob_run / "results.csv").read_bytes() == before


def test_records_keep_the_counts(blob_run):
    records = pd.read_parquet(blob_run / "records.parquet")
    dice = records[records["measure"] == "dice"].dropna(subset=["value"])
    assert len(dice)
    pd.testing.assert_series_equal(
        dice["value"], 2 * dice["tp"] / (2 * dice["tp"] + dice["fp"] + dice["fn"]), check_names=False
    )
    assert set(records["split"]) == {"val", "test"}
    assert set(records.loc[records["split"] == "val", "domain"]) == {"PAS@A"}, "only the source is validated on"


def test_a_trained_job_finds_objects_on_a_slide(blob_manifest, blob_run, tmp_path):
    trials = pd.read_csv(blob_run / "trials.csv")
    job = blob_run / "jobs" / trials.loc[trials["strategy"] == "oracle", "job"].iloc[0]
    slide = blob_manifest.parent / "P0_PAS.png"
    # eight steps teach little: with next to no threshold all of the tissue is found, whatever was learned
    [found] = predict_slides(job, [slide], tmp_path, mpp=2.0, threshold=1e-6).results
    assert found.slide == "P0_PAS" and found.row["tissue_area_mm2"] == pytest.approx(4 * 344**2 / 1e6, rel=0.05)
    from stainda.annotations import read_shapes

    shapes = read_shapes(found.geojson)
    assert (shapes["class"] == "glomerulus").all()
    assert len(shapes) == found.n_objects > 0 and shapes.geometry.is_valid.all()
    assert (shapes.total_bounds >= 0).all() and (shapes.total_bounds <= 384).all(), "level-0 pixels of the slide"
    assert shapes.area.sum() > 0.5 * 340**2, "the tissue is 344 pixels wide"


def test_target_annotations_change_nothing_but_scores_and_the_ceiling(blob_manifest, blob_run, tmp_path):
    """No leak: with other annotations on every target slide, all but the oracle train to the same bytes."""
    import json
    import shutil

    other = tmp_path / "cohort"
    shutil.copytree(blob_manifest.parent, other)
    for path in other.glob("*_SR.geojson"):
        document = json.loads(path.read_text())
        document["features"] = document["features"][:1]
        path.write_text(json.dumps(document))
    study = write_study(other / "manifest.csv", tmp_path / "blobs.yaml")
    run = run_study(study, tmp_path / "run", overrides=["workers=1"], until="train")
    before, after = (
        pd.read_csv(one / "trials.csv").set_index(["strategy", "trial", "seed"]) for one in (blob_run, run)
    )
    for key in before.index:
        weights = [one.loc[key, "job"] for one in (before, after)]
        same = (blob_run / "jobs" / weights[0] / "model.safetensors").read_bytes() == (
            run / "jobs" / weights[1] / "model.safetensors"
        ).read_bytes()
        assert same == (key[0] != "oracle"), key


def test_edited_annotations_of_test_slides_are_scored_anew_without_training(blob_manifest, tmp_path):
    import json
    import shutil

    cohort = tmp_path / "cohort"
    shutil.copytree(blob_manifest.parent, cohort)
    study = write_study(cohort / "manifest.csv", tmp_path / "blobs.yaml")
    short = ["strategies=[source_only]", "ceiling=source_only", *SHORT]
    run = run_study(study, tmp_path / "run", overrides=short, until="evaluate")
    [weights] = (run / "jobs").glob("*/model.safetensors")
    trained, before = weights.stat().st_mtime_ns, pd.read_parquet(run / "records.parquet")
    slides = set(before.loc[(before["split"] == "test") & (before["stain"] == "SR"), "slide"])
    for slide in slides:
        document = json.loads((cohort / f"{slide}.geojson").read_text())
        for feature in document["features"][1:]:
            feature["properties"]["classification"]["name"] = "Ignore*"
        (cohort / f"{slide}.geojson").write_text(json.dumps(document))
    run_study(study, tmp_path / "run", overrides=short, until="evaluate")
    after = pd.read_parquet(run / "records.parquet")
    assert weights.stat().st_mtime_ns == trained
    for table, objects in ((before, 4), (after, 1)):
        rows = table[(table["measure"] == "object_recall") & table["slide"].isin(slides)]
        assert len(rows) and (rows["tp"] + rows["fn"] == objects).all()
    found = [table.loc[(table["measure"] == "dice") & table["slide"].isin(slides)] for table in (before, after)]
    assert (found[0]["tp"] + found[0]["fp"]).sum() > (found[1]["tp"] + found[1]["fp"]).sum(), "ignored is not false"


def test_annotations_of_targets_cannot_be_propagated_into_training(blob_manifest, tmp_path):
    study = write_study(blob_manifest, tmp_path / "blobs.yaml")
    with pytest.raises(StaindaError, match="scoring and the ceiling only"):
        run_study(study, tmp_path / "run", overrides=["propagation.sources=[SR]"], until="cohort")


def test_propagated_shapes_are_found_whatever_the_slide_is_called(tmp_path):
    from types import SimpleNamespace

    from stainda.annotations import empty_shapes, write_geojson
    from stainda.cohort import Cohort, Section
    from stainda.config import PropagationConfig
    from stainda.registration.results import file_name
    from stainda.run_directory.folder import RunFolder
    from stainda.study.run import StudyRun

    run = StudyRun(SimpleNamespace(workers=1, propagation=PropagationConfig()), RunFolder(tmp_path))
    slide = "Schnitt (2), längs"
    run.__dict__["cohort"] = Cohort((Section(slide, "P", "B", 1, "SR", "A", tmp_path / "a.png"),))
    write_geojson(empty_shapes(), run.folder.propagated / f"{file_name(slide)}.geojson")
    write_geojson(empty_shapes(), run.folder.propagated / "gone.geojson")
    assert set(run.propagated_shapes) == {slide}
