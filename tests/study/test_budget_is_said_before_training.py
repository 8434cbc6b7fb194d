"""What strategies may spend in training is said where there will be a training."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from stainda.run_directory.folder import STAGES
from stainda.study import budget, checks
from stainda.study.run import StudyRun


@pytest.mark.parametrize("until", ["register", "propagate", "train", "report"])
def test_the_budget_is_said_only_where_something_is_trained(until, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(checks, "plan_rotations", lambda *_, **__: [])
    monkeypatch.setattr("stainda.study.answerable.refuse_unanswerable", lambda *_, **__: [])
    monkeypatch.setattr(budget, "budgets", lambda *_, **__: [])
    monkeypatch.setattr(budget, "write_budget", lambda *_, **__: None)
    monkeypatch.setattr(budget, "budget_sentences", lambda *_, **__: ["every strategy: 100 steps"])
    run = object.__new__(StudyRun)
    run.config = SimpleNamespace(baseline="source_only", left_out_of=(), strategies=("any",), phantom="made")
    run.folder = None
    run.lost = {}
    run.progress = SimpleNamespace(message=said.append)
    monkeypatch.setattr(StudyRun, "manifest", lambda self: None)
    monkeypatch.setattr(StudyRun, "note_left_out", lambda self: None)
    run.plan(STAGES[: STAGES.index(until) + 1])
    assert bool(said) == (until in ("train", "report"))
