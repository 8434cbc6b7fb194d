"""Every way of storing a slide gives the same pixels through one interface."""

from __future__ import annotations

import pickle
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from stainda.errors import SlideError
from stainda.slides import open_slide
from stainda.slides.backend import PixelSize
from stainda.slides.slide import Slide
from stainda.slides.with_pillow import ArrayBackend

WIDTH, HEIGHT = 336, 248


@pytest.mark.parametrize("downsample", [1.0, 2.0])
def test_fractions_of_a_pixel_count_far_from_the_corner_too(downsample):
    """A row of a ramp that repeats every 200 pixels: 60,000 pixels further to the right it looks the same."""
    ramp = np.tile((np.arange(120_000) % 200).astype(np.uint8)[None, :, None], (4, 1, 3))
    slide = Slide("ramp.png", ArrayBackend(ramp, PixelSize(None, "")))
    near, far = (slide.read_scaled(x, 0, 6, 2, downsample) for x in (100.4, 60_100.4))
    assert np.array_equal(near, far)
    expected = 100.4 + downsample * np.arange(6) + (downsample - 1) / 2
    assert np.abs(near[0, :, 0] - expected).max() <= 0.6, "rounded to whole grey values"
    alternating = np.tile((200 * (np.arange(120_000) % 2)).astype(np.uint8)[None, :, None], (4, 1, 3))
    slide = Slide("stripes.png", ArrayBackend(alternating, PixelSize(None, "")))
    assert (slide.read_scaled(60_000.5, 0, 6, 2, 1.0) == 100).all()


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Smooth enough for JPEG, different in every direction and channel."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    channels = [128 + 100 * np.sin(x / 31), 40 + 0.8 * y * np.cos(x / 60) ** 2, 250 * x / WIDTH]
    return np.stack(channels, -1).clip(0, 255).astype(np.uint8)


def halved(image: np.ndarray) -> np.ndarray:
    h, w = image.shape[0] // 2, image.shape[1] // 2
    return image[: 2 * h, : 2 * w].reshape(h, 2, w, 2, 3).mean((1, 3)).round().astype(np.uint8)


def write_pyramid(path: Path, image: np.ndarray, subifds: bool = False, **options) -> None:
    levels = [image, halved(image), halved(halved(image))]
    with tifffile.TiffWriter(path) as writer:
        for i, level in enumerate(levels):
            kind = {"subifds": 2} if subifds and i == 0 else {"subfiletype": 1} if i else {}
            writer.write(level, photometric="rgb", **kind, **options)


FORMATS = {
    "png": lambda path, image: Image.fromarray(image).save(path.with_suffix(".png")),
    "jpg": lambda path, image: Image.fromarray(image).save(path.with_suffix(".jpg"), quality=100, subsampling=0),
    "webp": lambda path, image: Image.fromarray(image).save(path.with_suffix(".webp"), lossless=True),
    "strips.tif": lambda path, image: tifffile.imwrite(path.with_suffix(".tif"), image, rowsperstrip=7),
    "tiles.tif": lambda path, image: tifffile.imwrite(
        path.with_suffix(".tif"), image, tile=(64, 48), compression="deflate", predictor=True
    ),
    "planar.tif": lambda path, image: tifffile.imwrite(
        path.with_suffix(".tif"), image.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", tile=(64, 64)
    ),
    "jpeg.tif": lambda path, image: tifffile.imwrite(
        path.with_suffix(".tif"), image, photometric="rgb", compression="jpeg", rowsperstrip=64,
        compressionargs={"level": 98, "subsampling": "444"},
    ),
    "pyramid.tif": lambda path, image: write_pyramid(path.with_suffix(".tif"), image, tile=(64, 64)),
    "big.tif": lambda path, image: tifffile.imwrite(path.with_suffix(".btf"), image, bigtiff=True, tile=(128, 128)),
    "ome.tif": lambda path, image: tifffile.imwrite(path.with_suffix(".ome.tif"), image, photometric="rgb"),
    "pyramid.ome.tif": lambda path, image: write_pyramid(
        path.with_suffix(".ome.tif"), image, subifds=True, tile=(64, 64)
    ),
}  # fmt: skip
LOSSY = {"jpg": 4, "jpeg.tif": 5}


@pytest.fixture(params=FORMATS, scope="module")
def stored(request, picture, tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    FORMATS[request.param](folder / "slide", picture)
    with open_slide(next(folder.iterdir())) as slide:
        yield slide, LOSSY.get(request.param, 0)


def close(found: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    assert found.shape == expected.shape
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= tolerance


def test_a_region_is_the_pixels_there(stored, picture):
    slide, tolerance = stored
    assert slide.size == (WIDTH, HEIGHT)
    assert slide.levels[0].downsample == 1
    close(slide.read(0, 0, WIDTH, HEIGHT), picture, tolerance)
    close(slide.read(70, 33, 101, 130), picture[33:163, 70:171], tolerance)
    close(slide.read(WIDTH - 1, HEIGHT - 1, 1, 1), picture[-1:, -1:], tolerance)


def test_outside_the_slide_is_white(stored, picture):
    slide, tolerance = stored
    region = slide.read(-10, -20, 50, 60)
    assert (region[:20] == 255).all()
    assert (region[:, :10] == 255).all()
    close(region[20:, 10:], picture[:40, :40], tolerance)
    assert (slide.read(5000, 5000, 8, 4) == 255).all()
    assert slide.read(0, 0, 0, 0).shape == (0, 0, 3)


def test_scaling_by_whole_numbers_averages_blocks(stored, picture):
    slide, tolerance = stored
    close(slide.read_scaled(0, 0, 80, 60, 2), halved(picture)[:60, :80], tolerance + 1)
    close(slide.read_scaled(40, 20, 30, 20, 4), halved(halved(picture))[5:25, 10:40], tolerance + 2)
    close(slide.read_scaled(7, 9, 50, 40, 1), picture[9:49, 7:57], tolerance)


@pytest.mark.parametrize("downsample", [0.5, 1.7, 3.3])
def test_scaling_keeps_positions(stored, downsample):
    """The blue channel is a ramp in x, so a resampled pixel tells where it was taken from."""
    slide, tolerance = stored
    image = slide.read_scaled(60, 40, 40, 20, downsample)
    expected = 250 * (60 + (np.arange(40) + 0.5) * downsample - 0.5) / WIDTH
    assert np.abs(image[..., 2].mean(0) - expected).max() < 1.8 + tolerance / 2


def test_a_thumbnail_covers_the_whole_slide(stored, picture):
    slide, tolerance = stored
    image, downsample = slide.thumbnail(100)
    assert max(image.shape[:2]) == 100
    assert downsample == pytest.approx(WIDTH / 100)
    assert np.abs(image.mean((0, 1)) - picture.mean((0, 1))).max() < 3 + tolerance
    whole, one = slide.thumbnail(10_000)
    assert one == 1
    close(whole, picture, tolerance)


def test_a_pickled_slide_reads_the_same(stored):
    slide, _ = stored
    with pickle.loads(pickle.dumps(slide)) as copy:
        assert (copy.read(10, 10, 50, 50) == slide.read(10, 10, 50, 50)).all()


def test_threads_may_share_a_slide(stored, picture):
    slide, tolerance = stored
    corners = [(x, y) for y in range(0, 200, 25) for x in range(0, 280, 40)]
    with ThreadPoolExecutor(4) as pool:
        for (x, y), region in zip(corners, pool.map(lambda at: slide.read(*at, 40, 25), corners), strict=True):
            close(region, picture[y : y + 25, x : x + 40], tolerance)


@pytest.mark.parametrize("name", ["pyramid.tif", "pyramid.ome.tif"])
def test_levels_are_read_in_their_own_pixels(name, picture, tmp_path):
    FORMATS[name](tmp_path / "slide", picture)
    with open_slide(next(tmp_path.iterdir())) as slide:
        assert [(level.width, level.height) for level in slide.levels] == [(336, 248), (168, 124), (84, 62)]
        close(slide.read(0, 0, 168, 124, level=1), halved(picture), 0)
        close(slide.read(40, 20, 20, 10, level=2), halved(halved(picture))[5:15, 10:30], 0)
        with pytest.raises(SlideError, match="no level 3"):
            slide.read(0, 0, 1, 1, level=3)


def test_a_level_that_is_no_reduction_of_the_first_is_not_used(picture, tmp_path):
    path = tmp_path / "macro.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(picture, photometric="rgb", tile=(64, 64))
        writer.write(picture[:60, :200][::-1], photometric="rgb", tile=(64, 64), subfiletype=1)
    with open_slide(path) as slide:
        assert len(slide.levels) == 1
        close(slide.read_scaled(0, 0, 50, 50, 3), slide.read_scaled(0, 0, 100, 100, 3)[:50, :50], 0)


def test_alpha_is_laid_on_white(tmp_path):
    image = np.zeros((40, 50, 4), np.uint8)
    image[..., 0], image[:20, :, 3], image[20:30, :, 3] = 200, 255, 51
    Image.fromarray(image).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", extrasamples=["unassalpha"])
    for path in tmp_path.iterdir():
        with open_slide(path) as slide:
            column = slide.read(0, 0, 1, 40)[:, 0]
        assert (column[0] == (200, 0, 0)).all()
        assert (column[25] == (244, 204, 204)).all()
        assert (column[35] == 255).all()


def test_a_large_slide_is_never_decoded_whole(tmp_path):
    path = tmp_path / "large.tif"
    side = 4096
    tile = np.full((512, 512, 3), 200, np.uint8)
    tiles = (tile for _ in range((side // 512) ** 2))
    tifffile.imwrite(path, tiles, shape=(side, side, 3), dtype=np.uint8, tile=(512, 512), compression="deflate",
                     photometric="rgb")  # fmt: skip
    tifffile.imwrite(tmp_path / "strips.tif", np.broadcast_to(tile[:1, :1], (side, side, 3)), rowsperstrip=64)
    for file, most in ((path, 80), (tmp_path / "strips.tif", 80)):
        tracemalloc.start()
        with open_slide(file) as slide:
            thumbnail, _ = slide.thumbnail(300)
            slide.read(3000, 3000, 256, 256)
        peak = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
        assert (thumbnail == 200).all()
        assert peak < most


def test_a_closed_slide_says_so(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    with open_slide(tmp_path / "a.png") as slide:
        pass
    with pytest.raises(SlideError, match="closed"):
        slide.read(0, 0, 1, 1)
