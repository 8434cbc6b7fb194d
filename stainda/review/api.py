"""Review API: what the page requests and receives as JSON, and the decisions it sends."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from stainda.errors import StaindaError
from stainda.registration import Transform
from stainda.registration.moved_shapes import same_kind
from stainda.review.data import ReviewData, ReviewObject, ReviewSection
from stainda.review.decisions import (
    KINDS,
    Decision,
    deciding,
    now,
    read_decisions,
    save_decision,
    shape_hash,
)
from stainda.review.tiles import OVERLAP, TILE, Source

NODES = 41  # of the grid, along each side, by which the page keeps its views together
BEYOND = 0.15  # of the frame that the grid reaches beyond it, on each side
MAX_POINTS = 20_000
MEND = 0.05  # share of a redrawn area that may be lost where its outline crosses itself
REMEMBERED = 2000  # decisions that can be taken back one after the other


class Refused(StaindaError):
    """A request that is refused; ``status`` is the HTTP status that says so."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class ReviewApi:
    """Answers the requests of the review page. Every method returns JSON values; several threads may ask at once."""

    def __init__(self, data: ReviewData, reviewer: str) -> None:
        self.data, self.reviewer = data, reviewer
        self._reading = threading.Lock()
        self._before: OrderedDict[str, Decision | None] = OrderedDict()

    @property
    def sources(self) -> list[Source]:
        """The slides by their number in the addresses of tiles."""
        return [Source(section.path, section.mpp, section.size) for section in self.data.sections]

    # what there is ------------------------------------------------------------------------------------------------

    def overview(self) -> dict[str, Any]:
        """All objects without their outlines, the blocks, and who reviews."""
        data = self.data
        with self._reading:
            sections = {section.slide: section for section in data.sections}
            return {
                "run": data.run.resolve().name,
                "reviewer": self.reviewer,
                "showsOwn": data.show_own,
                "blocks": list(data.blocks),
                "objects": [
                    {
                        "key": item.key, "class": item.cls, "block": item.block, "source": item.source,
                        "target": item.target, "stain": sections[item.target].stain, "dropped": item.dropped,
                        "doubtful": item.doubtful,
                        "from": sections[item.source].stain if item.source in sections else item.source,
                        "sections": [sections[name].section for name in (item.source, item.target) if name in sections],
                        "reason": item.reason, "trains": item.trains,
                        "confidence": None if math.isnan(item.confidence) else round(item.confidence, 3),
                    }
                    for item in data.objects.values()
                ],
                "decisions": self._decisions(),
            }  # fmt: skip

    def decisions(self) -> dict[str, Any]:
        """The decisions that stand, by the key of the object: another tab may have changed them."""
        with self._reading:
            return self._decisions()

    def block(self, name: str) -> dict[str, Any]:
        """The sections of a block, how they lie on each other, and all outlines on them.

        Raises:
            Refused: no such block.
        """
        data = self.data
        if name not in data.blocks:
            raise Refused("no such block", 404)
        with self._reading:
            result = data.result(name)
            objects = data.of_block(name)
            sources = {object_.source for object_ in objects}
            numbers = {section.slide: number for number, section in enumerate(data.sections)}
            outlines = {}
            for item in objects:
                geometry = data.outline(item)
                source = data.source_outline(item)
                outlines[item.key] = {
                    "propagated": None if geometry is None else _drawn(geometry),
                    "source": None if source is None else _drawn(source),
                }
            return {
                "block": name,
                "sections": [
                    self._section(section, numbers[section.slide], section.slide in sources,
                                  result.transforms.get(section.slide), result.refused.get(section.slide, ""))
                    for section in data.blocks[name]
                ],
                "outlines": outlines,
            }  # fmt: skip

    def _section(
        self, section: ReviewSection, number: int, is_source: bool, transform: Transform | None, refused: str
    ) -> dict[str, Any]:
        own = self.data.own(section.slide) if is_source or self.data.show_own else None
        return {
            "slide": section.slide, "number": number, "stain": section.stain, "section": section.section,
            "centre": section.centre,
            "size": list(section.size), "mpp": section.mpp, "split": section.split, "role": section.role,
            "isSource": is_source,
            "refused": refused or ("" if transform is not None else "it was not registered"),
            "tile": TILE, "overlap": OVERLAP, "top": Source(section.path, section.mpp, section.size).top,
            "grid": None if transform is None else _grid(transform),
            "own": [] if own is None else [_drawn(shape) for shape in own.geometry],
        }  # fmt: skip

    def _decisions(self) -> dict[str, Any]:
        standing = read_decisions(self.data.run)
        return {
            key: self._described(standing[object_.place])
            for key, object_ in self.data.objects.items()
            if object_.place in standing
        }

    def _described(self, decision: Decision) -> dict[str, Any]:
        return {
            "kind": decision.kind, "reviewer": decision.reviewer, "time": decision.time, "version": _version(decision),
            "outline": _drawn(decision.geometry), "stale": self.data.stale(decision),
        }  # fmt: skip

    # deciding -----------------------------------------------------------------------------------------------------

    def decide(self, request: Any) -> dict[str, Any]:
        """Make or take back one decision, and save it.

        Args:
            request: ``key`` of the object; ``decision``, one of :data:`KINDS` or ``undo``; ``expected``, the version
                of the decision the page knows (empty: none); for ``nudge`` ``dx`` and ``dy``, for ``redraw`` ``ring``
                (a list of x and y), in level-0 pixels of the target.

        Returns:
            The decision that now stands, ``None`` where there is none.

        Raises:
            Refused: what is asked makes no sense (400), the object is not here (404), or another tab or reviewer has
                decided meanwhile (409).
        """
        label, kind, expected = self._request(request)
        with deciding(self.data.run) as standing:
            old = standing.get(label.place)
            if expected != ("" if old is None else _version(old)):
                raise Refused("another window has decided on this object meanwhile; look again", 409)
            with self._reading:
                new = self._undone(old) if kind == "undo" else self._made(label, kind, old, request)
            if old is None and new is None:
                raise Refused("there is no decision to take back", 409)
            save_decision(self.data.run, standing, old, new, self.reviewer)
            if kind != "undo" and new is not None:
                self._before[_version(new)] = old
                while len(self._before) > REMEMBERED:
                    self._before.popitem(last=False)
            with self._reading:
                return {"key": label.key, "decision": None if new is None else self._described(new)}

    def _request(self, request: object) -> tuple[ReviewObject, str, str]:
        if not isinstance(request, Mapping):
            raise Refused("a decision is a JSON object")
        key, kind, expected = (request.get(name) for name in ("key", "decision", "expected"))
        if not (isinstance(key, str) and isinstance(kind, str) and isinstance(expected, str)):
            raise Refused("key, decision and expected must be text")
        if key not in self.data.objects:
            raise Refused("no such object", 404)
        if kind not in (*KINDS, "undo"):
            raise Refused(f"a decision is one of {', '.join(KINDS)} or undo")
        return self.data.objects[key], kind, expected

    def _undone(self, old: Decision | None) -> Decision | None:
        """What stood before the decision that is taken back; nothing where this server did not see it made."""
        return None if old is None else self._before.pop(_version(old), None)

    def _made(self, item: ReviewObject, kind: str, old: Decision | None, request: Mapping[str, Any]) -> Decision:
        propagated = self.data.outline(item)
        own = self.data.own(item.source)
        same = None if own is None else own[own["id"] == item.id]
        if propagated is None or same is None or not len(same):
            raise Refused("its outline is no longer in the run; run it again first", 409)
        size = next(section.size for section in self.data.sections if section.slide == item.target)
        shown = old is not None and old.kind not in ("reject", "unsure") and not self.data.stale(old)
        standing = old.geometry if shown and old is not None else propagated
        geometry = standing if kind == "accept" else propagated
        if kind == "nudge":
            dx, dy = _numbers([request.get("dx"), request.get("dy")])
            geometry = _on_slide(shapely.transform(standing, lambda xy: xy + np.array([dx, dy])), size)
        elif kind == "redraw":
            geometry = _on_slide(_ring(request.get("ring")), size)
        return Decision(
            item.id, item.cls, item.block, item.source, item.target, kind, geometry, propagated, item.confidence,  # type: ignore[arg-type]
            self.reviewer, now(), shape_hash(same.geometry.iloc[0], same["class"].iloc[0]),
        )  # fmt: skip


def _version(decision: Decision) -> str:
    return f"{decision.kind}-{shape_hash(decision.geometry, decision.reviewer + decision.time)}"


def _numbers(values: object) -> list[float]:
    if not isinstance(values, list) or any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
        raise Refused("coordinates must be numbers")
    if any(not math.isfinite(value) or abs(value) > 1e8 for value in values):
        raise Refused("coordinates must be finite numbers of pixels")
    return [float(value) for value in values]


def _ring(value: object) -> BaseGeometry:
    """A polygon from the points a reviewer drew; small crossings, as at the closing of a line, are mended."""
    if not isinstance(value, list) or not 3 <= len(value) <= MAX_POINTS:
        raise Refused(f"an outline has 3 to {MAX_POINTS} points")
    points = [_numbers(point) for point in value]
    if any(len(point) != 2 for point in points):
        raise Refused("a point is x and y")
    drawn = shapely.Polygon(points)
    if not drawn.is_valid:
        parts = shapely.get_parts(same_kind(shapely.make_valid(drawn)))
        areas = shapely.area(parts)
        if not len(parts) or areas.max() < (1 - MEND) * areas.sum():
            raise Refused("the outline crosses itself; draw it again")
        drawn = parts[int(np.argmax(areas))]
    if drawn.area <= 0 or drawn.geom_type != "Polygon":
        raise Refused("the outline encloses nothing; draw it again")
    return drawn


def _on_slide(geometry: BaseGeometry, size: tuple[int, int]) -> BaseGeometry:
    frame = shapely.box(0, 0, *size)
    if frame.covers(geometry):
        return geometry
    inside = same_kind(shapely.intersection(geometry, frame))
    if inside.is_empty or shapely.get_dimensions(inside) != shapely.get_dimensions(geometry):
        raise Refused("the outline lies outside the section")
    return inside


def _grid(transform: Transform) -> dict[str, Any]:
    """Section pixels at the nodes of a grid over the frame, by which the page brings its views together.

    Outlines are never moved by it: it is bilinear between nodes, and only views follow it.
    """
    width, height = transform.frame_size
    x = np.linspace(-BEYOND * width, (1 + BEYOND) * width, NODES)
    y = np.linspace(-BEYOND * height, (1 + BEYOND) * height, NODES)
    nodes = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    points = transform.from_frame(nodes)
    back = np.linalg.inv(transform.matrix)
    points = np.where(np.isfinite(points), points, nodes @ back[:2, :2].T + back[:2, 2])
    return {
        "x": float(x[0]), "y": float(y[0]), "dx": float(x[1] - x[0]), "dy": float(y[1] - y[0]), "n": NODES,
        "points": np.round(points, 2).ravel().tolist(), "affine": back[:2].ravel().tolist(),
    }  # fmt: skip


def _drawn(geometry: BaseGeometry) -> dict[str, Any]:
    """An outline as the page draws it: lists of x, y, x, y …, simplified by less than a quarter of a pixel."""
    plain = shapely.simplify(shapely.force_2d(geometry), 0.2, preserve_topology=True)
    kind = int(shapely.get_dimensions(plain))
    rings: list[Any] = []
    for part in shapely.get_parts(plain):
        rings += [part] if kind < 2 else [part.exterior, *part.interiors]
    return {
        "kind": ("points", "lines", "area")[kind],
        "rings": [np.round(shapely.get_coordinates(ring), 1).ravel().tolist() for ring in rings],
    }
