"""Positions of patches on a slide: around objects, away from them, on tissue at random, or in a grid.

Pure geometry: no pixel is read here. All coordinates are level-0 pixels; a patch is named by its upper left corner,
which lies on the grid of working pixels, so that overlapping patches show exactly the same pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from stainda.arrays import Array
from stainda.slides import TissueMask

_ROUNDS = 20  # of drawing candidates before fewer patches than requested are accepted
VALIDATION_SHARE = 0.3  # of a slide that serves training and validation


@dataclass(frozen=True)
class PatchSite:
    """A slide, or a part of one, on which patches of one size are cut.

    Attributes:
        tissue: where tissue lies.
        size: pixels of a square patch at the working scale.
        downsample: level-0 pixels per working pixel.
        box: x0, y0, x1, y1 within which whole patches lie.
        min_tissue: share of a patch that must be tissue.
    """

    tissue: TissueMask
    size: int
    downsample: float
    box: tuple[float, float, float, float]
    min_tissue: float

    @property
    def extent(self) -> float:
        """Width and height of a patch, level-0 pixels."""
        return self.size * self.downsample

    @property
    def holds_a_patch(self) -> bool:
        """Whether the box is wide and high enough for a patch; a whole slide always is (white is added)."""
        x0, y0, x1, y1 = self.box
        whole = self.box == (0, 0, *self.tissue.size)
        return whole or (x1 - x0 >= self.extent and y1 - y0 >= self.extent)

    def corners(self, centres: Array) -> NDArray[np.float64]:
        """Upper left corners (n, 2) of patches about these centres, moved into the box and onto the working grid."""
        step, extent = self.downsample, self.extent
        low = np.ceil(np.array(self.box[:2]) / step - 1e-9)
        high = np.maximum(np.floor((np.array(self.box[2:]) - extent) / step + 1e-9), low)
        return np.clip(np.round((np.asarray(centres, float).reshape(-1, 2) - extent / 2) / step), low, high) * step

    def boxes(self, corners: Array) -> NDArray[np.float64]:
        """x0, y0, x1, y1 (n, 4) of patches."""
        return np.concatenate([corners, corners + self.extent], axis=1)

    def on_tissue(self, corners: Array) -> NDArray[np.bool_]:
        """Whether patches have their share of tissue."""
        return self.tissue.share(self.boxes(corners)) >= max(self.min_tissue, 1e-9)


def around_objects(
    site: PatchSite, objects: Sequence[BaseGeometry], per_object: int, generator: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Corners (n, 2) of ``per_object`` patches around each object in the site, shifted at random by up to a quarter,
    and the place (n,) of the object of each.

    An object larger than a patch gets as many times more as it covers, about points drawn inside it.
    """
    corners, owners = [np.zeros((0, 2))], [np.zeros(0, np.intp)]
    for place, whole in enumerate(objects):
        shape = shapely.clip_by_rect(whole, *site.box) if whole.geom_type != "Point" else whole
        if shape.is_empty or not shapely.box(*site.box).intersects(shape):
            continue
        n = per_object * object_weight(shape, site.extent)
        shifts = generator.uniform(-site.extent / 4, site.extent / 4, (n, 2))
        placed = site.corners(_anchors(shape, n, site.extent, generator) + shifts)
        meets = shapely.intersects(shapely.box(*site.boxes(placed).T), shape)
        corners.append(placed[meets])
        owners.append(np.full(int(meets.sum()), place, np.intp))
    return np.concatenate(corners), np.concatenate(owners)


def near_objects(
    site: PatchSite, objects: Sequence[BaseGeometry], per_object: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Corners (n, 2) of ``per_object`` patches on tissue near each object in the site, centred anywhere in its bounding
    box and half a patch around it: an object is seen in most of them, next to the middle of the patch.

    A classifier of patches needs them to learn where an object ends; without them it calls every patch an object in
    which it sees one.
    """
    corners = []
    for whole in objects:
        shape = shapely.clip_by_rect(whole, *site.box) if whole.geom_type != "Point" else whole
        if shape.is_empty or not shapely.box(*site.box).intersects(shape):
            continue
        low, high = np.array(shape.bounds[:2]) - site.extent / 2, np.array(shape.bounds[2:]) + site.extent / 2
        n = per_object * object_weight(shape, site.extent)
        placed = site.corners(generator.uniform(low, high, (n, 2)))
        corners.append(placed[site.on_tissue(placed)])
    return np.concatenate(corners) if corners else np.zeros((0, 2))


def drawn_in_turn(
    classes: Sequence[int] | NDArray[np.intp], most: int, generator: np.random.Generator
) -> NDArray[np.intp]:
    """Places, ascending, of ``most`` of these: drawn at random and in turn from each class, so that a rare one is not
    lost among the others. All of them, and nothing drawn, where they are no more.

    Args:
        classes: of each.
    """
    numbers = np.asarray(classes, int)
    if len(numbers) <= most:
        return np.arange(len(numbers))
    order = generator.permutation(len(numbers))
    turn = np.empty(len(order), int)
    for name in np.unique(numbers):
        mine = numbers[order] == name
        turn[mine] = np.arange(mine.sum())
    return np.sort(order[np.argsort(turn, kind="stable")][:most])


def object_weight(shape: BaseGeometry, extent: float) -> int:
    """How many patches' area an object covers, at least 1."""
    return max(1, math.ceil(shape.area / extent**2))


def away_from_objects(
    site: PatchSite, objects: Sequence[BaseGeometry], count: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Corners (n <= count, 2) of random patches on tissue that touch none of the objects."""
    rows, columns = np.nonzero(site.tissue.mask)
    x0, y0, x1, y1 = site.box
    step = site.tissue.downsample
    inside = (columns * step < x1) & ((columns + 1) * step > x0) & (rows * step < y1) & ((rows + 1) * step > y0)
    rows, columns = rows[inside], columns[inside]
    accepted = np.zeros((0, 2))
    if len(rows) == 0 or count == 0:
        return accepted
    tree = shapely.STRtree(list(objects))
    for _ in range(_ROUNDS):
        pick = generator.integers(len(rows), size=4 * count + 16)
        centres = (np.stack([columns[pick], rows[pick]], 1) + generator.random((len(pick), 2))) * step
        corners = site.corners(centres)
        corners = corners[site.on_tissue(corners)]
        if len(objects) and len(corners):
            touching = np.unique(tree.query(shapely.box(*site.boxes(corners).T), predicate="intersects")[0])
            corners = np.delete(corners, touching, axis=0)
        accepted = np.concatenate([accepted, corners])
        if len(accepted) >= count:
            break
    return accepted[:count]


def on_grid(site: PatchSite, stride: int) -> NDArray[np.float64]:
    """Corners (n, 2) of a grid over the tissue, ``stride`` working pixels apart, the last ones moved to the rim."""
    x0, y0, x1, y1 = site.box
    half = site.extent / 2

    def starts(low: float, high: float) -> NDArray[np.float64]:
        last = max(low, high - site.extent)
        return np.append(np.arange(low, last, stride * site.downsample), last)

    xs, ys = np.meshgrid(starts(x0, x1), starts(y0, y1))
    corners = np.unique(site.corners(np.stack([xs.ravel(), ys.ravel()], 1) + half)[:, ::-1], axis=0)[:, ::-1]
    return corners[site.on_tissue(corners)]


def validation_bands(
    tissue: TissueMask, objects: Mapping[str, Sequence[BaseGeometry]], extent: float
) -> dict[str, tuple[float, float, float, float]]:
    """Two vertical bands of a slide, ``train`` and ``val``, with a gap of one patch between them.

    For a study of a single patient, whose slide must serve both. Of all lines to divide at, and both sides for
    validation, the one is taken that comes nearest to giving validation 30 % of the area of every class (and, as the
    lesser aim, of the tissue), what falls into the gap being lost.

    Args:
        objects: the objects of each class.
        extent: width of a patch, level-0 pixels.
    """
    width, height = tissue.size
    columns = tissue.mask.shape[1]
    edges = np.minimum(np.arange(columns + 1) * tissue.downsample, width)
    profiles = [(1.0, _area_by_column(shapes, edges, height)) for shapes in objects.values() if len(shapes)]
    profiles.append((0.01, tissue.mask.sum(axis=0).astype(float)))
    fits = (edges >= 1.5 * extent) & (edges <= width - 1.5 * extent)
    best = (-1.0, width / 2, "right")
    for side in ("right", "left"):
        score = np.zeros(len(edges))
        for weight, area in profiles:
            before = np.concatenate([[0.0], np.cumsum(area)]) / max(area.sum(), 1e-12)
            left = np.interp(edges - extent / 2, edges, before)
            right = 1 - np.interp(edges + extent / 2, edges, before)
            train, val = (left, right) if side == "right" else (right, left)
            score += weight * np.minimum(train / (1 - VALIDATION_SHARE), val / VALIDATION_SHARE)
        index = int(np.where(fits, score, -1).argmax())
        if fits[index] and score[index] > best[0] + 1e-9:
            best = (float(score[index]), float(edges[index]), side)
    _, line, side = best
    bands = {"left": (0, 0, line - extent / 2, height), "right": (line + extent / 2, 0, width, height)}
    other = "left" if side == "right" else "right"
    return {"train": bands[other], "val": bands[side]}


def _area_by_column(shapes: Sequence[BaseGeometry], edges: Array, height: float) -> NDArray[np.float64]:
    area = np.zeros(len(edges) - 1)
    for shape in shapes:
        first, last = np.searchsorted(edges, [shape.bounds[0], shape.bounds[2]])
        for column in range(max(0, int(first) - 1), min(len(area), int(last))):
            area[column] += shapely.clip_by_rect(shape, edges[column], 0, edges[column + 1], height).area
    return area


def _anchors(shape: BaseGeometry, n: int, extent: float, generator: np.random.Generator) -> NDArray[np.float64]:
    """Points (n, 2) that patches are centred on: the middle of a small object, random points inside a large one."""
    x0, y0, x1, y1 = shape.bounds
    if max(x1 - x0, y1 - y0) <= extent:
        return np.tile([(x0 + x1) / 2, (y0 + y1) / 2], (n, 1))
    accepted = np.zeros((0, 2))
    shapely.prepare(shape)
    for _ in range(_ROUNDS):
        points = generator.uniform((x0, y0), (x1, y1), (8 * n, 2))
        accepted = np.concatenate([accepted, points[shapely.contains_xy(shape, points)]])
        if len(accepted) >= n:
            return accepted[:n]
    return np.concatenate(
        [accepted, np.tile(shapely.get_coordinates(shape.representative_point()), (n - len(accepted), 1))]
    )
