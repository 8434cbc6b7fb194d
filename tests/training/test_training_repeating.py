"""A training made again from all patients of the source, without validation."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
from blob_cohort import BlobStore, make_data, make_job, make_patch

from stainda.cohort import Roles
from stainda.config import ModelConfig, TaskConfig
from stainda.errors import TrainingError
from stainda.patches import TrainingData
from stainda.strategies.detector import Detector
from stainda.training import read_result
from stainda.training.running import train_on

TASK = TaskConfig(kind="classification", classes=("glomerulus",), centre=0.17)


def again_of(job, data, folder):
    """The first training and the one that repeats it, in folders side by side."""
    train_on(job, data, folder / job.hash)
    repeated = job.again()
    more = TrainingData(data.store, data.roles, labels=data.rule, visible=data.visible, refit=True)
    more.__dict__.update({name: value for name, value in data.__dict__.items() if name == "serial"})
    train_on(repeated, more, folder / repeated.hash)
    return folder / job.hash, folder / repeated.hash


@pytest.mark.parametrize(
    ("strategy", "training", "task"),
    [
        ({}, {"patience": 1, "epochs": 6}, None),
        ({}, {"averaging": 0.9}, None),
        ({"align": {"name": "swad"}}, {"epochs": 6}, None),
        ({"align": {"name": "mean_teacher"}}, {}, None),
        ({"align": {"name": "dann"}, "norm": {"name": "per_domain"}}, {}, None),
        ({}, {}, TASK),
    ],
    ids=["patience", "averaging", "swad", "mean_teacher", "per_domain", "classification"],
)
def test_as_many_steps_the_last_weights_and_the_first_thresholds(strategy, training, task, tmp_path):
    job = make_job(strategy, **training)
    data = make_data(job)
    if task is not None:
        job = replace(job, task=task, model=ModelConfig(name="cnn", params={"depth": 3, "width": 8}))
        for index in np.flatnonzero([(labels == 1).any() for labels in data.store._own]):
            rows, columns = np.nonzero(data.store._own[index] == 1)
            shift = 24 - int(rows.mean()), 24 - int(columns.mean())  # discs lie in the middle
            data.store._own[index] = np.roll(data.store._own[index], shift, (0, 1))
    first_folder, folder = again_of(job, data, tmp_path)
    first, again = read_result(first_folder), read_result(folder)
    assert (again.epochs, again.steps) == (first.epochs, first.steps) and again.best_epoch == again.epochs
    assert again.thresholds == again.last_thresholds == first.last_thresholds
    assert again.thresholds_of == job.hash and math.isnan(again.score) and again.dice == {}
    assert again.patches["validation"] == 0
    assert again.patches["labelled"] == first.patches["labelled"] + first.patches["validation"]
    assert (folder / "model.safetensors").read_bytes() == (folder / "last.safetensors").read_bytes()
    assert (folder / "last.safetensors").read_bytes() != (first_folder / "last.safetensors").read_bytes()
    with (folder / "training.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == first.epochs and not [name for name in rows[0] if name.startswith("val")]


def recoloured(images, labels):
    """Objects that are orange; those of training patients are purple."""
    return np.where(labels[..., None] == 1, np.array([250, 200, 120], np.uint8), images)


def test_what_only_the_validation_patient_shows_is_learned(tmp_path):
    job = make_job(epochs=4, steps_per_epoch=40, learning_rate=5e-3, object_share=0.5)
    store, generator = BlobStore(job.sources, job.targets), np.random.default_rng(5)
    rows = np.flatnonzero((store.table["domain"] == "PAS@A") & (store.table["split"] == "val"))
    store.images[rows] = recoloured(store.images[rows], store._own[rows])
    data = TrainingData(store, Roles(job.sources, job.targets), labels="source")
    folders = again_of(job, data, tmp_path)
    images, labels = (np.stack(one) for one in zip(*[make_patch(generator, "PAS@A") for _ in range(12)], strict=True))
    scores = []
    for folder, one in zip(folders, (job, job.again()), strict=True):
        detector = Detector.load(folder, one.settings(), "last")
        found = detector.probabilities(recoloured(images, labels), ["new"] * 12)[:, 0].numpy() > 0.5
        scores.append(2 * (found & (labels == 1)).sum() / (found.sum() + (labels == 1).sum()))
    assert scores[0] < 0.3 and scores[1] > 0.6, scores


def test_it_is_not_made_where_the_first_is_not_complete(tmp_path):
    job = make_job()
    with pytest.raises(TrainingError, match="is not complete"):
        train_on(job.again(), make_data(job), tmp_path / "again")
