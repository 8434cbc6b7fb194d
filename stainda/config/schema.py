"""The JSON schema of study files, with which editors complete and check them.

It is made from the models that read a study (:class:`~stainda.config.models.StudyConfig`), so that a key is known to
the editor exactly if it is known to ``stainda run``. A study as a person writes it is shorter than a resolved one:
names stand for pieces of ``configs/``, ranges next to defaults, and ``extends`` for another study. The schema allows
these short forms where the reader does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stainda.config.fine_tuning import MODES
from stainda.config.models import StudyConfig
from stainda.config.pieces import available
from stainda.config.recipes import ABOUT, AT_RANDOM, BY_TASK, PARTS
from stainda.config.space import SearchRange
from stainda.files import write_text

Schema = dict[str, Any]
"""A JSON schema, or a part of one."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_PIECES = {"task": "tasks", "model": "models", "recipe": "recipes", "strategies": "strategies"}
_SEARCHED = ("TrainingConfig", "GeometryConfig")
"""Models whose numbers may be written as a default with a range."""

_PART_KINDS = ("view", "augment", "labels", "align", "norm", "after")
_REQUIRED = (["study", "protocol", "strategies"], ["study", "protocol", "slide_level"])
"""Keys of a study that extends no other: one of these sets."""
_ANY_OBJECT: Schema = {"type": "object"}


def study_schema() -> Schema:
    """The schema of a study file (draft 2020-12).

    Names of strategies, tasks, models and recipes that stainda and the ``configs/`` folder here hold are offered; other
    names are allowed, since a study may lie next to others. What only holds between keys (``mpp`` or ``downsample``,
    not both) is left to ``stainda plan``.
    """
    schema = _without_titles(StudyConfig.model_json_schema())
    definitions: dict[str, Schema] = schema.pop("$defs")
    for name in _SEARCHED:
        _allow_ranges(definitions[name])
    definitions["Range"] = _range()
    definitions["Part"] = _part()
    definitions["Strategy"] = _strategy(definitions.pop("StrategyConfig"))
    definitions["Recipe"] = _recipe(definitions.pop("RecipeConfig"))
    _allow_weights(definitions["ModelConfig"])
    trained = definitions["TrainingConfig"]["properties"]
    trained["train"] = _either({"enum": list(MODES)}, trained["train"])
    _allow_base(definitions["TaskConfig"], definitions["ModelConfig"])
    _allow_other_names(definitions)
    head = definitions["TaskConfig"]["properties"]["instances"]
    definitions["TaskConfig"]["properties"]["instances"] = {
        "description": head["description"], "default": head["default"]["name"], "$ref": "#/$defs/Part"
    }  # fmt: skip
    del definitions["SlideLevelConfig"]["required"]  # a study that extends another changes a part of it
    slides = definitions["SlideLevelConfig"]["properties"]
    slides["encoder"] = _named(slides["encoder"], "models")
    label: Schema = {"type": ["string", "integer"]}
    slides["positive"] = _either({**slides["positive"], "items": label}, label)
    del definitions["PartConfig"]
    properties = schema["properties"]
    for key, kind in _PIECES.items():
        properties[key] = _named(properties[key], kind)
    starts = properties["starts"]
    starts["additionalProperties"] = _either({"type": "string"}, starts["additionalProperties"])
    properties["extends"] = {"type": "string", "description": "another study file: all it says holds, but for what is "
                             "written here"}  # fmt: skip
    return {
        "$schema": DIALECT,
        "title": "A study of stainda",
        "type": "object",
        "additionalProperties": False,
        "properties": dict(sorted(properties.items(), key=lambda prop: prop[0] != "extends")),
        "anyOf": [{"required": ["extends"]}, *({"required": keys} for keys in _REQUIRED)],
        "$defs": dict(sorted(definitions.items())),
    }


def write_study_schema(path: str | Path) -> Path:
    """Write the schema to ``path``, whole or not at all."""
    path = Path(path)
    write_text(path, json.dumps(study_schema(), indent=1, ensure_ascii=False) + "\n")
    return path


def _allow_ranges(model: Schema) -> None:
    """Let every setting be ``{default: ..., low: ..., high: ...}`` too."""
    for key, setting in model["properties"].items():
        model["properties"][key] = _either(setting, {"$ref": "#/$defs/Range"})


def _range() -> Schema:
    result = _without_titles(SearchRange.model_json_schema())
    del result["properties"]["integer"]  # recognised by the default
    return {
        **result,
        "description": "a default and, next to it, the values that a search may try",
        "properties": {"default": {"description": "used where nothing is searched"}, **result["properties"]},
        "required": ["default"],
        "anyOf": [{"required": ["low", "high"]}, {"required": ["choices"]}],
    }


def _part() -> Schema:
    """A part by name, or with its arguments; which there are is known to the strategies, not to the study's models."""
    return {
        "description": "the name of a part (stainda list parts, heads), or its name and arguments",
        "anyOf": [{"type": "string"}, {**_ANY_OBJECT, "properties": {"name": {"type": "string"}}}],
    }


def _strategy(model: Schema) -> Schema:
    properties = dict(model["properties"])
    for kind in _PART_KINDS:
        properties[kind] = {"$ref": "#/$defs/Part"}
    properties["augment"] = _either({"$ref": "#/$defs/Part"}, {"type": "array", "items": {"$ref": "#/$defs/Part"}})
    properties["training"] = {"$ref": "#/$defs/TrainingConfig"}
    properties["from"] = _names("strategies", "the strategy that is changed here")
    properties["model"] = {
        "description": properties["model"]["description"],
        **_either(_names("models"), {"$ref": "#/$defs/ModelConfig"}, {"type": "null"}),
    }
    properties["instances"] = {
        "description": properties["instances"]["description"],
        **_either({"$ref": "#/$defs/Part"}, {"type": "null"}),
    }
    return {
        **model,
        "properties": properties,
        "required": [],
        "anyOf": [{"required": ["name"]}, {"required": ["from"]}],
    }


def _recipe(resolved: Schema) -> Schema:
    """A recipe written out, or changes to one; with ``changed`` as in the study of a run directory."""
    own = {key: {"$ref": f"#/$defs/{model.__name__}"} for key, model in PARTS.items()}
    for key in ("model", "classifier"):
        own[key] = _either(_names("models"), own[key])
    about = {key: resolved["properties"][key] for key in (*ABOUT, "changed")}
    changes = {"type": "object", "additionalProperties": False, "properties": {key: own[key] for key in BY_TASK}}
    about["kinds"] = {
        "description": "kinds of tasks that it is for; empty: all",
        "items": {"enum": ["segmentation", "classification"]}, "type": "array",
    }  # fmt: skip
    about["tasks"] = {
        "additionalProperties": changes, "description": "what is otherwise for a task of this name", "type": "object",
    }  # fmt: skip
    about["random_start"] = {
        "type": "object",
        "additionalProperties": False,
        "description": "what is otherwise for a network that starts from random weights",
        "properties": {key: own[key] for key in AT_RANDOM},
    }
    return {
        "type": "object",
        "additionalProperties": False,
        "description": "the settings that all strategies share: changes to a recipe, or one written out",
        "properties": {"from": _names("recipes", "the recipe that is changed here"), **about, **own},
    }


def _allow_weights(model: Schema) -> None:
    """``weights`` is a file, or says where the file comes from and whether it may be missing."""
    fields = {key.removeprefix("weights_"): prop for key, prop in model["properties"].items() if "weights_" in key}
    known = {key: fields[key] for key in ("optional", "source", "sha256")}
    described = {"type": "object", "additionalProperties": False, "required": ["file"],
                 "properties": {"file": {"type": "string"}, **known}}  # fmt: skip
    model["properties"]["weights"] = _either(model["properties"]["weights"], described)


def _allow_base(task: Schema, model: Schema) -> None:
    """``{from: NAME, ...}``: the piece of that name with changes."""
    for kind, schema in (("tasks", task), ("models", model)):
        schema["properties"]["from"] = _names(kind, "the piece that is changed here")


def _allow_other_names(definitions: Mapping[str, Schema]) -> None:
    """Short forms that a model takes for its own: one objective without a list, and the old name of ``from``."""
    search = definitions["SearchConfig"]["properties"]
    search["objective"] = _either(search["objective"], search["objective"]["items"])
    registration = definitions["RegistrationConfig"]["properties"]
    registration["from_run"] = registration["from"]


def _named(setting: Schema, kind: str) -> Schema:
    if kind == "strategies":
        return {**setting, "items": _either(_names(kind), {"$ref": "#/$defs/Strategy"})}
    reference = "#/$defs/Recipe" if kind == "recipes" else setting["$ref"]
    kept = {key: setting[key] for key in ("description",) if key in setting}
    return {**kept, **_either(_names(kind), {"$ref": reference})}


def _names(kind: str, description: str = "") -> Schema:
    """Any name; those that can be named here are offered."""
    shipped = sorted(available(kind))
    texts: Schema = {"description": description} if description else {}
    return {**texts, "anyOf": [{"enum": shipped}, {"type": "string"}]}


def _either(*schemas: Schema) -> Schema:
    """One of several; what describes the first stays outside, where editors look for it."""
    first = schemas[0]
    outside: Schema = {key: first[key] for key in ("description", "default") if key in first}
    rest = {key: value for key, value in first.items() if key not in outside}
    return {**outside, "anyOf": [rest, *schemas[1:]]}


def _without_titles(node: object) -> Any:
    """Without the titles that pydantic makes of names; a property that is called ``title`` stays."""
    if isinstance(node, list):
        return [_without_titles(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    return {
        key: {name: _without_titles(value) for name, value in inner.items()}
        if key == "properties"
        else _without_titles(inner)
        for key, inner in node.items()
        if not (key == "title" and isinstance(inner, str))
    }
