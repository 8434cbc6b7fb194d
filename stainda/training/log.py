"""What a training writes while it runs: ``log.txt``, ``training.csv`` and ``effect.csv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stainda.files import write_csv
from stainda.training.effect import EFFECT_COLUMNS

EFFECT = "effect.csv"
"""What the alignment did at a few steps, see :mod:`stainda.training.effect`; not there where nothing is aligned."""


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
        (self.folder / "log.txt").write_text("\n".join(self._lines) + "\n", encoding="utf-8")

    def add_epoch(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        write_csv(self.folder / "training.csv", self.rows, columns)

    def add_effect(self, rows: Sequence[dict[str, Any]]) -> None:
        """Rows of :data:`stainda.training.effect.EFFECT_COLUMNS`."""
        self._effect += rows
        write_csv(self.folder / EFFECT, self._effect, EFFECT_COLUMNS)

    def state(self) -> dict[str, Any]:
        """What a later process needs to go on, as JSON values."""
        return {"rows": self.rows, "effect": self._effect, "log": self._lines}

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Have what :meth:`state` gave in a process that was cut off."""
        self.rows, self._effect, self._lines = state["rows"], state["effect"], state["log"]
