"""The run directory: where everything of one study lies, and who may write there."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stainda.config import StudyConfig
from stainda.config.run_format import KEY, RUN_FORMAT, check_run_format, without_run_format
from stainda.errors import StaindaError
from stainda.files import write_text
from stainda.links import refuse_links
from stainda.names import file_name
from stainda.run_directory.contents import LOG, STUDY
from stainda.run_directory.declaration import Table
from stainda.run_directory.holding import held
from stainda.run_directory.tables import QUALITY
from stainda.run_directory.training_tables import STAGE_SECONDS

logger = logging.getLogger(__name__)
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

    def drawn(self, slide: str, annotator: str) -> Path:
        return self.annotations / "drawn" / file_name(slide) / f"{file_name(annotator)}.geojson"

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
    def is_registered(self) -> bool:
        """Whether registration has come to its end here."""
        return QUALITY.at(self.root).is_file()

    @property
    def log(self) -> Path:
        return LOG.at(self.root)

    def job(self, key: str) -> Path:
        return self.jobs / key

    def pretraining(self, key: str) -> Path:
        return self.root / "pretraining" / key

    @contextlib.contextmanager
    def locked(self, tell: Callable[[str], None] = logger.warning) -> Iterator[None]:
        """Hold the run directory; a second ``stainda run`` on it is refused, on this machine at once.

        What a killed run of this machine left behind does not stand in the way. ``tell`` is given a sentence where it
        has to be waited for what another machine does, see :func:`~stainda.run_directory.holding.held`.

        Raises:
            StaindaError: it is held, cannot be written, or has a link that leads out of it.
        """
        refuse_links(self.root)
        with held(self.root, tell):
            yield

    def write_study(self, config: StudyConfig) -> None:
        """Write the study as it was resolved, and the version of the run directory.

        Raises:
            ConfigError: a newer stainda has written into this run directory.
        """
        check_version(self.root)
        values = {KEY: RUN_FORMAT, **json.loads(config.model_dump_json())}
        write_text(STUDY.at(self.root), yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110))

    def write_trainings(self, table: Table, rows: Sequence[dict[str, Any]]) -> None:
        """Write a table of trainings next to the trials', in the order of its first columns; without rows it goes."""
        if not rows:
            table.at(self.root).unlink(missing_ok=True)
            return
        shown = [{column: row.get(column) for column in table.names} for row in rows]
        table.write(self.root, sorted(shown, key=lambda row: [row[column] for column in table.names[:3]]))

    def record_stage(self, stage: str, seconds: float) -> None:
        """Keep the longest time a stage took: a call with nothing left to do says nothing of its cost."""
        rows = self.stage_seconds()
        rows[stage] = max(round(seconds, 2), rows.get(stage, 0.0))
        ordered = [{"stage": name, "seconds": rows[name]} for name in STAGES if name in rows]
        STAGE_SECONDS.write(self.root, ordered)

    def stage_seconds(self) -> dict[str, float]:
        if not STAGE_SECONDS.at(self.root).is_file():
            return {}
        return {row["stage"]: float(row["seconds"]) for row in STAGE_SECONDS.rows(self.root)}


def read_study(root: str | Path) -> StudyConfig:
    """The resolved study of an existing run directory.

    Raises:
        StaindaError: it is no run directory, one of a newer version, or has a link that leads out of it.
    """
    path = STUDY.at(root)
    if not path.is_file():
        raise StaindaError(
            "this is not a run directory (it has no study.yaml)", file=root, remedy="Name the folder 'stainda run' made"
        )
    refuse_links(Path(root))
    from stainda.config import read_yaml
    from stainda.config.load import validated

    return validated(StudyConfig, without_run_format(read_yaml(path), path), path)


def check_version(root: str | Path) -> None:
    """Refuse a run directory of a newer version, without reading its whole study; one without a version is version 1.

    Raises:
        ConfigError: it is of a newer version.
    """
    path = STUDY.at(root)
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(f"{KEY}:"):
                value = line.partition(":")[2].strip()
                check_run_format(int(value) if value.isdecimal() else value, path)


def relative(path: Path, root: Path) -> str:
    """``path`` as seen from ``root`` where it lies inside it, else unchanged: run directories can be moved."""
    with contextlib.suppress(ValueError):
        return str(path.resolve().relative_to(root.resolve()))
    return str(path)


def plain(value: object) -> object:
    """A JSON-like copy of a value (tuples become lists, paths become text)."""
    return json.loads(json.dumps(value, default=str))
