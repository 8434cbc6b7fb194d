"""Random texture in 3-D: smooth periodic noise, cut by the plane of a section.

A volume of noise with one typical wavelength is made once per seed by filtering white noise in Fourier space;
neighbouring planes of it look alike, as neighbouring sections do. A plane is looked up by nearest neighbour on a fine
periodic grid, which costs a few nanoseconds per pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from stainda.arrays import Array
from stainda.randomness import generator_for

_SIDE = 256  # voxels across, a power of two
_DEPTH = 32
_FINER = 2  # points of a plane per voxel
_POSITIVE = 2**16  # a multiple of the period that makes coordinates positive, so that casting rounds down


@dataclass(frozen=True)
class NoisePlane:
    """One plane of noise, periodic: ``values`` (n, n) float32 of mean 0 and variance 1, ``step`` micrometres apart.

    ``origin`` (x, y) shifts it, in points.
    """

    values: Array
    step: float
    origin: tuple[float, float] = (0.0, 0.0)

    def indices(self, x: Array, y: Array) -> Array:
        """Flat indices of points (micrometres), to look several planes of one grid up at the same place."""
        side = self.values.shape[0]
        inverse = np.float32(1.0 / self.step)
        column = (x * inverse + np.float32(_POSITIVE + self.origin[0])).astype(np.int32)
        row = (y * inverse + np.float32(_POSITIVE + self.origin[1])).astype(np.int32)
        column &= side - 1
        row &= side - 1
        row *= side
        row += column
        return row

    def smooth(self, x: Array, y: Array) -> Array:
        """Noise interpolated linearly between its points, for long wavelengths looked up on a coarse grid."""
        inverse = np.float32(1.0 / self.step)
        column = x * inverse + np.float32(_POSITIVE + self.origin[0])
        row = y * inverse + np.float32(_POSITIVE + self.origin[1])
        j, i = column.astype(np.int32), row.astype(np.int32)
        u, v = column - j, row - i
        side = self.values.shape[0]
        j0, j1, i0, i1 = j & (side - 1), (j + 1) & (side - 1), i & (side - 1), (i + 1) & (side - 1)
        values = self.values
        upper = values[i0, j0] * (1 - u) + values[i0, j1] * u
        lower = values[i1, j0] * (1 - u) + values[i1, j1] * u
        return upper * (1 - v) + lower * v

    def at(self, x: Array, y: Array) -> Array:
        return self.values.ravel().take(self.indices(x, y))


@lru_cache(maxsize=1)
def _volume() -> Array:
    """(depth, side, side) float32 noise of wavelength about 5 voxels, mean 0, variance 1, periodic in all axes.

    One volume serves all: every noise of every block reads it from another place.
    """
    rng = generator_for(0, "noise volume")
    white = rng.standard_normal((_DEPTH, _SIDE, _SIDE), dtype=np.float32)
    kz = np.fft.fftfreq(_DEPTH)[:, None, None]
    ky = np.fft.fftfreq(_SIDE)[None, :, None]
    kx = np.fft.rfftfreq(_SIDE)[None, None, :]
    k = np.sqrt(kx**2 + ky**2 + kz**2)
    band = np.exp(-0.5 * ((k - 0.2) / 0.08) ** 2)
    band[0, 0, 0] = 0
    noise = np.fft.irfftn(np.fft.rfftn(white) * band, s=white.shape, axes=(0, 1, 2))
    return (noise / noise.std()).astype(np.float32)


@lru_cache(maxsize=40)
def noise_plane(seed: int, name: str, wavelength: float, z: float) -> NoisePlane:
    """The plane at height ``z`` (micrometres) of the noise called ``name`` with this wavelength (micrometres)."""
    voxel = wavelength / 5
    volume = _volume()
    x0, y0, z0 = generator_for(seed, "noise", name).random(3)
    place = (z / voxel + z0 * _DEPTH) % _DEPTH
    below = int(place) % _DEPTH
    share = place - int(place)
    plane = (1 - share) * volume[below] + share * volume[(below + 1) % _DEPTH]
    spectrum = np.fft.rfft2(plane)
    side = _SIDE * _FINER
    wide = np.zeros((side, side // 2 + 1), dtype=complex)
    half = _SIDE // 2
    wide[:half, :half] = spectrum[:half, :half]
    wide[-half + 1 :, :half] = spectrum[-half + 1 :, :half]
    fine = np.fft.irfft2(wide, s=(side, side))
    return NoisePlane((fine / max(fine.std(), 1e-9)).astype(np.float32), voxel / _FINER, (x0 * side, y0 * side))
