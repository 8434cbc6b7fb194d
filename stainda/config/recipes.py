"""Recipes: what is the same for all strategies of a study, under one name.

A recipe is a file in ``configs/recipes/``: network and weights, size of the patches, geometry, and the loop. A study
names one (``recipe: small``), names one with changes (``recipe: {from: strong, training: {epochs: 60}}``), writes one
out (``recipe: {name: mine, model: unet, ...}``) or gets :data:`DEFAULT`. What the study says itself wins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from stainda.config.models import StrategyConfig
from stainda.config.pieces import available, load_piece, merged, named_piece, validated
from stainda.config.space import SearchRange, split_space
from stainda.config.training import GeometryConfig, ModelConfig, PatchConfig, TrainingConfig
from stainda.errors import ConfigError, did_you_mean

DEFAULT = "strong"
"""The recipe of a study that names none: a comparison on top of a weak one says little about the strategies."""

ABOUT = ("name", "title", "description")
PARTS: dict[str, type[BaseModel]] = {
    "model": ModelConfig, "classifier": ModelConfig, "patches": PatchConfig, "geometry": GeometryConfig,
    "training": TrainingConfig,
}  # fmt: skip
BY_TASK = ("patches", "geometry", "training")
"""What a recipe may have otherwise for a task."""
AT_RANDOM = ("geometry", "training")
"""What it may have otherwise for a network that starts from random weights (``random_start``)."""

_KINDS = ("segmentation", "classification")
_SCALES = ("mpp", "downsample")


def with_recipe(study: Mapping[str, Any], near: Path, path: Path) -> dict[str, Any]:
    """A parsed study with the settings of its recipe, where it does not make them itself.

    ``recipe`` becomes the recipe's name and description and what departs from it. Of a recipe's two networks,
    ``model`` and ``classifier``, the study gets the one for its kind of task.

    Args:
        near: folder of the study file ``path``.

    Raises:
        ConfigError: no such recipe (the nearest is named), or a fault in it.
    """
    task = study.get("task")
    task = task if isinstance(task, Mapping) else {}
    named, used = _recipe(study.get("recipe", DEFAULT), str(task.get("name", "")), near, path)
    values = dict(study)
    kind = _KINDS[1] if task.get("kind") == _KINDS[1] else _KINDS[0]  # of the network that answers
    _check_kind(used, kind, study, near, path)
    network = "classifier" if kind == "classification" and "classifier" in named else "model"
    values["model"] = _network(study.get("model"), used.get(network), near, path)
    if values["model"] is None:
        del values["model"]
    own = {key: study[key] for key in ("patches", "geometry", "training") if isinstance(study.get(key), Mapping)}
    start = {**used.get("training", {}), **own.get("training", {})}.get("start")
    if start == "random" or not _names_weights(values.get("model")):
        named, used = at_random(named), at_random(used)
    for key, given in own.items():
        own[key] = {name: value for name, value in given.items() if key != "geometry" or value is not None}
    for key in ("patches", "geometry", "training"):
        if key in study and key not in own:
            continue  # not a mapping: reported by the study's own check
        base = dict(used.get(key, {}))
        if key == "patches" and set(_SCALES) & set(own.get(key, {})):
            base = {name: value for name, value in base.items() if name not in _SCALES}
        values[key] = merged(base, own.get(key, {}))
    compared = {**{key: values.get(key) for key in ("patches", "geometry", "training")}, "model": values.get("model")}
    wanted = {**{key: named.get(key, {}) for key in ("patches", "geometry", "training")}, "model": named.get(network)}
    about = {key: " ".join(str(named[key]).split()) for key in ABOUT if key in named}
    resolved = not set(PARTS) & set(named)  # a study of a run directory: its settings are its own, written out
    departs = [*named.get("changed", ()), *(() if resolved else _departures(wanted, compared))]
    values["recipe"] = {**about, "changed": list(dict.fromkeys(departs))}
    return values


def load_recipe(name: str, near: str | Path | None = None) -> dict[str, Any]:
    """A recipe's file, its networks looked up by name.

    Raises:
        ConfigError: no such recipe, or a fault in it.
    """
    raw = load_piece("recipes", name, near)
    file = available("recipes", near)[name]
    return _checked(raw, Path(near) if near is not None else Path.cwd(), file)


def spread_geometry(
    strategy: StrategyConfig, defaults: Mapping[str, Any], space: Mapping[str, SearchRange]
) -> StrategyConfig:
    """A strategy whose ``geometry`` augments have the study's settings where they have none of their own.

    Args:
        defaults: parameters of the part.
        space: search ranges by ``geometry.NAME``; the strategy searches those it does not set itself.
    """
    parts = [part for part in strategy.augment if part.name == "geometry"]
    own = {name for part in parts for name in part.params}
    augment = tuple(
        part.model_copy(update={"params": {**defaults, **part.params}}) if part.name == "geometry" else part
        for part in strategy.augment
    )
    searched = {path: values for path, values in space.items() if parts and path.partition(".")[2] not in own}
    return strategy.model_copy(update={"augment": augment, "space": {**searched, **strategy.space}})


def for_task(recipe: Mapping[str, Any], task: str) -> dict[str, Any]:
    """A recipe as it is for a task of this name: with its changes for that task, if it has any."""
    values = {key: inner for key, inner in recipe.items() if key != "tasks"}
    changes = recipe.get("tasks", {}).get(task, {})
    if set(_SCALES) & set(changes.get("patches", {})):
        values["patches"] = {key: inner for key, inner in values.get("patches", {}).items() if key not in _SCALES}
    return merged(values, changes)


def at_random(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe as it is for a network that starts from random weights: with its changes for that, if it has any."""
    values = {key: inner for key, inner in recipe.items() if key != "random_start"}
    return merged(values, recipe.get("random_start", {}))


def _names_weights(model: object) -> bool:
    return isinstance(model, Mapping) and bool(model.get("weights"))


def _check_kind(recipe: Mapping[str, Any], kind: str, study: Mapping[str, Any], near: Path, path: Path) -> None:
    """Refuse a recipe whose network is for another kind of task, unless the study brings its own."""
    kinds = recipe.get("kinds", _KINDS)
    if kind in kinds or "model" in study:
        return
    others = [name for name in available("recipes", near) if kind in load_recipe(name, near).get("kinds", _KINDS)]
    task = study.get("task")
    raise ConfigError(
        f"recipe {recipe.get('name', '')!r} is for {' and '.join(kinds)}, and the task "
        f"{task.get('name', '') if isinstance(task, Mapping) else ''} is {kind}",
        file=path,
        remedy=f"Take recipe: {' or '.join(others)}, or name a network with 'model:'",
    )


def _recipe(value: object, task: str, near: Path, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The recipe that is named, and the one that is used: it with the changes made where it is named."""
    if isinstance(value, str):
        result = for_task(_load(value, near, path), task)
        return result, result
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"recipe is {value!r}, which is neither a name nor a mapping", file=path, remedy="Write recipe: strong"
        )
    if "from" in value or "name" not in value:
        base = for_task(_load(value.get("from", DEFAULT), near, path), task)
        changes = {key: inner for key, inner in value.items() if key != "from"}
        if "model" in changes:
            changes["model"] = _network(changes["model"], base.get("model"), near, path)
            base_less = {key: inner for key, inner in base.items() if key != "model"}
        else:
            base_less = base
        used = _checked(merged(base_less, changes), near, path)
        return (used if "name" in value else base), for_task(used, task)
    result = for_task(_checked(value, near, path), task)
    return result, result


def _load(name: str, near: Path, path: Path) -> dict[str, Any]:
    try:
        return load_recipe(name, near)
    except ConfigError as error:
        raise error if error.file else ConfigError(error.message, file=path, remedy=error.remedy) from error


def _network(given: Any, base: Any, near: Path, path: Path) -> Any:
    """The study's own network: by name, written out, or changes to that of the recipe."""
    if given is None:
        return base
    if isinstance(given, Mapping) and not {"name", "from"} & set(given) and base is not None:
        return merged(base, given)
    return named_piece(given, "models", near, path)


def _checked(raw: Mapping[str, Any], near: Path, file: Path) -> dict[str, Any]:
    """A recipe with its networks looked up; its faults are reported with its own file, not with the study's."""
    known = (*ABOUT, "changed", "kinds", "tasks", "random_start", *PARTS)
    if unknown := [key for key in raw if key not in known]:
        remedy = did_you_mean(str(unknown[0]), [*ABOUT, "kinds", "tasks", "random_start", *PARTS])
        raise ConfigError(f"unknown key {unknown[0]!r} in a recipe", file=file, remedy=remedy)
    values = dict(raw)
    _check_tasks(values, near, file)
    _check_random_start(values, near, file)
    for key in ("model", "classifier"):
        if key in values:
            values[key] = named_piece(values[key], "models", near, file)
    for key, model in PARTS.items():
        if key not in values:
            continue
        if not isinstance(values[key], Mapping):
            raise ConfigError(f"{key!r} of a recipe is not a mapping", file=file, remedy=f"Write {key}: {{...}}")
        try:
            plain, _ = split_space(values[key], key)
        except ConfigError as error:
            raise ConfigError(error.message, file=file, remedy=error.remedy) from error
        if key == "patches" and not set(_SCALES) & set(plain):
            plain = {**plain, "mpp": 1.0}  # the scale is the study's
        validated(model, plain, file)
    return values


def _check_tasks(values: Mapping[str, Any], near: Path, file: Path) -> None:
    """Refuse kinds and tasks that are not there, and changes that a recipe cannot make for one of them."""
    if wrong := [kind for kind in values.get("kinds", ()) if kind not in _KINDS]:
        raise ConfigError(f"unknown kind {wrong[0]!r} in a recipe", file=file, remedy=did_you_mean(wrong[0], _KINDS))
    tasks = values.get("tasks", {})
    if not isinstance(tasks, Mapping):
        raise ConfigError(
            "'tasks' of a recipe is not a mapping", file=file, remedy="Write tasks: {NAME: {training: …}}"
        )
    for name, changes in tasks.items():
        if name not in available("tasks", near):
            raise ConfigError(
                f"unknown task {name!r} in a recipe", file=file, remedy=did_you_mean(name, available("tasks", near))
            )
        _check_changes(changes, BY_TASK, f"task {name}", file)
        _checked({key: inner for key, inner in for_task(values, name).items() if key in BY_TASK}, near, file)


def _check_random_start(values: Mapping[str, Any], near: Path, file: Path) -> None:
    """Refuse changes that a recipe cannot make for a random start."""
    changes = values.get("random_start", {})
    if not isinstance(changes, Mapping):
        raise ConfigError(
            "'random_start' of a recipe is not a mapping", file=file, remedy="Write random_start: {training: …}"
        )
    _check_changes(changes, AT_RANDOM, "a random start", file)
    if changes:
        _checked({key: inner for key, inner in at_random(values).items() if key in AT_RANDOM}, near, file)


def _check_changes(changes: Mapping[str, Any], allowed: Sequence[str], what: str, file: Path) -> None:
    """Refuse changes of other keys than those that may change for ``what``."""
    if wrong := [key for key in changes if key not in allowed]:
        raise ConfigError(
            f"{wrong[0]!r} cannot be changed for {what}", file=file, remedy=did_you_mean(wrong[0], allowed)
        )


def _departures(recipe: Mapping[str, Any], study: Mapping[str, Any]) -> Iterator[str]:
    """Dotted settings that are not as the recipe has them; the scale is the study's where the recipe has none."""
    for key in dict.fromkeys([*recipe, *study]):
        has, got = recipe.get(key), study.get(key)
        if has == got or (key in _SCALES and not set(_SCALES) & set(recipe)):
            continue
        if key in ("description", "reference"):
            continue
        if isinstance(has, Mapping) and isinstance(got, Mapping) and _same_thing(has, got):
            yield from (f"{key}.{inner}" for inner in _departures(has, got))
        else:
            yield str(key)


def _same_thing(has: Mapping[str, Any], got: Mapping[str, Any]) -> bool:
    """Whether what differs inside tells more than that all of it does: not of ranges or of two networks."""
    return "default" not in has and has.get("name") == got.get("name")
