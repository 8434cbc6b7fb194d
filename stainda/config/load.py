"""Reading study files: YAML in, one validated :class:`StudyConfig` out, every fault with its place and remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stainda.config.models import StrategyConfig, StudyConfig
from stainda.config.pieces import (
    available,
    load_piece,
    merged,
    named_piece,
    parse_value,
    parse_yaml,
    read_yaml,
    validated,
)
from stainda.config.recipes import spread_geometry, with_recipe
from stainda.config.run_format import without_run_format
from stainda.config.space import set_path, split_space
from stainda.errors import ConfigError, did_you_mean
from stainda.names import is_file

__all__ = [
    "apply_overrides", "available", "build_strategy", "build_study", "load_piece", "load_strategy", "load_study",
    "parse_yaml", "read_extended", "read_yaml", "validated",
]  # fmt: skip

_NAMED = ("model", "task", "recipe")
"""Keys of a study whose value may be the name of a piece."""
_PATHS = (
    ("registration", "imports"), ("fusion", "reliability"),
    ("microenvironment", "cell_files"), ("microenvironment", "outline_files"),
)  # fmt: skip
"""Settings that are paths, relative to the folder of the study file: section and key."""
_RUNS = (("microenvironment", "detector_run"), ("microenvironment", "cell_run"))
"""Settings that name a run directory as ``--out`` does, from the working directory, or one next to the study file."""


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
            known = load_piece("strategies", base, near)
            if "name" in raw:  # another strategy has another title
                known = {key: inner for key, inner in known.items() if key != "title"}
            raw = merged(known, raw)
    if raw.get("model") is not None:
        place = Path.cwd() if near is None else Path(near)
        raw = {**raw, "model": named_piece(raw["model"], "models", place, Path(f"strategy {source}"))}
    return build_strategy(raw, source)


def build_strategy(raw: Mapping[str, Any], source: str) -> StrategyConfig:
    values: dict[str, Any] = {}
    space: dict[str, Any] = {}
    for key, node in raw.items():
        if key in ("model", "instances"):  # the numbers of a network are not searched
            values[key] = node
        elif key == "augment" and isinstance(node, list):
            parts = []
            for index, part in enumerate(node):
                plain, ranges = split_space(part, f"augment.{index}")
                parts.append(plain)
                space.update(ranges)
            values[key] = parts
        else:
            values[key], ranges = split_space(node, key)
            space.update(ranges)
    values["space"] = {**(raw.get("space") or {}), **space}  # a resolved study has its ranges apart from its defaults
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
    raw = without_run_format(read_yaml(path), path)
    if "extends" not in raw:
        return raw
    other = path.resolve().parent / str(raw.pop("extends"))
    seen = (*above, path.resolve())
    if other.resolve() in seen:
        raise ConfigError(
            f"extends {other.name}, which extends this file", file=path, remedy="Let one of them stand for itself"
        )
    if not is_file(other):
        near = [file.name for file in other.parent.glob("*.yaml")] if other.parent.is_dir() else []
        raise ConfigError(f"extends {other}, which does not exist", file=path, remedy=did_you_mean(other.name, near))
    return merged(_anchored(read_extended(other, seen), other.resolve().parent), raw)


def _anchored(raw: Mapping[str, Any], near: Path) -> dict[str, Any]:
    """A study's paths as seen from anywhere."""
    values = dict(raw)
    for key in ("manifest", "data", "classes"):
        if isinstance(values.get(key), str):
            values[key] = str(near / values[key])
    for key, inner in _PATHS:
        if isinstance(values.get(key), Mapping) and values[key].get(inner) is not None:
            values[key] = {**values[key], inner: str(near / str(values[key][inner]))}
    return values


def build_study(raw: Mapping[str, Any], path: Path, data: str | Path | None = None) -> StudyConfig:
    """Resolve a parsed study; ``path`` is the file it came from (its folder anchors relative paths)."""
    near = path.resolve().parent
    values = dict(raw)
    if "task" in values:
        values["task"] = named_piece(values["task"], "tasks", near, path)
    values = with_recipe(values, near, path)
    if isinstance(slides := values.get("slide_level"), Mapping) and "encoder" in slides:
        values["slide_level"] = {**slides, "encoder": named_piece(slides["encoder"], "models", near, path)}
        values["patches"] = _with_scale(values.get("patches") or {}, slides.get("patches"))
    values["training"], space = split_space(values.get("training", {}), "training")
    values["geometry"], of_geometry = split_space(values.get("geometry", {}), "geometry")
    strategies = values.get("strategies", [])
    if not isinstance(strategies, list):
        raise ConfigError("'strategies' must be a list", file=path, remedy="Write strategies: [source_only, dann]")
    try:
        result = [load_strategy(strategy, near) for strategy in strategies]
    except ConfigError as error:
        raise error if error.file else ConfigError(error.message, file=path, remedy=error.remedy) from error
    values["strategies"] = [spread_geometry(candidate, values["geometry"], of_geometry) for candidate in result]
    for key in ("manifest", "data"):
        if values.get(key) is not None:
            values[key] = near / str(values[key])
    for key, inner in _PATHS:
        if isinstance(values.get(key), Mapping) and values[key].get(inner) is not None:
            values[key] = {**values[key], inner: near / str(values[key][inner])}
    for key, inner in _RUNS:
        if isinstance(values.get(key), Mapping) and values[key].get(inner) is not None:
            values[key] = {**values[key], inner: _place_of_run(str(values[key][inner]), near)}
    if isinstance(values.get("starts"), Mapping):
        values["starts"] = {name: _with_place(start, near) for name, start in values["starts"].items()}
    if isinstance(values.get("registration"), dict):
        values["registration"] = _with_other_run(values["registration"], near)
    if isinstance(values.get("classes"), str):
        values["classes"] = near / values["classes"]
    if data is not None:
        values["data"] = Path(data).resolve()
    values["space"] = {**(values.get("space") or {}), **space}
    return validated(StudyConfig, values, path)


def _with_scale(patches: Mapping[str, Any], of_slides: object) -> dict[str, Any]:
    """Patches of strategies at the scale of those of slides, where the study names no other."""
    if not isinstance(of_slides, Mapping) or patches.get("mpp") or patches.get("downsample"):
        return dict(patches)
    return {**patches, **{key: of_slides[key] for key in ("mpp", "downsample") if key in of_slides}}


def _with_other_run(registration: dict[str, Any], near: Path) -> dict[str, Any]:
    """``from`` names a run directory as ``--out`` does, from the working directory, or one next to the study."""
    named = registration.get("from", registration.get("from_run"))
    if named is None:
        return registration
    rest = {key: value for key, value in registration.items() if key not in ("from", "from_run")}
    return {**rest, "from": _place_of_run(str(named), near)}


def _with_place(start: Any, near: Path) -> Any:
    """A start of another study, its run directory as :data:`_RUNS` are."""
    given = dict(start) if isinstance(start, Mapping) else {"run": start}
    return {**given, "run": _place_of_run(given["run"], near)} if isinstance(given.get("run"), str) else given


def _place_of_run(named: str, near: Path) -> Path:
    from_here, adjacent = Path.cwd() / named, near / named
    return adjacent if adjacent.is_dir() and not from_here.is_dir() else from_here


def apply_overrides(raw: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Put ``key=value`` overrides into a parsed study; each replaces the whole entry, its search range included.

    A name in ``strategies=[...]`` is the strategy of the study that has it, where there is one.
    """
    out = dict(raw)
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"override {text!r} is not key=value", remedy="Write for example training.epochs=2")
        head, _, rest = key.strip().partition(".")
        if rest and head in _NAMED and isinstance(out.get(head), str):
            out[head] = {"from": out[head]}  # model.params.width=16 changes the model that is named
        out = set_path(out, key.strip(), parse_value(value, f"override {text!r}"))
        if key.strip() == "strategies" and isinstance(out["strategies"], list):
            out["strategies"] = [_own_strategy(raw, named) for named in out["strategies"]]
    return out


def _own_strategy(raw: Mapping[str, Any], named: Any) -> Any:
    """The entry of this name in the study file; else what is given."""
    entries = raw.get("strategies")
    own = [entry for entry in entries or () if isinstance(entry, dict)] if isinstance(entries, list) else []
    return next((entry for entry in own if isinstance(named, str) and entry.get("name") == named), named)
