"""Connected regions of a probability map, found band by band of rows, so that the map may be larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from stainda.arrays import Array
from stainda.prediction.contours import FOREIGN, Band, Contours
from stainda.prediction.scratch import give_back

BAND_VALUES = 2**22
"""Probabilities that are looked at at once, about."""

Separate = Callable[[Array, slice, slice], Array]
"""Gives the parts, int ``(h, w)`` from 1, of a region: a mask, bool ``(h, w)``, and its rows and columns in the map."""

LARGEST_SPLIT = 2**26
"""Pixels around a region up to which it is divided; larger ones are no objects that touch."""


@dataclass(frozen=True)
class Components:
    """Regions in the order of classes and of their first pixels.

    Attributes:
        classes: index of the class, ``(n,)``. pixels: of the map, ``(n,)``. scores: mean probability, ``(n,)``.
        outlines: polygons in level-0 pixels, ``(n,)``.
    """

    classes: Array
    pixels: Array
    scores: Array
    outlines: Array


@dataclass
class _Regions:
    """What is known of each label so far; label 0 is the background. ``boxes`` are rows and columns, last included."""

    parent: list[int] = field(default_factory=lambda: [0])
    cls: list[Array] = field(default_factory=lambda: [np.zeros(1, np.int64)])
    pixels: list[Array] = field(default_factory=lambda: [np.zeros(1, np.int64)])
    sums: list[Array] = field(default_factory=lambda: [np.zeros(1)])
    first: list[Array] = field(default_factory=lambda: [np.zeros(1, np.int64)])
    boxes: list[Array] = field(default_factory=lambda: [np.zeros((1, 4), np.int64)])

    def root(self, label: int) -> int:
        while self.parent[label] != label:
            self.parent[label] = self.parent[self.parent[label]]
            label = self.parent[label]
        return label

    def join(self, pairs: Array) -> None:
        for first, second in pairs.tolist():
            a, b = self.root(first), self.root(second)
            self.parent[max(a, b)] = min(a, b)

    def roots(self, labels: Array) -> Array:
        values, index = np.unique(labels, return_inverse=True)
        return np.asarray([self.root(value) for value in values.tolist()], np.int64)[index.reshape(labels.shape)]


def find_components(
    array: Array, thresholds: Sequence[float], x: Array, y: Array, least: float, split: Separate | None = None
) -> Components:
    """Regions of pixels that hang together over edges and whose most probable class is the same.

    Args:
        array: probabilities ``(classes, h, w)``; it may lie on disk.
        thresholds: by class; a pixel is of the most probable class among those that reach theirs.
        x, y: as for :class:`Contours`, ``(w + 2,)`` and ``(h + 2,)``.
        least: smaller regions are left out, pixels.
        split: divides a region into objects, where they are to be separated; :func:`at_necks` is one.
    """
    limits = np.asarray(thresholds, np.float64)
    contours, regions = Contours(x, y, limits), _Regions()
    _scan(array, limits, contours, regions)
    roots = regions.roots(np.arange(len(regions.parent)))
    cls, first = np.concatenate(regions.cls), np.concatenate(regions.first)
    pixels = np.bincount(roots, np.concatenate(regions.pixels), len(roots))
    sums = np.bincount(roots, np.concatenate(regions.sums), len(roots))
    wanted = (np.arange(len(roots)) == roots) & (pixels >= max(least, 1))
    parts = _Parts.none()
    if split is not None:
        boxes = _united(np.concatenate(regions.boxes), roots)
        parts = _split(array, limits, contours, _Joined(np.flatnonzero(wanted), cls, first, boxes), split)
        wanted[parts.of] = False
    joined = {
        "cls": np.concatenate([cls, cls[parts.of]]), "pixels": np.concatenate([pixels, parts.pixels]),
        "sums": np.concatenate([sums, parts.sums]), "first": np.concatenate([first, first[parts.of]]),
    }  # fmt: skip
    wanted = np.concatenate([wanted, parts.pixels >= max(least, 1)])
    owners = np.concatenate([roots, np.arange(len(roots), len(wanted))])
    owners_found, outlines = contours.polygons(owners, wanted)
    order = np.lexsort((owners_found, joined["first"][owners_found], joined["cls"][owners_found]))
    at = owners_found[order]
    scores = joined["sums"][at] / np.maximum(joined["pixels"][at], 1)
    return Components(joined["cls"][at], joined["pixels"][at], scores, outlines[order])


def classify(values: Array, limits: Array) -> Array:
    """uint8 ``(h, w)``: 0, or 1 + index of the most probable class among those above their thresholds."""
    above = np.where(values >= limits.astype(values.dtype)[:, None, None], values, 0)
    labels = above.argmax(0).astype(np.uint8) + 1
    labels[above.max(0) <= 0] = 0
    return labels


def _scan(array: Array, limits: Array, contours: Contours, regions: _Regions) -> None:
    from skimage.measure import label

    n, height, width = array.shape
    rows = max(1, BAND_VALUES // (n * max(width, 1)))
    labels, kinds = np.zeros((1, width), np.int64), np.zeros((1, width), np.uint8)
    values = np.zeros((n, 1, width), np.float32)
    for top in range(0, height, rows):
        band = np.asarray(array[:, top : top + rows], np.float32)
        kind = classify(band, limits)
        result = label(kind, connectivity=1, background=0).astype(np.int64)
        count, offset = int(result.max(initial=0)), len(regions.parent) - 1
        _describe(regions, result, count, kind, band, top)
        result[result > 0] += offset
        touching = (labels[-1] > 0) & (result[0] > 0) & (kinds[-1] == kind[0])
        regions.join(np.unique(np.stack([labels[-1][touching], result[0][touching]], 1), axis=0))
        local = np.concatenate([[0], regions.roots(np.arange(offset + 1, offset + count + 1))])
        result = local[np.where(result > 0, result - offset, 0)]
        labels = np.vstack([regions.roots(labels[-1:]), result])
        kinds, values = np.vstack([kinds[-1:], kind]), np.concatenate([values[:, -1:], band], 1)
        contours.add(_band(labels, kinds, values, top, last=top + rows >= height))
        give_back(array)


def _band(labels: Array, kinds: Array, values: Array, row: int, last: bool) -> Band:
    """Nodes of whole rows of the map, of which the first comes from the band before (or is outside of the map)."""
    around = ((0, int(last)), (1, 1))
    cls = np.pad(np.maximum(kinds, 1) - 1, around)
    return Band(np.pad(labels, around), cls, np.pad(values, ((0, 0), *around)), row, 0)


def _describe(regions: _Regions, array: Array, count: int, kind: Array, values: Array, top: int) -> None:
    """Class, size, sum of probabilities, first pixel and box of the labels 1…count of a band."""
    from scipy.ndimage import find_objects

    start = len(regions.parent)
    regions.parent.extend(range(start, start + count))
    flat = array.ravel()
    inside = np.flatnonzero(flat)
    at = flat[inside]
    labels, first = np.unique(at, return_index=True)
    where = inside[first]
    assert len(labels) == count
    kinds = kind.ravel()
    probability = values.reshape(len(values), -1)[kinds[inside] - 1, inside]
    regions.cls.append(kinds[where].astype(np.int64) - 1)
    regions.pixels.append(np.bincount(at, minlength=count + 1)[1:])
    regions.sums.append(np.bincount(at, probability.astype(np.float64), count + 1)[1:])
    regions.first.append(where + top * array.shape[1])
    boxes = [(r.start + top, r.stop - 1 + top, c.start, c.stop - 1) for r, c in find_objects(array)]
    regions.boxes.append(np.asarray(boxes, np.int64).reshape(-1, 4))


def _united(boxes: Array, roots: Array) -> Array:
    """The box of each region, from those of its labels."""
    out = boxes.copy()
    for column in (0, 2):
        np.minimum.at(out[:, column], roots, boxes[:, column])
        np.maximum.at(out[:, column + 1], roots, boxes[:, column + 1])
    return out


@dataclass(frozen=True)
class _Parts:
    """What regions were cut into: the region ``of`` each part, its pixels, and its sum of probabilities."""

    of: Array
    pixels: Array
    sums: Array

    @staticmethod
    def none() -> _Parts:
        return _Parts(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


@dataclass(frozen=True, eq=False)
class _Joined:
    """Regions of one class each.

    Attributes:
        chosen: indices of those that are looked at. cls, first: of every region, its class and its first pixel.
        boxes: of every region, ``(n, 4)``: top, bottom, left, right.
    """

    chosen: Array
    cls: Array
    first: Array
    boxes: Array


def at_necks(mask: Array, rows: slice, columns: slice) -> Array:
    """Cut a region at its necks, see :func:`stainda.annotations.instances`."""
    from stainda.annotations import instances

    return instances(mask, split_touching=True)


def _split(array: Array, limits: Array, contours: Contours, regions: _Joined, separate: Separate) -> _Parts:
    """Divide the chosen regions, and outline the parts under labels that follow those of all regions."""
    from skimage.measure import label

    _, height, width = array.shape
    cls, labels = regions.cls, len(regions.cls)
    of: list[int] = []
    pixels: list[Array] = []
    sums: list[Array] = []
    for region in regions.chosen.tolist():
        top, bottom, left, right = (int(value) for value in regions.boxes[region])
        if (bottom - top + 1) * (right - left + 1) > LARGEST_SPLIT:
            continue
        rows = slice(max(top - 1, 0), min(bottom + 2, height))
        columns = slice(max(left - 1, 0), min(right + 2, width))
        values = np.asarray(array[:, rows, columns], np.float32)
        kinds = classify(values, limits)
        whole = label(kinds == cls[region] + 1, connectivity=1)
        row, column = divmod(int(regions.first[region]), width)
        mask = whole == whole[row - rows.start, column - columns.start]
        parts = separate(mask, rows, columns)
        count = int(parts.max())
        if count < 2:
            continue
        probability = values[cls[region]].astype(np.float64)
        pixels.append(np.bincount(parts.ravel(), minlength=count + 1)[1:])
        sums.append(np.bincount(parts.ravel(), probability.ravel(), count + 1)[1:])
        own = np.where(parts > 0, parts.astype(np.int64) + labels + len(of) - 1, np.where(kinds > 0, FOREIGN, 0))
        of += [region] * count
        # beyond the map there is nothing; elsewhere the ring of pixels around the region closes its outline
        ends = (int(rows.start == 0), int(rows.stop == height)), (int(columns.start == 0), int(columns.stop == width))
        padded = np.pad(np.maximum(kinds, 1) - 1, ends)
        corner = rows.start + 1 - ends[0][0], columns.start + 1 - ends[1][0]
        contours.add(Band(np.pad(own, ends), padded, np.pad(values, ((0, 0), *ends)), *corner))
    if not of:
        return _Parts.none()
    return _Parts(np.asarray(of), np.concatenate(pixels), np.concatenate(sums))
