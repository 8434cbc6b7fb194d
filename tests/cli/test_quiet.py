"""--quiet prints nothing but errors."""

import pytest
from typer.testing import CliRunner

from stainda.cli.app import app

SMALL = ["--patients", "1", "--stains", "PAS,SR", "--centres", "A", "--size", "256", "--mpp", "4"]


@pytest.mark.parametrize("quiet", [[], ["--quiet"], ["-q"], []])
def test_a_command_is_silent_when_it_is_told_to_be_and_only_then(tmp_path, quiet):
    found = CliRunner().invoke(app, ["phantom", str(tmp_path / "cohort"), *SMALL, *quiet])
    assert found.exit_code == 0 and (tmp_path / "cohort" / "manifest.csv").is_file()
    assert found.stdout == "" if quiet else "manifest: " in found.stdout


def test_errors_are_still_told(tmp_path, capsys, monkeypatch):
    from stainda.cli import main

    monkeypatch.setattr("sys.argv", ["stainda", "register", str(tmp_path / "none.csv"), "--out", str(tmp_path), "-q"])
    with pytest.raises(SystemExit):
        main()
    captured = capsys.readouterr()
    assert captured.out == "" and "none.csv" in captured.err
