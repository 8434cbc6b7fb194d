"""QuPath's GeoJSON as it is written; :mod:`stainda.annotations.geojson` reads it."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from stainda.annotations.frames import MARK, Bounds, Mark, from_level0
from stainda.annotations.geojson_values import OWN_ID, is_nan, number_of
from stainda.annotations.records import as_uuid
from stainda.errors import AnnotationError
from stainda.files import whole_file

if TYPE_CHECKING:
    import geopandas as gpd


def write_geojson(
    shapes: gpd.GeoDataFrame,
    path: str | Path,
    object_type: Literal["annotation", "detection"] = "annotation",
    decimals: int | None = None,
    bounds: Bounds | None = None,
) -> Path:
    """Write shapes so that QuPath opens them: a UUID each, class with colour, scores as measurements.

    An id that is no UUID is written as one derived from it, and kept next to it: :func:`read_shapes` gives it back. The
    file says where its coordinates begin, so that :func:`read_shapes` gives level-0 pixels again, whatever they are.

    Args:
        object_type: for shapes whose properties do not say.
        decimals: of the coordinates; ``None`` writes them exactly.
        bounds: the scanned part of the slide (:func:`stainda.annotations.bounds_of`): coordinates are then written from
            its corner, as QuPath counts them. ``None``: level-0 pixels.
    """
    shapes = from_level0(shapes, "bounds", bounds)
    used: set[str] = set()
    lines = []
    for row in shapes.to_dict("records"):
        if row["geometry"] is None or row["geometry"].is_empty:
            raise AnnotationError(f"shape {row['id']!r} has no geometry", file=path, remedy="Repair the shapes first")
        lines.append(json.dumps(_feature(row, object_type, decimals, used), allow_nan=False, separators=(",", ":")))
    with whole_file(path) as aside, aside.open("w", encoding="utf-8") as stream:
        mark = json.dumps(Mark(bounds).as_json(), separators=(",", ":"))
        stream.write(f'{{"type":"FeatureCollection","{MARK}":{mark},"features":[\n')
        stream.write(",\n".join(lines))
        stream.write("\n]}\n")
    return Path(path)


def _feature(row: dict[str, Any], object_type: str, decimals: int | None, used: set[str]) -> dict[str, Any]:
    kept = {key: value for key, value in row["properties"].items() if key not in ("plane", "nucleusGeometry")}
    own = str(row["id"])
    identity = as_uuid(own)
    while identity in used:
        identity = as_uuid(f"{identity}+")
    used.add(identity)
    metadata = dict(kept.pop("metadata", None) or {})
    if own and identity != own:
        metadata[OWN_ID] = own
    if row["source_slide"]:
        metadata["source_slide"] = str(row["source_slide"])
    measurements = dict(kept.pop("measurements", None) or {})
    measurements |= {key: row[key] for key in ("score", "confidence")}
    # an absent measurement is NaN to QuPath, and NaN is not JSON
    measurements = {key: value for key, value in measurements.items() if not is_nan(value)}
    classification = kept.pop("classification", None)
    properties: dict[str, Any] = {"objectType": kept.pop("objectType", object_type)}
    if row["class"]:
        properties["classification"] = {"name": str(row["class"]), "color": _colour(str(row["class"]), classification)}
    if row["name"]:
        properties["name"] = str(row["name"])
    properties["isLocked"] = bool(kept.pop("isLocked", False))
    if measurements:
        properties["measurements"] = measurements
    if metadata:
        properties["metadata"] = metadata
    properties |= {key: value for key, value in kept.items() if key not in properties}
    geometry = _as_geojson(row["geometry"], decimals)
    if "plane" in row["properties"]:
        geometry["plane"] = row["properties"]["plane"]
    feature = {"type": "Feature", "id": identity, "geometry": geometry, "properties": _plain(properties)}
    if "nucleusGeometry" in row["properties"]:
        feature["nucleusGeometry"] = row["properties"]["nucleusGeometry"]
    return feature


def _as_geojson(geometry: BaseGeometry, decimals: int | None) -> dict[str, Any]:
    if decimals is not None:
        geometry = shapely.transform(geometry, lambda xy: np.round(xy, decimals))
    value = shapely.geometry.mapping(shapely.force_2d(geometry))
    if value["type"] == "LinearRing":
        value = {**value, "type": "LineString"}
    return dict(value)


def _colour(name: str, classification: object) -> list[int]:
    """The class's colour as it was read, or one of its own, the same in every file."""
    if isinstance(classification, Mapping):
        names = classification.get("name", classification.get("names"))
        same = names == name or (isinstance(names, list) and ": ".join(map(str, names)) == name)
        colour = classification.get("color")
        parts = [number_of(part) for part in colour] if isinstance(colour, list) else []
        if same and len(parts) == 3 and all(part is not None and math.isfinite(part) for part in parts):
            return [int(part) for part in parts if part is not None]
        number = number_of(classification.get("colorRGB"))
        if same and number is not None and math.isfinite(number):
            packed = int(number)
            return [packed >> 16 & 255, packed >> 8 & 255, packed & 255]
    import colorsys

    hue = zlib.crc32(name.encode()) % 360 / 360
    return [round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.85, 0.9)]


def _plain(value: object) -> object:
    """JSON types only: numpy scalars become Python's, numbers that are none become null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
