"""Touching cells taken apart: a watershed on the depth below the edge, and parts without a neck joined again.

Every maximum of the depth is a part at first. Two parts are one cell unless the stained area between them is narrower
than in the smaller of them: their maxima count as two where the depth falls, on every way from one to the other, by
more than a given distance below the smaller one (the dynamic of the maximum: M. Grimaud 1992). A long cell has several
maxima and no neck; two cells side by side have one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
SMOOTHING_PX = 0.7
"""Blur of the depth: its steps of whole pixels are no maxima."""


def parts_of(mask: npt.NDArray[np.bool_], mpp: float, apart_um: float, neck_um: float) -> Labels:
    """Label the cells of a mask, from 1; 0 elsewhere.

    Args:
        mask: stained area (h, w), holes filled. mpp: micrometres per pixel.
        apart_um: maxima nearer to each other are one.
        neck_um: how much shallower the neck between two cells is than the smaller of them.
    """
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed

    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), SMOOTHING_PX) * mpp
    pieces, _ = ndimage.label(mask)
    apart = max(1, round(apart_um / mpp))
    peaks = peak_local_max(depth, min_distance=apart, labels=pieces, exclude_border=False)
    seeds = np.zeros(mask.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = np.asarray(watershed(-depth, seeds, mask=mask), np.int64)
    return _joined(labels, depth, np.concatenate([[0.0], depth[tuple(peaks.T)]]), neck_um)


def _joined(labels: Labels, depth: Floats, top: Floats, neck_um: float) -> Labels:
    """Parts without a neck between them as one, numbered from 1; ``top``: depth of the maximum of every part."""
    belongs = np.arange(len(top))

    def root(part: int) -> int:
        while belongs[part] != part:
            part = int(belongs[part])
        return part

    for first, second, saddle in _saddles(labels, depth):  # the deepest pass is opened first
        a, b = sorted((root(first), root(second)), key=lambda part: top[part])
        if a != b and saddle > top[a] - neck_um:
            belongs[a] = b
    roots = np.array([root(part) for part in range(len(top))])
    return np.asarray(np.unique(roots, return_inverse=True)[1].ravel()[labels], np.int64)


def _saddles(labels: Labels, depth: Floats) -> list[tuple[int, int, float]]:
    """Pairs of parts that touch, with the greatest depth of the way from one to the other, the deepest first."""
    pairs, passes = [np.zeros((0, 2), np.int64)], [np.zeros(0)]
    for here, there in (((slice(None), slice(-1)), (slice(None), slice(1, None))), ((slice(-1),), (slice(1, None),))):
        a, b = labels[here], labels[there]
        touch = (a != b) & (a > 0) & (b > 0)
        pairs.append(np.sort(np.column_stack([a[touch], b[touch]]), axis=1))
        passes.append(np.minimum(depth[here][touch], depth[there][touch]))
    pair, saddle = np.concatenate(pairs), np.concatenate(passes)
    order = np.argsort(-saddle, kind="stable")
    _, first = np.unique(pair[order], axis=0, return_index=True)
    kept = order[np.sort(first)]
    return [(int(a), int(b), float(s)) for (a, b), s in zip(pair[kept], saddle[kept], strict=True)]
