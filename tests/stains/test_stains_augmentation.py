"""Augmentations do what their names say, per patch, and the same for the same generator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.io import imread

from stainda.errors import ConfigError
from stainda.stains import BlurNoise, ChannelShuffle, ColourJitter, Geometry, HedJitter, Sequential
from stainda.stains.augmentation import _orient
from stainda.stains.colour import greyscale, separate_tensor
from stainda.stains.deconvolution import HED_MATRIX

ALL = [
    Geometry(),
    Geometry(rotation=180, scale=0.2, shift=0.1),
    ColourJitter.of("light"),
    ColourJitter.of("strong"),
    HedJitter.of("light"),
    HedJitter.of("strong"),
    BlurNoise(),
    ChannelShuffle(),
    Sequential([Geometry(rotation=30), ColourJitter.of("strong"), BlurNoise()]),
]
IDENTITIES = [
    Geometry(flips=False, quarter_turns=False),
    ColourJitter(0, 0, 0, 0),
    HedJitter(0.0),
    BlurNoise(0, 0),
    BlurNoise(p=0),
    ChannelShuffle(p=0),
    Sequential([]),
]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(n=6, side=20):
    images = torch.rand(n, 3, side, side, generator=seeded(9)) * 0.98 + 0.01
    return images, torch.randint(3, (n, side, side), generator=seeded(8), dtype=torch.uint8)


@pytest.mark.parametrize("augment", ALL, ids=repr)
def test_contract(augment):
    images, labels = batch()
    before = images.clone(), labels.clone()
    first = augment(images, labels, seeded(1))
    again = augment(images, labels, seeded(1))
    other = augment(images, labels, seeded(2))
    assert torch.equal(images, before[0]) and torch.equal(labels, before[1]), "the input was changed"
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert first[0].shape == images.shape and first[0].dtype == images.dtype
    assert first[1].shape == labels.shape and first[1].dtype == labels.dtype
    assert first[0].min() >= 0 and first[0].max() <= 1 and first[0].isfinite().all()
    assert augment(images, None, seeded(1))[1] is None
    torch.testing.assert_close(augment(images, None, seeded(1))[0], first[0])
    for extreme in (torch.zeros_like(images), torch.ones_like(images)):
        assert augment(extreme, None, seeded())[0].isfinite().all()


@pytest.mark.parametrize("augment", IDENTITIES, ids=repr)
def test_no_strength_is_no_change(augment):
    images, labels = batch()
    changed, same = augment(images, labels, seeded())
    assert torch.allclose(changed, images, atol=2e-6) and torch.equal(same, labels)


@pytest.mark.parametrize("augment", [a for a in ALL if not isinstance(a, Geometry | Sequential)], ids=repr)
def test_colour_leaves_labels_alone(augment):
    images, labels = batch()
    assert augment(images, labels, seeded())[1] is labels


@pytest.mark.parametrize("augment", [a for a in ALL[2:] if not isinstance(a, Sequential)], ids=repr)
def test_every_patch_has_its_own_draw(augment):
    images = batch(1)[0].expand(32, -1, -1, -1).contiguous()
    out = augment(images, None, seeded())[0].flatten(1)
    assert len({tuple(row.tolist()) for row in out}) > 4


def test_geometry_moves_images_and_labels_together():
    labels = torch.randint(0, 3, (64, 12, 12), generator=seeded(3))
    images = labels[:, None].expand(-1, 3, -1, -1).float() / 2
    for geometry in (Geometry(), Geometry(flips=False), Geometry(quarter_turns=False)):
        moved, with_them = geometry(images, labels, seeded(4))
        assert torch.equal(moved[:, 0] * 2, with_them.float())
    kinds = {tuple(row.tolist()) for row in Geometry()(images[:1].expand(64, -1, -1, -1), None, seeded())[0].flatten(1)}
    assert len(kinds) == 8  # all orientations of a square


def test_orientation_is_mirror_then_turn():
    maps = torch.arange(6.0).reshape(1, 2, 3)
    one, none = torch.tensor([1]), torch.tensor([0])
    assert torch.equal(_orient(maps.expand(1, 2, 3), one, none, none)[0], maps[0].flip(1))
    square = torch.arange(9.0).reshape(1, 3, 3)
    assert torch.equal(
        _orient(square, one, none, one)[0], torch.from_numpy(np.rot90(np.fliplr(square[0].numpy())).copy())
    )


def test_oblong_patches_keep_their_shape():
    images = torch.rand(8, 3, 8, 12)
    assert Geometry()(images, None, seeded())[0].shape == images.shape


def test_outside_is_ignored_and_areas_scale():
    side = 64
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    disc = ((rows - 31.5) ** 2 + (columns - 31.5) ** 2 < 15**2).long().expand(32, -1, -1)
    images = disc[:, None].expand(-1, 3, -1, -1).float()
    _, labels = Geometry(False, False, rotation=45)(images, disc, seeded())
    assert ((labels == 1).sum((1, 2)).float() / disc[0].sum() - 1).abs().max() < 0.03  # a turned disc is the disc
    assert (labels == 255).any() and set(labels.unique().tolist()) == {0, 1, 255}
    moved, labels = Geometry(False, False, scale=0.5)(images, disc, seeded())
    ratios = (labels == 1).sum((1, 2)).float() / disc[0].sum()
    assert ratios.min() > 1 / 1.5**2 - 0.05 and ratios.max() < 1.5**2 + 0.05 and ratios.std() > 0.2
    inside = labels != 255
    assert ((moved[:, 0] > 0.5) == (labels == 1))[inside].float().mean() > 0.99


def test_saturation_of_minus_one_is_grey_and_hue_keeps_grey():
    images = batch()[0]
    grey = greyscale(images)
    jitter = ColourJitter(0, 0, 0, 0.5)
    assert torch.allclose(jitter(grey.expand(-1, 3, -1, -1), None, seeded())[0], grey.expand(-1, 3, -1, -1), atol=1e-5)
    mild = images * 0.2 + 0.4
    turned = jitter(mild, None, seeded())[0]
    assert torch.allclose(turned.mean(1), mild.mean(1), atol=1e-5)  # a rotation about the grey axis
    assert not torch.allclose(turned, mild, atol=1e-2)
    brighter = ColourJitter(0.5, 0, 0, 0)(mild, None, seeded())[0] / mild
    assert brighter.flatten(1).std(1).max() < 1e-4 and brighter.flatten(1).mean(1).std() > 0.1


def test_hed_scales_amounts_within_sigma():
    amounts = torch.full((500, 3, 1, 1), 0.3)
    rows = torch.tensor(HED_MATRIX, dtype=torch.float32)
    images = torch.pow(10.0, -torch.einsum("nkhw,kc->nchw", amounts, rows))
    out, _ = HedJitter(0.1, offset=0.0)(images, None, seeded())
    ratio = separate_tensor(out, rows) / amounts
    assert ratio.min() > 0.9 - 1e-3 and ratio.max() < 1.1 + 1e-3 and ratio.std() == pytest.approx(0.1 / 3**0.5, rel=0.1)


def test_blur_is_gaussian():
    from scipy.ndimage import gaussian_filter

    from stainda.stains.augmentation import blur_each

    image = batch(2, 30)[0]
    out = blur_each(image, torch.tensor([1.3, 0.0]))
    expected = gaussian_filter(image[0].numpy(), (0, 1.3, 1.3), mode="mirror", radius=(0, 4, 4))
    assert np.abs(out[0].numpy() - expected).max() < 1e-4 and torch.allclose(out[1], image[1])


def test_unknown_strength_names_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'strong'"):
        ColourJitter.of("strnog")


def test_strong_jitter_reaches_other_real_stains(real_data):
    """Strong jitter moves a PAS patch farther than light jitter, and further towards Sirius red than none at all."""
    folder = real_data / "kidney_stains_hannover"
    mean = {code: imread(folder / f"orig_patch_stain_{code}.png")[::8, ::8, :3] / 255.0 for code in ("02", "32")}
    pas = torch.tensor(mean["02"], dtype=torch.float32).permute(2, 0, 1)[None].expand(200, -1, -1, -1).contiguous()
    aim = torch.tensor(mean["32"].mean((0, 1)), dtype=torch.float32)
    away = {}
    for strength in ("light", "strong"):
        for kind in (ColourJitter, HedJitter):
            colours = kind.of(strength)(pas, None, seeded())[0].mean((2, 3))
            away[kind.__name__, strength] = (colours - aim).norm(dim=1).min()
    start = (pas[0].mean((1, 2)) - aim).norm()
    for kind in ("ColourJitter", "HedJitter"):
        assert away[kind, "strong"] < away[kind, "light"] < start
