"""Kill what takes part in a run at random moments, and compare what comes out with an undisturbed run.

``python tests/faults/run.py --kills 50`` prints a table: each kind of fault, how often, and how many finished jobs were
lost, done again, done by two at once, or came out otherwise. All of the latter are to be zero; the exit status says so.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiny_run import FAULTS_ARE_OVER

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]
KINDS = {
    "leader": "SIGKILL of the leader",
    "worker": "SIGKILL of another worker",
    "job of the leader": "SIGKILL of a job's process at the leader",
    "job of a worker": "SIGKILL of a job's process at another worker",
    "second leader": "a second leader started",
    "PostgreSQL": "immediate stop of PostgreSQL",
    "Dask scheduler": "SIGKILL of the Dask scheduler",
    "clock": "the wall clock of leader and worker set forward or back by a day",
    "leader moves": "SIGKILL of the leader, started again on the other machine",
    "machine gone": "the other machine lost (its processes killed) and back after 100 s",
    "still": "the file system of the other worker stands still for 20 s",
}
OF_MACHINES = {"leader moves", "machine gone", "still"}
SERVERS = {"PostgreSQL", "Dask scheduler"}
"""Without them the leader ends with a reason, and is started again."""
STILL_SECONDS, GONE_SECONDS = 20.0, 100.0
LIMIT = 400.0  # seconds of one study
LIMIT_OF_MACHINES = 2000.0
"""The same where a machine is not known to be gone before its claims have been silent for a minute."""


@dataclass(frozen=True)
class Places:
    """One folder as the suite, the machine of the leader and that of the other worker see it.

    Where the latter two are mounts of a network file system (``--machines``) the worker has another host name, so that
    each takes the other for another machine; ``client``: the process that serves the worker's mount.
    """

    own: Path
    leader: Path
    worker: Path
    client: int = 0

    @property
    def limit(self) -> float:
        return LIMIT if self.own == self.worker else LIMIT_OF_MACHINES


@dataclass
class Tally:
    """What became of the runs that had one kind of fault."""

    repetitions: int = 0
    lost: int = 0
    repeated: int = 0
    at_once: int = 0
    wrong: int = 0

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.repeated or self.at_once or self.wrong)


@dataclass
class Cast:
    """The processes of one run; ``options`` of its leader; ``server``: the PostgreSQL or the Dask cluster it needs."""

    places: Places
    name: str
    options: list[str]
    leads_at: Path
    worker_from: float = 0.0
    environment: dict[str, str] = field(default_factory=dict)
    server: Any = None
    leader: Any = None
    worker: Any = None
    results: dict[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.places.own / self.name

    def start(self) -> None:
        """Whoever is not there."""
        if self.leader is None or self.leader.poll() is not None:
            self.leader = self.process("leader", self.leads_at, *self.options)
        if (self.worker is None or self.worker.poll() is not None) and time.monotonic() >= self.worker_from:
            self.worker = self.process("worker", self.places.worker)

    def process(self, role: str, place: Path, *more: str) -> subprocess.Popen[str]:
        if place != self.places.own:
            more = (*more, "--storage", f"journal:{place / self.name / 'trials.log'}") if role == "leader" else more
        return _python(
            role, place / self.name, *more, witness=self.root, machine=self._machine(place), variables=self.environment
        )

    def _machine(self, place: Path) -> str:
        return "other-machine" if place == self.places.worker != self.places.leader else ""

    def end(self) -> None:
        for process in (self.leader, self.worker):
            if process is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def look(self) -> int:
        """Remember what is finished; how many of those remembered are gone or others."""
        lost = 0
        for key, text in self.results.items():
            path = self.root / "jobs" / key / "result.json"
            lost += not path.is_file() or path.read_text() != text
        for path in (self.root / "jobs").glob("*/result.json"):
            self.results.setdefault(path.parent.name, path.read_text())
        return lost


def _python(
    role: str, root: Path, *more: str, witness: Path | None = None, machine: str = "",
    variables: dict[str, str] | None = None,
) -> subprocess.Popen[str]:  # fmt: skip
    path = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
    environment = {**os.environ, "PYTHONPATH": path, **(variables or {})}
    named = ["unshare", "--uts", "sh", "-c", f'hostname {machine} && exec "$@"', "sh"] if machine else []
    return subprocess.Popen(
        [*named, sys.executable, HERE / "tiny_run.py", role, root, *more, "--witness", witness or root],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment,
    )  # fmt: skip


def run_whole(root: Path) -> str:
    """The records of a run that nothing disturbs."""
    root.mkdir(parents=True)
    (root / FAULTS_ARE_OVER).touch()
    leader = _python("leader", root)
    _, said = leader.communicate(timeout=LIMIT)
    assert leader.returncode == 0, said
    return (root / "trials.csv").read_text()


def run_disturbed(cast: Cast, kinds: tuple[str, ...], times: int, rng: random.Random) -> Tally:
    """A run that is disturbed so many times in turn, at random moments, to its end."""
    tally, until, moment = Tally(), time.monotonic() + cast.places.limit, 0.0
    cast.start()
    while time.monotonic() < until:
        time.sleep(0.05)
        tally.lost += cast.look()
        if cast.leader.poll() == 0:
            break
        kind = kinds[tally.repetitions % len(kinds)]
        if cast.leader.poll() not in (None, -signal.SIGKILL) and not SERVERS & set(kinds):
            raise AssertionError(cast.leader.stderr.read())
        cast.start()
        if not cast.results:  # nothing has begun
            continue
        moment = moment or time.monotonic() + rng.uniform(0.0, 1.0)
        if tally.repetitions < times and time.monotonic() > moment and disturb(cast, kind):
            tally.repetitions += 1
            moment = time.monotonic() + rng.uniform(0.1, 2.0)
        if tally.repetitions == times:
            (cast.root / FAULTS_ARE_OVER).touch()
    else:
        raise TimeoutError(f"the run did not end: {kinds}")
    cast.end()
    for folder in (cast.root / "journal").iterdir():
        endings = Counter(path.suffix for path in folder.iterdir())
        tally.repeated += endings[""] > 1
        tally.at_once += endings[".twice"] > 0
    return tally


def disturb(cast: Cast, kind: str) -> bool:
    """One fault now; False where there is nothing to strike."""
    if kind in ("leader", "worker", "leader moves"):
        process = cast.worker if kind == "worker" else cast.leader
        process.kill()
        process.wait()
        if kind == "leader moves":
            cast.leads_at = cast.places.leader if cast.leads_at == cast.places.worker else cast.places.worker
    elif kind == "second leader":
        second = cast.process("leader", cast.places.worker, *cast.options)  # on the other machine, if there is one
        _, said = second.communicate(timeout=LIMIT)
        if second.returncode != 2 and cast.leader.poll() is None:
            raise AssertionError(f"a second leader was let in: {second.returncode} {said}")
    elif kind == "PostgreSQL":
        cast.server.stop("immediate")
        cast.server.start()
    elif kind == "Dask scheduler":
        cast.server.kill_scheduler()
        time.sleep(0.5)
        cast.server.start()
    elif kind == "machine gone":
        if cast.worker.poll() is not None or not _children(cast.worker.pid):
            return False
        os.killpg(cast.worker.pid, signal.SIGKILL)
        cast.worker.wait()
        cast.worker_from = time.monotonic() + GONE_SECONDS
    elif kind == "clock":
        clock = Path(cast.environment["STAINDA_TEST_CLOCK"])
        day = -86400 if int.from_bytes(clock.read_bytes(), sys.byteorder, signed=True) > 0 else 86400
        with clock.open("r+b") as stream:  # the same file, since the processes have mapped it
            stream.write(day.to_bytes(8, sys.byteorder, signed=True))
    elif kind == "still":
        os.kill(cast.places.client, signal.SIGSTOP)
        time.sleep(STILL_SECONDS)
        os.kill(cast.places.client, signal.SIGCONT)
    else:
        children = _children(cast.leader.pid if "leader" in kind else cast.worker.pid)
        if not children:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(children[0], signal.SIGKILL)
    return True


def _children(pid: int) -> list[int]:
    """Worker processes of a process: not the tracker of its resources."""
    kept = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in path.read_text().split():
                if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                    kept.append(int(child))
    return kept


def suite(kills: int, seed: int, each: int, kinds: tuple[str, ...], machines: Places | None = None) -> dict[str, Tally]:
    """``kills`` faults, shared among the kinds, at most ``each`` in one run; a run has one kind of fault."""
    import postgres

    table, rng = {kind: Tally() for kind in kinds}, random.Random(seed)
    left = Counter(kinds[number % len(kinds)] for number in range(kills))
    with tempfile.TemporaryDirectory(prefix="stainda-faults-") as name, contextlib.ExitStack() as stack:
        server = stack.enter_context(postgres.server()) if "PostgreSQL" in kinds else None
        truth = run_whole(Path(name) / "whole")
        places = machines or Places(Path(name), Path(name), Path(name))
        number = 0
        while left.total():
            kind = next(kind for kind in kinds if left[kind] > 0)
            number += 1
            with prepared(places, str(number), kind, server) as cast:
                tally = run_disturbed(cast, (kind,), min(each, left[kind]), rng)
            left[kind] -= tally.repetitions
            row = table[kind]
            for field_name in ("repetitions", "lost", "repeated", "at_once"):
                setattr(row, field_name, getattr(row, field_name) + getattr(tally, field_name))
            row.wrong += (cast.root / "trials.csv").read_text() != truth
            print(f"run {number}: {kind}, {tally.repetitions} faults", file=sys.stderr, flush=True)
    return table


@contextlib.contextmanager
def prepared(places: Places, name: str, kind: str, database: Any = None) -> Iterator[Cast]:
    """A run that is about to be disturbed, with the servers that it needs for this kind of fault."""
    from dask_cluster import cluster

    with contextlib.ExitStack() as stack:
        cast = Cast(places, name, [], places.leader)
        cast.root.mkdir(parents=True)
        if kind == "clock":
            clock, library = cast.root / "clock", cast.root / "clock.so"
            clock.write_bytes(bytes(8))
            subprocess.run(["cc", "-shared", "-fPIC", "-o", library, HERE / "clock.c"], check=True)
            cast.environment = {"LD_PRELOAD": str(library), "STAINDA_TEST_CLOCK": str(clock)}
        if kind == "PostgreSQL":
            database.empty()
            address = database.address.replace("postgresql:", "postgresql+psycopg:")
            cast.options, cast.server = ["--storage", address], database
        if kind == "Dask scheduler":
            cast.server = stack.enter_context(cluster(2, cast.root))
            cast.options = ["--scheduler", cast.server.address]
        stack.callback(cast.end)
        yield cast


def _machines(served: Path, leader: Path, worker: Path, client: int) -> Places:
    """A new folder on a network file system."""
    name = f"faults-{os.getpid()}"
    for place in (served, leader, worker):
        if not place.is_dir():
            raise SystemExit(f"{place}: this is not a folder")
    (served / name).mkdir()
    return Places(served / name, leader / name, worker / name, client)


def shown(table: dict[str, Tally]) -> str:
    """The table of the documentation."""
    lines = [
        "| fault | repetitions | finished jobs lost | repeated | done by two at once | runs with other records |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {KINDS[kind]} | {row.repetitions} | {row.lost} | {row.repeated} | {row.at_once} | {row.wrong} |"
        for kind, row in table.items()
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--each", type=int, default=6, help="faults in one run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="*", choices=list(KINDS))
    parser.add_argument(
        "--machines", nargs=3, type=Path, metavar=("SERVED", "LEADER", "WORKER"),
        help="a folder on this machine's disk, and two mounts of it by a network file system in user space (FUSE)",
    )  # fmt: skip
    parser.add_argument("--client", type=int, default=0, metavar="PID", help="the process that serves WORKER")
    given = parser.parse_args()
    machines = _machines(*given.machines, given.client) if given.machines else None
    left_out = (SERVERS if machines else OF_MACHINES) | (set() if given.client else {"still"})
    left_out |= set() if shutil.which("cc") else {"clock"}
    kinds = given.kinds or [kind for kind in KINDS if kind not in left_out]
    if left_out & set(kinds):
        parser.error(f"not with these options, or on this machine: {', '.join(left_out & set(kinds))}")
    started = time.monotonic()
    table = suite(given.kills, given.seed, given.each, tuple(kinds), machines)
    print(shown(table))
    print(f"seed {given.seed}, {time.monotonic() - started:.0f} s")
    return 0 if all(row.is_clean for row in table.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
