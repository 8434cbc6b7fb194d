"""Elastic deformation, Fourier amplitudes, virtual templates, JPEG: against what others compute, and by hand."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.color import rgb2lab
from skimage.io import imread

from stainda.errors import ConfigError
from stainda.stains import Elastic, FourierMix, JpegLoss, RandStainNA, TemplateStatistics
from stainda.stains.compression import compress
from stainda.stains.spectra import mix_amplitudes
from stainda.stains.virtual_templates import restain, tissue_statistics


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def smooth(n=6, side=32, seed=9):
    """Patches with structure of a few pixels, neither black nor white."""
    coarse = torch.rand(n, 3, side // 4, side // 4, generator=seeded(seed))
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear") * 0.7 + 0.1


STATISTICS = TemplateStatistics((60.0, 20.0, -10.0), (6.0, 5.0, 4.0), (12.0, 8.0, 6.0), (2.0, 1.0, 1.0), 20)
ALL = [Elastic(p=1), FourierMix(p=1), FourierMix(beta=0.3, share=0.5), RandStainNA(STATISTICS, p=1), JpegLoss(p=1)]
IDENTITIES = [
    Elastic(alpha=0, p=1), Elastic(p=0), FourierMix(p=0), FourierMix(share=0.0, p=1), RandStainNA(STATISTICS, p=0),
    JpegLoss(p=0),
]  # fmt: skip


@pytest.mark.parametrize("augment", ALL, ids=lambda one: type(one).__name__)
def test_contract(augment):
    images = smooth()
    labels = torch.randint(3, images[:, 0].shape, generator=seeded(8), dtype=torch.uint8)
    before = images.clone(), labels.clone()
    first, again, other = (augment(images, labels, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(images, before[0]) and torch.equal(labels, before[1]), "the input was changed"
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert first[0].shape == images.shape and first[0].dtype == images.dtype
    assert first[1].shape == labels.shape and first[1].dtype == labels.dtype
    assert first[0].min() >= 0 and first[0].max() <= 1 and first[0].isfinite().all()
    torch.testing.assert_close(augment(images, None, seeded(1))[0], first[0])
    for extreme in (torch.zeros_like(images), torch.ones_like(images)):
        out = augment(extreme, None, seeded())[0]
        assert out.isfinite().all() and (out - extreme).abs().max() < 0.02, "glass and black have nothing to change"


@pytest.mark.parametrize("augment", IDENTITIES, ids=repr)
def test_no_strength_is_no_change(augment):
    images = smooth()
    labels = torch.randint(3, images[:, 0].shape, generator=seeded(8))
    changed, same = augment(images, labels, seeded())
    assert torch.equal(changed, images) and torch.equal(same, labels)


def test_elastic_moves_labels_with_the_image_and_ignores_what_comes_from_outside():
    side = 96
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    disc = ((rows - 47.5) ** 2 + (columns - 47.5) ** 2 < 24**2).long().expand(16, -1, -1)
    images = disc[:, None].expand(-1, 3, -1, -1).float()
    moved, labels = Elastic(alpha=300, sigma=10, p=1)(images, disc, seeded(5))
    known = labels != 255
    assert set(labels.unique().tolist()) == {0, 1, 255} and known.float().mean() > 0.85
    assert ((moved[:, 0] > 0.5) == (labels == 1))[known].float().mean() > 0.995
    assert (labels != disc)[known].float().mean() > 0.01
    ignored = torch.full_like(disc, 255)
    assert torch.equal(Elastic(p=1)(images, ignored, seeded())[1], ignored)


def test_elastic_displaces_by_what_its_docstring_says():
    side = 128
    ramp = (torch.arange(side) / side).expand(8, 3, side, side).contiguous()
    moved = Elastic(alpha=100, sigma=10, p=1)(ramp, None, seeded(3))[0]
    shift = ((moved - ramp) * side)[..., 30:-30, 30:-30]
    assert shift.std() == pytest.approx(0.163 * 100 / 10, rel=0.25)


def fda_by_numpy(image, other, beta):
    """Yang & Soatto's published steps, on (3, H, W), with a centred window of 2b + 1 frequencies."""
    fft, aim = np.fft.fft2(image), np.fft.fft2(other)
    amplitude, phase = np.fft.fftshift(np.abs(fft), (-2, -1)), np.angle(fft)
    target = np.fft.fftshift(np.abs(aim), (-2, -1))
    height, width = image.shape[1:]
    b = int(np.floor(min(height, width) * beta))
    y, x = height // 2, width // 2
    amplitude[:, y - b : y + b + 1, x - b : x + b + 1] = target[:, y - b : y + b + 1, x - b : x + b + 1]
    return np.real(np.fft.ifft2(np.fft.ifftshift(amplitude, (-2, -1)) * np.exp(1j * phase))).clip(0, 1)


@pytest.mark.parametrize("beta", [0.0, 0.05, 0.2])
def test_fourier_amplitudes_are_exchanged_as_published(beta):
    images, others = smooth(3), smooth(3, seed=4)
    found = mix_amplitudes(images, others, beta, torch.ones(3))
    for one, other, out in zip(images, others, found, strict=True):
        np.testing.assert_allclose(out.numpy(), fda_by_numpy(one.numpy(), other.numpy(), beta), atol=2e-5)
    if beta == 0:  # the mean colour alone
        torch.testing.assert_close(found.mean((2, 3)), others.mean((2, 3)), atol=0.02, rtol=0)


def test_fourier_styles_come_from_where_they_are_said_to():
    images, style = smooth(5), torch.full((3, 32, 32), 0.5)
    asked = []

    def styles(n, generator):
        asked.append(n)
        return style.expand(n, -1, -1, -1)

    out = FourierMix(beta=0, share=1, p=1, styles=styles)(images, None, seeded(1))[0]
    assert asked == [5]
    nearer = (out.mean((2, 3)) - 0.5).abs() <= (images.mean((2, 3)) - 0.5).abs() + 1e-4
    assert nearer.all() and not torch.allclose(out, images, atol=0.01)
    alone = FourierMix(beta=0, share=1, p=1)(images, None, seeded(1))[0]  # from the batch: means stay among its means
    means = images.mean((2, 3))
    assert (alone.mean((2, 3)) <= means.max(0).values + 0.01).all()


def test_statistics_of_a_patch_are_those_of_its_tissue():
    patch = smooth(1)
    patch[:, :, :, 16:] = 1.0  # glass
    mean, std, usable = tissue_statistics(patch)
    lab = rgb2lab(patch[0, :, :, :16].permute(1, 2, 0).double().numpy()).reshape(-1, 3)
    assert usable.all()
    np.testing.assert_allclose(mean[0], lab.mean(0), atol=0.2)
    np.testing.assert_allclose(std[0], lab.std(0), atol=0.2)


def test_a_restained_patch_has_the_statistics_asked_for():
    patches, mean, std = smooth(4), torch.tensor([[60.0, 8.0, -6.0]] * 4), torch.tensor([[9.0, 3.0, 2.5]] * 4)
    found_mean, found_std, _ = tissue_statistics(restain(patches, mean, std))
    torch.testing.assert_close(found_mean, mean, atol=0.3, rtol=0)
    torch.testing.assert_close(found_std, std, atol=0.3, rtol=0)


def test_virtual_templates_scatter_as_the_training_patches_do():
    """Fitted to patches, drawn often: mean and spread of what comes out are those of the fit."""
    patches = smooth(40) * torch.linspace(0.7, 1.0, 40)[:, None, None, None]
    known = TemplateStatistics.fit(patches)
    mean, _, _ = tissue_statistics(patches)
    np.testing.assert_allclose(known.mean_of_means, mean.mean(0), atol=1e-3)
    np.testing.assert_allclose(known.std_of_means, mean.std(0), atol=1e-3)
    many = patches[:1].expand(300, -1, -1, -1).contiguous()
    drawn, _, _ = tissue_statistics(RandStainNA(known, p=1)(many, None, seeded(2))[0])
    np.testing.assert_allclose(drawn.mean(0), known.mean_of_means, atol=1.5)
    np.testing.assert_allclose(drawn.std(0), known.std_of_means, rtol=0.25, atol=0.3)
    with pytest.raises(ConfigError, match="too few"):
        TemplateStatistics.fit(torch.ones(5, 3, 16, 16))


@pytest.mark.parametrize("quality", [10, 40, 75, 95])
def test_jpeg_is_pillows(real_data, quality):
    image = imread(real_data / "kidney_stains_hannover" / "orig_patch_stain_02.png")[100:228, 60:180, :3]  # 128 x 120
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="JPEG", quality=quality, subsampling=2)
    theirs = np.asarray(Image.open(stream)).astype(float)
    batch = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
    ours = compress(batch, torch.tensor([quality]))[0].permute(1, 2, 0).numpy() * 255
    loss, apart = np.abs(theirs - image).mean(), np.abs(theirs - ours).mean()
    assert apart < 1.0 and apart < 0.25 * loss, (apart, loss)


def test_every_patch_has_its_own_quality():
    patch = smooth(1).expand(12, -1, -1, -1).contiguous()
    noisy = (patch + 0.1 * torch.randn(1, *patch.shape[1:], generator=seeded(1))).clamp(0, 1)
    out = JpegLoss(5, 95, p=1)(noisy, None, seeded(3))[0]
    losses = (out - noisy).abs().mean((1, 2, 3))
    assert len({round(float(loss), 5) for loss in losses}) > 6
