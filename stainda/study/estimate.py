"""About how long each stage will take here: from what earlier calls and runs took, else from what was measured once.

Registration takes longest by far, so it is counted by what is still to be registered.
"""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stainda.cohort import Cohort, Roles
from stainda.config import StudyConfig
from stainda.errors import ConfigError
from stainda.run_directory.folder import STAGES, RunFolder
from stainda.run_directory.tables import QUALITY

IMPORT_SECONDS = 20.0  # until VALIS has started, once a call
PAIR_SECONDS = 12.0  # of one core a pair: 8-14 in benchmarks/registration_scenarios.py, 21 in blocks of fifty sections
ALIGNED_SECONDS = 0.5  # a section where nothing is to be found: identity, import
SLIDE_SECONDS = 0.6  # opening a slide, its thumbnail and annotations
PROPAGATION_SECONDS = 1.5  # from one annotated section to another of its block
PATCH_SECONDS = 1.0  # cutting the patches of a slide
WORKER_SECONDS = 8.0  # until the processes that train have started, once a call
EVALUATION_SECONDS, EVALUATION_JOB_SECONDS = 13.0, 0.5  # 15 s of 3 trainings on 80 slides, 33 s of 39
REPORT_SECONDS, REPORT_STRATEGY_SECONDS = 20.0, 1.5


@dataclass(frozen=True)
class StageTime:
    """Wall seconds a stage is expected to take with the study's workers, and what that rests on."""

    stage: str
    seconds: float
    basis: str


def estimate_stages(
    config: StudyConfig,
    cohort: Cohort,
    roles: Sequence[Roles],
    folder: RunFolder,
    *,
    workers: int,
    jobs: int,
    training_cpu_seconds: float | None,
) -> list[StageTime]:
    """Every stage in order; training is left out where its time is not known.

    Args:
        roles: of every rotation; what they share is done once.
        jobs: trainings in all.
    """
    measured = folder.stage_seconds()
    slides, turns = len(cohort), len(roles)
    ways = sum(_ways(cohort, sources) for sources in dict.fromkeys(rotation.sources for rotation in roles))
    pages = "1 page" if turns == 1 else f"{turns} pages"
    result = {
        "cohort": (SLIDE_SECONDS * slides, f"{slides} slides"),
        "register": _registration(config, cohort, folder, workers),
        "propagate": (PROPAGATION_SECONDS * ways, f"from one section to another {ways} times"),
        "patches": (turns * PATCH_SECONDS * slides / workers, f"{turns * slides} slides"),
        "evaluate": (turns * EVALUATION_SECONDS + EVALUATION_JOB_SECONDS * jobs, f"{jobs} trainings"),
        "report": (
            turns * (REPORT_SECONDS + REPORT_STRATEGY_SECONDS * len(config.strategies)),
            pages,
        ),
    }
    if training_cpu_seconds is not None:
        result["train"] = (
            WORKER_SECONDS + training_cpu_seconds / min(workers, max(1, jobs)),
            f"{jobs} trainings and their scores",
        )
    for stage in ("cohort", "propagate", "patches", "evaluate", "report"):
        if measured.get(stage):
            result[stage] = (measured[stage], "as an earlier call took")
    return [StageTime(stage, *result[stage]) for stage in STAGES if stage in result]


def _registration(config: StudyConfig, cohort: Cohort, folder: RunFolder, workers: int) -> tuple[float, str]:
    """Seconds of what is still to be registered."""
    blocks = cohort.blocks()
    try:
        from stainda.registration import registration_standing

        result = registration_standing(cohort, config.registration, folder.root)
    except ConfigError:
        if config.phantom is None:
            raise
        missing = tuple(blocks)  # of a phantom that is not made yet nothing can be there
    else:
        missing = result.missing
    if config.registration.method != "valis":
        return ALIGNED_SECONDS * sum(len(blocks[name]) for name in missing), f"{len(missing)} blocks"
    pairs = sum(len(blocks[name]) - 1 for name in missing)
    if not pairs:
        return 0.0, "nothing is to be registered"
    places = [folder.root, *([config.registration.from_run] if config.registration.from_run else [])]
    known = [seconds for place in places for seconds in pair_seconds(place)]
    each = statistics.median(known) if known else PAIR_SECONDS
    basis = f"{pairs} pairs of {each:.0f} s" + (" as before" if known else "")
    return IMPORT_SECONDS + pairs * each / min(workers, len(missing)), basis


def pair_seconds(run: Path) -> list[float]:
    """Seconds that pairs took in a run directory, from its ``quality.csv``; empty where there is none."""
    path = QUALITY.at(run)
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        values = [float(row.get("seconds") or "nan") for row in csv.DictReader(stream)]
    return [value for value in values if math.isfinite(value) and value > 0]


def _ways(cohort: Cohort, sources: Sequence[str]) -> int:
    """From annotated sections of sources to the other sections of their blocks."""
    return sum(
        (len(sections) - 1)
        for sections in cohort.blocks().values()
        for section in sections
        if section.annotations is not None and cohort.domain(section) in sources
    )
