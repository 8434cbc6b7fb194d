"""JPEG tiles decoded straight from the file are the pixels that OpenSlide shows, wherever they are taken."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from stainda.errors import SlideError
from stainda.slides import open_slide
from stainda.slides.jpeg_tiles import _decodable, jpeg_tiles

pytest.importorskip("openslide")
pytestmark = pytest.mark.usefixtures("decoded_here")
SIDES = (730, 517)
"""Odd: the coarser levels are no whole parts of the first."""


def texture(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(4)
    coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3))
    fine = coarse.repeat(8, 0).repeat(8, 1)[:height, :width] + rng.integers(-20, 20, (height, width, 3))
    return fine.clip(0, 255).astype(np.uint8)


def pyramid(path: Path, kind: str, subsampling: str = "420") -> Path:
    """A tiled JPEG TIFF as libvips writes it, or as an Aperio scanner does."""
    aperio = {"description": "Aperio Image Library v11\n|AppMag = 20|MPP = 0.5"} if kind == "aperio" else {}
    with tifffile.TiffWriter(path) as writer:
        for level in range(3):
            height, width = SIDES[1] >> level, SIDES[0] >> level
            writer.write(
                texture(height, width), photometric="rgb", tile=(64, 96), compression="jpeg",
                compressionargs={"level": 80, "subsampling": subsampling, "outcolorspace": "YCBCR"},
                subfiletype=int(level > 0 and kind == "generic"), **(aperio if level == 0 or aperio else {}),
            )  # fmt: skip
    return path


@pytest.fixture(scope="module", params=["generic-444", "generic-420", "aperio-422"])
def slide_file(request, tmp_path_factory):
    kind, subsampling = request.param.split("-")
    name = "slide.svs" if kind == "aperio" else "slide.tif"
    return pyramid(tmp_path_factory.mktemp(kind) / name, kind, subsampling)


def regions(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """Whole tiles, parts of tiles, across tiles, at the rims, a single pixel, all."""
    rng = np.random.default_rng(2)
    found = [(96, 64, 96, 64), (0, 0, 192, 128), (10, 20, 40, 30), (90, 60, 20, 20), (0, 0, width, height)]
    found += [(width - 1, height - 1, 1, 1), (width - 97, height - 65, 97, 65)]
    for _ in range(20):
        x, y = int(rng.integers(width - 8)), int(rng.integers(height - 8))
        found.append((x, y, int(rng.integers(1, width - x)), int(rng.integers(1, height - y))))
    return [(x, y, w, h) for x, y, w, h in found if x >= 0 and y >= 0 and x + w <= width and y + h <= height]


def test_every_region_of_every_level_is_what_openslide_shows(slide_file):
    with open_slide(slide_file) as slide:
        backend = slide._backend
        tiles = backend.tiles
        assert tiles is not None and tiles.levels == set(range(len(backend.sizes)))
        for level, (width, height) in enumerate(backend.sizes):
            for region in regions(width, height):
                backend.tiles = tiles
                ours = backend.read(level, *region)
                backend.tiles = None
                assert np.array_equal(ours, backend.read(level, *region)), (level, region)
        backend.tiles = tiles


def test_level_0_is_read_without_openslide(slide_file, monkeypatch):
    with open_slide(slide_file) as slide:
        expected = slide.read(33, 7, 300, 200)
        monkeypatch.setattr(slide._backend, "_slide", None)
        assert np.array_equal(slide.read(33, 7, 300, 200), expected)
        monkeypatch.undo()


def test_what_is_given_out_may_be_changed(slide_file):
    with open_slide(slide_file) as slide:
        for region in ((96, 64, 96, 64), (90, 60, 20, 20), (96, 64, 96, 64)):
            first = slide.read(*region)
            kept = first.copy()
            first[:] = 0
            assert np.array_equal(slide.read(*region), kept)


def test_few_tiles_are_kept(slide_file, monkeypatch):
    monkeypatch.setattr("stainda.slides.jpeg_tiles._CACHE_BYTES", 3 * 64 * 96 * 3)
    with open_slide(slide_file) as slide:
        whole = slide.read(0, 0, *SIDES)
        for x, y, width, height in regions(*SIDES):
            assert np.array_equal(slide.read(x, y, width, height), whole[y : y + height, x : x + width])
            assert len(slide._backend.tiles._kept) <= 3


def test_threads_read_the_same(slide_file):
    with open_slide(slide_file) as slide, ThreadPoolExecutor(4) as pool:
        wanted = regions(*SIDES) * 4
        whole = slide.read(0, 0, *SIDES)
        for (x, y, width, height), found in zip(wanted, pool.map(lambda one: slide.read(*one), wanted), strict=True):
            assert np.array_equal(found, whole[y : y + height, x : x + width])


def test_a_damaged_tile_is_an_error_that_names_the_place(tmp_path):
    path = pyramid(tmp_path / "slide.tif", "generic")
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        offset, length = page.dataoffsets[0], page.databytecounts[0]
    data = bytearray(path.read_bytes())
    data[offset : offset + length] = bytes(length)
    path.write_bytes(data)
    with open_slide(path) as slide:
        assert slide.read(96, 0, 96, 64).shape == (64, 96, 3)
        with pytest.raises(SlideError, match="damaged at x 0, y 0"):
            slide.read(0, 0, 96, 64)


def test_a_level_with_fewer_tiles_than_its_size_needs_is_left_to_openslide(tmp_path):
    path = pyramid(tmp_path / "slide.tif", "generic")
    with tifffile.TiffFile(path) as file:
        sizes = [(page.imagewidth, page.imagelength) for page in file.pages]
        file.pages[0].dataoffsets = file.pages[0].dataoffsets[:1]
        tiles = jpeg_tiles(path, file, sizes)
    assert tiles.levels == frozenset(range(1, len(sizes)))
    tiles.close()


def test_a_page_whose_tile_width_is_no_number_is_damaged(tmp_path):
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, np.zeros((64, 96, 3), np.uint8), tile=(32, 32), photometric="rgb", compression="zlib")
    with tifffile.TiffFile(path) as file:
        tag = file.pages[0].tags["TileWidth"]
        data = bytearray(path.read_bytes())
    data[tag.offset + 4] = 2  # two numbers instead of one
    path.write_bytes(data)
    with pytest.raises(SlideError, match=r"slide\.tif.*not a TIFF that can be read"):
        open_slide(path)


def test_a_tile_that_is_another_picture_than_the_file_says_is_not_decoded(tmp_path):
    """Its own header may claim any size: up to 65,535 pixels a side, of which no memory may be taken."""
    path = pyramid(tmp_path / "slide.tif", "generic")
    with open_slide(path) as slide:
        tiles = slide._backend.tiles
        for side in (8, 512):
            other = imagecodecs.jpeg8_encode(np.zeros((side, side, 3), np.uint8))
            (tmp_path / "other").write_bytes(other)
            level = tiles._levels[0]
            level._offsets, level._lengths, level._tables = np.array([0]), np.array([len(other)]), None
            with (tmp_path / "other").open("rb") as file:
                assert level.decode(file.fileno(), 0) is None


def test_a_tile_that_claims_more_bytes_than_it_can_have_is_left_to_openslide(tmp_path):
    with tifffile.TiffFile(pyramid(tmp_path / "slide.tif", "generic")) as file:
        page = file.pages[0]
        assert _decodable([page])
        counts = list(page.databytecounts)
        page.databytecounts = (*counts[:-1], 1 << 40)
        assert not _decodable([page])


@pytest.mark.parametrize("compression", ["deflate", None])
def test_other_compressions_are_left_to_openslide(compression, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", texture(200, 200), photometric="rgb", tile=(64, 64), compression=compression)
    with open_slide(tmp_path / "a.tif") as slide:
        assert getattr(slide._backend, "tiles", None) is None
        assert np.array_equal(slide.read(0, 0, 200, 200), texture(200, 200))
