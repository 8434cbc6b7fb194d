"""Colour fits of a slide's tissue to a sample of pixels, with a reason where a fit cannot be used."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from stainda.arrays import Array
from stainda.errors import ConfigError
from stainda.stains.colour import lab_from_rgb
from stainda.stains.deconvolution import completed, optical_density

FEWEST_PIXELS = 200
"""A fit on fewer tissue pixels is refused."""

FAINTEST = 0.15  # Euclidean length of optical density from which a pixel counts as stained; Macenko's beta
NARROWEST = 0.1  # sine of the smallest angle between two stain vectors that still are two


@dataclass(frozen=True)
class ReinhardStatistics:
    """Mean and standard deviation of L*, a*, b* over tissue (Reinhard et al. 2001, doi 10.1109/38.946629).

    ``fallback`` says why the statistics cannot be used (empty: they can).
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    n_pixels: int
    fallback: str = ""

    @classmethod
    def fit(cls, pixels: NDArray[np.uint8]) -> ReinhardStatistics:
        """Fit to tissue pixels, uint8 (n, 3)."""
        pixels = checked(pixels)
        if len(pixels) < FEWEST_PIXELS:
            reason = f"{len(pixels)} tissue pixels, at least {FEWEST_PIXELS} are needed"
            return cls((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), len(pixels), reason)
        rgb = torch.from_numpy(pixels.astype(np.float64) / 255).T[None, :, None]
        lab = lab_from_rgb(rgb)[0, :, 0].numpy()
        mean, std = lab.mean(axis=1), lab.std(axis=1)
        reason = "tissue of a single colour" if std.min() < 1e-2 else ""
        return cls(three(mean), three(std), len(pixels), reason)


@dataclass(frozen=True)
class MacenkoFit:
    """Two stain vectors and how strongly they are present (Macenko et al. 2009, doi 10.1109/ISBI.2009.5193250).

    ``vectors`` is (2, 3), unit rows of optical density, the one that takes more red light first (haematoxylin next to
    eosin, Schiff or DAB); ``strengths`` the 99th percentiles of their amounts. ``fallback`` says why the fit cannot be
    used (empty: it can).
    """

    vectors: tuple[tuple[float, float, float], tuple[float, float, float]]
    strengths: tuple[float, float]
    n_pixels: int
    fallback: str = ""

    @classmethod
    def fit(cls, pixels: NDArray[np.uint8], percentile: float = 1.0) -> MacenkoFit:
        """Fit to tissue pixels, uint8 (n, 3): the extreme angles in the plane of the two first singular vectors."""
        density = optical_density(checked(pixels)).astype(np.float64)
        stained = density[np.linalg.norm(density, axis=1) > FAINTEST]
        if len(stained) < FEWEST_PIXELS:
            return cls._none(len(stained), f"{len(stained)} stained pixels, at least {FEWEST_PIXELS} are needed")
        if stained.std(axis=0).max() < 1e-3:
            return cls._none(len(stained), "tissue of a single colour")
        _, directions = np.linalg.eigh(stained.T @ stained)
        plane = directions[:, [2, 1]]
        plane = plane * np.where(stained.mean(axis=0) @ plane < 0, -1, 1)
        projected = stained @ plane
        angles = np.arctan2(projected[:, 1], projected[:, 0])
        low, high = np.percentile(angles, [percentile, 100 - percentile])
        rows = np.stack([plane @ [np.cos(angle), np.sin(angle)] for angle in (low, high)]).clip(min=0)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        if lengths.min() < 1e-6:
            return cls._none(len(stained), "a stain vector without positive optical density")
        rows /= lengths
        if np.linalg.norm(np.cross(rows[0], rows[1])) < NARROWEST:
            return cls._none(len(stained), "the two stain vectors coincide: only one colour is found")
        rows = rows[np.argsort(-rows[:, 0], kind="stable")]
        amounts = stained @ np.linalg.inv(completed(rows))[:, :2]
        strengths = np.percentile(amounts, 99, axis=0)
        if strengths.min() < 0.02:
            return cls._none(len(stained), "one of the two stains is not present")
        vectors = (three(rows[0]), three(rows[1]))
        return cls(vectors, (float(strengths[0]), float(strengths[1])), len(stained))

    @classmethod
    def _none(cls, n_pixels: int, reason: str) -> MacenkoFit:
        return cls(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)), (1.0, 1.0), n_pixels, reason)


def checked(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """
    Raises:
        ConfigError: not uint8 of shape (n, 3).
    """
    pixels = np.asarray(pixels)
    if pixels.ndim != 2 or pixels.shape[1] != 3 or pixels.dtype != np.uint8:
        raise ConfigError(f"tissue pixels must be uint8 of shape (n, 3), not {pixels.dtype} {pixels.shape}")
    return pixels


def three(values: Array) -> tuple[float, float, float]:
    """Three plain numbers."""
    return float(values[0]), float(values[1]), float(values[2])
