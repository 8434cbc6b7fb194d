"""The version of a run directory: an older one is read, a newer one refused in one sentence, wherever it is read."""

from pathlib import Path

import pytest
import yaml

from stainda.config import load_study
from stainda.config.run_format import KEY, RUN_FORMAT
from stainda.errors import ConfigError
from stainda.report.loading import load_run
from stainda.run_directory.folder import RunFolder, read_study
from stainda.study.status import read_status

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path) -> Path:
    RunFolder(tmp_path).write_study(load_study(ROOT / "studies" / "quickstart.yaml"))
    return tmp_path


def with_version(run: Path, version: str | None) -> Path:
    lines = (run / "study.yaml").read_text().splitlines()
    kept = [line for line in lines if not line.startswith(f"{KEY}:")]
    (run / "study.yaml").write_text("\n".join([*([f"{KEY}: {version}"] if version else []), *kept]) + "\n")
    return run


def test_a_run_says_its_version_and_its_study_is_still_one(run):
    assert yaml.safe_load((run / "study.yaml").read_text())[KEY] == RUN_FORMAT
    assert read_study(run) == load_study(run / "study.yaml") == load_run(run).study


def test_a_run_without_a_version_is_version_1(run):
    study = read_study(run)
    with_version(run, None)
    assert read_study(run) == load_study(run / "study.yaml") == study
    assert read_status(run).study == "quickstart"
    RunFolder(run).write_study(study)
    assert (run / "study.yaml").read_text().startswith(f"{KEY}: {RUN_FORMAT}\n")


@pytest.mark.parametrize(
    "read",
    [
        read_study, load_run, read_status, lambda run: load_study(run / "study.yaml"),
        lambda run: RunFolder(run).write_study(load_study(ROOT / "studies" / "quickstart.yaml")),
    ],
    ids=["read_study", "load_run", "status", "load_study", "write_study"],
)  # fmt: skip
def test_a_newer_run_is_refused_and_left_as_it_is(run, read):
    with_version(run, str(RUN_FORMAT + 1))
    before = (run / "study.yaml").read_bytes()
    with pytest.raises(ConfigError) as error:
        read(run)
    said = f"this run directory is of version {RUN_FORMAT + 1}, and this stainda reads version {RUN_FORMAT}"
    assert str(error.value) == f"{run / 'study.yaml'}: {said}. Install the stainda that made it, or a newer one."
    assert (run / "study.yaml").read_bytes() == before


@pytest.mark.parametrize("version", ["0", "-1", "true", "two", "1.5", "[]"])
def test_what_is_no_version_is_told(run, version):
    with_version(run, version)
    for read in (read_study, read_status):
        with pytest.raises(ConfigError, match="is no version of a run directory"):
            read(run)


def test_a_study_may_extend_that_of_a_run(run, tmp_path):
    (tmp_path / "more.yaml").write_text("extends: study.yaml\nstudy: more\n")
    assert load_study(tmp_path / "more.yaml").study == "more"
    with_version(run, "99")
    with pytest.raises(ConfigError, match="version 99"):
        load_study(tmp_path / "more.yaml")
