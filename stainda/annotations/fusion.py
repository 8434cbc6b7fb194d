"""Fusion of the shapes of several annotators into one set, with the areas of disagreement.

Each class is fused on its own, so that nested classes (glomeruli in cortex) both survive. Where the outlines of a class
hang together, they are cut into faces (:mod:`stainda.annotations.overlay`); each face has a pattern of votes, the
patterns of the whole slide are weighed at once (:mod:`stainda.annotations.votes`), and the faces that win are put
together again object by object, so that touching objects stay apart. What no winning face represents is dissent: it is
handed back with who drew it, never lost.

An annotator is taken to have looked at the whole slide: where nothing was drawn, the vote is no. Inside shapes of the
class ``Ignore*`` there is no vote at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from stainda.annotations import votes
from stainda.annotations.annotators import annotator_row, pair_rows
from stainda.annotations.ballots import Ballot, empty_field, rates_against
from stainda.annotations.classes import IGNORE, IGNORE_CLASSES
from stainda.annotations.overlay import clusters, cut_into_faces, joined, only_areas, same_objects
from stainda.annotations.shapes import join_shapes, make_shapes
from stainda.errors import AnnotationError, did_you_mean
from stainda.objects.overlap import iou_pairs
from stainda.progress import SILENT, Progress

if TYPE_CHECKING:
    import geopandas as gpd

    from stainda.config import FusionMethod

METHODS: tuple[FusionMethod, ...] = ("majority", "staple", "weighted")
NOTE_COLUMNS = ("annotator", "class", "shapes", "note")

GRID = 0.25  # level-0 pixels: far below the width of a pen line, far above rounding errors
SAME_OBJECT = (
    0.25  # intersection over union: half of each of two equal discs is 0.33; outlines of one thing overlap more
)
CRUMB = 0.25  # a fused object smaller than this share of every outline of it is an accident of two rims, not the object


@dataclass(frozen=True, eq=False)
class Fusion:
    """Result of fusing the shapes of several annotators.

    Attributes:
        shapes: the fused shapes. ``confidence`` is the mean, over the area, of the share of yes (majority), of the
            weighted share (weighted), or of the probability (STAPLE). ``properties["measurements"]`` holds ``support``
            (annotators who drew it) and ``annotators``; ``properties["metadata"]["drawn_by"]`` their names.
        dissent: the objects that did not win, one shape each, with the same properties and
            ``properties["metadata"]["dissent"]``, which says why.
        annotators: rows of :data:`ANNOTATOR_COLUMNS`, one per class and annotator.
        agreement: rows of :data:`PAIR_COLUMNS`, one per class and pair, and one per class for all.
        notes: rows of :data:`NOTE_COLUMNS`: what could not take part.
    """

    shapes: gpd.GeoDataFrame
    dissent: gpd.GeoDataFrame
    annotators: list[dict[str, Any]] = field(default_factory=list)
    agreement: list[dict[str, Any]] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Rules:
    """Settings of the vote.

    Attributes:
        method: ``majority`` (more than half of those who spoke; a tie is no), ``staple``, or ``weighted``.
        reliability: of each annotator, 0…1, for ``weighted``; ``None`` takes each one's mean Dice with the
            others, class by class.
        grid: corners are moved to multiples of it, level-0 pixels.
        point_radius: points take part as discs of this radius, level-0 pixels; ``None`` leaves them out.
    """

    method: FusionMethod = "majority"
    reliability: Mapping[str, float] | None = None
    grid: float = GRID
    point_radius: float | None = None


def fuse_annotators(
    drawn: Mapping[str, gpd.GeoDataFrame],
    rules: Rules | None = None,
    *,
    size: tuple[int, int] | None = None,
    progress: Progress = SILENT,
) -> Fusion:
    """Fuse the shapes of several annotators of one slide (or of several stains, once they lie in one frame).

    Args:
        drawn: shapes by annotator, level-0 pixels; one without shapes says that there is nothing.
        rules: how votes are weighed; default the majority.
        size: the slide's width and height, level-0 pixels; the field that counts as seen ends there.

    Raises:
        AnnotationError: fewer than two annotators, not one area among all shapes, or a reliability that is missing or
            not within 0…1.
    """
    rules = rules or Rules()
    _check(drawn, rules)
    notes: list[dict[str, Any]] = []
    ready = {name: _usable(name, shapes, rules, notes) for name, shapes in drawn.items()}
    classes = sorted(
        {cls for shapes in ready.values() for cls in shapes["class"]}, key=lambda cls: (cls == IGNORE, cls)
    )
    if not classes:
        listed = "; ".join(f"{note['annotator']}: {note['note']}" for note in notes)
        raise AnnotationError(
            f"none of the {len(drawn)} annotators drew an area{f' ({listed})' if listed else ''}",
            remedy="Give points a radius (--radius; in a study fusion.point_radius) or outline them"
            if listed
            else "Check the files",
        )
    fused, dissent, annotators, agreement = [], [], [], []
    with progress.task("Fusing annotators", len(classes)) as bar:
        for cls in classes:
            fusion = _ClassFusion(cls, ready, rules, size)
            objects = [fusion.shape(number) for number in fusion.winners]
            fused.append(_table(objects, cls))
            dissent.append(_table([fusion.dissent(number) for number in fusion.losers], cls))
            annotators += [annotator_row(fusion.ballot, index, fused[-1]) for index in range(len(ready))]
            agreement += pair_rows(fusion.ballot)
            bar.advance(1, cls)
    result = join_shapes(fused)
    return Fusion(result, _told_apart(join_shapes(dissent), result), annotators, agreement, notes)


def _check(drawn: Mapping[str, gpd.GeoDataFrame], rules: Rules) -> None:
    if len(drawn) < 2:
        raise AnnotationError("fusing needs at least two annotators", remedy="Name two or more files")
    if rules.method not in METHODS:
        raise AnnotationError(f"unknown method {rules.method!r}", remedy=did_you_mean(rules.method, METHODS))
    if not (np.isfinite(rules.grid) and rules.grid > 0):
        raise AnnotationError(f"the grid is {rules.grid}, not a number of pixels above 0", remedy="Give 0.25")
    given = rules.reliability
    if rules.method != "weighted" or given is None:
        return
    for name in drawn:
        if name not in given:
            raise AnnotationError(f"the annotator {name!r} has no reliability", remedy=did_you_mean(name, given))
        if not 0 <= given[name] <= 1:
            raise AnnotationError(f"the reliability of {name!r} is {given[name]}, not within 0 to 1")


def _usable(name: str, shapes: gpd.GeoDataFrame, rules: Rules, notes: list[dict[str, Any]]) -> gpd.GeoDataFrame:
    """Areas, and points as discs, all valid, ignored ones under one name; the rest is reported."""
    import geopandas as gpd

    table = shapes.reset_index(drop=True).copy()
    table["class"] = table["class"].replace(dict.fromkeys(IGNORE_CLASSES, IGNORE))
    geometries = np.asarray(table.geometry.values, object)
    kind = shapely.get_type_id(geometries)
    point = np.isin(kind, (0, 4))
    if rules.point_radius is not None:
        geometries[point] = shapely.buffer(shapely.centroid(geometries[point]), rules.point_radius)
    broken = ~shapely.is_valid(geometries) & ~shapely.is_missing(geometries)
    geometries[broken] = [only_areas(geometry) for geometry in shapely.make_valid(geometries[broken])]
    table = table.set_geometry(gpd.GeoSeries(list(geometries), index=table.index))
    area = shapely.area(geometries) > 0
    for cls, group in table[~area].groupby("class", sort=True):
        points = int(point[group.index].sum())
        why = "points have no area: give them a radius" if points == len(group) else "lines and points have no area"
        notes.append({"annotator": name, "class": cls, "shapes": len(group), "note": why})
    return table[area].reset_index(drop=True)


class _ClassFusion:
    """The fusion of one class: faces, votes, and which objects they make."""

    def __init__(
        self, cls: str, ready: Mapping[str, gpd.GeoDataFrame], rules: Rules, size: tuple[int, int] | None
    ) -> None:
        self.cls, self.names, self.rules = cls, tuple(ready), rules
        tables = [table[table["class"] == cls] for table in ready.values()]
        self.records = [row for table in tables for row in table.to_dict("records")]
        self.geometries = np.array([row["geometry"] for row in self.records], dtype=object)
        self.owners = np.repeat(np.arange(len(tables)), [len(table) for table in tables]).astype(np.int64)
        self.silences = [] if cls == IGNORE else [_union(table, IGNORE) for table in ready.values()]
        self.groups = same_objects(self.geometries, self.owners, SAME_OBJECT)
        self._cut()
        self._weigh(empty_field(self.geometries, self.cluster, self.silences, size, self.faces))
        self._assemble()

    def _cut(self) -> None:
        """Faces, which outlines each lies in (as index pairs), and the votes about each."""
        self.cluster = clusters(self.geometries)
        faces: list[BaseGeometry] = []
        votes_of: list[NDArray[np.int8]] = []
        self.members: list[NDArray[np.int64]] = []  # of each face: the outlines it lies in
        order = np.argsort(self.cluster, kind="stable")
        for indices in np.split(order, np.flatnonzero(np.diff(self.cluster[order])) + 1):
            quiet = self._silences_at(indices)
            outlines = np.concatenate(
                [self.geometries[indices], np.array([outline for _, outline in quiet], dtype=object)]
            )
            pieces, inside = cut_into_faces(outlines, self.rules.grid)
            drawn = inside[:, : len(indices)]
            for face, covering, silent in zip(pieces, drawn, inside[:, len(indices) :], strict=True):
                if not covering.any():
                    continue
                ballot = np.zeros(len(self.names), np.int8)
                ballot[[owner for (owner, _), flag in zip(quiet, silent, strict=True) if flag]] = votes.SILENT
                ballot[self.owners[indices[covering]]] = votes.YES
                faces.append(face)
                votes_of.append(ballot)
                self.members.append(indices[covering])
        self.faces = np.array(faces, dtype=object)
        self.areas = shapely.area(self.faces)
        self.ballots = np.array(votes_of, np.int8).reshape(-1, len(self.names))

    def _silences_at(self, indices: NDArray[np.int64]) -> list[tuple[int, BaseGeometry]]:
        box = shapely.box(*shapely.total_bounds(self.geometries[indices]))
        silences = []
        for owner, silence in enumerate(self.silences):
            part = only_areas(shapely.intersection(silence, box))
            if part.area > 0:
                silences.append((owner, part))
        return silences

    def _weigh(self, background: float) -> None:
        """The probability of each face, from all faces and the empty field around them."""
        nothing = np.zeros((1, len(self.names)), np.int8)
        everything = np.concatenate([self.ballots, nothing])
        patterns, _, which = votes.table_of_patterns(everything.T)
        amounts = np.bincount(which, np.append(self.areas, background), len(patterns)).astype(float)
        weights = np.ones(len(self.names))
        sensitivity = specificity = np.full(len(self.names), np.nan)
        method: FusionMethod = "majority" if self.cls == IGNORE else self.rules.method
        if method == "staple":
            estimate = votes.staple(patterns, amounts)
            probability, sensitivity, specificity = estimate.probability, estimate.sensitivity, estimate.specificity
        else:
            if method == "weighted":
                named = self.rules.reliability
                weights = (
                    votes.reliability_among_peers(patterns, amounts)
                    if named is None
                    else np.array([named[name] for name in self.names], float)
                )
            probability = votes.share_of_yes(patterns, weights)
        won = (probability > 0.5 + 1e-9) & (patterns == votes.YES).any(axis=1)
        if method != "staple":
            sensitivity, specificity = rates_against(patterns, amounts, won)
        self.probability = probability[which[:-1]]
        self.won = won[which[:-1]]
        self.ballot = Ballot(
            self.cls, self.names, self.geometries, self.owners, self.groups, patterns, amounts, won, weights,
            sensitivity, specificity,
        )  # fmt: skip

    def _assemble(self) -> None:
        """Give each winning face to the object most of whose outlines it lies in; objects left with crumbs lose."""
        size_of = np.bincount(self.groups)
        self.own_faces: dict[int, list[int]] = {}
        for face in np.flatnonzero(self.won):
            claims = np.bincount(self.groups[self.members[face]])
            best = max(np.flatnonzero(claims), key=lambda group: (claims[group], size_of[group], -group))
            self.own_faces.setdefault(int(best), []).append(int(face))
        least = np.full(len(size_of), np.inf)
        np.minimum.at(least, self.groups, shapely.area(self.geometries))
        self.winners = [
            group for group in range(len(size_of))
            if group in self.own_faces and self.areas[self.own_faces[group]].sum() >= CRUMB * least[group]
        ]  # fmt: skip
        taken = set(self.winners)
        self.losers = [group for group in range(len(size_of)) if group not in taken]
        self.touching: dict[int, list[int]] = {}
        for face, members in enumerate(self.members):
            for group in set(self.groups[members].tolist()):
                self.touching.setdefault(group, []).append(face)

    def shape(self, group: int) -> dict[str, Any]:
        """The record of a fused object: the area that won, and who drew it (half of it at least)."""
        own = self.own_faces[group]
        area = self.areas[own].sum()
        covered = (self.areas[own, None] * (self.ballots[own] == votes.YES)).sum(axis=0)
        supporters = {*self.owners[self.groups == group].tolist(), *np.flatnonzero(covered >= 0.5 * area).tolist()}
        confidence = float((self.areas[own] * self.probability[own]).sum() / area)
        return self._record(group, joined(self.faces[own]), supporters, confidence)

    def dissent(self, group: int) -> dict[str, Any]:
        """The record of an object that did not win: where at least half of those who drew it agree."""
        members = np.flatnonzero(self.groups == group)
        supporters = set(self.owners[members].tolist())
        faces = self.touching.get(group, [])
        agreed = [f for f in faces if 2 * (self.groups[self.members[f]] == group).sum() >= len(members)]
        alone = len(members) == 1 or not agreed
        geometry = self.geometries[members[0]] if alone else joined(self.faces[agreed])
        area = self.areas[agreed].sum() if agreed else 0.0
        share = len(supporters) / len(self.names)
        confidence = float((self.areas[agreed] * self.probability[agreed]).sum() / area) if area > 0 else share
        drew = f"drawn by {len(supporters)} of {len(self.names)}"
        outvoted = "" if 2 * len(supporters) <= len(self.names) else ", but no majority agrees on where"
        if self.rules.method != "majority" and outvoted:
            outvoted = ", which the votes of the others outweigh"
        return self._record(group, geometry, supporters, confidence, drew + outvoted)

    def _record(
        self, group: int, geometry: BaseGeometry, supporters: set[int], confidence: float, why: str = ""
    ) -> dict[str, Any]:
        members = [self.records[index] for index in np.flatnonzero(self.groups == group)]
        scores = [row["score"] for row in members if np.isfinite(row["score"])]
        names, slides = {row["name"] for row in members}, {row["source_slide"] for row in members}
        metadata = {
            "drawn_by": "; ".join(self.names[index] for index in sorted(supporters)),
            "fused_from": "; ".join(str(row["id"]) for row in members),
            "fusion": "majority" if self.cls == IGNORE else self.rules.method,
        }
        if why:
            metadata["dissent"] = why
        return {
            "geometry": geometry,
            "name": names.pop() if len(names) == 1 else "",
            "source_slide": slides.pop() if len(slides) == 1 else "",
            "score": float(np.mean(scores)) if scores else float("nan"),
            "confidence": confidence,
            "properties": {
                "measurements": {"support": len(supporters), "annotators": len(self.names)},
                "metadata": metadata,
            },
        }


def _union(table: gpd.GeoDataFrame, cls: str) -> BaseGeometry:
    return shapely.union_all(np.asarray(table.geometry.values[(table["class"] == cls).to_numpy(bool)], object))


def _table(records: list[dict[str, Any]], cls: str) -> gpd.GeoDataFrame:
    columns = ("name", "source_slide", "score", "confidence", "properties")
    return make_shapes(
        [row["geometry"] for row in records], cls, **{key: [row[key] for row in records] for key in columns}
    )


def _told_apart(dissent: gpd.GeoDataFrame, fused: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Say of each object of the dissent where the others gave it another class."""
    i, j, iou = iou_pairs(np.asarray(dissent.geometry.values, object), np.asarray(fused.geometry.values, object))
    for index, other, overlap in zip(i, j, iou, strict=True):
        cls = fused["class"].iloc[other]
        if overlap >= 0.5 and cls != dissent["class"].iloc[index]:
            metadata = dissent["properties"].iloc[index]["metadata"]
            metadata["dissent"] += f"; the others call it {cls!r}"
    return dissent
