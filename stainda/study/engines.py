"""The engine of a study: what its trainings run on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from stainda.config import EngineConfig
from stainda.study.executor import Workers
from stainda.study.shared_workers import LocalWorkers, run_shared


@contextmanager
def local_workers(engine: EngineConfig, workers: int, threads: int) -> Iterator[LocalWorkers]:
    """The leader's workers: processes of this machine, or those of a Dask cluster.

    Raises:
        StaindaError: the cluster cannot be reached or started.
    """
    if engine.name == "dask":
        from stainda.study.dask_engine import DaskWorkers, dask_client

        with dask_client(engine, workers) as client:
            yield DaskWorkers(client, run_shared, threads)
    else:
        with Workers(workers, run_shared, threads) as pool:
            yield pool
