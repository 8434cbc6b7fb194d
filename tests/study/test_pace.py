"""What a plan counts of a training: steps of all patches, validation after every epoch, slides of both checkpoints."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from stainda.config import StudyConfig
from stainda.study.pace import (
    CHECKPOINTS,
    JOB_SECONDS,
    OVERLAP,
    SLIDE_SECONDS,
    Pace,
    time_strategy,
    training_cpu_seconds,
)


def study(**training) -> StudyConfig:
    return StudyConfig.model_validate(
        {
            "study": "paced", "phantom": {"size": 512}, "patches": {"mpp": 2.0, "size": 64},
            "protocol": {"sources": ["PAS@A"]}, "strategies": [{"name": "source_only"}],
            "model": {"name": "unet", "params": {"depth": 3, "width": 4}},
            "training": {"epochs": 3, "steps_per_epoch": 5, "batch_size": 2, **training},
        }
    )  # fmt: skip


def cost(**values):
    return SimpleNamespace(**{"steps": 15, "jobs": 1, "labelled": 2, "unlabelled": 0, **values})


def seconds(pace: Pace, *costs, slides=0, pixels=0.0) -> float:
    return training_cpu_seconds(study(), pace, list(costs), {"only": slides}, pixels)


def test_each_part_is_counted():
    assert seconds(Pace(0.0, 0.0, 0.0), cost()) == JOB_SECONDS
    assert seconds(Pace(0.1, 0.0, 0.0), cost()) == pytest.approx(JOB_SECONDS + 15 * 2 * 0.1)
    validated = 192 * 64**2 * (3 + CHECKPOINTS)
    assert seconds(Pace(0.0, 0.0, 1e-6), cost()) == pytest.approx(JOB_SECONDS + validated * 1e-6)
    scored = CHECKPOINTS * 4 * (1000 * OVERLAP * 1e-6 + SLIDE_SECONDS)
    looked = seconds(Pace(0.0, 1e-6, 0.0), cost(), slides=4, pixels=1000)
    assert looked == pytest.approx(JOB_SECONDS + scored)


def test_fewer_validation_patches_take_less():
    config = study(validation_patches=32)
    taken = training_cpu_seconds(config, Pace(0.0, 0.0, 1e-6), [cost()], {"only": 0}, 0.0)
    assert taken == pytest.approx(JOB_SECONDS + (32 * 3 + 192 * CHECKPOINTS) * 64**2 * 1e-6)


def test_alignment_costs_its_patches_and_jobs_add_up():
    plain, aligned = seconds(Pace(0.1, 0.0, 0.0), cost()), seconds(Pace(0.1, 0.0, 0.0), cost(unlabelled=2))
    assert aligned - JOB_SECONDS == pytest.approx(2 * (plain - JOB_SECONDS))
    assert seconds(Pace(0.1, 0.0, 0.0), cost(jobs=3), cost(unlabelled=2)) == pytest.approx(3 * plain + aligned)


def test_windows_of_a_patch_classifier_are_counted_as_often_as_they_overlap():
    config = study()
    config = config.model_copy(update={"task": config.task.model_copy(update={"kind": "classification"})})
    assert config.task.cell(64) == 16
    taken = training_cpu_seconds(config, Pace(0.0, 1e-6, 0.0), [cost()], {"only": 4}, 1000.0)
    assert taken == pytest.approx(JOB_SECONDS + CHECKPOINTS * 4 * (1000 * 16 * 1e-6 + SLIDE_SECONDS))


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_any_network_of_a_study_can_be_timed(task):
    config = study(loss="cross_entropy")
    if task == "classification":
        config = config.model_copy(update={"task": config.task.model_copy(update={"kind": "classification"})})
        config = config.model_copy(
            update={"model": config.model.model_copy(update={"name": "cnn", "params": {"depth": 3, "width": 4}})}
        )
    pace = time_strategy(config, config.strategies[0])
    assert pace.step > 0 and pace.look > 0 and pace.validate > 0
