"""How far a run is can be read from its files by anybody, at any time; the end of a run says what to do with it."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from stainda.cli.app import app
from stainda.config import load_study
from stainda.errors import StaindaError
from stainda.files import write_csv, write_json, write_text
from stainda.progress import SILENT
from stainda.run_directory.folder import STAGES
from stainda.run_directory.training_tables import TRIALS
from stainda.study import run_study
from stainda.study.ending import closing_lines, failure_lines
from stainda.study.estimate import pair_seconds
from stainda.study.heartbeat import PROGRESS, RunningJob, RunProgress, in_stage, tell_jobs, tell_rotation
from stainda.study.plan import plan_study
from stainda.study.status import read_status


def trials(root, *rows):
    columns = ("strategy", "trial", "seed", "job", "state", "reason")
    write_csv(root / "trials.csv", [dict(zip(columns, row, strict=True)) for row in rows], TRIALS.names)


@pytest.fixture
def root(tmp_path):
    """A run directory in the middle of its trainings: one done, one failed, one pruned, one in work, two waiting."""
    write_text(tmp_path / "study.yaml", "study: mine\ntitle: Something\n")
    write_csv(tmp_path / "budget.csv", [{"strategy": "dann", "jobs": 6}], ("strategy", "jobs"))
    trials(
        tmp_path, ("dann", 0, 1, "a", "complete", ""), ("dann", 1, 1, "b", "failed", "no memory\nat all"),
        ("dann", 2, 1, "c", "pruned", ""),
    )  # fmt: skip
    rows = [{"epoch": 1, "val_dice": 0.1}, {"epoch": 2, "val_dice": 0.2}]
    write_csv(tmp_path / "jobs" / "d" / "training.csv", rows, ("epoch", "val_dice"))
    return tmp_path


def working(root):
    progress = RunProgress(root, SILENT, STAGES)
    progress.expect({"train": 100, "evaluate": 20, "report": 10})
    return progress


def test_a_run_in_work_tells_what_is_done_running_and_left(root):
    with working(root) as progress, in_stage(progress, "train"), progress.task("Training", 10) as bar:
        tell_jobs(progress, [RunningJob("d", "dann", 3, 1, "other-host")])
        progress._state["task"]["started"] -= 60
        bar.advance(3, earlier=True)
        bar.advance(2, "dann, seed 1")
        progress._write()
        found = read_status(root)
    assert (found.state, found.stage, found.share, found.waiting) == ("running", "train", 0.5, 2)
    assert found.counts == {"done": 1, "running": 1, "failed": 1, "pruned": 1}
    assert found.jobs[0].epochs == 2 and found.jobs[0].host == "other-host" and found.task == "Training dann, seed 1"
    assert found.seconds_left == pytest.approx(150 + 20 + 10, abs=2), "five at 30 s each, then what is expected"
    assert found.stages["train"] == "running" and found.stages["report"] == "waiting"
    after = read_status(root)
    assert (after.state, after.seconds_left, after.counts["running"]) == ("complete", None, 0)


def test_the_writer_goes_on_while_nothing_advances(root, monkeypatch):
    monkeypatch.setattr("stainda.study.heartbeat.EVERY_SECONDS", 0.05)
    with working(root) as progress, in_stage(progress, "register"):
        before = json.loads((root / PROGRESS).read_text())["updated"]
        time.sleep(0.5)
        assert json.loads((root / PROGRESS).read_text())["updated"] > before


def test_the_writer_goes_on_after_a_disk_was_full(root, monkeypatch):
    monkeypatch.setattr("stainda.study.heartbeat.EVERY_SECONDS", 0.05)
    full = StaindaError("cannot write here (No space left on device)")
    with working(root) as progress, in_stage(progress, "train"):
        with monkeypatch.context() as patch:
            patch.setattr("stainda.study.heartbeat.write_json", lambda *given: (_ for _ in ()).throw(full))
            time.sleep(0.3)
        before = json.loads((root / PROGRESS).read_text())["updated"]
        time.sleep(0.3)
        assert json.loads((root / PROGRESS).read_text())["updated"] > before


@pytest.mark.parametrize(
    ("error", "state"), [(KeyboardInterrupt(), "interrupted"), (StaindaError("no room", file="x"), "failed")]
)
def test_how_a_run_ended(root, error, state):
    with pytest.raises(type(error)), working(root) as progress, in_stage(progress, "train"):
        raise error
    found = read_status(root)
    assert (found.state, found.stages["train"], found.stages["report"]) == (state, state, "missing")
    assert ("no room" in found.reason) == (state == "failed")


def test_a_killed_run_is_not_taken_for_a_running_one(root):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with working(root) as progress, in_stage(progress, "train"):
        progress._write()
        state = json.loads((root / PROGRESS).read_text())
    for host, pid, updated, expected in (
        (socket.gethostname(), gone.pid, time.time(), "stopped"),
        (socket.gethostname(), os.getpid(), 0, "running"),
        ("elsewhere", 1, time.time(), "running"),
        ("elsewhere", 1, time.time() - 3600, "stopped"),
    ):
        write_json(root / PROGRESS, {**state, "host": host, "pid": pid, "updated": updated})
        assert read_status(root).state == expected
    assert read_status(root).stages["train"] == "interrupted"


def test_a_run_of_an_earlier_version_is_known_by_its_files(root):
    found = read_status(root)
    assert found.state == "unknown" and found.stages["train"] == "done" and found.stages["report"] == "missing"


def test_rotations_are_counted_together(root):
    rows = [{"rotation": "PAS@A", "folder": "rotations/PAS@A"}, {"rotation": "SR@A", "folder": "rotations/SR@A"}]
    write_csv(root / "rotations.csv", rows, ("rotation", "folder"))
    trials(root / "rotations" / "SR@A", ("dann", 0, 1, "a", "failed", "no memory"))
    found = read_status(root)
    assert [(job.rotation, job.state) for job in found.jobs] == [("SR@A", "failed")] and found.waiting == 5
    assert "rotation SR@A, dann, trial 0, seed 1: no memory" in failure_lines(root)[1]


def test_while_the_first_rotation_trains_its_trainings_count_and_those_of_the_next_are_to_come(root):
    with working(root) as progress:
        progress.expect({"register": 30, "train": 100, "evaluate": 20, "report": 10})
        for stage in ("cohort", "register"):
            with in_stage(progress, stage):
                pass
        tell_rotation(progress, 1, 3)
        for stage in STAGES[:4]:
            with in_stage(progress, stage, "PAS@A"):
                pass
        trials(root / "rotations" / "PAS@A", ("dann", 0, 1, "a", "complete", ""))
        with in_stage(progress, "train", "PAS@A"), progress.task("Training", 10) as bar:
            progress._state["task"]["started"] -= 40
            progress._state["stage_started"] -= 40
            bar.advance(5)
            progress._write()
            found = read_status(root)
            shown = CliRunner().invoke(app, ["status", str(root)]).output
        tell_rotation(progress, 2, 3)
        with in_stage(progress, "cohort", "SR@A"):
            progress._write()
            second = read_status(root)
        tell_rotation(progress, 1, 2)  # begun anew without slides that were lost
        with in_stage(progress, "cohort", "PAS@A"):
            progress._write()
            anew = read_status(root)
    assert anew.rotations == (2, 1)
    assert found.counts["done"] == 1 and found.waiting == 5 and found.rotations == (3, 1)
    states = [found.stages[stage] for stage in STAGES]
    assert states == ["done"] * 4 + ["running"] + ["waiting"] * 2
    each = 80 + (20 + 10) / 3  # 40 s for half of the trainings of a rotation, then what is expected of all rotations
    assert found.seconds_left == pytest.approx(40 + 10 + 2 * each, abs=2)
    assert "train of rotation PAS@A, 1 of 3" in shown
    assert second.rotations == (3, 2) and second.stages["cohort"] == "running" and second.stages["train"] == "waiting"


def test_the_command_shows_it(root):
    shown = CliRunner().invoke(app, ["status", str(root)])
    assert shown.exit_code == 0 and "1 done, 1 failed, 1 pruned, 3 waiting" in shown.output
    assert "no memory" in shown.output and "at all" not in shown.output
    values = json.loads(CliRunner().invoke(app, ["status", str(root), "--json"]).output)
    assert values["study"] == "mine" and values["stages"]["train"] == "done"
    with pytest.raises(StaindaError, match="not a run directory"):
        read_status(root / "jobs")


def test_status_imports_nothing_heavy(root):
    code = (
        "import sys\nfrom stainda.study.status import read_status\n"
        f"read_status({str(root)!r})\n"
        "print(sorted({'torch', 'pandas', 'geopandas', 'optuna', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_a_run_ends_with_the_answer_the_failures_the_page_and_the_next_command(root):
    write_text(root / "report" / "answer.txt", "First.\nSecond.\nThird.\n")
    write_text(root / "report" / "index.html", "")
    told = closing_lines(root)
    assert told[:3] == ["First.", "Second.", "1 of 3 trainings failed; the same command tries them again:"]
    assert told[3] == "  dann, trial 1, seed 1: no memory"
    assert told[4:] == [
        f"report: {root / 'report' / 'index.html'}", f"use it on other slides: stainda predict {root} SLIDE...",
    ]  # fmt: skip


def test_of_many_failures_the_first_few_are_listed(root):
    trials(root, *(("dann", number, 1, f"j{number}", "failed", "why") for number in range(9)))
    told = failure_lines(root)
    assert told[0].startswith("9 of 9 trainings failed") and len(told) == 7 and "4 more" in told[-1]


def test_stages_of_a_run_are_written_as_they_are_done(blob_manifest, tmp_path):
    from small_cohorts import write_study

    study = write_study(blob_manifest, tmp_path / "blobs.yaml")
    run_study(study, tmp_path / "run", overrides=["workers=1"], until="register")
    found = read_status(tmp_path / "run")
    assert (found.state, found.study) == ("complete", "blobs")
    assert [found.stages[name] for name in ("cohort", "register", "propagate")] == ["done", "done", "missing"]
    assert set(json.loads((tmp_path / "run" / PROGRESS).read_text())["expected"]) == set(STAGES)


def test_a_plan_counts_registration_by_what_is_left_and_by_what_pairs_took(blob_manifest, tmp_path):
    from small_cohorts import write_study

    study = write_study(blob_manifest, tmp_path / "blobs.yaml")

    def registering(*more):
        config = load_study(study, ["workers=1", "registration.method=valis", *more], None)
        found = plan_study(config, tmp_path / "run")
        return {stage.stage: stage for stage in found.stages}["register"], found.registration

    time, told = registering()
    assert (time.seconds, told) == (20 + 5 * 12, "registration: 5 of 5 blocks to register")
    rows = [{"seconds": seconds} for seconds in (30, 40, 50)]
    write_csv(tmp_path / "run" / "registration" / "quality.csv", rows, ("seconds",))
    assert pair_seconds(tmp_path / "run") == [30, 40, 50]
    time, _ = registering()
    assert time.seconds == 20 + 5 * 40 and "as before" in time.basis


def test_a_plan_names_the_run_that_registration_is_taken_from(blob_manifest, tmp_path):
    from small_cohorts import write_study

    study = write_study(blob_manifest, tmp_path / "blobs.yaml")
    first = run_study(study, tmp_path / "first", overrides=["workers=1"], until="register")
    config = load_study(study, [f"registration.from={first}"], None)
    found = plan_study(config, tmp_path / "second")
    assert found.registration == f"registration: 5 of 5 blocks from {first}"
    assert {stage.stage: stage.seconds for stage in found.stages}["register"] == 0
    second = run_study(config, tmp_path / "second", until="propagate")
    assert (second / "annotations" / "propagated").is_dir()


def test_a_run_is_watched_until_it_ends(root, monkeypatch):
    """What is shown again and again is read anew; the pace leaves out what earlier calls had done."""
    task = {"name": "Training", "note": "", "done": 30.0, "total": 90.0, "earlier": 10.0, "started": time.time() - 3600}
    reported = {
        "pid": os.getpid(), "host": socket.gethostname(), "started": 0, "state": "running", "stage": "train",
        "stage_started": 0, "rotation": "", "stages": {"train": "running"}, "expected": {}, "task": task,
        "running": [], "reason": "", "updated": time.time(),
    }  # fmt: skip
    write_json(root / PROGRESS, reported)
    waits = []

    def wait(seconds):
        waits.append(seconds)
        if len(waits) == 2:
            write_json(root / PROGRESS, {**reported, "state": "complete"})

    monkeypatch.setattr("stainda.cli.status.time.sleep", wait)
    shown = CliRunner().invoke(app, ["status", str(root), "--watch", "3"])
    assert shown.exit_code == 0 and waits == [3, 3]
    assert shown.output.count("20 epochs an hour") == 2 and shown.output.count("stage") == 3


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_clock_that_jumps_gives_no_nonsense(root, monkeypatch, hours):
    """A run on this machine is known by its process; its time left is never negative, nor its speed."""
    now = time.time()
    with RunProgress(root, SILENT, STAGES) as progress, in_stage(progress, "train"):
        progress.expect({"train": 60.0})
        with progress.task("train", 10) as task:
            task.advance(2)
            progress._write()
            monkeypatch.setattr(time, "time", lambda: now + hours * 3600)
            status = read_status(root)
    assert status.state == "running"
    assert status.seconds_left is not None and status.seconds_left >= 0
    assert status.per_hour is None or status.per_hour >= 0
