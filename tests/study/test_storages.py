"""Every storage of trials gives the same search; one that is lost or does not answer is said."""

import socket

import postgres
import pytest
from test_search import DEFAULTS, SPACE, _value

from stainda.config import SearchConfig
from stainda.errors import ConfigError, StaindaError
from stainda.study import run_study
from stainda.study.search import StrategySearch, stored_trials
from stainda.study.storage import sqlite_address, storage_address


@pytest.fixture(scope="module")
def running():
    if reason := postgres.missing():
        pytest.skip(reason)
    with postgres.server() as server:
        yield server


class Study:
    """As much of a study as has to do with its storage."""

    def __init__(self, storage):
        self.search = SearchConfig(storage=storage)


@pytest.fixture(params=["journal", "postgresql"])
def address(request, tmp_path):
    if request.param == "journal":
        return storage_address(Study("journal:search/trials.log"), tmp_path)
    return storage_address(Study(request.getfixturevalue("running").address), tmp_path)


def _search(address):
    return StrategySearch("dann/abc", SPACE, DEFAULTS, SearchConfig(trials=5, batch=2), 3, address)


def _searched(address):
    drawn = []
    for index in range(5):
        search = _search(address)  # as after a kill: opened anew
        drawn.append(search.suggest(index))
        search.tell(index, drawn[-1], _value(drawn[-1]), f"job{index}")
    return drawn


def test_every_storage_draws_as_sqlite_does(address, tmp_path):
    drawn = _searched(sqlite_address(tmp_path / "a.db"))
    assert _searched(address) == drawn
    assert _search(address).best()[1] == max(drawn, key=_value)
    assert stored_trials(address) == {f"job{index}": (index, params) for index, params in enumerate(drawn)}


def test_a_server_that_is_killed_and_starts_again_has_lost_no_trial(running, tmp_path):
    address = storage_address(Study(running.address), tmp_path)
    search = StrategySearch("killed/1", SPACE, DEFAULTS, SearchConfig(trials=4), 3, address)
    search.tell(0, search.suggest(0), 0.5, "job0")
    running.stop("immediate")
    with pytest.raises(StaindaError, match="does not answer"):
        search.suggest(1)
    running.start()
    assert search.completed()[0].values == [0.5], "the connection is made anew"
    search.tell(1, search.suggest(1), 0.6, "job1")
    assert search.best()[0] == 1


def test_a_storage_that_does_not_answer_is_named(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(StaindaError, match=f"127.0.0.1:{port}/x does not answer"):
        _search(storage_address(Study(f"postgresql://me@127.0.0.1:{port}/x"), tmp_path))


@pytest.mark.parametrize("server", ["search.storage=postgresql://me@{}/x", "mlflow_uri=http://{}"])
def test_a_server_that_does_not_answer_stops_a_run_before_its_first_stage(server, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = f"127.0.0.1:{probe.getsockname()[1]}"
    overrides = ["log_to=mlflow", server.format(free)]
    with pytest.raises(StaindaError, match=f"{free}.* does not answer"):
        run_study("studies/small/phantom_strategies.yaml", tmp_path, overrides=overrides, until="train")
    assert not (tmp_path / "phantom").exists()


def test_a_missing_driver_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pymysql", None)
    with pytest.raises(StaindaError, match="pymysql for MySQL"):
        _search(storage_address(Study("mysql://me@127.0.0.1/x"), tmp_path))


@pytest.mark.parametrize(
    "address", ["journal:../trials.log", "journal:/elsewhere/trials.log", "journal:.", "sqlite:////elsewhere/a.db"]
)
def test_a_storage_outside_the_run_directory_is_refused_before_anything_is_written(tmp_path, address):
    out = tmp_path / "run"
    overrides = [f"search.storage={address.replace('/elsewhere', str(tmp_path))}"]
    with pytest.raises(ConfigError, match="run directory"):
        run_study("studies/small/phantom_strategies.yaml", out, overrides=overrides, until="train")
    assert [path.name for path in tmp_path.iterdir()] == ["run"] and not (out / "phantom").exists()


def test_a_file_that_is_no_journal_is_left_as_it_is(tmp_path):
    other = tmp_path / "notes.txt"
    other.write_text("my notes\n")
    with pytest.raises(StaindaError, match="no journal of Optuna"):
        _search(storage_address(Study("journal:notes.txt"), tmp_path))
    assert other.read_text() == "my notes\n"


def test_passwords_do_not_enter_the_run_directory(tmp_path):
    with pytest.raises(ConfigError, match="password"):
        storage_address(Study("postgresql://me:secret@db/x"), tmp_path)


@pytest.mark.parametrize("name", ["what? now", "100 % #1 & Ä", "a?mode=memory"])
def test_a_search_lies_in_its_run_directory_whatever_that_is_called(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    for address in (sqlite_address(folder / "study.db"), storage_address(Study(""), folder)):
        search = _search(address)
        search.tell(0, search.suggest(0), 0.5, "job0")
        assert len(stored_trials(address)) == 1
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert [path.name for path in folder.iterdir()] == ["study.db"]
