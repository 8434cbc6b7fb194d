"""Image formation: dyes absorb light, optics blur it, and the sensor counts it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from stainda.arrays import Array
from stainda.phantom.centres import Centre
from stainda.phantom.scene import Tile
from stainda.stains.table import STRUCTURES

# structure: (grain, blotch, how far its staining differs from tubule to tubule); shares of the amount of dye
_TEXTURE = {
    "debris": (0.5, 0.3, 0.0), "interstitium": (0.22, 0.22, 0.0), "fibrosis": (0.18, 0.26, 0.0),
    "capillary_wall": (0.15, 0.2, 0.0), "tubule_membrane": (0.08, 0.1, 0.0), "proximal": (0.20, 0.08, 0.30),
    "brush_border": (0.25, 0.12, 0.25), "distal": (0.16, 0.12, 0.25), "collecting_duct": (0.14, 0.14, 0.2),
    "cast": (0.05, 0.06, 0.15), "podocyte": (0.2, 0.2, 0.0), "mesangium": (0.16, 0.2, 0.0), 
    "tuft_wall": (0.1, 0.15, 0.0),
    "sclerosis": (0.10, 0.24, 0.0), "muscle": (0.2, 0.2, 0.0), "endothelium": (0.1, 0.1, 0.0), 
    "red_cell": (0.2, 0.3, 0.0),
    "macrophage": (0.35, 0.3, 0.0), "lymphoid_stroma": (0.2, 0.2, 0.0), "nucleus_tubule": (0.24, 0.12, 0.0),
    "nucleus_stroma": (0.15, 0.15, 0.0), "nucleus_tuft": (0.2, 0.12, 0.0), "nucleus_lymphoid": (0.15, 0.15, 0.0),
}  # fmt: skip
_TEXTURES = np.array([_TEXTURE.get(name, (0.0, 0.0, 0.0)) for name in STRUCTURES], dtype=np.float32)


NOISE_PERIOD = 509  # pixels: a prime, so that it does not fall in step with tiles


@dataclass(frozen=True)
class Camera:
    """Turns structures into an image for one slide: its dyes, its centre, its noise.

    ``noise`` (n, n, 3) float32 grey levels repeats every NOISE_PERIOD pixels and is longer than that, so that a tile
    can be cut from it in one piece.
    """

    vectors: Array
    amounts: Array
    centre: Centre
    thickness: float
    noise: Array

    def density(self, tile: Tile) -> Array:
        """Optical density (height, width, 3) float32."""
        labels = tile.labels
        grain, blotch, uneven = (column.take(labels) for column in _TEXTURES.T)
        grain *= tile.grain
        blotch *= tile.blotch
        grain += blotch
        uneven *= tile.tint * np.float32(2) - np.float32(1)
        grain += uneven
        grain += 1
        np.clip(grain, 0.05, 2.2, out=grain)
        grain *= tile.shade
        # each structure's colour as optical density: dyes add up (Beer-Lambert)
        table = ((self.amounts @ self.vectors) * self.thickness).astype(np.float32)
        out = np.empty((*labels.shape, 3), dtype=np.float32)
        for channel in range(3):
            np.multiply(table[:, channel].take(labels), grain, out=out[..., channel])
        return out

    def expose(self, density: Array, x: int, y: int) -> Array:
        """The image uint8 (height, width, 3) of optical densities whose top left pixel is level-0 (x, y)."""
        light = np.exp(density * np.float32(-np.log(10.0)))
        for channel in range(3):
            light[..., channel] = gaussian_filter(light[..., channel], self.centre.blur, truncate=3.0)
        light *= self.centre.white.astype(np.float32)
        if self.centre.gamma != 1.0:
            np.power(light, np.float32(self.centre.gamma), out=light)
        light *= 255
        light += self._sensor_noise(light.shape[0], light.shape[1], x, y)
        np.clip(light, 0, 255, out=light)
        light += 0.5
        return light.astype(np.uint8)

    def _sensor_noise(self, height: int, width: int, x: int, y: int) -> Array:
        period = NOISE_PERIOD
        top, left = y % period, x % period
        if top + height <= len(self.noise) and left + width <= len(self.noise):
            return self.noise[top : top + height, left : left + width]
        rows, columns = (np.arange(y, y + height) % period), (np.arange(x, x + width) % period)
        return self.noise[rows[:, None], columns[None]]
