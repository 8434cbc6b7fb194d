"""Every listed format on a real file of it where there is one: read, checked, written, read again, taken to GeoJSON.

Where no real file is at hand, the file is written out here as its vendor documents it, never by our own writer.
"""

from __future__ import annotations

import json
import struct
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from PIL import Image

from stainda.annotations import inspect_annotations, make_shapes, read_shapes, write_geojson
from stainda.annotations.formats import FORMATS, read_annotations, sniff_format, what_is_lost, write_annotations
from stainda.annotations.formats.frame import PlainFrame

WIDE = (100_000, 100_000)


@dataclass
class Glass:
    """A slide whose file says where its picture lies on the glass, as NDPA asks."""

    path: Path = Path("slide.ndpi")
    size: tuple[int, int] = (4000, 3000)
    mpp: float = 0.5


@dataclass(frozen=True)
class Case:
    """A file of a format: ``real`` below the folder of real data, or ``made`` as text or by a function.

    ``shapes``: points, lines and areas expected, as counts; ``tolerance``: of areas after writing, relative.
    """

    format: str
    shapes: tuple[int, int, int]
    real: str = ""
    made: object = ""
    suffix: str = ".json"
    size: tuple[int, int] = WIDE
    classes: frozenset[str] = field(default_factory=frozenset)
    tolerance: float = 1e-9


W = "annotation_formats/wsidicom"
CELL = """{"type": "FeatureCollection", "features": [{"type": "Feature", "id": "7c2d4f0a-51b4-4c9e-9d4e-3f1f0c1b2a3d",
"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [20, 0], [20, 20], [0, 20], [0, 0]]]},
"nucleusGeometry": {"type": "Polygon", "coordinates": [[[5, 5], [9.5, 5], [9.5, 9], [5, 5]]]},
"properties": {"objectType": "cell", "classification": {"name": "Tumor", "color": [200, 0, 0]},
"measurements": {"Nucleus: Area": 9}}}]}"""
VERTICES = '<Vertices><Vertex X="{0}" Y="10.5"/><Vertex X="{1}" Y="10.5"/><Vertex X="{1}" Y="60"/></Vertices>'
IMAGESCOPE = f"""<Annotations MicronsPerPixel="0.252"><Annotation Id="1" Name="glomerulus"><Attributes/><Regions>
<RegionAttributeHeaders/><Region Id="1" Type="0" Text="G1" NegativeROA="0">{VERTICES.format(10, 90)}</Region>
<Region Id="2" Type="0" NegativeROA="1">{VERTICES.format(60, 70).replace("10.5", "20")}</Region>
<Region Id="3" Type="1" NegativeROA="0"><Vertices><Vertex X="1" Y="2"/><Vertex X="5" Y="9"/></Vertices></Region>
<Region Id="4" Type="2" NegativeROA="0"><Vertices><Vertex X="200" Y="20"/><Vertex X="240" Y="90"/></Vertices></Region>
<Region Id="5" Type="4" NegativeROA="0"><Vertices><Vertex X="1" Y="2"/><Vertex X="5" Y="9"/></Vertices></Region>
</Regions></Annotation></Annotations>"""
HALO = (
    IMAGESCOPE.replace("<Vertex ", "<V ").replace('Type="0"', 'Type="Polygon"').replace('Type="1"', 'Type="Rectangle"')
    .replace('Type="2"', 'Type="Ellipse"').replace('Type="4"', 'Type="Ruler"').replace(' MicronsPerPixel="0.252"', "")
)  # fmt: skip
LABELME = """{"version": "5.4.1", "flags": {}, "imagePath": "a.png", "imageData": null, "shapes": [
{"label": "glomerulus", "points": [[1.5, 2], [30, 2], [30, 40.25]], "group_id": null, "shape_type": "polygon"},
{"label": "glomerulus", "points": [[50, 50], [90, 80]], "group_id": null, "shape_type": "rectangle"},
{"label": "vessel", "points": [[200, 200], [230, 240]], "group_id": null, "shape_type": "circle"},
{"label": "vessel", "points": [[5, 6]], "group_id": null, "shape_type": "point"},
{"label": "", "points": [[5, 6], [9, 9], [9, 20]], "group_id": null, "shape_type": "linestrip"}]}"""
COCO = """{"images": [{"id": 7, "file_name": "a.png", "width": 400, "height": 300}],
"categories": [{"id": 3, "name": "glomerulus"}], "annotations": [
{"id": 1, "image_id": 7, "category_id": 3, "segmentation": [[10, 10, 50.5, 10, 50.5, 60]], "bbox": [10, 10, 40.5, 50]},
{"id": 2, "image_id": 7, "category_id": 3, "segmentation": [[100, 10, 150, 10, 150, 60], [200, 10, 250, 10, 250, 60]]},
{"id": 3, "image_id": 7, "category_id": 3, "segmentation": [], "bbox": [300, 200, 50, 40]}]}"""
COCO_RLE = """{"images": [{"id": 1, "file_name": "a.png", "width": 10, "height": 9}],
"categories": [{"id": 1, "name": "glomerulus"}], "annotations": [{"id": 1, "image_id": 1, "category_id": 1,
"iscrowd": 1, "segmentation": {"size": [9, 10], "counts": [21, 3, 6, 3, 6, 3, 48]}}]}"""
NDPA = """<?xml version="1.0" encoding="utf-8"?><annotations>
<ndpviewstate id="1"><title>glomerulus</title><details>G1</details>
<coordformat>nanometers</coordformat><lens>10</lens><x>0</x><y>0</y><z>0</z><showtitle>0</showtitle>
<annotation type="freehand" displayname="AnnotateFreehand" color="#ffff00">
<measuretype>0</measuretype><closed>1</closed>
<pointlist><point><x>0</x><y>0</y></point><point><x>50000</x><y>0</y></point><point><x>50000</x><y>90000</y></point>
</pointlist></annotation></ndpviewstate><ndpviewstate id="2"><title>vessel</title><details/>
<coordformat>nanometers</coordformat><annotation type="circle" displayname="AnnotateCircle"><x>-90000</x><y>5000</y>
<radius>20000</radius></annotation></ndpviewstate><ndpviewstate id="3"><title/><details/>
<coordformat>nanometers</coordformat><annotation type="pin"><x>1000</x><y>500</y></annotation></ndpviewstate>
<ndpviewstate id="4"><title>m</title><coordformat>nanometers</coordformat><annotation type="linearmeasure">
<x1>0</x1><y1>0</y1>
<x2>7000</x2><y2>9000</y2></annotation></ndpviewstate></annotations>"""
CYTOMINE = """ID;Term;WKT
11;Glomerulus;POLYGON ((10 20, 60 20, 60 90, 10 20), (40 30, 50 30, 50 45, 40 30))
12;Vessel;POINT (5 6)
13;;LINESTRING (1 2, 3 4)
14;Vessel;MULTIPOLYGON (((200 20, 260 20, 260 90, 200 20)), ((300 20, 360 20, 360 90, 300 20)))
"""


def imagej(path: Path) -> None:
    roifile = pytest.importorskip("roifile")
    with zipfile.ZipFile(path, "w") as archive:
        for name, points in {
            "one": [[10, 10], [30, 10], [30, 40]],
            "0005-0006": [[50, 60], [90, 60], [90, 99]],
        }.items():
            archive.writestr(f"{name}.roi", roifile.ImagejRoi.frompoints(points, name=name).tobytes())


def indexed(path: Path) -> None:
    labels = np.zeros((60, 80), np.uint8)
    labels[5:20, 5:30], labels[30:50, 40:70] = 1, 2
    image = Image.fromarray(labels, mode="P")
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    image.save(path)


CASES = {
    "QuPath feature collection": Case("qupath", (0, 0, 24),
                                      "annotation_formats/qupath_tpath_glomeruli/TPATH085.geojson",
                                      classes=frozenset({"Normal"})),
    "QuPath geometry": Case("qupath", (0, 0, 1), "annotation_formats/qupath/polygon.geojson"),
    "QuPath cell with nucleus": Case("qupath", (0, 0, 1), made=CELL, suffix=".geojson", classes=frozenset({"Tumor"})),
    "QuPath list": Case("qupath", (0, 0, 4),
                        f"{W}/qupath_geojson_advanced/qupath-polygon-cell-classified.json"),
    **{f"QuPath {kind}": Case("qupath", counts, f"{W}/qupath_geojson/qupath-{kind}.json") for kind, counts in {
        "brush": (0, 0, 1), "ellipse": (0, 0, 1), "line": (0, 1, 0), "multipoint": (1, 0, 0), "point": (1, 0, 0),
        "polygon": (0, 0, 1), "polyline": (0, 1, 0), "rectangle": (0, 0, 1), "wand": (0, 0, 1)}.items()},
    "ASAP polygon": Case("asap", (0, 0, 1), f"{W}/asap/asap-polygon.xml", suffix=".xml"),
    "ASAP dot": Case("asap", (1, 0, 0), f"{W}/asap/asap-dot.xml", suffix=".xml"),
    "ASAP point set": Case("asap", (1, 0, 0), f"{W}/asap/asap-pointset.xml", suffix=".xml"),
    **{f"Cytomine {kind}": Case("cytomine", counts, f"{W}/cytomine/cytomine-{kind}.txt") for kind, counts in {
        "circle": (0, 0, 1), "freehand-line": (0, 1, 0), "freehand-polygon": (0, 0, 1), "line": (0, 1, 0),
        "point": (1, 0, 0), "polygon": (0, 0, 1), "rectangle": (0, 0, 1)}.items()},
    "Cytomine table": Case("cytomine", (1, 1, 2), made=CYTOMINE, suffix=".csv",
                           classes=frozenset({"Glomerulus", "Vessel", ""})),
    "Sectra area": Case("sectra", (0, 0, 1), f"{W}/sectra/pathologycore-area.json"),
    "Sectra line": Case("sectra", (0, 1, 0), f"{W}/sectra/pathologycore-polyline.json"),
    "Pascal VOC": Case("voc", (0, 0, 28), "annotation_formats/jinseikenai_segmentation/OPT_PAS_PAS-001_pw40_ds8.xml",
                       suffix=".xml", classes=frozenset({"glomerulus"})),
    "ImageScope": Case("imagescope", (0, 1, 3), made=IMAGESCOPE, suffix=".xml", classes=frozenset({"glomerulus"})),
    "HALO": Case("halo", (0, 1, 3), made=HALO, suffix=".annotations", classes=frozenset({"glomerulus"})),
    "labelme": Case("labelme", (1, 1, 3), made=LABELME, classes=frozenset({"glomerulus", "vessel", ""})),
    "COCO polygons": Case("coco", (0, 0, 3), made=COCO, size=(400, 300), classes=frozenset({"glomerulus"})),
    "COCO run lengths": Case("coco", (0, 0, 1), made=COCO_RLE, size=(10, 9), classes=frozenset({"glomerulus"})),
    "HuBMAP run lengths": Case("rle", (0, 0, 2), made="id,encoding\na,12 3 22 3 32 3 75 2\n", suffix=".csv",
                               size=(12, 10)),
    "ImageJ": Case("imagej", (0, 0, 2), made=imagej, suffix=".zip"),
    "NDPA": Case("ndpa", (1, 1, 2), made=NDPA, suffix=".ndpa",
                 classes=frozenset({"glomerulus", "vessel", "m", ""}),
                 tolerance=1e-3),
    "binary mask": Case("mask", (0, 0, 8), "hubmap_pas_tiles/data_1/masks_256_red16/2f6ecfcdf_11red16.png",
                        suffix=".png", size=(256, 256)),
    "indexed mask": Case("mask", (0, 0, 2), made=indexed, suffix=".png", size=(80, 60),
                         classes=frozenset({"class_1", "class_2"})),
    "points": Case("points", (3, 0, 0), made="id,class,x,y\n1,nucleus,5.5,6\n2,nucleus,7,8.25\n3,,1,1\n", suffix=".csv",
                   classes=frozenset({"nucleus", ""})),
}  # fmt: skip


def ndpi(path: Path, size: tuple[int, int]) -> Path:
    """The header of an .ndpi file whose picture lies in the middle of the glass."""
    tags = [(256, 4, size[0]), (257, 4, size[1]), (65420, 4, 1), (65422, 9, 0), (65423, 9, 0)]
    entries = b"".join(struct.pack("<HHIi", tag, kind, 1, value) for tag, kind, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<Q", 0) + bytes(4 * len(tags))
    path.write_bytes(b"II" + struct.pack("<HQ", 42, 12) + directory)
    return path


def same(one: gpd.GeoDataFrame, other: gpd.GeoDataFrame, tolerance: float, columns: frozenset[str]) -> None:
    def key(row):
        return (int(shapely.get_dimensions(row["geometry"])), *np.round(row["geometry"].bounds, 1))

    def told(properties):  # type and lock are written where there are none; the class's colour in today's way
        apart = ("objectType", "isLocked", "classification")
        return {name: value for name, value in properties.items() if value and name not in apart}

    assert len(one) == len(other)
    for before, after in zip(
        sorted(one.to_dict("records"), key=key), sorted(other.to_dict("records"), key=key), strict=True
    ):
        a, b = before["geometry"], after["geometry"]
        if shapely.get_dimensions(a) == 2:
            a, b = shapely.make_valid(a), shapely.make_valid(b)
            assert a.symmetric_difference(b).area <= tolerance * a.area + 1e-9
        else:
            assert a.equals_exact(b, max(1e-6, tolerance))
        for column in columns & {"class", "name", "id"}:
            assert after[column] == before[column], column
        if "properties" in columns:
            assert told(after["properties"]) == told(before["properties"])


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture
def opened(case, tmp_path, request):
    """The case's file and its slide."""
    if case.real:
        path = request.getfixturevalue("real_data") / case.real
        frame = PlainFrame(case.size, tmp_path / "slide.tif")
    else:
        path = tmp_path / f"made{case.suffix}"
        path.write_text(case.made) if isinstance(case.made, str) else case.made(path)
        frame = PlainFrame(case.size, tmp_path / "slide.tif")
    if case.format == "ndpa":
        frame = Glass(ndpi(tmp_path / "slide.ndpi", Glass.size))
    return path, frame


def test_a_file_of_each_format_goes_out_and_in_again(case, opened, tmp_path):
    path, frame = opened
    assert sniff_format(path).name == case.format
    shapes = read_annotations(path, slide=frame)
    kinds = shapely.get_dimensions(shapes.geometry.values)
    assert tuple(int((kinds == kind).sum()) for kind in (0, 1, 2)) == case.shapes
    if case.classes:
        assert set(shapes["class"]) == case.classes

    holds = FORMATS[case.format].holds
    out = tmp_path / f"out{case.suffix}"
    lost = write_annotations(shapes, out, case.format, frame)
    assert lost == what_is_lost(shapes, case.format)
    assert sniff_format(out).name == case.format
    back = read_annotations(out, slide=frame)
    if "parts" in holds or not any("parts" in text for text in lost):
        same(shapes, back, case.tolerance, holds)
    assert what_is_lost(back, case.format) == [text for text in lost if "ids" in text]  # nothing more is lost later

    write_geojson(shapes, tmp_path / "all.geojson")
    same(shapes, read_shapes(tmp_path / "all.geojson"), 1e-12, frozenset({"class", "name", "id"}))


def test_a_file_of_each_format_can_be_checked(case, opened):
    path, frame = opened
    contents = inspect_annotations(path, frame)
    assert contents.title == FORMATS[case.format].title
    dropped = sum(count for _, action, _, count, _ in contents.changes if action == "dropped")
    sets = [reason for _, _, reason, _, _ in contents.changes if reason.endswith("points split")]
    more = sum(int(reason.split()[2]) - 1 for reason in sets)
    assert contents.count + dropped == sum(case.shapes) + more
    assert sum(sum(row[1:4]) for row in contents.classes) == contents.count


def test_every_format_has_a_case():
    assert {case.format for case in CASES.values()} == set(FORMATS)


def test_cells_keep_their_nuclei(tmp_path):
    (tmp_path / "a.geojson").write_text(CELL)
    shapes = read_shapes(tmp_path / "a.geojson")
    write_geojson(shapes, tmp_path / "b.geojson")
    (cell,) = json.loads((tmp_path / "b.geojson").read_text())["features"]
    assert cell["nucleusGeometry"] == json.loads(CELL)["features"][0]["nucleusGeometry"]
    assert cell["properties"]["objectType"] == "cell"


GOOD = shapely.box(100, 100, 180, 190)
BOW_TIE = shapely.Polygon([(10, 10), (60, 60), (60, 10), (10, 60)])
WRONG = {
    "mended": [("self-intersection", BOW_TIE), ("clipped to the slide", shapely.box(390, 10, 420, 30))],
    "dropped": [("outside the slide", shapely.box(900, 0, 950, 9)), ("the same shape", GOOD),
                ("no area", shapely.Polygon([(5, 5), (9, 5), (7, 5)]))],
}  # fmt: skip
OUTLINES = [name for name, format_ in FORMATS.items() if {"polygons", "exact"} <= format_.holds]


@pytest.mark.parametrize("name", OUTLINES)
def test_what_is_wrong_is_counted_in_every_format_of_outlines(name, tmp_path):
    frame = Glass(ndpi(tmp_path / "slide.ndpi", (400, 300)), (400, 300))
    wrong = [geometry for rows in WRONG.values() for _, geometry in rows]
    write_annotations(make_shapes([GOOD, *wrong], "gl"), tmp_path / "a", name, frame)
    contents = inspect_annotations(tmp_path / "a", frame, name, {"glomerulus": "glomerulus"})
    assert contents.count == 3
    told = {(action, reason): count for _, action, reason, count, _ in contents.changes}
    for action, rows in WRONG.items():
        for reason, _ in rows:
            assert sum(n for (a, text), n in told.items() if a == action and reason in text) == 1, (reason, told)
    assert sum(n for (action, text), n in told.items() if action == "kept" and "class" in text) > 0


@pytest.mark.parametrize("name", [*(name for name in FORMATS if name not in ("rle", "mask", "imagej", "ndpa"))])
def test_one_shape_that_cannot_be_used_costs_only_itself(name, tmp_path):
    """123.5 px (0.30875 widths in Sectra) becomes a coordinate that is no number."""
    frame = PlainFrame((400, 300), tmp_path / "slide.svs")
    bad = shapely.Point(123.5, 20) if name == "points" else shapely.box(123.5, 20, 160, 40)
    good = shapely.Point(1, 2) if name == "points" else GOOD
    path = tmp_path / f"a{FORMATS[name].suffixes[0]}"
    write_annotations(make_shapes([bad, good], "gl"), path, name, frame)
    path.write_text(path.read_text().replace("123.5", "NaN").replace("0.30875", "NaN"))
    contents = inspect_annotations(path, frame, name)
    assert contents.count == 1
    assert [(row[1], row[3]) for row in contents.changes] == [("dropped", 1)]
