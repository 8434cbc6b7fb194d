"""A folder with a cohort, and one in which its study was run; each test works in a copy."""

import shutil

import pytest
from api.api_desk import CHANGES, make_files


@pytest.fixture(scope="session")
def made_desk(tmp_path_factory):
    desk = tmp_path_factory.mktemp("api") / "desk"
    desk.mkdir()
    make_files(desk)
    return desk


@pytest.fixture(scope="session")
def run_desk(made_desk, tmp_path_factory):
    """The same with the study ``runs/mine``, run by ``st.run`` to its scores (drawing the page takes half a minute)."""
    import stainda as st

    desk = tmp_path_factory.mktemp("api_run") / "desk"
    shutil.copytree(made_desk, desk)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(desk)
        st.run("studies/mine.yaml", *CHANGES, until="evaluate")
    return desk


@pytest.fixture
def desk(made_desk, tmp_path, monkeypatch):
    shutil.copytree(made_desk, tmp_path / "desk")
    monkeypatch.chdir(tmp_path / "desk")
    return tmp_path / "desk"


@pytest.fixture
def finished(run_desk, tmp_path, monkeypatch):
    shutil.copytree(run_desk, tmp_path / "desk")
    monkeypatch.chdir(tmp_path / "desk")
    return tmp_path / "desk"
