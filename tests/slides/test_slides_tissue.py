"""Tissue is found where it is, pale or dark, and not on blank glass."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from PIL import Image

from stainda.slides import TissueMask, mask_tissue, open_slide, tissue_mask, without_unscanned

GLASS = (245, 245, 245)


def disc(height: int, width: int, centre: tuple[int, int], radius: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2


def stained(where: np.ndarray, colour, seed: int = 0, noise: float = 3, glass=GLASS) -> np.ndarray:
    image = np.where(where[..., None], colour, glass) + np.random.default_rng(seed).normal(0, noise, (*where.shape, 3))
    return image.clip(0, 255).astype(np.uint8)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize(
    "colour",
    [
        (200, 150, 190),  # PAS, H&E
        (150, 110, 160),  # Jones
        (235, 190, 170),  # Sirius red
        (222, 226, 236),  # pale haematoxylin of immunohistochemistry
        (233, 235, 241),  # very pale
        (242, 232, 222),  # pale brown, as bright as the glass
    ],
)
def test_tissue_is_found_whatever_its_stain(colour):
    truth = disc(400, 600, (300, 200), 140)
    assert dice(mask_tissue(stained(truth, colour)), truth) > 0.97


def test_pale_tissue_is_found_beside_dark_tissue():
    dark, pale = disc(400, 600, (150, 200), 80), disc(400, 600, (420, 200), 120)
    image = stained(dark | pale, (228, 231, 238))
    image[dark] = stained(dark, (90, 60, 40))[dark]
    assert dice(mask_tissue(image), dark | pale) > 0.97


@pytest.mark.parametrize("noise", [0, 1, 3, 6])
@pytest.mark.parametrize("glass", [245, 255, 230])
def test_blank_glass_has_no_tissue(noise, glass):
    nothing = np.zeros((400, 600), bool)
    assert not mask_tissue(stained(nothing, GLASS, noise=noise, glass=(glass,) * 3)).any()


def test_shading_of_the_glass_and_unscanned_white_are_no_tissue():
    truth = disc(400, 600, (300, 200), 100)
    y, x = np.mgrid[:400, :600]
    shaded = stained(truth, (190, 140, 180)) * (1 - 1.2e-7 * ((x - 300) ** 2 + (y - 200) ** 2))[..., None]
    shaded = shaded.astype(np.uint8)
    shaded[:60, :250] = 255
    assert dice(mask_tissue(shaded), truth) > 0.95


def test_black_that_was_not_scanned_is_no_tissue_and_dark_tissue_is():
    truth = disc(400, 600, (330, 220), 100)
    image = stained(truth, (25, 15, 30))
    assert without_unscanned(image) is image
    black = image.copy()
    black[:, :80] = black[350:] = 0
    assert dice(mask_tissue(black), truth) > 0.95
    assert (without_unscanned(black)[355:, 90:] == 255).all()
    assert (without_unscanned(black)[truth & (np.arange(400) < 345)[:, None]] < 60).all()
    assert not mask_tissue(np.zeros_like(image)).any()


def test_specks_are_dropped_and_small_holes_filled_but_not_large_ones():
    ring = disc(400, 600, (300, 200), 150) & ~disc(400, 600, (300, 200), 70)
    holes = disc(400, 600, (300, 85), 3)
    specks = disc(400, 600, (30, 30), 2) | disc(400, 600, (560, 350), 2)
    mask = mask_tissue(stained((ring & ~holes) | specks, (190, 140, 180)))
    assert not mask[20:40, 20:40].any()
    assert mask[85, 300]
    assert not mask[200, 300]


def test_the_rat_kidneys_are_found_also_the_pale_one(real_data):
    """Both sections fill about two thirds of their pictures; the pale cortex belongs to it, the glass does not."""
    for name, inside, outside in (
        ("HE.jpg", (900, 390), (40, 40)),
        ("PanCK.jpg", (950, 330), (40, 40)),
    ):
        with open_slide(real_data / "rat_kidney" / name) as slide:
            mask = tissue_mask(slide)
        assert 0.6 < mask.area_share < 0.7
        assert mask.contains([inside, outside, (-5, 10), (1e6, 10)]).tolist() == [True, False, False, False]


def test_landmarks_of_the_rat_kidney_lie_on_tissue(real_data):
    import pandas as pd

    for name in ("HE", "PanCK"):
        points = pd.read_csv(real_data / "rat_kidney" / f"{name}_landmarks.csv")[["X", "Y"]].to_numpy()
        with open_slide(real_data / "rat_kidney" / f"{name}.jpg") as slide:
            mask = tissue_mask(slide)
        # most landmarks lie on the section's outline: tissue within 6 px of each
        assert (mask.share(np.hstack([points - 6, points + 6])) > 0).mean() > 0.97


def test_fields_full_of_tissue_are_mostly_tissue_in_every_stain(real_data):
    for path in sorted((real_data / "kidney_stains_hannover").glob("*.png")):
        with open_slide(path) as slide:
            assert tissue_mask(slide, 512).area_share > 0.8, path.name


def test_a_nearly_blank_slide_keeps_its_fragment(real_data):
    with open_slide(real_data / "wsi_reader_samples" / "histolab" / "kidney-48-5.tif") as slide:
        mask = tissue_mask(slide)
    assert 0.001 < mask.area_share < 0.02


@pytest.fixture
def left_half() -> TissueMask:
    mask = np.zeros((50, 80), bool)
    mask[:, :40] = True
    return TissueMask(mask, 4.0, (320, 200))


def test_shares_of_boxes_are_exact_to_fractions_of_a_pixel(left_half):
    boxes = [
        (0, 0, 160, 200),
        (150, 10, 170, 30),
        (159, 10, 161, 12),
        (170, 0, 300, 200),
        (-160, 0, 160, 200),
        (5, 5, 5, 9),
    ]
    assert left_half.share(np.array(boxes)) == pytest.approx([1, 0.5, 0.5, 0, 0.5, 0])


def test_shares_of_boxes_agree_with_counting():
    rng = np.random.default_rng(1)
    mask = TissueMask(rng.random((30, 40)) < 0.5, 2.0, (80, 60))
    fine = np.kron(mask.mask, np.ones((2, 2)))
    corners = rng.integers(0, 30, (50, 2))
    sizes = rng.integers(1, 30, (50, 2))
    boxes = np.concatenate([corners, corners + sizes], 1)
    expected = [fine[y0:y1, x0:x1].mean() for x0, y0, x1, y1 in boxes]
    assert mask.share(boxes) == pytest.approx(np.array(expected))


@pytest.mark.parametrize(
    ("geometry", "share"),
    [
        (shapely.box(100, 50, 220, 150), 0.5),
        (shapely.box(0, 0, 3, 3), 1.0),
        (shapely.box(158, 100, 162, 101), 0.5),
        (shapely.Point(160, 100).buffer(30), 0.5),
        (shapely.box(100, 50, 220, 150).difference(shapely.box(100, 50, 160, 150)), 0.0),
        (shapely.LineString([(80, 20), (240, 20)]), 0.5),
        (shapely.Point(10, 10), 1.0),
        (shapely.MultiPoint([(10, 10), (300, 10)]), 0.5),
        (shapely.Polygon(), 0.0),
        (shapely.box(-100, 0, 100, 200), 0.5),
    ],
)
def test_the_share_of_a_geometry(left_half, geometry, share):
    assert left_half.share_of(geometry) == pytest.approx(share, abs=0.04)


def test_a_mask_is_placed_in_level_0_pixels(tmp_path):
    truth = disc(600, 900, (700, 450), 100)
    Image.fromarray(stained(truth, (180, 130, 170))).save(tmp_path / "a.png")
    with open_slide(tmp_path / "a.png") as slide:
        mask = tissue_mask(slide, max_dim=250)
    assert mask.downsample == pytest.approx(3.6)
    assert mask.share([(600, 350, 800, 550)])[0] == pytest.approx(np.pi / 4, abs=0.03)
    assert mask.contains([(700, 450), (780, 450), (820, 450)]).tolist() == [True, True, False]


def test_lab_and_median_agree_with_other_implementations():
    from scipy.ndimage import median_filter
    from skimage.color import rgb2lab

    from stainda.slides.tissue import _median, cie_lab

    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    assert np.abs(cie_lab(image) - rgb2lab(image)).max() < 0.01
    assert (_median(image) == median_filter(image, (3, 3, 1), mode="nearest")).all()
