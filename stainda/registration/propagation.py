"""Carrying annotations from the sections that have them to every other section of their block.

Every object of a source section and every other section of its block is a row of ``annotations/propagation.csv``: kept,
ignored or dropped, and why. A target's own annotations are never looked at here, except by ``agreement.py`` for
scoring. What of a target is not known (where doubtful objects may lie, and tissue that no source shows) is written
beside the objects, so that training ignores it instead of taking it for background.
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
from stainda.registration.carried import Carried, Found
from stainda.registration.carrying import Carrier
from stainda.registration.coverage import Ground, may_lie
from stainda.registration.propagated_blocks import KINDS, PropagatedBlock, PropagatedBlocks, block_key
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
    """Carry the shapes of the source slides to every other section of their blocks.

    Args:
        own_shapes: shapes by slide. Those of ``source_slides`` are carried; all others are used for
            ``agreement.csv`` and for nothing else.
        registration_folder: the ``registration`` folder that :func:`register_cohort` wrote.
        source_slides: whose shapes are carried; narrowed to the stains ``config.sources`` where those are given.
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
    with progress.task("Carrying annotations", len(blocks)) as task:
        for block, sections in blocks.items():
            chosen = [row for row in sections if _is_source(row, sources, own_shapes, config)]
            part = None
            if chosen and len(sections) > 1:
                result = load_block(Path(registration_folder), block)
                taught_by = (row.slide for row in chosen)
                key = block_key(Path(registration_folder), block, sections, taught_by, own_shapes, config)
                part = kept.take(block, key)
                if part is None:
                    parts[block] = _propagate_block(result, sections, chosen, own_shapes, config, folder)
                    kept.keep(block, key, parts[block])
                else:
                    parts[block] = part
            task.advance(1, block, earlier=part is not None)
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


def _propagate_block(
    result: BlockResult,
    sections: Sequence[Section],
    chosen: Sequence[Section],
    own_shapes: Mapping[str, gpd.GeoDataFrame],
    config: PropagationConfig,
    folder: Path,
) -> PropagatedBlock:
    """Carry the shapes of a block's sources, and write what arrives under ``folder``."""
    rows: list[dict[str, Any]] = []
    agreements: list[dict[str, Any]] = []
    files = []
    for arrived in carry_block(result, sections, chosen, own_shapes, config):
        rows += arrived.rows
        if arrived.objects is None or arrived.ignored is None:
            continue
        name = f"{file_name(arrived.target.slide)}.geojson"
        bounds = bounds_of_file(arrived.target.path)
        write_geojson(arrived.objects, folder / "propagated" / name, bounds=bounds)
        write_geojson(arrived.ignored, folder / "ignored" / name, bounds=bounds)
        files.append(name)
        if arrived.target.slide in own_shapes:
            own = _of_classes(own_shapes[arrived.target.slide], config)
            own = own[~own["class"].isin(IGNORE_CLASSES)]
            sure = arrived.objects[arrived.objects["confidence"] >= config.min_confidence]
            agreements += compare(arrived.target.slide, sure, own)
    return PropagatedBlock(rows, agreements, files)


@dataclass(eq=False)
class Arrived:
    """What came to one target.

    Attributes:
        rows: of propagation.csv.
        objects: the shapes that lie on it, also those too doubtful to train on; ``None`` where no source reaches it.
        ignored: areas of which nothing can be said, of class ``Ignore*``.
    """

    target: Section
    rows: list[dict[str, Any]] = field(default_factory=list)
    objects: gpd.GeoDataFrame | None = None
    ignored: gpd.GeoDataFrame | None = None


def carry_block(
    result: BlockResult,
    sections: Sequence[Section],
    chosen: Sequence[Section],
    own_shapes: Mapping[str, gpd.GeoDataFrame],
    config: PropagationConfig,
) -> Iterator[Arrived]:
    """Carry the shapes of the chosen sections of a block to every other one, target by target."""
    carrier = Carrier(result, sections, config)
    shapes = {row.slide: _of_classes(own_shapes[row.slide], config).reset_index(drop=True) for row in chosen}
    carrier.prepare(shapes, chosen)
    for target in sections:
        offered = [row for row in chosen if row.slide != target.slide]
        if not offered:
            continue
        arrived = Arrived(target)
        carried = []
        for source in offered:
            reason = carrier.obstacle(source, target)
            if reason:
                own = shapes[source.slide]
                drawn = [_Drawn(source, own, k) for k in range(len(own))]
                arrived.rows += [_row(result.block, one, target, DROPPED, reason) for one in drawn]
            else:
                carried.append(carrier.carry(shapes[source.slide], source, target))
        if carried:
            _Arrival(result.block, carrier.ground(target), target, config).take(carried, carrier, arrived)
        yield arrived


def _is_source(
    row: Section, sources: set[str], own_shapes: Mapping[str, gpd.GeoDataFrame], config: PropagationConfig
) -> bool:
    return row.slide in sources and row.slide in own_shapes and (not config.sources or row.stain in config.sources)


def _of_classes(shapes: gpd.GeoDataFrame, config: PropagationConfig) -> gpd.GeoDataFrame:
    """Shapes of the classes that are carried, in any spelling; what is marked as ignored always is."""
    if not config.classes:
        return shapes
    wanted = {class_key(name) for name in config.classes}
    of_class = shapes["class"].map(lambda name: class_key(str(name)) in wanted).astype(bool)
    return shapes[of_class | shapes["class"].isin(IGNORE_CLASSES)]


class _Arrival:
    """Turns what was carried to one target into shapes, ignored areas and rows."""

    def __init__(self, block: str, ground: Ground, target: Section, config: PropagationConfig) -> None:
        self.block, self.ground, self.target, self.config = block, ground, target, config

    def take(self, carried: Sequence[Carried], carrier: Carrier, arrived: Arrived) -> None:
        objects = carrier.join(carried, self.target)
        judged = {member: one for one in objects for member in one.members}
        ignored: list[dict[str, Any]] = []
        for index, one in enumerate(carried):
            for row in range(len(one.shapes)):
                its = judged.get((index, row))
                if its is not None:
                    arrived.rows.append(self._of_object(carried, its, (index, row)))
                else:
                    arrived.rows.append(self._alone(one, row, ignored))
        shapes = [self._shape(carried, one) for one in objects]
        arrived.objects = join_shapes(shapes)
        doubtful = [(one, carried[one.members[0][0]]) for one in objects if self._doubt(one)]
        for found, source in doubtful:
            area = may_lie(found.geometry, self.ground.slide)
            ignored.append(_area(area, self._doubt(found), source, found.members[0][1]))
        unseen = self.ground.unseen(one.seen for one in carried)
        ignored.append({"geometry": unseen, "name": "not seen", "reason": "no source section shows this tissue"})
        arrived.ignored = _areas([one for one in ignored if not one["geometry"].is_empty])

    def _doubt(self, one: Found) -> str:
        """Why an object is not trained on; empty where it is."""
        if one.geometry.is_empty:
            return "nothing of it lies on tissue"
        if one.outvoted:
            return "outvoted by the other sections"
        if one.right >= self.config.min_confidence:
            return ""
        if one.exists < 0.5:
            return f"has probably ended: exists with probability {one.exists:.2f}"
        return f"confidence {one.right:.2f} is below {self.config.min_confidence:g}"

    def _of_object(self, carried: Sequence[Carried], found: Found, member: tuple[int, int]) -> dict[str, Any]:
        """The row of a shape that is (part of) an object of the target."""
        one, index = carried[member[0]], member[1]
        first = carried[found.members[0][0]]
        identity = first.shapes["id"].iloc[found.members[0][1]]
        doubt = self._doubt(found)
        notes = [doubt] if doubt else []
        if not doubt and member != found.members[0]:
            notes = [f"joined with {identity} of {first.section.slide}"]
        elif not doubt:
            notes = list(_changes(one.shapes.geometry.iloc[index], one.warped.geometry.iloc[index], found))
        status = IGNORED if doubt else KEPT
        drawn = _Drawn(one.section, one.shapes, index)
        row = _row(self.block, drawn, self.target, status, "; ".join(notes), one)
        row |= {
            "confidence": _number(found.right), "exists": _number(found.exists), "object": identity,
            "label": OBJECT if not doubt else IGNORED, "outline": found.how,
            "typical": _number(found.features.get("typical")),
            "dissent": _number(found.dissent[found.members.index(member)]),
            "against": "; ".join(found.lacking),
        }  # fmt: skip
        return row

    def _alone(self, one: Carried, index: int, ignored: list[dict[str, Any]]) -> dict[str, Any]:
        """The row of a shape that is no object: faulty on this target, or marked as ignored on its section."""
        marked = one.shapes["class"].iloc[index] in IGNORE_CLASSES
        geometry = one.warped.geometry.iloc[index]
        if marked and not one.faults[index]:
            area = geometry if geometry.area > 0 else shapely.Polygon()
            status, reason = KEPT, "ignored on its section, and here"
        else:
            area, status, reason = may_lie(geometry, self.ground.slide), DROPPED, one.faults[index]
        row = _row(self.block, _Drawn(one.section, one.shapes, index), self.target, status, reason, one)
        row["label"] = NOTHING if area.is_empty else IGNORED
        ignored.append(_area(area, reason, one, index))
        return row

    def _shape(self, carried: Sequence[Carried], found: Found) -> gpd.GeoDataFrame:
        """One row of shapes: the nearest section's, with the outline, the confidence and where it came from."""
        source, index = found.members[0]
        shape = carried[source].warped.iloc[[index]].copy()
        if found.geometry.is_empty:
            return shape.iloc[:0]
        shape["geometry"] = gpd.GeoSeries([found.geometry], index=shape.index, crs=None)
        shape["source_slide"] = carried[source].section.slide
        shape["confidence"] = found.right
        properties = dict(shape["properties"].iloc[0])
        told = {"outline": found.how, "sources": "; ".join(carried[k].section.slide for k, _ in found.members)}
        properties["metadata"] = {**dict(properties.get("metadata") or {}), **told}
        properties["measurements"] = {**dict(properties.get("measurements") or {}), "exists": round(found.exists, 4)}
        shape["properties"] = [properties]
        return shape


@dataclass(frozen=True, eq=False)
class _Drawn:
    """One shape as drawn: the section it was drawn on, that section's shapes, and its row among them."""

    section: Section
    shapes: gpd.GeoDataFrame
    index: int


def _row(
    block: str, drawn: _Drawn, target: Section, status: str, reason: str, carried: Carried | None = None
) -> dict[str, Any]:
    source, shapes, index = drawn.section, drawn.shapes, drawn.index
    row: dict[str, Any] = {
        "id": shapes["id"].iloc[index], "class": shapes["class"].iloc[index], "source": source.slide,
        "target": target.slide, "status": status, "reason": reason, "block": block, "label": NOTHING,
        "sections_apart": abs(source.section - target.section),
    }  # fmt: skip
    if carried is not None:
        names = {
            "area_ratio": "area_ratio", "tissue_share": "tissue", "above_chance": "structure", "offset": "offset",
            "round_trip_px": "round_trip",
        }  # fmt: skip
        row |= {column: _number(carried.measured[name][index]) for column, name in names.items()}
    return row


def _number(value: Any) -> float | None:
    return round(float(value), 4) if value is not None and np.isfinite(value) else None


def _area(geometry: BaseGeometry, reason: str, one: Carried, index: int) -> dict[str, Any]:
    cls = str(one.shapes["class"].iloc[index])
    identity, slide = str(one.shapes["id"].iloc[index]), one.section.slide
    return {"geometry": geometry, "name": cls, "reason": reason, "id": identity, "source": slide}


def _areas(found: list[dict[str, Any]]) -> gpd.GeoDataFrame:
    """Ignored areas as shapes; ``properties["metadata"]`` says which object and why."""
    return make_shapes(
        [one["geometry"] for one in found],
        IGNORE,
        name=[one["name"] for one in found],
        source_slide=[one.get("source", "") for one in found],
        properties=[{"metadata": {"reason": one["reason"], "of": one.get("id", "")}} for one in found],
    )


def _changes(before: BaseGeometry, warped: BaseGeometry, found: Found) -> Iterator[str]:
    """What was done to a kept shape beyond warping it."""
    if shapely.has_z(before):
        yield "its Z was dropped: registration of flat images says nothing about it"
    if before.is_valid and shapely.get_num_coordinates(before) != shapely.get_num_coordinates(warped):
        yield "repaired after warping"
    if found.clipped:
        yield "clipped to the tissue"
    if found.lacking:
        yield f"not drawn in {', '.join(found.lacking)}"
