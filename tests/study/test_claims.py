"""Claims on trainings: one holder at a time, taken up again when it gives no sign, whatever the clocks say."""

import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from stainda.run_directory.claims import Claims, Holder


class Clock:
    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds


def _elsewhere(claim):
    """Make a claim look like one of another machine."""
    text = claim.path.read_text().replace('"machine": "', '"machine": "another/')
    claim.path.write_text(text)


def test_a_training_is_claimed_once(tmp_path):
    first, second = Claims(tmp_path), Claims(tmp_path)
    claim = first.take("a")
    assert claim is not None and claim.is_held()
    assert second.take("a") is None and not second.is_free("a") and second.is_free("b")
    claim.release()
    assert list(tmp_path.iterdir()) == []
    assert second.take("a") is not None


def test_a_silent_claim_of_another_machine_is_taken_up_by_the_observers_clock(tmp_path):
    clock = Clock()
    slow, other = Claims(tmp_path), Claims(tmp_path, silent=60, now=clock)
    claim = slow.take("a")
    _elsewhere(claim)
    os.utime(claim.path, (0, 0))  # a clock that is decades behind
    assert other.take("a") is None
    clock.seconds += 59
    assert other.take("a") is None
    assert claim.renew()
    clock.seconds += 59
    assert other.take("a") is None, "it has been renewed"
    clock.seconds += 61
    taken = other.take("a")
    assert taken is not None and taken.number == 2 and taken.is_held()
    assert not claim.renew(), "who was only slow finds that it lost the claim"
    claim.release()
    assert taken.is_held(), "and does not take it back"


def test_a_holder_that_is_gone_from_this_machine_is_noticed_at_once(tmp_path):
    code = (
        "import sys, os; from pathlib import Path; from stainda.run_directory.claims import Claims;"
        "Claims(Path(sys.argv[1])).take('a'); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True)
    assert (tmp_path / "a.1").is_file()
    taken = Claims(tmp_path).take("a")
    assert taken is not None and taken.number == 2


def test_a_process_number_used_again_is_another_process():
    here = Holder.here()
    assert not here.is_gone
    assert Holder(here.machine, here.pid, str(int(here.born) - 1)).is_gone
    assert not Holder("", here.pid, "1").is_gone, "where machines cannot be told apart, only silence counts"


def test_a_claim_whose_writer_died_before_it_wrote_is_taken_up(tmp_path):
    clock = Clock()
    (tmp_path / "a.1").touch()
    claims = Claims(tmp_path, silent=60, now=clock)
    assert claims.take("a") is None
    clock.seconds += 61
    assert claims.take("a").number == 2


def test_a_holder_is_told_when_another_one_has_its_claim(tmp_path):
    clock, lost = Clock(), []
    claims, other = Claims(tmp_path, every=0.01), Claims(tmp_path, silent=1, now=clock)
    claim = claims.take("a")
    with claim.kept(lambda: lost.append(True)):
        for _ in range(500):
            if not lost:
                _elsewhere(claim) if claim.beat == 0 else None
                other.is_free("a")
                (tmp_path / "a.2").touch()  # as one who could not see the beats
                multiprocessing.Event().wait(0.01)
    assert lost == [True]
    assert (tmp_path / "a.2").exists()


def _race(folder, start, end, results):
    claims = Claims(folder)
    start.wait()
    results.put([key for key in map(str, range(50)) if claims.take(key) is not None])
    end.wait()  # a holder that is gone would give its claims up


def test_of_many_who_come_at_once_one_gets_it(tmp_path):
    context = multiprocessing.get_context("fork")
    start, end, results = context.Event(), context.Event(), context.Queue()
    processes = [context.Process(target=_race, args=(tmp_path, start, end, results)) for _ in range(4)]
    for process in processes:
        process.start()
    start.set()
    taken = [key for _ in processes for key in results.get()]
    end.set()
    for process in processes:
        process.join()
    assert sorted(taken, key=int) == [str(number) for number in range(50)]


def test_a_claim_outlives_a_wall_clock_that_jumps(tmp_path, monkeypatch):
    """Seconds of silence are those of a clock that nobody sets."""
    holder, observer = Claims(tmp_path), Claims(tmp_path)
    claim = holder.take("a")
    _elsewhere(claim)
    assert not observer.is_free("a")
    for hours in (-24, 24):
        monkeypatch.setattr("time.time", lambda hours=hours: 1e9 + hours * 3600)
        assert not observer.is_free("a") and observer.take("a") is None


def test_a_claim_that_the_file_system_loses_ends_its_holder(tmp_path):
    """A network file system that lost the file: the training may be claimed anew, and its first holder notices."""
    lost = threading.Event()
    first, second = Claims(tmp_path, every=0.02), Claims(tmp_path)
    claim = first.take("a")
    with claim.kept(lost.set):
        claim.path.unlink()
        other = second.take("a")
        assert lost.wait(20)
    assert other is not None and other.is_held(), "the release of the first holder left the second one's claim"


class NetworkFolder:
    """A folder as two machines see it whose caches show the other's changes 3 to 60 seconds late (``acregmin`` and
    ``acdirmax`` of NFS), listings and contents each on their own; what a machine writes itself it sees at once."""

    def __init__(self, folder, clock, monkeypatch, seed):
        self.clock, self.rng, self.machine = clock, np.random.default_rng(seed), "A"
        self.cache = {}
        read, glob, create = Path.read_text, Path.glob, os.open
        monkeypatch.setattr(Path, "read_text", lambda path, **rest: self.late(path, lambda: read(path, **rest)))
        monkeypatch.setattr(
            Path, "glob", lambda path, pattern: self.late(path / pattern, lambda: list(glob(path, pattern)))
        )

        def created(path, *rest):
            self.cache = {key: kept for key, kept in self.cache.items() if key[0] != self.machine}
            return create(path, *rest)

        monkeypatch.setattr(os, "open", created)

    def late(self, what, now):
        key = self.machine, what
        if key not in self.cache or self.clock() >= self.cache[key][0]:
            self.cache[key] = self.clock() + self.rng.uniform(3, 60), now()
        return self.cache[key][1]

    def seen_by(self, machine, own=()):
        """From now on by this machine, which has written ``own`` itself."""
        self.machine = machine
        for path in own:
            self.cache.pop((machine, path), None)


@pytest.mark.parametrize("seed", range(3))
def test_a_network_file_system_that_shows_changes_late(tmp_path, monkeypatch, seed):
    """Two hours with a holder whose writes take up to 25 s: nobody takes its claim; when it stands still it is taken,
    and its holder notices a minute after it goes on."""
    clock = Clock()
    network = NetworkFolder(tmp_path, clock, monkeypatch, seed)
    holder, observer = Claims(tmp_path, now=clock), Claims(tmp_path, now=clock)
    claim = holder.take("a")
    monkeypatch.setattr(Holder, "is_gone", False)
    due = clock()
    for _ in range(7200):
        clock.seconds += 1
        if clock() >= due:
            network.seen_by("A", own=[claim.path])
            assert claim.renew()
            due = clock() + 3 + network.rng.choice([0, 25], p=[0.9, 0.1])
        network.seen_by("B")
        assert not observer.is_free("a")
    stood_still = clock()
    while (taken := observer.take("a")) is None:
        clock.seconds += 1
    assert 30 < clock() - stood_still < 151 and taken.number == 2
    noticed = clock()
    network.seen_by("A", own=[claim.path])
    while claim.renew():
        clock.seconds += 3
    assert clock() - noticed < 66
    network.seen_by("B", own=[taken.path])
    assert taken.is_held()
