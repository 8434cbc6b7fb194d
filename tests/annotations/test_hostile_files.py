"""Files made to hang or to fill the memory, or with numbers that are none: refused in a second, in bounded memory."""

from __future__ import annotations

import contextlib
import json
import struct
import time
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import shapely

from stainda.annotations import guarded, load_shapes, make_shapes, read_shapes
from stainda.annotations.formats import FORMATS, imagej, read_annotations, write_annotations
from stainda.annotations.formats.frame import PlainFrame
from stainda.annotations.guarded import read_json
from stainda.errors import AnnotationError

SLIDE = PlainFrame((400, 300), Path("slide.svs"))


@pytest.fixture(autouse=True, scope="module")
def readers_imported(tmp_path_factory):
    """Packages that a reader imports at its first call are no part of the time an attack takes."""
    path = tmp_path_factory.mktemp("first") / "a.png"
    write_annotations(make_shapes([shapely.box(1, 1, 5, 5)], "a"), path, "mask", SLIDE)
    read_annotations(path, "mask", SLIDE)
    (path.parent / "a.tif").write_bytes(b"II*\0")
    with pytest.raises(AnnotationError):
        read_annotations(path.parent / "a.tif", "mask", SLIDE)


@contextlib.contextmanager
def refused(match=None, megabytes=100):
    began = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(AnnotationError, match=match):
            yield
        assert tracemalloc.get_traced_memory()[1] < megabytes * 1e6
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 1


@pytest.mark.parametrize("name", FORMATS)
def test_a_gigabyte_is_not_even_opened(name, tmp_path):
    for suffix in FORMATS[name].suffixes:
        path = tmp_path / f"a{suffix}"
        with path.open("wb") as stream:
            stream.truncate(1 << 30)  # sparse: it takes no room
        with refused("1074 MB is more than is read|not in a known format|not valid JSON", megabytes=20):
            read_annotations(path, slide=SLIDE)
        with refused(megabytes=20):
            read_annotations(path, name, SLIDE)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 10_000_000,
        '{"a":' * 2_000_000,
        '["' + "\\" * 999_999 + '"' + "[" * 100,
        '["' + "\\\\" * 600_000 + '",' + "[" * 70,
    ],
    ids=["lists", "objects", "escapes at odd places", "escapes across pieces"],
)
def test_json_that_nests_without_end(text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with refused("nested more than|not valid JSON"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("lead", [0, 1, 2, (1 << 20) - 3, (1 << 20) - 2, (1 << 20) - 1, 1 << 20])
def test_brackets_in_strings_are_text_wherever_pieces_end(lead, tmp_path):
    value = {"a": "x" * lead + '\\"' + "[" * 500, "b": ["\\" * 3, '"' * 5 + "{" * 200]}
    (tmp_path / "a.json").write_text(json.dumps(value))
    assert read_json(tmp_path / "a.json") == value


def test_more_parts_than_memory_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(guarded, "MAX_PARTS", 1000)
    monkeypatch.setattr(guarded, "MAX_ELEMENTS", 1000)
    (tmp_path / "a.json").write_text("[" + "[]," * 1000 + "[]]")
    with refused("1,000 lists and objects"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.xml").write_text("<a>" + "<b/>" * 1000 + "</a>")
    with refused("1,000 elements"):
        read_annotations(tmp_path / "a.xml", "asap")


def coco(segmentation):
    return json.dumps({"images": [], "annotations": [{"id": 1, "segmentation": segmentation}]})


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [1, 10**12], "counts": [0, 10**12]},
        {"size": [1, 900_000], "counts": [0, 10**30]},
        {"size": [900_000, 900_000], "counts": [0, 810_000_000_000]},
        {"size": [9, 9], "counts": "o" * 1_000_000},
        {"size": [9, 9], "counts": "\u2603"},
        {"size": [9, 9], "counts": 7},
        {"size": [9, 9], "counts": [-5, 3]},
        {"size": [10**400, 9], "counts": [1]},
        [[1, 2, 3, 10**400, 5, 6]],
    ],
    ids=lambda value: str(value)[:40],
)
def test_run_lengths_that_would_fill_the_memory(segmentation, tmp_path):
    (tmp_path / "a.json").write_text(coco(segmentation))
    with refused(megabytes=300):
        read_annotations(tmp_path / "a.json", "coco")


def test_a_column_high_run_in_a_flat_slide(tmp_path):
    (tmp_path / "a.csv").write_text("id,encoding\nslide,1 100000000\n")
    with refused("more columns than a slide has"):
        read_annotations(tmp_path / "a.csv", "rle", PlainFrame((100_000_000, 1), Path("slide.svs")))


def test_text_that_nests_before_a_recursive_reader(tmp_path):
    location = "GEOMETRYCOLLECTION (" * 100_000 + "POINT (1 2)" + ")" * 100_000
    (tmp_path / "a.json").write_text(json.dumps([{"id": 1, "location": location}]))
    with refused("nested deeper"):
        read_annotations(tmp_path / "a.json", "cytomine", SLIDE)


NUMBERS = {
    "asap": '<ASAP_Annotations><Annotations><Annotation Name="a" Type="Dot"><Coordinates>'
    '<Coordinate Order="0" X="{}" Y="1"/></Coordinates></Annotation></Annotations></ASAP_Annotations>',
    "imagescope": '<Annotations><Annotation><Regions><Region Type="0"><Vertices><Vertex X="{}" Y="1"/>'
    "</Vertices></Region></Regions></Annotation></Annotations>",
    "halo": '<Annotations><Annotation><Regions><Region Type="Polygon"><Vertices><V X="{}" Y="1"/>'
    "</Vertices></Region></Regions></Annotation></Annotations>",
    "voc": "<annotation><object><bndbox><xmin>{}</xmin><ymin>1</ymin><xmax>2</xmax><ymax>3</ymax></bndbox></object>"
    "</annotation>",
    "cytomine": '[{{"id": 1, "location": "POINT ({} 5)"}}]',
    "labelme": '{{"shapes": [{{"shape_type": "point", "points": [[{}, 1]]}}]}}',
    "coco": '{{"annotations": [{{"bbox": [{}, 1, 2, 3]}}]}}',
    "sectra": '[{{"type": "Area", "content": [{{"x": {}, "y": 1}}]}}]',
    "points": "x,y\n{},2\n",
    "qupath": '{{"type": "Feature", "geometry": {{"type": "Point", "coordinates": [{}, 1]}}}}',
}  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_coordinates_that_are_no_numbers(name, number, tmp_path):
    path = tmp_path / f"a{FORMATS[name].suffixes[-1]}"
    path.write_text(NUMBERS[name].format(number))
    with refused():
        read_annotations(path, name, SLIDE)
    path.write_text(NUMBERS[name].format(3))
    if name not in ("imagescope", "halo", "sectra"):  # one corner is no polygon either way
        assert len(read_annotations(path, name, SLIDE)) == 1


def header(count=3, kind=0, size=0, options=0):
    """The 64 bytes before the coordinates of an ImageJ region, and 16 more."""
    fields = struct.pack(">4sHBxhhhhH", b"Iout", 227, kind, 0, 0, 9, 9, count)
    return fields + bytes(16) + struct.pack(">hiiihhBBhii", 0, size, 0, 0, 0, options, 0, 0, 0, 0, 0) + bytes(16)


HOSTILE_REGIONS = {
    "more points than bytes": header(count=65_535),
    "2^31 points": header(count=0)[:18] + struct.pack(">i", 2**31 - 1) + header(count=0)[22:],
    "negative points": header(count=0)[:18] + struct.pack(">i", -5) + header(count=0)[22:],
    "a path longer than the file": header(kind=1, size=2**31 - 1),
    "a path of nonsense": header(kind=1, size=1) + struct.pack(">f", np.nan),
    "no such type": header(kind=200),
    "cut short": header()[:50],
    "points that are no numbers": header(count=1, kind=10, options=128)[:64] + bytes(4) + struct.pack(">ff", np.nan, 1),
    "another file": b"PK\x03\x04 and no more",
}


@pytest.mark.parametrize("attack", HOSTILE_REGIONS)
def test_hostile_imagej_regions(attack, tmp_path):
    pytest.importorskip("roifile")
    (tmp_path / "a.roi").write_bytes(HOSTILE_REGIONS[attack])
    with refused():
        read_annotations(tmp_path / "a.roi", "imagej")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.roi", HOSTILE_REGIONS[attack])
    with refused():
        read_annotations(tmp_path / "a.zip", "imagej")


def test_zip_files_that_unpack_to_too_much(tmp_path, monkeypatch):
    pytest.importorskip("roifile")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.roi", b"Iout" + bytes(33_000_000))
    assert (tmp_path / "a.zip").stat().st_size < 100_000
    with refused("more than is unpacked", megabytes=20):
        read_annotations(tmp_path / "a.zip")
    content = (tmp_path / "a.zip").read_bytes()
    lied = content.replace(struct.pack("<I", 33_000_004), struct.pack("<I", 80))  # says it were small
    (tmp_path / "a.zip").write_bytes(lied)
    with refused(megabytes=20):
        read_annotations(tmp_path / "a.zip")
    monkeypatch.setattr(imagej, "_MAX_REGIONS", 3)
    write_annotations(make_shapes([shapely.Point(i, i) for i in range(4)], "a"), tmp_path / "b.zip", "imagej")
    with refused("4 regions"):
        read_annotations(tmp_path / "b.zip")


def test_a_picture_that_unpacks_to_too_much(tmp_path):
    write_annotations(make_shapes([shapely.box(1, 1, 5, 5)], "a"), tmp_path / "a.png", "mask", SLIDE)
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[16:24] = struct.pack(">II", 200_000, 200_000)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    (tmp_path / "a.png").write_bytes(content)
    with refused(megabytes=20):
        read_annotations(tmp_path / "a.png")


def test_a_study_reads_hostile_files_no_other_way(tmp_path):
    (tmp_path / "a.geojson").write_text("[" * 1_000_000)
    with refused("nested"):
        load_shapes(tmp_path / "a.geojson", (100, 100))
    with refused("nested"):
        read_shapes(tmp_path / "a.geojson")
    (tmp_path / "a.xml").write_text('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><ASAP_Annotations>&x;')
    with refused("document type or entities"):
        load_shapes(tmp_path / "a.xml", (100, 100))


def test_every_format_is_attacked_with_numbers_that_are_none():
    """Those that are no text are attacked in tests of their own, above and below."""
    assert set(NUMBERS) | {"imagej", "ndpa", "rle", "mask"} == set(FORMATS)


RUNS = ["NaN 4", "1 NaN", "1e999 3", "-5 3", "1 -3", "0 4", "1", "120000 2", "99999999999999999999 1"]


@pytest.mark.parametrize("runs", RUNS)
def test_run_lengths_that_are_no_numbers_or_leave_the_slide(runs, tmp_path):
    (tmp_path / "a.csv").write_text(f"id,encoding\nslide,{runs}\n")
    with refused():
        read_annotations(tmp_path / "a.csv", "rle", SLIDE)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "", "9" * 400])
def test_nanometres_that_are_no_numbers(number, tmp_path):
    from test_round_trips import Glass, ndpi

    slide = Glass(ndpi(tmp_path / "slide.ndpi", Glass.size))
    pin = "<annotations><ndpviewstate><annotation type='pin'><x>{}</x><y>5</y></annotation></ndpviewstate>{}"
    (tmp_path / "a.ndpa").write_text(pin.format(number, "</annotations>"))
    with refused():
        read_annotations(tmp_path / "a.ndpa", "ndpa", slide)
    (tmp_path / "a.ndpa").write_text(pin.format(7, "</annotations>"))
    assert len(read_annotations(tmp_path / "a.ndpa", "ndpa", slide)) == 1


def tiff(width, height, kind=1, data=b"\0" * 16):
    """A TIFF that says it holds so many pixels; ``kind`` 3: 32-bit floats."""
    tags = [(256, 4, width), (257, 4, height), (258, 3, 32 if kind == 3 else 8), (259, 3, 1), (262, 3, 1), (273, 4, 8),
            (277, 3, 1), (278, 4, height), (279, 4, len(data)), (339, 3, kind)]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", *tag[:2], 1, tag[2]) for tag in tags)
    return struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


HOSTILE_MASKS = {
    "a TIFF that says it were huge": (".tif", tiff(200_000, 200_000)),
    "numbers that are none": (".tif", tiff(2, 2, 3, struct.pack("<4f", np.nan, np.inf, 1, 0))),
    "negative numbers": (".tif", tiff(2, 2, 3, struct.pack("<4f", -1, 1, 1, 0))),
    "fractions": (".tif", tiff(2, 2, 3, struct.pack("<4f", 0.5, 0.25, 1, 0))),
    "cut short": (".tif", tiff(400, 300)),
}


@pytest.mark.parametrize("attack", HOSTILE_MASKS)
def test_hostile_masks(attack, tmp_path):
    suffix, content = HOSTILE_MASKS[attack]
    (tmp_path / f"a{suffix}").write_bytes(content)
    with refused(megabytes=20):
        read_annotations(tmp_path / f"a{suffix}", "mask")


HOSTILE_NAMES = ["[" * 100_000, '{"a":' * 100_000, "7", "[[1]]", "A" * 30_000_000]


@pytest.mark.parametrize("text", HOSTILE_NAMES, ids=lambda text: text[:8])
def test_names_of_classes_in_a_picture_that_mean_harm(text, tmp_path):
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("stainda_classes", text, zip=True)
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / "a.png", pnginfo=info)
    with refused(megabytes=20):
        read_annotations(tmp_path / "a.png", "mask")


DEEP = {
    "nested elements": "<a>" * 10_000 + "</a>" * 10_000,
    "entities": '<!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;">]><a>&y;</a>',
    "nested lists": "[" * 10_000 + "]" * 10_000,
    "nested objects": '{"a":' * 10_000 + "1" + "}" * 10_000,
    "nested text": '[{"id": 1, "location": "' + "GEOMETRYCOLLECTION(" * 10_000 + '"}]',
    "nested table": "id,wkt,encoding\n1," + "GEOMETRYCOLLECTION(" * 10_000 + ",\n",
    "binary": "\0" * 1_000_000,
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("attack", DEEP)
def test_depth_and_entities_are_refused_by_every_format_under_every_ending(name, attack, tmp_path):
    for suffix in FORMATS[name].suffixes:
        path = tmp_path / f"a{suffix}"
        path.write_text(DEEP[attack])
        with refused():
            read_annotations(path, name, SLIDE)
        with refused():  # also where one unusable shape would only be reported
            read_annotations(path, name, SLIDE, problems=[])
