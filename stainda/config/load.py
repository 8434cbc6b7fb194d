"""Reading study files: YAML in, one validated :class:`StudyConfig` out, every fault with its place and remedy."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from stainda.config.models import ModelConfig, StrategyConfig, StudyConfig, TaskConfig
from stainda.config.space import set_path, split_space
from stainda.errors import ConfigError, did_you_mean

Model = TypeVar("Model", bound=BaseModel)

_MAX_BYTES = 1_000_000
_KINDS = ("strategies", "models", "tasks")


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads 1e-3 as a number, and refuses a key given twice and aliases (billion laughs)."""

    def compose_node(self, parent, index):  # type: ignore[no-untyped-def]
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):  # type: ignore[no-untyped-def]
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
    if not path.is_file():
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
            f"not valid YAML: {problem}", file=path, row=mark.line + 1 if mark else None, remedy="Mend this line"
        ) from error
    if not isinstance(value, dict):
        raise ConfigError("expected 'key: value' lines", file=path)
    return value


def config_folders(near: str | Path | None = None) -> list[Path]:
    """Folders searched for pieces, nearest first: ``configs/`` beside the study, here, and where stainda lies."""
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
    """Names and files of the ``strategies``, ``models`` or ``tasks`` that can be named."""
    found: dict[str, Path] = {}
    for folder in config_folders(near):
        for file in sorted((folder / kind).glob("*.yaml")):
            found.setdefault(file.stem, file)
    return found


def load_piece(kind: str, name: str, near: str | Path | None = None) -> dict[str, Any]:
    """The parsed file of a named strategy, model or task.

    Raises:
        ConfigError: no such piece; the message names the nearest one.
    """
    files = available(kind, near)
    if name not in files:
        singular = {"strategies": "strategy", "models": "model", "tasks": "task"}[kind]
        raise ConfigError(f"unknown {singular} {name!r}", remedy=did_you_mean(name, files))
    return {"name": name, **read_yaml(files[name])}


def load_strategy(value: str | Mapping[str, Any], near: str | Path | None = None) -> StrategyConfig:
    """A strategy by name, written out, or by name with changes (``{from: dann, name: dann_strong, align: {...}}``)."""
    if isinstance(value, str):
        raw, source = load_piece("strategies", value, near), value
    elif not isinstance(value, Mapping):
        raise ConfigError(
            f"strategies holds {value!r}, which is neither a name nor a mapping",
            remedy="Write strategies: [source_only, dann]",
        )
    else:
        raw = dict(value)
        base = raw.pop("from", None)
        source = str(raw.get("name", base))
        if base is not None:
            raw = _merge(load_piece("strategies", base, near), raw)
    return build_strategy(raw, source)


def build_strategy(raw: Mapping[str, Any], source: str) -> StrategyConfig:
    values: dict[str, Any] = {}
    space: dict[str, Any] = {}
    for key, node in raw.items():
        if key == "augment" and isinstance(node, list):
            parts = []
            for index, part in enumerate(node):
                plain, found = split_space(part, f"augment.{index}")
                parts.append(plain)
                space.update(found)
            values[key] = parts
        else:
            values[key], found = split_space(node, key)
            space.update(found)
    values["space"] = space
    return validated(StrategyConfig, values, f"strategy {source}")


def load_study(path: str | Path, overrides: Sequence[str] = (), data: str | Path | None = None) -> StudyConfig:
    """Read a study file with everything it names.

    Args:
        path: the study file; ``manifest`` and ``data`` in it are relative to it. ``extends: OTHER.yaml`` in it takes
            everything from another study but what it says itself (mappings are merged, lists replaced).
        overrides: ``key=value`` with dotted keys and YAML values, e.g. ``training.epochs=2``.
        data: folder that the manifest's paths are relative to; overrides the file's.

    Raises:
        ConfigError: a key, value, name or range is wrong; all faults of the file in one message.
    """
    path = Path(path)
    return build_study(apply_overrides(read_extended(path), overrides), path, data)


def read_extended(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A study file merged into the one it extends, if any; relative paths of the other become absolute.

    Raises:
        ConfigError: a file extends itself, by whatever way, or the other one is missing.
    """
    raw = read_yaml(path)
    if "extends" not in raw:
        return raw
    other = path.resolve().parent / str(raw.pop("extends"))
    seen = (*above, path.resolve())
    if other.resolve() in seen:
        raise ConfigError(
            f"extends {other.name}, which extends this file", file=path, remedy="Let one of them stand for itself"
        )
    if not other.is_file():
        near = [one.name for one in other.parent.glob("*.yaml")] if other.parent.is_dir() else []
        raise ConfigError(f"extends {other}, which does not exist", file=path, remedy=did_you_mean(other.name, near))
    return _merge(_anchored(read_extended(other, seen), other.resolve().parent), raw)


def _anchored(raw: Mapping[str, Any], near: Path) -> dict[str, Any]:
    """A study's paths as seen from anywhere."""
    values = dict(raw)
    for key in ("manifest", "data", "classes"):
        if isinstance(values.get(key), str):
            values[key] = str(near / values[key])
    for key, inner in (("registration", "imports"), ("fusion", "reliability")):
        if isinstance(values.get(key), Mapping) and values[key].get(inner) is not None:
            values[key] = {**values[key], inner: str(near / str(values[key][inner]))}
    return values


def build_study(raw: Mapping[str, Any], path: Path, data: str | Path | None = None) -> StudyConfig:
    """Resolve a parsed study; ``path`` is the file it came from (its folder anchors relative paths)."""
    near = path.resolve().parent
    values = dict(raw)
    space: dict[str, Any] = {}
    if "training" in values:
        values["training"], space = split_space(values["training"], "training")
    for key, model, kind in (("model", ModelConfig, "models"), ("task", TaskConfig, "tasks")):
        if key in values:
            values[key] = _named(values[key], model, kind, near, path)
    strategies = values.get("strategies", [])
    if not isinstance(strategies, list):
        raise ConfigError("'strategies' must be a list", file=path, remedy="Write strategies: [source_only, dann]")
    try:
        values["strategies"] = [load_strategy(one, near) for one in strategies]
    except ConfigError as error:
        raise error if error.file else ConfigError(error.message, file=path, remedy=error.remedy) from error
    for key in ("manifest", "data"):
        if values.get(key) is not None:
            values[key] = near / str(values[key])
    if isinstance(values.get("registration"), dict) and values["registration"].get("imports") is not None:
        values["registration"] = values["registration"] | {"imports": near / str(values["registration"]["imports"])}
    if isinstance(values.get("registration"), dict):
        values["registration"] = _with_other_run(values["registration"], near)
    if isinstance(values.get("classes"), str):
        values["classes"] = near / values["classes"]
    if isinstance(values.get("fusion"), Mapping) and values["fusion"].get("reliability") is not None:
        values["fusion"] = {**values["fusion"], "reliability": near / str(values["fusion"]["reliability"])}
    if data is not None:
        values["data"] = Path(data).resolve()
    values["space"] = space
    return validated(StudyConfig, values, path)


def _with_other_run(registration: dict[str, Any], near: Path) -> dict[str, Any]:
    """``from`` names a run directory as ``--out`` does, from the working directory, or one beside the study."""
    named = registration.get("from", registration.get("from_run"))
    if named is None:
        return registration
    rest = {key: value for key, value in registration.items() if key not in ("from", "from_run")}
    here, beside = Path.cwd() / str(named), near / str(named)
    return {**rest, "from": beside if beside.is_dir() and not here.is_dir() else here}


def apply_overrides(raw: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Put ``key=value`` overrides into a parsed study; each replaces the whole entry, its search range included."""
    out = dict(raw)
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"override {text!r} is not key=value", remedy="Write for example training.epochs=2")
        try:
            parsed = yaml.load(value, Loader=_Loader)  # noqa: S506  (a SafeLoader)
        except yaml.YAMLError as error:
            raise ConfigError(f"the value of override {text!r} is not valid YAML") from error
        out = set_path(out, key.strip(), parsed)
    return out


def validated(model: type[Model], values: Any, source: str | Path) -> Model:
    """Validate, turning pydantic's report into one message that lists every fault with the nearest right key."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = [_fault(model, item) for item in error.errors(include_url=False)]
        raise ConfigError("; ".join(faults), file=source if isinstance(source, Path) else f"{source}") from error


def _named(value: Any, model: type[BaseModel], kind: str, near: Path, path: Path) -> Any:
    try:
        if isinstance(value, str):
            return load_piece(kind, value, near)
        if isinstance(value, Mapping) and "from" in value:
            changes = {key: inner for key, inner in value.items() if key != "from"}
            return _merge(load_piece(kind, value["from"], near), changes)
    except ConfigError as error:
        raise error if error.file else ConfigError(error.message, file=path, remedy=error.remedy) from error
    return value


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in changes.items():
        inner = out.get(key)
        out[key] = _merge(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
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
    message = item["msg"].removeprefix("Value error, ")
    return message if place == "file" else f"{place!r}: {message} (found {given!r})"


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


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        if (found := _model_in(inner)) is not None:
            return found
    return None
