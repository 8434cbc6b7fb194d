"""Mutual comparison: objects of consecutive sections support or doubt each other.

After Temerinac-Ott et al. 2017, who bring the detections of consecutive, differently stained sections into one frame
and believe those that are found again. The rules below are stainda's own statement of that idea:

1. The objects of each section are mapped into one frame. A pair of one class costs ``(distance of centres / gate)² +
   (ln ratio of areas / ln size_ratio)²`` with ``gate = 3·error + half the smaller radius``; it *may* be one object
   when that is below 1: shifted by less than the gate at equal size, or of less than ``size_ratio`` at one place.
2. Sections are gone through in the order of the cut. The objects of each are assigned to the identities last seen up
   to ``reach`` sections before, at the least total cost (the Hungarian method), leaving an object alone costing ½; so
   an identity has at most one object per section, and outlives sections in which it was missed.
3. Of an object of score ``s``, every section within ``reach`` in which its place is visible is a witness. With the
   chance ``p = found·persistence^gap`` that a true object is found there and the chance ``q = by_chance`` that a false
   one meets something, its log-odds grow by ``ln(1 + t·(p/q - 1))`` where the witness has it, with score ``t``, and by
   ``ln((1 - p)/(1 - q))`` where it has not. Witnesses are taken as independent; a score that is not known is one half,
   that of a witness 1.
4. An object that has no place in the frame is nobody else's: it has no witness, and is none.

Maps are callables, so that nothing here knows how sections were registered: ``Transform.to_frame`` fits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from stainda.arrays import Array
from stainda.objects.assignment import assign
from stainda.objects.moving import moved_geometries

if TYPE_CHECKING:
    import geopandas as gpd

ToFrame = Callable[[NDArray[np.float64]], NDArray[np.float64]]

COMPARISON_COLUMNS = ("identity", "support", "witnesses", "supported_by", "doubted_by", "own_score")
IDENTITY_COLUMNS = ("identity", "class", "sections", "found_in", "missing_in", "x", "y", "area", "score")


@dataclass(frozen=True)
class SupportRules:
    """Settings of the mutual comparison: gates and probabilities.

    Attributes:
        error: registration error, in pixels of the frame: the typical distance (median TRE) between where a point is
            mapped to and where it belongs; one number, or one per section.
        size_ratio: largest ratio of areas of one object in two sections.
        reach: how many places in the order of the cut two sections may lie apart, to witness for each other.
        found, by_chance, persistence: the chances of rule 3. ``persistence`` is per section of distance: a glomerulus
            of 150 µm ends after about fifty sections of 3 µm.
    """

    error: float | Mapping[str, float] = 0.0
    size_ratio: float = 2.5
    reach: int = 2
    found: float = 0.8
    by_chance: float = 0.1
    persistence: float = 0.98

    def __post_init__(self) -> None:
        if not self.size_ratio > 1:
            raise ValueError(f"size_ratio is {self.size_ratio}, but must be above 1")
        if self.reach < 1:
            raise ValueError(f"reach is {self.reach}, but must be at least 1")
        if not (0 < self.by_chance < self.found < 1 and 0 < self.persistence <= 1):
            raise ValueError("the chances must be 0 < by_chance < found < 1 and 0 < persistence <= 1")

    def error_of(self, section: str) -> float:
        return float(self.error if isinstance(self.error, int | float) else self.error[section])


@dataclass(frozen=True, eq=False)
class _Placed:
    """The objects of one section in the frame: centres (n, 2), NaN where an object has no place, areas (n,)
    (0: points), classes, scores."""

    centres: Array
    areas: Array
    classes: Array
    scores: Array

    @property
    def there(self) -> NDArray[np.bool_]:
        """Whether each object has a place (n,)."""
        return np.isfinite(self.centres).all(axis=1)


def mutual_comparison(
    shapes_by_section: Mapping[str, gpd.GeoDataFrame],
    to_frame: Mapping[str, ToFrame],
    rules: SupportRules | None = None,
    *,
    order: Mapping[str, float] | None = None,
    visible: Mapping[str, BaseGeometry] | None = None,
    name: str = "",
) -> dict[str, gpd.GeoDataFrame]:
    """Give the objects of a block one identity across its sections, and let sections support or doubt each other.

    Args:
        shapes_by_section: shapes of each section, level-0 pixels of it, in the order of the cut.
        to_frame: for each section the map of points (n, 2) from its level-0 pixels to the block's frame.
        rules: gates and chances.
        order: number of each section in the cut, where sections are missing between them; default 0, 1, 2, …
        visible: for each section the part of the frame that it shows (its tissue); a section witnesses only for what
            lies there. A section without one shows everything.
        name: begins every identity, so that those of two blocks differ.

    Returns:
        The same sections and shapes, with the columns of :data:`COMPARISON_COLUMNS` added: ``identity``, ``support``
        (witnesses that have it), ``witnesses``, ``supported_by`` and ``doubted_by`` (names, joined by ``"; "``) and
        ``own_score`` (as it was). ``score`` is the updated one. Identity, support and witnesses are also written into
        ``properties``, from where they reach GeoJSON.

    Raises:
        KeyError: a section without a map, an error or an order.
        ValueError: two sections of the same number.
    """
    rules = rules or SupportRules()
    sections = list(shapes_by_section)
    numbers = {slide: float(index if order is None else order[slide]) for index, slide in enumerate(sections)}
    if len(set(numbers.values())) < len(sections):
        raise ValueError("two sections have the same number in the order of the cut")
    sections.sort(key=numbers.__getitem__)
    placed = {slide: _place(shapes_by_section[slide], to_frame[slide]) for slide in sections}
    identity = _identities(sections, numbers, placed, rules)
    holder = {
        slide: dict(zip(identity[slide].tolist(), range(len(identity[slide])), strict=True)) for slide in sections
    }
    classes = {int(i): cls for slide in sections for i, cls in zip(identity[slide], placed[slide].classes, strict=True)}
    labels = {i: f"{name}{'/' if name else ''}{cls or 'object'}-{i + 1}" for i, cls in classes.items()}
    result = {}
    block = _Block(numbers, placed, holder, visible or {})
    for section in shapes_by_section:
        rows = _witnessed(section, identity[section], block, rules)
        result[section] = _with_columns(shapes_by_section[section], [labels[int(i)] for i in identity[section]], rows)
    return result


def identity_table(compared: Mapping[str, gpd.GeoDataFrame], to_frame: Mapping[str, ToFrame]) -> list[dict[str, Any]]:
    """One row of :data:`IDENTITY_COLUMNS` per object of a block, from what :func:`mutual_comparison` returned.

    ``missing_in`` are the sections between the first and the last that have it: where it was probably overlooked, at
    about ``x, y`` (frame) and of about that ``area`` (frame pixels squared): the means over the sections.
    """
    places: dict[str, dict[str, tuple[Array, float, float, str]]] = {}
    for section, shapes in compared.items():
        placed = _place(shapes, to_frame[section])
        for row, identity in enumerate(shapes["identity"]):
            values = (placed.centres[row], placed.areas[row], float(shapes["score"].iloc[row]), placed.classes[row])
            places.setdefault(identity, {})[section] = values
    names = list(compared)
    rows = []
    for identity, seen in places.items():
        where = [index for index, name in enumerate(names) if name in seen]
        between = names[min(where) : max(where) + 1]
        x, y = np.mean([values[0] for values in seen.values()], axis=0)
        rows.append(
            {
                "identity": identity,
                "class": next(iter(seen.values()))[3],
                "sections": len(seen),
                "found_in": "; ".join(seen),
                "missing_in": "; ".join(name for name in between if name not in seen),
                "x": float(x),
                "y": float(y),
                "area": float(np.mean([values[1] for values in seen.values()])),
                "score": float(np.mean([values[2] for values in seen.values()])),
            }
        )
    return rows


def _place(shapes: gpd.GeoDataFrame, to_frame: ToFrame) -> _Placed:
    geometries = np.asarray(shapes.geometry.values, object)
    moved, nowhere = moved_geometries(geometries, to_frame)
    centres = np.full((len(moved), 2), np.nan)
    placed = np.setdiff1d(np.arange(len(moved)), nowhere)
    centres[placed] = shapely.get_coordinates(shapely.centroid(moved[placed]))
    return _Placed(centres, shapely.area(moved), shapes["class"].to_numpy(object), shapes["score"].to_numpy(float))


def _identities(
    sections: Sequence[str], numbers: Mapping[str, float], placed: Mapping[str, _Placed], rules: SupportRules
) -> dict[str, NDArray[np.int64]]:
    """The number of each object's identity, by section."""
    seen: dict[int, tuple[str, int]] = {}  # identity -> section and row where it was seen last
    count = 0
    identities: dict[str, NDArray[np.int64]] = {}
    for section in sections:
        objects = placed[section]
        tracks = [i for i, (last, _) in seen.items() if numbers[section] - numbers[last] <= rules.reach]
        rows, columns, worth = _candidates(tracks, seen, section, placed, rules)
        chosen = assign(rows, columns, worth)
        identity = np.full(len(objects.areas), -1, np.int64)
        identity[columns[chosen]] = np.array(tracks, np.int64)[rows[chosen]]
        new = np.flatnonzero(identity < 0)
        identity[new] = np.arange(count, count + len(new))
        count += len(new)
        seen |= {int(identity[row]): (section, int(row)) for row in np.flatnonzero(objects.there)}
        identities[section] = identity
    return identities


def _candidates(
    tracks: Sequence[int],
    seen: Mapping[int, tuple[str, int]],
    section: str,
    placed: Mapping[str, _Placed],
    rules: SupportRules,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Pairs of identity and object that may be one, and 1 less their cost: what joining them saves."""
    objects = placed[section]
    nothing = np.zeros(0, np.int64)
    there = np.flatnonzero(objects.there)
    if not tracks or not len(there):
        return nothing, nothing, np.zeros(0)
    before = [(placed[last], row) for last, row in (seen[i] for i in tracks)]
    centres = np.array([objects_before.centres[row] for objects_before, row in before])
    areas = np.array([objects_before.areas[row] for objects_before, row in before])
    classes = np.array([objects_before.classes[row] for objects_before, row in before], dtype=object)
    error = np.array([max(rules.error_of(seen[i][0]), rules.error_of(section)) for i in tracks])
    widest = 3 * error + 0.5 * np.sqrt(areas / np.pi)
    points = shapely.points(objects.centres[there])
    rows, columns = shapely.STRtree(points).query(
        shapely.points(centres), predicate="dwithin", distance=np.maximum(widest, 1e-9)
    )
    columns = there[columns]
    small, large = np.minimum(areas[rows], objects.areas[columns]), np.maximum(areas[rows], objects.areas[columns])
    gate = 3 * error[rows] + 0.5 * np.sqrt(small / np.pi)
    distance = np.linalg.norm(centres[rows] - objects.centres[columns], axis=1)
    ratio = np.where(large > 0, large / np.maximum(small, 1e-12), 1.0)
    cost = (distance / np.maximum(gate, 1e-9)) ** 2 + (np.log(ratio) / np.log(rules.size_ratio)) ** 2
    may = (cost < 1) & (classes[rows] == objects.classes[columns])
    return rows[may], columns[may], 1 - cost[may]


@dataclass(frozen=True, eq=False)
class _Block:
    """The sections of a block, by name.

    Attributes:
        numbers: their numbers in the cut. placed: their objects in the frame. visible: what each shows of the frame.
        holder: by the number of an object of the block, its row in the section.
    """

    numbers: Mapping[str, float]
    placed: Mapping[str, _Placed]
    holder: Mapping[str, Mapping[int, int]]
    visible: Mapping[str, BaseGeometry]


def _witnessed(section: str, identity: NDArray[np.int64], block: _Block, rules: SupportRules) -> dict[str, list[Any]]:
    """Support, witnesses and the updated score of each object of a section."""
    numbers, placed, holder, visible = block.numbers, block.placed, block.holder, block.visible
    objects = placed[section]
    own = np.clip(np.where(np.isfinite(objects.scores), objects.scores, 0.5), 1e-6, 1 - 1e-6)
    odds = np.log(own / (1 - own))
    supported: list[list[str]] = [[] for _ in identity]
    doubted: list[list[str]] = [[] for _ in identity]
    for other in placed:
        gap = abs(numbers[other] - numbers[section])
        if other == section or gap > rules.reach:
            continue
        chance = rules.found * rules.persistence**gap
        shown = objects.there
        if other in visible:
            shown = shown & shapely.intersects_xy(visible[other], objects.centres[:, 0], objects.centres[:, 1])
        for row, number in enumerate(identity.tolist()):
            object_row = holder[other].get(number)
            if object_row is not None:
                score = placed[other].scores[object_row]
                trust = float(score) if np.isfinite(score) else 1.0
                odds[row] += np.log(1 + trust * (chance / rules.by_chance - 1))
                supported[row].append(other)
            elif shown[row]:
                odds[row] += np.log((1 - chance) / (1 - rules.by_chance))
                doubted[row].append(other)
    return {
        "support": [len(names) for names in supported],
        "witnesses": [len(yes) + len(no) for yes, no in zip(supported, doubted, strict=True)],
        "supported_by": ["; ".join(names) for names in supported],
        "doubted_by": ["; ".join(names) for names in doubted],
        "own_score": objects.scores.tolist(),
        "score": (1 / (1 + np.exp(-odds))).tolist(),
    }


def _with_columns(shapes: gpd.GeoDataFrame, identity: list[str], rows: Mapping[str, list[Any]]) -> gpd.GeoDataFrame:
    result = shapes.copy()
    result["identity"] = np.array(identity, dtype=object)
    for column, values in rows.items():
        kind: Any = object if column.endswith("_by") else np.int64 if column in ("support", "witnesses") else float
        result[column] = np.array(values, dtype=kind)
    result["properties"] = [
        {
            **kept,
            "measurements": {**(kept.get("measurements") or {}), "support": support, "witnesses": witnesses},
            "metadata": {**(kept.get("metadata") or {}), "identity": label},
        }
        for kept, label, support, witnesses in zip(
            result["properties"], identity, rows["support"], rows["witnesses"], strict=True
        )
    ]
    return result
