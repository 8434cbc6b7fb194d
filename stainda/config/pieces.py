"""Reading the pieces that a study names: safe YAML, the files of ``configs/``, and faults reported in one message."""

from __future__ import annotations

import re
import sys
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from stainda.errors import ConfigError, did_you_mean
from stainda.names import is_file

Model = TypeVar("Model", bound=BaseModel)

_MAX_BYTES = 1_000_000
_SINGULAR = {"strategies": "strategy", "models": "model", "tasks": "task", "recipes": "recipe", "clusters": "cluster"}


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads 1e-3 as a number, and refuses a key given twice and aliases (billion laughs)."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"key {key!r} given twice (line {node.start_mark.line + 1})")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.\d*|\.\d+|\d+)([eE][-+]?\d+)?$|^[-+]?\.(inf|nan)$"),
    list("-+0123456789."),
)
# the resolver above is tried after the integer resolver, so that 3 stays an integer


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: the file is missing, too large, not YAML, or not a mapping.
    """
    path = Path(path)
    if not is_file(path):
        raise ConfigError("there is no such file", file=path, remedy="Check the path")
    if path.stat().st_size > _MAX_BYTES:
        raise ConfigError("the file is larger than 1 MB, which no study file is", file=path)
    return parse_yaml(path.read_text(encoding="utf-8", errors="replace"), path)


def parse_yaml(text: str, path: Path) -> dict[str, Any]:
    try:
        value = yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(
            f"not valid YAML: {problem}", file=path, row=mark.line + 1 if mark else None, remedy="Correct this line"
        ) from error
    if not isinstance(value, dict):
        raise ConfigError("expected 'key: value' lines", file=path)
    return value


def parse_value(text: str, source: str) -> Any:
    """The value in a piece of YAML, read as in a file; ``source`` says where it stands, for the message."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"the value of {source} is not valid YAML") from error


def config_folders(near: str | Path | None = None) -> list[Path]:
    """Folders searched for pieces, nearest first: ``configs/`` next to the study, here, and where stainda lies."""
    folders = []
    if near is not None:
        near = Path(near).resolve()
        folders += [near / "configs", near.parent / "configs"]
    folders += [
        Path.cwd() / "configs",
        Path(__file__).parents[2] / "configs",
        Path(sys.prefix) / "share/stainda/configs",
    ]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def available(kind: str, near: str | Path | None = None) -> dict[str, Path]:
    """Names and files of the ``strategies``, ``models``, ``tasks`` or ``recipes`` that can be named."""
    result: dict[str, Path] = {}
    for folder in config_folders(near):
        for file in sorted((folder / kind).glob("*.yaml")):
            result.setdefault(file.stem, file)
    return result


def load_piece(kind: str, name: str, near: str | Path | None = None) -> dict[str, Any]:
    """The parsed file of a named strategy, model, task or recipe.

    Raises:
        ConfigError: no such piece; the message names the nearest one.
    """
    files = available(kind, near)
    if name not in files:
        raise ConfigError(f"unknown {_SINGULAR[kind]} {name!r}", remedy=did_you_mean(str(name), files))
    return {"name": name, **read_yaml(files[name])}


def validated(model: type[Model], values: object, source: str | Path) -> Model:
    """Validate, turning pydantic's report into one message that lists every fault with the nearest right key."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = [_fault(model, item) for item in error.errors(include_url=False)]
        raise ConfigError("; ".join(faults), file=source if isinstance(source, Path) else f"{source}") from error


def named_piece(value: object, kind: str, near: Path, path: Path) -> Any:
    """A piece by name, or by name with changes (``{from: unet_small, params: {width: 16}}``), as a mapping; anything
    else as it is. ``path`` is the study file, for the message."""
    try:
        if isinstance(value, str):
            return load_piece(kind, value, near)
        if isinstance(value, Mapping) and "from" in value:
            changes = {key: inner for key, inner in value.items() if key != "from"}
            return merged(load_piece(kind, value["from"], near), changes)
    except ConfigError as error:
        raise error if error.file else ConfigError(error.message, file=path, remedy=error.remedy) from error
    return value


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` put in: mappings are merged, everything else is replaced."""
    out = dict(base)
    for key, value in changes.items():
        inner = out.get(key)
        out[key] = merged(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return out


def _fault(model: type[BaseModel], item: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in item["loc"]) or "file"
    kind, given = item["type"], item.get("input")
    if kind == "extra_forbidden":
        return f"unknown key {place!r} ({did_you_mean(str(item['loc'][-1]), _keys_at(model, item['loc'][:-1]))})"
    if kind == "missing":
        return f"{place!r} is missing"
    if kind == "literal_error":
        options = [word.strip("' ") for word in item["ctx"]["expected"].replace(" or ", ", ").split(",")]
        return f"{place!r} is {given!r} ({did_you_mean(str(given), options)})"
    if kind == "model_type":
        named = next((name for name, singular in _SINGULAR.items() if singular == place), None)
        names = f"; a name is one of 'stainda list {named}'" if named else ""
        return f"{place!r} is {given!r}, where settings belong ({_some_keys(model, item['loc'])}{names})"
    message = item["msg"].removeprefix("Value error, ")
    return message if place == "file" else f"{place!r}: {message} (found {given!r})"


def _some_keys(model: type[BaseModel], location: Sequence[str | int]) -> str:
    keys = _keys_at(model, location)
    return ", ".join(keys[:5]) + (" …" if len(keys) > 5 else "")


def _keys_at(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """The keys a model allows at a place, for the nearest-word remedy."""
    current: Any = model
    for part in location:
        if isinstance(part, int):
            continue
        field = getattr(current, "model_fields", {}).get(part)
        if field is None:
            return []
        current = _model_in(field.annotation)
    return list(getattr(current, "model_fields", {}))


def _model_in(annotation: object) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        if (result := _model_in(inner)) is not None:
            return result
    return None
