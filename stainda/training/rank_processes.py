"""The processes of a training with several ranks: started by the first one, and ended with it."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from torch import distributed

from stainda.config import TrainingConfig
from stainda.errors import TrainingError, UnexpectedError
from stainda.processes import VISIBLE_GPUS, end_with, how_it_ended
from stainda.training.machine import choose_device
from stainda.training.ranks import TIMEOUT, Ranks

_LAST_SECONDS = 60.0
"""A rank that has taken its last step has this long to end."""


@dataclass(frozen=True)
class _Meeting:
    """Where the ranks of a training meet: a file in ``folder``, so that no port is open before."""

    folder: Path
    rank: int
    count: int
    device: str
    gpu: str | None = None

    @property
    def ready(self) -> Path:
        return self.folder / f"ready {self.rank}"

    @property
    def error(self) -> Path:
        return self.folder / f"error {self.rank}"

    @contextmanager
    def joined(self) -> Iterator[Ranks]:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # ranks of one machine; the default asks for the host's name
        with _joined(Ranks(self.rank, self.count), self.device, f"file://{self.folder / 'meeting'}") as ranks:
            yield ranks


@contextmanager
def _joined(ranks: Ranks, device: str, meeting: str) -> Iterator[Ranks]:
    distributed.init_process_group(
        "nccl" if device == "cuda" else "gloo", init_method=meeting, rank=ranks.rank, world_size=ranks.count,
        timeout=TIMEOUT,
    )  # fmt: skip
    try:
        yield ranks
    finally:
        distributed.destroy_process_group()


@contextmanager
def ranks_of_torchrun(config: TrainingConfig) -> Iterator[Ranks]:
    """This process as a rank among those that torchrun started, on any number of machines.

    Raises:
        TrainingError: torchrun did not start it, or started more or fewer than ``training.devices``.
    """
    try:
        rank, count, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    except KeyError as error:
        raise TrainingError("this process was not started by torchrun", remedy="See docs/howto/workers.md") from error
    if count != config.devices:
        raise TrainingError(
            f"torchrun started {count} processes, and training.devices is {config.devices}",
            remedy="Change --nnodes and --nproc-per-node, or the study",
        )
    device = choose_device(config)
    if device == "cuda":
        os.environ["CUDA_VISIBLE_DEVICES"] = _visible_gpus()[local]
    with _joined(Ranks(rank, count), device, "env://") as ranks:
        yield ranks


@contextmanager
def started_ranks(config: TrainingConfig, work: Callable[[Ranks], None]) -> Iterator[Ranks]:
    """Start the further ranks of a training, each of which does ``work``; yields the first rank, this process.

    Args:
        work: can be pickled.

    Raises:
        TrainingError: there are fewer GPUs than ``training.devices``.
        UnexpectedError: a rank died.
    """
    if config.devices == 1:
        yield Ranks()
        return
    device = choose_device(config)
    gpus = _gpus(config.devices) if device == "cuda" else [None] * config.devices
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="stainda-ranks-") as folder:
        meetings = [_Meeting(Path(folder), rank, len(gpus), device, gpu) for rank, gpu in enumerate(gpus)]
        others = [context.Process(target=_take_part, args=(work, meeting, os.getpid())) for meeting in meetings[1:]]
        whole = False
        try:
            for process in others:
                process.start()
            _wait_until_ready(others, meetings[1:])
            with meetings[0].joined() as ranks:
                yield ranks
            whole = True
        except RuntimeError as error:  # of a collective that another rank has left
            raise _death(others, meetings[1:], error) or error from error
        finally:
            _end(others, _LAST_SECONDS if whole else 0.0)


def _take_part(work: Callable[[Ranks], None], meeting: _Meeting, parent: int) -> None:
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    if meeting.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = meeting.gpu
    try:
        meeting.ready.touch()
        with meeting.joined() as ranks:
            work(ranks)
    except BaseException:
        meeting.error.write_text(traceback.format_exc(), encoding="utf-8")
        os._exit(1)  # the first rank says it


def _wait_until_ready(others: Sequence[BaseProcess], meetings: Sequence[_Meeting]) -> None:
    while not all(meeting.ready.exists() for meeting in meetings):
        if (death := _death(others, meetings, None)) is not None:
            raise death
        time.sleep(0.05)


def _death(
    others: Sequence[BaseProcess], meetings: Sequence[_Meeting], error: BaseException | None
) -> UnexpectedError | None:
    """What is said of a rank that died; ``None`` where none did. After an error of a collective, one that is about to
    die is waited for."""
    until = time.monotonic() + (5.0 if error is not None else 0.0)
    while True:
        for process, meeting in zip(others, meetings, strict=True):
            if process.exitcode:
                text = meeting.error.read_text(encoding="utf-8").strip() if meeting.error.exists() else ""
                said = f": {text.splitlines()[-1]}" if text else ""
                return UnexpectedError(
                    f"rank {meeting.rank} of {meeting.count} died ({how_it_ended(process.exitcode)}){said}",
                    remedy="Lower training.devices or training.batch_size if memory was short",
                )
        if time.monotonic() >= until:
            return None
        time.sleep(0.05)


def _end(others: Sequence[BaseProcess], seconds: float) -> None:
    until = time.monotonic() + seconds
    for process in others:
        if process.pid is None:  # it was not started
            continue
        process.join(max(0.0, until - time.monotonic()))
        if process.is_alive():
            process.kill()  # it may wait for a rank that is gone
        process.join()


def _gpus(devices: int) -> list[str]:
    """The GPU of each rank: this worker's own first, then such as no other worker has."""
    own = _visible_gpus()
    all_gpus = os.environ.get(VISIBLE_GPUS, ",".join(own)).split(",")
    if len(all_gpus) < devices:
        raise TrainingError(
            f"training.devices is {devices}, and {len(all_gpus)} GPUs are visible",
            remedy="Lower training.devices, or name more in CUDA_VISIBLE_DEVICES",
        )
    apart = len(all_gpus) // devices  # trainings side by side
    first = all_gpus.index(own[0])
    return [all_gpus[(first + apart * rank) % len(all_gpus)] for rank in range(devices)]


def _visible_gpus() -> list[str]:
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named or [str(index) for index in range(torch.cuda.device_count())]
