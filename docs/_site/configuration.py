"""The page of the study file, from the models that read it."""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from tables import prose, table

from stainda.config import StudyConfig
from stainda.config.space import SearchRange

_HEAD = """# The study file

A study is a YAML file. This page is generated from the models that read it: every key, its type, its default and its
meaning. A key that is not here is refused, and the message names the nearest one. `stainda plan STUDY.yaml` checks a
file before anything is computed.

Short forms:

- `extends: OTHER.yaml` takes everything from another study except what is written here. Mappings are merged, lists are
  replaced.
- `task`, `model`, `recipe` and the entries of `strategies` are names of files in `configs/`, names with changes
  (`{from: dann, ...}`), or written out.
- Under `training`, `geometry` and the parameters of a strategy, a value may be a default with a range that a search may
  try: `{default: 1.0e-3, low: 1.0e-4, high: 1.0e-2, log: true}` or `{default: 8, choices: [4, 8]}`.
- On the command line, `KEY=VALUE` changes a key: `training.epochs=2`.

Editors complete these keys with a [JSON schema](../howto/editor.md).
"""

_NAMES: dict[Any, str] = {
    bool: "true or false", int: "integer", float: "number", str: "text", Path: "path", Any: "anything",
    SearchRange: "range",
}  # fmt: skip
_BELOW = "see below"


def page() -> str:
    """All models that a study is made of, each once, in the order of the keys."""
    parts, seen, waiting = [_HEAD], set(), [("", StudyConfig)]
    while waiting:
        path, model = waiting.pop(0)
        if model not in seen:
            seen.add(model)
            parts.append(_section(path, model))
            waiting = _inner(path, model) + waiting
    return "\n".join(parts)


def _section(path: str, model: type[BaseModel]) -> str:
    own = model.__doc__ if model.__doc__ != BaseModel.__doc__ else ""
    rows = []
    for name, field in model.model_fields.items():
        key = getattr(field.validation_alias, "choices", [name])[0]
        kind = _type(field.annotation).replace(_BELOW, f"[{_BELOW}](#{_anchor(path, name)})")
        rows.append((f"`{key}`", kind, _default(field), prose(field.description or "")))
    heading = f"## {path or 'Top level'}"
    doc = prose((own or "").split("Attributes:")[0])
    return "\n".join([heading, "", doc, "", table(("key", "type", "default", "meaning"), rows), ""])


def _anchor(path: str, name: str) -> str:
    """Where the section of a key's own keys begins; the parts of a strategy share one."""
    return "strategiesview" if path == "strategies" and name != "space" else f"{path}{name}"


def _inner(path: str, model: type[BaseModel]) -> list[tuple[str, type[BaseModel]]]:
    return [
        (f"{path}.{name}".strip("."), inner)
        for name, field in model.model_fields.items()
        for inner in _models(field.annotation)
    ]


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [one for inner in typing.get_args(annotation) for one in _models(inner)]


def _type(annotation: Any) -> str:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in _NAMES:
        return _NAMES[annotation]
    if origin is Literal:
        return " or ".join(f"`{one}`" for one in inner)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_type(one) for one in inner if one is not type(None))
    if origin is tuple:
        return f"list of {_type(inner[0])}" if inner[-1] is Ellipsis else f"{len(inner)} {_type(inner[0])}s"
    if origin is dict:
        return f"mapping to {_type(inner[1])}"
    return _BELOW if _models(annotation) else str(annotation)


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        value = getattr(value, "name", None)
    if isinstance(value, bool):
        value = str(value).lower()
    if isinstance(value, tuple):
        value = ", ".join(str(getattr(one, "name", one)) for one in value)
    return "" if value in (None, "", {}) else f"`{value}`"
