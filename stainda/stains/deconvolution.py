"""Optical density and colour deconvolution on numpy images (Ruifrok and Johnston 2001, Anal Quant Cytol Histol 23:291).

Light that passes a section is weakened per colour channel by each dye in proportion to its amount (Beer-Lambert):
``OD = -log10(I / 255)``, and ``OD = amounts @ vectors`` with one row of ``vectors`` per dye.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stainda.arrays import Array
from stainda.errors import ConfigError

DARKEST = 1 / 255
"""Intensities below one step of an 8-bit image count as that step: black has the optical density 2.41."""

_RUIFROK = ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78))


def _unit_rows(vectors: ArrayLike) -> NDArray[np.float64]:
    rows = np.asarray(vectors, dtype=np.float64)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


HED_MATRIX: NDArray[np.float64] = _unit_rows(_RUIFROK)
"""Unit optical densities (3, 3) of haematoxylin, eosin and DAB, as published by Ruifrok and Johnston."""


def optical_density(image: Array) -> NDArray[np.float32]:
    """Optical density of an image.

    Args:
        image: (..., 3), uint8 in 0..255 or float in 0..1.

    Returns:
        float32 of the same shape: 0 for white, 2.41 for black.
    """
    if image.dtype == np.uint8:
        return _OD_OF_BYTE[image]
    return -np.log10(np.clip(image, DARKEST, 1.0)).astype(np.float32)


_OD_OF_BYTE = -np.log10(np.maximum(np.arange(256), 1) / 255).astype(np.float32)


def intensity(density: Array) -> NDArray[np.uint8]:
    """The uint8 image of an optical density; inverse of :func:`optical_density`, but for level 0, which gives 1."""
    return np.clip(np.rint(255 * np.power(10.0, -density)), 0, 255).astype(np.uint8)


def completed(vectors: ArrayLike) -> NDArray[np.float64]:
    """Dye vectors (k, 3), k = 1..3, as an invertible (3, 3) matrix of unit rows.

    A missing third row is the residual: orthogonal to the first two. A single dye is completed by the direction of
    grey orthogonal to it first.

    Raises:
        ConfigError: a vector is null, or two of them (nearly) coincide.
    """
    rows = np.atleast_2d(np.asarray(vectors, dtype=np.float64))
    if rows.shape[1:] != (3,) or not 1 <= len(rows) <= 3:
        raise ConfigError(f"dye vectors must be 1 to 3 rows of 3 numbers, not of shape {rows.shape}")
    if (np.linalg.norm(rows, axis=1) < 1e-6).any():
        raise ConfigError("a dye vector is null", remedy="Give the optical density of the dye in red, green and blue")
    rows = _unit_rows(rows)
    if len(rows) == 1:
        grey = np.ones(3) - rows[0].sum() * rows[0]
        if np.linalg.norm(grey) < 1e-3:
            grey = np.array([1.0, -1.0, 0.0])
        rows = np.vstack([rows, _unit_rows(grey)])
    if len(rows) == 2:
        rest = np.cross(rows[0], rows[1])
        if np.linalg.norm(rest) < 1e-3:
            raise ConfigError("two dye vectors coincide", remedy="Give vectors of different colours")
        rows = np.vstack([rows, _unit_rows(rest)])
    if abs(np.linalg.det(rows)) < 1e-4:
        raise ConfigError("the dye vectors lie in one plane", remedy="Give vectors of different colours")
    return rows


def separate(image: Array, matrix: ArrayLike = HED_MATRIX) -> NDArray[np.float32]:
    """Amounts of dye per pixel.

    Args:
        image: (..., 3), uint8 or float in 0..1.
        matrix: dye vectors (k, 3); fewer than three are completed by residuals.

    Returns:
        float32 (..., 3), one channel per row of the completed matrix; negative where a pixel's colour lies outside
        the cone of the dyes.

    Raises:
        ConfigError: the vectors cannot be distinguished.
    """
    inverse = np.linalg.inv(completed(matrix)).astype(np.float32)
    return optical_density(image) @ inverse


def combine(amounts: Array, matrix: ArrayLike = HED_MATRIX) -> NDArray[np.uint8]:
    """The uint8 image (..., 3) of amounts (..., 3): the inverse of :func:`separate`."""
    return intensity(np.asarray(amounts) @ completed(matrix))
