"""Objects that touch, cut apart where they are narrow."""

from __future__ import annotations

import numpy as np

from stainda.arrays import Array


def cut_at_necks(labels: Array) -> Array:
    """Cut objects at their necks, by a watershed on the distance to what is not of the object.

    A part for each maximum that rises at least a quarter of the object's own depth above the saddle to a deeper one.

    Args:
        labels: whole numbers (h, w), 0 background, a number per object.

    Returns:
        The shape and dtype of ``labels``: 0 background, parts 1…n in the order of the objects' numbers, each connected
        over edges.
    """
    from scipy import ndimage
    from skimage.measure import label
    from skimage.morphology import h_maxima
    from skimage.segmentation import watershed

    split = np.zeros_like(labels)
    highest = 0
    for value, where in enumerate(ndimage.find_objects(labels), start=1):
        if where is None:
            continue
        padded = np.pad(labels[where] == value, 1)
        depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(padded), 1) * padded
        seeds = label(h_maxima(depth, max(0.75, 0.25 * float(depth.max()))) > 0, connectivity=2)
        parts = watershed(-depth, seeds, mask=padded) if seeds.max() > 1 else padded.astype(labels.dtype)
        parts = label(parts, connectivity=1)[1:-1, 1:-1]
        split[where][parts > 0] = parts[parts > 0] + highest
        highest += int(parts.max())
    return split
