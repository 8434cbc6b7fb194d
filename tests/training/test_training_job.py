"""A job's name follows from what decides its outcome."""

import json
from dataclasses import replace

import pytest
from blob_cohort import make_job

from stainda.config import StrategyConfig, TaskConfig, TrainingConfig, load_strategy
from stainda.errors import ConfigError, TrainingError
from stainda.training import Job, resolve_training
from stainda.training.job import OBJECTS


def test_a_job_comes_back_from_its_settings(tmp_path):
    job = make_job({"align": {"name": "dann", "weight": 0.3}})
    (tmp_path / "settings.json").write_text(json.dumps(job.settings()))
    again = Job.load(tmp_path)
    assert again == job and again.hash == job.hash


def test_the_hash_changes_with_the_outcome_and_not_with_prose_or_threads():
    base = make_job()
    assert make_job(seed=2).hash != base.hash
    assert make_job({"align": "dann"}).hash != base.hash
    assert make_job(learning_rate=0.1).hash != base.hash
    assert make_job({"title": "plain"}).hash == base.hash
    assert make_job(threads=2).hash == base.hash


def test_settings_that_are_not_a_jobs_are_refused(tmp_path):
    with pytest.raises(TrainingError, match="RUN/jobs/HASH"):
        Job.load(tmp_path)
    (tmp_path / "settings.json").write_text(json.dumps({"seed": 1}))
    with pytest.raises(ConfigError, match="missing or unknown"):
        Job.load(tmp_path)


def test_a_strategy_changes_the_loop_but_not_the_number_of_steps():
    training = TrainingConfig()
    changed = resolve_training(training, StrategyConfig(name="mine", training={"learning_rate": 0.5}))
    assert changed.learning_rate == 0.5 and changed.epochs == training.epochs
    with pytest.raises(ConfigError, match="same for all strategies"):
        resolve_training(training, StrategyConfig(name="mine", training={"epochs": 99}))
    with pytest.raises(ConfigError, match="learning_rate"):
        resolve_training(training, StrategyConfig(name="mine", training={"learning_rat": 1}))
    assert resolve_training(training, load_strategy("dann")) == training


@pytest.mark.parametrize(
    ("strategy", "training", "renamed"),
    [
        ({}, {}, False),
        ({"augment": ["colour_jitter"]}, {}, False),
        ({"augment": ["hed"]}, {}, True),
        ({"view": "macenko"}, {}, True),
        ({"view": "vahadane"}, {}, True),
        ({"view": "reinhard"}, {}, False),
        ({"align": "fixmatch"}, {}, True),
        ({"align": "dann"}, {}, False),
        ({}, {"init": {"name": "simclr"}}, True),
        ({}, {"init": {"name": "simclr", "colour": "none"}}, False),
    ],
)
def test_only_trainings_whose_colours_are_mixed_otherwise_have_new_names(monkeypatch, strategy, training, renamed):
    job = make_job(strategy, **training)
    now = job.hash
    monkeypatch.setattr("stainda.training.job.DENSITIES", 3)
    assert (job.hash != now) is renamed


@pytest.mark.parametrize(
    ("strategy", "renamed"),
    [
        ({"labels": "few_shot"}, True),
        ({"labels": "few_shot", "norm": "per_domain"}, False),
        ({"labels": {"name": "few_shot", "unit": "patients"}}, False),
        ({}, False),
    ],
)
def test_only_trainings_that_mix_few_patches_with_others_have_new_names(monkeypatch, strategy, renamed):
    job = make_job(strategy)
    now = job.hash
    monkeypatch.setattr("stainda.training.job.FEW_MIXED", 3)
    assert (job.hash != now) is renamed


@pytest.mark.parametrize(
    ("align", "renamed"),
    [({"name": "mcd", "share": 0.3}, True), ("mcd", False), ({"name": "dann", "share": 0.3}, False)],
)
def test_only_shares_of_parts_with_terms_that_are_not_scaled_have_new_names(monkeypatch, align, renamed):
    job = make_job({"align": align})
    now = job.hash
    monkeypatch.setattr("stainda.training.job.SHARES", 3)
    assert (job.hash != now) is renamed


@pytest.mark.parametrize(("norm", "renamed"), [("reestimated", True), ("shared", False), ("per_domain", False)])
def test_only_trainings_with_statistics_of_slides_have_new_names(monkeypatch, norm, renamed):
    job = make_job({"norm": norm})
    now = job.hash
    monkeypatch.setattr("stainda.training.job.SLIDE_STATISTICS", 3)
    assert (job.hash != now) is renamed


@pytest.mark.parametrize(("head", "renamed"), [("regions", True), ("horizontal_vertical", True), ("star", False)])
def test_only_trainings_of_heads_that_learn_otherwise_have_new_names(monkeypatch, head, renamed):
    job = replace(make_job(), task=TaskConfig(kind="instances", instances=head))
    now = job.hash
    monkeypatch.setattr("stainda.training.job.OBJECTS", {name: count + 1 for name, count in OBJECTS.items()})
    assert (job.hash != now) is renamed
