"""The worker process of registration, seen from the process that starts it: blocks go in, answers come out."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stainda.pool import OpenPool, outcomes
from stainda.processes import command_of
from stainda.registration.attempts import VALIS_SECONDS
from stainda.registration.blocks import register_block
from stainda.registration.jobs import BlockJob
from stainda.run_directory.contents import REGISTRATION_LOG

WORKER = command_of("stainda.registration.worker")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "VIPS_CONCURRENCY": "1"}
IDLE_SECONDS = 60.0
"""After which the process of a pool's worker ends that has no block: it has 1.2 GB."""


@dataclass(frozen=True)
class Answer:
    """What a worker process says of a block: so many sections are placed so far, or (``None``) it has ended, with the
    reason where it failed."""

    placed: int | None = None
    reason: str | None = None


class WorkerProcess:
    """A process that registers blocks, some side by side; it ends when it is closed, and with this process.

    Args:
        log: what it says of itself is written there.
        slots: blocks side by side.
    """

    def __init__(self, log: Path, slots: int) -> None:
        self.log = log
        self._numbers = itertools.count()
        log.parent.mkdir(parents=True, exist_ok=True)
        # of its own, so that a block that is killed leaves nothing behind
        self._folder = tempfile.TemporaryDirectory(prefix="stainda-registration-")
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [*WORKER, str(slots)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                env=os.environ | ONE_THREAD | {"TMPDIR": self._folder.name},
            )  # fmt: skip
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._ready = False

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def answers(self, jobs: Sequence[BlockJob]) -> Iterator[tuple[str, Answer]]:
        """What is said of each job, by block, until all have ended or the process has died."""
        if not self._ready and not self._stdout.readline():
            return
        self._ready = True
        try:
            for job in jobs:
                text = json.dumps(_job_values(job, Path(self._folder.name) / f"{next(self._numbers)}.json"))
                self._stdin.write(text.encode() + b"\n")
            self._stdin.flush()
        except BrokenPipeError:
            return
        running = len(jobs)
        while running:
            line = self._stdout.readline()
            if not line:
                return
            answer = json.loads(line)
            running -= "done" in answer
            yield answer["block"], Answer(answer.get("placed"), answer.get("reason"))

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stdout.close()
        self._folder.cleanup()

    def last_line(self) -> str:
        """The last that it said of itself."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.is_file() else ""
        lines = [line for line in text.splitlines() if line.strip()]
        return f"{lines[-1] if lines else 'it ended without a word'} (see {self.log})"


def in_workers(jobs: list[BlockJob], workers: int) -> Iterator[tuple[BlockJob, Answer]]:
    """What is said of each job. If the worker process itself dies, a new one takes the jobs that are left; the second
    time it happens without any job ending they fail."""
    left = {job.block: job for job in jobs}
    barren = 0
    while left:
        before = len(left)
        with WorkerProcess(jobs[0].out / "log" / "worker.log", workers) as process:
            for block, answer in process.answers(list(left.values())):
                yield left[block] if answer.placed is not None else left.pop(block), answer
        barren = 0 if len(left) < before else barren + 1
        if barren == 2:
            for job in left.values():
                yield job, Answer(reason=f"the registration worker does not run: {process.last_line()}")
            return


def in_pool(jobs: list[BlockJob], pool: OpenPool) -> Iterator[tuple[BlockJob, Answer]]:
    """What is said of each job when it has ended. Its worker starts a process as above, and keeps it for the next
    block; a block whose worker dies is begun once more.

    Raises:
        Exception: what a block raised, as :func:`~stainda.registration.blocks.register_block` does here.
    """
    if not jobs:
        return
    by_block = {job.block: job for job in jobs}
    with pool(register_in_process) as workers:
        for outcome in outcomes(workers, by_block):
            answer = Answer(reason=outcome.reason) if outcome.died else outcome.result()
            yield by_block[outcome.key], answer


def register_in_process(_key: str, job: BlockJob) -> Answer:
    """How a block ended that a worker of a pool registers: in a process next to it, or here where no VALIS is used."""
    if not job.needs_valis:
        register_block(job)
        return Answer()
    for _ in range(2):
        try:
            process = _idle.pop()
        except IndexError:
            name = f"worker-{socket.gethostname()}-{os.getpid()}"
            process = WorkerProcess(REGISTRATION_LOG.inside(job.out / "log", block=name), 1)
        for _, answer in process.answers([job]):
            if answer.placed is None:
                _idle.append(process)
                timer = threading.Timer(IDLE_SECONDS, _end, [process])
                timer.daemon = True
                timer.start()
                return answer
        process.close()
    return Answer(reason=f"the registration worker does not run: {process.last_line()}")


_idle: deque[WorkerProcess] = deque()


def _end(process: WorkerProcess) -> None:
    """End a process that has had no block for a while."""
    try:
        _idle.remove(process)
    except ValueError:  # it has another block
        return
    process.close()


def _job_values(job: BlockJob, answer: Path) -> dict[str, Any]:
    sections = [
        {key: str(value) if isinstance(value, Path) else value for key, value in asdict(row).items()}
        for row in job.sections
    ]
    return {
        "block": job.block, "sections": sections, "config": job.config.model_dump(mode="json"), "out": str(job.out),
        "settings": job.settings, "log": str(job.out / "log" / REGISTRATION_LOG.inside("", block=job.block).name),
        "answer": str(answer),
        "seconds": VALIS_SECONDS * (3 * len(job.sections) + 1),
    }  # fmt: skip
