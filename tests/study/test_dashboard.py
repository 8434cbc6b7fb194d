"""The dashboard shows a run's search to who has the address, and changes nothing of it."""

import builtins
import contextlib
import http.client
import json
import threading

import pytest

from stainda.config import SearchConfig, SearchRange, load_study
from stainda.errors import MissingDependencyError, StaindaError
from stainda.run_directory.folder import RunFolder
from stainda.study.dashboard import COOKIE, DashboardServer, search_storage
from stainda.study.search import StrategySearch
from stainda.study.storage import sqlite_address, storage_errors

SPACE = {"training.learning_rate": SearchRange(low=1e-4, high=1e-1, log=True)}
STUDY = (
    "study: mine\nmanifest: m.csv\ntask: glomeruli_segmentation\npatches: {mpp: 2.0}\n"
    "protocol: {sources: [PAS@A]}\nstrategies: [dann]\n"
)


def _search(address):
    search = StrategySearch("dann/1", SPACE, {"training.learning_rate": 1e-3}, SearchConfig(trials=3), 1, address)
    for index, score in enumerate((0.4, 0.7, 0.6)):
        search.tell(index, search.suggest(index), score, f"job{index}")


def _write_study(folder, more=""):
    (folder.parent / "mine.yaml").write_text(STUDY + more)
    RunFolder(folder).write_study(load_study(folder.parent / "mine.yaml"))


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "a run? 50 % #1"
    folder.mkdir()
    _write_study(folder)
    _search(sqlite_address(folder / "study.db"))
    return folder


@contextlib.contextmanager
def _served(run):
    pytest.importorskip("optuna_dashboard")
    with DashboardServer(run, token="t0ken") as server:
        thread = threading.Thread(target=server.serve, daemon=True)
        thread.start()
        yield server
        server.stop()
        thread.join()


def _ask(server, path, method="GET", cookie="t0ken", host=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    headers = {"Host": host or f"127.0.0.1:{server.port}"}
    if cookie is not None:
        headers["Cookie"] = f"other=1; {COOKIE}={cookie}"
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    return response, response.read()


def test_the_address_opens_the_trials(run):
    with _served(run) as server:
        assert server.url == f"http://127.0.0.1:{server.port}/t0ken/"
        first, _ = _ask(server, "/t0ken", cookie=None)
        assert first.status == 302 and first.getheader("Location") == "/dashboard"
        cookie = first.getheader("Set-Cookie")
        assert cookie.startswith(f"{COOKIE}=t0ken;") and "HttpOnly" in cookie and "SameSite=Strict" in cookie
        page, text = _ask(server, "/dashboard")
        assert page.status == 200 and b"Optuna Dashboard" in text
        assert _ask(server, "/static/bundle.js")[0].status == 200
        (study,) = json.loads(_ask(server, "/api/studies")[1])["study_summaries"]
        assert study["study_name"] == "dann/1"
        trials = json.loads(_ask(server, f"/api/studies/{study['study_id']}")[1])["trials"]
        assert [trial["values"] for trial in trials] == [[0.4], [0.7], [0.6]]


def test_a_journal_is_shown_too(run):
    (run / "study.db").unlink()
    _write_study(run, "search: {storage: 'journal:trials.log'}\n")
    _search(f"journal:{run / 'trials.log'}")
    with _served(run) as server:
        assert b"dann/1" in _ask(server, "/api/studies")[1]


def test_who_has_no_token_sees_nothing(run):
    with _served(run) as server:
        for path in ("/", "/dashboard", "/api/studies", "/static/bundle.js", "/t0ke", "/t0ken/x", "/%ff"):
            for cookie in (None, "", "t0ke", "é", '"'):
                response, text = _ask(server, path, cookie=cookie)
                assert response.status == 403 and b"stainda dashboard" in text, (path, cookie)


def test_a_foreign_name_is_refused(run):
    with _served(run) as server:
        assert _ask(server, "/api/studies", host="evil.example:80")[0].status == 421
        assert _ask(server, "/t0ken", host="evil.example:80", cookie=None)[0].status == 421


def test_nothing_of_the_run_changes(run):
    before = (run / "study.db").read_bytes()
    with _served(run) as server:
        for method, path in (("DELETE", ""), ("POST", "/rename"), ("PUT", "/note")):
            assert _ask(server, f"/api/studies/1{path}", method)[0].status == 405
        assert _ask(server, "/api/studies/1")[0].status == 200
        with pytest.raises(StaindaError, match="readonly"), storage_errors("the run's"):
            search_storage(run).delete_study(1)
    assert (run / "study.db").read_bytes() == before
    assert sorted(path.name for path in run.iterdir()) == ["study.db", "study.yaml"]


def test_a_run_without_a_search_and_a_taken_port_are_said(run):
    with _served(run) as server, pytest.raises(StaindaError, match="cannot be used"):
        DashboardServer(run, port=server.port)
    (run / "study.db").unlink()
    with pytest.raises(StaindaError, match="has no search yet"):
        DashboardServer(run)
    with pytest.raises(StaindaError, match="not a run directory"):
        DashboardServer(run / "nowhere")
    assert not RunFolder(run).jobs.exists()


def test_without_the_package_the_command_that_brings_it_is_said(run, monkeypatch):
    original = builtins.__import__

    def absent(name, *rest):
        if name.startswith("optuna_dashboard"):
            raise ImportError("No module named 'optuna_dashboard'")
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingDependencyError, match=r"pip install 'stainda\[dashboard\]'"):
        DashboardServer(run)
