"""The engine of a study: what does the jobs of its stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from stainda.config import EngineConfig
from stainda.config.engine import EngineStage
from stainda.pool import OpenPool, WorkerPool
from stainda.progress import Progress
from stainda.run_directory.contents import STUDY
from stainda.run_directory.folder import read_study
from stainda.study.executor import Workers, prepare_nothing, prepare_torch


@contextmanager
def open_pool(
    function: Callable[[str, Any], Any],
    *,
    engine: EngineConfig,
    stage: EngineStage,
    workers: int,
    threads: int = 1,
    progress: Progress,
) -> Iterator[WorkerPool]:
    """Workers for a stage: processes of this machine, or those of a Dask cluster.

    Args:
        function: does a job.
        workers: processes, where they are started here or by a batch system.
        threads: of each.
        progress: receives what a cluster waits for.

    Raises:
        StaindaError: the cluster cannot be reached or started, or none of its workers has what the stage needs.
    """
    prepare = prepare_nothing if stage in ("registration", "patches") else prepare_torch
    if engine.serves(stage):
        from stainda.study.dask_engine import DaskWorkers, dask_client
        from stainda.study.dask_workers import AwaitedWorkers

        with dask_client(engine, workers, stage) as client:
            awaited = AwaitedWorkers(client, engine, stage, progress.message)
            # trainings are claimed: one that goes on when its leader is gone is not lost, and not done twice
            yield DaskWorkers(client, function, threads, prepare, awaited=awaited, abandon=stage != "training")
    else:
        with Workers(workers, function, threads, prepare) as pool:
            yield pool


def opens(engine: EngineConfig, stage: EngineStage, workers: int, progress: Progress, threads: int = 1) -> OpenPool:
    """Makes the pool of a stage when there is something to do; arguments as of :func:`open_pool`."""
    return partial(open_pool, engine=engine, stage=stage, workers=workers, threads=threads, progress=progress)


def opens_cluster(
    engine: EngineConfig, stage: EngineStage, workers: int, progress: Progress, threads: int = 1
) -> OpenPool | None:
    """As :func:`opens`; ``None`` where the stage runs on this machine."""
    return opens(engine, stage, workers, progress, threads) if engine.serves(stage) else None


def opens_if_several(engine: EngineConfig, stage: EngineStage, workers: int, progress: Progress) -> OpenPool | None:
    """As :func:`opens`; ``None`` where this process alone does the jobs of a stage."""
    return opens(engine, stage, workers, progress) if workers > 1 or engine.serves(stage) else None


def prediction_pool(run: str | Path, workers: int, scheduler: str | None, progress: Progress) -> OpenPool | None:
    """Makes what predicts new slides side by side; ``None`` where they are predicted here, one after the other.

    Args:
        run: a run directory, or a job's folder in one: its study says what a worker must have, and its threads.
        workers: processes of this machine, where no ``scheduler`` of a Dask cluster is given.
    """
    if scheduler is None:
        return opens_if_several(EngineConfig(), "prediction", workers, progress)
    resources, threads = {}, 1
    for root in (Path(run), *Path(run).parents[1:2]):
        if STUDY.at(root).is_file():
            study = read_study(root)
            resources, threads = study.engine.resources, study.training.threads
            break
    engine = EngineConfig(name="dask", scheduler=scheduler, resources=resources)
    return opens(engine, "prediction", workers, progress, threads)
