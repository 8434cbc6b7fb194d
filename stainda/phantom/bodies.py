"""Drawing of glomeruli, and of bodies similar to them, into a tile of structures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stainda.arrays import Array
from stainda.phantom.grids import upsample
from stainda.phantom.tile import CutSection, Tile
from stainda.stains.table import STRUCTURES

CODE = {name: index for index, name in enumerate(STRUCTURES)}


@dataclass(frozen=True, eq=False)
class _Profile:
    """The cut of one body in a tile.

    Attributes:
        window: where it lies on the tile's middle grid. part: the same in pixels.
        outer: micrometres from its surface, negative inside, and medium: noise; both of the part, float32.
    """

    scene: CutSection
    tile: Tile
    body: int
    window: tuple[slice, slice]
    part: tuple[slice, slice]
    outer: Array
    medium: Array

    @property
    def labels(self) -> Array:
        """Of the part; what is written here is written into the tile."""
        return self.tile.labels[self.part]

    @property
    def blotch(self) -> Array:
        return self.tile.blotch[self.part]

    @property
    def in_tissue(self) -> Array:
        """Where no tubule lies, bool."""
        return self.tile.depth[self.part] <= 0

    def tuft(self) -> Array:
        """Micrometres from the tuft's surface, negative inside, float32 of the part."""
        bodies, window = self.scene.anatomy.bodies, self.window
        centre = bodies.centre[self.body]
        dx, dy = self.tile.bent[0][window] - np.float32(centre[0]), self.tile.bent[1][window] - np.float32(centre[1])
        return upsample(bodies.tuft.distance(self.body, dx, dy, self.scene.map.z - centre[2]), self.tile.grid.step)

    def smooth_noise(self, name: str, wavelength: float) -> Array:
        """Noise of the section, of the part."""
        x, y = self.tile.middle[0][self.window], self.tile.middle[1][self.window]
        return upsample(self.scene.noise(name, wavelength).smooth(x, y), self.tile.grid.step)

    def loops(self) -> Array:
        """Noise of capillary loops: high inside, low in mesangium."""
        return self.smooth_noise("loops", 17.0)


def draw_body(scene: CutSection, tile: Tile, body: int, window: tuple[slice, slice], medium: Array) -> None:
    """Draw body ``body`` into ``tile`` within ``window`` of the middle grid."""
    step = tile.grid.step
    part = (
        slice(window[0].start * step, (window[0].stop - 1) * step),
        slice(window[1].start * step, (window[1].stop - 1) * step),
    )
    outer = upsample(tile.body_distance[body], step)
    _DRAWERS[scene.body_kind(body)](_Profile(scene, tile, body, window, part, outer, medium[part]))


def _glomerulus(cut: _Profile) -> None:
    labels, outer, medium, blotch = cut.labels, cut.outer, cut.medium, cut.blotch
    labels[(outer < 2.6 + 1.5 * medium) & (outer >= 0) & cut.in_tissue] = CODE["fibrosis"]
    inside = outer < 0
    labels[inside] = CODE["bowman_space"]
    labels[inside & (outer > -2.0 - 0.2 * blotch)] = CODE["bowman_membrane"]
    edge = cut.tuft() + 1.6 * medium + 0.8 * blotch
    filled = (edge < 0) & (outer < -2.4)
    clefts = cut.smooth_noise("clefts", 75.0)  # between lobules: near 0
    loops = cut.loops() + 0.22 * blotch
    filled &= (np.abs(clefts) > 0.10) | (edge < -26)
    labels[filled] = CODE["podocyte"]
    deep = filled & (edge < -2.2)
    labels[deep & (loops < 0.05)] = CODE["mesangium"]
    labels[deep & (np.abs(loops - 0.22) <= 0.2)] = CODE["tuft_wall"]
    hollow = deep & (loops > 0.42)
    labels[hollow] = CODE["tuft_lumen"]
    labels[hollow & (medium > 1.0) & (blotch > -0.4)] = CODE["red_cell"]


def _sclerotic(cut: _Profile) -> None:
    labels, outer, medium = cut.labels, cut.outer, cut.medium
    labels[(outer < 4 + 1.5 * medium) & (outer >= 0) & cut.in_tissue] = CODE["fibrosis"]
    inside = outer < 0
    labels[inside] = CODE["sclerosis"]
    loops = cut.loops() + 0.3 * cut.blotch
    labels[inside & (loops < -0.75)] = CODE["fibrosis"]
    labels[inside & (loops > 1.6)] = CODE["tuft_lumen"]
    labels[inside & (outer < -4) & (outer > -9) & (medium > 0.9)] = CODE["bowman_space"]
    labels[inside & (outer > -2.8)] = CODE["bowman_membrane"]


def _lymphoid(cut: _Profile) -> None:
    cut.labels[cut.outer + 6 * cut.medium < 0] = CODE["lymphoid_stroma"]


def _casts(cut: _Profile) -> None:
    labels = cut.labels
    inside = cut.outer + 2 * cut.medium < 0
    cells = cut.smooth_noise("casts", 34.0)
    labels[inside] = CODE["distal"]
    labels[inside & (cells > 0.05)] = CODE["cast"]
    labels[inside & (np.abs(cells + 0.75) < 0.14)] = CODE["tubule_membrane"]
    labels[inside & (cells < -0.9)] = CODE["interstitium"]


def _scar(cut: _Profile) -> None:
    labels, medium, blotch = cut.labels, cut.medium, cut.blotch
    inside = cut.outer + 2.5 * medium < 0
    labels[inside] = CODE["fibrosis"]
    labels[inside & (medium + 0.6 * blotch > 1.15)] = CODE["interstitium"]
    labels[inside & (medium - 0.6 * blotch < -1.35)] = CODE["lumen"]


def _granuloma(cut: _Profile) -> None:
    cut.labels[cut.outer + 4 * cut.medium < 0] = CODE["lymphoid_stroma"]


def _plexus(cut: _Profile) -> None:
    labels = cut.labels
    inside = cut.outer + 2 * cut.medium < 0
    loops = cut.loops() + 0.3 * cut.blotch
    labels[inside] = CODE["interstitium"]
    labels[inside & (loops > 0.0)] = CODE["capillary_wall"]
    labels[inside & (loops > 0.5)] = CODE["capillary_lumen"]


_DRAWERS = {
    "glomerulus": _glomerulus, "sclerotic": _sclerotic, "lymphoid": _lymphoid, "casts": _casts, "scar": _scar,
    "granuloma": _granuloma, "plexus": _plexus,
}  # fmt: skip
