"""QuPath's GeoJSON: the native format of annotations and predictions, with all properties kept.

:mod:`stainda.annotations.geojson_writing` writes it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from stainda.annotations.frames import Mark, corner, moved_records
from stainda.annotations.geojson_values import OWN_ID, is_nan, number_of
from stainda.annotations.guarded import check_file
from stainda.annotations.json_stream import MAX_STREAMED, FeatureStream
from stainda.annotations.records import ShapeRecords, derive_ids, join_records, make_records
from stainda.annotations.unpacking import Member, members, only_member
from stainda.arrays import Array
from stainda.errors import AnnotationError

if TYPE_CHECKING:
    import geopandas as gpd

_NESTED = ("classification", "measurements", "metadata", "color", "plane", "nucleusGeometry", "names")
_LONGEST_TEXT = 1_000_000  # of a member that is JSON as text
_OBJECT_TYPES = {  # the ids that QuPath 0.2 wrote instead of unique ones
    "PathAnnotationObject": "annotation",
    "PathDetectionObject": "detection",
    "PathCellObject": "cell",
    "PathTileObject": "tile",
    "PathRootObject": "unknown",
}


def read_shapes(
    path: str | Path, problems: list[dict[str, str]] | None = None, max_bytes: int = MAX_STREAMED
) -> gpd.GeoDataFrame:
    """Read GeoJSON as QuPath exports it: a feature collection, a bare list of features, or one feature.

    The class comes from ``properties.classification.name`` (or ``properties.class``, or ``names``), ``score`` and
    ``confidence`` from the measurements, ``source_slide`` from the metadata; everything else stays in ``properties``.

    Coordinates are level-0 pixels where stainda wrote the file, which then says where they begin; else they are as they
    stand in the file (see :func:`stainda.annotations.load_shapes` for files of other programs).

    Args:
        path: the file.
        problems: where given, a feature that cannot be used (no geometry, a ring of two points, coordinates that are
            not numbers) is left out and reported here as a row of :data:`REPAIR_COLUMNS`; else it is an error.
        max_bytes: larger files are refused.

    Raises:
        AnnotationError: not JSON, not GeoJSON, or features that cannot be used; all of them at once.
    """
    return read_marked(path, problems, max_bytes)[0]


def read_marked(
    path: str | Path, problems: list[dict[str, str]] | None = None, max_bytes: int = MAX_STREAMED
) -> tuple[gpd.GeoDataFrame, Mark | None]:
    """As :func:`read_shapes`, and what the file says of its frame; where it does, the shapes are in level-0 pixels.

    A zip file of several GeoJSON files is read as one.
    """
    records, mark = read_records(path, problems, max_bytes)
    return records.table(), mark


def read_records(
    path: str | Path, problems: list[dict[str, str]] | None = None, max_bytes: int = MAX_STREAMED
) -> tuple[ShapeRecords, Mark | None]:
    """As :func:`read_marked`, as plain arrays."""
    path = Path(path)
    check_file(path, max_bytes)
    parts = [_read_member(member, problems, max_bytes) for member in _geojson_members(path)]
    marks = {mark.frame if mark else None for _, mark in parts}
    if len(marks) > 1 and None in marks:
        raise AnnotationError(
            "some of its files say where their coordinates begin and some do not",
            file=path,
            remedy="Unpack it, and name one file",
        )
    placed_parts = [
        table if mark is None else moved_records(table, *corner(mark.frame, mark.bounds)) for table, mark in parts
    ]
    mark = parts[0][1]
    return join_records(placed_parts).replaced(frame=mark.frame if mark else None), mark


def _geojson_members(path: Path) -> list[Member]:
    all_members = members(path)
    if len(all_members) == 1 or all(member.suffix in (".geojson", ".json") for member in all_members):
        return all_members
    return [only_member(path)]


def _read_member(
    member: Member, problems: list[dict[str, str]] | None, max_bytes: int
) -> tuple[ShapeRecords, Mark | None]:
    """The shapes of one document as they stand in it, and its mark."""
    rows: list[dict[str, Any]] = []
    geometries: list[BaseGeometry] = []
    faults: list[tuple[int, str, str, str]] = []
    path, count = member.path, 0
    with member.open() as opened:
        stream = FeatureStream(opened, member, max_bytes)
        for feature in _features(stream, path):
            count += 1
            if not isinstance(feature, Mapping):
                faults.append((count, "", "", "is no GeoJSON feature"))
                continue
            row = _row(feature)
            try:
                geometry = _geometry(feature.get("geometry"))
            except ValueError as error:
                faults.append((count, row["id"], row["class"], str(error)))
                continue
            geometries.append(geometry)
            rows.append(row)
    if faults and problems is None:
        shown = "\n".join(f"  feature {number}: {reason}" for number, _, _, reason in faults[:20])
        more = f"\n  and {len(faults) - 20} more" if len(faults) > 20 else ""
        raise AnnotationError(
            f"{len(faults)} of {count} features cannot be used\n{shown}{more}",
            file=path,
            remedy="Correct or delete them in QuPath and export again",
        )
    if problems is not None:
        problems += [
            {"id": name or f"feature {number}", "class": cls, "action": "dropped", "reason": reason}
            for number, name, cls, reason in faults
        ]
    classes = [row["class"] for row in rows]
    derived = derive_ids(geometries, classes)
    columns = {key: [row[key] for row in rows] for key in ("name", "score", "source_slide", "confidence", "properties")}
    ids = [row["id"] or derived_id for row, derived_id in zip(rows, derived, strict=True)]
    return make_records(geometries, classes, id=ids, **columns), Mark.of(stream.rest, path)


def _features(stream: FeatureStream, path: Path) -> Iterator[Any]:
    yield from stream
    document = stream.rest
    kind = document.get("type")
    if stream.is_list or isinstance(document.get("features"), list):
        return
    if kind == "Feature":
        yield document
        return
    if kind in _READERS or kind == "GeometryCollection":
        yield {"type": "Feature", "geometry": document, "properties": {}}
        return
    raise AnnotationError(
        "valid JSON, but not GeoJSON (no feature collection, list of features or feature)",
        file=path,
        remedy="In QuPath: File > Export objects as GeoJSON",
    )


def _row(feature: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of one feature. What stainda does not know is kept in ``properties``."""
    raw = _from_text(feature.get("properties"))
    properties = dict(raw) if isinstance(raw, Mapping) else {}
    properties |= {key: _from_text(properties[key]) for key in _NESTED if key in properties}
    geometry = feature.get("geometry")
    if isinstance(geometry, Mapping) and "plane" in geometry:
        properties["plane"] = geometry["plane"]
    for key in feature:
        if key not in ("type", "id", "geometry", "properties", "bbox"):
            properties.setdefault(key, _from_text(feature[key]) if key in _NESTED else feature[key])
    identity = feature.get("id", properties.get("id"))
    identity = _text(identity)
    if identity in _OBJECT_TYPES:
        properties.setdefault("objectType", _OBJECT_TYPES[identity])
        identity = ""
    metadata = properties.get("metadata")
    source = ""
    if isinstance(metadata, Mapping):
        metadata = dict(metadata)
        identity = _text(metadata.pop(OWN_ID, identity))
        source = _text(metadata.pop("source_slide", ""))
        properties["metadata"] = metadata
        if not metadata:
            del properties["metadata"]
    score = _take_number(properties, "score")
    confidence = _take_number(properties, "confidence")
    name = properties.pop("name", None)
    return {
        "class": _class_name(properties),
        "name": _text(name),
        "id": identity,
        "score": score,
        "source_slide": source,
        "confidence": confidence,
        "properties": properties,
    }


def _from_text(value: Any) -> Any:
    """A JSON object or list that was written as text (geopandas and pyogrio write nested members so), else the value.

    What only looks like JSON stays the text that it is: a class may be called ``[dead]``.
    """
    if not isinstance(value, str) or value.strip()[:1] not in ("{", "[") or len(value) > _LONGEST_TEXT:
        return value
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return parsed if isinstance(parsed, dict | list) else value


def _text(value: object) -> str:
    """A text; empty where there is none, which tables write as null or NaN."""
    return "" if value is None or is_nan(value) else str(value)


def _class_name(properties: dict[str, Any]) -> str:
    classification = properties.get("classification")
    if isinstance(classification, Mapping):
        classification = {key: _from_text(value) for key, value in classification.items()}
        properties["classification"] = classification
        names = classification.get("name", classification.get("names"))
        if isinstance(names, list):
            names = ": ".join(map(str, names))
        if _text(names):
            return str(names)
    if isinstance(classification, str):
        return str(properties.pop("classification"))
    if isinstance(properties.get("class"), str):
        return str(properties.pop("class"))
    return ""


def _take_number(properties: dict[str, Any], key: str) -> float:
    """A number out of the measurements (an object, or QuPath 0.2's list of name and value) or the properties."""
    measurements = properties.get("measurements")
    if isinstance(measurements, list):
        measurements = {str(m.get("name")): m.get("value") for m in measurements if isinstance(m, Mapping)}
        properties["measurements"] = measurements
    for holder in (measurements, properties):
        value = number_of(holder.get(key)) if isinstance(holder, dict) else None
        if value is not None:
            if holder is properties:
                del properties[key]
            else:
                properties["measurements"] = {
                    name: value_ for name, value_ in dict(measurements or {}).items() if name != key
                }
            return value
    return math.nan


def _geometry(value: object) -> BaseGeometry:
    """A shapely geometry from a GeoJSON one.

    Raises:
        ValueError: in words, why it cannot be one.
    """
    if value is None:
        raise ValueError("has no geometry")
    if not isinstance(value, Mapping):
        raise ValueError("its geometry is no object")
    kind = value.get("type")
    if kind == "GeometryCollection":
        parts = [_geometry(part) for part in value.get("geometries") or ()]
        polygons = [part for part in parts if part.geom_type in ("Polygon", "MultiPolygon")]
        if not parts or len(polygons) != len(parts):
            raise ValueError("is a collection of mixed geometries")
        return shapely.multipolygons([piece for part in polygons for piece in shapely.get_parts(part)])
    if kind not in _READERS:
        raise ValueError(f"its geometry has the unknown type {kind!r}")
    coordinates = value.get("coordinates")
    if not isinstance(coordinates, list):
        raise ValueError("its geometry has no coordinates")
    if not coordinates:
        raise ValueError("its geometry is empty")
    return _READERS[kind](coordinates)


def _points(value: object, least: int = 1) -> Array:
    if not isinstance(value, list) or len(value) < least:
        count = len(value) if isinstance(value, list) else 0
        raise ValueError(f"has a line or ring of {count} points, where {least} are needed")
    try:
        array = np.array([[float(point[0]), float(point[1])] for point in value])
    except (TypeError, ValueError, IndexError, KeyError, OverflowError) as error:
        raise ValueError("has coordinates that are no pairs of numbers") from error
    if not np.isfinite(array).all():
        raise ValueError("has coordinates that are NaN or infinite")
    return array


def _polygon(rings: object) -> BaseGeometry:
    if not isinstance(rings, list) or not rings:
        raise ValueError("has a polygon without a ring")
    shell, *holes = [_points(ring, least=3) for ring in rings]
    return shapely.Polygon(shell, holes)


def _each(read: Any, build: Any) -> Any:
    def many(value: Any) -> BaseGeometry:
        return build([read(entry) for entry in value])

    return many


_READERS: dict[str, Any] = {
    "Point": lambda value: shapely.Point(_points([value])[0]),
    "MultiPoint": lambda value: shapely.MultiPoint(_points(value)),
    "LineString": lambda value: shapely.LineString(_points(value, least=2)),
    "MultiLineString": _each(lambda line: _points(line, least=2), shapely.MultiLineString),
    "Polygon": _polygon,
    "MultiPolygon": _each(_polygon, shapely.MultiPolygon),
}
