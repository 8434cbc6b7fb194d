"""Views and augmentation as parts: shapes, state, and where colour goes."""

import json

import numpy as np
import pytest
import torch

from stainda.errors import ConfigError
from stainda.stains import HED_MATRIX, combine
from stainda.strategies import PARTS
from stainda.strategies.view.channels import Deconvolved, Greyscale
from stainda.strategies.view.normalisers import Macenko, Reinhard


def _tissue(seed, hue):
    """uint8 (n, 3): mixtures of haematoxylin and a second dye."""
    generator = np.random.default_rng(seed)
    vectors = np.stack([HED_MATRIX[0], np.asarray(hue) / np.linalg.norm(hue), np.cross(HED_MATRIX[0], hue)])
    amounts = np.stack([generator.gamma(2, 0.3, 3000), generator.gamma(2, 0.2, 3000), np.zeros(3000)], 1)
    return combine(amounts, vectors)


TISSUE = {"source": _tissue(0, (0.1, 0.9, 0.2)), "other": _tissue(1, (0.4, 0.5, 0.8))}


def _images(pixels):
    return torch.from_numpy(pixels[: 64 * 40].reshape(40, 64, 3)).permute(2, 0, 1)[None].float() / 255


def _made(name):
    view = PARTS["view"][name]()
    view.fit(TISSUE, ["source"])
    return view


@pytest.mark.parametrize("name", sorted(PARTS["view"]))
def test_a_view_gives_its_channels_and_survives_json(name):
    view = _made(name)
    images = torch.cat([_images(TISSUE["source"]), _images(TISSUE["other"])])
    seen = view(images, ["source", "other"])
    assert seen.shape == (2, view.channels, 40, 64) and seen.dtype == torch.float32 and seen.isfinite().all()
    again = PARTS["view"][name]()
    again.restore(json.loads(json.dumps(view.state())))
    torch.testing.assert_close(again(images, ["source", "other"]), seen)
    if view.is_colour:
        assert view.channels == 3 and seen.min() >= 0 and seen.max() <= 1


@pytest.mark.parametrize("view", [Macenko(), Reinhard()])
def test_a_normaliser_brings_other_slides_to_the_source(view):
    view.fit({"source": TISSUE["source"]}, ["source"])
    view.add_slide("other", TISSUE["other"])
    source, other = _images(TISSUE["source"]), _images(TISSUE["other"])
    before = (source.mean((0, 2, 3)) - other.mean((0, 2, 3))).abs().sum()
    after = (view(source, ["source"]).mean((0, 2, 3)) - view(other, ["other"]).mean((0, 2, 3))).abs().sum()
    assert after < 0.35 * before
    torch.testing.assert_close(view(source, ["source"]), source, atol=0.05, rtol=0)


def test_glass_alone_is_left_as_it_is_and_listed():
    view = Macenko()
    view.fit(TISSUE, ["source"])
    view.add_slide("glass", np.full((4096, 3), 250, np.uint8))
    glass = torch.full((1, 3, 4, 4), 250 / 255)
    torch.testing.assert_close(view(glass, ["glass"]), glass)
    assert set(view.fallbacks) == {"glass"}


def test_a_normaliser_that_was_not_fitted_says_so():
    with pytest.raises(ConfigError, match="before it is fitted"):
        Macenko()(torch.zeros(1, 3, 2, 2), ["x"])


def test_deconvolution_finds_the_dye_that_was_put_in():
    amounts = np.zeros((20, 30, 3))
    amounts[..., 0] = np.linspace(0, 1, 30)
    amounts[..., 1] = 0.3
    image = torch.from_numpy(combine(amounts)).permute(2, 0, 1)[None].float() / 255
    seen = Deconvolved()(image, ["x"])[0, 0].numpy()
    np.testing.assert_allclose(seen, amounts[..., 0], atol=0.03)


def test_greyscale_does_not_tell_colours_of_one_luminance_apart():
    red = torch.tensor([0.8, 0.2, 0.2]).view(1, 3, 1, 1)
    luminance = Greyscale()(red, ["x"])
    torch.testing.assert_close(Greyscale()(luminance.expand(1, 3, 1, 1), ["x"]), luminance)


@pytest.mark.parametrize("name", sorted(PARTS["augment"]))
def test_augmentation_is_drawn_from_the_generator_and_keeps_pixels_in_range(name):
    if name == "mixstyle":
        pytest.skip("acts inside the network: test_augments_parts.py")
    part = PARTS["augment"][name](**({"scale": 0} if name == "geometry" else {}))  # pixels stay pixels
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    part.learn(lambda: images * 0.8, lambda: images * 0.5)
    labels = (images[:, 0] > 0.5).long()
    first, second = (part(images, labels, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    other = part(images, labels, torch.Generator().manual_seed(4))
    assert not torch.equal(first[0], other[0])
    assert first[0].min() >= 0 and first[0].max() <= 1 and first[0].shape == images.shape
    if name == "geometry":  # labels move with the pixels they belong to
        assert torch.equal((first[0][:, 0] > 0.5).long(), first[1])
    elif name != "elastic":
        assert torch.equal(first[1], labels)
