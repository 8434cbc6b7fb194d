"""A share of the annotations of the source's training patients, object by object; the rest counts neither way.

What a training with a share may use of the labelled patches:

- patches that an annotated object reaches into: its pixels are its class, what lies around it is background;
- in them, objects that were not annotated, with a rim of half their radius, are ignored: neither class nor background;
- of the patches without any object the same share;
- nothing of patches that only objects without annotation reach into.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from stainda.annotations.raster import PixelGrid, covered
from stainda.patches.label_objects import OWN, PROPAGATED, LabelObjects
from stainda.patches.store import PatchStore
from stainda.randomness import generator_for

RIM = 0.5
"""Pixels around an object without annotation that are ignored with it, as a share of its radius: outlines differ by
about as much between annotators, and a network must not learn that its edge is background."""


@dataclass(frozen=True)
class LabelShare:
    """How many of the objects are annotated.

    Attributes:
        share: of the annotated objects of the source's training patients, above 0 and at most 1.
        seed: which ones are drawn.
    """

    share: float
    seed: int

    def choose(self, objects: LabelObjects, gone: str = "", refit: bool = False) -> NDArray[np.bool_]:
        """Which objects are annotated: bool, in the order of ``objects``; only own ones of the source's training
        patients.

        At least one of every class is. All objects stand in one order, of which the share is the beginning: a smaller
        share lies within a larger one. The order goes through the patients of each domain in proportion, so that
        each gives its share to within an object or two.

        Args:
            gone: a patient of whom nothing may be used. refit: validation patients of the source are among those who
                teach.
        """
        allowed = drawable(objects, gone, refit)
        order = nested_order(objects.table[allowed], ("domain", "patient"), self.seed)
        firsts = _first_of_each(objects.table["class"].to_numpy(object)[allowed][order])
        order = np.concatenate([order[firsts], np.delete(order, firsts)])
        count = max(len(firsts), math.ceil(self.share * len(order) - 1e-9))
        chosen = np.zeros(len(objects.table), bool)
        chosen[np.flatnonzero(allowed)[order[:count]]] = True
        return chosen


@dataclass(frozen=True)
class ChosenLabels:
    """Annotations that were chosen one by one, as rounds of active learning do.

    Attributes:
        objects: ``SLIDE<tab>ID`` of the annotated objects.
        empty: how many patches without any object are used; drawn by ``seed``.
    """

    objects: frozenset[str]
    empty: int
    seed: int = 0

    def choose(self, objects: LabelObjects, gone: str = "", refit: bool = False) -> NDArray[np.bool_]:
        """As :meth:`LabelShare.choose`."""
        named = np.fromiter((name in self.objects for name in objects.names), bool, len(objects.table))
        return named & drawable(objects, gone, refit)


@dataclass(frozen=True)
class Annotated:
    """How much annotation a training used.

    Attributes:
        objects: annotated ones of the source's training patients. of: all of them. patients: who have one that is used.
        empty: patches without an object that are used.
    """

    objects: int
    of: int
    patients: int
    empty: int


@dataclass(eq=False)
class KnownLabels:
    """What of a store's labels is known when some of its objects are annotated.

    Args:
        store: the patches. objects: those they are labelled from. rule: which objects are annotated.
        train: which labelled and propagated patches are of training patients, bool by row of the store.
    """

    store: PatchStore
    objects: LabelObjects
    rule: LabelShare | ChosenLabels
    train: NDArray[np.bool_]
    gone: str = ""
    refit: bool = False
    _rims: dict[int, BaseGeometry] = field(default_factory=dict)
    _masks: dict[int, NDArray[np.uint8] | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        table = self.objects.table
        self.annotated = self.rule.choose(self.objects, self.gone, self.refit)
        named = {name for name, known in zip(self.objects.names, self.annotated, strict=True) if known}
        members = self.objects.made_of()
        derived = np.fromiter((bool(names) and named.issuperset(names) for names in members), bool, len(members))
        self._known = self.annotated | (self.objects.of_kind(PROPAGATED) & derived)
        kinds, slides = table["kind"].to_numpy(object), table["slide"].to_numpy(object)
        self._at = {
            (slide, kind): np.flatnonzero((slides == slide) & (kinds == kind))
            for slide, kind in dict.fromkeys(zip(slides.tolist(), kinds.tolist(), strict=True))
        }
        shapes = self.objects.shapes
        self._radius = RIM * np.sqrt(shapely.area(shapes) / math.pi)
        wide = shapely.box(*(shapely.bounds(shapes) + np.outer(self._radius, [-1, -1, 1, 1])).T)
        self._trees = {key: shapely.STRtree(shapes[at]) for key, at in self._at.items()}
        self._wide_trees = {key: shapely.STRtree(wide[at]) for key, at in self._at.items()}
        patches = self.store.table
        self._slide = patches["slide"].to_numpy(object)
        self._of_kind = np.where((patches["kind"] == "propagated").to_numpy(bool), PROPAGATED, OWN)
        self._corner, self._scale = patches[["x", "y"]].to_numpy(float), patches["downsample"].to_numpy(float)
        self.usable, self._empty = self._usable()

    @property
    def amount(self) -> Annotated:
        people = self.objects.table["patient"].to_numpy(object)[self.annotated]
        of = int(drawable(self.objects, self.gone, self.refit).sum())
        return Annotated(int(self.annotated.sum()), of, len(set(people.tolist())), self._empty)

    def hide(self, row: int, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A region's labels, uint8 (side, side), with what is not annotated set to 255."""
        if row not in self._masks:
            mask = self._hidden(row, labels.shape[0])
            self._masks[row] = np.packbits(mask) if mask.any() else None
        packed = self._masks[row]
        if packed is None:
            return labels
        return np.where(np.unpackbits(packed, count=labels.size).reshape(labels.shape) == 1, np.uint8(255), labels)

    def content(self, rows: NDArray[np.intp]) -> bytes:
        """Digest of what decides the labels of these regions, in their order: the outlines that may reach into each,
        and which of them are annotated."""
        place, near = self._meeting(rows, self._wide_trees, self.store.margin)
        outlines, of_pair = np.unique(near, return_inverse=True)
        texts = zip(shapely.to_wkb(self.objects.shapes[outlines]), self._known[outlines], strict=True)
        names = np.array([hashlib.sha256(text + bytes([known])).digest() for text, known in texts], dtype="S32")
        order = np.lexsort((names[of_pair], place)) if len(near) else np.zeros(0, np.intp)
        return hashlib.sha256(place[order].tobytes() + names[of_pair][order].tobytes()).digest()

    def _usable(self) -> tuple[NDArray[np.bool_], int]:
        """Which training patches are used, by row of the store, and how many of them show no object."""
        rows, usable = np.flatnonzero(self.train), np.zeros(len(self.train), bool)
        place, near = self._meeting(rows, self._trees, 0)
        usable[rows[place[self._known[near]]]] = True
        kept = self._some_empty(np.delete(rows, np.unique(place)))
        usable[kept] = True
        return usable, len(kept)

    def _some_empty(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        table = self.store.table.iloc[rows]
        order = nested_order(table, ("domain", "patient", "kind"), self.rule.seed)
        if isinstance(self.rule, ChosenLabels):
            return rows[order[: self.rule.empty]]
        return rows[order[: math.ceil(self.rule.share * len(rows) - 1e-9)]]

    def _meeting(
        self, rows: NDArray[np.intp], trees: Mapping[tuple[str, str], shapely.STRtree], margin: int
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Pairs (k,) of patches, with so much of their margin, and objects that meet: the place of a patch in ``rows``,
        and of an object in the table; by slide."""
        side = (int(self.store.meta["size"]) + 2 * margin) * self._scale[rows]
        corner = self._corner[rows] - margin * self._scale[rows, None]
        boxes = shapely.box(*np.concatenate([corner, corner + side[:, None]], axis=1).T)
        places, objects = [np.zeros(0, np.intp)], [np.zeros(0, np.intp)]
        for (slide, kind), at in self._at.items():
            here = np.flatnonzero((self._slide[rows] == slide) & (self._of_kind[rows] == kind))
            box, shape = trees[slide, kind].query(boxes[here], "intersects")
            places.append(here[box])
            objects.append(at[shape])
        return np.concatenate(places), np.concatenate(objects)

    def _hidden(self, row: int, side: int) -> NDArray[np.bool_]:
        margin, scale = self.store.margin, float(self._scale[row])
        x, y = self._corner[row] - margin * scale
        grid = PixelGrid(float(x), float(y), side, side, scale)
        _, near = self._meeting(np.array([row]), self._wide_trees, margin)
        known = self._known[near]
        rims = np.array([self._rim(place) for place in near[~known].tolist()], dtype=object)
        return covered(rims, grid) & ~covered(self.objects.shapes[near[known]], grid)

    def _rim(self, place: int) -> BaseGeometry:
        """An object without annotation, and what is ignored around it; made once, since many patches show it."""
        if place not in self._rims:
            self._rims[place] = shapely.buffer(self.objects.shapes[place], self._radius[place])
        return self._rims[place]


def drawable(objects: LabelObjects, gone: str = "", refit: bool = False) -> NDArray[np.bool_]:
    """Own objects of the source's training patients (and, in a refit, of its validation patients)."""
    table = objects.table
    teaches = table["split"].isin(["train", "all", "val"] if refit else ["train", "all"]).to_numpy(bool)
    drawable_rows = (table["patient"].astype(str) != gone).to_numpy(bool) if gone else np.ones(len(table), bool)
    return objects.of_kind(OWN) & teaches & drawable_rows


def nested_order(table: pd.DataFrame, strata: Sequence[str], seed: int) -> NDArray[np.intp]:
    """All rows of a table in a random order whose every beginning is a stratified sample: places in the table.

    Systematic: row i (from 0, at random) of a stratum of n stands at (i + u) / n, with one u in 0..1 per stratum, so
    that the first share s of all has s n of each stratum to within one.
    """
    columns = [table[name].astype(str).to_numpy(object) for name in strata]
    keys = list(zip(*columns, strict=True)) if len(table) else []
    at = np.zeros(len(table))
    for stratum in sorted(set(keys)):
        members = np.flatnonzero([key == stratum for key in keys])
        generator = generator_for(seed, "share of labels", *stratum)
        ranks = generator.permutation(len(members))
        at[members] = (ranks + generator.random()) / len(members)
    return np.argsort(at, kind="stable")


def _first_of_each(values: Collection[object]) -> NDArray[np.intp]:
    seen: dict[object, int] = {}
    for place, value in enumerate(values):
        seen.setdefault(value, place)
    return np.sort(np.fromiter(seen.values(), np.intp, len(seen)))
