"""Where the stages of a study run: on this machine, or on Dask clusters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stainda.config.frozen import Frozen

EngineStage = Literal["registration", "patches", "training", "encoding", "prediction"]
Resources = dict[str, Annotated[float, Field(gt=0)]]


class EngineConfig(Frozen):
    """``local``: processes of this machine; ``dask``: a cluster of Dask, see docs/howto/workers.md."""

    name: Literal["local", "dask"] = Field("local", description="processes of this machine, or a Dask cluster")
    scheduler: str | None = Field(None, description="address of a Dask scheduler that runs: tcp://HOST:PORT")
    cluster: str | dict[EngineStage, str] | None = Field(
        None,
        description="a file of configs/clusters (its name) or a path: a batch system starts the workers; or one for "
        "each stage, and stages without one run on this machine",
    )
    resources: dict[EngineStage, Resources] = Field(
        default_factory=dict,
        description="what a worker must have for a job of a stage, as Dask workers say it: training: {GPU: 1}",
    )
    patience: float = Field(
        60, ge=0, description="seconds that a stage waits while there are workers but none has its resources"
    )

    @model_validator(mode="after")
    def _one_place(self) -> EngineConfig:
        if self.name == "local" and (self.scheduler or self.cluster or self.resources):
            raise ValueError("scheduler, cluster and resources are of the engine dask; say name: dask")
        if self.scheduler and self.cluster:
            raise ValueError("give scheduler (a cluster that runs) or cluster (one to be started), not both")
        return self

    def serves(self, stage: EngineStage) -> bool:
        """Whether a stage runs on a cluster."""
        return self.name == "dask" and (not isinstance(self.cluster, dict) or stage in self.cluster)

    def cluster_of(self, stage: EngineStage) -> str | None:
        """The cluster that is started for a stage."""
        return self.cluster.get(stage) if isinstance(self.cluster, dict) else self.cluster


class ClusterConfig(Frozen):
    """Workers as jobs of a batch system; each is one process that does one job of a study at a time."""

    system: Literal["slurm", "pbs", "sge", "lsf"] = Field(description="the batch system")
    host: str = Field("127.0.0.1", description="address of this machine under which the workers reach it")
    queue: str | None = Field(None, description="queue or partition")
    account: str | None = Field(None, description="account or project")
    cores: int = Field(1, ge=1, description="of each worker; training.threads of them are used")
    memory: str = Field("8 GB", description="of each worker")
    walltime: str = Field("04:00:00", description="of each worker; one that ends is replaced, and its training goes on")
    directives: tuple[str, ...] = Field((), description="further lines of the job script, e.g. --gres=gpu:1")
    before: tuple[str, ...] = Field((), description="shell lines before the worker starts, e.g. module load cuda")
    resources: Resources = Field(
        default_factory=dict, description="what each worker has for engine.resources, e.g. {GPU: 1}"
    )
