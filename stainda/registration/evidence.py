"""Image evidence for a propagated object: how well its neighbourhood matches that in the source.

Around each object a window of the target is compared with the same window of the source, brought across by the
transform. As everywhere in this room the comparison is of gradient directions (``similarity.py``), which does not ask
what a stain colours. The neighbourhood is also shifted by up to half the object's width in every direction: if it fits
better elsewhere, the object probably lies there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from stainda.arrays import Array
from stainda.registration.neighbourhood import DensityPyramid, Neighbourhood
from stainda.registration.similarity import SCALES
from stainda.registration.transforms import Between

TEMPLATE = 1.5  # width of the neighbourhood compared, in widths of the object
SEARCH = 0.5  # how far it is shifted, in widths of the object
CELLS = 24  # samples across an object, unless the image is coarser
FINEST = 256  # a large object is sampled as coarsely as the section in so many samples, not finer than that
LEAST_CELLS = 12  # across an object, so that points and small objects have a neighbourhood too
MOST_CELLS = 384  # across a window


@dataclass(frozen=True, eq=False)
class LocalEvidence:
    """Arrays (n,), one value per object.

    Attributes:
        structure: agreement of the neighbourhoods where the object was put, in standard deviations above what shifts by
            a quarter to half the object's width give.
        offset: how far the best shift lies from there, in widths of the object (0 to 0.5).
        gain: how much better the best shift is, in the same standard deviations.
        inner, ring: mean cosine of gradient directions within the object, and around it, -1 to 1.
        compared: share of the neighbourhood that both slides show.
    """

    structure: Array
    offset: Array
    gain: Array
    inner: Array
    ring: Array
    compared: Array

    @classmethod
    def of(
        cls,
        densities: tuple[DensityPyramid, DensityPyramid],
        between: Between,
        boxes: Array,
        moved: Array | None = None,
    ) -> LocalEvidence:
        """Compare around each box.

        Args:
            densities: of the source and the target. between: the map from source to target.
            boxes: float (n, 4) x0, y0, x1, y1 of the objects after propagation, level-0 pixels of the target; a
                box that is not finite gives zeros.
            moved: float (n, 2), by how much each object lies from where ``between`` puts it; default: nowhere else.
        """
        moved = np.zeros((len(boxes), 2)) if moved is None else moved
        rows = [
            _compare(densities, between, box, by) if np.isfinite(box).all() else np.zeros(6)
            for box, by in zip(boxes, moved, strict=True)
        ]
        values = np.array(rows, float).reshape(-1, 6)
        return cls(*(values[:, k] for k in range(6)))


def _compare(
    densities: tuple[DensityPyramid, DensityPyramid], between: Between, box: Array, moved: Array
) -> tuple[float, ...]:
    image = densities[1].image
    extent = max(image.pixels.shape[:2]) * image.downsample
    width = max(box[2] - box[0], box[3] - box[1], LEAST_CELLS * image.downsample)
    # fine enough for the object; but a large one needs no finer samples than a comparison of whole sections
    pitch = max(image.downsample, min(width / CELLS, extent / FINEST))
    window = (TEMPLATE + 2 * SEARCH) * width
    cells = int(np.clip(np.ceil(window / pitch), 16, MOST_CELLS))
    around = Neighbourhood.of(densities, between, (box[:2] + box[2:]) / 2, window, cells, moved)
    first, second, shown, inside, pitch = around.source, around.target, around.shown, around.inside, around.pitch
    offsets = (np.arange(cells) + 0.5) * pitch - window / 2
    xs, ys = np.meshgrid(offsets, offsets)
    radius = np.maximum(abs(xs), abs(ys)) / width  # in widths of the object, square
    template = (radius <= TEMPLATE / 2) & shown
    both = shown & inside
    total = max(int((radius <= TEMPLATE / 2).sum()), 1)
    if (template & inside).sum() < 0.2 * total or first[both].std() < 1e-4 or second[both].std() < 1e-4:
        return 0.0, 0.0, 0.0, 0.0, 0.0, float((template & inside).sum() / total)
    scores, agreement = _correlation(first, second, template, inside, both)
    reach = max(1, round(SEARCH * width / pitch))
    shift = np.arange(-reach, reach + 1)
    table = scores[np.ix_(shift, shift)]
    distance = np.hypot(*np.meshgrid(shift, shift)) * pitch / width
    table, away = np.where(distance <= SEARCH + 1e-9, table, np.nan), distance
    chance = table[(away >= SEARCH / 2) & np.isfinite(table)]
    spread = max(float(chance.std()), 0.01)
    at = float(table[reach, reach])
    best = int(np.nanargmax(table))
    disc = np.hypot(xs, ys) / width
    inner, ring = (disc <= 0.45) & both, (disc > 0.55) & template & both
    return (
        (at - float(chance.mean())) / spread, float(away.ravel()[best]), (float(table.ravel()[best]) - at) / spread,
        float(agreement[inner].mean()) if inner.any() else 0.0, float(agreement[ring].mean()) if ring.any() else 0.0,
        float((template & inside).sum() / total),
    )  # fmt: skip


def _directions(density: Array, where: Array, scale: float) -> Array:
    """Gradient over its length, float (2, h, w), as ``similarity.directions``, by differences of the blurred image."""
    smooth = ndimage.gaussian_filter(density, scale, truncate=3.0)
    down, right = np.gradient(smooth)
    length = np.hypot(right, down)
    soft = np.hypot(length, max(float(np.median(length[where])), 1e-6))
    return np.stack([right / soft, down / soft])


def _correlation(first: Array, second: Array, template: Array, inside: Array, both: Array) -> tuple[Array, Array]:
    """Mean cosine of gradient directions at every shift of the template (h, w; shift 0 at [0, 0], negative shifts from
    the end), and at shift 0 for every sample."""
    total = np.zeros((first.shape[0], first.shape[1] // 2 + 1), complex)
    agreement = np.zeros(first.shape)
    number = np.fft.irfft2(np.conj(np.fft.rfft2(template)) * np.fft.rfft2(inside.astype(float)), s=first.shape)
    for scale in SCALES:
        mine, theirs = _directions(first, both, scale), _directions(second, both, scale)
        agreement += (mine * theirs).sum(axis=0) / len(SCALES)
        for a, b in zip(mine * template, theirs * inside, strict=True):
            total += np.conj(np.fft.rfft2(a)) * np.fft.rfft2(b) / len(SCALES)
    scores = np.fft.irfft2(total, s=first.shape)
    return scores / np.maximum(number, 0.2 * template.sum()), agreement
