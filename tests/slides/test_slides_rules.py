"""One set of rules for a file's pixels, whichever library reads them, however the file lays them out."""

from __future__ import annotations

import io
import itertools
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from stainda.errors import SlideError
from stainda.slides import decoding, open_slide
from stainda.slides.rules import Channel, joins_to_rgb
from stainda.slides.tiff_structure import judge_scanner_tiff
from stainda.slides.with_openslide import judge_properties

COLOUR = (194, 121, 168)
RGB = np.full((96, 128, 3), COLOUR, np.uint8)
PLANES = np.moveaxis(RGB, 2, 0)
GREY = RGB[..., 0]
HALF = np.dstack([RGB, np.full_like(GREY, 128)])
ON_WHITE = [round((c * 128 + 255 * 127) / 255) for c in COLOUR]
UM = {"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm"}


def ome_channels(**channel) -> dict:
    return {"ome": True, "photometric": "minisblack", "metadata": {"axes": "CYX", **UM, "Channel": channel}}


# what is stored, how, and the right answer: a colour (with the pixel size), or the reason of the refusal
CASES = {
    "rgb": (RGB, {"photometric": "rgb"}, COLOUR),
    "rgb deflate": (RGB, {"photometric": "rgb", "compression": "deflate", "predictor": True}, COLOUR),
    "rgb lzw": (RGB, {"photometric": "rgb", "compression": "lzw"}, COLOUR),
    "rgb jpeg": (RGB, {"photometric": "rgb", "compression": "jpeg"}, COLOUR),
    "separate planes": (PLANES, {"photometric": "rgb", "planarconfig": "separate"}, COLOUR),
    "ome rgb": (RGB, {"photometric": "rgb", "ome": True, "metadata": UM}, (*COLOUR, 0.5)),
    "ome planes": (PLANES, {"photometric": "rgb", "planarconfig": "separate", "ome": True,
                            "metadata": {"axes": "CYX", **UM}}, (*COLOUR, 0.5)),
    "ome channels red green blue": (PLANES, ome_channels(Name=["Red", "Green", "Blue"]), (*COLOUR, 0.5)),
    "ome channels r g b": (PLANES, ome_channels(Name=["R", "G", "B"]), (*COLOUR, 0.5)),
    "ome channels by colour": (PLANES, ome_channels(Color=[-16776961, 16711935, 65535]), (*COLOUR, 0.5)),
    "straight alpha": (HALF, {"photometric": "rgb", "extrasamples": ["unassalpha"]}, ON_WHITE),
    "premultiplied alpha": ((HALF.astype(int) * [[[128 / 255] * 3 + [1]]]).round().astype(np.uint8),
                            {"photometric": "rgb", "extrasamples": ["assocalpha"]}, ON_WHITE),
    "8-bit grey": (GREY, {"photometric": "minisblack"}, "greyscale"),
    "white is zero": (GREY, {"photometric": "miniswhite"}, "greyscale"),
    "one bit": (GREY > 5, {"photometric": "minisblack"}, "black and white"),
    "palette": (GREY, {"photometric": "palette", "colormap": np.arange(768, dtype=np.uint16).reshape(3, 256)},
                "colour table"),
    "cmyk": (HALF, {"photometric": "separated", "extrasamples": []}, "CMYK"),
    "lab": (RGB, {"photometric": "cielab"}, "not RGB but cielab"),
    "12 bit in 16": (RGB.astype(np.uint16) * 16, {"photometric": "rgb"}, "16 bits per sample"),
    "16 bit": (RGB.astype(np.uint16) * 257, {"photometric": "rgb"}, "16 bits per sample"),
    "16-bit grey": (GREY.astype(np.uint16), {"photometric": "minisblack"}, "16 bits|greyscale"),
    "float": (RGB.astype(np.float32), {"photometric": "rgb"}, "float32"),
    "signed": (RGB.astype(np.int8), {"photometric": "rgb"}, "int8"),
    "a fourth sample of unknown meaning": (HALF, {"photometric": "rgb", "extrasamples": ["unspecified"]}, "fourth"),
    "five samples": (np.dstack([RGB, RGB[..., :2]]), {"photometric": "rgb", "planarconfig": "contig"}, "5 samples"),
    "two pictures of one size": (np.stack([RGB] * 2), {"photometric": "rgb"}, "stack of 2"),
    "z-stack": (np.stack([RGB] * 4), {"photometric": "rgb", "ome": True, "metadata": {"axes": "ZYXS"}},
                "4 focal planes"),
    "time series": (np.stack([RGB] * 4), {"photometric": "rgb", "ome": True, "metadata": {"axes": "TYXS"}},
                    "4 time points"),
    "fluorescence of two": (np.stack([GREY] * 2), ome_channels(Name=["DAPI", "FITC"]), "2 separate channels.*DAPI"),
    "fluorescence of three": (PLANES, ome_channels(Name=["DAPI", "FITC", "Cy3"]), "3 separate channels.*DAPI"),
    "fluorescence coloured r g b": (PLANES, ome_channels(Color=[-16776961, 16711935, 65535],
                                                         EmissionWavelength=[600.0, 520.0, 460.0]), "3 separate"),
    "channels b g r": (PLANES, ome_channels(Name=["Blue", "Green", "Red"]), "3 separate channels"),
    "channels without names": (PLANES, ome_channels(), "without names.*Red, Green, Blue"),
    "16-bit channels r g b": (PLANES.astype(np.uint16), ome_channels(Name=["R", "G", "B"]), "16 bits"),
}  # fmt: skip
LAYOUTS = {"strips": {}, "tiles": {"tile": (32, 32)}}
READERS = ("openslide", "without openslide")
pytestmark = pytest.mark.usefixtures("decoded_here")


def judge(path, expected, monkeypatch, reader):
    if reader == "without openslide":
        monkeypatch.setattr(decoding, "has_openslide", lambda: False)
    if isinstance(expected, str):
        with pytest.raises(SlideError, match=expected) as caught:
            open_slide(path)
        assert str(path) in str(caught.value) and caught.value.remedy
        return
    with open_slide(path) as slide:
        assert slide.size == (128, 96)
        shown = slide.read(40, 40, 60, 50)
        assert np.abs(shown.astype(int) - np.array(expected[:3])).max() <= 2
        if len(expected) > 3:
            assert slide.mpp == pytest.approx(expected[3])


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("layout", "big"), itertools.product(LAYOUTS, (False, True)))
@pytest.mark.parametrize("name", CASES)
def test_a_rule_holds_in_every_layout_and_reader(name, layout, big, reader, tmp_path, monkeypatch):
    image, options, expected = CASES[name]
    path = tmp_path / ("a.ome.tif" if options.get("ome") else "a.tif")
    tifffile.imwrite(path, image, bigtiff=big, **{"metadata": None, **options, **LAYOUTS[layout]})
    judge(path, expected, monkeypatch, reader)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_largest_picture_is_taken_wherever_it_stands(layout, reader, tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:  # OpenSlide takes the first tiled page
        writer.write(np.zeros((32, 48, 3), np.uint8), photometric="rgb", tile=(16, 16), metadata=None)
        writer.write(RGB, photometric="rgb", metadata=None, **LAYOUTS[layout])
    judge(path, COLOUR, monkeypatch, reader)
    with tifffile.TiffWriter(path) as writer:
        writer.write(RGB[:32, :48], photometric="rgb", tile=(16, 16), metadata=None)
        writer.write(GREY, photometric="minisblack", metadata=None, **LAYOUTS[layout])
    judge(path, "greyscale", monkeypatch, reader)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_two_ome_pictures_of_one_size_are_refused(layout, reader, tmp_path, monkeypatch):
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for _ in range(2):
            writer.write(RGB, photometric="rgb", **LAYOUTS[layout])
    judge(path, "2 pictures of the same size", monkeypatch, reader)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_turned_tiff_is_read_as_it_is_stored(layout, reader, tmp_path, monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, RGB.shape, np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, image, photometric="rgb", metadata=None, extratags=[(274, 3, 1, 4, True)], **LAYOUTS[layout])
    if reader == "without openslide":
        monkeypatch.setattr(decoding, "has_openslide", lambda: False)
    with open_slide(path) as slide:
        assert (slide.read(0, 0, 128, 96) == image).all()
        assert any("orientation" in note for note in slide.notes)


@pytest.mark.parametrize("reader", READERS)
def test_ycbcr_that_is_not_jpeg_shows_its_colours(reader, tmp_path, monkeypatch):
    ycbcr = np.asarray(Image.fromarray(RGB).convert("YCbCr"))
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, ycbcr, photometric="ycbcr", subsampling=(1, 1), tile=(32, 32), metadata=None)
    judge(path, COLOUR, monkeypatch, reader)


IMAGEJ_UNITS = {
    "um": (2, 0.5), "micron": (2, 0.5), "microns": (2, 0.5), "\\u00B5m": (2, 0.5), "nm": (0.002, 0.5),
    "mm": (2000, 0.5), "cm": (20000, 0.5), "inch": (50800, 0.5), "pixel": (2, None), "sec": (2, None),
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("unit", IMAGEJ_UNITS)
def test_the_unit_of_imagej_is_a_pixel_size(unit, layout, reader, tmp_path, monkeypatch):
    resolution, mpp = IMAGEJ_UNITS[unit]
    code = {"inch": 2, "cm": 3}.get(unit, 1)
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, RGB, photometric="rgb", resolution=(resolution, resolution), resolutionunit=code,
        description=f"ImageJ=1.53t\nunit={unit}\n", metadata=None, **LAYOUTS[layout],
    )  # fmt: skip
    if reader == "without openslide":
        monkeypatch.setattr(decoding, "has_openslide", lambda: False)
    with open_slide(path) as slide:
        assert slide.mpp == (None if mpp is None else pytest.approx(mpp, rel=1e-3)), slide.mpp_origin


def saved(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def bmp_555() -> bytes:
    rows = struct.pack("<H", 0x7FFF) * 4 * 4
    return struct.pack("<2sIHHI", b"BM", 54 + len(rows), 0, 0, 54) + struct.pack(
        "<IiiHHIIiiII", 40, 4, 4, 1, 16, 0, len(rows), 0, 0, 0, 0
    ) + rows  # fmt: skip


PICTURE = Image.fromarray(RGB)
IMAGES = {
    "rgb.png": (saved(PICTURE, "PNG"), COLOUR),
    "rgb.bmp": (saved(PICTURE, "BMP"), COLOUR),
    "rgb.webp": (saved(PICTURE, "WEBP", lossless=True), COLOUR),
    "rgb.jpg": (saved(PICTURE, "JPEG", quality=95), COLOUR),
    "rgb.jp2": (saved(PICTURE, "JPEG2000"), COLOUR),
    "rgb.ppm": (saved(PICTURE, "PPM"), COLOUR),
    "alpha.png": (saved(Image.fromarray(HALF), "PNG"), ON_WHITE),
    "palette.png": (saved(PICTURE.quantize(8), "PNG"), "colour table"),
    "palette.bmp": (saved(PICTURE.quantize(8), "BMP"), "colour table"),
    "grey.png": (saved(PICTURE.convert("L"), "PNG"), "greyscale"),
    "grey with alpha.png": (saved(PICTURE.convert("LA"), "PNG"), "greyscale"),
    "grey.jpg": (saved(PICTURE.convert("L"), "JPEG"), "greyscale"),
    "16-bit grey.png": (saved(Image.fromarray(GREY.astype(np.uint16) * 200), "PNG"), "16 bits"),
    "one bit.png": (saved(PICTURE.convert("1"), "PNG"), "black and white"),
    "cmyk.jpg": (saved(PICTURE.convert("CMYK"), "JPEG"), "CMYK"),
    "animated.png": (saved(PICTURE, "PNG", save_all=True, append_images=[Image.fromarray(RGB // 2)]), "2 pictures"),
    "animated.webp": (saved(PICTURE, "WEBP", save_all=True, append_images=[Image.fromarray(RGB // 2)]), "2 pictures"),
    "16-bit.ppm": (b"P6\n# of a camera\n4 4\n65535\n" + bytes(96), "16 bits"),
    "15-bit.bmp": (bmp_555(), "5 bits"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", IMAGES)
def test_the_same_rules_hold_for_plain_images(name, reader, tmp_path, monkeypatch):
    content, expected = IMAGES[name]
    (tmp_path / name).write_bytes(content)
    judge(tmp_path / name, expected, monkeypatch, reader)


def test_16_bit_jpeg_2000_is_refused(tmp_path):
    imagecodecs = pytest.importorskip("imagecodecs")
    (tmp_path / "a.jp2").write_bytes(imagecodecs.jpeg2k_encode(RGB.astype(np.uint16) * 200, codecformat="jp2"))
    with pytest.raises(SlideError, match="16 bits"):
        open_slide(tmp_path / "a.jp2")


APERIO = "Aperio Image Library v12\n128x96 [0,0 128x96] (32x32) JPEG|AppMag = 20|MPP = 0.5"


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["rgb", "8-bit grey", "palette", "16 bit", "12 bit in 16", "16-bit grey"])
def test_the_rules_hold_for_scanner_files(name, reader, tmp_path, monkeypatch):
    image, options, expected = CASES[name]
    path = tmp_path / "a.svs"
    tifffile.imwrite(path, image, tile=(32, 32), description=APERIO, metadata=None, **options)
    with tifffile.TiffFile(path) as file:
        assert file.is_svs
    judge(path, expected if isinstance(expected, str) else (*expected, 0.5), monkeypatch, reader)


def test_fluorescence_scans_are_refused_by_what_the_scanner_tells(tmp_path):
    for properties, reason in (
        ({"mirax.GENERAL.SLIDE_TYPE": "SLIDE_TYPE_FLUORESCENCE"}, "fluorescence"),
        ({"mirax.GENERAL.VIMSLIDE_SLIDE_BITDEPTH": "12"}, "12 bits"),
        ({"zeiss.Information.Image.PixelType": "Bgr48"}, "Bgr48"),
    ):
        with pytest.raises(SlideError, match=reason):
            judge_properties(properties)
    judge_properties({"mirax.GENERAL.SLIDE_TYPE": "SLIDE_TYPE_BRIGHTFIELD"})
    path = tmp_path / "a.tif"  # tifffile takes a file named .ndpi for one with 64-bit offsets
    for mode, fine in ((0, True), (1, False), (17, False)):
        tags = [(65420, 4, 1, 1, True), (65441, 4, 1, mode, True), (271, 2, 10, "Hamamatsu", True)]
        tifffile.imwrite(path, RGB, photometric="rgb", metadata=None, extratags=tags)
        if fine:
            judge_scanner_tiff(path)
        else:
            with pytest.raises(SlideError, match=f"capture mode {mode}"):
                judge_scanner_tiff(path)


def test_channels_are_joined_by_their_names_then_by_their_colours():
    primary = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert joins_to_rgb([Channel(name) for name in ("red", "GREEN", " b ")])
    assert joins_to_rgb([Channel("", colour) for colour in primary])
    assert not joins_to_rgb([Channel("DAPI", colour) for colour in primary])
    assert not joins_to_rgb([Channel("", colour, fluorescent=True) for colour in primary])
    assert not joins_to_rgb([Channel()] * 3)


def test_the_manifest_check_names_slides_that_are_no_rgb_pictures(tmp_path):
    from typer.testing import CliRunner

    from stainda.cli.app import app

    rows = ["slide,patient,block,section,stain,centre,path"]
    for number, name in enumerate(("rgb", "palette", "12 bit in 16", "fluorescence of two"), start=1):
        image, options, _ = CASES[name]
        tifffile.imwrite(tmp_path / f"{number}.ome.tif", image, tile=(32, 32), **{"metadata": None, **options})
        rows.append(f"s{number},P,B,{number},HE,A,{number}.ome.tif")
    (tmp_path / "m.csv").write_text("\n".join(rows), "utf-8")
    result = CliRunner().invoke(app, ["manifest", "check", str(tmp_path / "m.csv")], env={"COLUMNS": "400"})
    assert result.exit_code == 2
    assert "3 faults" in result.output
    for reason in ("s2: ", "colour table", "16 bits per sample", "2 separate channels"):
        assert reason in result.output
