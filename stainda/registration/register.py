"""Registration of a whole cohort: remaining blocks, worker processes, and the table of all pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from stainda.cohort.types import Cohort
from stainda.config import RegistrationConfig
from stainda.errors import ConfigError, RegistrationError, did_you_mean
from stainda.files import output_errors, write_json
from stainda.names import file_name
from stainda.pool import OpenPool
from stainda.progress import SILENT, Progress
from stainda.registration.blocks import register_block
from stainda.registration.imports import check_imports
from stainda.registration.jobs import BlockJob, block_jobs
from stainda.registration.landmarks import write_landmark_table
from stainda.registration.results import (
    BLOCK_FORMAT,
    REFUSED,
    block_file,
    read_head,
    write_refusal,
)
from stainda.registration.reuse import standing, take, write_inputs
from stainda.registration.valis_import import require_valis
from stainda.registration.worker_process import in_pool, in_workers
from stainda.run_directory.contents import BLOCK
from stainda.run_directory.tables import QUALITY


def register_cohort(
    cohort: Cohort,
    config: RegistrationConfig,
    out: str | Path,
    workers: int = 1,
    progress: Progress = SILENT,
    pool: OpenPool | None = None,
) -> pd.DataFrame:
    """Bring the sections of every block into one frame.

    Args:
        out: the run directory. Written are ``registration/quality.csv``, ``registration/<block>/`` (transforms and
            ``block.json``), ``registration/overlays/`` and ``registration/log/<block>.log``.
        workers: blocks registered side by side, each on one core.
        progress: informed of each block as it ends.
        pool: of workers that register the blocks instead, one each; they see the slides and ``out`` under these paths.

    Returns:
        The rows of quality.csv: one per section other than its block's reference. A block finished before with the same
        settings and files is not done again. A block or section that fails is a row with status ``refused`` and the
        reason; it never stops the others.

    Raises:
        ConfigError: ``config.reference`` names no slide or stain of the cohort.
        MissingDependencyError: VALIS is needed and not installed.
    """
    _check_reference(cohort, config)
    if config.method == "import":
        check_imports(cohort, config)
    folder = Path(out) / "registration"
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    jobs = block_jobs(cohort, config, folder)
    _check_names(jobs)
    status = standing(jobs, config.from_run)
    if status.taken:
        progress.message(status.sentence)
    pending = [job for job in jobs if job.block in status.missing]
    if any(job.needs_valis for job in pending):
        require_valis()
    elsewhere = [job for job in pending if job.needs_valis or pool is not None]
    with progress.task("Registering sections", sum(len(job.sections) for job in jobs)) as task:
        here = sum(len(job.sections) for job in jobs if job.block in status.here)
        if here:
            task.advance(here, "done before", earlier=True)
        for job in (job for job in jobs if job.block in status.taken):
            assert status.other is not None
            take(job, status.other)
            task.advance(len(job.sections), job.block)
        for job in (job for job in pending if job not in elsewhere):
            register_block(job)
            task.advance(len(job.sections), job.block)
        placed: dict[str, int] = {}
        for job, answer in in_workers(elsewhere, workers) if pool is None else in_pool(elsewhere, pool):
            before = placed.get(job.block, 0)
            # a worker that took over from a dead one begins the block anew
            placed[job.block] = len(job.sections) if answer.placed is None else max(before, answer.placed)
            if answer.reason is not None:
                _refuse_block(job, answer.reason)
                progress.message(f"block {job.block}: registration failed: {answer.reason}")
            task.advance(
                placed[job.block] - before, f"{job.block}, {placed[job.block]} of {len(job.sections)} sections"
            )
    write_inputs(folder, jobs, status)
    write_landmark_table(folder, cohort)
    return _write_quality(folder, jobs)


def _check_reference(cohort: Cohort, config: RegistrationConfig) -> None:
    if config.reference in ("auto", "first"):
        return
    known = {row.slide for row in cohort} | {row.stain for row in cohort}
    if config.reference not in known:
        raise ConfigError(
            f"registration.reference {config.reference!r} is no slide and no stain of the cohort",
            remedy=did_you_mean(config.reference, {*known, "auto", "first"}),
        )


def _check_names(jobs: list[BlockJob]) -> None:
    """Blocks whose names differ only as a file system ignores it would overwrite each other."""
    names = [file_name(job.block).casefold() for job in jobs]
    reserved = {"overlays", "log"}
    for job, name in zip(jobs, names, strict=True):
        if names.count(name) > 1 or name in reserved:
            raise ConfigError(
                f"block name {job.block!r} cannot be a folder of its own",
                remedy="Give the block another name in the manifest",
            )


def _refuse_block(job: BlockJob, reason: str) -> None:
    """Record a block whose process failed: every section refused, none with a transform."""
    folder = job.out / file_name(job.block)
    folder.mkdir(parents=True, exist_ok=True)
    for row in job.sections:
        write_refusal(folder, row.slide, None, reason)
    rows = [
        {"block": job.block, "source": row.slide, "target": "", "status": REFUSED, "reason": reason}
        for row in job.sections
    ]
    write_json(BLOCK.inside(folder), {
        "format": BLOCK_FORMAT, "version": 1, "block": job.block, "settings": None, "reference": None, "placed": [],
        "refused": {row.slide: reason for row in job.sections}, "rows": rows, "matches": {}, "seconds": None,
    })  # fmt: skip


def _write_quality(folder: Path, jobs: list[BlockJob]) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for job in jobs:
        head = read_head(folder, job.block)
        if head is None:
            raise RegistrationError(
                f"block {job.block} left no result", file=block_file(folder, job.block), remedy="Register it again"
            )
        rows += head["rows"]
    QUALITY.write(folder, rows)
    return pd.DataFrame(rows, columns=list(QUALITY.names))
