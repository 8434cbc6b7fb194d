"""Shapes on slides: QuPath GeoJSON in and out, repair, rasterising and outlining, landmarks."""

from stainda.annotations.geojson import load_shapes, read_shapes, write_geojson
from stainda.annotations.labels import instances, outlines
from stainda.annotations.landmarks import read_landmarks, write_landmarks
from stainda.annotations.raster import rasterise
from stainda.annotations.repair import REPAIR_COLUMNS, repair
from stainda.annotations.shapes import SHAPE_COLUMNS, empty_shapes, join_shapes, make_shapes

__all__ = [
    "REPAIR_COLUMNS",
    "SHAPE_COLUMNS",
    "empty_shapes",
    "instances",
    "join_shapes",
    "load_shapes",
    "make_shapes",
    "outlines",
    "rasterise",
    "read_landmarks",
    "read_shapes",
    "repair",
    "write_geojson",
    "write_landmarks",
]
