"""Where the trainings of a study run: on this machine, or on a Dask cluster."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from stainda.config.frozen import Frozen


class EngineConfig(Frozen):
    """``local``: processes of this machine; ``dask``: a cluster of Dask, see docs/howto/workers.md."""

    name: Literal["local", "dask"] = Field("local", description="processes of this machine, or a Dask cluster")
    scheduler: str | None = Field(None, description="address of a Dask scheduler that runs: tcp://HOST:PORT")
    cluster: str | None = Field(
        None, description="a file of configs/clusters (its name) or a path: a batch system starts the workers"
    )

    @model_validator(mode="after")
    def _one_place(self) -> EngineConfig:
        if self.name == "local" and (self.scheduler or self.cluster):
            raise ValueError("scheduler and cluster are of the engine dask; say name: dask")
        if self.scheduler and self.cluster:
            raise ValueError("give scheduler (a cluster that runs) or cluster (one to be started), not both")
        return self


class ClusterConfig(Frozen):
    """Workers as jobs of a batch system; each is one process that trains one job at a time."""

    system: Literal["slurm", "pbs", "sge", "lsf"] = Field(description="the batch system")
    host: str = Field("127.0.0.1", description="address of this machine under which the workers reach it")
    queue: str | None = Field(None, description="queue or partition")
    account: str | None = Field(None, description="account or project")
    cores: int = Field(1, ge=1, description="of each worker; training.threads of them are used")
    memory: str = Field("8 GB", description="of each worker")
    walltime: str = Field("04:00:00", description="of each worker; one that ends is replaced, and its training goes on")
    directives: tuple[str, ...] = Field((), description="further lines of the job script, e.g. --gres=gpu:1")
    before: tuple[str, ...] = Field((), description="shell lines before the worker starts, e.g. module load cuda")
