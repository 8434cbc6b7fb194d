"""Tracking of objects through the sections of the test blocks, and the errors of the strategies on each.

Outlines are identified across the sections of a block by place and size in the registered frame
(:mod:`stainda.objects.support`), never by what a network found. Scores on target labels rank them here to be
looked at; nothing is selected by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import geopandas as gpd

    from stainda.objects.support import SupportRules, ToFrame

FIELD_PER_OBJECT = 2.2
"""Side of the field of view, in diameters of the disc with the area of the object's largest outline."""
ROUNDED_UM, LEAST_UM = 50.0, 200.0
"""The field of view is a multiple of the one and at least the other: a small piece needs its surroundings."""
WORST, PER_PATIENT = 4, 2


@dataclass(eq=False)
class Followed:
    """One tracked object, in the frame of its block.

    Attributes:
        name: the identity, unique in the cohort; cls: its class.
        outlines: slide -> id of its outline there; sections that do not show it are left out.
        x, y, side: upper left corner and side of the square field of view, level-0 pixels of the reference section.
        scored_sections: sections on which it was to be found.
        missed, tried: trainings times these sections that missed it, of how many.
        false_area: area of false detections in the field, summed over the same, frame pixels squared.
    """

    block: str
    patient: str
    name: str
    cls: str
    outlines: dict[str, str]
    x: float
    y: float
    side: float
    scored_sections: int = 0
    missed: int = 0
    tried: int = 0
    false_area: float = 0.0

    @property
    def centre(self) -> tuple[float, float]:
        return self.x + self.side / 2, self.y + self.side / 2

    def shows(self, other: Followed) -> bool:
        """Whether the other's centre lies in this one's field of view."""
        x, y = other.centre
        return self.block == other.block and 0 <= x - self.x <= self.side and 0 <= y - self.y <= self.side


def follow(
    shapes: Mapping[str, gpd.GeoDataFrame],
    to_frame: Mapping[str, ToFrame],
    rules: SupportRules,
    *,
    order: Mapping[str, float],
    classes: Sequence[str],
    block: str,
    patient: str,
    um_per_px: float | None,
    least: float = 0.0,
) -> list[Followed]:
    """The objects of a block, in the order in which its sections first show them.

    Args:
        shapes: annotations by slide, level-0 pixels of the slide, in the order of the cut.
        to_frame: for each of these slides the map of points (n, 2) to the block's frame.
        rules: gates of the comparison, ``rules.error`` in pixels of the frame.
        order: number of each section in the cut.
        classes: of the outlines that are followed.
        block, patient: names, for the result.
        um_per_px: micrometres per level-0 pixel of the frame, ``None`` where it is not known.
        least: area of the largest outline below which an object is passed over, frame pixels squared.
    """
    import shapely

    from stainda.objects.moving import moved_geometries
    from stainda.objects.support import mutual_comparison

    drawn = {slide: _outlines(table, classes) for slide, table in shapes.items()}
    compared = mutual_comparison(drawn, to_frame, rules, order=order, name=block)
    seen: dict[str, list[tuple[str, str, str, Any]]] = {}
    for slide, table in compared.items():
        moved, _ = moved_geometries(table.geometry.values, to_frame[slide])
        for name, cls, shape, outline in zip(table["identity"], table["class"], table["id"], moved, strict=True):
            seen.setdefault(name, []).append((slide, cls, shape, outline))
    followed = []
    for name, rows in seen.items():
        outlines = np.array([row[3] for row in rows], object)
        largest = float(shapely.area(outlines).max())
        if largest < least:
            continue
        centre = shapely.get_coordinates(shapely.centroid(outlines)).mean(axis=0)
        side = _side(largest, um_per_px)
        corner = centre - side / 2
        shown = {slide: shape for slide, _, shape, _ in rows}
        followed.append(Followed(block, patient, name, rows[0][1], shown, float(corner[0]), float(corner[1]), side))
    return followed


def judge(
    objects: Sequence[Followed],
    slide: str,
    truth: gpd.GeoDataFrame,
    ignored: gpd.GeoDataFrame,
    predictions: Iterable[gpd.GeoDataFrame],
    *,
    to_frame: ToFrame,
    iou: float,
) -> None:
    """Count on the objects of a block what each training missed and wrongly found on one section.

    Args:
        truth: annotations of the slide; ignored: regions that are scored neither for nor against; predictions: objects
            of each training on it. All in level-0 pixels.
        to_frame: maps points (n, 2) of the slide to the frame.
        iou: least overlap of a hit.
    """
    import shapely

    from stainda.objects.matching import match_objects
    from stainda.objects.moving import moved_geometries
    from stainda.objects.overlap import polygons

    on_slide = [object_ for object_ in objects if slide in object_.outlines]
    windows = np.array(
        [shapely.box(track.x, track.y, track.x + track.side, track.y + track.side) for track in on_slide], object
    )
    tree = shapely.STRtree(windows)
    trainings = list(predictions)
    for track in on_slide:
        track.scored_sections += bool(trainings)
    for predicted in trainings:
        missed: set[str] = set()
        left_out: set[str] = set()
        for cls in sorted({track.cls for track in on_slide}):
            annotated, detected = truth[truth["class"] == cls], predicted[predicted["class"] == cls]
            matching = match_objects(annotated, detected, iou, ignored=ignored)
            ids = annotated["id"].to_numpy()
            missed |= set(ids[matching.truth == -1])
            left_out |= set(ids[matching.truth == -2])
            wrong = polygons(detected)[matching.predicted == -1]
            moved = polygons(moved_geometries(wrong, to_frame)[0])
            rows, windows_met = tree.query(moved, predicate="intersects")
            for row, index in zip(rows, windows_met, strict=True):
                if on_slide[index].cls == cls:
                    on_slide[index].false_area += float(shapely.area(shapely.intersection(moved[row], windows[index])))
        for track in on_slide:
            if track.outlines[slide] not in left_out:
                track.tried += 1
                track.missed += track.outlines[slide] in missed


@dataclass(frozen=True)
class Choice:
    """Objects chosen for display: the worst, worst first, and the median object; and the number of all."""

    worst: list[Followed] = field(default_factory=list)
    typical: Followed | None = None
    of: int = 0


def choose(objects: Sequence[Followed]) -> Choice:
    """The objects to show, the same whatever the order they come in.

    Ranked are objects that two sections show at least: by the share missed, then by the number of sections they were to
    be found on, then by the area of false detections, then by name. An object in the field of one already chosen, and a
    third of a patient, are passed over; so are objects with neither a miss nor a false detection. The typical one is
    the median of all.
    """
    ranked = sorted(
        (object_ for object_ in objects if object_.tried and len(object_.outlines) > 1),
        key=lambda object_: (
            -object_.missed / object_.tried,
            -object_.scored_sections,
            -object_.false_area,
            object_.block,
            object_.name,
        ),
    )
    worst: list[Followed] = []
    for track in ranked:
        crowded = sum(other.patient == track.patient for other in worst) >= PER_PATIENT
        if len(worst) < WORST and not crowded and (track.missed or track.false_area) and _apart(track, worst):
            worst.append(track)
    middle = (len(ranked) - 1) // 2
    rest = [track for track in [*ranked[middle:], *reversed(ranked[: max(middle, 0)])] if _apart(track, worst)]
    return Choice(worst, rest[0] if rest else None, len(ranked))


def _apart(followed: Followed, others: Sequence[Followed]) -> bool:
    return not any(other.shows(followed) or followed.shows(other) for other in others)


def _outlines(shapes: gpd.GeoDataFrame, classes: Sequence[str]) -> gpd.GeoDataFrame:
    kind = shapes.geometry.geom_type.isin(["Polygon", "MultiPolygon"])
    return shapes[shapes["class"].isin(list(classes)) & kind & (shapes.geometry.area > 0)]


def _side(area: float, um_per_px: float | None) -> float:
    """Of the field of view around an outline of ``area``, frame pixels; rounded where µm are known."""
    side = FIELD_PER_OBJECT * 2 * float(np.sqrt(area / np.pi))
    if um_per_px is None:
        return side
    rounded = float(np.ceil(side * um_per_px / ROUNDED_UM) * ROUNDED_UM)
    return max(rounded, LEAST_UM) / um_per_px
