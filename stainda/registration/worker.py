"""Worker process that runs VALIS, a number of blocks at a time (its argument).

Importing VALIS takes 20 s of processor time and 1.2 GB, so it is done once here; each block then runs in a fork of this
process, which shares those pages, writes to its own log, and takes its memory, its global settings and its crashes with
it when it ends. Jobs come as lines of JSON on standard input, answers leave as lines of JSON on standard output. When
standard input closes (also because the parent was killed) the running blocks are stopped and the process ends.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from stainda.config import RegistrationConfig
from stainda.files import load_json, write_text
from stainda.processes import how_it_ended
from stainda.registration.blocks import register_block
from stainda.registration.jobs import BlockJob
from stainda.registration.sections import section_from_job
from stainda.registration.valis_import import import_valis

PLACED = ".placed"


def placed_file(answer: Path) -> Path:
    """Where a fork says how many sections of its block are placed: next to the file of its answer."""
    return answer.with_name(f"{answer.name}{PLACED}")


@dataclass
class Running:
    """One block in a fork: its name, the file its answer comes in, when it has to be finished, whether it was stopped
    for being late, and how many of its sections were placed when it was last asked."""

    block: str
    answer: Path
    deadline: float
    late: bool = False
    placed: int = 0


def job_from_json(values: dict[str, Any]) -> BlockJob:
    return BlockJob(
        values["block"], tuple(section_from_job(row) for row in values["sections"]),
        RegistrationConfig.model_validate(values["config"]), Path(values["out"]), values["settings"],
    )  # fmt: skip


def run_logged(values: dict[str, Any]) -> dict[str, Any]:
    """Register one block with everything that is printed, also by C libraries, going to its log file."""

    def report(placed: int) -> None:
        write_text(placed_file(Path(values["answer"])), str(placed))

    log = Path(values["log"])
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    try:
        register_block(job_from_json(values), report)
        return {"block": values["block"], "done": True}
    except Exception as error:
        traceback.print_exc()
        return {"block": values["block"], "done": False, "reason": f"{type(error).__name__}: {error}"}
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


class Server:
    """Takes jobs, keeps at most ``slots`` of them running, and answers when each ends."""

    def __init__(self, slots: int, jobs: BinaryIO, answers: TextIO) -> None:
        self.slots, self.jobs, self.answers = slots, jobs, answers
        self.waiting: list[dict[str, Any]] = []
        self.running: dict[int, Running] = {}
        self.open = True
        self._unread = b""

    def serve(self) -> None:
        selector = selectors.DefaultSelector()
        selector.register(self.jobs, selectors.EVENT_READ)
        try:
            while self.open or self.running or self.waiting:
                if selector.select(timeout=0.1 if self.running else None) and not self._read():
                    return  # the parent is gone or has closed the pipe: nobody waits for an answer any more
                self._reap()
                self._report()
                while self.waiting and len(self.running) < self.slots:
                    self._start(self.waiting.pop(0))
        finally:
            self._stop_all()

    def _read(self) -> bool:
        data = os.read(self.jobs.fileno(), 1 << 16)
        lines = (self._unread + data).split(b"\n")
        self._unread = lines.pop()
        self.waiting += [json.loads(line) for line in lines if line.strip()]
        return bool(data)

    def _start(self, values: dict[str, Any]) -> None:
        if not hasattr(os, "fork"):
            self._answer(run_logged(values))
            return
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.setsid()  # so that its own children are stopped with it
                answer = run_logged(values)
                Path(values["answer"]).write_text(json.dumps(answer), encoding="utf-8")
                status = 0
            finally:
                os._exit(status)
        self.running[child] = Running(values["block"], Path(values["answer"]), time.monotonic() + values["seconds"])

    def _reap(self) -> None:
        for child, block in list(self.running.items()):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                del self.running[child]
                placed_file(block.answer).unlink(missing_ok=True)
                self._answer(self._how(block, os.waitstatus_to_exitcode(status)))
            elif time.monotonic() > block.deadline and not block.late:
                block.late = True
                _stop(child)

    def _report(self) -> None:
        """Say of blocks of many sections how far they are."""
        for block in self.running.values():
            placed = placed_file(block.answer)
            if placed.is_file() and (number := int(placed.read_text(encoding="utf-8"))) != block.placed:
                block.placed = number
                self._answer({"block": block.block, "placed": number})

    def _how(self, block: Running, code: int) -> dict[str, Any]:
        if code == 0 and block.answer.is_file():
            answer = load_json(block.answer)
            block.answer.unlink()
            return answer
        reason = "took too long and was stopped" if block.late else f"its process died ({how_it_ended(code)})"
        return {"block": block.block, "done": False, "reason": reason}

    def _answer(self, answer: dict[str, Any]) -> None:
        self.answers.write(json.dumps(answer) + "\n")
        self.answers.flush()

    def _stop_all(self) -> None:
        for child in list(self.running):
            _stop(child)
            os.waitpid(child, 0)


def _stop(child: int) -> None:
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(child, signal.SIGKILL)


def main() -> None:
    slots = int(sys.argv[1])
    # Answers leave through a copy of standard output; whatever VALIS prints while it is imported goes to stderr.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    import_valis()
    import cv2

    cv2.setNumThreads(1)  # blocks run side by side; and a pool of threads would not survive the fork
    answers.write(json.dumps({"ready": True}) + "\n")
    answers.flush()
    Server(slots, sys.stdin.buffer, answers).serve()
