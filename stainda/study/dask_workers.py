"""The workers of a Dask cluster: whether any serves a stage, and that none goes on with what nobody waits for."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from stainda.config import EngineConfig
from stainda.config.engine import EngineStage
from stainda.errors import StaindaError

if TYPE_CHECKING:
    from distributed import Client, Worker

LOOK_SECONDS = 2.0


class AwaitedWorkers:
    """What a stage needs of the workers of a cluster, and whether any has it.

    Without any worker it is waited as long as it takes: a batch system starts them when it can. Where there are workers
    and none has what is needed, ``engine.patience`` limits the wait, unless the cluster is started with workers that
    have it.

    Args:
        client: of the cluster. engine: of the study.
        say: receives a sentence whenever a wait begins.
    """

    def __init__(self, client: Client, engine: EngineConfig, stage: EngineStage, say: Callable[[str], None]) -> None:
        self.resources: Mapping[str, float] = engine.resources.get(stage, {})
        self._client, self._stage, self._say = client, stage, say
        self._patience = float("inf") if engine.cluster_of(stage) else engine.patience
        self._looked, self._without_since, self._said = 0.0, None, ""

    _without_since: float | None

    def look(self) -> None:
        """Look at the workers, at most every two seconds.

        Raises:
            StaindaError: there are workers, and for longer than the patience none has what the stage needs.
        """
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        assert self._client.scheduler is not None
        # not scheduler_info(): what it returns, the client's own callback may have replaced by one without workers
        cluster = self._client.sync(self._client.scheduler.identity, n_workers=-1)
        workers = list(cluster["workers"].values())
        if any(self._fits(worker) for worker in workers):
            self._without_since, self._said = None, ""
            return
        if not workers:
            self._without_since = None
            self._say_once(f"{self._stage} waits: the Dask cluster has no worker yet")
            return
        self._without_since = self._without_since or now
        lacking = f"no worker of the Dask cluster has {_words(self.resources)}"
        if now - self._without_since < self._patience:
            self._say_once(f"{self._stage} waits: {lacking}")
            return
        known = sorted({_words(worker["resources"]) for worker in workers})
        raise StaindaError(
            f"{lacking}, which engine.resources asks for {self._stage}; its "
            f"{len(workers)} workers have {' or '.join(known)}",
            remedy=f"Start one that has: dask worker {cluster['address']} --nthreads 1 --resources "
            f'"{" ".join(f"{name}={amount:g}" for name, amount in self.resources.items())}"',
        )

    def _fits(self, worker: Mapping[str, Any]) -> bool:
        return all(worker["resources"].get(name, 0) >= amount for name, amount in self.resources.items())

    def _say_once(self, sentence: str) -> None:
        if sentence != self._said:
            self._said = sentence
            self._say(sentence)


def _words(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{name}={amount:g}" for name, amount in sorted(resources.items())) or "no resources"


@contextlib.contextmanager
def ended_when_unwanted(worker: Worker) -> Iterator[None]:
    """Inside a job: its process ends when nobody waits for the job any more, as after Ctrl-C of the leader.

    It would write where the next call writes. The nanny starts another worker. One without a nanny or with several
    threads goes on: nobody would replace it, or others would lose their work.
    """
    key, over = worker.get_current_task(), threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_SECONDS / 4):
            task = worker.state.tasks.get(key)
            if task is not None and task.state == "cancelled":
                os._exit(1)

    if worker.nanny is not None and worker.state.nthreads == 1:
        threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()
