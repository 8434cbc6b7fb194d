"""A job's name follows from what decides its outcome."""

import json
from dataclasses import replace

import pytest
from blob_cohort import make_job

from stainda.config import StrategyConfig, TaskConfig, TrainingConfig, load_strategy
from stainda.errors import ConfigError, TrainingError
from stainda.training import Job, resolve_training
from stainda.training.job import OBJECTS
from stainda.training.rare_settings import COUNTERS


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
    ("setting", "with_it", "without"),
    [
        ("few_mixed", {"labels": "few_shot"}, {"labels": "few_shot", "norm": "per_domain"}),
        ("few_mixed", {"labels": "few_shot"}, {"labels": {"name": "few_shot", "unit": "patients"}}),
        ("shares", {"align": {"name": "mcd", "share": 0.3}}, {"align": {"name": "dann", "share": 0.3}}),
        ("shares", {"align": {"name": "mcd", "share": 0.3}}, {"align": "mcd"}),
        ("slide_statistics", {"norm": "reestimated"}, {"norm": "per_domain"}),
        ("map_gradients", {"align": {"name": "fishr", "layer": "bottleneck"}}, {"align": "fishr"}),
        ("frozen_bf16", {"align": "adda", "training": {"precision": "bf16"}}, {"align": "adda"}),
        ("spectral", {"align": {"name": "dann", "discriminator_norm": "spectral"}}, {"align": "dann"}),
        (
            "spectral",
            {"align": {"name": "together", "parts": {"dann": {"discriminator_norm": "spectral"}, "mixup": {}}}},
            {"align": {"name": "together", "parts": {"dann": {}, "mixup": {}}}},
        ),
        ("weighted_heads", {"labels": "propagated", "align": "rtn"}, {"labels": "propagated", "align": "dann"}),
        ("weighted_heads", {"labels": "propagated", "align": "mcd"}, {"align": "mcd"}),
    ],
)
def test_only_trainings_with_a_rare_setting_have_new_names(monkeypatch, setting, with_it, without):
    def job(strategy):
        more = strategy.get("training", {})
        made = make_job({key: value for key, value in strategy.items() if key != "training"}, **more)
        classified = TaskConfig(kind="classification") if setting == "map_gradients" else made.task
        return replace(made, task=classified)

    before = [job(strategy).hash for strategy in (with_it, without, {})]
    monkeypatch.setitem(COUNTERS, setting, 3)
    assert [job(strategy).hash != name for strategy, name in zip((with_it, without, {}), before, strict=True)] == [
        True, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(("head", "renamed"), [("regions", True), ("horizontal_vertical", True), ("star", False)])
def test_only_trainings_of_heads_that_learn_otherwise_have_new_names(monkeypatch, head, renamed):
    job = replace(make_job(), task=TaskConfig(kind="instances", instances=head))
    now = job.hash
    monkeypatch.setattr("stainda.training.job.OBJECTS", {name: count + 1 for name, count in OBJECTS.items()})
    assert (job.hash != now) is renamed
