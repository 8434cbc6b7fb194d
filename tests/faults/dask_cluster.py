"""A Dask cluster of this machine for tests: a scheduler and workers as processes of their own, to be killed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent


class DaskCluster:
    """Listens on 127.0.0.1 at a free port."""

    def __init__(self, workers: int, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.workers, self.folder = workers, folder
        self.address = f"tcp://127.0.0.1:{self.port}"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Whatever is not there; a worker whose scheduler has gone is replaced."""
        if not self._is_there("scheduler"):
            for name in list(self._processes):
                self._end(name)
            options = ["--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"]
            self._processes["scheduler"] = self._dask("dask_scheduler", *options)
            self._wait()
        for number in range(self.workers):
            name = f"worker {number}"
            if not self._is_there(name):
                options = [self.address, "--nthreads", "1", "--no-dashboard", "--no-nanny", "--host", "127.0.0.1"]
                options += ["--local-directory", str(self.folder), "--memory-limit", "0"]
                self._processes[name] = self._dask("dask_worker", *options)

    def kill_scheduler(self) -> None:
        """SIGKILL: nobody is told."""
        process = self._processes["scheduler"]
        process.kill()
        process.wait()

    def end(self) -> None:
        for name in list(self._processes):
            self._end(name)

    def _is_there(self, name: str) -> bool:
        return name in self._processes and self._processes[name].poll() is None

    def _end(self, name: str) -> None:
        process = self._processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def _dask(self, program: str, *options: str) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
        return subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{program}", *options],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd=self.folder,
            env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip

    def _wait(self) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.1)
        raise TimeoutError("the Dask scheduler does not answer")


@contextlib.contextmanager
def cluster(workers: int, folder: Path) -> Iterator[DaskCluster]:
    running = DaskCluster(workers, folder)
    try:
        running.start()
        yield running
    finally:
        running.end()
