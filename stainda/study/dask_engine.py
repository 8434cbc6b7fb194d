"""Jobs on a Dask cluster: one that runs, one that a batch system starts, or one of this machine for trying it.

Dask moves Python objects between the processes of a cluster by pickling them, and runs what it is sent. All of them are
this study's own; nothing is read from files this way. Whoever reaches the scheduler's port can run code on the workers,
so a cluster that is started here listens on 127.0.0.1 unless ``host`` says otherwise.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from stainda.config import ClusterConfig, EngineConfig, available, read_yaml
from stainda.config.engine import EngineStage
from stainda.config.load import validated
from stainda.errors import ConfigError, MissingDependencyError, StaindaError, did_you_mean
from stainda.pool import POLL_SECONDS, Outcome
from stainda.study.attempts import death_reason
from stainda.study.dask_workers import AwaitedWorkers, ended_when_unwanted
from stainda.study.executor import WORKER_NUMBER, failure, prepare_torch, report_to
from stainda.study.other_versions import OtherVersionsError, mixing_versions, refuse_other_versions

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_SECONDS = 30
_SYSTEMS = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster", "lsf": "LSFCluster"}
_EXTRA = "pip install 'stainda[cluster]'"


class DaskWorkers:
    """Workers of a Dask cluster; a :class:`~stainda.pool.WorkerPool`.

    Args:
        client: of the cluster. function: a module-level function ``(key, payload) -> value``.
        threads: torch threads of a job. prepare: called before each job, with ``threads``.
        awaited: what a job needs of its worker; default: nothing.
        abandon: a job that is in work when the leader is gone ends, see :func:`ended_when_unwanted`.
    """

    def __init__(
        self,
        client: Client,
        function: Callable[[str, Any], Any],
        threads: int = 1,
        prepare: Callable[[int], None] = prepare_torch,
        *,
        awaited: AwaitedWorkers | None = None,
        abandon: bool = False,
    ) -> None:
        self._client, self._awaited = client, awaited
        self._topic = f"stainda-{uuid.uuid4().hex}"
        versions = mixing_versions() if prepare is prepare_torch else {}
        self._given = _Given(function, threads, prepare, self._topic, abandon, versions)
        self._running: dict[Future[Any], str] = {}
        self._number = 0
        self._steps: queue.SimpleQueue[float] = queue.SimpleQueue()
        steps = self._steps
        client.subscribe_topic(self._topic, lambda event: steps.put(event[1]))

    @property
    def count(self) -> int:
        """Jobs side by side: threads of the cluster, which may grow and shrink. Those that need what not every worker
        has wait in Dask."""
        return max(1, sum(self._client.nthreads().values()))

    @property
    def busy(self) -> bool:
        return bool(self._running)

    @property
    def running(self) -> list[str]:
        return list(self._running.values())

    @property
    def waiting(self) -> bool:
        return len(self._running) >= self.count

    def submit(self, key: str, payload: object, alone: bool = False) -> None:
        """Send a job to the cluster, whose workers do not share the leader's memory: ``alone`` changes nothing."""
        self._number += 1
        resources = dict(self._awaited.resources) if self._awaited is not None else {}
        with _lost_scheduler():
            future = self._client.submit(
                _run, self._given, key, payload, key=f"{key}-{self._number}", pure=False, resources=resources or None
            )
        self._running[future] = key

    def completed(self, advance: Callable[[float], None], seconds: float | None = None) -> list[Outcome]:
        """Wait until at least one job has ended, reporting steps meanwhile; return those that have, or nothing after
        ``seconds``.

        Jobs that went with their scheduler, where another one answers at its address by now, have ended unexpectedly.

        Raises:
            StaindaError: no scheduler answers any more, or no worker has what the jobs need.
        """
        done: set[Future[Any]] = set()
        until = None if seconds is None else time.monotonic() + seconds
        while not done and self._running:
            left = POLL_SECONDS if until is None else min(POLL_SECONDS, until - time.monotonic())
            with _lost_scheduler():
                done = self._ended(max(0.0, left))
                if not done and self._awaited is not None:
                    self._awaited.look()
            with contextlib.suppress(queue.Empty):
                while True:
                    advance(self._steps.get_nowait())
            if until is not None and time.monotonic() >= until:
                break
        return [self._outcome(future) for future in done]

    def _ended(self, seconds: float) -> set[Future[Any]]:
        """The jobs that have ended, at the latest after so many seconds.

        Raises:
            OSError: no scheduler answers any more.
        """
        from concurrent.futures import CancelledError

        from distributed import TimeoutError as DaskTimeoutError
        from distributed import wait

        try:
            done: set[Future[Any]] = wait(list(self._running), timeout=seconds, return_when="FIRST_COMPLETED").done
        except DaskTimeoutError:
            done = set()
        except CancelledError:
            done = {future for future in self._running if future.cancelled()}
        if self._client.status != "running":
            raise OSError(f"its connection is {self._client.status}")
        return done

    def _outcome(self, future: Future[Any]) -> Outcome:
        key = self._running.pop(future)
        if future.status == "finished":
            return Outcome(key, future.result())
        if future.status in ("cancelled", "lost"):
            return Outcome(key, reason="the Dask cluster dropped it", unexpected=True)
        error = future.exception()
        if isinstance(error, OtherVersionsError):
            raise error
        if type(error).__name__ == "KilledWorker":
            return Outcome(key, reason=death_reason(None), unexpected=True)
        return failure(key, error)


@dataclass(frozen=True)
class _Given:
    """What is the same for all jobs of a pool."""

    function: Callable[[str, Any], Any]
    threads: int
    prepare: Callable[[int], None]
    topic: str
    abandon: bool
    versions: dict[str, str | None]


def _run(given: _Given, key: str, payload: object) -> Any:
    """A job on a worker of the cluster."""
    from distributed import get_worker

    worker = get_worker()
    report_to(lambda steps: worker.log_event(given.topic, steps))
    refuse_other_versions(given.versions, f"the Dask worker {worker.name} at {worker.address}")
    os.environ.setdefault(WORKER_NUMBER, _number(worker.name))  # which of several GPUs is its own
    with ended_when_unwanted(worker) if given.abandon else contextlib.nullcontext():
        given.prepare(given.threads)
        return given.function(key, payload)


def _number(name: object) -> str:
    """The number at the end of a worker's name, which those of one machine have in turn: ``3`` or ``node-3``."""
    digits = re.search(r"(\d+)$", str(name))
    return digits[1] if digits else "0"


@contextlib.contextmanager
def _lost_scheduler() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StaindaError(
            f"the Dask scheduler is gone ({error})",
            remedy="Start it again; what is trained is kept, and the same command goes on",
        ) from error


@contextlib.contextmanager
def dask_client(engine: EngineConfig, workers: int, stage: EngineStage = "training") -> Iterator[Client]:
    """A client of the cluster of a stage; what was started for it ends with the block.

    Args:
        workers: processes, where the cluster is started here.

    Raises:
        StaindaError: Dask is missing, no scheduler answers, or the workers of the cluster that is to be started do not
            have what the stage needs.
    """
    try:
        import dask
        from distributed import Client
    except ImportError as error:
        raise MissingDependencyError("engine dask needs dask.distributed", remedy=_EXTRA) from error
    with contextlib.ExitStack() as stack:
        # a job whose worker died is tried again by the study, which counts (retries)
        stack.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": 0}))
        place: Any = engine.scheduler
        if name := engine.cluster_of(stage):
            place = stack.enter_context(start_cluster(_checked(load_cluster(name), name, engine, stage)))
            place.scale(jobs=workers)
        elif not engine.scheduler:
            place = stack.enter_context(_on_this_machine(workers))
        try:
            client = stack.enter_context(Client(place, timeout=CONNECT_SECONDS))
        except (OSError, ValueError) as error:
            raise StaindaError(
                f"no Dask scheduler answers at {place} ({error})", remedy="Start one: dask scheduler --host 127.0.0.1"
            ) from error
        yield client


def _on_this_machine(workers: int) -> Any:
    from distributed import LocalCluster

    return LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None,
        memory_limit=0,
    )  # fmt: skip


def load_cluster(name: str) -> ClusterConfig:
    """A cluster by the name of a file in ``configs/clusters``, or by a path.

    Raises:
        ConfigError: there is none, or a setting is wrong.
    """
    known = available("clusters")
    if not name.endswith((".yaml", ".yml")) and name not in known:
        raise ConfigError(f"unknown cluster {name!r}", remedy=did_you_mean(name, known))
    path = known.get(name, Path(name))
    return validated(ClusterConfig, read_yaml(path), path)


def _checked(config: ClusterConfig, name: str, engine: EngineConfig, stage: EngineStage) -> ClusterConfig:
    for resource, amount in engine.resources.get(stage, {}).items():
        if (there := config.resources.get(resource, 0)) < amount:
            raise ConfigError(
                f"engine.resources asks for {resource}={amount:g} of each worker for {stage}, and those of the cluster "
                f"{name} have {there:g}",
                remedy=f"Say resources: {{{resource}: {amount:g}}} in the cluster's file",
            )
    return config


def start_cluster(config: ClusterConfig) -> Any:
    """The cluster of a batch system; its scheduler listens at once, jobs are submitted when it is scaled.

    Raises:
        MissingDependencyError: dask-jobqueue is missing.
    """
    dask_jobqueue = _batch_systems()
    resources = ",".join(f"{name}={amount:g}" for name, amount in config.resources.items())
    account = {"project" if config.system in ("sge", "lsf") else "account": config.account}
    return getattr(dask_jobqueue, _SYSTEMS[config.system])(
        cores=1, processes=1, memory=config.memory, walltime=_walltime(config), queue=config.queue,
        job_extra_directives=list(config.directives), job_script_prologue=list(config.before),
        worker_extra_args=["--resources", f"'{resources}'"] if resources else [],
        scheduler_options={"host": config.host, "dashboard_address": "127.0.0.1:0"}, **account, **_own(config),
    )  # fmt: skip


def _batch_systems() -> ModuleType:
    """dask-jobqueue, without what its import does to Ctrl+C: a silent end with status 0, as of a complete run."""
    interrupted = signal.getsignal(signal.SIGINT)
    try:
        import dask_jobqueue
    except ImportError as error:
        raise MissingDependencyError("clusters of batch systems need dask-jobqueue", remedy=_EXTRA) from error
    if interrupted is not None and signal.getsignal(signal.SIGINT) is not interrupted:
        signal.signal(signal.SIGINT, interrupted)
    return dask_jobqueue


def _walltime(config: ClusterConfig) -> str:
    """LSF counts in hours and minutes."""
    return config.walltime.rpartition(":")[0] if config.system == "lsf" else config.walltime


def _own(config: ClusterConfig) -> dict[str, Any]:
    """One Dask thread trains one job, with all cores of the batch job: each system has its own word for them."""
    if config.system == "slurm":
        return {"job_cpu": config.cores}
    if config.system == "pbs":
        return {"resource_spec": f"select=1:ncpus={config.cores}:mem={config.memory.replace(' ', '')}"}
    if config.system == "lsf":
        return {"ncpus": config.cores}
    return {"resource_spec": f"m_mem_free={config.memory.replace(' ', '')}"}


def job_script(config: ClusterConfig) -> str:
    """What is submitted to the batch system for each worker; nothing is submitted."""
    with start_cluster(config) as cluster:
        return str(cluster.job_script())
