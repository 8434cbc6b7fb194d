"""Solid shapes in micrometres, and how far points of a plane lie from their surfaces.

Two kinds suffice for a kidney: bodies (star-shaped about a centre, with lobes: glomeruli and what resembles them) and
tubes (a radius about a chain of segments: tubules, vessels). Distances are negative inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stainda.arrays import Array


@dataclass(frozen=True)
class Surface:
    """Star-shaped surfaces about shared centres: radius times 1 + sum_k height_k exp(sharpness (d . lobe_k - 1)).

    Attributes:
        radius: (n,) micrometres.
        lobes: (n, k, 3) unit directions.
        heights: (n, k) shares of the radius.
        sharpness: how narrow a lobe is; its angular width is about 1 / sqrt(sharpness).
    """

    radius: Array
    lobes: Array
    heights: Array
    sharpness: float

    def distance(self, index: int, dx: Array, dy: Array, dz: float) -> Array:
        """About how far, in the plane, points lie from surface ``index``; ``dx, dy, dz`` are from its centre."""
        away = np.sqrt(dx * dx + dy * dy + np.float32(dz * dz + 1e-6))
        inverse = 1 / away
        ux, uy, uz = dx * inverse, dy * inverse, np.float32(dz) * inverse
        factor = np.ones_like(away)
        sharpness = np.float32(self.sharpness)
        for (lx, ly, lz), height in zip(
            self.lobes[index].astype(np.float32), self.heights[index].astype(np.float32), strict=True
        ):
            along = ux * lx
            along += uy * ly
            along += uz * lz
            along -= 1
            along *= sharpness
            factor += height * np.exp(along)
        # along the radius, then across the plane: where the plane grazes the surface the two differ
        slant = away / np.sqrt(dx * dx + dy * dy + np.float32(1e-6))
        away -= factor * np.float32(self.radius[index])
        away *= np.minimum(slant, np.float32(8), out=slant)
        return away

    @property
    def reach(self) -> Array:
        """(n,) a radius that holds the whole surface."""
        return self.radius * (1 + np.clip(self.heights, 0, None).sum(axis=1))


def unit_vectors(rng: np.random.Generator, *shape: int) -> Array:
    vectors = rng.standard_normal((*shape, 3))
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@dataclass(frozen=True)
class Tubes:
    """Tubes as chains of segments.

    Attributes:
        start, end: (m, 3) micrometres, one row per segment.
        tube: (m,) which tube a segment belongs to.
        radius: (n,) micrometres, per tube.
        kind: (n,) index into the names the owner gives.
        wall: (n,) micrometres of wall (epithelium, or muscle).
        tint: (n,) random number in 0..1, for what differs from tube to tube.
    """

    start: Array
    end: Array
    tube: Array
    radius: Array
    kind: Array
    wall: Array
    tint: Array

    def discs(self, z: float, margin: float) -> tuple[Array, Array, Array]:
        """Where segments come within their radius plus ``margin`` of the plane ``z``.

        Returns segments (k,), centres (k, 2) and radii (k,) of discs that hold what they may change on the plane.
        """
        reach = self.radius[self.tube] + margin
        run = self.end - self.start
        with np.errstate(divide="ignore", invalid="ignore"):
            first = (z - reach - self.start[:, 2]) / run[:, 2]
            last = (z + reach - self.start[:, 2]) / run[:, 2]
        level = np.abs(run[:, 2]) < 1e-9
        near = np.abs(self.start[:, 2] - z) < reach
        low = np.where(level, np.where(near, 0.0, 2.0), np.clip(np.minimum(first, last), 0, 1))
        high = np.where(level, np.where(near, 1.0, 2.0), np.clip(np.maximum(first, last), 0, 1))
        crosses = np.where(level, near, (np.minimum(first, last) < 1) & (np.maximum(first, last) > 0))
        chosen = np.flatnonzero(crosses)
        a = self.start[chosen, :2] + low[chosen, None] * run[chosen, :2]
        b = self.start[chosen, :2] + high[chosen, None] * run[chosen, :2]
        return chosen, (a + b) / 2, np.linalg.norm(b - a, axis=1) / 2 + reach[chosen]

    def distance(self, segment: int, x: Array, y: Array, z: float) -> Array:
        """Distance of points of the plane ``z`` from the surface around one segment, float32."""
        ax, ay, az = (np.float32(v) for v in self.start[segment])
        bx, by, bz = (np.float32(v) for v in self.end[segment] - self.start[segment])
        dz = np.float32(z) - az
        px, py = x - ax, y - ay
        along = px * bx
        along += py * by
        along += dz * bz
        along *= np.float32(1 / max(float(bx * bx + by * by + bz * bz), 1e-9))
        np.clip(along, 0, 1, out=along)
        px -= along * bx
        py -= along * by
        away = px * px
        away += py * py
        lift = dz - along * bz
        lift *= lift
        away += lift
        np.sqrt(away, out=away)
        away -= np.float32(self.radius[self.tube[segment]])
        return away
