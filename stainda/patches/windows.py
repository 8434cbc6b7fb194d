"""Random crops of stored regions, resized to the size of a patch.

A region is a patch with its margin, as the store keeps it. A window is a square of whole stored pixels: ``x``, ``y``
(upper left corner, from that of the region) and ``side``. A window as large as a patch is cut as it is; others are
resized, images with a filter that is as wide as the reduction, labels and weights to the nearest pixel. What a window
holds of beyond its region is mirrored in images and 255 (ignored) in labels, as in ``stains.augmentation.Geometry``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

OUTSIDE = 255


def cut_windows(
    regions: NDArray[np.uint8], rows: NDArray[np.intp], windows: ArrayLike, size: int, *, smooth: bool
) -> NDArray[np.uint8]:
    """Cut a window of each of some regions.

    Args:
        regions: uint8 (n, side, side) or (n, side, side, 3), or uint16 (n, side, side), in memory or on disk.
        rows: which regions.
        windows: whole numbers (len(rows), 3): x, y, side in stored pixels.
        size: pixels of the result.
        smooth: interpolate (images), or take the nearest pixel (labels, weights).

    Returns:
        As ``regions``: (len(rows), size, size) or (len(rows), size, size, 3).

    Raises:
        ValueError: not one window per row, or one without a pixel.
    """
    squares = np.asarray(windows, dtype=np.intp)
    if squares.shape != (len(rows), 3) or (len(squares) and squares[:, 2].min() < 1):
        raise ValueError(f"windows must be {len(rows)} rows of x, y and side (at least 1), not {squares.tolist()}")
    out = np.empty((len(rows), size, size, *regions.shape[3:]), regions.dtype)
    for place, (row, (x, y, side)) in enumerate(zip(rows, squares.tolist(), strict=True)):
        out[place] = _resized(_square(regions[row], x, y, side, smooth), size, smooth)
    return out


def _square(region: NDArray[np.uint8], x: int, y: int, side: int, mirrored: bool) -> NDArray[np.uint8]:
    height, width = region.shape[:2]
    before, after = (max(-y, 0), max(-x, 0)), (max(y + side - height, 0), max(x + side - width, 0))
    part = region[max(y, 0) : y + side, max(x, 0) : x + side]
    if not any((*before, *after)):
        return part
    rim = [*zip(before, after, strict=True), *[(0, 0)] * (region.ndim - 2)]
    return np.pad(part, rim, mode="symmetric") if mirrored else np.pad(part, rim, constant_values=OUTSIDE)


def _resized(square: NDArray[np.uint8], size: int, smooth: bool) -> NDArray[np.uint8]:
    if len(square) == size:
        return square
    from PIL import Image

    how = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(np.ascontiguousarray(square)).resize((size, size), how))
