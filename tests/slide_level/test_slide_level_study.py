"""A study of labels of slides from its file to its page; no label of a target teaches; what is there is kept."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from small_cohorts import QUICK_STUDY, make_blob_cohort, write_study

from stainda.config import load_study
from stainda.errors import ConfigError, LeakError, StaindaError
from stainda.study import run_study
from stainda.study.plan import plan_study
from stainda.study.reproducing import compare_records, reproduce

pytest.importorskip("torchmil", reason="the extra 'bags'")

SPLITS = ("train", "train", "val", "test", "test")


@pytest.fixture(scope="module")
def run(discs):
    return run_study(discs, discs.parent / "run", overrides=["workers=1"])


def _rotation(run):
    return run / "rotations" / "without_B" / "slide_level"


def test_every_test_slide_of_the_other_centre_is_scored_by_every_training(run):
    scores = pd.read_csv(run / "slide_level" / "scores.csv")
    tested = scores[scores["split"] == "test"]
    assert set(tested["domain"]) == {"PAS@B"} and (tested["rotation"] == "without_B").all()
    assert tested.groupby(["aggregator", "seed"])["slide"].nunique().tolist() == [10] * 4
    assert tested["positive"].equals(tested["label"] == "bad") and tested["probability"].between(0, 1).all()


def test_the_summary_is_the_score_of_the_probabilities(run):
    from sklearn.metrics import roc_auc_score

    scores = pd.read_csv(run / "slide_level" / "scores.csv")
    summary = pd.read_csv(run / "slide_level" / "summary.csv")
    tested = scores[scores["split"] == "test"]
    for name, rows in tested.groupby("aggregator"):
        each = [roc_auc_score(one["positive"], one["log_odds"]) for _, one in rows.groupby("seed")]
        row = summary[(summary["aggregator"] == name) & (summary["measure"] == "auroc")].iloc[0]
        assert row["mean"] == pytest.approx(np.mean(each), abs=1e-4)
        assert (row["positive"], row["negative"]) == (5, 5)
        assert np.isnan(row["low"]) and np.isnan(row["high"]) and "from 6 of each on" in row["note"]


def test_the_page_answers_and_shows_figures_and_methods(run):
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    assert "AUROC of bad in PAS@B (5 patients with it, 5 without; no intervals: too few patients" in page
    assert "Labels of whole slides" in page and "The encoder has random weights" in page
    assert "gated" in page and "Ilse et al. 2018" in page
    for name in ("slide_level_auroc", "slide_level_slides"):
        assert (run / "report" / "figures" / f"{name}.csv").is_file()
    assert "strategies" not in (run / "report" / "answer.txt").read_text(encoding="utf-8")


def test_a_study_of_slides_alone_is_reproduced_by_its_scores(run, tmp_path):
    made = reproduce(run, tmp_path / "again")
    scored = [comparison for comparison in made.comparisons if comparison.table.endswith("slide_level/scores.csv")]
    assert made.is_same and scored == list(made.comparisons) and min(comparison.rows for comparison in scored) > 0
    path = tmp_path / "again" / "slide_level" / "scores.csv"
    scores = pd.read_csv(path)
    scores.loc[3, "log_odds"] += 0.25
    scores.to_csv(path, index=False)
    changed = compare_records(run, tmp_path / "again", path.relative_to(tmp_path / "again"))
    assert (changed.changed, changed.missing) == (1, 0) and changed.largest == pytest.approx(0.25)


def test_attention_lies_on_the_slide(run):
    path = run / "rotations" / "without_B" / "slide_level" / "attention" / "S11_attention.geojson"
    features = json.loads(path.read_text(encoding="utf-8"))
    features = features["features"] if isinstance(features, dict) else features
    attention = [feature["properties"]["measurements"]["attention"] for feature in features]
    assert sum(attention) == pytest.approx(1, abs=1e-2)
    xy = np.array([feature["geometry"]["coordinates"][0] for feature in features])
    assert xy.min() >= 0 and xy.max() <= 256 and set(np.ptp(xy[..., 0], axis=1)) == {32.0}
    assert not list(path.parent.glob("*_mean*")), "the mean gives no patch more than another"
    assert not list(path.parent.glob("*.tiff")), "these slides have no pixel size"


def test_labels_of_targets_teach_nothing(run, discs, tmp_path):
    """With all labels of the target centre turned round every training gives the same answers."""
    folder = tmp_path / "turned"
    shutil.copytree(discs.parent, folder, ignore=shutil.ignore_patterns("run"))
    table = pd.read_csv(folder / "manifest.csv")
    other = table["centre"] == "B"
    table.loc[other, "verdict"] = table.loc[other, "verdict"].map({"bad": "good", "good": "bad"})
    table.to_csv(folder / "manifest.csv", index=False)
    turned = run_study(folder / "study.yaml", tmp_path / "run", overrides=["workers=1"], until="train")
    first, second = (
        pd.read_csv(root / "slide_level" / "scores.csv").sort_values(["aggregator", "seed", "slide"])
        for root in (run, turned)
    )
    assert first["log_odds"].tolist() == second["log_odds"].tolist()
    assert first["threshold"].tolist() == second["threshold"].tolist()
    before, after = (pd.read_csv(root / "slide_level" / "summary.csv") for root in (run, turned))
    of = [table[table["measure"] == "auroc"].set_index("aggregator")["mean"] for table in (before, after)]
    assert (of[0] + of[1]).round(3).eq(1).all(), "and the scores are those of the turned labels"


def test_a_label_of_a_target_is_refused_where_it_is_asked_for(discs):
    from stainda.cohort import read_manifest, rotations
    from stainda.slide_level.labels import teaching_labels

    config = load_study(discs)
    (rotation,) = rotations(read_manifest(config.manifest), config.protocol, 1, lambda section: True)
    labels = teaching_labels(rotation.cohort, rotation.roles, config.slide_level)
    assert labels.of("S1") is True and labels.of("S6") is False
    with pytest.raises(LeakError, match="S11"):
        labels.of("S11")


def test_a_second_call_computes_nothing_and_another_aggregator_reads_the_same_features(run, discs, monkeypatch):
    from stainda.training import frozen_encoder

    before = {path: path.stat().st_mtime_ns for path in _rotation(run).rglob("*") if path.is_file()}
    run_study(discs, run, overrides=["workers=1"], until="train")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    calls = []
    monkeypatch.setattr(frozen_encoder.FrozenEncoder, "vectors", lambda *_: calls.append(1))
    more = discs.parent / "more"
    shutil.copytree(run, more)
    run_study(discs, more, overrides=["workers=1", "slide_level.aggregators=[mean,max]"], until="train")
    assert not calls, "nothing is encoded again"
    trainings = pd.read_csv(more / "slide_level" / "trainings.csv")
    assert set(trainings["aggregator"]) == {"mean", "max"}
    kept = pd.read_csv(run / "slide_level" / "trainings.csv").query("aggregator == 'mean'")["folder"]
    assert set(kept) <= set(trainings["folder"]), "the trainings of the mean are those of before"


WRONG = [
    (["slide_level.label=verdikt"], "no column 'verdikt'.*\n?.*verdict"),
    (["slide_level.positive=[baad]"], "no slide has 'baad'.*\n?.*bad"),
    (["slide_level.aggregators=[mean,mean]"], "names one twice"),
    (["slide_level.training.standardise=domain"], "visible is nothing"),
]


@pytest.mark.parametrize(("changes", "said"), WRONG, ids=lambda value: str(value)[:30])
def test_what_cannot_be_learned_is_refused(discs, tmp_path, changes, said):
    with pytest.raises(StaindaError, match=said):
        run_study(discs, tmp_path / "run", overrides=["workers=1", *changes], until="train")


def test_a_patient_with_two_labels_is_refused_where_patients_are_scored(discs, tmp_path):
    shutil.copytree(discs.parent, tmp_path / "two", ignore=shutil.ignore_patterns("run", "more"))
    path = tmp_path / "two" / "manifest.csv"
    table = pd.read_csv(path)
    table.loc[1, ["patient", "block", "section"]] = ["P0", "B0", 2]
    table.to_csv(path, index=False)
    study = tmp_path / "two" / "study.yaml"
    with pytest.raises(ConfigError, match="patient 'P0' has label 'bad', but in row 2 'good'"):
        plan_study(load_study(study))
    assert plan_study(load_study(study, ["slide_level.unit=slide"])).slides == {"without_B": 10}


def test_a_plan_says_how_many_trainings_there_will_be(discs):
    result = plan_study(load_study(discs))
    assert "4 trainings in all" in result.recipe and result.slides == {"without_B": 10}


def test_a_study_needs_strategies_or_labels_of_slides(discs):
    with pytest.raises(ConfigError, match="nothing would be compared"):
        load_study(discs, ["slide_level=null", "patches.downsample=1"])


@pytest.mark.slow
def test_a_study_may_have_strategies_and_labels_of_slides(tmp_path):
    """One section per stain; the labels of patients are learned in PAS and scored in Sirius red, next to a strategy."""
    manifest = make_blob_cohort(tmp_path / "cohort")
    table = pd.read_csv(manifest)
    table["split"] = table["patient"].map(dict(zip(["P0", "P1", "P2", "P3", "P4"], SPLITS, strict=True)))
    table["verdict"] = table["patient"].map({"P0": "bad", "P1": "good", "P2": "bad", "P3": "bad", "P4": "good"})
    table.to_csv(manifest, index=False)
    slides = (
        "slide_level: {label: verdict, positive: [bad], encoder: {name: cnn, params: {depth: 2, width: 4}}, "
        "patches: {size: 32, mpp: 4.0}, aggregators: [mean], training: {epochs: 2, hidden: 4}}\n"
    )
    text = "study: both\n" + QUICK_STUDY + slides.replace("{", "{{").replace("}", "}}") + "strategies: [source_only]\n"
    root = run_study(write_study(manifest, tmp_path / "study.yaml", text), tmp_path / "run", overrides=["workers=1"])
    assert (root / "records.parquet").is_file() and (root / "results.csv").is_file()
    scores = pd.read_csv(root / "slide_level" / "scores.csv")
    assert set(scores.loc[scores["split"] == "test", "slide"]) >= {"P3_SR", "P4_SR"}
    left_out = pd.read_csv(root / "slide_level" / "left_out.csv").set_index("slide")["reason"]
    assert left_out["P0_SR"] == "of a target, and its patient is not tested"
    page = (root / "report" / "index.html").read_text(encoding="utf-8")
    assert "Labels of whole slides" in page and "Strategy by domain" in page


@pytest.mark.slow
def test_a_cluster_encodes_what_one_process_does(run, discs, tmp_path):
    pytest.importorskip("distributed")
    out = run_study(discs, tmp_path / "run", overrides=["workers=2", "engine=dask"], until="train")
    table = "rotations/without_B/slide_level/scores.csv"
    assert (out / table).read_bytes() == (run / table).read_bytes()
