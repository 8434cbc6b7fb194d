"""What a worker is given to do one job, and what the search needs to know of it afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from stainda.cohort import Cohort
from stainda.config import EvaluationConfig
from stainda.run_directory.folder import RunFolder
from stainda.study.pruning import Pruning
from stainda.training.metering import Costs

if TYPE_CHECKING:
    from stainda.training.job import Job


@dataclass(frozen=True)
class JobRequest:
    """What a worker needs to run one job.

    ``scored`` holds the sections to score: source patients of the validation split, and the test patients of every
    domain. Their annotations serve nothing but scoring. ``scoring`` is their key (``keys.ScoringKeys``). A training
    made again from all source patients is scored on test patients alone, at its only weights. ``pretraining`` is the
    training without labels that it starts from. ``log_to`` and ``mlflow_uri`` are those of the study.
    """

    folder: RunFolder
    job: Job
    store: Path
    scored: Cohort
    evaluation: EvaluationConfig
    scoring: str = ""
    pruning: Pruning | None = None
    pretraining: Job | None = None
    log_to: str = "none"
    mlflow_uri: str = ""


@dataclass(frozen=True)
class JobResult:
    """What the search needs to know of a job that has ended; ``pruned`` is the step after which it was stopped."""

    score: float
    seconds: float
    cpu_seconds: float
    pruned: int | None = None
    costs: Costs = field(default_factory=Costs)
