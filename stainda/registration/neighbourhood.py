"""Square windows around objects: what the target shows there, and what the source shows as the registration lays it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from stainda.arrays import Array
from stainda.registration.affine import apply_affine
from stainda.registration.sections import SectionImage
from stainda.registration.similarity import optical_density
from stainda.registration.transforms import Between

NODES = 9  # per side of a window: the transform is evaluated there and interpolated between


class DensityPyramid:
    """The optical density of a section, blurred to what a sampling distance can show; each blur is made once."""

    def __init__(self, image: SectionImage) -> None:
        self.image = image
        self._density = optical_density(image.pixels)
        self._blurred: dict[int, Array] = {}

    def at(self, xy: Array, pitch: float) -> tuple[Array, Array]:
        """Densities at level-0 points (n, 2) that lie ``pitch`` level-0 pixels apart, and where there is image.

        A point without a place (NaN, between pieces of tissue) has density 0 and no image.
        """
        level = max(0, round(2 * np.log2(max(pitch / self.image.downsample, 1.0))))
        if level not in self._blurred:
            sigma = 0.5 * 2 ** (level / 2)
            self._blurred[level] = ndimage.gaussian_filter(self._density, sigma) if level else self._density
        x, y = apply_affine(self.image.matrix, np.where(np.isfinite(xy), xy, -1e9)).T
        rows, columns = self._density.shape
        inside = (x >= -0.5) & (y >= -0.5) & (x <= columns - 0.5) & (y <= rows - 0.5)
        values = ndimage.map_coordinates(self._blurred[level], (y, x), order=1, mode="nearest")
        return (values * inside).astype(np.float32), inside


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """A square window of the target, and the same window of the source.

    Attributes:
        source, target: optical density float32 (n, n). shown, inside: bool (n, n), where each slide has image.
        centre: of the window, level-0 pixels of the target. pitch: level-0 pixels of the target from sample to sample.
    """

    source: Array
    target: Array
    shown: Array
    inside: Array
    centre: Array
    pitch: float

    @classmethod
    def of(
        cls,
        densities: tuple[DensityPyramid, DensityPyramid],
        between: Between,
        centre: Array,
        side: float,
        cells: int,
        moved: Array | None = None,
    ) -> Neighbourhood:
        """The window around a point of the target.

        Args:
            densities: of the source and the target. between: the map from source to target.
            centre: (2,), level-0 pixels of the target. side: of the window, the same; cells: samples along it.
            moved: (2,), by how much the place lies from where ``between`` puts it, level-0 pixels of the target.
        """
        pitch = side / cells
        offsets = (np.arange(cells) + 0.5) * pitch - side / 2
        xs, ys = np.meshgrid(offsets, offsets)
        in_target = np.stack([xs.ravel(), ys.ravel()], 1) + centre
        in_source = _brought(between, centre if moved is None else centre - moved, side, cells)
        scale = float(np.sqrt(abs(np.linalg.det(between.matrix[:2, :2]))))
        first, shown = (part.reshape(cells, cells) for part in densities[0].at(in_source, pitch / max(scale, 1e-9)))
        second, inside = (part.reshape(cells, cells) for part in densities[1].at(in_target, pitch))
        return cls(first, second, shown, inside, np.asarray(centre, float), pitch)

    def samples(self, xy: Array) -> Array:
        """Where level-0 points (n, 2) of the target lie among the samples: (column, row), the first sample at 0."""
        middle = (len(self.target) - 1) / 2
        return np.asarray((xy - self.centre) / self.pitch + middle)


def _brought(between: Between, centre: Array, window: float, cells: int) -> Array:
    """Level-0 points of the source (cells², 2) that a window of the target shows: exact at nodes, linear between."""
    nodes = np.linspace(-window / 2, window / 2, NODES)
    gx, gy = np.meshgrid(nodes, nodes)
    exact = between.from_frame(np.stack([gx.ravel(), gy.ravel()], 1) + centre).reshape(NODES, NODES, 2)
    where = ((np.arange(cells) + 0.5) / cells) * (NODES - 1)
    low = np.minimum(where.astype(int), NODES - 2)
    part = (where - low)[:, None]
    rows = exact[low] * (1 - part[:, :, None]) + exact[low + 1] * part[:, :, None]
    full = rows[:, low] * (1 - part[None]) + rows[:, low + 1] * part[None]
    return full.reshape(-1, 2)
