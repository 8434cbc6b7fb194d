"""Logs and pipes show how far the work is, also while nothing is completed; Ctrl-C says how to go on."""

import time

import pytest
import typer
from typer.testing import CliRunner

from stainda import terminal
from stainda.cli import display
from stainda.cli.display import Commands
from stainda.progress import duration
from stainda.terminal import ConsoleProgress


@pytest.fixture
def log(monkeypatch, capsys):
    """What a task of these steps prints where there is no terminal."""
    monkeypatch.setattr(terminal, "LINE_SECONDS", 0.2)

    def lines(steps, wait, quiet=False):
        with ConsoleProgress(quiet).task("Registering blocks", 8) as bar:
            for _ in range(steps):
                bar.advance(1, "P1")
            time.sleep(wait)
        return capsys.readouterr().out.splitlines()

    return lines


def test_a_log_gets_lines_while_nothing_is_completed(log):
    found = log(0, 1.1)
    assert 3 <= len(found) <= 6 and all(line.startswith("Registering blocks: 0 %, 1 s so far") for line in found)


def test_a_line_says_the_share_the_time_left_and_the_note(log):
    found = log(3, 0.5)
    assert found[-1] == "Registering blocks: 38 %, about 1 s left, P1"


def test_steps_of_an_earlier_call_do_not_shorten_the_estimate(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    with ConsoleProgress().task("Training", 8) as bar:
        bar.advance(4, earlier=True)
        now[0] = 60.0
        bar.advance(2)
    assert capsys.readouterr().out.splitlines() == ["Training: 50 %, 1 s so far", "Training: 75 %, about 60 s left"]


def test_quarters_are_told_at_once_and_nothing_after_the_end(log, capsys):
    assert [line.split(",")[0].split(": ")[1] for line in log(8, 0)] == ["25 %", "50 %", "75 %", "100 %"]
    time.sleep(0.5)
    assert capsys.readouterr().out == ""


def test_quiet_prints_nothing(log):
    assert log(8, 0.5, quiet=True) == []


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (75, "75 s"), (600, "10 minutes"), (9000, "2.5 hours"), (864000, "10.0 days")]
)
def test_durations_are_as_exact_as_an_estimate(seconds, words):
    assert duration(seconds) == words


def test_ctrl_c_ends_any_command_with_the_way_to_go_on(monkeypatch, capsys):
    app = typer.Typer(cls=Commands)

    @app.command()
    def work() -> None:
        raise KeyboardInterrupt

    @app.command()
    def other() -> None:
        pass

    monkeypatch.setattr("sys.argv", ["/usr/bin/stainda", "run", "a study.yaml", "--out", "runs/x"])
    told = []
    monkeypatch.setattr(display, "fail", told.append)
    result = CliRunner().invoke(app, ["work"])
    assert result.exit_code == 130
    assert told == ["interrupted; what is complete is kept. To go on: stainda run 'a study.yaml' --out runs/x"]
