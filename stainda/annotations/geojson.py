"""QuPath's GeoJSON: the native format of annotations and predictions, with all properties kept."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from stainda.annotations.frames import MARK, Bounds, Mark, corner, from_level0, moved_records
from stainda.annotations.guarded import check_file
from stainda.annotations.json_stream import MAX_STREAMED, FeatureStream
from stainda.annotations.records import ShapeRecords, as_uuid, derive_ids, join_records, make_records
from stainda.annotations.unpacking import Member, members, only_member
from stainda.arrays import Array
from stainda.errors import AnnotationError
from stainda.files import whole_file

if TYPE_CHECKING:
    import geopandas as gpd

_OWN_ID = "stainda_id"
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
        identity = _text(metadata.pop(_OWN_ID, identity))
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


def _number(value: object) -> float | None:
    """A number, or a text of one (``NaN`` too); ``None`` for all else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _text(value: object) -> str:
    """A text; empty where there is none, which tables write as null or NaN."""
    return "" if value is None or _is_nan(value) else str(value)


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
        value = _number(holder.get(key)) if isinstance(holder, dict) else None
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
        metadata[_OWN_ID] = own
    if row["source_slide"]:
        metadata["source_slide"] = str(row["source_slide"])
    measurements = dict(kept.pop("measurements", None) or {})
    measurements |= {key: row[key] for key in ("score", "confidence")}
    # an absent measurement is NaN to QuPath, and NaN is not JSON
    measurements = {key: value for key, value in measurements.items() if not _is_nan(value)}
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


def _is_nan(value: object) -> bool:
    return isinstance(value, float | np.floating) and not math.isfinite(value)


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
        parts = [_number(part) for part in colour] if isinstance(colour, list) else []
        if same and len(parts) == 3 and all(part is not None and math.isfinite(part) for part in parts):
            return [int(part) for part in parts if part is not None]
        number = _number(classification.get("colorRGB"))
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
