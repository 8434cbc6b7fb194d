"""Optical density and deconvolution against known mixtures and scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import color
from skimage.io import imread

from stainda.errors import ConfigError
from stainda.stains import HED_MATRIX, combine, completed, intensity, optical_density, separate
from stainda.stains.colour import greyscale, lab_from_rgb, rgb_from_lab, separate_tensor


def _image(seed=0, size=24):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def _batch(image):
    return torch.from_numpy(image).permute(2, 0, 1)[None].double() / 255


def test_optical_density_of_known_light():
    assert optical_density(np.full((1, 3), 255, np.uint8)).max() == 0
    assert optical_density(np.full((1, 3), 0.1)) == pytest.approx(np.ones((1, 3)))  # a tenth of the light
    levels = np.arange(1, 256, dtype=np.uint8)
    assert (intensity(optical_density(levels)) == levels).all()
    assert np.isfinite(optical_density(np.zeros((2, 3), np.uint8))).all()


def test_amounts_that_were_mixed_come_back():
    amounts = np.random.default_rng(1).uniform(0, 0.5, (16, 16, 3))
    image = np.power(10.0, -(amounts @ HED_MATRIX))
    assert np.abs(separate(image) - amounts).max() < 1e-4
    assert np.abs(separate(combine(amounts)) - amounts).max() < 0.05  # rounded to 8 bit


@pytest.mark.parametrize("dyes", [1, 2, 3])
def test_missing_dyes_are_residuals(dyes):
    matrix = completed(HED_MATRIX[:dyes])
    assert np.allclose(np.linalg.norm(matrix, axis=1), 1) and np.allclose(matrix[:dyes], HED_MATRIX[:dyes])
    assert np.allclose(matrix[dyes:] @ matrix[:dyes].T, 0, atol=1e-9)


def test_agrees_with_scikit_image():
    image = _image()
    published = color.separate_stains(
        image, np.linalg.inv(HED_MATRIX)
    )  # negative amounts are cut there, in other units
    ours = separate(image)
    unit = -np.log10(1e-6)
    assert np.abs(np.maximum(ours, 0) - published * unit).max() < 2e-3 * unit or _clipped_apart(image, ours, published)


def _clipped_apart(image, ours, published):
    inside = (image > 0).all(-1) & (ours >= 0).all(-1)
    return np.abs(ours[inside] - published[inside] * -np.log10(1e-6)).max() < 1e-3


def test_torch_and_numpy_separate_alike():
    image = _image(3)
    ours = separate_tensor(_batch(image).float(), torch.tensor(HED_MATRIX, dtype=torch.float32))
    assert np.abs(ours[0].permute(1, 2, 0).numpy() - separate(image)).max() < 1e-4


@pytest.mark.parametrize("vectors", [[[0, 0, 0]], [[1, 1, 1], [2, 2, 2]], [[1, 0, 0], [0, 1, 0], [1, 1, 0]]])
def test_dyes_that_cannot_be_told_apart_are_refused(vectors):
    with pytest.raises(ConfigError):
        separate(_image(), vectors)


def test_lab_agrees_with_scikit_image_and_comes_back():
    image = _image(4)
    lab = lab_from_rgb(_batch(image))
    assert np.abs(lab[0].permute(1, 2, 0).numpy() - color.rgb2lab(image)).max() < 1e-2
    assert torch.allclose(rgb_from_lab(lab), _batch(image), atol=1e-4)


def test_greyscale_agrees_with_scikit_image():
    image = _image(5)
    assert np.abs(greyscale(_batch(image))[0, 0].numpy() - color.rgb2gray(image)).max() < 1e-6


def test_dab_of_a_real_macrophage_stain_is_brown(real_data):
    image = imread(real_data / "kidney_stains_hannover" / "orig_patch_stain_16.png")[::4, ::4, :3]
    dab = separate(image)[..., 2]
    brown = image[dab > np.percentile(dab, 99.5)].mean(axis=0)
    rest = image[dab < np.percentile(dab, 50)].mean(axis=0)
    assert brown[0] - brown[2] > 20 > rest[0] - rest[2]
