"""Vahadane and histogram matching: what was put in is found, a second implementation agrees, real stains are fitted."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from skimage import exposure
from skimage.io import imread

from stainda.errors import ConfigError, SlideError
from stainda.stains import ColourNormaliser, HistogramFit, MacenkoFit, VahadaneFit, intensity, optical_density, stain
from stainda.stains.histograms import level_map
from stainda.stains.vahadane import SPARSITY, factorise

METHODS = ("vahadane", "histogram")
TWO_DYES = ("PAS", "HE", "CD68", "CD34", "PANCK")


def phantom_tissue(name, n=4000, strength=1.0, seed=0):
    """Pixels of the phantom's structures: the amounts of its table, times an even draw from 0.6 to 1.4."""
    generator = np.random.default_rng(seed)
    table = stain(name)
    amounts = table.amounts()[generator.integers(2, len(table.amounts()), n)] * strength
    return intensity(amounts * generator.uniform(0.6, 1.4, amounts.shape) @ table.vectors)


def mixed(name, n=4000, seed=0):
    """Pixels that hold mainly one dye each, which is what sparseness asks for."""
    generator = np.random.default_rng(seed)
    vectors = stain(name).vectors
    amounts = generator.uniform(0, 0.06, (n, len(vectors)))
    amounts[np.arange(n), generator.integers(0, len(vectors), n)] += generator.uniform(0.2, 0.9, n)
    return intensity(amounts @ vectors)


def angles(found, true):
    """Degrees between each true vector and the nearest one found."""
    cosines = np.asarray(found) @ np.asarray(true).T
    return np.degrees(np.arccos(cosines.clip(-1, 1).max(0)))


@pytest.mark.parametrize("name", TWO_DYES)
def test_vahadane_finds_the_phantoms_dyes(name):
    fit = VahadaneFit.fit(mixed(name))
    assert not fit.fallback and angles(fit.vectors, stain(name).vectors).max() < 4
    assert fit.vectors[0][0] >= fit.vectors[1][0]  # the one that takes more red light first


@pytest.mark.parametrize("name", ["JONES", "SR"])
def test_vahadane_finds_three_dyes(name):
    fit = VahadaneFit.fit(mixed(name), stains=3)
    assert not fit.fallback and len(fit.vectors) == 3
    assert angles(fit.vectors, stain(name).vectors).max() < 6
    two = angles(VahadaneFit.fit(mixed(name)).vectors, stain(name).vectors)
    assert two.max() > angles(fit.vectors, stain(name).vectors).max()


def test_the_objective_is_that_of_scikit_learn():
    """Not above what scikit-learn's non-negative dictionary learning reaches from the same start."""
    from sklearn.decomposition import DictionaryLearning

    density = optical_density(mixed("HE", 150)).astype(float)
    start = np.asarray(MacenkoFit.fit(mixed("HE", 150)).vectors)

    def objective(rows, amounts):
        return 0.5 * ((density - amounts @ rows) ** 2).sum() + SPARSITY * amounts.sum()

    rows, amounts = factorise(density, start)
    assert (rows >= 0).all() and (amounts >= 0).all() and np.allclose(np.linalg.norm(rows, axis=1), 1)
    theirs = DictionaryLearning(
        2, alpha=SPARSITY, max_iter=30, fit_algorithm="cd", transform_algorithm="lasso_cd", transform_alpha=SPARSITY,
        positive_code=True, positive_dict=True, dict_init=start, code_init=(density @ np.linalg.pinv(start)).clip(0),
    )  # fmt: skip
    codes = theirs.fit_transform(density)
    assert objective(rows, amounts) <= 1.02 * objective(theirs.components_, codes)


def test_histogram_matching_is_scikit_images_on_the_pixels_fitted():
    own, template = phantom_tissue("CD68"), phantom_tissue("PAS", seed=1)
    normaliser = ColourNormaliser.fit("histogram", {"a": template, "b": own}, ["a"])
    expected = exposure.match_histograms(own[None].astype(float), template[None].astype(float), channel_axis=-1)[0]
    images = torch.from_numpy(own).T[None, :, :, None].float() / 255
    found = normaliser.apply(images, ["b"])[0, :, :, 0].T.numpy() * 255
    assert np.abs(found - expected).max() < 1e-3


def test_levels_without_tissue_are_in_between_and_glass_stays_white():
    low = HistogramFit.fit(np.repeat(np.arange(50, 201, dtype=np.uint8), 10)[:, None].repeat(3, 1))
    high = HistogramFit.fit(np.repeat(np.arange(100, 241, dtype=np.uint8), 10)[:, None].repeat(3, 1))
    levels = level_map(low, high)
    assert levels[:, 0].max() == 0 and levels[:, 255].min() == 255 and (np.diff(levels) >= 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_another_laboratorys_colours_become_the_templates(method):
    source, other = phantom_tissue("HE"), phantom_tissue("HE", strength=0.5)
    normaliser = ColourNormaliser.fit(method, {"s": source, "t": other}, ["s"])
    before = np.abs(other.astype(float) - source).mean()
    after = np.abs(normaliser.apply_array(other[None], "t")[0].astype(float) - source).mean()
    assert after < 0.5 * before
    assert np.abs(normaliser.apply_array(source[None], "s")[0].astype(int) - source).max() <= 1


UNUSABLE = {
    "empty": np.zeros((0, 3), np.uint8),
    "few": phantom_tissue("HE", 50),
    "glass": np.full((5000, 3), 255, np.uint8),
    "black": np.zeros((5000, 3), np.uint8),
    "one colour": np.full((5000, 3), (200, 120, 160), np.uint8),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_tissue_leaves_a_slide_as_it_is_and_says_why(method, name):
    normaliser = ColourNormaliser.fit(method, {"s": phantom_tissue("PAS"), "bad": UNUSABLE[name]}, ["s"])
    [(slide, reason)] = normaliser.fallbacks
    assert slide == "bad" and reason
    image = torch.rand(1, 3, 4, 4)
    assert torch.equal(normaliser.apply(image, ["bad"]), image)
    with pytest.raises(SlideError, match="no template"):
        ColourNormaliser.fit(method, {"bad": UNUSABLE[name]}, ["bad"])


@pytest.mark.parametrize("method", METHODS)
def test_glass_stays_white_black_stays_finite_and_json_keeps_everything(method):
    slides = {"s": phantom_tissue("JONES"), "t": phantom_tissue("SR"), "few": UNUSABLE["few"]}
    normaliser = ColourNormaliser.fit(method, slides, ["s"], stains=3)
    assert normaliser.apply_array(np.full((4, 4, 3), 255, np.uint8), "t").min() >= 254
    out = normaliser.apply(torch.zeros(1, 3, 4, 4), ["t"])
    assert out.isfinite().all() and out.max() < 0.2
    again = ColourNormaliser.from_dict(json.loads(json.dumps(normaliser.to_dict())))
    images = torch.rand(3, 3, 8, 8)
    batch = normaliser.apply(images, ["t", "few", "s"])
    assert torch.equal(again.apply(images, ["t", "few", "s"]), batch) and again.stains == 3
    alone = [normaliser.apply(images[i : i + 1], [slide]) for i, slide in enumerate(("t", "few", "s"))]
    assert torch.allclose(batch, torch.cat(alone), atol=1e-6)


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(ConfigError, match="vahadane"):
        ColourNormaliser.fit("vahadan", {"s": phantom_tissue("PAS")}, ["s"])


def test_real_stains_take_the_colours_of_he(real_data):
    pixels = {}
    for file in sorted((real_data / "kidney_stains_hannover").glob("*.png")):
        image = imread(file)[::7, ::7, :3].reshape(-1, 3)
        pixels[file.stem[-2:]] = np.ascontiguousarray(image[image.min(axis=1) < 225][:4096])
    for method in METHODS:
        normaliser = ColourNormaliser.fit(method, pixels, ["01"])
        assert len(normaliser.fits) == 11 and not normaliser.fits["02"].fallback
        for slide in pixels:
            assert normaliser.apply_array(pixels[slide][None], slide).std() > 0
        moved = normaliser.apply_array(pixels["02"][None], "02")[0]
        hues = [optical_density(each).mean(axis=0) for each in (pixels["01"], pixels["02"], moved)]
        aim, before, after = (hue / np.linalg.norm(hue) for hue in hues)
        assert np.arccos(min(1.0, after @ aim)) < 0.5 * np.arccos(before @ aim)
