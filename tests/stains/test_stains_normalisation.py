"""Normalisation finds the stains that were put in, and leaves alone what it cannot estimate."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from skimage.io import imread

from stainda.errors import ConfigError, SlideError
from stainda.stains import ColourNormaliser, MacenkoFit, ReinhardStatistics, intensity, optical_density

HAEMATOXYLIN, EOSIN = np.array([0.65, 0.70, 0.29]), np.array([0.07, 0.99, 0.11])


def tissue(first=HAEMATOXYLIN, second=EOSIN, strength=1.0, n=4000, seed=0):
    """Pixels of two dyes: nuclei (mostly the first), cytoplasm (mostly the second)."""
    draw = np.random.default_rng(seed)
    nuclei = draw.random(n) < 0.4
    amounts = np.where(nuclei[:, None], [0.8, 0.02], [0.02, 0.5]) * draw.uniform(0.6, 1.2, (n, 1)) * strength
    vectors = np.stack([first / np.linalg.norm(first), second / np.linalg.norm(second)])
    return intensity(amounts @ vectors)


@pytest.mark.parametrize("swap", [False, True])
def test_macenko_finds_the_vectors_that_were_mixed(swap):
    pair = (EOSIN, HAEMATOXYLIN) if swap else (HAEMATOXYLIN, EOSIN)
    fit = MacenkoFit.fit(tissue(*pair))
    assert not fit.fallback
    for found, true in zip(np.array(fit.vectors), (HAEMATOXYLIN, EOSIN), strict=True):
        assert found @ true / np.linalg.norm(true) > np.cos(np.radians(4))


def test_reinhard_matches_mean_and_spread_of_lab():
    from skimage.color import rgb2lab

    pixels = tissue()
    fit = ReinhardStatistics.fit(pixels)
    lab = rgb2lab(pixels[None])[0]
    assert np.allclose(fit.mean, lab.mean(0), atol=0.02) and np.allclose(fit.std, lab.std(0), atol=0.02)


@pytest.mark.parametrize("method", ["macenko", "reinhard"])
def test_another_scanners_colours_become_the_templates(method):
    """The same tissue stained half as strongly and with shifted dyes is nearer to the template afterwards."""
    source, other = tissue(), tissue(np.array([0.55, 0.75, 0.36]), np.array([0.15, 0.95, 0.25]), 0.55)
    normaliser = ColourNormaliser.fit(method, {"s": source, "t": other}, ["s"])
    before = np.abs(other.astype(float) - source).mean()
    after = np.abs(normaliser.apply_array(other[None], "t")[0].astype(float) - source).mean()
    assert after < 0.35 * before


@pytest.mark.parametrize("method", ["macenko", "reinhard"])
def test_a_template_slide_hardly_changes(method):
    normaliser = ColourNormaliser.fit(method, {"s": tissue()}, ["s"])
    assert np.abs(normaliser.apply_array(tissue()[None], "s").astype(int) - tissue()[None]).max() <= 1


@pytest.mark.parametrize("method", ["macenko", "reinhard"])
def test_glass_stays_white_and_black_stays_finite(method):
    normaliser = ColourNormaliser.fit(method, {"s": tissue(), "t": tissue(strength=0.4)}, ["s"])
    assert normaliser.apply_array(np.full((4, 4, 3), 255, np.uint8), "t").min() >= 254
    out = normaliser.apply(torch.zeros(1, 3, 4, 4), ["t"])
    assert out.isfinite().all() and out.max() < 0.1


UNUSABLE = {
    "empty": np.zeros((0, 3), np.uint8),
    "few": tissue(n=50),
    "glass": np.full((5000, 3), 255, np.uint8),
    "black": np.zeros((5000, 3), np.uint8),
    "one colour": np.full((5000, 3), (200, 120, 160), np.uint8),
}


@pytest.mark.parametrize("method", ["macenko", "reinhard"])
@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_tissue_leaves_a_slide_as_it_is_and_says_why(method, name):
    normaliser = ColourNormaliser.fit(method, {"s": tissue(), "bad": UNUSABLE[name]}, ["s"])
    [(slide, reason)] = normaliser.fallbacks
    assert slide == "bad" and reason
    image = torch.rand(1, 3, 4, 4)
    assert torch.equal(normaliser.apply(image, ["bad"]), image)
    with pytest.raises(SlideError, match="no template"):
        ColourNormaliser.fit(method, {"bad": UNUSABLE[name]}, ["bad"])


def test_a_single_dye_is_not_two_stains():
    line = intensity(np.random.default_rng(0).uniform(0.1, 1, (3000, 1)) * HAEMATOXYLIN / np.linalg.norm(HAEMATOXYLIN))
    assert "one colour" in MacenkoFit.fit(line).fallback


@pytest.mark.parametrize("method", ["macenko", "reinhard"])
def test_a_batch_is_its_patches_one_by_one_and_survives_json(method):
    slides = {"a": tissue(), "b": tissue(strength=0.5), "c": UNUSABLE["few"]}
    normaliser = ColourNormaliser.fit(method, slides, ["a"])
    images = torch.rand(3, 3, 8, 8)
    batch = normaliser.apply(images, ["b", "c", "a"])
    alone = torch.cat([normaliser.apply(images[i : i + 1], [slide]) for i, slide in enumerate("bca")])
    assert torch.allclose(batch, alone, atol=1e-6)
    again = ColourNormaliser.from_dict(json.loads(json.dumps(normaliser.to_dict())))
    assert torch.equal(again.apply(images, ["b", "c", "a"]), batch) and again.fallbacks == normaliser.fallbacks
    with pytest.raises(ConfigError, match="'unseen' has no"):
        normaliser.apply(images, ["a", "unseen", "b"])


def test_real_stains_fit_and_pas_takes_the_colours_of_he(real_data):
    pixels = {}
    for file in sorted((real_data / "kidney_stains_hannover").glob("*.png")):
        image = imread(file)[::5, ::5, :3].reshape(-1, 3)
        pixels[file.stem[-2:]] = np.ascontiguousarray(image[image.min(axis=1) < 225])
    for method in ("macenko", "reinhard"):
        normaliser = ColourNormaliser.fit(method, pixels, ["01"])
        assert len(normaliser.fits) == 11 and not normaliser.fits["02"].fallback
        moved = normaliser.apply_array(pixels["02"][None], "02")[0]
        hues = [optical_density(each).mean(axis=0) for each in (pixels["01"], pixels["02"], moved)]
        aim, before, after = (hue / np.linalg.norm(hue) for hue in hues)
        assert np.arccos(after @ aim) < 0.5 * np.arccos(before @ aim)
