"""Where patches are cut, the store they are written to, and the view of it that training is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stainda.patches.building import build_store
    from stainda.patches.fields import write_fields
    from stainda.patches.pixels import sample_tissue_pixels, working_downsample
    from stainda.patches.store import PatchStore
    from stainda.patches.training_data import TrainingData

_HOMES = {
    "PatchStore": "store",
    "TrainingData": "training_data",
    "build_store": "building",
    "sample_tissue_pixels": "pixels",
    "working_downsample": "pixels",
    "write_fields": "fields",
}

__all__ = ["PatchStore", "TrainingData", "build_store", "sample_tissue_pixels", "working_downsample", "write_fields"]


def __getattr__(name: str) -> Any:
    # training reads a store without openslide, geopandas or anything else that cutting needs
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
