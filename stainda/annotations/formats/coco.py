"""COCO's JSON: objects as polygons or run lengths (plain or packed) over the columns of the picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from stainda.annotations.formats.frame import Problems, SlideFrame, number, polygon, telling
from stainda.annotations.formats.run_length import decode
from stainda.annotations.guarded import read_json
from stainda.annotations.records import ShapeRecords, make_records
from stainda.errors import AnnotationError
from stainda.files import write_json
from stainda.names import stem

if TYPE_CHECKING:
    import geopandas as gpd

_MAX_SIDE = 1_000_000


def looks_like(path: Path, head: str) -> bool:
    if '"segmentation"' in head and ('"image_id"' in head or '"category_id"' in head):
        return True
    return '"annotations"' in head and ('"categories"' in head or '"images"' in head or '"segmentation"' in head)


def read(path: Path, slide: SlideFrame | None = None, problems: Problems = None) -> ShapeRecords:
    """The category is the class. Of several pictures, the one named like the slide is read."""
    document = read_json(path)
    if not isinstance(document, Mapping) or not isinstance(document.get("annotations"), list):
        raise AnnotationError("no COCO file (it has no list of annotations)", file=path)
    categories = {mapping.get("id"): str(mapping.get("name", "")) for mapping in _mappings(document.get("categories"))}
    image = _image(document, path, slide)
    geometries, classes, ids, scores = [], [], [], []
    for index, entry in enumerate(_mappings(document["annotations"])):
        if image is not None and entry.get("image_id", image) != image:
            continue
        cls, identity, score = (
            categories.get(entry.get("category_id"), ""),
            str(entry.get("id", index)),
            entry.get("score"),
        )
        with telling(problems, identity, cls):
            geometries.append(_geometry(entry, index, path))
            classes.append(cls)
            ids.append(identity)
            scores.append(float(score) if isinstance(score, int | float) else math.nan)
    return make_records(geometries, classes, id=ids, score=scores)


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def _image(document: Mapping[str, Any], path: Path, slide: SlideFrame | None) -> Any:
    images = _mappings(document.get("images"))
    if len(images) <= 1:
        return images[0].get("id") if images else None
    wanted = stem(getattr(slide, "path", ""))
    named = [image for image in images if stem(str(image.get("file_name", ""))) == wanted]
    if len(named) != 1:
        raise AnnotationError(
            f"holds {len(images)} pictures, none of which is named like the slide", file=path, remedy="Give --slide"
        )
    return named[0].get("id")


def _geometry(entry: Mapping[str, Any], index: int, path: Path) -> BaseGeometry:
    what = f"annotation {entry.get('id', index)}"
    value = entry.get("segmentation")
    if isinstance(value, Mapping):
        return _from_runs(value, what, path)
    if isinstance(value, list) and value and all(isinstance(ring, list) for ring in value):
        parts = []
        for ring in value:
            numbers = [number(corner, path, what) for corner in ring]
            parts.append(polygon(list(zip(numbers[::2], numbers[1::2], strict=False)), path, what))
        return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)
    box = entry.get("bbox")
    if isinstance(box, list) and len(box) == 4:
        x, y, width, height = (number(side, path, what) for side in box)
        return shapely.box(x, y, x + width, y + height)
    raise AnnotationError(f"{what} has neither a segmentation nor a box", file=path)


def _from_runs(value: Mapping[str, Any], what: str, path: Path) -> BaseGeometry:
    size, counts = value.get("size"), value.get("counts")
    if not (isinstance(size, list) and len(size) == 2):
        raise AnnotationError(f"the run lengths of {what} have no size", file=path)
    height, width = (int(number(side, path, what)) for side in size)
    if not (0 < height <= _MAX_SIDE and 0 < width <= _MAX_SIDE):
        raise AnnotationError(f"the run lengths of {what} are of {width} x {height} pixels", file=path)
    lengths = _unpacked(counts, what, path) if isinstance(counts, str) else _plain(counts, what, path)
    if any(not 0 <= length <= width * height for length in lengths):
        raise AnnotationError(f"the run lengths of {what} do not fit into {width} x {height} pixels", file=path)
    ends = np.cumsum(np.array(lengths, np.int64))
    starts, stops = ends[0::2], ends[1::2]
    pairs = np.stack([starts[: len(stops)] + 1, stops - starts[: len(stops)]], 1)
    pairs = pairs[pairs[:, 1] > 0]
    parts = decode(" ".join(map(str, pairs.ravel().tolist())), width, height, path)
    if not parts:
        raise AnnotationError(f"{what} is empty", file=path, remedy="Delete it")
    return parts[0] if len(parts) == 1 else shapely.union_all(parts)


def _plain(counts: object, what: str, path: Path) -> list[int]:
    if not isinstance(counts, list):
        raise AnnotationError(f"the run lengths of {what} are no list", file=path)
    return [int(number(count, path, what)) for count in counts]


def _unpacked(text: str, what: str, path: Path) -> list[int]:
    try:
        return unpack(text)
    except ValueError as error:
        raise AnnotationError(f"the run lengths of {what} are damaged ({error})", file=path) from error


def unpack(text: str) -> list[int]:
    """COCO's packed run lengths: five bits per character from 48, differences from the length before the last.

    Raises:
        ValueError: not such a text.
    """
    lengths: list[int] = []
    position = 0
    while position < len(text):
        value, shift, more = 0, 0, True
        while more and position < len(text):
            bits = ord(text[position]) - 48
            if not 0 <= bits < 64:
                raise ValueError(f"the letter {text[position]!r}")
            value |= (bits & 31) << shift
            more = bool(bits & 32)
            position += 1
            shift += 5
            if shift > 60:
                raise ValueError("a number without end")
            if not more and bits & 16:
                value |= -1 << shift
        lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
    return lengths


def write(shapes: gpd.GeoDataFrame, path: Path, slide: SlideFrame | None = None) -> None:
    names = list(dict.fromkeys(shapes["class"]))
    annotations = []
    for row in shapes.to_dict("records"):
        x0, y0, x1, y1 = row["geometry"].bounds
        rings = [np.asarray(part.exterior.coords[:-1]).ravel().tolist() for part in shapely.get_parts(row["geometry"])]
        entry = {"id": row["id"], "image_id": 1, "category_id": names.index(row["class"]) + 1, "segmentation": rings,
                 "area": row["geometry"].area, "bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": 0}  # fmt: skip
        annotations.append(entry | ({"score": row["score"]} if math.isfinite(row["score"]) else {}))
    width, height = slide.size if slide is not None else (None, None)
    file_name = Path(getattr(slide, "path", path)).name
    write_json(
        path,
        {
            "images": [{"id": 1, "file_name": file_name, "width": width, "height": height}],
            "categories": [{"id": i, "name": name, "supercategory": ""} for i, name in enumerate(names, start=1)],
            "annotations": annotations,
        },
    )
