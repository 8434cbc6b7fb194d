"""Depth in numbered objects, and objects grown from seeds: what several heads share."""

from __future__ import annotations

import numpy as np

from stainda.arrays import Array


def depths(objects: Array) -> Array:
    """Distance of each pixel's middle to that of the nearest pixel which is not of its object, float32 ``(h, w)``.

    0 outside of objects. Nothing is known beyond the array, so that its rim is no border: where an object fills it, the
    depth is the array's longer side.
    """
    from scipy import ndimage

    out = np.zeros(objects.shape, np.float32)
    longest = float(max(objects.shape))
    for value, where in enumerate(ndimage.find_objects(objects), start=1):
        if where is None:
            continue
        near = tuple(slice(max(part.start - 1, 0), part.stop + 1) for part in where)
        mine = objects[near] == value
        distance = np.full(mine.shape, longest) if mine.all() else ndimage.distance_transform_edt(mine)
        out[near][mine] = distance[mine]
    return out


def relative_depths(objects: Array) -> Array:
    """:func:`depths` of each object divided by its greatest, so that each reaches 1: float32 ``(h, w)``."""
    from scipy import ndimage

    depth, count = depths(objects), int(objects.max(initial=0))
    if not count:
        return depth
    deepest = np.concatenate([[1.0], np.asarray(ndimage.maximum(depth, objects, np.arange(1, count + 1)))])
    return (depth / np.maximum(deepest, 1.0)[objects]).astype(np.float32)


def seeds_of(core: Array, least: int) -> Array:
    """Connected pieces of a mask numbered from 1, those below ``least`` pixels left out: int32 ``(h, w)``."""
    from skimage.measure import label
    from skimage.segmentation import relabel_sequential

    pieces = label(core, connectivity=1)
    sizes = np.bincount(pieces.ravel())
    return relabel_sequential(np.where(sizes[pieces] >= least, pieces, 0))[0].astype(np.int32)


def grow(seeds: Array, height: Array, inside: Array) -> Array:
    """Objects grown from seeds over a connected piece: a watershed on ``height``, low places first; int32 ``(h, w)``.

    Without a seed the piece is one object.
    """
    from skimage.segmentation import watershed

    seeds = np.where(inside, seeds, 0)
    if len(np.unique(seeds)) <= 2:
        return inside.astype(np.int32)
    return watershed(height, seeds, mask=inside, connectivity=1).astype(np.int32)


def basins(inside: Array, depth: Array, h: float) -> Array:
    """A connected piece divided by the maxima of a map of depth: basins of the map upside down, int32 ``(h, w)``.

    Seeds are the maxima that rise at least ``h`` above the saddle to a higher one.
    """
    from skimage.measure import label
    from skimage.morphology import local_maxima, reconstruction

    height = np.pad(np.where(inside, depth, 0).astype(np.float64), 1)
    # maxima that rise at least h: what is left of the map once all peaks are cut by h (h-maxima, Soille 2003)
    cut = reconstruction(np.maximum(height - h, 0), height, method="dilation")
    top = np.asarray(local_maxima(cut, connectivity=2), bool) & (height > 0)
    return grow(label(top, connectivity=2)[1:-1, 1:-1], -height[1:-1, 1:-1], inside)
