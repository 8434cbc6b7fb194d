"""Bent transforms and smooth pictures, shared by the tests of registration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from stainda.registration.transforms import Transform, from_backward

SIZE, FRAME = (1200, 800), (1100, 900)


def random_field(seed: int, amplitude: float, smoothness: float = 9.0) -> np.ndarray:
    """A smooth field (2, 113, 138), at most ``amplitude`` lattice units."""
    noise = np.random.default_rng(seed).normal(size=(2, 113, 138))
    found = np.stack([ndimage.gaussian_filter(part, smoothness) for part in noise])
    return (found * amplitude / np.abs(found).max()).astype(np.float32)


def bent(slide: str = "a", seed: int = 1, amplitude: float = 4.0, angle: float = 0.2) -> Transform:
    """A turn and a deformation on a lattice of 8 px."""
    thin = np.diag([1 / 8, 1 / 8, 1.0])
    turn = np.array([[np.cos(angle), -np.sin(angle), 30], [np.sin(angle), np.cos(angle), -12], [0, 0, 1]])
    affine = Transform(slide, "ref", SIZE, FRAME, thin @ turn, np.linalg.inv(thin))
    return from_backward(affine, random_field(seed, amplitude))


def smooth_picture(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Write a picture without edges, so that interpolation is exact to a grey level; returns its pixels."""
    noise = np.random.default_rng(5).normal(size=(size[1], size[0], 3))
    picture = ndimage.gaussian_filter(noise, (6, 6, 0))
    pixels = (127 + 110 * picture / np.abs(picture).max()).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels
