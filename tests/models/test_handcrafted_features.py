"""Handcrafted features against scikit-image's and analytic answers, and as a help where few patches teach."""

import numpy as np
import pytest
import torch
from skimage.color import rgb2hed
from torch.nn import functional

from stainda.config import ModelConfig
from stainda.models import build_model
from stainda.models.handcrafted import FEATURES, measure

SIDE = 32


def _ellipse(length, ratio, turn, colour=(0.35, 0.2, 0.5), at=(0.0, 0.0), side=64, rng=None):
    """A dark ellipse on light tissue, float (side, side, 3); ``length``: its major half axis, pixels."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    x, y = x - at[0], y - at[1]
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    image = np.full((side, side, 3), (0.88, 0.75, 0.84))
    image[(u / length) ** 2 + (v / (length * ratio)) ** 2 <= 1] = colour
    return image if rng is None else (image + rng.normal(0, 0.03, image.shape)).clip(0, 1)


def _named(image):
    return dict(zip(FEATURES, measure(image), strict=True))


def test_there_are_55_features_of_different_names():
    assert len(FEATURES) == len(set(FEATURES)) == 55


def test_the_shape_is_that_of_the_ellipse():
    values = _named(_ellipse(20, 0.5, 0.6))
    assert values["area"] == pytest.approx(np.pi * 20 * 10 / 64**2, rel=0.06)
    assert values["eccentricity"] == pytest.approx(np.sqrt(1 - 0.25), abs=0.03)
    assert values["major_axis"] == pytest.approx(40 / 64, rel=0.05)
    assert values["minor_axis"] == pytest.approx(20 / 64, rel=0.08)
    assert values["solidity"] > 0.95 and values["objects"] == 1
    disc = _named(_ellipse(15, 1.0, 0.0))
    assert disc["circularity"] == pytest.approx(1.0, abs=0.08) and disc["eccentricity"] < 0.15


def test_the_object_is_the_one_in_the_middle():
    image = _ellipse(8, 1.0, 0.0)
    image[:12, :64] = (0.35, 0.2, 0.5)  # a larger one at the border
    values = _named(image)
    assert values["area"] == pytest.approx(np.pi * 64 / 64**2, rel=0.15) and values["objects"] == 2


def test_colours_are_those_of_scikit_image_and_of_the_object():
    rng = np.random.default_rng(1)
    image = _ellipse(14, 0.8, 0.3, rng=rng)
    values, density = _named(image), rgb2hed(image)
    for index, stain in enumerate(("haematoxylin", "eosin", "dab")):
        assert values[f"{stain}_mean"] == pytest.approx(density[..., index].mean())
        assert values[f"{stain}_standard_deviation"] == pytest.approx(density[..., index].std())
    assert values["blue_mean_inside"] == pytest.approx(0.5, abs=0.03)
    assert values["green_contrast"] == pytest.approx(0.2 - 0.75, abs=0.03)


def test_texture_knows_stripes_from_noise():
    y, _ = np.mgrid[:64, :64]
    stripes = np.repeat(((y // 4) % 2)[..., None] * 0.5 + 0.25, 3, 2)
    noise = np.random.default_rng(0).random((64, 64, 1)).repeat(3, 2)
    first, second = _named(stripes), _named(noise)
    by_direction = [values["haralick_contrast_range"] / values["haralick_contrast_mean"] for values in (first, second)]
    assert by_direction[0] > 1 > 10 * by_direction[1]
    assert first["entropy"] == pytest.approx(1.0, abs=0.01) and second["entropy"] > 3.9
    assert sum(first[f"lbp_{index}"] for index in range(10)) == pytest.approx(1.0)
    assert first["haralick_correlation_mean"] > second["haralick_correlation_mean"]


@pytest.mark.parametrize("image", [np.zeros((48, 48, 3)), np.ones((48, 48, 3)), np.full((16, 20, 3), 0.4)])
def test_a_patch_without_anything_has_finite_features(image):
    assert np.isfinite(measure(image)).all() and _named(image)["area"] == 0


def test_features_are_those_of_the_patch_before_standardisation():
    images = torch.rand(3, 3, 40, 40)
    model = build_model(ModelConfig(name="cnn_handcrafted", params={"depth": 2, "width": 4}), 3, 2).eval()
    mean, std = np.array([0.7, 0.5, 0.6], np.float32), np.array([0.2, 0.1, 0.3], np.float32)
    model.standardised_by(mean, std)
    seen = (images - torch.from_numpy(mean).view(1, 3, 1, 1)) / torch.from_numpy(std).view(1, 3, 1, 1)
    expected = np.stack([measure(image) for image in images.permute(0, 2, 3, 1).numpy()])
    np.testing.assert_allclose(model.features(seen).numpy(), expected, rtol=1e-3, atol=2e-3)
    assert {"colour_mean", "colour_std"} <= set(model.state_dict())


@pytest.mark.parametrize("use", ["features", "convolutions"])
def test_what_is_not_used_changes_nothing(use):
    params = {"depth": 2, "width": 4, "use": use}
    model = build_model(ModelConfig(name="cnn_handcrafted", params=params), 3, 2).eval()
    convolved, measured = torch.rand(2, 8, 1, 1), torch.rand(2, 55)
    answer = model.answer((convolved, measured))
    other = (torch.rand(2, 8, 1, 1), measured) if use == "features" else (convolved, torch.rand(2, 55))
    torch.testing.assert_close(model.answer(other), answer)


def _patches(seed, n):
    """Ellipses of two kinds, long ones and round ones, of any size, turn, place and colour."""
    rng = np.random.default_rng(seed)
    kinds = np.arange(n) % 2
    images = [
        _ellipse(rng.uniform(6, 11), rng.uniform(0.55, 0.65) if kind else rng.uniform(0.85, 1.0), rng.uniform(0, np.pi),
                 rng.uniform(0.1, 0.6, 3), rng.uniform(-4, 4, 2), SIDE, rng)
        for kind in kinds
    ]  # fmt: skip
    return torch.tensor(np.stack(images), dtype=torch.float32).permute(0, 3, 1, 2), torch.from_numpy(kinds)


def _accuracy(use, seed):
    torch.manual_seed(seed)
    params = {"depth": 3, "width": 8, "use": use, "hidden": 32}
    model = build_model(ModelConfig(name="cnn_handcrafted", params=params), 3, 2)
    images, kinds = _patches(seed, 32)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(25):
        optimiser.zero_grad()
        functional.cross_entropy(model(images), kinds).backward()
        optimiser.step()
    model.eval()
    others, answers = _patches(100 + seed, 64)
    with torch.no_grad():
        return float((model(others).argmax(1) == answers).float().mean())


def test_features_help_where_few_patches_teach():
    plain = np.array([_accuracy("convolutions", seed) for seed in range(3)])
    both = np.array([_accuracy("both", seed) for seed in range(3)])
    assert plain.mean() < 0.75, plain
    assert (both > plain).all() and both.mean() > plain.mean() + 0.15, (plain, both)
