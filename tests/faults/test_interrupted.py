"""Ctrl-C ends a run cleanly; what a full disk does is said, and leaves whole files."""

import errno
import os
import signal
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import killing

from stainda.errors import StaindaError, UnexpectedError
from stainda.files import whole_file, write_text


def _wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def _is_there(group):
    """Whether any process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_ends_the_leader_and_its_jobs(tmp_path, times):
    """Once or twice: no process stays, nobody is offered anything more, no claim stays, and a restart goes on."""
    leader = killing._python("leader", tmp_path)
    _wait_for(lambda: list((tmp_path / "shared" / "claims").glob("*")) or leader.poll() is not None)
    for _ in range(times):
        os.killpg(leader.pid, signal.SIGINT)
    assert leader.wait(30) != 0
    _wait_for(lambda: not _is_there(leader.pid), 20)
    if times == 1:
        assert '"interrupted"' in (tmp_path / "progress.json").read_text()
        assert not list((tmp_path / "shared" / "open").glob("*"))
        assert not list((tmp_path / "shared" / "claims").glob("*"))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_said_and_leaves_the_file_as_it_was(tmp_path, number):
    path = write_text(tmp_path / "a.txt", "whole")
    with pytest.raises(UnexpectedError, match="cannot write here"), whole_file(path) as aside:
        aside.write_text("half")
        raise OSError(number, os.strerror(number))
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"] and path.read_text() == "whole"


def test_an_error_of_reading_while_a_file_is_written_stays_what_it_is(tmp_path):
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "a.txt"):
        (tmp_path / "absent").read_text()


def test_a_place_that_is_no_folder_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StaindaError, match="cannot write here"):
        write_text(tmp_path / "file" / "a.txt", "x")


def test_a_job_on_a_full_disk_may_be_tried_again(tmp_path, monkeypatch):
    """Its reason cannot be written down either; it is reported all the same."""
    from stainda.run_directory.folder import RunFolder
    from stainda.study import jobs

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(jobs, "_train_and_score", full)
    monkeypatch.setattr(jobs, "write_text", full)
    request = type("Request", (), {"folder": RunFolder(tmp_path)})()
    with pytest.raises(UnexpectedError, match="No space left"):
        jobs.run_job("a", request)
