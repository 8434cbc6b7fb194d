"""Running jobs side by side on this machine, so that a crash, a kill or Ctrl-C costs one job and leaves no orphan."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from stainda.errors import StaindaError, UnexpectedError
from stainda.pool import Outcome
from stainda.processes import VISIBLE_GPUS, end_with
from stainda.study.attempts import death_reason

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VIPS_CONCURRENCY")

_report: Callable[[float], None] | None = None
_orphaned: Callable[[], None] | None = None


def failure(key: str, error: BaseException) -> Outcome:
    """How a job ended that raised an error."""
    message = str(error) if isinstance(error, StaindaError) else f"{type(error).__name__}: {error}"
    return Outcome(key, None, message, isinstance(error, UnexpectedError | OSError | MemoryError), error)


def report_step(steps: float = 1.0) -> None:
    """Called inside a job: it is this much further."""
    if _report is not None:
        _report(steps)


def report_to(report: Callable[[float], None] | None) -> None:
    """Where the steps of this process's jobs are reported to."""
    global _report
    _report = report


@contextlib.contextmanager
def when_orphaned(call: Callable[[], None]) -> Iterator[None]:
    """Inside a job: what its process does before it ends because the run that it belongs to is gone."""
    global _orphaned
    _orphaned = call
    try:
        yield
    finally:
        _orphaned = None


class Workers:
    """Worker processes, started once and used for many jobs.

    Each gets ``threads`` torch threads: more than there are free cores is several times slower. A worker that dies
    (out of memory, a crash in a library) ends its own job with a reason; the others are started again.

    Args:
        count: processes side by side.
        function: a module-level function ``(key, payload) -> value``.
        threads: threads per process.
        prepare: called in each process before its first job, with ``threads``.
    """

    def __init__(
        self,
        count: int,
        function: Callable[[str, Any], Any],
        threads: int = 1,
        prepare: Callable[[int], None] | None = None,
    ) -> None:
        self.count: int = max(1, count)
        self.function, self.threads = function, threads
        self._prepare_worker = prepare or prepare_torch
        self._context = multiprocessing.get_context("spawn")
        self._steps = self._context.Queue()
        self._pool: ProcessPoolExecutor | None = None
        self._queue: deque[tuple[str, Any]] = deque()
        self._suspects: deque[tuple[str, Any]] = deque()
        self._running: dict[Future[Any], tuple[str, Any]] = {}
        self._alone = False

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            if error[0] is not None:  # Ctrl-C or an error: do not wait for jobs that will be done again
                for process in list((self._pool._processes or {}).values()):
                    process.terminate()
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    @property
    def busy(self) -> bool:
        return bool(self._running or self._queue or self._suspects)

    @property
    def running(self) -> list[str]:
        """Keys of the jobs in work."""
        return [key for key, _ in self._running.values()]

    @property
    def waiting(self) -> bool:
        """Whether jobs that were submitted wait for a process."""
        return bool(self._queue or self._suspects)

    def submit(self, key: str, payload: object, alone: bool = False) -> None:
        """Start a job when a process is free; ``alone``: when no other job runs, and before those that wait."""
        (self._suspects if alone else self._queue).append((key, payload))
        self._feed()

    def completed(self, advance: Callable[[float], None], seconds: float | None = None) -> list[Outcome]:
        """Wait until at least one job has ended, reporting steps meanwhile; return those that have.

        Args:
            seconds: return nothing after about so long.
        """
        done: set[Future[Any]] = set()
        until = None if seconds is None else time.monotonic() + seconds
        while not done and self._running and (until is None or time.monotonic() < until):
            done, _ = wait(self._running, timeout=0.3, return_when=FIRST_COMPLETED)
            with contextlib.suppress(queue.Empty):
                while True:
                    advance(self._steps.get_nowait())
        crashed = any(isinstance(future.exception(), BrokenProcessPool) for future in done)
        if crashed:  # every job of a broken pool fails; wait for all of them to say so
            wait(self._running)
            done = set(self._running)
        outcomes = []
        guilty = crashed and (self._alone or self.count == 1)  # there was one process, so whose job it was is known
        for future in done:
            key, payload = self._running.pop(future)
            error = future.exception()
            if error is None:
                outcomes.append(Outcome(key, future.result()))
            elif not isinstance(error, BrokenProcessPool):
                outcomes.append(failure(key, error))
            elif guilty:
                outcomes.append(Outcome(key, reason=death_reason(self._exit_code()), unexpected=True))
            else:
                self._suspects.append((key, payload))
        if crashed:
            self._drop_pool()
        self._feed()
        return outcomes

    def _feed(self) -> None:
        """Start as many jobs as there are processes; after a crash one at a time, so that the guilty one is known."""
        if self._alone != bool(self._suspects or (self._alone and self._running)):
            if self._running:
                return
            self._drop_pool()
            self._alone = bool(self._suspects)
        jobs, count = (self._suspects, 1) if self._alone else (self._queue, self.count)
        while jobs and len(self._running) < count:
            if self._pool is None:
                self._pool = self._start(count)
            key, payload = jobs.popleft()
            try:
                with _threads_of_new_processes(self.threads):  # a pool starts its processes when they are first needed
                    future = self._pool.submit(self.function, key, payload)
            except BrokenProcessPool:  # a process died while it had nothing to do, or since one was last looked at
                jobs.appendleft((key, payload))
                if self._running:
                    return  # whose jobs say so
                self._drop_pool()
                continue
            self._running[future] = (key, payload)

    def _exit_code(self) -> int | None:
        """How the only process of a broken pool ended; the thread of the pool may be waiting for it as well."""
        until = time.monotonic() + 5
        processes = list(self._pool._processes.values()) if self._pool is not None and self._pool._processes else []
        while processes and processes[0].exitcode is None and time.monotonic() < until:
            time.sleep(0.01)
        return processes[0].exitcode if processes else None

    def _drop_pool(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = None

    def _start(self, count: int) -> ProcessPoolExecutor:
        numbers = self._context.Value("i", 0)
        given = (self._steps, os.getpid(), numbers, self.threads, self._prepare_worker)
        return ProcessPoolExecutor(count, mp_context=self._context, initializer=_prepare, initargs=given)


@contextlib.contextmanager
def _threads_of_new_processes(threads: int) -> Iterator[None]:
    """Processes started in the block read this number of threads when they import their libraries."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _prepare(steps: Any, parent: int, numbers: Any, threads: int, prepare: Callable[[int], None]) -> None:
    report_to(steps.put)
    steps.cancel_join_thread()
    threading.Thread(target=end_with, args=(parent, _last_call), daemon=True).start()
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends the workers
    with numbers.get_lock():
        number = numbers.value
        numbers.value += 1
    os.environ[WORKER_NUMBER] = str(number)
    prepare(threads)


WORKER_NUMBER = "STAINDA_WORKER"
"""Number of a worker process among those side by side, from 0."""


def prepare_nothing(threads: int) -> None:
    """For jobs that need no torch."""


def prepare_torch(threads: int) -> None:
    """Give this worker its GPU, its threads, and memory that is kept from job to job."""
    import warnings

    warnings.filterwarnings("ignore", message="pkg_resources is deprecated")  # torchmetrics 0.9.3, which is pinned
    import torch

    from stainda.memory import keep_freed_memory

    use_gpu(int(os.environ.get(WORKER_NUMBER, "0")), torch.cuda.device_count)
    torch.set_num_threads(threads)
    keep_freed_memory()


def use_gpu(number: int, count: Callable[[], int]) -> None:
    """Let this process see one of the visible GPUs only, worker by worker in turn; further ranks of its trainings
    (``training.devices``) are given others.

    Args:
        number: of the worker. count: says how many GPUs there are, where ``CUDA_VISIBLE_DEVICES`` does not name them.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = [str(index) for index in range(count())] if named is None else [x for x in named.split(",") if x.strip()]
    if len(devices) > 1:
        os.environ[VISIBLE_GPUS] = ",".join(device.strip() for device in devices)
        os.environ["CUDA_VISIBLE_DEVICES"] = devices[number % len(devices)].strip()


def workers_for(threads: int, cores: int) -> int:
    """Processes that keep the cores busy with so many threads each, and not more than busy."""
    return max(1, cores // max(1, threads))


def _last_call() -> None:
    if _orphaned is not None:
        _orphaned()
