"""Shapes on slides: many formats in and out, repair, rasterising and outlining, landmarks."""

from stainda.annotations.conversion import (
    CHANGE_COLUMNS,
    CLASS_COLUMNS,
    Contents,
    convert_annotations,
    inspect_annotations,
)
from stainda.annotations.geojson import read_shapes, write_geojson
from stainda.annotations.labels import instances, outlines
from stainda.annotations.landmarks import read_landmarks, write_landmarks
from stainda.annotations.loading import load_shapes, read_class_table
from stainda.annotations.raster import rasterise
from stainda.annotations.repair import REPAIR_COLUMNS, repair
from stainda.annotations.shapes import SHAPE_COLUMNS, empty_shapes, join_shapes, make_shapes

__all__ = [
    "CHANGE_COLUMNS",
    "CLASS_COLUMNS",
    "Contents",
    "REPAIR_COLUMNS",
    "SHAPE_COLUMNS",
    "convert_annotations",
    "empty_shapes",
    "inspect_annotations",
    "instances",
    "join_shapes",
    "load_shapes",
    "make_shapes",
    "outlines",
    "rasterise",
    "read_class_table",
    "read_landmarks",
    "read_shapes",
    "repair",
    "write_geojson",
    "write_landmarks",
]
