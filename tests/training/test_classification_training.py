"""Patch classification in the loop: every strategy takes its steps, and what is trained finds objects on a slide."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from blob_cohort import COLOURS, BlobStore, make_data, make_job
from blob_cohort import make_centred_data as _data

from stainda.cohort import Roles
from stainda.config import ModelConfig, StrategyConfig, StudyConfig, TaskConfig, available, load_strategy
from stainda.errors import ConfigError, TrainingError
from stainda.patches import TrainingData
from stainda.prediction import load_predictor
from stainda.run_directory.training_tables import EFFECT
from stainda.strategies import build, check
from stainda.strategies.detector import Detector
from stainda.training import read_result, train_on
from stainda.training.unsupervised import unsupervised_scores

TARGETS = ("SR@A", "JONES@A")
TASK = TaskConfig(kind="classification", classes=("glomerulus",), centre=0.17)
"""The square is 8 of 48 pixels wide, discs are 14 to 20."""

CNN = ModelConfig(name="cnn", params={"depth": 3, "width": 8})
SAMPLE = ("source_only", "dann", "cdan_entropy", "jan", "mcd", "bnm", "fishr", "fixmatch", "serial_consistency")


def _job(strategy, task=TASK, model=CNN, **more):
    job = make_job(strategy, **{"targets": TARGETS, "batch_size": 6, **more})
    return replace(job, task=task, model=model)


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=() if name in SAMPLE else pytest.mark.slow) for name in sorted(available("strategies"))
])  # fmt: skip
def test_every_strategy_classifies_patches_or_says_why_not(name, tmp_path):
    config = load_strategy(name)
    strategy = build(config)
    if "classification" not in strategy.tasks:
        given = {"study": "x", "phantom": {}, "patches": {"downsample": 1}, "protocol": {"sources": ["PAS@A"]}}
        study = StudyConfig(**given, strategies=[config], task=TASK)
        with pytest.raises(ConfigError, match=r"not defined for classification.*It is for segmentation.*dann"):
            check(strategy, study)
        return
    if strategy.align.grouping == "domain":
        config = config.with_values({"align.groups": "patient"})
    job = _job(config.model_dump(), epochs=1, steps_per_epoch=2)
    data = _data(job, per_slide=8)
    result = train_on(job, data, tmp_path)
    assert result.steps == 2 and np.isfinite(result.score) and read_result(tmp_path) == result
    assert result.patches["neither"] > 0, "discs half in the middle are not learned from"
    detector = Detector.load(tmp_path, json.loads((tmp_path / "settings.json").read_text()))
    images = data.images(data.unlabelled()[:2]) if job.protocol.visible == "targets" else data.images([0, 1])
    shares = detector.probabilities(images, ["SR@A_train0"] * 2)
    assert shares.shape == (2, 1) and 0 <= float(shares.min()) <= float(shares.max()) <= 1
    if strategy.align.needs_pairs or name == "dann":
        if not strategy.align.needs_pairs:
            data.__dict__["serial"] = None
        found = unsupervised_scores(detector, data)
        assert all(np.isfinite(list(found.values())))
        assert ("serial_agreement" in found) == strategy.align.needs_pairs


def test_the_effect_of_made_patches_is_recorded(tmp_path):
    job = _job(load_strategy("ac_gan").model_dump(), epochs=2, steps_per_epoch=3)
    train_on(job, _data(job, per_slide=8), tmp_path)
    rows = list(csv.DictReader(EFFECT.inside(tmp_path).read_text().splitlines()))
    assert [row["discriminator"] for row in rows] == ["discriminator"] * 6
    assert all(0 <= float(row["discriminator_accuracy"]) <= 1 for row in rows)
    assert float(rows[-1]["gradient_ratio"]) > 0


def test_the_only_ones_without_classification_judge_or_paste_maps():
    lacking = {name for name in available("strategies") if "classification" not in build(load_strategy(name)).tasks}
    assert lacking == {
        "adaptsegnet",
        "adversarial_segmentation",
        "advent",
        "feature_mask_adversarial",
        "dacs",
        "daformer",
    }


def _section(domain="PAS@A", size=200):
    tissue, own, other = (np.asarray(colour) for colour in COLOURS[domain])
    y, x = np.mgrid[:size, :size]
    image = np.ones((size, size, 3))
    image[10:190, 10:190] = tissue
    image[40:52, 40:52] = other
    for cx, cy in CENTRES:
        image[(x - cx) ** 2 + (y - cy) ** 2 < 81] = own
    image += np.random.default_rng(0).normal(0, 0.02, image.shape)
    return (image.clip(0, 1) * 255).astype(np.uint8)


CENTRES = [(60, 100), (130, 60), (110, 150)]


@pytest.mark.parametrize("loss", ["cross_entropy_dice", "focal"])
def test_discs_are_found_on_a_slide_by_a_sliding_window(loss, tmp_path):
    """Trained on patches with discs of 14 to 20 pixels it outlines or places those of a slide it never saw."""
    task = TASK.model_copy(update={"class_weights": "balanced"})
    job = _job({}, task=task, epochs=3, steps_per_epoch=25, batch_size=16, targets=("SR@A",), loss=loss)
    result = train_on(job, _data(job, per_slide=32), tmp_path)
    assert result.score > 0.8 and set(result.thresholds) == {"glomerulus"}
    log = (tmp_path / "log.txt").read_text()
    assert "source validation F1" in log
    predictor = load_predictor(tmp_path)
    image = _section()
    found = predictor.probabilities_array(image, tissue=(image < 250).any(-1))
    assert predictor.cell == 8 and found.array.shape == (1, 25, 25) and found.downsample == 8
    for objects in ("components", "peaks"):
        predictor.task = task.model_copy(update={"objects": objects, "object_px": 18.0, "min_object_px": 60})
        shapes = predictor.objects(found)
        centres = sorted((one.centroid.x, one.centroid.y) for one in shapes.geometry)
        assert len(centres) == len(CENTRES), centres
        np.testing.assert_allclose(centres, sorted(CENTRES), atol=5)


def test_what_cannot_be_trained_is_said_before_the_first_step(tmp_path):
    job = _job({}, task=TASK.model_copy(update={"centre": 1.0}))
    with pytest.raises(TrainingError, match=r"none of the .* source training .* has glomerulus over 50%.*task.centre"):
        train_on(job, _data(job), tmp_path)
    with pytest.raises(ConfigError, match=r"'unet' is for segmentation, and the task is classification.*cnn or timm"):
        job = _job({}, model=ModelConfig(name="unet"))
        train_on(job, _data(job), tmp_path)


def test_target_labels_change_nothing(tmp_path):
    files = []
    for turned in (False, True):
        job = _job(load_strategy("dann").model_dump(), epochs=1, steps_per_epoch=2)
        data = _data(job, per_slide=4)
        if turned:
            target = (data.table["domain"] != "PAS@A").to_numpy()
            data.store._own[target] = 1 - data.store._own[target]
        train_on(job, data, tmp_path / str(turned))
        files.append((tmp_path / str(turned) / "model.safetensors").read_bytes())
    assert files[0] == files[1]


def test_segmentation_with_weighted_classes_and_lamperts_share_of_negatives(tmp_path):
    """One object in eight patches, and the classes weighted by how rarely they are then met."""
    job = make_job({}, epochs=1, steps_per_epoch=2, batch_size=8, object_share=0.125, loss="focal_dice")
    job = replace(job, task=TaskConfig(classes=("glomerulus",), class_weights="balanced"))
    result = train_on(job, make_data(job, per_slide=8), tmp_path)
    assert np.isfinite(result.score) and "neither" not in result.patches
    store = BlobStore(per_slide=4)
    assert len(TrainingData(store, Roles(("PAS@A",), ("SR@A",))).labelled("train")) == 12
    assert StrategyConfig(name="x", training={"object_share": 0.125}).training == {"object_share": 0.125}
