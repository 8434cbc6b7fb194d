"""``stainda transform``: each command does what its help says, and says what is wrong."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner
from warped_pictures import SIZE, bent, smooth_picture

from stainda.annotations import read_landmarks
from stainda.cli.app import app
from stainda.errors import StaindaError
from stainda.files import write_csv
from stainda.registration.transforms import Transform

runner = CliRunner()


def call(*words: object) -> str:
    result = runner.invoke(app, ["transform", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("command", ["points", "shapes", "image", "export", "import", "info"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    assert "stainda transform" in call(command, "--help")


def test_points_there_and_back_and_a_picture(tmp_path) -> None:
    bent("a", 1).save(tmp_path / "a")
    write_csv(tmp_path / "p.csv", [{"id": "x", "x": 500, "y": 400}], ("id", "x", "y"))
    call("points", tmp_path / "a.json", tmp_path / "p.csv", tmp_path / "q.csv")
    call("points", tmp_path / "a.json", tmp_path / "q.csv", tmp_path / "r.csv", "--inverse")
    back = read_landmarks(tmp_path / "r.csv")
    assert abs(back["x"][0] - 500) < 0.05 and abs(back["y"][0] - 400) < 0.05
    smooth_picture(tmp_path / "a.png", SIZE)
    words = ("image", tmp_path / "a.json", tmp_path / "a.png", tmp_path / "o.png", "--downsample", 4)
    assert "50 x 25 px" in call(*words, "--region", "300,300,200,100")
    with pytest.raises(StaindaError, match="four numbers"):
        call(*words, "--region", "1,2,3")


def test_import_and_info(tmp_path) -> None:
    smooth_picture(tmp_path / "a.png", SIZE)
    (tmp_path / "m.csv").write_text("1,0,7\n0,1,9\n")
    words = (
        "import",
        tmp_path / "m.csv",
        tmp_path / "o.json",
        "--slide",
        tmp_path / "a.png",
        "--frame",
        tmp_path / "a.png",
    )
    with pytest.raises(StaindaError, match="which way"):
        call(*words, "--units", "px")
    assert "turned 0°" in call(*words, "--units", "px", "--direction", "push")
    assert Transform.load(tmp_path / "o").matrix[0, 2] == 7
