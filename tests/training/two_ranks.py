"""Steps of trainings, by one process or by two that share every batch."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from blob_cohort import make_data

from stainda.progress import SILENT
from stainda.training.log import TrainingLog
from stainda.training.loop import TrainingLoop
from stainda.training.machine import torch_for
from stainda.training.metering import Clock, Meter
from stainda.training.running import prepare


def steps_of(job, ranks, data=None):
    """What the steps come to: weights and statistics of the network, the part's modules, and rows of both tables."""
    with torch_for(job.training), Meter() as meter, TemporaryDirectory() as aside:
        folder = Path(aside)
        prepared = prepare(job, data or make_data(job, per_slide=8, margin=12), folder, ranks)
        log = TrainingLog(folder)
        TrainingLoop(prepared, log, Clock(meter), SILENT, None).take_steps()
    arrays = {**prepared.detector.network.state_dict(), **prepared.modules.state_dict(prefix="modules.")}
    learned = {name: value.detach().clone() for name, value in arrays.items() if value.is_floating_point()}
    return learned, log


def steps_of_all(jobs, ranks):
    """For a further rank."""
    for job in jobs:
        steps_of(job, ranks)


def largest_difference(first, second):
    """Over all tensors of ``first``, as a share of one and their largest value."""
    return max(float((value - second[name]).abs().max() / (1 + value.abs().max())) for name, value in first.items())


__all__ = ["largest_difference", "steps_of", "steps_of_all"]
