"""One process works in a run directory, also where another machine's locks are not seen."""

import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from stainda.errors import StaindaError
from stainda.run_directory.claims import Claims
from stainda.run_directory.folder import RunFolder
from stainda.run_directory.holding import held

QUICK = {"every": 0.1, "silent": 1.0}


def _other(root: Path):
    """The claim of a process on another machine, whose lock is not seen here."""
    claim = Claims(root, **QUICK).take(".lock")
    claim.holder = replace(claim.holder, machine="other-host/1")
    assert claim.renew()
    return claim


def test_a_run_directory_that_another_machine_works_in_is_refused(tmp_path):
    with _other(tmp_path).kept(lambda: None):
        with (
            pytest.raises(StaindaError, match="another stainda process on other-host is working") as refused,
            held(tmp_path, lambda text: None, Claims(tmp_path, **QUICK)),
        ):
            pass
        assert [path.name for path in tmp_path.glob(".lock.*")] == [".lock.1"], "the other's claim stays"
    assert "--out" in refused.value.remedy


def test_what_a_killed_process_of_another_machine_left_is_taken_over_after_a_while(tmp_path):
    _other(tmp_path)
    sentences: list[str] = []
    begun = time.monotonic()
    with held(tmp_path, sentences.append, Claims(tmp_path, **QUICK)):
        assert 1.0 < time.monotonic() - begun < 5.0
        assert ".lock.2" in [path.name for path in tmp_path.iterdir()]
    assert not list(tmp_path.glob(".lock.*"))
    assert len(sentences) == 1 and "other-host" in sentences[0] and "up to 1 s" in sentences[0]


def test_a_last_sign_that_is_seen_late_is_no_sign_of_life(tmp_path):
    claim = _other(tmp_path)
    threading.Timer(0.3, claim.renew).start()
    with held(tmp_path, lambda text: None, Claims(tmp_path, **QUICK)):
        assert claim.beat == 2 and (tmp_path / ".lock.2").exists()


def test_a_run_directory_that_is_given_back_in_the_meantime_is_taken_at_once(tmp_path):
    claim = _other(tmp_path)
    threading.Timer(0.3, claim.release).start()
    begun = time.monotonic()
    with held(tmp_path, lambda text: None, Claims(tmp_path, every=0.1, silent=60)):
        assert time.monotonic() - begun < 10


def test_a_process_that_stood_still_ends_when_another_machine_took_over(tmp_path):
    with (
        pytest.raises(StaindaError, match="another machine took the run directory over"),
        held(tmp_path, lambda text: None, Claims(tmp_path, **QUICK)),
    ):
        (tmp_path / ".lock.2").write_text("{}")
        time.sleep(60)
    assert (tmp_path / ".lock.2").exists(), "the other's claim stays"


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL, lambda number, frame: sys.exit(3)])
def test_it_ends_also_where_the_program_handles_interrupts_in_its_own_way(tmp_path, handler):
    before = signal.signal(signal.SIGINT, handler)
    try:
        with (
            pytest.raises(StaindaError, match="another machine took the run directory over"),
            held(tmp_path, lambda text: None, Claims(tmp_path, **QUICK)),
        ):
            (tmp_path / ".lock.2").write_text("{}")
            time.sleep(60)
        assert signal.getsignal(signal.SIGINT) == handler, "the program has its handler back"
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_is_the_programs_own_while_nobody_took_over(tmp_path):
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        with held(tmp_path, lambda text: None, Claims(tmp_path, **QUICK)):
            signal.raise_signal(signal.SIGINT)
        assert seen == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_claim_that_the_file_system_lost_is_written_again(tmp_path):
    with held(tmp_path, lambda text: None, Claims(tmp_path, **QUICK)):
        (tmp_path / ".lock.1").unlink()
        time.sleep(0.5)
        assert (tmp_path / ".lock.1").exists()
    assert not list(tmp_path.glob(".lock.*"))


def test_a_run_directory_is_held_with_a_claim(tmp_path):
    with RunFolder(tmp_path / "run").locked():
        assert Claims(tmp_path / "run").last(".lock") == 1
    assert Claims(tmp_path / "run").last(".lock") == 0
