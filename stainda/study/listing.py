"""What can be named in a study, for ``stainda list``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stainda.config import available
from stainda.config.load import load_piece
from stainda.errors import ConfigError, did_you_mean

KINDS = ("strategies", "models", "tasks", "stains", "parts", "data")


@dataclass(frozen=True)
class Entry:
    """A name, what it is in a line or two, the parts it is made of, and the paper."""

    name: str
    description: str
    parts: str = ""
    reference: str = ""
    file: Path | None = None
    tasks: tuple[str, ...] = ()


def catalogue(kind: str, near: str | Path | None = None) -> list[Entry]:
    """All that ``kind`` offers.

    Raises:
        ConfigError: an unknown kind.
    """
    if kind == "strategies":
        return _strategies(near)
    if kind in ("models", "tasks"):
        return [_piece(kind, name, file, near) for name, file in sorted(available(kind, near).items())]
    if kind == "stains":
        return _stains()
    if kind == "parts":
        return _parts()
    if kind == "data":
        return _data()
    raise ConfigError(f"nothing to list under {kind!r}", remedy=did_you_mean(kind, KINDS))


def _strategies(near: str | Path | None) -> list[Entry]:
    from stainda.config import load_strategy
    from stainda.strategies import build

    entries = []
    for name, file in sorted(available("strategies", near).items()):
        config = load_strategy(name, near)
        named = {
            "view": config.view.name, "augment": "+".join(part.name for part in config.augment),
            "labels": config.labels.name, "align": config.align.name, "norm": config.norm.name,
            "after": config.after.name,
        }  # fmt: skip
        parts = ", ".join(f"{kind} {value}" for kind, value in named.items() if value not in ("none", ""))
        text, tasks = " ".join(config.description.split()), build(config).tasks
        entries.append(Entry(name, text, parts, config.reference, file, tasks))
    return entries


def _piece(kind: str, name: str, file: Path, near: str | Path | None) -> Entry:
    raw = load_piece(kind, name, near)
    description = " ".join(str(raw.get("description", "")).split())
    return Entry(name, description, reference=str(raw.get("reference", "")), file=file)


def _stains() -> list[Entry]:
    from stainda.stains.table import STAINS

    return [Entry(name, one.title, parts=", ".join(one.dyes)) for name, one in STAINS.items()]


def _parts() -> list[Entry]:
    from stainda.strategies import PARTS

    return [
        Entry(name, part.summary(), parts=kind, reference=part.reference)
        for kind, parts in PARTS.items()
        for name, part in sorted(parts.items())
    ]


def _data() -> list[Entry]:
    from stainda.study.public import DATASETS

    return [
        Entry(
            one.name,
            f"{one.title}: {one.good_for}",
            parts=f"stains: {one.stains}; centres: {one.centres}; licence: {one.licence}",
            reference=f"{one.where} (stainda manifest make {one.name} FOLDER)",
        )
        for one in DATASETS.values()
    ]
