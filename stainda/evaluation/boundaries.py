"""How far the outline found lies from the outline drawn.

Distances are between the edge pixels of two masks (pixels of the mask with a 4-neighbour outside of it, as MONAI and
the Medical Segmentation Decathlon take them). Edges that only exist because a region is ignored are no outlines and are
left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from stainda.arrays import Array
from stainda.errors import StaindaError

_MANY = 0.05  # share of the pixels; of a tenth and more the distance transform is the faster


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances between two outlines, in the unit of the spacing.

    ``nan`` where both masks are empty. Where one of them is, both are the diagonal of the masks, no distance in which
    can be larger: the convention of BraTS, whose 373 mm are the diagonal of its images. Leaving such a slide out would
    reward a network that finds nothing.

    Attributes:
        hausdorff_95: the larger of the two directed 95th percentiles (Huttenlocher et al. 1993, with the percentile in
            place of the maximum, so that a single stray pixel does not decide).
        mean: average symmetric surface distance: the mean of all distances of both directions.
    """

    hausdorff_95: float
    mean: float


def surface_distances(
    predicted: Array, truth: Array, spacing: float = 1.0, ignored: Array | None = None, percentile: float = 95.0
) -> SurfaceDistances:
    """Distances between the outlines of two masks.

    Args:
        predicted, truth: bool (h, w).
        spacing: length of a pixel's side; the result is in its unit.
        ignored: bool (h, w), pixels that are scored neither for nor against.
        percentile: 100 gives the Hausdorff distance itself.

    Raises:
        StaindaError: the masks differ in shape.
    """
    predicted, truth = np.asarray(predicted, bool), np.asarray(truth, bool)
    if predicted.shape != truth.shape:
        raise StaindaError(f"masks differ in shape: {predicted.shape} and {truth.shape}")
    if ignored is not None:
        predicted, truth = predicted & ~ignored, truth & ~ignored
    window = _common_window(predicted | truth)
    if window is None:
        return SurfaceDistances(float("nan"), float("nan"))
    shadow = None if ignored is None else ndimage.binary_dilation(ignored, np.ones((3, 3)))[window]
    edges = [_edges(mask[window], shadow) for mask in (predicted, truth)]
    if predicted.any() != truth.any():
        diagonal = math.hypot(*predicted.shape) * spacing
        return SurfaceDistances(diagonal, diagonal)
    if not all(edge.any() for edge in edges):
        return SurfaceDistances(float("nan"), float("nan"))
    forth, back = (nearest_distances(near, far, spacing) for near, far in (edges, edges[::-1]))
    high = max(np.percentile(forth, percentile), np.percentile(back, percentile))
    return SurfaceDistances(float(high), float(np.concatenate([forth, back]).mean()))


def nearest_distances(near: Array, far: Array, spacing: float) -> npt.NDArray[np.float64]:
    """From every pixel of one mask to the nearest of another, which is not empty; in the order of the pixels.

    A distance transform asks every pixel of the window; where edges are few a tree of them takes a fraction of that.
    """
    if near.sum() + far.sum() > near.size * _MANY:
        return ndimage.distance_transform_edt(~far, sampling=spacing)[near]
    from scipy.spatial import cKDTree

    queries, known = np.argwhere(near), np.argwhere(far)
    _, index = cKDTree(known).query(queries)
    return np.sqrt((((queries - known[index]) * spacing) ** 2).sum(1))


def _edges(mask: Array, shadow: Array | None) -> npt.NDArray[np.bool_]:
    edges = mask & ~ndimage.binary_erosion(mask)
    return edges if shadow is None else edges & ~shadow


def _common_window(mask: Array) -> tuple[slice, slice] | None:
    """The bounding box of a mask, one pixel wider, so that an edge at its border is one for the right reason."""
    objects = ndimage.find_objects(mask.astype(np.uint8))
    if not objects or objects[0] is None:
        return None
    rows, columns = (slice(max(span.start - 1, 0), span.stop + 1) for span in objects[0])
    return rows, columns
