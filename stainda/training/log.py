"""What a training writes while it runs: ``log.txt``, ``training.csv`` and ``effect.csv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stainda.files import write_csv
from stainda.run_directory.contents import JOB_LOG
from stainda.run_directory.training_tables import EFFECT, TRAINING


class TrainingLog:
    """Lines and rows of one training; every addition is written at once.

    Attributes:
        rows: of ``training.csv``, one per epoch.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, Any]] = []
        self._effect: list[dict[str, Any]] = []
        self._lines: list[str] = []

    def line(self, text: str) -> None:
        self._lines.append(text)
        JOB_LOG.inside(self.folder).write_text("\n".join(self._lines) + "\n", encoding="utf-8")

    def add_epoch(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        # rows of a process that was cut off come back with sorted keys: the newest row says the order
        columns = list(dict.fromkeys(key for row in reversed(self.rows) for key in row))
        write_csv(TRAINING.inside(self.folder), self.rows, columns)

    def add_effect(self, rows: Sequence[dict[str, Any]]) -> None:
        """Rows of ``effect.csv``."""
        self._effect += rows
        EFFECT.write(self.folder, self._effect)

    def state(self) -> dict[str, Any]:
        """What a later process needs to go on, as JSON values."""
        return {"rows": self.rows, "effect": self._effect, "log": self._lines}

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Have what :meth:`state` gave in a process that was cut off."""
        self.rows, self._effect, self._lines = state["rows"], state["effect"], state["log"]
