"""The outline of an object between two sections in which it is drawn: interpolation of shape by signed distance.

The distance to an outline, positive inside and negative outside, is a smooth picture of the shape; the mean of two such
pictures, weighted by how near each section is, is zero on an outline between the two (Raya and Udupa, IEEE Trans. Med.
Imaging 1990). Both outlines are laid on one centre first and the result on the centre between them (as Herman et al.
1992 do), or an oblique object would come out too small: of two equal discs side by side the plain mean is a lens.
"""

from __future__ import annotations

import numpy as np
import shapely
from scipy import ndimage
from shapely.geometry.base import BaseGeometry

from stainda.annotations.raster import PixelGrid, covered
from stainda.arrays import Array

GRID = 96
"""Cells across the larger of two outlines: the outline is exact to about a third of a cell."""


def interpolate(first: BaseGeometry, second: BaseGeometry, share: float) -> BaseGeometry:
    """The outline that lies ``share`` of the way from ``first`` to ``second``, both in one frame.

    Areas (with holes, of several parts) are interpolated by signed distance, points by position. Lines, and two
    geometries of different kinds, have no shape in common: the nearer one is given back.

    Args:
        share: 0 (``first``) to 1 (``second``).

    Returns:
        A geometry in the same units; empty where nothing is left between two areas that do not meet.
    """
    if share <= 0 or share >= 1:
        return first if share <= 0 else second
    dimensions = {int(shapely.get_dimensions(geometry)) for geometry in (first, second)}
    if dimensions == {0}:
        (x0, y0), (x1, y1) = (shape.centroid.coords[0] for shape in (first, second))
        return shapely.Point(x0 + share * (x1 - x0), y0 + share * (y1 - y0))
    if dimensions != {2}:
        return first if share <= 0.5 else second
    centres = [np.array(shape.centroid.coords[0]) for shape in (first, second)]
    moved = [
        shapely.transform(geometry, lambda xy, c=c: xy - c)
        for geometry, c in zip((first, second), centres, strict=True)
    ]
    x0, y0, x1, y1 = shapely.total_bounds(moved)
    step = max(x1 - x0, y1 - y0) / GRID
    x0, y0 = x0 - 2 * step, y0 - 2 * step
    width, height = (int(np.ceil((high - low) / step)) + 2 for low, high in ((x0, x1), (y0, y1)))
    near, far = (_signed_distance(covered(geometry, PixelGrid(x0, y0, width, height, step))) for geometry in moved)
    outline = _zero_line((1 - share) * near + share * far, step)
    centre = (1 - share) * centres[0] + share * centres[1] + (x0 + step / 2, y0 + step / 2)
    return shapely.transform(outline, lambda xy: xy + centre)


def _signed_distance(inside: Array) -> Array:
    """Cells from each cell's centre to the outline of a mask bool (h, w), positive inside; half a cell lies between
    the centres on its two sides."""
    if not inside.any():
        return np.full(inside.shape, -float(max(inside.shape)))
    distance = ndimage.distance_transform_edt
    return np.where(inside, distance(inside) - 0.5, 0.5 - distance(~inside))


def _zero_line(distance: Array, step: float) -> BaseGeometry:
    """The area in which a distance (h, w) is positive; the centre of the first cell is the origin."""
    from skimage.measure import find_contours

    rings = [shapely.LineString(line[:, ::-1] * step) for line in find_contours(distance, 0.0) if len(line) > 3]
    if not rings:
        return shapely.Polygon()
    area = shapely.build_area(shapely.MultiLineString(rings))
    return shapely.simplify(area, 0.1 * step)
