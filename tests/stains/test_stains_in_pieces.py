"""Colours changed image by image are those of the batch changed at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stainda.stains import ColourJitter, HedJitter
from stainda.stains.colour import density_tensor, greyscale, intensity_tensor, mix_channels, mix_densities
from stainda.stains.normalisation import ColourNormaliser

SHAPES = [(1, 64, 64), (5, 33, 47), (3, 1, 7), (2, 130, 128)]


def images(shape: tuple[int, int, int], layout: str) -> torch.Tensor:
    """Values at and beside both ends, as they come from bytes."""
    n, height, width = shape
    pixels = np.random.default_rng(1).integers(0, 256, (n, height, width, 3), np.uint8)
    found = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(255.0)
    return found.contiguous() if layout == "planes" else found


@pytest.mark.parametrize("layout", ["planes", "pixels"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("offset", [True, False])
def test_mixing_of_densities(shape, layout, offset):
    batch, generator = images(shape, layout), torch.Generator().manual_seed(2)
    kept = batch.clone()
    matrix = torch.eye(3) + 0.2 * torch.randn(shape[0], 3, 3, generator=generator)
    shift = 0.1 * torch.randn(shape[0], 3, generator=generator) if offset else None
    at_once = mix_channels(density_tensor(batch), matrix)
    at_once = intensity_tensor(at_once if shift is None else at_once + shift[:, :, None, None])
    assert torch.allclose(mix_densities(batch, matrix, shift), at_once, rtol=0, atol=1e-5)
    assert torch.equal(batch, kept)
    each = [mix_densities(batch[at : at + 1], matrix[at : at + 1], None if shift is None else shift[at : at + 1])
            for at in range(shape[0])]  # fmt: skip
    assert torch.equal(mix_densities(batch, matrix, shift), torch.cat(each)), "an image is no matter of its neighbours"


def test_mixing_is_that_of_eight_byte_numbers():
    batch, matrix = images((2, 64, 64), "planes"), torch.eye(3) + 0.1 * torch.arange(9.0).reshape(3, 3) - 0.4
    matrix, shift = matrix.expand(2, 3, 3), torch.tensor([[0.1, -0.05, 0.02]]).expand(2, 3)
    density = -np.log10(np.clip(batch.double().numpy(), 1 / 255, 1)).reshape(2, 3, -1)
    exact = 10.0 ** -(matrix.double().numpy() @ density + shift.double().numpy()[:, :, None])
    found = mix_densities(batch, matrix, shift).double().numpy().reshape(2, 3, -1)
    assert np.abs(found - exact.clip(0, 1)).max() < 2e-6
    with_gradient = mix_densities(batch.clone().requires_grad_(), matrix, shift)
    assert np.abs(with_gradient.detach().numpy().reshape(2, 3, -1) - found).max() < 2e-6


def test_gradients_go_through():
    batch = images((2, 8, 8), "planes").requires_grad_()
    mix_densities(batch, torch.eye(3).expand(2, 3, 3)).sum().backward()
    assert batch.grad is not None and batch.grad.abs().sum() > 0


@pytest.mark.parametrize("layout", ["planes", "pixels"])
def test_augmentation_does_not_depend_on_how_pixels_lie(layout):
    batch = images((4, 40, 56), layout)
    for change in (HedJitter.of("strong"), ColourJitter.of("strong")):
        kept = batch.clone()
        changed, _ = change(batch, None, torch.Generator().manual_seed(3))
        expected, _ = change(images((4, 40, 56), "planes"), None, torch.Generator().manual_seed(3))
        assert torch.equal(changed, expected) and torch.equal(batch, kept)


def test_colour_jitter_is_its_equation():
    batch = images((4, 40, 56), "pixels")
    jitter = ColourJitter(0.3, 0.3, 0.0, 0.0)
    signed = 2 * torch.rand(4, 4, generator=torch.Generator().manual_seed(3)) - 1
    bright, contrast = ((1 + 0.3 * signed[:, at])[:, None, None, None] for at in (0, 1))
    level = greyscale(batch).mean(dim=(1, 2, 3), keepdim=True)
    expected = (bright * (contrast * batch + (1 - contrast) * level)).clamp(0, 1)
    changed, _ = jitter(batch, None, torch.Generator().manual_seed(3))
    assert torch.allclose(changed, expected, atol=1e-5)


@pytest.mark.parametrize("method", ["macenko", "vahadane", "reinhard", "histogram"])
def test_a_slide_that_fell_back_is_left_alone_beside_others(method):
    rng = np.random.default_rng(0)
    amounts = rng.uniform(0.1, 1.5, (4000, 2))
    density = amounts @ np.asarray([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])
    tissue = (255 * np.exp(-density)).astype(np.uint8)
    paler = (255 * np.exp(-0.6 * density)).astype(np.uint8)
    normaliser = ColourNormaliser.fit(method, {"a": tissue, "b": paler, "few": tissue[:3]}, ["a"])
    batch = images((3, 16, 16), "pixels")
    mixed = normaliser.apply(batch, ["b", "few", "a"])
    assert torch.equal(mixed[1], batch[1])
    for index, slide in ((0, "b"), (2, "a")):
        alone = normaliser.apply(batch[index : index + 1], [slide])
        assert torch.allclose(alone[0], mixed[index], atol=1e-6)
    assert (mixed[0] - batch[0]).abs().max() > 0.05
