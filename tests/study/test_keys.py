"""A training is named by what it can see: what is hidden from it does not train it anew, and all it sees does."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from small_cohorts import make_blob_cohort, write_study

from stainda.annotations import read_shapes
from stainda.config import PartConfig, load_study
from stainda.review.decisions import Decision, shape_hash, write_decisions
from stainda.run_directory.folder import RunFolder
from stainda.study import run_study
from stainda.study.compare import _Comparison
from stainda.study.jobs import is_scored
from stainda.study.run import StudyRun

STRATEGIES = ("source_only", "dann", "propagated_labels", "oracle")
SHORT = [
    "training.epochs=1", "training.steps_per_epoch=2", "search.trials=1", "protocol.seeds=1", "workers=1",
    f"strategies=[{', '.join(STRATEGIES)}]",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A cohort, its study file and a run of it as far as the records. Copy the folder before changing it."""
    folder = tmp_path_factory.mktemp("keys")
    make_blob_cohort(folder / "cohort")
    study = write_study(folder / "cohort" / "manifest.csv", folder / "blobs.yaml")
    run_study(study, folder / "run", overrides=SHORT, until="evaluate")
    return folder


@pytest.fixture
def place(trained, tmp_path):
    """A copy of everything at another place; every file has a new time, the study file names the new manifest."""
    copy = tmp_path / "copied"
    shutil.copytree(trained, copy, copy_function=shutil.copyfile)
    write_study(copy / "cohort" / "manifest.csv", copy / "blobs.yaml")
    return copy


def compared(place, *more, until="patches"):
    """The comparison that the next run would make, with the stages before it done."""
    config = load_study(place / "blobs.yaml", [*SHORT, *more], None)
    if until is not None:
        run_study(config, place / "run", until=until)
    run = StudyRun(config, RunFolder(place / "run"))
    return _Comparison(config, run.cohort, run.roles, run.folder)


def to_do(comparison):
    """What would happen to each strategy's job: ``train``, ``score`` or nothing (``""``)."""
    found = {}
    for strategy in comparison.config.strategies:
        job = comparison.job(strategy, {"training.learning_rate": 0.005}, comparison.config.seed)
        folder = comparison.folder.job(job.hash)
        scored = is_scored(folder, comparison.scoring.of(job))
        found[strategy.name] = "" if scored else "score" if (folder / "result.json").is_file() else "train"
    return found


def all_are(state, **others):
    return {name: others.get(name, state) for name in STRATEGIES}


def reject_a_propagated_object(run):
    splits = pd.read_csv(run / "cohort.csv").query("role == 'target' and split == 'train'")
    target = str(splits["slide"].iloc[0])
    shape = read_shapes(run / "annotations" / "propagated" / f"{target}.geojson").iloc[0]
    source = read_shapes(run / "annotations" / "own" / f"{shape['source_slide']}.geojson")
    drawn = source[source["id"] == shape["id"]].iloc[0]
    made = Decision(
        shape["id"], shape["class"], target.split("_")[0], shape["source_slide"], target, "reject", shape["geometry"],
        shape["geometry"], float(shape["confidence"]), "Dr A", "2026-01-02T03:04:05Z",
        shape_hash(drawn["geometry"], drawn["class"]),
    )  # fmt: skip
    write_decisions(run, [made])


def edit(path, change):
    document = json.loads(path.read_text())
    change(document["features"])
    path.write_text(json.dumps(document))


def slides_of(place, query):
    return pd.read_csv(place / "run" / "cohort.csv").query(query)["slide"].astype(str).tolist()


def edit_rows(manifest, **changes):
    with manifest.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    with manifest.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, **changes} for row in rows)


def test_a_copied_run_does_nothing_again(place):
    made = ("jobs", "patches", "registration", "fields", "object_gallery")
    files = [path for name in made for path in (place / "run" / name).rglob("*") if path.is_file()]
    files = [path for path in files if path.name not in ("quality.csv", "landmarks.csv")]  # tables, written each time
    before = {path: path.stat().st_mtime_ns for path in files}
    run_study(place / "blobs.yaml", place / "run", overrides=SHORT, until="evaluate")
    assert len(before) > 40
    assert [path for path, time in before.items() if path.stat().st_mtime_ns != time] == []


def test_a_review_trains_only_who_sees_propagated_labels(place):
    reject_a_propagated_object(place / "run")
    assert to_do(compared(place, until="patches")) == all_are("", propagated_labels="train")


def test_trainings_that_keep_their_name_come_out_the_same(trained, place):
    """The promise of the key: with another store, what a key leaves out does not change a byte of the weights."""
    from stainda.training import train

    reject_a_propagated_object(place / "run")
    after = compared(place)
    before = _Comparison(after.config, after.scored, after.roles, RunFolder(trained / "run"))
    assert len(before.seen._store) > len(after.seen._store), "patches were left out"
    for name in ("dann", "oracle"):  # both have rows behind those that are gone
        weights = []
        for number, comparison in enumerate((before, after)):
            job = comparison.job(comparison.config.strategy(name), {}, 1)
            train(job, comparison.store, place / f"{name}{number}")
            weights.append((job.hash, (place / f"{name}{number}" / "model.safetensors").read_bytes()))
        assert weights[0] == weights[1], name


def test_annotations_of_test_slides_are_scored_and_teach_nobody(place):
    [slide, *_] = slides_of(place, "split == 'test' and stain == 'SR'")
    edit(place / "cohort" / f"{slide}.geojson", lambda features: features.pop())
    assert to_do(compared(place)) == all_are("score")


def test_annotations_of_training_targets_teach_the_ceiling_only(place):
    [slide, *_] = slides_of(place, "split == 'train' and stain == 'SR'")
    edit(place / "cohort" / f"{slide}.geojson", lambda features: features.pop())
    assert to_do(compared(place)) == all_are("", oracle="train")


def test_annotations_of_the_source_teach_everybody(place):
    [slide, *_] = slides_of(place, "split == 'train' and stain == 'PAS'")
    edit(place / "cohort" / f"{slide}.geojson", lambda features: features.pop())
    assert to_do(compared(place)) == all_are("train")


def test_pixels_of_a_training_target_train_anew_also_where_only_colours_are_seen(place):
    [slide, *_] = slides_of(place, "split == 'train' and stain == 'SR'")
    path = place / "cohort" / f"{slide}.png"
    pixels = np.array(Image.open(path))
    pixels[150:200, 150:200] = (90, 40, 70)
    Image.fromarray(pixels).save(path)
    assert set(to_do(compared(place)).values()) == {"train"}


def test_pixels_of_a_test_slide_are_scored_anew(place):
    [slide, *_] = slides_of(place, "split == 'test' and stain == 'SR'")
    path = place / "cohort" / f"{slide}.png"
    pixels = np.array(Image.open(path))
    pixels[150, 150] = 0
    Image.fromarray(pixels).save(path)
    assert to_do(compared(place)) == all_are("score")


def test_what_changes_neither_weights_nor_scores_does_nothing(place):
    changes = (
        "title=Another", "question=Why?", "evaluation.resamples=500", "evaluation.level=0.9", "evaluation.rope=0.05",
        "training.threads=2", "protocol.seeds=2", "patches.stride=9",
    )  # fmt: skip
    assert to_do(compared(place, *changes)) == all_are("")


@pytest.mark.parametrize(
    "change", ["task.min_object_px=3", "evaluation.iou=0.4", "study=other", "task.split_touching=true"]
)
def test_what_changes_scores_alone_is_scored_anew(place, change):
    assert to_do(compared(place, change, until=None)) == all_are("score")


@pytest.mark.parametrize("change", ["training.batch_size=6", "seed=2", "model.params.width=6"])
def test_settings_of_the_training_train_anew(place, change):
    assert to_do(compared(place, change, until=None)) == all_are("train")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("patches.per_object=3", all_are("train")),
        ("propagation.min_confidence=1.0", all_are("", propagated_labels="train")),
        ("propagation.weights=true", all_are("", propagated_labels="train")),
    ],
)
def test_settings_of_the_patches_train_who_sees_them(place, change, expected):
    assert to_do(compared(place, change)) == expected


def test_what_the_manifest_says_of_slides_reaches_the_patches(place):
    edit_rows(place / "cohort" / "manifest.csv", scanner="new")
    assert set(compared(place).seen._store.table["scanner"]) == {"new"}


def test_another_registration_is_scored_anew_where_sections_are_compared(place):
    def keys():
        comparison = compared(place, until=None)
        plain = comparison.job(comparison.config.strategy("source_only"), {}, 1)
        after = PartConfig(name="cross_stain_agreement")
        comparing = replace(plain, strategy=plain.strategy.model_copy(update={"after": after}))
        return [comparison.scoring.of(job) for job in (plain, comparing)]

    before = keys()
    [slide, *_] = slides_of(place, "split == 'test' and stain == 'SR'")
    path = place / "run" / "registration" / slide.split("_")[0] / "block.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "settings": "another registration"}))
    after = keys()
    assert before[0] == after[0] and before[1] != after[1]
