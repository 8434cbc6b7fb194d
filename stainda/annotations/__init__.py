"""Shapes on slides: many formats in and out, repair, rasterising and outlining, landmarks.

Importing this package imports nothing heavy; the first use of a name imports its module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# not at first use: the function and its module have one name, and the import of the module would hide the function
from stainda.annotations.repair import REPAIR_COLUMNS, repair

if TYPE_CHECKING:
    from stainda.annotations.annotators import ANNOTATOR_COLUMNS, PAIR_COLUMNS, annotator_names, read_reliability
    from stainda.annotations.classes import (
        IGNORE,
        IGNORE_CLASSES,
        MAPPED_COLUMNS,
        ClassMap,
        class_key,
        matched_classes,
        read_class_table,
        unknown_classes,
    )
    from stainda.annotations.conversion import (
        CHANGE_COLUMNS,
        CLASS_COLUMNS,
        Contents,
        convert_annotations,
        group_changes,
        inspect_annotations,
    )
    from stainda.annotations.formats import sniff_format
    from stainda.annotations.frames import (
        ORIGINS,
        Bounds,
        Frame,
        Origin,
        as_origin,
        bounds_of,
        bounds_of_file,
        from_level0,
        to_level0,
    )
    from stainda.annotations.fused_files import check_out, fuse_files, with_ignored, write_fusion
    from stainda.annotations.fusion import METHODS, NOTE_COLUMNS, Fusion, Rules, fuse_annotators
    from stainda.annotations.geojson import read_marked, read_shapes
    from stainda.annotations.geojson_writing import write_geojson
    from stainda.annotations.labels import instances, outlines
    from stainda.annotations.landmarks import check_landmarks, read_landmarks, write_landmarks
    from stainda.annotations.loading import load_records, load_shapes, load_shapes_of
    from stainda.annotations.raster import PixelGrid, rasterise
    from stainda.annotations.records import SHAPE_COLUMNS, ShapeRecords
    from stainda.annotations.shapes import empty_shapes, join_shapes, join_slides, make_shapes

_HOMES = {
    "annotators": ("ANNOTATOR_COLUMNS", "PAIR_COLUMNS", "annotator_names", "read_reliability",),
    "classes": (
        "IGNORE", "IGNORE_CLASSES", "MAPPED_COLUMNS", "ClassMap", "class_key", "matched_classes", "read_class_table",
        "unknown_classes",
    ),
    "conversion": (
        "CHANGE_COLUMNS", "CLASS_COLUMNS", "Contents", "convert_annotations", "group_changes",
        "inspect_annotations",
    ),
    "formats": ("sniff_format",),
    "frames": (
        "ORIGINS", "Bounds", "Frame", "Origin", "as_origin", "bounds_of", "bounds_of_file", "from_level0", "to_level0",
    ),
    "fused_files": ("check_out", "fuse_files", "with_ignored", "write_fusion",),
    "fusion": ("METHODS", "NOTE_COLUMNS", "Fusion", "Rules", "fuse_annotators",),
    "geojson": ("read_marked", "read_shapes"),
    "geojson_writing": ("write_geojson",),
    "labels": ("instances", "outlines",),
    "landmarks": ("check_landmarks", "read_landmarks", "write_landmarks",),
    "loading": ("load_records", "load_shapes", "load_shapes_of",),
    "raster": ("PixelGrid", "rasterise"),
    "records": ("SHAPE_COLUMNS", "ShapeRecords",),
    "shapes": ("empty_shapes", "join_shapes", "join_slides", "make_shapes",),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ANNOTATOR_COLUMNS",
    "Bounds",
    "CHANGE_COLUMNS",
    "CLASS_COLUMNS",
    "ClassMap",
    "Contents",
    "Frame",
    "Fusion",
    "IGNORE",
    "IGNORE_CLASSES",
    "MAPPED_COLUMNS",
    "METHODS",
    "NOTE_COLUMNS",
    "ORIGINS",
    "Origin",
    "PAIR_COLUMNS",
    "REPAIR_COLUMNS",
    "Rules",
    "SHAPE_COLUMNS",
    "ShapeRecords",
    "annotator_names",
    "as_origin",
    "bounds_of",
    "bounds_of_file",
    "check_landmarks",
    "check_out",
    "class_key",
    "convert_annotations",
    "empty_shapes",
    "from_level0",
    "fuse_annotators",
    "fuse_files",
    "group_changes",
    "inspect_annotations",
    "instances",
    "join_shapes",
    "join_slides",
    "load_records",
    "load_shapes",
    "load_shapes_of",
    "make_shapes",
    "matched_classes",
    "outlines",
    "PixelGrid",
    "rasterise",
    "read_class_table",
    "read_landmarks",
    "read_marked",
    "read_reliability",
    "read_shapes",
    "repair",
    "sniff_format",
    "to_level0",
    "unknown_classes",
    "with_ignored",
    "write_fusion",
    "write_geojson",
    "write_landmarks",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
