"""Tissue detection, also for pale immunohistochemistry; blank glass gives an empty mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stainda.arrays import Array
from stainda.slides.slide import Slide

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry


# distances are CIE Lab units; 2.3 is the just noticeable difference
LEAST_DISTANCE = 3.0
GREATEST_THRESHOLD = 4.5
_BLACK = 10  # grey levels: JPEG does not keep a black that touches glass at 0
_LEAST_UNSCANNED = 0.01  # of a picture: smaller black parts of its border are dirt or pen
_MEDIANS = 2  # of 3 x 3 pixels; a median keeps the outline where a Gaussian would widen dark tissue


@dataclass(frozen=True)
class TissueMask:
    """Tissue on a coarse grid: ``mask`` bool (height, width), each pixel ``downsample`` level-0 pixels wide and high.

    Outside the slide there is no tissue. ``size`` is the slide's width and height, level-0 pixels.
    """

    mask: Array
    downsample: float
    size: tuple[int, int]

    @property
    def area_share(self) -> float:
        """Share of the slide that is tissue."""
        return float(self.mask.mean()) if self.mask.size else 0.0

    def share(self, boxes: Array) -> Array:
        """The share of each box that is tissue, exact to fractions of mask pixels.

        Args:
            boxes: (n, 4) x0, y0, x1, y1 in level-0 pixels.

        Returns:
            float (n,) in 0…1; 0 for boxes without area.
        """
        boxes = np.asarray(boxes, float).reshape(-1, 4)
        x0, y0, x1, y1 = (boxes / self.downsample).T
        covered = self._integral(x1, y1) - self._integral(x0, y1) - self._integral(x1, y0) + self._integral(x0, y0)
        area = (x1 - x0) * (y1 - y0)
        return np.clip(np.divide(covered, area, out=np.zeros_like(area), where=area > 0), 0, 1)

    def contains(self, xy: Array) -> Array:
        """Whether level-0 points (n, 2) lie on tissue: bool (n,)."""
        xy = np.asarray(xy, float).reshape(-1, 2)
        height, width = self.mask.shape
        with np.errstate(invalid="ignore"):
            column, row = np.floor(xy / self.downsample).T
            inside = (column >= 0) & (row >= 0) & (column < width) & (row < height)
            inside &= (xy[:, 0] < self.size[0]) & (xy[:, 1] < self.size[1])
        inside_tissue = np.zeros(len(xy), bool)
        inside_tissue[inside] = self.mask[row[inside].astype(int), column[inside].astype(int)]
        return inside_tissue

    def share_of(self, geometry: BaseGeometry) -> float:
        """The share of a shapely geometry (area, length or number of points) that lies on tissue; level-0 pixels."""
        import shapely

        if geometry is None or geometry.is_empty:
            return 0.0
        if geometry.area > 0:
            x0, y0, x1, y1 = geometry.bounds
            step = max(min(self.downsample / 2, (x1 - x0) / 16, (y1 - y0) / 16), max(x1 - x0, y1 - y0) / 512)
            xs, ys = np.arange(x0 + step / 2, x1, step), np.arange(y0 + step / 2, y1, step)
            points = np.stack(np.meshgrid(xs, ys), -1).reshape(-1, 2)
            shapely.prepare(geometry)
            points = points[shapely.contains_xy(geometry, points)]
            if not len(points):
                points = np.array(geometry.representative_point().coords)
        elif geometry.length > 0:
            along = np.linspace(0, geometry.length, 65)
            points = shapely.get_coordinates(shapely.line_interpolate_point(shapely.line_merge(geometry), along))
        else:
            points = shapely.get_coordinates(geometry)
        return float(self.contains(points).mean())

    def _integral(self, x: Array, y: Array) -> Array:
        """Mask pixels between the origin and (x, y), in mask pixels; linear within a pixel, hence exact."""
        height, width = self.mask.shape
        table = self._table()
        x, y = np.clip(x, 0, width), np.clip(y, 0, height)
        column, row = np.minimum(x.astype(int), width - 1), np.minimum(y.astype(int), height - 1)
        fx, fy = x - column, y - row
        upper = table[row, column] * (1 - fx) + table[row, column + 1] * fx
        lower = table[row + 1, column] * (1 - fx) + table[row + 1, column + 1] * fx
        return upper * (1 - fy) + lower * fy

    def _table(self) -> Array:
        table = self.__dict__.get("_summed")
        if table is None:
            table = np.zeros(np.add(self.mask.shape, 1))
            table[1:, 1:] = self.mask.cumsum(0).cumsum(1)
            object.__setattr__(self, "_summed", table)
        return table


def tissue_mask(slide: Slide, max_dim: int = 1024) -> TissueMask:
    """Find tissue on a thumbnail of at most ``max_dim`` pixels; an empty mask where the slide is blank glass."""
    thumbnail, downsample = slide.thumbnail(max_dim)
    return TissueMask(mask_tissue(thumbnail), downsample, slide.size)


def mask_tissue(image: Array) -> Array:
    """Tissue on an RGB uint8 image (h, w, 3) of low magnification: bool (h, w).

    Tissue is what differs from the glass: the glass is the brightest grey mode of the picture (or plain white, where a
    picture is all tissue), and black that was not scanned counts as glass; the difference is the CIE Lab distance, in
    which the chroma of a pale counterstain counts as much as its darkness; the threshold is Otsu's, held between what
    is noise and what is surely stained, so that pale tissue is not lost next to dark tissue (N. Otsu, 1979). Specks are
    dropped and small holes filled.
    """
    from skimage.filters import threshold_otsu

    if min(image.shape[:2]) == 0:
        return np.zeros(image.shape[:2], bool)
    image = without_unscanned(image)
    for _ in range(_MEDIANS):
        image = _median(image)
    lab = cie_lab(image)
    glass, noise = _glass(lab)
    difference = lab - glass
    difference[..., 0] = np.minimum(difference[..., 0], 0)  # brighter than glass is glass
    distance = np.sqrt((difference**2).sum(-1))
    least = max(LEAST_DISTANCE, 4 * noise)
    threshold = least
    if distance.max() > least:
        clipped = np.minimum(distance, 8 * GREATEST_THRESHOLD)
        threshold = float(np.clip(0.5 * threshold_otsu(clipped), least, max(least, GREATEST_THRESHOLD)))
    mask = distance > threshold
    speck = max(16, round(2e-4 * mask.size))
    mask = _without_small(mask, speck)
    return ~_without_small(~mask, speck)


def without_unscanned(image: Array) -> Array:
    """An RGB uint8 image (h, w, 3) with white instead of black areas along its border, which were not scanned; the same
    image where there are none."""
    from scipy.ndimage import binary_dilation, label

    black = (image <= _BLACK).all(axis=2)
    border = np.zeros_like(black)
    border[[0, -1]] = border[:, [0, -1]] = True
    if not (black & border).any():
        return image
    areas, number = label(black)
    large = np.bincount(areas.ravel(), minlength=number + 1) >= _LEAST_UNSCANNED * black.size
    large &= np.bincount(areas[border], minlength=number + 1) > 0
    large[0] = False
    if not large.any():
        return image
    unscanned = binary_dilation(large[areas], iterations=2)  # pixels at its edge show half of each
    return np.where(unscanned[..., None], np.uint8(255), image)


def _glass(lab: Array) -> tuple[Array, float]:
    """The colour of glass (Lab) and the spread of its distance from that colour."""
    lightness, chroma = lab[..., 0], np.hypot(lab[..., 1], lab[..., 2])
    candidates = (lightness > 75) & (chroma < 15)
    scanned = candidates & ~((lightness > 99.7) & (chroma < 0.3))  # scanners fill what they leave out with pure white
    if scanned.mean() > 0.01:
        candidates = scanned
    if candidates.mean() < 0.002:
        return np.array([98.0, 0.0, 0.0]), 0.0
    histogram, edges = np.histogram(lightness[candidates], bins=np.arange(75, 101, 0.5))
    # the brightest mode that holds a fair part of the candidates, so that large pale tissue does not pass for glass
    enough = np.flatnonzero(histogram >= 0.1 * histogram.max())
    mode = edges[enough[-1]] + 0.25
    near = candidates & (np.abs(lightness - mode) < 1.5)
    colour = np.median(lab[near], axis=0)
    spread = float(np.median(np.sqrt(((lab[near] - colour) ** 2).sum(-1))))
    return colour, spread


def cie_lab(image: Array) -> Array:
    """CIE 1976 L*a*b* (D65, 2 degrees) of an sRGB uint8 image: float32 of the same shape."""
    ramp = np.arange(256) / 255
    linear = np.where(ramp > 0.04045, ((ramp + 0.055) / 1.055) ** 2.4, ramp / 12.92).astype(np.float32)
    to_xyz = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
    xyz = linear[image] @ (to_xyz / [[0.95047], [1.0], [1.08883]]).T.astype(np.float32)
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116).astype(np.float32)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def _median(image: Array) -> Array:
    """The median of each 3 x 3 neighbourhood and channel, by the exchange network of A. Paeth (1990)."""
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
    height, width = image.shape[:2]
    p = [padded[i : i + height, j : j + width] for i in range(3) for j in range(3)]

    def exchange(*pairs: tuple[int, int]) -> None:
        for a, b in pairs:
            p[a], p[b] = np.minimum(p[a], p[b]), np.maximum(p[a], p[b])

    exchange((1, 2), (4, 5), (7, 8), (0, 1), (3, 4), (6, 7), (1, 2), (4, 5), (7, 8), (0, 3))
    exchange((5, 8), (4, 7), (3, 6), (1, 4), (2, 5), (4, 7), (4, 2), (6, 4), (4, 2))
    return p[4]


def _without_small(mask: Array, most: int) -> Array:
    """The mask without its 4-connected pieces of up to ``most`` pixels."""
    from scipy.ndimage import label

    pieces, _ = label(mask)
    keep = np.bincount(pieces.ravel()) > most
    keep[0] = False
    return keep[pieces]
