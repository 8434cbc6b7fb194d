"""Stain vectors by sparse non-negative matrix factorisation (Vahadane et al. 2016, doi 10.1109/TMI.2016.2529665).

Each pixel's optical density is a non-negative mixture of few dyes, and most pixels hold mainly one of them:
``min ||V - H W||² / 2 + lambda sum(H)`` over amounts ``H >= 0`` (n, k) and unit rows ``W >= 0`` (k, 3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stainda.stains.deconvolution import completed, optical_density
from stainda.stains.fits import FAINTEST, NARROWEST, MacenkoFit, checked, three

SPARSITY = 0.1 / math.log(10)
"""Lambda in base-10 optical density; 0.1 in natural units, as the authors set it."""

_ROUNDS, _SWEEPS, _SETTLED = 200, 8, 1e-5


@dataclass(frozen=True)
class VahadaneFit:
    """Two or three stain vectors and how strongly they are present.

    ``vectors`` is (k, 3), unit rows of optical density, the one that takes more red light first; ``strengths`` the 99th
    percentiles of their amounts. ``fallback`` says why the fit cannot be used (empty: it can).
    """

    vectors: tuple[tuple[float, float, float], ...]
    strengths: tuple[float, ...]
    n_pixels: int
    fallback: str = ""

    @classmethod
    def fit(cls, pixels: NDArray[np.uint8], stains: int = 2) -> VahadaneFit:
        """Fit to tissue pixels, uint8 (n, 3). The search starts from Macenko's vectors, so it draws nothing at random.

        Args:
            stains: number of dyes, 2 or 3.
        """
        start = MacenkoFit.fit(pixels)
        if start.fallback:
            return cls._none(start.n_pixels, stains, start.fallback)
        density = optical_density(checked(pixels)).astype(np.float64)
        stained = density[np.linalg.norm(density, axis=1) > FAINTEST]
        rows = np.asarray(start.vectors)
        if stains == 3:
            rows = np.vstack([rows, _third(stained, rows)])
        rows, amounts = factorise(stained, rows)
        order = np.argsort(-rows[:, 0], kind="stable")
        rows, amounts = rows[order], amounts[:, order]
        for first in range(stains):
            for second in range(first):
                if np.linalg.norm(np.cross(rows[first], rows[second])) < NARROWEST:
                    return cls._none(len(stained), stains, "two stain vectors coincide: fewer colours are found")
        if stains == 3 and abs(np.linalg.det(rows)) < NARROWEST**2:
            return cls._none(len(stained), stains, "the three stain vectors lie in one plane: only two are found")
        strengths = np.percentile(stained @ np.linalg.inv(completed(rows))[:, :stains], 99, axis=0)
        if strengths.min() < 0.02 or amounts.max(axis=0).min() <= 0:
            return cls._none(len(stained), stains, "one of the stains is not present")
        return cls(tuple(three(row) for row in rows), tuple(float(strength) for strength in strengths), len(stained))

    @classmethod
    def _none(cls, n_pixels: int, stains: int, reason: str) -> VahadaneFit:
        rows = tuple(three(row) for row in np.eye(3)[:stains])
        return cls(rows, (1.0,) * stains, n_pixels, reason)


def factorise(
    density: NDArray[np.float64], start: NDArray[np.float64], sparsity: float = SPARSITY
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit rows W (k, 3) and amounts H (n, k) that (locally) minimise ``||V - H W||² / 2 + sparsity sum(H)``.

    Coordinate descent in turns over the amounts (exact per coordinate, clipped at 0) and over the rows (exact, clipped
    at 0, brought back to unit length: Mairal et al. 2010, online dictionary learning, section 3.4).

    Args:
        density: V (n, 3).
        start: rows to start from (k, 3).
    """
    rows = start.clip(min=0) / np.linalg.norm(start.clip(min=0), axis=1, keepdims=True)
    amounts = (density @ np.linalg.pinv(rows)).clip(min=0)
    for _ in range(_ROUNDS):
        gram, product = rows @ rows.T, density @ rows.T - sparsity
        for _ in range(_SWEEPS):
            for index in range(len(rows)):
                rest = amounts @ gram[:, index] - amounts[:, index] * gram[index, index]
                amounts[:, index] = ((product[:, index] - rest) / gram[index, index]).clip(min=0)
        before, weight, mixed = rows.copy(), amounts.T @ amounts, amounts.T @ density
        for index in range(len(rows)):
            if weight[index, index] > 1e-12:  # a dye that no pixel holds keeps its direction
                row = (rows[index] + (mixed[index] - weight[index] @ rows) / weight[index, index]).clip(min=0)
                if (length := np.linalg.norm(row)) > 1e-9:
                    rows[index] = row / length
        if np.abs(rows - before).max() < _SETTLED:
            break
    return rows, amounts


def _third(stained: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean direction of the hundredth of the pixels that lie farthest from the plane of two vectors."""
    away = stained @ completed(rows)[2] / np.linalg.norm(stained, axis=1)
    side = away if np.percentile(away, 99) > -np.percentile(away, 1) else -away
    far = stained[side >= np.percentile(side, 99)]
    mean = (far / np.linalg.norm(far, axis=1, keepdims=True)).mean(axis=0).clip(min=0)
    return mean / np.linalg.norm(mean)
