"""What a command was given: a study file or a manifest."""

from __future__ import annotations

from pathlib import Path

from stainda import names
from stainda.errors import ConfigError

_STUDY_ENDINGS = (".yaml", ".yml")


def is_study(path: str | Path) -> bool:
    """Whether a file is a study (``.yaml``, ``.yml``); else it is a manifest (``.csv``, ``.txt``).

    Raises:
        ConfigError: there is no such file, or it is neither; the message says what is there instead.
    """
    path = names.existing(path)
    remedy = "Give STUDY.yaml or MANIFEST.csv"
    if path.is_dir():
        inside = sorted(file.name for file in path.iterdir() if names.ending(file) in (*_STUDY_ENDINGS, ".csv"))
        result = f"; in it are {', '.join(inside[:5])}" if inside else ""
        raise ConfigError("this is a folder, neither a study nor a manifest", file=path, remedy=f"{remedy}{result}")
    if not path.is_file():
        raise ConfigError("there is no such file", file=path, remedy=remedy)
    if names.ending(path) in _STUDY_ENDINGS:
        return True
    if names.ending(path) in (".csv", ".txt"):
        return False
    raise ConfigError(
        f"files that end in {names.ending(path) or 'nothing'} are neither a study nor a manifest",
        file=path,
        remedy=remedy,
    )
