"""Progress: a bar in notebooks, nothing in scripts, on request as the commands show it."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from stainda import notebook
from stainda.api.showing import chosen_progress
from stainda.notebook import NotebookProgress, in_notebook, summary_html
from stainda.progress import SILENT
from stainda.terminal import ConsoleProgress


@pytest.fixture
def shown(monkeypatch):
    """A kernel: everything that is displayed, and how often it was drawn."""
    seen = []

    def display(thing, display_id):
        assert display_id
        seen.append(thing._repr_html_())
        return SimpleNamespace(update=lambda one: seen.append(one._repr_html_()))

    python, place = ModuleType("IPython"), ModuleType("IPython.display")
    python.get_ipython = lambda: SimpleNamespace(kernel=object())
    place.display = display
    monkeypatch.setitem(sys.modules, "IPython", python)
    monkeypatch.setitem(sys.modules, "IPython.display", place)
    return seen


def test_a_script_is_quiet_unless_asked():
    assert not in_notebook()
    assert chosen_progress(None) is SILENT and chosen_progress(False) is SILENT
    assert isinstance(chosen_progress(True), ConsoleProgress)
    own = NotebookProgress()
    assert chosen_progress(own) is own


def test_a_notebook_shows_a_bar_unless_told_not_to(shown):
    assert in_notebook()
    assert isinstance(chosen_progress(None), NotebookProgress) and isinstance(chosen_progress(True), NotebookProgress)
    assert chosen_progress(False) is SILENT
    assert shown == []


def test_ipython_on_a_terminal_is_no_notebook(monkeypatch):
    python = ModuleType("IPython")
    python.get_ipython = lambda: SimpleNamespace()
    monkeypatch.setitem(sys.modules, "IPython", python)
    assert not in_notebook()


def test_the_bar_says_how_far_it_is_and_that_it_is_done(shown, monkeypatch):
    monkeypatch.setattr(notebook, "UPDATE_SECONDS", 0.0)
    with NotebookProgress().task("Training <b>", 4) as bar:
        bar.advance(1, "dann & co")
        bar.advance(2)
    assert 'value="0.0000"' in shown[0] and 'value="0.2500"' in shown[1] and "dann &amp; co" in shown[1]
    assert 'value="0.7500"' in shown[2] and 'value="1.0000"' in shown[3] and "done after" in shown[3]
    assert all("&lt;b&gt;" in one for one in shown) and len(shown) == 4


def test_the_bar_is_not_drawn_for_every_step_and_says_where_it_stopped(shown, monkeypatch):
    monkeypatch.setattr(notebook, "UPDATE_SECONDS", 60.0)
    with pytest.raises(ValueError), NotebookProgress().task("Cutting", 1000) as bar:
        for _ in range(500):
            bar.advance()
        raise ValueError
    assert len(shown) == 2 and "50%" in shown[1] and "stopped after" in shown[1]


def test_a_summary_shows_a_bounded_table_of_escaped_text():
    text = summary_html("A & B", {"empty": "", "folder": "<x>"}, [{"n": k, "mean": 0.123456} for k in range(30)])
    assert "A &amp; B" in text and "&lt;x&gt;" in text and "empty" not in text
    assert text.count("<td>0.123</td>") == 20 and "and 10 more" in text
    assert "<td></td>" in summary_html("t", {}, [{"a": float("nan")}])
