"""True deformation of a section: an exact map between its pixels and the block, invertible.

``to_frame`` takes level-0 pixels of a section to micrometres in the frame of its block::

    q = M xy + t,        frame = q + sum_k a_k sin(w_k . q + phase_k)

The sum of slow waves has a Lipschitz constant below ``MAX_STRAIN`` < 1, so the map is a diffeomorphism of the plane and
Newton's method with the fixed-point start finds its inverse everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stainda.arrays import Array
from stainda.errors import SlideError
from stainda.files import whole_file

MAX_STRAIN = 0.45
_VERSION = 1


@dataclass(frozen=True)
class TrueMap:
    """The exact map between a section and its block's frame.

    Attributes:
        matrix: (2, 2), micrometres per pixel, with rotation, shrinkage and perhaps a reflection.
        shift: (2,) micrometres.
        waves: (k, 2) radians per micrometre.
        phases: (k,) radians.
        amplitudes: (k, 2) micrometres.
        mpp: micrometres per level-0 pixel as the scanner states it.
        z: height of the section in the block, micrometres.
        artefacts: names of the artefacts put on the section.
    """

    matrix: Array
    shift: Array
    waves: Array
    phases: Array
    amplitudes: Array
    mpp: float
    z: float
    artefacts: tuple[str, ...] = ()

    @property
    def mirrored(self) -> bool:
        return bool(np.linalg.det(self.matrix) < 0)

    @property
    def strain(self) -> float:
        """A bound of how much the waves stretch or squeeze locally; the map is invertible below 1."""
        return float(np.sum(np.linalg.norm(self.amplitudes, axis=1) * np.linalg.norm(self.waves, axis=1)))

    def to_frame(self, xy: Array) -> Array:
        """Level-0 pixels (n, 2) to micrometres in the block's frame (n, 2)."""
        return self._bend(self._straight(xy))

    def from_frame(self, frame: Array, tolerance: float = 1e-7) -> Array:
        """Micrometres in the block's frame (n, 2) to level-0 pixels (n, 2), exact to ``tolerance`` micrometres."""
        frame = np.asarray(frame, dtype=np.float64).reshape(-1, 2)
        q = frame.copy()
        for _ in range(60):
            error = frame - self._bend(q)
            if not error.size or np.abs(error).max() < tolerance:
                break
            q += np.linalg.solve(self._bend_jacobian(q), error[..., None])[..., 0]
        return (q - self.shift) @ np.linalg.inv(self.matrix).T

    def jacobian(self, xy: Array) -> Array:
        """Derivative of :meth:`to_frame` (n, 2, 2), micrometres per pixel."""
        return self._bend_jacobian(self._straight(xy)) @ self.matrix

    def save(self, path: str | Path, **extra: Array) -> Path:
        """Write the map, and named arrays next to it, as one npz without pickles."""
        with whole_file(path) as aside, aside.open("wb") as stream:
            np.savez_compressed(
                stream, version=np.array(_VERSION), matrix=self.matrix, shift=self.shift, waves=self.waves,
                phases=self.phases, amplitudes=self.amplitudes, mpp=np.array(self.mpp), z=np.array(self.z),
                artefacts=np.array(self.artefacts, dtype=np.str_), **extra,
            )  # fmt: skip
        return Path(path)

    def _straight(self, xy: Array) -> Array:
        return np.asarray(xy, dtype=np.float64).reshape(-1, 2) @ self.matrix.T + self.shift

    def _bend(self, q: Array) -> Array:
        return q + np.sin(q @ self.waves.T + self.phases) @ self.amplitudes

    def _bend_jacobian(self, q: Array) -> Array:
        slope = np.cos(q @ self.waves.T + self.phases)
        return np.eye(2) + np.einsum("nk,ki,kj->nij", slope, self.amplitudes, self.waves)


def true_map(path: str | Path) -> TrueMap:
    """The true map of a section, from its ``truth/<slide>.npz``.

    Raises:
        SlideError: the file is missing or is not a truth file.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            return TrueMap(
                matrix=data["matrix"], shift=data["shift"], waves=data["waves"], phases=data["phases"],
                amplitudes=data["amplitudes"], mpp=float(data["mpp"]), z=float(data["z"]),
                artefacts=tuple(str(name) for name in data["artefacts"]),
            )  # fmt: skip
    except (OSError, KeyError, ValueError) as error:
        raise SlideError(
            f"not a truth file of the synthetic cohort ({error})", file=path, remedy="Name a file in its truth/ folder"
        ) from error


def random_map(
    rng: np.random.Generator,
    size: int,
    mpp: float,
    z: float,
    *,
    difficulty: float = 1.0,
    mirrored: bool = False,
    artefacts: tuple[str, ...] = (),
) -> TrueMap:
    """A section's placement on the glass: turned, shifted, shrunk and bent, more so with ``difficulty``.

    Turns up to 12 degrees, shifts up to 2 % and bends of up to about 8 um at difficulty 1.
    """
    strength = min(difficulty, 2.0)
    angle = np.deg2rad(rng.uniform(-12, 12) * strength)
    cos, sin = np.cos(angle), np.sin(angle)
    scale = 1 + rng.uniform(-0.012, 0.012, 2) * strength
    matrix = np.array([[cos, -sin], [sin, cos]]) @ np.diag(scale) * mpp
    if mirrored:
        matrix = matrix @ np.diag([-1.0, 1.0])
    centre = np.full(2, size / 2)
    shift = -matrix @ centre + rng.uniform(-0.02, 0.02, 2) * strength * size * mpp
    number = 8
    wavelength = np.exp(rng.uniform(np.log(350), np.log(1600), number))
    heading = rng.uniform(0, 2 * np.pi, number)
    waves = (2 * np.pi / wavelength)[:, None] * np.stack([np.cos(heading), np.sin(heading)], axis=1)
    side = rng.uniform(0, 2 * np.pi, number)
    size_um = 5.0 * difficulty * wavelength / 900 * rng.uniform(0.3, 1.0, number)
    amplitudes = size_um[:, None] * np.stack([np.cos(side), np.sin(side)], axis=1)
    strain = float(np.sum(np.linalg.norm(amplitudes, axis=1) * np.linalg.norm(waves, axis=1)))
    amplitudes *= min(1.0, MAX_STRAIN / max(strain, 1e-9))
    return TrueMap(matrix, shift, waves, rng.uniform(0, 2 * np.pi, number), amplitudes, mpp, z, artefacts)
