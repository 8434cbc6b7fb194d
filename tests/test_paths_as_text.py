"""A path may be given as text to every public function of every room."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import types

import pytest

import stainda

ROOMS = [found.name for found in pkgutil.walk_packages(stainda.__path__, "stainda.") if found.ispkg]


def _functions(room):
    for name in getattr(room, "__all__", ()):
        thing = getattr(room, name)
        if not inspect.isclass(thing):
            yield name, thing
            continue
        # what stainda makes itself (a result, a row of a table) is handed out, not filled in by hand
        handed_out = dataclasses.is_dataclass(thing)
        for key, value in vars(thing).items():
            function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            if inspect.isfunction(function) and (not key.startswith("_") or (key == "__init__" and not handed_out)):
                yield f"{name}.{key}", function


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_function_of_a_room_takes_text_for_a_path(room):
    only_paths = []
    for name, function in _functions(importlib.import_module(room)):
        if not callable(function) or isinstance(function, types.GenericAlias):  # a name for tuple[int, ...]
            continue
        for given in inspect.signature(function).parameters.values():
            kind = str(given.annotation)
            if "Path" in kind and "str" not in kind and "Callable" not in kind:
                only_paths.append(f"{room}.{name}({given.name}: {kind})")
    assert not only_paths


def test_text_is_really_taken(tmp_path):
    """The functions whose signature said Path until this test was written."""
    from small_cohorts import make_blob_cohort

    from stainda.annotations.formats import adjacent_annotations
    from stainda.cohort import read_manifest
    from stainda.config import ModelConfig, PropagationConfig, RegistrationConfig, available, load_piece, load_strategy
    from stainda.errors import ConfigError, StaindaError
    from stainda.models import build_model, list_models, load_weights
    from stainda.registration import load_block, propagate, register_cohort
    from stainda.study import RunFolder, catalogue, read_study

    manifest = make_blob_cohort(tmp_path / "blobs", patients=1)
    cohort, out = read_manifest(str(manifest)), str(tmp_path / "run")
    register_cohort(cohort, RegistrationConfig(method="identity"), out)
    block = load_block(f"{out}/registration", "P0")
    assert set(block.transforms) == {"P0_PAS", "P0_SR"}
    propagate(cohort, {}, f"{out}/registration", PropagationConfig(), [], out)
    assert [path.name for path in adjacent_annotations(str(tmp_path / "blobs" / "P0_PAS.png"))] == ["P0_PAS.geojson"]
    near = str(tmp_path)
    assert "unet" in available("models", near) and load_piece("models", "unet", near)["name"] == "unet"
    assert load_strategy("dann", near).name == "dann" and list_models(near) and catalogue("tasks", near)
    with pytest.raises(ConfigError, match="cannot be read as safetensors"):
        load_weights(build_model(ModelConfig(params={"depth": 2, "width": 4}), 3, 2), str(manifest))
    with pytest.raises(StaindaError, match="not a run directory"):
        read_study(out)
    assert RunFolder(out).jobs == tmp_path / "run" / "jobs"
