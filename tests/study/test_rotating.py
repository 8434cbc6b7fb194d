"""Studies of several rotations: who teaches and who is tested each time, what lies where, and what the tables say."""

import csv
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
from declared_files import faults_of_run
from small_cohorts import STUDY, make_blob_cohort, write_rows, write_study

from stainda.config import load_study
from stainda.errors import StaindaError
from stainda.run_directory.folder import RunFolder, read_study
from stainda.study import run_study
from stainda.study.plan import plan_study
from stainda.study.pooled_tables import write_pooled_tables
from stainda.study.rotating import rotation_seed, share
from stainda.study.run import StudyRun
from stainda.study.steps import report_run

SHORT = ["training.epochs=1", "training.steps_per_epoch=2", "search.trials=1", "protocol.seeds=1", "workers=1"]


@pytest.fixture(scope="module")
def two_centres(tmp_path_factory) -> Path:
    """Manifest of two centres of three patients, two stains each."""
    manifest = make_blob_cohort(tmp_path_factory.mktemp("two"), patients=6)
    rows = [{**row, "centre": "A" if row["patient"] < "P3" else "B"} for row in csv.DictReader(manifest.open())]
    return write_rows(rows, manifest)


def _study(manifest: Path, folder: Path, protocol: str, strategies: str = "[source_only, oracle]") -> Path:
    text = STUDY.replace(
        "protocol: {{sources: [PAS@A], seeds: 2, split: [0.4, 0.2, 0.4]}}",
        f"protocol: {{{{{protocol}, split: [0.34, 0.33, 0.33]}}}}",
    )
    text = text.replace("[source_only, adabn, dann, propagated_labels, oracle]", strategies)
    return write_study(manifest, folder / "turns.yaml", text)


@pytest.fixture(scope="module")
def pairs(two_centres, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    study = _study(two_centres, folder, "scheme: all_pairs, sources: [PAS@*]", "[source_only, propagated_labels]")
    return run_study(study, folder / "run", overrides=SHORT)


def test_rotations_have_seeds_of_their_own():
    """With shared seeds a lucky start counted in every rotation."""
    seeds = {(seed, name): rotation_seed(seed, name) for seed in (1, 2) for name in ("PAS@A", "PAS@B", "without_B")}
    assert len(set(seeds.values())) == 6 and seeds[1, "PAS@A"] == rotation_seed(1, "PAS@A")
    far = sorted(seeds.values())
    assert min(b - a for a, b in pairwise(far)) > 100, "further trainings count up from it"


def test_a_study_of_rotations_writes_what_is_declared(pairs):
    assert faults_of_run(pairs) == [] and (pairs / "rotations" / "PAS@B" / "trials.csv").is_file()


def test_every_rotation_is_a_run_of_its_own(pairs):
    seeds = [read_study(pairs / "rotations" / name).seed for name in ("PAS@A", "PAS@B")]
    assert seeds == [rotation_seed(read_study(pairs).seed, name) for name in ("PAS@A", "PAS@B")]
    table = pd.read_csv(pairs / "rotations.csv").set_index("rotation")
    assert list(table.index) == ["PAS@A", "PAS@B"] and (table["state"] == "complete").all()
    assert table.loc["PAS@B", "targets"] == "PAS@A; SR@A; SR@B"
    for folder in table["folder"]:
        for name in ("study.yaml", "cohort.csv", "trials.csv", "results.csv", "report/index.html"):
            assert (pairs / folder / name).is_file(), name
    cohort = pd.read_csv(pairs / table.loc["PAS@B", "folder"] / "cohort.csv")
    assert set(cohort.loc[cohort["role"] == "source", "domain"]) == {"PAS@B"}
    assert report_run(pairs / table.loc["PAS@B", "folder"]).is_file(), "a rotation's page can be made alone"


def test_registration_is_made_once_and_shown_in_each_rotation(pairs):
    blocks = sorted((pairs / "registration").rglob("block.json"))
    assert len(blocks) == 6
    for name in ("PAS@A", "PAS@B"):
        there = [pairs / "rotations" / name / block.relative_to(pairs) for block in blocks]
        assert all(one.samefile(block) for one, block in zip(there, blocks, strict=True))
        targets = pd.read_csv(pairs / "rotations" / name / "annotations" / "propagation.csv")["source"]
        assert set(targets.str[-3:]) == {"PAS"}


def test_tables_of_the_root_are_those_of_the_rotations(pairs):
    for name in ("records.parquet", "results.csv", "trials.csv"):
        read = pd.read_parquet if name.endswith("parquet") else pd.read_csv
        root = read(pairs / name)
        assert root.columns[0] == "rotation"
        parts = {rotation: read(pairs / "rotations" / rotation / name) for rotation in ("PAS@A", "PAS@B")}
        for rotation, part in parts.items():
            mine = root[root["rotation"] == rotation].drop(columns="rotation").reset_index(drop=True)
            pd.testing.assert_frame_equal(mine, part, check_dtype=False)
    matrix = pd.read_csv(pairs / "matrix.csv")
    one = matrix.set_index(["strategy", "sources", "target"]).loc[("source_only", "PAS@B", "SR@A"), "mean"]
    parts = pd.read_csv(pairs / "rotations" / "PAS@B" / "results.csv")
    row = parts.query("strategy == 'source_only' and domain == 'SR@A' and measure == 'dice'")
    assert one == row.loc[row["selection"] == "source_validation", "mean"].item()


def test_overall_is_the_mean_over_patients_of_their_means_as_targets(pairs):
    records = pd.read_parquet(pairs / "records.parquet")
    rows = records.query("strategy == 'source_only' and measure == 'dice' and split == 'test' and checkpoint == 'best'")
    rows = rows[rows["domain"] != rows["rotation"]]  # a rotation is named after its source
    by_domain = rows.groupby(["rotation", "patient", "domain"])[["tp", "fp", "fn"]].sum()
    dice = 2 * by_domain["tp"] / (2 * by_domain["tp"] + by_domain["fp"] + by_domain["fn"])
    expected = dice.groupby(["rotation", "patient"]).mean().groupby("patient").mean().mean()
    table = pd.read_csv(pairs / "overall.csv")
    assert {"dice", "object_f1"} <= set(table["measure"]) and not table.duplicated(["strategy", "measure"]).any()
    overall = table.query("measure == 'dice'").set_index("strategy").loc["source_only"]
    assert overall["mean"] == pytest.approx(expected) and overall["n_rotations"] == 2


def test_the_budget_is_counted_before_the_start(pairs):
    budget = pd.read_csv(pairs / "budget.csv").set_index("strategy")
    assert budget.loc["source_only", ["trials", "seeds", "steps", "rotations", "jobs"]].tolist() == [1, 1, 2, 2, 2]
    trials = pd.read_csv(pairs / "trials.csv")
    assert trials.groupby("strategy").size().to_dict() == budget["jobs"].to_dict()


def test_the_page_leads_to_the_rotations(pairs):
    text = (pairs / "report" / "index.html").read_text()
    assert text.count("/report/index.html") == 2 and "PAS@B" in text


def test_a_second_call_trains_nothing_again(pairs, two_centres):
    before = {path: path.stat().st_mtime_ns for path in pairs.rglob("*.safetensors")}
    study = _study(two_centres, pairs.parent, "scheme: all_pairs, sources: [PAS@*]", "[source_only, propagated_labels]")
    run_study(study, pairs, overrides=SHORT, until="evaluate")
    assert {path: path.stat().st_mtime_ns for path in pairs.rglob("*.safetensors")} == before and len(before) > 4


@pytest.mark.slow
def test_folds_test_every_patient_once(two_centres, tmp_path):
    study = _study(two_centres, tmp_path, "sources: [PAS@A], targets: [SR@A], folds: 3", "[source_only, adabn]")
    run = run_study(study, tmp_path / "run", overrides=SHORT)
    records = pd.read_parquet(run / "records.parquet")
    tested = records[(records["split"] == "test") & (records["domain"] == "SR@A")]
    assert tested.groupby("patient")["rotation"].nunique().to_dict() == {"P0": 1, "P1": 1, "P2": 1}
    results = pd.read_csv(run / "results.csv")
    pooled = results.query("rotation == 'all folds' and domain == 'SR@A' and measure == 'dice'")
    assert pooled.set_index("strategy")["n_patients"].to_dict() == {"source_only": 3, "adabn": 3}
    assert set(pd.read_csv(run / "matrix.csv")["rotation"]) == {"all folds"}
    shared = [run / "rotations" / f"fold_{k}" / "annotations" / "propagation.csv" for k in (1, 2)]
    assert shared[0].samefile(shared[1]), "shapes are carried once for the same sources"


@pytest.mark.slow
def test_pooled_and_leave_one_stain_out_run_to_their_pages(two_centres, tmp_path):
    pooled = run_study(
        _study(two_centres, tmp_path, "scheme: pooled", "[source_only, greyscale]"), tmp_path / "a", overrides=SHORT
    )
    results = pd.read_csv(pooled / "results.csv")
    assert set(results["role"]) == {"source"} and (pooled / "report" / "index.html").is_file()
    study = _study(two_centres, tmp_path, "scheme: leave_one_stain_out", "[source_only, dann, oracle]")
    stains = run_study(study, tmp_path / "b", overrides=SHORT)
    assert pd.read_csv(stains / "rotations.csv")["sources"].tolist() == ["SR@A; SR@B", "PAS@A; PAS@B"]


def test_what_cannot_be_is_refused_before_anything_is_made(two_centres, tmp_path):
    study = _study(two_centres, tmp_path, "scheme: pooled", "[source_only, dann]")
    with pytest.raises(StaindaError, match=r"needs unlabelled images of targets.*source_only fit"):
        run_study(study, tmp_path / "run", overrides=SHORT)
    study = _study(two_centres, tmp_path, "scheme: leave_one_stain_out", "[source_only, group_dro]")
    run_study(study, tmp_path / "fine", overrides=SHORT, until="cohort")
    with pytest.raises(StaindaError, match=r"rotation 'PAS@A'.*group_dro.*compares groups"):
        study = _study(two_centres, tmp_path, "scheme: all_pairs", "[source_only, group_dro]")
        run_study(study, tmp_path / "run", overrides=SHORT)
    with pytest.raises(StaindaError, match="worst_source_domain needs two source domains"):
        study = _study(two_centres, tmp_path, "scheme: all_pairs", "[source_only]")
        run_study(study, tmp_path / "run", overrides=[*SHORT, "search.objective=[worst_source_domain]"])
    assert not (tmp_path / "run" / "cohort.csv").exists() and not (tmp_path / "run" / "rotations").exists()


def test_a_pooled_study_runs_with_the_sources_that_it_is_planned_with(two_centres, tmp_path):
    rows = [{**row, "path": two_centres.parent / row["path"]} for row in csv.DictReader(two_centres.open())]
    files = [two_centres.parent / row["annotations"] if row["stain"] == "PAS" else "" for row in rows]
    bare = [{**row, "annotations": file} for row, file in zip(rows, files, strict=True)]
    study = _study(write_rows(bare, tmp_path / "manifest.csv"), tmp_path, "scheme: pooled", "[source_only]")
    config = load_study(study)
    [planned] = plan_study(config).rotations
    run = StudyRun(config, RunFolder(tmp_path / "run"))
    assert run.roles == planned.roles and run.roles.sources == ("PAS@A", "PAS@B")
    assert run.split_cohort == planned.cohort


def test_shared_files_are_links_that_follow_the_root(tmp_path):
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "a" / "deep" / "x").write_text("one")
    (tmp_path / "a" / "y").write_text("two")
    share(tmp_path / "a", tmp_path / "b", exact=True)
    share(tmp_path / "a", tmp_path / "b", exact=True)
    assert (tmp_path / "b" / "deep" / "x").samefile(tmp_path / "a" / "deep" / "x")
    (tmp_path / "a" / "y").unlink()
    _written(tmp_path / "new", "three").replace(tmp_path / "a" / "deep" / "x")
    share(tmp_path / "a", tmp_path / "b", exact=True)
    assert (tmp_path / "b" / "deep" / "x").read_text() == "three" and not (tmp_path / "b" / "y").exists()
    share(tmp_path / "a", tmp_path / "c", link=False)
    assert not (tmp_path / "c" / "deep" / "x").samefile(tmp_path / "a" / "deep" / "x")


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_writing_the_pooled_tables_again_changes_nothing(pairs):
    before = {name: (pairs / name).read_bytes() for name in ("results.csv", "matrix.csv", "overall.csv")}
    write_pooled_tables(pairs)
    assert {name: (pairs / name).read_bytes() for name in before} == before
