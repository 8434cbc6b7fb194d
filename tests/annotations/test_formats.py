"""Every format in the registry goes through the same battery; real files read; hostile ones are refused quickly."""

from __future__ import annotations

import json
import struct
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely

from stainda.annotations import make_shapes
from stainda.annotations.formats import FORMATS, read_annotations, sniff_format, what_is_lost, write_annotations
from stainda.annotations.formats.coco import unpack
from stainda.annotations.formats.frame import PlainFrame
from stainda.errors import AnnotationError


@dataclass
class MadeSlide:
    """What formats ask of a slide."""

    path: Path = Path("slide-7.svs")
    size: tuple[int, int] = (400, 300)
    mpp: float = 0.4


SLIDE = MadeSlide()


def write_ndpi_header(path: Path, x: int, y: int) -> None:
    """The header of an .ndpi file: a TIFF with 64-bit offsets and the high words of values behind its directory."""
    tags = [(256, 4, 40), (257, 4, 30), (65420, 4, 1), (65422, 9, x), (65423, 9, y)]
    entries = b"".join(struct.pack("<HHIi", tag, kind, 1, value) for tag, kind, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<Q", 0) + bytes(4 * len(tags))
    path.write_bytes(b"II" + struct.pack("<HQ", 42, 12) + directory)


@pytest.fixture(autouse=True, scope="module")
def on_the_glass(tmp_path_factory):
    """The slide as a file that says where its picture lies on the glass."""
    SLIDE.path = tmp_path_factory.mktemp("slides") / "slide-7.ndpi"
    write_ndpi_header(SLIDE.path, -1_500_000, 2_000_000)


RING = shapely.Polygon(
    [(100, 100), (180, 100), (180, 190), (100, 190)], [[(120, 120), (140, 120), (140, 150), (120, 150)]]
)
STAIRS = shapely.Polygon([(10, 10), (60, 10), (60, 30), (40, 30), (40, 80), (10, 80)])
PAIR = shapely.MultiPolygon([shapely.box(200, 20, 220, 40), shapely.box(240, 20, 260, 60)])
SLOPED = shapely.Polygon([(300.5, 100.25), (350.125, 140), (310, 180.75)])


def shapes_within(holds: frozenset[str]) -> gpd.GeoDataFrame:
    """One shape of each kind that a format can hold."""
    geometries = [shapely.box(300, 200, 340, 240)]
    geometries += [STAIRS] * ("polygons" in holds)
    geometries += [SLOPED] * ({"polygons", "exact"} <= holds)
    geometries += [RING] * ("holes" in holds)
    geometries += [PAIR] * ("parts" in holds)
    geometries += [shapely.Point(50.5, 60.25)] * ("points" in holds)
    geometries += [shapely.LineString([(5.5, 5), (30, 45), (90, 45)])] * ("lines" in holds)
    if not holds & {"polygons", "holes"} and "points" in holds:
        geometries = [shapely.Point(50.5, 60.25), shapely.Point(1, 2)]
    count = len(geometries)
    return make_shapes(
        geometries,
        ["glomerulus" if i % 2 else "vessel" for i in range(count)] if "class" in holds else "",
        name=[f"object {i}" for i in range(count)] if "name" in holds else "",
        id=[f"id-{i}" for i in range(count)],
        score=[0.5 + i / 64 for i in range(count)] if "score" in holds else None,
    )


def key(row: dict) -> tuple:
    return (row["geometry"].geom_type[-7:], *np.round(row["geometry"].bounds, 3))


@pytest.fixture(params=FORMATS)
def one(request):
    return FORMATS[request.param]


def test_what_a_format_holds_survives_the_way_out_and_in(one, tmp_path):
    shapes = shapes_within(one.holds)
    path = tmp_path / f"a{one.suffixes[0]}"
    lost = write_annotations(shapes, path, one.name, SLIDE)
    assert all("ids are left out" in text for text in lost)
    back = read_annotations(path, one.name, SLIDE)
    assert len(back) == len(shapes)
    found = sorted(back.to_dict("records"), key=key)
    for before, after in zip(sorted(shapes.to_dict("records"), key=key), found, strict=True):
        assert after["geometry"].is_valid
        if before["geometry"].area:
            assert before["geometry"].symmetric_difference(after["geometry"]).area < 1e-6
        else:
            assert before["geometry"].equals_exact(after["geometry"], 1e-9)
        for column in ("class", "name", "id", "score"):
            if column in one.holds:
                assert after[column] == before[column]


def test_its_own_files_are_recognised(one, tmp_path):
    path = tmp_path / f"a{one.suffixes[0]}"
    write_annotations(shapes_within(one.holds), path, one.name, SLIDE)
    assert sniff_format(path) is one


def test_long_files_are_recognised_too(one, tmp_path):
    """What tells a format may stand behind hundreds of kilobytes of corners."""
    circle = shapely.Point(200, 150).buffer(100, quad_segs=4000)
    path = tmp_path / f"a{one.suffixes[0]}"
    write_annotations(make_shapes([circle, shapely.Point(3, 4)], "glomerulus"), path, one.name, SLIDE)
    assert sniff_format(path) is one


def test_what_cannot_be_held_is_told_and_the_rest_written(one, tmp_path):
    shapes = make_shapes(
        [RING, PAIR, SLOPED, shapely.Point(3.5, 4), shapely.LineString([(0, 0), (9, 9)])],
        "glomerulus", name="n", score=0.5, properties={"stage": 2},
    )  # fmt: skip
    lost = what_is_lost(shapes, one.name)
    words = {
        "areas": "3 areas are left out",
        "polygons": "bounding boxes", "holes": "holes of 1 shapes", "parts": "1 shapes of several parts",
        "points": "points", "lines": "1 lines", "class": "classes of 5", "name": "5 names", "id": "5 ids",
        "score": "5 scores", "properties": "properties of 5", "exact": "rounded",
    }  # fmt: skip
    of_areas = ("polygons", "holes", "parts")  # nothing is said of the outlines of areas that are not written
    for feature, text in words.items():
        if feature in of_areas and "areas" not in one.holds:
            continue
        assert any(text in sentence for sentence in lost) == (feature not in one.holds), feature
    assert write_annotations(shapes, tmp_path / f"a{one.suffixes[0]}", one.name, SLIDE) == lost
    assert len(read_annotations(tmp_path / f"a{one.suffixes[0]}", one.name, SLIDE)) >= 1


def test_no_shapes_are_written_and_read_as_none(one, tmp_path):
    path = tmp_path / f"a{one.suffixes[0]}"
    assert write_annotations(make_shapes([], ""), path, one.name, SLIDE) == []
    assert len(read_annotations(path, one.name, SLIDE)) == 0


def test_garbage_is_refused(one, tmp_path):
    path = tmp_path / f"a{one.suffixes[0]}"
    for content in (b"\x00\x01\x02 garbage \xff\xfe" * 50, b"{]", b"<a><b></a>", b"", b"1,2\n3\n"):
        path.write_bytes(content)
        with pytest.raises(AnnotationError):
            read_annotations(path, one.name, SLIDE)
    with pytest.raises(AnnotationError, match="no such file"):
        read_annotations(tmp_path / "none", one.name, SLIDE)


XML = [name for name, format_ in FORMATS.items() if ".xml" in format_.suffixes]
assert set(XML) == {"asap", "imagescope", "halo", "voc", "ndpa"}
JSON = [name for name, format_ in FORMATS.items() if ".json" in format_.suffixes]
ENTITIES = "".join(f'<!ENTITY x{i} "{f"&x{i - 1};" * 10}">' for i in range(1, 10))
BOMB = f'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x0 "xxxxxxxxxx">{ENTITIES}]><a>&x9;</a>'
HOSTILE_XML = {
    "entity bomb": BOMB,
    "other file": '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
    "external dtd": '<!DOCTYPE a SYSTEM "http://localhost/a.dtd"><a/>',
    "depth": "<a>" * 10_000 + "</a>" * 10_000,
}


@pytest.mark.parametrize("format", XML)
@pytest.mark.parametrize("attack", HOSTILE_XML)
def test_hostile_xml_is_refused_at_once(format, attack, tmp_path):
    path = tmp_path / "a.xml"
    path.write_text(HOSTILE_XML[attack])
    began = time.process_time()
    with pytest.raises(AnnotationError):
        read_annotations(path, format, SLIDE)
    assert time.process_time() - began < 1


@pytest.mark.parametrize("format", JSON)
def test_hostile_json_is_refused_at_once(format, tmp_path):
    path = tmp_path / "a.json"
    for text in ("[" * 10_000 + "]" * 10_000, '{"a":' * 10_000 + "1" + "}" * 10_000, "[" * 100_000):
        path.write_text(text)
        began = time.process_time()
        with pytest.raises(AnnotationError, match="nested"):
            read_annotations(path, format, SLIDE)
        assert time.process_time() - began < 1


@pytest.mark.parametrize("format", ["labelme", "coco"])
def test_numbers_that_are_none_are_refused(format, tmp_path):
    path = tmp_path / "a.json"
    write_annotations(make_shapes([STAIRS], "a"), path, format, SLIDE)
    path.write_text(path.read_text().replace("40.0", "NaN"))
    with pytest.raises(AnnotationError, match="no number"):
        read_annotations(path, format, SLIDE)


def test_classes_are_renamed_and_unknown_formats_answered(tmp_path):
    write_annotations(make_shapes([STAIRS], "gl"), tmp_path / "a.xml", "asap")
    assert read_annotations(tmp_path / "a.xml", classes={"gl": "glomerulus"})["class"].tolist() == ["glomerulus"]
    with pytest.raises(AnnotationError, match="Did you mean 'asap'"):
        read_annotations(tmp_path / "a.xml", "asp")
    with pytest.raises(AnnotationError, match="does not tell one format"):
        write_annotations(make_shapes([STAIRS], "a"), tmp_path / "b.xml")
    with pytest.raises(AnnotationError, match=r"slide's size is needed.*--slide"):
        write_annotations(make_shapes([STAIRS], "a"), tmp_path / "b.csv", "rle")


@pytest.mark.parametrize(("corner", "kind"), [("Vertex", "0"), ("V", "Polygon")], ids=["ImageScope", "HALO"])
def test_freehand_regions_that_cross_themselves_have_holes(corner, kind, tmp_path):
    """A pen overshoots its start when it closes the ring; the hole reaches beyond the region or crosses itself too."""
    turn = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    rng = np.random.default_rng(0)
    for _ in range(20):
        outlines = []
        for x, radius in ((500, 300), (rng.uniform(600, 760), 80)):
            points = np.c_[x + radius * np.cos(turn), 500 + radius * np.sin(turn)]
            outlines.append(np.concatenate([points, points[:4] + rng.normal(0, 4, (4, 2))]).round(1))
        regions = "".join(
            f'<Region Id="{k + 1}" Type="{kind}" NegativeROA="{k}"><Vertices>'
            + "".join(f'<{corner} X="{x}" Y="{y}"/>' for x, y in points) + "</Vertices></Region>"
            for k, points in enumerate(outlines)
        )  # fmt: skip
        text = f'<Annotations><Annotation Name="g"><Regions>{regions}</Regions></Annotation></Annotations>'
        (tmp_path / "a.xml").write_text(text)
        problems = []
        (found,) = read_annotations(tmp_path / "a.xml", problems=problems).geometry
        region, hole = (shapely.make_valid(shapely.Polygon(points)).buffer(0) for points in outlines)
        assert shapely.area(found ^ (region - hole)) < 1e-6 * region.area and found.is_valid
        crossing = not shapely.Polygon(outlines[0]).is_valid
        assert [row["action"] for row in problems] == ["mended"] * crossing


def test_imagej_composites_of_rings_that_cross_themselves_are_read(tmp_path):
    pytest.importorskip("roifile")
    from stainda.annotations.formats.imagej import _region

    bow = shapely.Polygon([(0, 0), (100, 100), (100, 0), (0, 100)])
    (tmp_path / "a.roi").write_bytes(_region(shapely.MultiPolygon([bow, shapely.box(60, 45, 80, 55)])).tobytes())
    (found,) = read_annotations(tmp_path / "a.roi").geometry
    assert found.area == pytest.approx(5000 - 200), "the box lies within the bow and is cut out"


@pytest.mark.parametrize(
    ("name", "left"),
    [("12784.tif", 0), ("127.tif", 1), ("s1_62.ome.tif", 2), ("62-b.tif", 2), ("1278.tif", None), ("162.tif", None)],
)
def test_run_lengths_are_those_of_the_slide_and_of_no_other(name, left, tmp_path):
    """The table's rows lie in columns 0, 1 and 2 of a slide of 10 x 10."""
    (tmp_path / "a.csv").write_text("id,encoding\n12784,1 5\n127,11 5\n62,21 5\n")
    slide, problems = PlainFrame((10, 10), Path(name)), []
    if left is None:
        with pytest.raises(AnnotationError, match="0 rows are of this slide"):
            read_annotations(tmp_path / "a.csv", "rle", slide)
        return
    shapes = read_annotations(tmp_path / "a.csv", "rle", slide, problems=problems)
    assert shapes.total_bounds.tolist() == [left, 0, left + 1, 5]
    assert [row["id"] for row in problems] == (["62"] if left == 2 else [])


def test_cytomine_counts_upwards(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"annotation": {"id": 5, "location": "POINT (20 290)", "term": [3]}}))
    (row,) = read_annotations(path, "cytomine", SLIDE).to_dict("records")
    assert (row["geometry"].x, row["geometry"].y) == (20, 10)
    assert (row["class"], row["id"]) == ("3", "5")


def test_packed_run_lengths_are_unpacked():
    """The example of the COCO tools: a mask of 9 columns and rows with a filled square in the middle."""
    mask = np.zeros((9, 9), np.uint8)
    mask[3:6, 2:7] = 1
    flat = mask.T.ravel()
    lengths = np.diff(np.flatnonzero(np.concatenate([[True], np.diff(flat) != 0, [True]])))

    def packed(lengths):
        text = ""
        for i, value in enumerate(map(int, lengths)):
            value -= int(lengths[i - 2]) if i > 2 else 0
            more = True
            while more:
                bits = value & 31
                value >>= 5
                more = value != (-1 if bits & 16 else 0)
                text += chr((bits | 32 if more else bits) + 48)
        return text

    assert unpack(packed(lengths)) == lengths.tolist()
    assert unpack(packed([5, 100, 3, 40, 7000, 2])) == [5, 100, 3, 40, 7000, 2]


def test_coco_run_lengths_become_outlines(tmp_path):
    runs = {"size": [9, 10], "counts": [9 * 2 + 3, 3, 6, 3, 6, 3, 48]}
    document = {"annotations": [{"id": 1, "category_id": 1, "segmentation": runs}],
                "categories": [{"id": 1, "name": "a"}]}  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(document))
    (row,) = read_annotations(tmp_path / "a.json").to_dict("records")
    assert row["geometry"].equals(shapely.box(2, 3, 5, 6))
    assert row["class"] == "a"


def test_negative_regions_are_holes_and_ellipses_round(tmp_path):
    text = """<Annotations MicronsPerPixel="0.25"><Annotation Id="1" Name="glomerulus"><Regions>
    <Region Id="1" Type="0" Text="G" NegativeROA="0"><Vertices><Vertex X="0" Y="0"/><Vertex X="10" Y="0"/>
    <Vertex X="10" Y="10"/><Vertex X="0" Y="10"/></Vertices></Region>
    <Region Id="2" Type="0" NegativeROA="1"><Vertices><Vertex X="2" Y="2"/><Vertex X="4" Y="2"/><Vertex X="4" Y="4"/>
    </Vertices></Region>
    <Region Id="3" Type="2" NegativeROA="0"><Vertices><Vertex X="20" Y="20"/><Vertex X="40" Y="30"/></Vertices></Region>
    </Regions></Annotation></Annotations>"""
    (tmp_path / "a.xml").write_text(text)
    shapes = read_annotations(tmp_path / "a.xml")
    assert shapes["name"].tolist() == ["G", ""]
    assert shapes.area.tolist() == pytest.approx([98, np.pi * 10 * 5], rel=0.01)


def test_real_files_read(real_data):
    folder = real_data / "annotation_formats"
    slide = MadeSlide(size=(100_000, 100_000))
    expected = {"asap": 3, "cytomine": 7, "voc": 1, "sectra": 2, "qupath": 15}
    files = [*folder.glob("wsidicom/asap/*"), *folder.glob("wsidicom/cytomine/*"), *folder.glob("jinsei*/*.xml"),
             *folder.glob("wsidicom/sectra/*"),
             *folder.glob("qupath*/*.geojson"), *folder.glob("wsidicom/qupath*/*.json")]  # fmt: skip
    counts: dict[str, int] = {}
    for file in files:
        shapes = read_annotations(file, slide=slide)
        assert len(shapes) > 0, file
        counts[sniff_format(file).name] = counts.get(sniff_format(file).name, 0) + 1
    assert counts["asap"] == expected["asap"]
    assert counts["cytomine"] == expected["cytomine"]
    assert counts["voc"] == expected["voc"]
    assert counts["sectra"] == expected["sectra"]
    assert counts["qupath"] >= expected["qupath"]


def test_the_circle_of_cytomine_has_the_area_cytomine_says(real_data):
    file = real_data / "annotation_formats" / "wsidicom" / "cytomine" / "cytomine-circle.txt"
    (area,) = read_annotations(file, slide=MadeSlide(size=(50_000, 40_000))).area
    assert area == pytest.approx(605_560, rel=1e-3)


def test_sectra_has_one_unit_for_both_axes(real_data):
    """The area (5.33 mm²) and the length (5.93 mm) that Sectra states of two shapes of one slide give one unit."""
    folder = real_data / "annotation_formats" / "wsidicom" / "sectra"
    slide = MadeSlide(size=(50_000, 30_000))
    (area,) = read_annotations(folder / "pathologycore-area.json", slide=slide).area
    (length,) = read_annotations(folder / "pathologycore-polyline.json", slide=slide).length
    assert np.sqrt(5.33 / area) == pytest.approx(5.93 / length, rel=2e-3)


def test_ndpa_counts_nanometres_from_the_centre_of_the_glass(tmp_path):
    """The picture's centre lies 1.5 mm left of and 2 mm below the glass's; 0.4 µm are one pixel."""
    text = """<annotations><ndpviewstate id="1"><title>glomerulus</title><details>G1</details>
    <coordformat>nanometers</coordformat><annotation type="{kind}">{body}</annotation></ndpviewstate></annotations>"""

    def read(kind, body):
        (tmp_path / "a.ndpa").write_text(text.format(kind=kind, body=body))
        (row,) = read_annotations(tmp_path / "a.ndpa", slide=SLIDE).to_dict("records")
        assert (row["class"], row["name"]) == ("glomerulus", "G1")
        return row["geometry"]

    assert read("pin", "<x>-1500000</x><y>2000000</y>").equals(shapely.Point(200, 150))
    assert read("pin", "<x>-1460000</x><y>1980000</y>").equals(shapely.Point(300, 100))
    circle = read("circle", "<x>-1500000</x><y>2000000</y><radius>8000</radius>")
    assert circle.bounds == pytest.approx((180, 130, 220, 170))
    line = read("linearmeasure", "<x1>-1500000</x1><y1>2000000</y1><x2>-1500400</x2><y2>2000000</y2>")
    assert line.equals(shapely.LineString([(200, 150), (199, 150)]))
    with pytest.raises(AnnotationError, match=r"where it lies on the glass.*ndpi"):
        read_annotations(tmp_path / "a.ndpa", slide=MadeSlide())


def roi(name, **values):
    roifile = pytest.importorskip("roifile")
    region = roifile.ImagejRoi(name=name)
    for key, value in values.items():
        setattr(region, key, value)
    return region


def test_every_kind_of_imagej_region_is_read(tmp_path):
    roifile = pytest.importorskip("roifile")
    kinds = roifile.ROI_TYPE
    freehand = roifile.ImagejRoi.frompoints([[10, 10], [30, 10], [30, 40]], name="outline")  # freehand, whole pixels
    point = roifile.ImagejRoi.frompoints([[5, 6]], name="0005-0006")
    point.roitype, point.group = kinds.POINT, 3
    regions = [
        freehand, point,
        roi("box", roitype=kinds.RECT, left=10, top=20, right=40, bottom=60),
        roi("oval", roitype=kinds.OVAL, left=0, top=0, right=20, bottom=10),
        roi("line", roitype=kinds.LINE, x1=1.5, y1=2, x2=8, y2=9),
        roi("fine box", roitype=kinds.RECT, options=roifile.ROI_OPTIONS.SUB_PIXEL_RESOLUTION, version=227,
            xd=1.5, yd=2.5, widthd=3, heightd=4),
    ]  # fmt: skip
    with zipfile.ZipFile(tmp_path / "RoiSet.zip", "w") as archive:
        for number, region in enumerate(regions):
            archive.writestr(f"{region.name or number}.roi", region.tobytes())
    shapes = read_annotations(tmp_path / "RoiSet.zip").set_index("name")
    geometry = shapes.geometry
    assert list(shapes.index) == ["outline", "", "box", "oval", "line", "fine box"]
    assert geometry["outline"].equals(shapely.Polygon([(10, 10), (30, 10), (30, 40)]))
    assert geometry[""].equals(shapely.Point(5, 6))
    assert shapes["class"][""] == "group_3"
    assert geometry["box"].equals(shapely.box(10, 20, 40, 60))
    assert geometry["oval"].area == pytest.approx(np.pi * 10 * 5, rel=0.01)
    assert geometry["line"].equals(shapely.LineString([(1.5, 2), (8, 9)]))
    assert geometry["fine box"].equals(shapely.box(1.5, 2.5, 4.5, 6.5))
    (tmp_path / "one.roi").write_bytes(freehand.tobytes())
    assert read_annotations(tmp_path / "one.roi").geometry[0].equals(geometry["outline"])


def test_imagej_files_are_the_same_each_time(tmp_path):
    for name in ("a.zip", "b.zip"):
        write_annotations(make_shapes([RING, PAIR], "glomerulus", name="Größe/1"), tmp_path / name, "imagej")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_hubmap_masks_and_run_lengths_agree(real_data, tmp_path):
    """A real mask read as an image, written as run lengths and read again: the same 0/1 pixels."""
    from PIL import Image

    from stainda.annotations import PixelGrid, rasterise

    for file in sorted((real_data / "hubmap_pas_tiles" / "data_1" / "masks_256_red16").glob("*.png"))[:6]:
        mask = np.asarray(Image.open(file)) > 0
        shapes = read_annotations(file)
        assert (rasterise(shapes.assign(**{"class": "g"}), ["g"], PixelGrid(0, 0, 256, 256, 1)) == mask).all()
        slide = MadeSlide(size=(256, 256))
        write_annotations(shapes, tmp_path / "a.csv", "rle", slide)
        back = read_annotations(tmp_path / "a.csv", slide=slide)
        assert len(back) == len(shapes)
        assert back.area.sum() == shapes.area.sum() == mask.sum()


@pytest.mark.slow
def test_a_whole_slide_of_run_lengths_needs_no_whole_picture(real_data):
    """HuBMAP slide 2f6ecfcdf is 25794 x 31278 px; its glomeruli are 100-250 µm at 0.5 µm per pixel."""
    slide = MadeSlide(Path("2f6ecfcdf.tiff"), (25_794, 31_278))
    shapes = read_annotations(real_data / "hubmap_pas_tiles" / "WSI_data" / "train.csv", slide=slide)
    large = shapes[shapes.area > 5000]
    assert 50 < len(large) < 400
    diameters = 2 * np.sqrt(large.area / np.pi) * 0.5
    assert 80 < diameters.median() < 260
    assert large.geometry.is_valid.all()
    assert (large.area / large.convex_hull.area).median() > 0.9
