"""Review data of a run: its blocks, their sections, and every propagated object with its outlines."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from stainda.annotations import read_shapes
from stainda.errors import StaindaError
from stainda.files import load_json, stable_hash
from stainda.links import refuse_links
from stainda.names import file_name
from stainda.registration import BlockResult, load_block, map_shapes
from stainda.review.decisions import Decision, applied_keys, read_decisions, stale_reason
from stainda.review.tables import AGAIN, RUN_FIRST, read_rows
from stainda.run_directory.contents import PROPAGATED_BLOCK
from stainda.run_directory.tables import COHORT, PROPAGATION


@dataclass(frozen=True)
class ReviewSection:
    """A section of a block as the run's ``cohort.csv`` knows it; ``size`` in level-0 pixels."""

    slide: str
    patient: str
    block: str
    section: int
    stain: str
    centre: str
    path: Path
    mpp: float | None
    size: tuple[int, int]
    role: str
    split: str


@dataclass(frozen=True)
class ReviewObject:
    """A propagated object under review: a row of ``propagation.csv``.

    Attributes:
        key: names it in the page, the same in every session.
        id, cls, block, source, target: as in the table.
        dropped, doubtful, reason: whether it was dropped, or is ignored in training, and why; else what was noted.
        confidence: NaN where not known.
        trains: whether labels of the target section reach training.
    """

    key: str
    id: str
    cls: str
    block: str
    source: str
    target: str
    dropped: bool
    doubtful: bool
    reason: str
    confidence: float
    trains: bool

    @property
    def place(self) -> tuple[str, str, str]:
        """The key of its decision."""
        return self.target, self.source, self.id


class ReviewData:
    """Review data of a run directory, read as far as the page needs it. Nothing in it is written here.

    Attributes:
        run: the run directory.
        show_own: whether the targets' own annotations, against which the study is scored, are shown.
        blocks: the sections of each block that has something to review, in the order of the cut.
        objects: every propagated object of these blocks by its key, least confident first.
    """

    def __init__(self, run: str | Path, block: str | None = None, show_own: bool = False) -> None:
        """
        Raises:
            StaindaError: ``run`` holds no propagated annotations, not the block named, or a link that leads out of it.
        """
        self.run, self.show_own = Path(run), show_own
        refuse_links(self.run)
        decisions = read_decisions(self.run)
        self._results: dict[str, BlockResult] = {}
        self._own: dict[str, gpd.GeoDataFrame | None] = {}
        self._rows: dict[str, dict[tuple[str, str, str], dict[str, str]]] = {}
        self._outlines: dict[str, dict[tuple[str, str, str], BaseGeometry]] = {}
        self._decided_before, self._applied = decisions, applied_keys(self.run)
        sections = {section.slide: section for section in self._sections()}
        self._block_of = {section.slide: section.block for section in sections.values()}
        objects = sorted(
            self._objects(sections, decisions),
            key=lambda item: (
                -1.0 if math.isnan(item.confidence) else item.confidence,
                item.block,
                item.target,
                item.id,
            ),
        )
        known = sorted({item.block for item in objects})
        if not known:
            raise StaindaError(
                "no object was propagated to another section, so there is nothing to review",
                file=PROPAGATION.at(self.run),
                remedy="registration/quality.csv says which sections were refused, and why",
            )
        if block is not None and block not in known:
            raise StaindaError(f"there is nothing to review in block {block!r}", remedy=f"Blocks: {', '.join(known)}")
        wanted = known if block is None else [block]
        self.objects = {item.key: item for item in objects if item.block in wanted}
        self.blocks: dict[str, tuple[ReviewSection, ...]] = {
            name: tuple(
                sorted(
                    (section for section in sections.values() if section.block == name), key=lambda slide: slide.section
                )
            )
            for name in wanted
        }

    @cached_property
    def sections(self) -> tuple[ReviewSection, ...]:
        """Every section shown; its position here is its number in the addresses of tiles."""
        return tuple(section for sections in self.blocks.values() for section in sections)

    def result(self, block: str) -> BlockResult:
        if block not in self._results:
            self._results[block] = load_block(self.run / "registration", block)
        return self._results[block]

    def own(self, slide: str) -> gpd.GeoDataFrame | None:
        """The slide's own annotations, ``None`` where it has none."""
        if slide not in self._own:
            path = self.run / "annotations" / "own" / f"{file_name(slide)}.geojson"
            self._own[slide] = read_shapes(path) if path.is_file() else None
        return self._own[slide]

    def of_block(self, block: str) -> list[ReviewObject]:
        return [item for item in self.objects.values() if item.block == block]

    def outline(self, item: ReviewObject) -> BaseGeometry | None:
        """The outline as registration propagated it, level-0 pixels of the target; ``None`` where there is none.

        Of an object that a gate dropped, it is propagated here again.
        """
        known = self._propagated_outlines(item.target)
        if item.place not in known:
            geometry = self._propagate_again(item)
            if geometry is not None:
                known[item.place] = geometry
        return known.get(item.place)

    def _propagated_outlines(self, target: str) -> dict[tuple[str, str, str], BaseGeometry]:
        """The propagated outlines of a target by (target, source, id)."""
        if target not in self._outlines:
            name = f"{file_name(target)}.geojson"
            path = self.run / "annotations" / "propagated" / name
            kept = PROPAGATED_BLOCK.at(self.run, block=self._block_of.get(target, "")).parent / "propagated" / name
            if kept.is_file() and any(key[0] == target for key in self._applied):
                path = kept  # as propagation wrote it, without what decisions made of it
            outlines: dict[tuple[str, str, str], BaseGeometry] = {}
            if path.is_file():
                shapes = read_shapes(path)
                for geometry, source, name in zip(shapes.geometry, shapes["source_slide"], shapes["id"], strict=True):
                    outlines[(target, source, name)] = geometry
            # what an earlier run made of a decision is not what was propagated
            outlines |= {
                key: decision.propagated
                for key, decision in self._decided_before.items()
                if key[0] == target and not self.stale(decision)
            }
            self._outlines[target] = outlines
        return self._outlines[target]

    def _as_propagated(self, block: str) -> dict[tuple[str, str, str], dict[str, str]]:
        """The rows of a block before any decision was applied, by (target, source, id); none in older runs."""
        if block not in self._rows:
            try:
                head = load_json(PROPAGATED_BLOCK.at(self.run, block=block))
                for row in head["rows"]:
                    text = {name: "" if value is None else str(value) for name, value in row.items()}
                    self._rows.setdefault(block, {})[(text["target"], text["source"], text["id"])] = text
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                self._rows[block] = {}  # the table of the run is read instead
        return self._rows.setdefault(block, {})

    def source_outline(self, item: ReviewObject) -> BaseGeometry | None:
        """The annotation the object comes from, level-0 pixels of the source."""
        table = self.own(item.source)
        same = None if table is None else table[table["id"] == item.id]
        return None if same is None or not len(same) else same.geometry.iloc[0]

    def stale(self, decision: Decision) -> str:
        return stale_reason(decision, self.own(decision.source))

    def _propagate_again(self, item: ReviewObject) -> BaseGeometry | None:
        table, transforms = self.own(item.source), self.result(item.block).transforms
        same = None if table is None else table[table["id"] == item.id]
        if same is None or not len(same) or item.source not in transforms or item.target not in transforms:
            return None
        warped = map_shapes(same.iloc[[0]], transforms[item.source], transforms[item.target]).geometry.iloc[0]
        return None if warped.is_empty or not _finite(warped) else warped

    def _sections(self) -> Iterator[ReviewSection]:
        path = COHORT.at(self.run)
        for row in read_rows(path):
            recorded = Path(row["path"])
            try:
                yield ReviewSection(
                    row["slide"], row["patient"], row["block"], int(row["section"]), row["stain"], row["centre"],
                    recorded if recorded.is_absolute() else self.run / recorded,
                    float(row["mpp"]) if row["mpp"] else None, (int(row["width"]), int(row["height"])),
                    row["role"], row["split"],
                )  # fmt: skip
            except (KeyError, ValueError) as error:
                raise StaindaError(f"is no table of sections ({error})", file=path, remedy=RUN_FIRST) from error

    def _objects(
        self, sections: dict[str, ReviewSection], decisions: dict[tuple[str, str, str], Decision]
    ) -> Iterator[ReviewObject]:
        done = self._applied
        needed = ("target", "source", "id", "class", "status", "reason", "confidence", "round_trip_px")
        for row in read_rows(PROPAGATION.at(self.run), needed):
            place = (row["target"], row["source"], row["id"])
            target, decision = sections.get(row["target"]), decisions.get(place)
            reviewed = decision is not None or place in done
            joined_into = row["target"], row.get("object_source", ""), row.get("object", "")
            if decision is None and target is not None and (place in done or joined_into in done):
                # it was taken back, and is still applied in the table
                before = self._as_propagated(target.block).get(place)
                reviewed = reviewed and before is None
                row = row if before is None else {**row, **before}
            # a dropped shape that was measured reached the target; others were refused before, or joined into one
            dropped = row["status"] == "dropped" and not reviewed and bool(row["round_trip_px"])
            if target is None or not (dropped or reviewed or place in self._propagated_outlines(row["target"])):
                continue
            # once applied, the table tells the reviewer's confidence
            confidence = decision.confidence if decision and place in done else self._confidence(row)
            yield ReviewObject(
                stable_hash(place), row["id"], row["class"], target.block, row["source"], row["target"],
                dropped, row["status"] == "ignored" and not reviewed, row["reason"], confidence,
                # without a study (stainda propagate MANIFEST.csv) nothing is split yet
                target.role == "target" and target.split in ("train", "all", ""),
            )  # fmt: skip

    def _confidence(self, row: dict[str, str]) -> float:
        try:
            return float(row["confidence"] or "nan")
        except ValueError:
            raise StaindaError(
                f"the confidence {row['confidence']!r} of object {row['id']} on {row['target']} is no number",
                file=PROPAGATION.at(self.run),
                remedy=AGAIN,
            ) from None


def _finite(geometry: BaseGeometry) -> bool:
    return bool(np.isfinite(shapely.get_coordinates(geometry)).all())
