"""Star-convex objects: distances to the border along rays (StarDist)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from stainda.arrays import Array
from stainda.instances.base import DenseHead, number, register
from stainda.instances.depths import grow, relative_depths

if TYPE_CHECKING:
    from torch import Tensor

UNIT = 8.0
"""Pixels of a distance that the network gives as 1, so that its outputs have the size of scores."""


@register("star")
class StarHead(DenseHead):
    """Distances to the border of the object along rays; the surest outlines are kept, those that overlap them dropped.

    Target: how deep a pixel lies in its object (from 0 to 1), and along each of ``rays`` even directions, the first to
    the right and the next ones clockwise on the screen, how far it is to the border, in units of 8 pixels. Loss:
    cross-entropy of the depth, plus .2 times the mean absolute error of the distances within objects, weighted by the
    depth (the paper's). Objects: every local maximum of the depth proposes the polygon of its distances; by falling
    depth each is kept unless its overlap (IoU) with a kept one is above ``overlap`` (non-maximum suppression). A pixel
    is of the first kept polygon that covers it, and what none covers goes to its neighbours.

    The maps of a slide are ``rays + 1`` values a pixel: of a whole slide at .25 µm they need much disk.
    """

    reference: ClassVar[str] = "Schmidt et al. 2018, Cell Detection with Star-Convex Polygons, MICCAI, arXiv 1806.03535"
    turns: ClassVar[bool] = True

    rays: int = Field(16, ge=8, le=128, description="directions; the paper takes 32")
    level: float = Field(0.4, gt=0, lt=1, description="least depth at which a polygon is proposed")
    overlap: float = Field(0.4, gt=0, lt=1, description="IoU from which the less sure of two polygons is dropped")

    @property
    def channels(self) -> int:
        return 1 + self.rays

    def targets(self, objects: Array) -> Array:
        numbers = number(objects)
        return np.concatenate([relative_depths(numbers)[None], self.distances(numbers) / UNIT]).astype(np.float32)

    def distances(self, objects: Array) -> Array:
        """Pixels from the middle of each pixel of an object to its border along each ray, float32 ``(rays, h, w)``.

        Followed from pixel to pixel, so right to half a pixel; 0 outside of objects. It ends with the array.
        """
        height, width = objects.shape
        out = np.zeros((self.rays, height, width), np.float32)
        rows, columns = np.nonzero(objects)
        own = objects[rows, columns]
        for ray, (down, right) in enumerate(self._directions()):
            active, reached = np.arange(len(own)), np.full(len(own), 0.5, np.float32)
            step = 1
            while len(active):
                row = np.rint(rows[active] + step * down).astype(int)
                column = np.rint(columns[active] + step * right).astype(int)
                on = (row >= 0) & (row < height) & (column >= 0) & (column < width)
                on[on] = objects[row[on], column[on]] == own[active[on]]
                active = active[on]
                reached[active] = step + 0.5
                step += 1
            out[ray, rows, columns] = reached
        return out

    def _directions(self) -> Array:
        angle = np.arange(self.rays) * 2 * np.pi / self.rays
        return np.stack([np.sin(angle), np.cos(angle)], 1)

    def loss(self, maps: Tensor, targets: Tensor, inside: Tensor, known: Tensor) -> Tensor:
        from torch.nn import functional

        depth, away = maps[:, :1].float(), maps[:, 1:].float()
        each = functional.binary_cross_entropy_with_logits(depth, targets[:, :1], reduction="none")
        weight = targets[:, :1] * (inside & known)
        error = ((away - targets[:, 1:]).abs().mean(1, keepdim=True) * weight).sum() / weight.sum().clamp(min=1)
        return (each * known).sum() / known.sum().clamp(min=1) + 0.2 * error

    def activate(self, maps: Tensor) -> Tensor:
        import torch

        return torch.cat([maps[:, :1].float().sigmoid(), maps[:, 1:].float().clamp(min=0)], 1)

    def separate(self, inside: Array, maps: Array) -> Array:
        rows, columns = self._proposals(inside, maps[0])
        outlines = self.outlines(rows, columns, maps[1:, rows, columns].T * UNIT)
        seeds = np.zeros(inside.shape, np.int32)
        for index, place in enumerate(suppress(outlines, self.overlap), start=1):
            _paint(seeds, outlines[place], index, inside)
        return grow(_largest_pieces(seeds), -maps[0], inside)

    def _proposals(self, inside: Array, depth: Array) -> tuple[Array, Array]:
        """Rows and columns of local maxima, the deepest first; of a plateau its first pixel."""
        from scipy import ndimage

        depth = ndimage.gaussian_filter(np.where(inside, depth, 0).astype(np.float32), 1)
        top = inside & (depth >= ndimage.maximum_filter(depth, 3)) & (depth >= self.level)
        labels, count = ndimage.label(top, np.ones((3, 3)))
        if not count:
            return np.zeros(0, int), np.zeros(0, int)
        first = np.unique(labels.ravel(), return_index=True)[1][int(not top.all()) :]
        rows, columns = np.unravel_index(first, depth.shape)
        order = np.argsort(-depth[rows, columns], kind="stable")
        return rows[order], columns[order]

    def outlines(self, rows: Array, columns: Array, distances: Array) -> Array:
        """Corners of the polygons, x and y in pixels with the middle of the first pixel at 0: ``(n, rays, 2)``.

        Args:
            rows, columns: of the pixels they start from ``(n,)``. distances: pixels ``(n, rays)``.
        """
        down, right = self._directions().T
        return np.stack([columns[:, None] + distances * right, rows[:, None] + distances * down], -1)


def suppress(outlines: Array, overlap: float) -> list[int]:
    """Which of the polygons ``(n, corners, 2)``, the best first, are kept: those whose IoU with each better one that is
    kept is at most ``overlap``."""
    import shapely

    if not len(outlines):
        return []
    shapes = shapely.make_valid(shapely.polygons(outlines))
    areas, tree = shapely.area(shapes), shapely.STRtree(shapes)
    dropped, kept = np.zeros(len(shapes), bool), []
    for place in range(len(shapes)):
        if dropped[place] or areas[place] <= 0:
            continue
        kept.append(place)
        near = tree.query(shapes[place])
        near = near[near > place]
        common = shapely.area(shapely.intersection(shapes[near], shapes[place]))
        dropped[near[common > overlap * (areas[near] + areas[place] - common)]] = True
    return kept


def _paint(seeds: Array, outline: Array, value: int, inside: Array) -> None:
    """Give a polygon's pixels its number where they are free and of the piece."""
    from skimage.draw import polygon

    rows, columns = polygon(outline[:, 1], outline[:, 0], seeds.shape)
    free = inside[rows, columns] & (seeds[rows, columns] == 0)
    seeds[rows[free], columns[free]] = value


def _largest_pieces(seeds: Array) -> Array:
    """Of every number the largest connected piece."""
    from skimage.measure import label

    pieces = label(seeds, connectivity=1)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    numbers = np.zeros(len(sizes), seeds.dtype)
    numbers[pieces.ravel()] = seeds.ravel()
    best: dict[int, int] = {}
    for piece in np.argsort(-sizes, kind="stable").tolist():
        if sizes[piece]:
            best.setdefault(int(numbers[piece]), piece)
    return np.where(np.isin(pieces, list(best.values())), seeds, 0).astype(np.int32)
