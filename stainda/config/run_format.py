"""The version of a run directory, kept as a key of its ``study.yaml``, which is a study in all else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stainda.errors import ConfigError

RUN_FORMAT = 2
"""Raised when files of a run directory change names or columns. A run directory without a version is version 1.

Version 2: ``through/`` is ``object_gallery/``, its ``through.csv`` is ``gallery.csv``.
"""

KEY = "run_format"


def without_run_format(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """A parsed study without the version of the run directory it may come from.

    Raises:
        ConfigError: the version is newer than this stainda, or is none.
    """
    check_run_format(values.get(KEY, 1), path)
    return {key: value for key, value in values.items() if key != KEY}


def check_run_format(version: object, path: Path) -> None:
    """Refuse a version that this stainda does not know.

    Raises:
        ConfigError: it is newer, or is no version.
    """
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise ConfigError(
            f"{KEY} is {version!r}, which is no version of a run directory", file=path,
            remedy="Remove this line: a run directory without it is version 1",
        )  # fmt: skip
    if version > RUN_FORMAT:
        raise ConfigError(
            f"this run directory is of version {version}, and this stainda reads version {RUN_FORMAT}", file=path,
            remedy="Install the stainda that made it, or a newer one",
        )  # fmt: skip
