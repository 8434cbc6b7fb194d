"""How fast this machine trains and looks with a study's network, and what the trainings of a study take by that.

A step of the loop is timed as it is run: augmentation of the recipe aside, the network with its loss and optimiser,
channels last, memory kept from step to step, on one thread. Validation after each epoch and scoring of slides are
counted by pixels looked at. Next to 66 trainings of twelve strategies (docs/results/speed.md) the sum was 86 s for
plain ones, which took 80 to 98, and 147 s for those that align, which took 168 to 200.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from stainda.config import ModelConfig, StudyConfig
from stainda.study.budget import Budget

JOB_SECONDS = 3.0
"""Of every job, apart from steps and slides: networks, views, statistics, files."""

SLIDE_SECONDS = 0.3
"""Of every slide scored, apart from the network: labels, objects, distances."""

CHECKPOINTS = 2


@dataclass(frozen=True)
class Pace:
    """Processor seconds of a training step per patch of the batch (``step``), and of looking at one pixel (``look``),
    of a patch (tiles of slides overlap, see :data:`OVERLAP`)."""

    step: float
    look: float


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
    scoring = CHECKPOINTS * scored * (pixels * OVERLAP * pace.look + SLIDE_SECONDS)
    patch = config.patches.size**2 * pace.look
    total = 0.0
    for cost in costs:
        epochs = cost.steps / config.training.steps_per_epoch
        each = config.training.validation_patches or EPOCH_VALIDATION
        validation = patch * (each * epochs + EPOCH_VALIDATION * CHECKPOINTS)
        training = cost.steps * pace.step * (cost.labelled + cost.unlabelled)
        total += cost.jobs * (JOB_SECONDS + training + validation + scoring)
    return total


def time_network(config: StudyConfig, model: ModelConfig | None = None) -> Pace:
    """Time steps and passes of a network (default: the study's) on this machine, for a second or a few."""
    import torch

    from stainda.memory import freed_memory_kept
    from stainda.models import TwoStageNetwork, build_model
    from stainda.strategies.capture import listening
    from stainda.training.losses import make_loss

    size, count = config.patches.size, config.training.batch_size
    classification, classes = config.task.network == "classification", len(config.task.classes) + 1
    network = build_model(model or config.model, 3, classes, config.task.network).to(memory_format=torch.channels_last)
    optimiser, loss = torch.optim.AdamW(network.parameters()), make_loss(config.training.loss)
    images = torch.rand(count, 3, size, size).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        shape = network(images).shape
    labels = torch.randint(classes, (count,) if classification else (count, *shape[-2:]))
    squares = torch.zeros((count, size, size), dtype=torch.long)  # an object in each patch
    squares[:, size // 4 : size // 2, size // 4 : size // 2] = 1

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        watched = network.pyramid if isinstance(network, TwoStageNetwork) else ()
        with listening(network, watched) as levels:
            total = loss(network(images), labels)
        if isinstance(network, TwoStageNetwork):
            total = total + network.region_loss(levels, squares, squares)
        total.backward()
        optimiser.step()

    def look() -> None:
        with torch.no_grad():
            network(images)

    with freed_memory_kept():
        stepping = _seconds(step)
        network.eval()
        return Pace(stepping / count, _seconds(look) / (count * size**2))


def _seconds(work: Callable[[], None]) -> float:
    """Processor seconds, the middle of three; a time before them pays for imports and memory."""
    taken = []
    for _ in range(4):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return median(taken[1:])
