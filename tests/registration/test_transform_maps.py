"""A map warps points, shapes and pixels, has an inverse, is followed by others, and is read back with NumPy alone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from scipy import ndimage
from warped_pictures import FRAME, SIZE, bent, random_field, smooth_picture

from stainda.errors import RegistrationError
from stainda.registration.affine import fit_affine
from stainda.registration.fields import coefficients, invert, jacobian, sample
from stainda.registration.maps import compose
from stainda.registration.transforms import Between, Transform, from_backward, from_pull, from_push
from stainda.registration.warping import warped_tiles
from stainda.slides import open_slide

POINTS = np.random.default_rng(3).uniform((-50, -50), (1150, 850), (4000, 2))


@pytest.mark.parametrize("seed", range(4))
def test_strong_deformations_without_folds_are_inverted(seed: int) -> None:
    wild = random_field(seed, 9.0)
    while jacobian(wild).min() < 0.15:
        wild *= 0.93
    assert np.abs(np.gradient(wild[0])).max() > 0.3
    rows, columns = np.mgrid[: wild.shape[1], : wild.shape[2]]
    grid = np.stack([columns.ravel(), rows.ravel()], axis=1).astype(float)
    back = grid + invert(wild).reshape(2, -1).T
    missed = np.linalg.norm(back + sample(coefficients(wild), back) - grid, axis=1)
    assert np.percentile(missed, 99) < 2e-3
    thin = np.diag([1 / 4, 1 / 4, 1.0])  # as registration keeps it
    transform = from_backward(Transform("a", "ref", SIZE, FRAME, thin, np.linalg.inv(thin)), wild)
    inside = np.random.default_rng(0).uniform((40, 40), (500, 400), (10_000, 2))
    assert np.percentile(transform.round_trip(inside), 99) < 0.5
    assert np.percentile(transform.inverse.round_trip(inside), 99) < 0.5


def test_inverse_and_composition_agree_with_going_by_hand() -> None:
    first, second = bent("a", 1), bent("b", 2, angle=-0.1)
    np.testing.assert_array_equal(first.inverse.points(POINTS), first.from_frame(POINTS))
    assert first.inverse.inverse is first
    assert (first.inverse.slide, first.inverse.frame, first.inverse.size) == ("ref", "a", FRAME)
    both = compose(first, second.inverse)
    between = Between(first, second)
    np.testing.assert_allclose(both.points(POINTS), second.from_frame(first.to_frame(POINTS)))
    np.testing.assert_allclose(both.points(POINTS), between.points(POINTS))
    np.testing.assert_allclose(both.inverse.points(POINTS), between.inverse.points(POINTS))
    assert (between.slide, between.frame, both.slide, both.frame) == ("a", "b", "a", "b")
    with pytest.raises(RegistrationError, match="starts at a"):
        compose(first, first)


def test_area_change_of_a_chain_is_the_product() -> None:
    double = Transform.affine("a", SIZE, "ref", FRAME, np.diag([2.0, 3.0, 1.0]))
    half = Transform.affine("b", SIZE, "ref", FRAME, np.diag([0.5, 0.5, 1.0]))
    np.testing.assert_allclose(compose(double, half.inverse).area_change(POINTS[:5]), 24)
    np.testing.assert_allclose(Between(double, half).area_change(POINTS[:5]), 24)
    np.testing.assert_allclose(double.inverse.area_change(POINTS[:5]), 1 / 6)


@pytest.mark.parametrize("make", [from_pull, from_push])
def test_any_function_of_points_becomes_a_transform(make) -> None:
    def wave(xy: np.ndarray) -> np.ndarray:
        bow = np.stack([8 * np.sin(xy[:, 1] / 90), 6 * np.cos(xy[:, 0] / 110)], axis=1)
        return xy @ np.array([[0.9, 0.1], [-0.1, 0.9]]) + [40, 60] + bow

    made = make("a", "ref", SIZE, FRAME, wave, 8.0)
    inside = np.random.default_rng(0).uniform((150, 150), (800, 600), (2000, 2))
    there = made.from_frame(inside) if make is from_pull else made.to_frame(inside)
    assert np.abs(there - wave(inside)).max() < 0.01
    assert np.percentile(made.round_trip(inside), 99) < 0.02


def test_affine_fit_finds_the_matrix_and_refuses_a_line() -> None:
    matrix = np.array([[1.1, -0.3, 5000.0], [0.2, 0.8, -70], [0, 0, 1]])
    moved = POINTS @ matrix[:2, :2].T + matrix[:2, 2]
    np.testing.assert_allclose(fit_affine(POINTS, moved), matrix, atol=1e-8)
    with pytest.raises(RegistrationError, match="one line"):
        fit_affine(np.stack([np.arange(9.0), np.arange(9.0)], 1), POINTS[:9])


def test_shapes_go_both_ways() -> None:
    transform = bent()
    shapes = gpd.GeoDataFrame({"class": ["x"]}, geometry=[shapely.Point(500, 400).buffer(50)])
    there = transform.shapes(shapes)
    expected = transform.to_frame(shapely.get_coordinates(shapes.geometry.iloc[0]))
    np.testing.assert_allclose(shapely.get_coordinates(there.geometry.iloc[0]), expected)
    back = transform.inverse.shapes(there)
    assert back.geometry.iloc[0].hausdorff_distance(shapes.geometry.iloc[0]) < 0.1


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> tuple[Path, np.ndarray]:
    path = tmp_path_factory.mktemp("warp") / "a.png"
    return path, smooth_picture(path, SIZE)


def test_identity_and_quarter_turn_give_the_very_pixels(picture) -> None:
    path, pixels = picture
    with open_slide(path) as slide:
        same = Transform.identity("a", SIZE).image(slide)
        np.testing.assert_array_equal(same, pixels)
        # (x, y) -> (height - y, x): a quarter turn in pixels whose corners are whole numbers
        turn = np.array([[0.0, -1, SIZE[1]], [1, 0, 0], [0, 0, 1]])
        turned = Transform.affine("a", SIZE, "ref", SIZE[::-1], turn).image(slide)
    np.testing.assert_array_equal(turned, np.rot90(pixels, -1))


def test_pixels_are_where_the_points_say(picture) -> None:
    path, pixels = picture
    first, second = bent("a", 1), bent("b", 2, angle=-0.1)
    for mapping in (first, Between(first, second), compose(first, second.inverse)):
        with open_slide(path) as slide:
            image = mapping.image(slide, (300, 200, 400, 300))
        assert image.shape == (300, 400, 3)
        rows, columns = np.mgrid[10:290:7, 10:390:7]
        centres = np.stack([columns.ravel() + 300.5, rows.ravel() + 200.5], axis=1)
        there = mapping.from_frame(centres) - 0.5
        for band in range(3):
            expected = ndimage.map_coordinates(pixels[..., band].astype(float), (there[:, 1], there[:, 0]), order=1)
            assert np.abs(image[rows.ravel(), columns.ravel(), band] - expected).max() <= 1.5


def test_a_coarser_picture_is_the_fine_one_averaged(picture) -> None:
    path, _ = picture
    transform = bent()
    with open_slide(path) as slide:
        fine = transform.image(slide, (400, 300, 256, 256)).astype(float)
        coarse = transform.image(slide, (400, 300, 256, 256), downsample=4)
    averaged = fine.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
    assert coarse.shape == (64, 64, 3) and np.abs(coarse - averaged)[1:-1, 1:-1].mean() < 1.5


def test_regions_fit_together_and_outside_is_white(picture) -> None:
    path, _ = picture
    transform = bent()
    with open_slide(path) as slide:
        whole = transform.image(slide, (-300, -100, 900, 700))
        left, top = 400, 333
        part = transform.image(slide, (-300 + left, -100 + top, 200, 150))
    assert np.abs(whole[top : top + 150, left : left + 200].astype(int) - part).max() <= 2
    assert (whole[:60, :60] == 255).all()


class CountingSlide:
    """Passes everything on and remembers the largest piece that was read."""

    def __init__(self, slide) -> None:
        self.slide, self.largest, self.size, self.levels = slide, 0, slide.size, slide.levels

    def read_scaled(self, x, y, width, height, downsample):
        self.largest = max(self.largest, width * height)
        return self.slide.read_scaled(x, y, width, height, downsample)


def test_reading_is_lazy_and_bounded(picture) -> None:
    path, _ = picture
    with open_slide(path) as slide:
        counting = CountingSlide(slide)
        tiles = warped_tiles(bent(), counting, (0, 0, *FRAME), 1.0, tile=128)  # type: ignore[arg-type]
        assert counting.largest == 0
        left, top, tile = next(tiles)
        assert (left, top, tile.shape) == (0, 0, (128, 128, 3))
        list(tiles)
        assert 0 < counting.largest < 4 * 128 * 128


def test_a_picture_that_cannot_be_made_is_refused(picture) -> None:
    with open_slide(picture[0]) as slide:
        with pytest.raises(RegistrationError, match="too many"):
            bent().image(slide, (0, 0, 1e6, 1e6))
        with pytest.raises(RegistrationError, match="no such region"):
            bent().image(slide, (0, 0, 0, 10))
        with pytest.raises(RegistrationError, match="not both"):
            bent().image(slide, level=0, downsample=2)
        with pytest.raises(RegistrationError, match="no level 7"):
            bent().image(slide, level=7)


def test_numpy_alone_reads_and_applies_a_saved_transform(tmp_path) -> None:
    """The code printed in docs/howto/transforms.md, run in a process in which SciPy and stainda cannot be imported."""
    page = (Path(__file__).parents[2] / "docs" / "howto" / "transforms.md").read_text(encoding="utf-8")
    code = next(block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "def to_frame" in block)
    bent().save(tmp_path / "a")
    np.save(tmp_path / "points.npy", POINTS)
    program = f"""
import sys
sys.modules["scipy"] = sys.modules["stainda"] = None
{code}
points = np.load({str(tmp_path / "points.npy")!r})
np.save({str(tmp_path / "out.npy")!r}, to_frame(load({str(tmp_path / "a")!r}), points))
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), bent().to_frame(POINTS), atol=1e-6)
