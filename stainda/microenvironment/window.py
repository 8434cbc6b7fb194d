"""The observation window of a section: a polygon with holes, and how much of it lies on itself when shifted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import shapely
from scipy import fft, ndimage
from shapely.affinity import rotate
from shapely.geometry.base import BaseGeometry

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CountingWindow:
    """A window in micrometres.

    Attributes:
        shape: polygon or polygons, with holes.
        step: side of the cells of its raster, on which shifted windows are compared.
    """

    shape: BaseGeometry
    step: float = 4.0

    @cached_property
    def area(self) -> float:
        return float(self.shape.area)

    @cached_property
    def origin(self) -> Floats:
        """Corner of the raster."""
        return np.array(self.shape.bounds[:2])

    @cached_property
    def mask(self) -> npt.NDArray[np.bool_]:
        """Raster (rows, columns): whether the centre of each cell is in the window."""
        x0, y0, x1, y1 = self.shape.bounds
        columns, rows = (max(1, int(np.ceil(length / self.step))) for length in (x1 - x0, y1 - y0))
        return filled(self.shape, (x0, y0), self.step, (rows, columns))

    @cached_property
    def turned(self) -> tuple[CountingWindow, float]:
        """Turned about the origin so that the longer side of the tissue lies along the rows, and by how many degrees: a
        shift along the tissue loses least of it."""
        box = np.asarray(shapely.minimum_rotated_rectangle(self.shape).exterior.coords)
        sides = np.diff(box[:3], axis=0)
        longest = sides[np.argmax(np.linalg.norm(sides, axis=1))]
        angle = -float(np.degrees(np.arctan2(longest[1], longest[0])))
        return CountingWindow(rotate(self.shape, angle, origin=(0, 0)), self.step), angle

    def contains(self, points: Floats) -> npt.NDArray[np.bool_]:
        shapely.prepare(self.shape)
        return np.asarray(shapely.intersects_xy(self.shape, points[:, 0], points[:, 1]), bool)

    def cells(self, points: Floats) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Row and column of the raster of each point, clipped to it."""
        at = np.floor((points - self.origin) / self.step).astype(np.int64)
        rows, columns = self.mask.shape
        return np.clip(at[:, 1], 0, rows - 1), np.clip(at[:, 0], 0, columns - 1)

    def centres(self) -> Floats:
        """Centres (n, 2) of the cells of the raster that are in the window."""
        rows, columns = np.nonzero(self.mask)
        return self.origin + (np.column_stack([columns, rows]) + 0.5) * self.step

    def covariance(self, shifts: Floats) -> Floats:
        """Area (n,) common to the window and itself shifted by (n, 2): the set covariance, scaled to the exact area."""
        table = self._covariance
        rows, columns = table.shape
        at = shifts[:, ::-1] / self.step + [rows // 2, columns // 2]
        return ndimage.map_coordinates(table, at.T, order=1, mode="constant") * self.area

    @cached_property
    def _covariance(self) -> Floats:
        """Set covariance on the raster, as a share of the area, shift 0 in the middle."""
        rows, columns = self.mask.shape
        shape = tuple(fft.next_fast_len(2 * side + 2, real=True) for side in (rows, columns))
        spectrum = fft.rfft2(self.mask.astype(np.float32), s=shape)
        common = fft.fftshift(fft.irfft2(np.abs(spectrum) ** 2, s=shape))
        return np.maximum(common / common.max(), 0.0).astype(float)


def filled(
    shape: BaseGeometry, origin: tuple[float, float], step: float, size: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """Raster (rows, columns): whether the centre of each square is in a polygon, or polygons, with holes.

    A row is crossed by an even number of edges: between the first and the second, and so on, it is inside.

    Args:
        origin: corner of the raster. step: side of its squares.
    """
    rows, columns = size
    crossings = np.zeros((rows, columns + 1), np.uint8)
    for ring in shapely.get_rings(shapely.get_parts(shape)):
        place = (shapely.get_coordinates(ring) - origin) / step - 0.5  # centres of squares are whole numbers
        (x0, y0), (x1, y1) = place[:-1].T, place[1:].T
        low, high = (np.clip(np.ceil(side), 0, rows).astype(np.int64) for side in (np.fmin(y0, y1), np.fmax(y0, y1)))
        edge = np.repeat(np.arange(len(low)), high - low)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(high - low) - (high - low), high - low) + low[edge]
        x = x0[edge] + (row - y0[edge]) / (y1 - y0)[edge] * (x1 - x0)[edge]
        np.add.at(crossings, (row, np.clip(np.ceil(x), 0, columns).astype(np.int64)), 1)
    return (np.cumsum(crossings[:, :-1], axis=1, dtype=np.uint8) & 1).astype(bool)
