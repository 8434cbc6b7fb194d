"""How fast this machine trains and looks with the networks of a study, and what its trainings take by that.

A step of the loop is timed as it is run: augmentation of the recipe aside, the network with its head, their losses and
the optimiser, channels last, memory kept from step to step, on one thread. Validation after each epoch and scoring of
slides are counted by pixels looked at. Not counted: self-supervised starts (``training.init``), and filling a cache of
features, which trainings share. Next to 66 trainings of twelve strategies (docs/results/speed.md) the sum was 86 s for
plain ones, which took 80 to 98, and 147 s for those that align, which took 168 to 200.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from stainda.config import StrategyConfig, StudyConfig
from stainda.study.budget import Budget

JOB_SECONDS = 3.0
"""Of every job, apart from steps and slides: networks, views, statistics, files."""

SLIDE_SECONDS = 0.3
"""Of every slide scored, apart from the network: labels, objects, distances."""

CHECKPOINTS = 2


@dataclass(frozen=True)
class Pace:
    """Processor seconds of a training step per patch of the batch (``step``), of looking at one pixel of a patch of a
    slide (``look``; tiles overlap, see :data:`OVERLAP`) and at one of a validation patch (``validate``)."""

    step: float
    look: float
    validate: float


OVERLAP = 1.2
"""Pixels looked at per pixel of a slide: tiles of up to 736 pixels whose results overlap by 64; 16/9 with networks that
keep tiles of 256."""


def training_cpu_seconds(
    config: StudyConfig, pace: Pace, costs: list[Budget], slides: Mapping[str, int], pixels: float
) -> float:
    """Of all trainings of a study with the scores of their slides.

    Args:
        costs: of every strategy over all rotations; an unlabelled patch costs what a labelled one does.
        slides: scored by each training, by rotation. pixels: of a slide at the working scale.
    """
    from stainda.training.chosen_patches import EPOCH_VALIDATION

    scored = sum(slides.values()) / len(slides)
    scoring = CHECKPOINTS * scored * (pixels * _looks(config) * pace.look + SLIDE_SECONDS)
    patch = config.patches.size**2 * pace.validate
    total = 0.0
    for cost in costs:
        epochs = cost.steps / config.training.steps_per_epoch
        each = config.training.validation_patches or EPOCH_VALIDATION
        validation = patch * (each * epochs + EPOCH_VALIDATION * CHECKPOINTS)
        training = cost.steps * pace.step * (cost.labelled + cost.unlabelled)
        total += cost.jobs * (JOB_SECONDS + training + validation + scoring)
    return total


def _looks(config: StudyConfig) -> float:
    """Pixels looked at per pixel of a slide: windows of a patch classifier lie closer together than they are wide."""
    if config.task.network != "classification":
        return OVERLAP
    return (config.patches.size / config.task.cell(config.patches.size)) ** 2


def trained_alike(config: StudyConfig) -> list[tuple[StrategyConfig, list[str]]]:
    """Strategies whose steps are timed, one for each different network, head and loss, with the names of all that share
    them."""
    from stainda.instances import task_for
    from stainda.strategies import build
    from stainda.training import resolve_training

    result: list[tuple[StrategyConfig, list[str]]] = []
    keys: list[object] = []
    for strategy in config.strategies:
        training = resolve_training(config.training, strategy)
        loop = (training.train, training.layer_decay, training.cache, training.loss, training.optimiser)
        key = (
            config.model_of(strategy), task_for(config, strategy), *loop, training.batch_size,
            build(strategy).view.channels,
        )  # fmt: skip
        if key in keys:
            result[keys.index(key)][1].append(strategy.name)
        else:
            keys.append(key)
            result.append((strategy, [strategy.name]))
    return result


def time_strategy(config: StudyConfig, strategy: StrategyConfig) -> Pace:
    """Time steps and passes of a strategy's own network on this machine, for a second or a few."""
    from stainda.memory import freed_memory_kept
    from stainda.study.timed_training import TimedTraining

    made = TimedTraining(config, strategy)
    with freed_memory_kept():
        step, look, validate = (_seconds(work) for work in (made.step, made.look, made.validate))
    return Pace(step / made.training.batch_size, look / made.pixels, validate / made.pixels)


def _seconds(work: Callable[[], object]) -> float:
    """Processor seconds, the middle of three; a time before them pays for imports and memory."""
    taken = []
    for _ in range(4):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return median(taken[1:])
