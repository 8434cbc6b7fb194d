"""Runs to which something happens after a stage, and what they say."""

from __future__ import annotations

from stainda.progress import SILENT
from stainda.study import run as run_module


class Said:
    """Keeps the messages of a run."""

    def __init__(self):
        self.messages = []

    def message(self, text):
        self.messages.append(text)

    def task(self, *_):
        return SILENT.task("", 1)


def interrupted_by(monkeypatch, stage, change):
    """Let something happen to a slide after a stage, once."""
    method, once = getattr(run_module.StudyRun, stage), []

    def changed(self):
        method(self)
        if not once:
            once.append(True)
            change()

    monkeypatch.setattr(run_module.StudyRun, stage, changed)
