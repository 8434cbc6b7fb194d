"""Propagation of annotations from the annotated sections to every other section of their block.

Every object of a source section and every other section of its block is a row of ``annotations/propagation.csv``: kept,
ignored or dropped, and why. A target's own annotations are never looked at here, except by ``agreement.py`` for
scoring. What of a target is not known (where doubtful objects may lie, and tissue that no source shows) is written
next to the objects, so that training ignores it instead of taking it for background.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from stainda.annotations import bounds_of_file, join_shapes, make_shapes, write_geojson
from stainda.annotations.classes import IGNORE, IGNORE_CLASSES, class_key
from stainda.cohort.types import Cohort, Section
from stainda.config import PropagationConfig
from stainda.names import file_name
from stainda.objects.annotation_agreement import compare
from stainda.progress import SILENT, Progress
from stainda.registration.coverage import Ground, areas_of, may_lie
from stainda.registration.propagated_blocks import KINDS, PropagatedBlock, PropagatedBlocks, block_key
from stainda.registration.propagated_shapes import PropagatedObject, PropagatedShapes
from stainda.registration.propagator import Propagator
from stainda.registration.results import BlockResult, load_block
from stainda.run_directory.tables import AGREEMENT, PROPAGATION

KEPT, IGNORED, DROPPED = "kept", "ignored", "dropped"
OBJECT, NOTHING = "object", "nothing"
PROPAGATION_COLUMNS = PROPAGATION.names
"""Columns of propagation.csv, see docs/concepts/propagation.md."""


def propagate(
    cohort: Cohort,
    own_shapes: Mapping[str, gpd.GeoDataFrame],
    registration_folder: str | Path,
    config: PropagationConfig,
    source_slides: Iterable[str],
    out: str | Path,
    *,
    progress: Progress = SILENT,
) -> None:
    """Propagate the shapes of the source slides to every other section of their blocks.

    Args:
        own_shapes: shapes by slide. Those of ``source_slides`` are propagated; all others are used for
            ``agreement.csv`` and for nothing else.
        registration_folder: the ``registration`` folder that :func:`register_cohort` wrote.
        source_slides: whose shapes are propagated; narrowed to the stains ``config.sources`` where those are given.
        out: the run directory. Written are ``annotations/propagated/<slide>.geojson`` for each target section that was
            registered (a refused one gets no file, so that it cannot be taken for a section without objects) with the
            objects and their confidence, ``annotations/ignored/<slide>.geojson`` with the areas of which nothing can
            be said, ``annotations/propagation.csv`` and ``annotations/agreement.csv``. What each block gave is kept in
            ``annotations/blocks``; a block whose sections, registration, annotations and settings are as they were is
            taken from there.

    Raises:
        RegistrationError: a block with sources was not registered.
    """
    folder = Path(out) / "annotations"
    sources = set(source_slides)
    kept = PropagatedBlocks(folder)
    parts: dict[str, PropagatedBlock] = {}
    blocks = cohort.blocks()
    with progress.task("Propagating annotations", len(cohort.sections)) as task:
        for block, sections in blocks.items():
            done = 0.0
            chosen = [row for row in sections if _is_source(row, sources, own_shapes, config)]
            part = None
            if chosen and len(sections) > 1:
                result = load_block(Path(registration_folder), block)
                source_names = (row.slide for row in chosen)
                key = block_key(Path(registration_folder), block, sections, source_names, own_shapes, config)
                part = kept.take(block, key)
                if part is None:
                    parts[block] = PropagatedBlock([], [], [])
                    for target_result in propagate_block(result, sections, chosen, own_shapes, config):
                        _write_target(target_result, parts[block], own_shapes, config, folder)
                        task.advance(1, target_result.target.slide)
                        done += 1
                    kept.keep(block, key, parts[block])
                else:
                    parts[block] = part
            task.advance(len(sections) - done, block, earlier=part is not None)
    kept.forget_others(parts)
    written = {name for part in parts.values() for name in part.files}
    for kind in KINDS:
        for stale in (folder / kind).glob("*.geojson"):
            if stale.name not in written:
                stale.unlink()
    rows = [row for part in parts.values() for row in part.rows]
    PROPAGATION.write(folder, rows)
    agreements = [row for part in parts.values() for row in part.agreements]
    AGREEMENT.write(folder, agreements)


def _write_target(
    target_result: TargetResult,
    part: PropagatedBlock,
    own_shapes: Mapping[str, gpd.GeoDataFrame],
    config: PropagationConfig,
    folder: Path,
) -> None:
    """Write what reached one target under ``folder``, and add it to what its block gave."""
    part.rows.extend(target_result.rows)
    if target_result.objects is None or target_result.ignored is None:
        return
    name = f"{file_name(target_result.target.slide)}.geojson"
    bounds = bounds_of_file(target_result.target.path)
    write_geojson(target_result.objects, folder / "propagated" / name, bounds=bounds)
    write_geojson(target_result.ignored, folder / "ignored" / name, bounds=bounds)
    part.files.append(name)
    if target_result.target.slide in own_shapes:
        own = _of_classes(own_shapes[target_result.target.slide], config)
        own = own[~own["class"].isin(IGNORE_CLASSES)]
        sure = target_result.objects[target_result.objects["confidence"] >= config.min_confidence]
        part.agreements.extend(compare(target_result.target.slide, sure, own, target_result.target.mpp))


@dataclass(eq=False)
class TargetResult:
    """The shapes propagated to one target section, and their rows.

    Attributes:
        rows: of propagation.csv.
        objects: the shapes that lie on it, also those too doubtful to train on; ``None`` where no source reaches it.
        ignored: areas of which nothing can be said, of class ``Ignore*``.
    """

    target: Section
    rows: list[dict[str, Any]] = field(default_factory=list)
    objects: gpd.GeoDataFrame | None = None
    ignored: gpd.GeoDataFrame | None = None


def propagate_block(
    result: BlockResult,
    sections: Sequence[Section],
    chosen: Sequence[Section],
    own_shapes: Mapping[str, gpd.GeoDataFrame],
    config: PropagationConfig,
) -> Iterator[TargetResult]:
    """Propagate the shapes of the chosen sections of a block to every other one, target by target."""
    propagator = Propagator(result, sections, config)
    shapes = {row.slide: _of_classes(own_shapes[row.slide], config).reset_index(drop=True) for row in chosen}
    propagator.prepare(shapes, chosen)
    for target in sections:
        offered = [row for row in chosen if row.slide != target.slide]
        if not offered:
            continue
        target_result = TargetResult(target)
        propagated = []
        for source in offered:
            reason = propagator.obstacle(source, target)
            if reason:
                own = shapes[source.slide]
                drawn = [_Drawn(source, own, k) for k in range(len(own))]
                target_result.rows += [_row(result.block, shape, target, DROPPED, reason) for shape in drawn]
            else:
                propagated.append(propagator.propagate(shapes[source.slide], source, target))
        if propagated:
            _TargetBuilder(result.block, propagator.ground(target), target, config).take(
                propagated, propagator, target_result
            )
        yield target_result


def _is_source(
    row: Section, sources: set[str], own_shapes: Mapping[str, gpd.GeoDataFrame], config: PropagationConfig
) -> bool:
    return row.slide in sources and row.slide in own_shapes and (not config.sources or row.stain in config.sources)


def _of_classes(shapes: gpd.GeoDataFrame, config: PropagationConfig) -> gpd.GeoDataFrame:
    """Shapes of the classes that are propagated, in any spelling; what is marked as ignored always is."""
    if not config.classes:
        return shapes
    wanted = {class_key(name) for name in config.classes}
    of_class = shapes["class"].map(lambda name: class_key(str(name)) in wanted).astype(bool)
    return shapes[of_class | shapes["class"].isin(IGNORE_CLASSES)]


class _TargetBuilder:
    """Turns what was propagated to one target into shapes, ignored areas and rows."""

    def __init__(self, block: str, ground: Ground, target: Section, config: PropagationConfig) -> None:
        self.block, self.ground, self.target, self.config = block, ground, target, config

    def take(self, propagated: Sequence[PropagatedShapes], propagator: Propagator, target_result: TargetResult) -> None:
        objects = propagator.join(propagated, self.target)
        object_of = {member: object_ for object_ in objects for member in object_.members}
        ignored: list[dict[str, Any]] = []
        for index, from_source in enumerate(propagated):
            for row in range(len(from_source.shapes)):
                joined_into = object_of.get((index, row))
                if joined_into is not None:
                    target_result.rows.append(self._of_object(propagated, joined_into, (index, row)))
                else:
                    target_result.rows.append(self._alone(from_source, row, ignored))
        shapes = [self._shape(propagated, object_) for object_ in objects]
        target_result.objects = join_shapes(shapes)
        doubtful = [(object_, propagated[object_.members[0][0]]) for object_ in objects if self._doubt(object_)]
        for target_object, source in doubtful:
            area = may_lie(target_object.geometry, self.ground.slide)
            ignored.append(_area(area, self._doubt(target_object), source, target_object.members[0][1]))
        unseen = self.ground.unseen(from_source.seen for from_source in propagated)
        ignored.append({"geometry": unseen, "name": "not seen", "reason": "no source section shows this tissue"})
        target_result.ignored = _areas([record for record in ignored if not record["geometry"].is_empty])

    def _doubt(self, target_object: PropagatedObject) -> str:
        """Why an object is not trained on; empty where it is."""
        if target_object.geometry.is_empty:
            return "nothing of it lies on tissue"
        if target_object.outvoted:
            return "outvoted by the other sections"
        if target_object.right >= self.config.min_confidence:
            return ""
        if target_object.exists < 0.5:
            return f"has probably ended: exists with probability {target_object.exists:.2f}"
        why = "; the registration is unsure of this place" if target_object.unsure > 0.5 else ""
        return f"confidence {target_object.right:.2f} is below {self.config.min_confidence:g}{why}"

    def _of_object(
        self, propagated: Sequence[PropagatedShapes], target_object: PropagatedObject, member: tuple[int, int]
    ) -> dict[str, Any]:
        """The row of a shape that is (part of) an object of the target."""
        from_source, index = propagated[member[0]], member[1]
        first = propagated[target_object.members[0][0]]
        identity = first.shapes["id"].iloc[target_object.members[0][1]]
        doubt = self._doubt(target_object)
        notes = [doubt] if doubt else []
        if not doubt and member != target_object.members[0]:
            notes = [f"joined with {identity} of {first.section.slide}"]
        elif not doubt:
            notes = list(
                _changes(
                    from_source.shapes.geometry.iloc[index], from_source.warped.geometry.iloc[index], target_object
                )
            )
            if (placed := from_source.measured["placed"][index]) < 1:
                notes.append(f"{placed:.0%} of it lies in pieces of tissue that have a place")
        status = IGNORED if doubt else KEPT
        drawn = _Drawn(from_source.section, from_source.shapes, index)
        row = _row(self.block, drawn, self.target, status, "; ".join(notes), from_source)
        row |= {
            "confidence": _number(target_object.right), "exists": _number(target_object.exists), "object": identity,
            "object_source": first.section.slide,
            "label": OBJECT if not doubt else IGNORED, "outline": target_object.how,
            "typical": _number(target_object.features.get("typical")),
            "dissent": _number(target_object.dissent[target_object.members.index(member)]),
            "against": "; ".join(target_object.lacking),
        }  # fmt: skip
        return row

    def _alone(self, from_source: PropagatedShapes, index: int, ignored: list[dict[str, Any]]) -> dict[str, Any]:
        """The row of a shape that is no object: faulty on this target, or marked as ignored on its section."""
        marked = from_source.shapes["class"].iloc[index] in IGNORE_CLASSES
        geometry = from_source.warped.geometry.iloc[index]
        if marked and not from_source.faults[index]:
            area = geometry if geometry.area > 0 else shapely.Polygon()
            status, reason = KEPT, "ignored on its section, and here"
        else:
            doubtful = may_lie(geometry, self.ground.slide)
            area = areas_of(doubtful | (from_source.touched[index] & self.ground.slide))
            status, reason = DROPPED, from_source.faults[index]
        row = _row(
            self.block, _Drawn(from_source.section, from_source.shapes, index), self.target, status, reason, from_source
        )
        row["label"] = NOTHING if area.is_empty else IGNORED
        ignored.append(_area(area, reason, from_source, index))
        return row

    def _shape(self, propagated: Sequence[PropagatedShapes], target_object: PropagatedObject) -> gpd.GeoDataFrame:
        """One row of shapes: the nearest section's, with the outline, the confidence and where it came from."""
        source, index = target_object.members[0]
        shape = propagated[source].warped.iloc[[index]].copy()
        if target_object.geometry.is_empty:
            return shape.iloc[:0]
        shape["geometry"] = gpd.GeoSeries([target_object.geometry], index=shape.index, crs=None)
        shape["source_slide"] = propagated[source].section.slide
        shape["confidence"] = target_object.right
        properties = dict(shape["properties"].iloc[0])
        provenance = {
            "outline": target_object.how,
            "sources": "; ".join(propagated[k].section.slide for k, _ in target_object.members),
        }
        properties["metadata"] = {**dict(properties.get("metadata") or {}), **provenance}
        properties["measurements"] = {
            **dict(properties.get("measurements") or {}),
            "exists": round(target_object.exists, 4),
        }
        shape["properties"] = [properties]
        return shape


@dataclass(frozen=True, eq=False)
class _Drawn:
    """One shape as drawn: the section it was drawn on, that section's shapes, and its row among them."""

    section: Section
    shapes: gpd.GeoDataFrame
    index: int


def _row(
    block: str, drawn: _Drawn, target: Section, status: str, reason: str, propagated: PropagatedShapes | None = None
) -> dict[str, Any]:
    source, shapes, index = drawn.section, drawn.shapes, drawn.index
    row: dict[str, Any] = {
        "id": shapes["id"].iloc[index], "class": shapes["class"].iloc[index], "source": source.slide,
        "target": target.slide, "status": status, "reason": reason, "block": block, "label": NOTHING,
        "sections_apart": abs(source.section - target.section),
    }  # fmt: skip
    if propagated is not None:
        names = {
            "area_ratio": "area_ratio", "tissue_share": "tissue", "above_chance": "structure", "offset": "offset",
            "round_trip_px": "round_trip", "micro_px": "micro_px", "micro_gain": "micro_gain",
        }  # fmt: skip
        row |= {column: _number(propagated.measured[name][index]) for column, name in names.items()}
    return row


def _number(value: Any) -> float | None:
    return round(float(value), 4) if value is not None and np.isfinite(value) else None


def _area(geometry: BaseGeometry, reason: str, from_source: PropagatedShapes, index: int) -> dict[str, Any]:
    cls = str(from_source.shapes["class"].iloc[index])
    identity, slide = str(from_source.shapes["id"].iloc[index]), from_source.section.slide
    return {"geometry": geometry, "name": cls, "reason": reason, "id": identity, "source": slide}


def _areas(areas: list[dict[str, Any]]) -> gpd.GeoDataFrame:
    """Ignored areas as shapes; ``properties["metadata"]`` says which object and why."""
    return make_shapes(
        [area["geometry"] for area in areas],
        IGNORE,
        name=[area["name"] for area in areas],
        source_slide=[area.get("source", "") for area in areas],
        properties=[{"metadata": {"reason": area["reason"], "of": area.get("id", "")}} for area in areas],
    )


def _changes(before: BaseGeometry, warped: BaseGeometry, target_object: PropagatedObject) -> Iterator[str]:
    """What was done to a kept shape beyond warping it."""
    if shapely.has_z(before):
        yield "its Z was dropped: registration of flat images says nothing about it"
    if before.is_valid and shapely.get_num_coordinates(before) != shapely.get_num_coordinates(warped):
        yield "repaired after warping"
    if target_object.clipped:
        yield "clipped to the tissue"
    if target_object.lacking:
        yield f"not drawn in {', '.join(target_object.lacking)}"
