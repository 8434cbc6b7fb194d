"""The worker process: a block that dies takes no other down, a dead worker is replaced, and nothing waits forever."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from stainda.cohort import Section
from stainda.config import RegistrationConfig
from stainda.registration import worker_process
from stainda.registration.jobs import BlockJob, block_settings

SERVER = """
    import os, pathlib, signal, sys, time
    from stainda.registration import worker

    def run_logged(values):
        if values["block"] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if values["block"] == "slow":
            time.sleep(60)
        if values["block"] == "long":
            for placed in (3, 7):
                pathlib.Path(values["answer"] + worker.PLACED).write_text(str(placed))
                time.sleep(1)
        return {"block": values["block"], "done": True}

    worker.run_logged = run_logged
    worker.Server(2, sys.stdin.buffer, sys.stdout).serve()
"""


def test_a_block_that_dies_or_hangs_is_answered_with_its_reason(tmp_path) -> None:
    names = ("first", "killed", "slow", "last")
    lines = [
        json.dumps({"block": name, "answer": str(tmp_path / name), "seconds": 1.0 if name == "slow" else 60})
        for name in names
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("\n".join(lines) + "\n")
    process.stdin.flush()
    answers = {answer["block"]: answer for answer in (json.loads(process.stdout.readline()) for _ in names)}
    process.stdin.close()
    assert process.wait(20) == 0
    process.stdout.close()
    assert answers["first"]["done"] and answers["last"]["done"]
    assert "SIGKILL" in answers["killed"]["reason"] and "too long" in answers["slow"]["reason"]
    assert list(tmp_path.iterdir()) == [], "answers leave no files behind"


def test_a_block_of_many_sections_says_how_far_it_is(tmp_path) -> None:
    line = json.dumps({"block": "long", "answer": str(tmp_path / "answer"), "seconds": 60})
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    answers = [json.loads(process.stdout.readline()) for _ in range(3)]
    process.stdin.close()
    assert process.wait(20) == 0
    process.stdout.close()
    assert [answer.get("placed") for answer in answers] == [3, 7, None] and answers[2]["done"]
    assert list(tmp_path.iterdir()) == []


def jobs(tmp_path: Path, count: int = 3) -> list[BlockJob]:
    return [BlockJob(f"b{index}", (), RegistrationConfig(), tmp_path, "x") for index in range(count)]


def script(tmp_path: Path, answers_before_dying: int) -> tuple[str, ...]:
    """A worker that answers so many jobs of each of its lives and then dies; every life leaves a mark."""
    path = tmp_path / "worker.py"
    path.write_text(
        textwrap.dedent(f"""
        import json, pathlib, sys
        with open({str(tmp_path / "lives")!r}, "a") as lives:
            lives.write("x")
        import tempfile
        tempfile.mkdtemp(prefix="left-behind-")
        print(json.dumps({{"ready": True}}), flush=True)
        for _ in range({answers_before_dying}):
            line = sys.stdin.readline()
            if not line:
                break
            print(json.dumps({{"block": json.loads(line)["block"], "done": True}}), flush=True)
        print("out of luck", file=sys.stderr)
    """)
    )
    return sys.executable, str(path)


def test_a_dead_worker_is_replaced_and_the_finished_blocks_are_kept(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(worker_process, "WORKER", script(tmp_path, answers_before_dying=1))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ended = list(worker_process.in_workers(jobs(tmp_path), 1))
    assert [(job.block, answer) for job, answer in ended] == [
        (f"b{index}", worker_process.Answer()) for index in range(3)
    ]
    assert (tmp_path / "lives").read_text() == "xxx"
    assert not list(tmp_path.rglob("left-behind-*")), "what a dead worker left is swept away"


def test_a_worker_that_never_answers_is_given_up_with_its_last_words(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(worker_process, "WORKER", script(tmp_path, answers_before_dying=0))
    ended = list(worker_process.in_workers(jobs(tmp_path), 1))
    assert len(ended) == 3 and all("out of luck" in str(answer.reason) for _, answer in ended)
    assert (tmp_path / "lives").read_text() == "xx"


@pytest.mark.parametrize("change", ["moved", "touched", "repainted"])
def test_a_finished_block_is_known_by_content_wherever_it_lies(tmp_path, change) -> None:
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    path = tmp_path / "here" / "s.png"
    Image.new("RGB", (64, 64), "white").save(path)
    section = Section("s", "p", "b", 1, "PAS", "A", path)
    before = block_settings((section,), RegistrationConfig())
    if change == "moved":
        section = replace(section, path=path.rename(tmp_path / "there" / "s.png"))
    elif change == "touched":
        path.touch()
    else:
        Image.new("RGB", (64, 64), "black").save(path)
    assert (block_settings((section,), RegistrationConfig()) == before) is (change != "repainted")
