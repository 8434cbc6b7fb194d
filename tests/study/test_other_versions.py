"""A run that goes on under other versions: said, refused where results would be mixed, recorded where accepted."""

import json

import pytest

from stainda.errors import StaindaError
from stainda.run_directory.folder import RunFolder
from stainda.study.other_versions import refuse_other_versions, write_environment


def _now(commit="a" * 40, **versions):
    return {"versions": {"stainda": "1", "torch": "2.4", "pandas": "2.1", **versions}, "commit": commit}


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path)
    write_environment(folder, _now())
    return folder


def _trained(folder):
    (folder.job("a")).mkdir(parents=True)
    (folder.job("a") / "done").write_text("x")


def _kept(folder):
    return json.loads((folder.root / "environment.json").read_text())


def test_other_packages_before_anything_is_trained_are_said(folder):
    said = []
    write_environment(folder, _now(torch="2.5"), say=said.append)
    assert said == ["note: other versions than in the call before: torch 2.4 then 2.5"]
    assert _kept(folder)["versions"]["torch"] == "2.5" and "accepted" not in _kept(folder)


def test_trainings_of_other_packages_are_not_mixed(folder):
    _trained(folder)
    with pytest.raises(StaindaError, match=r"torch 2.4 then 2.5.*--force"):
        write_environment(folder, _now(torch="2.5"))
    assert _kept(folder)["versions"]["torch"] == "2.4", "what it was made with is still known"


def test_what_is_accepted_is_recorded_and_stays_so(folder):
    _trained(folder)
    write_environment(folder, _now(torch="2.5"), force=True)
    write_environment(folder, _now(torch="2.5"))
    assert _kept(folder)["accepted"] == [{"torch": ["2.4", "2.5"]}]


def test_other_code_and_packages_that_change_no_result_are_said(folder):
    _trained(folder)
    said = []
    write_environment(folder, _now(commit="b" * 40, pandas="2.2"), say=said.append)
    assert said == [
        "note: other versions than in the call before: pandas 2.1 then 2.2",
        "note: other code than in the call before: aaaaaaaaaaaa then bbbbbbbbbbbb",
    ]


def test_a_worker_with_other_packages_takes_nothing(folder, monkeypatch):
    monkeypatch.setattr("stainda.study.other_versions.versions", lambda: {"torch": "2.5", "pandas": "9"})
    refuse_other_versions({"torch": "2.5", "pandas": "2.1"}, "this worker")
    with pytest.raises(StaindaError, match=r"this worker has other versions than the run \(torch 2\.4, here 2\.5\)"):
        refuse_other_versions(_kept(folder)["versions"], "this worker")
