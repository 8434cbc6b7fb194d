"""The run directory: where everything of one study lies, and who may write there."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stainda.config import StudyConfig
from stainda.errors import StaindaError
from stainda.files import output_errors, write_csv, write_text

STAGES = ("cohort", "register", "propagate", "patches", "train", "evaluate", "report")


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run directory; docs/reference/files.md describes every file."""

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))

    @property
    def jobs(self) -> Path:
        return self.root / "jobs"

    @property
    def annotations(self) -> Path:
        return self.root / "annotations"

    @property
    def own(self) -> Path:
        return self.annotations / "own"

    @property
    def propagated(self) -> Path:
        return self.annotations / "propagated"

    @property
    def registration(self) -> Path:
        return self.root / "registration"

    @property
    def patches(self) -> Path:
        return self.root / "patches"

    @property
    def log(self) -> Path:
        return self.root / "stainda.log"

    def job(self, key: str) -> Path:
        return self.jobs / key

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run directory; a second ``stainda run`` on it is refused at once.

        The lock belongs to the process, so one left behind by a killed run does not stand in the way.
        """
        from filelock import FileLock, Timeout

        with output_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            lock = FileLock(str(self.root / ".lock"))
            try:
                lock.acquire(timeout=0)
            except Timeout:
                raise StaindaError(
                    "another stainda process is working in this run directory",
                    file=self.root,
                    remedy="Wait for it to end, or choose another place with --out",
                ) from None
        try:
            yield
        finally:
            lock.release()

    def write_study(self, config: StudyConfig) -> None:
        values = json.loads(config.model_dump_json())
        write_text(self.root / "study.yaml", yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110))

    def write_trainings(self, name: str, rows: Sequence[dict[str, Any]], columns: tuple[str, ...]) -> None:
        """Write a table of trainings beside the trials', in the order of its first columns; without rows it goes."""
        if not rows:
            (self.root / name).unlink(missing_ok=True)
            return
        shown = [{column: row.get(column) for column in columns} for row in rows]
        write_csv(self.root / name, sorted(shown, key=lambda row: [row[column] for column in columns[:3]]), columns)

    def record_stage(self, stage: str, seconds: float) -> None:
        """Keep the longest time a stage took: a call with nothing left to do says nothing of its cost."""
        rows = self.stage_seconds()
        rows[stage] = max(round(seconds, 2), rows.get(stage, 0.0))
        ordered = [{"stage": name, "seconds": rows[name]} for name in STAGES if name in rows]
        write_csv(self.root / "stages.csv", ordered, ("stage", "seconds"))

    def stage_seconds(self) -> dict[str, float]:
        path = self.root / "stages.csv"
        if not path.is_file():
            return {}
        import pandas as pd

        table = pd.read_csv(path)
        return dict(zip(table["stage"], table["seconds"].astype(float), strict=True))


def read_study(root: str | Path) -> StudyConfig:
    """The resolved study of an existing run directory."""
    path = Path(root) / "study.yaml"
    if not path.is_file():
        raise StaindaError(
            "this is not a run directory (it has no study.yaml)", file=root, remedy="Name the folder 'stainda run' made"
        )
    from stainda.config import read_yaml
    from stainda.config.load import validated

    return validated(StudyConfig, read_yaml(path), path)


def relative(path: Path, root: Path) -> str:
    """``path`` as seen from ``root`` where it lies inside it, else unchanged: run directories can be moved."""
    with contextlib.suppress(ValueError):
        return str(path.resolve().relative_to(root.resolve()))
    return str(path)


def plain(value: Any) -> Any:
    """A JSON-like copy of a value (tuples become lists, paths become text)."""
    return json.loads(json.dumps(value, default=str))
