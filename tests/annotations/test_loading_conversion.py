"""Annotations of a manifest may be of any format; conversion says what it did and what was lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import shapely

from stainda.annotations import (
    Rules,
    convert_annotations,
    fuse_files,
    inspect_annotations,
    load_shapes,
    make_shapes,
    read_class_table,
    read_shapes,
    write_geojson,
)
from stainda.annotations.formats import FORMATS, read_annotations, write_annotations
from stainda.annotations.formats.frame import PlainFrame
from stainda.errors import AnnotationError

SIZE = (400, 300)
SLIDE = PlainFrame(SIZE, Path("a.svs"))
GLOMERULUS = shapely.Polygon([(100, 100), (180, 100), (180, 190), (100, 190)])
# positions without a pixel size and a place on the glass are refused; boxes and points hold no outline
OUTLINES = [name for name in FORMATS if name not in ("ndpa", "voc", "points")]


@pytest.mark.parametrize("name", OUTLINES)
def test_a_study_reads_every_format_of_outlines_by_its_size_alone(name, tmp_path):
    path = tmp_path / f"a{FORMATS[name].suffixes[0]}"
    write_annotations(make_shapes([GLOMERULUS], "glomerulus"), path, name, SLIDE)
    shapes, report = load_shapes(path, SIZE)
    assert shapes.geometry[0].symmetric_difference(GLOMERULUS).area < 1e-6
    assert shapes["class"][0] == ("" if name == "rle" else "glomerulus")
    assert report == []


def test_what_is_wrong_in_any_format_is_mended_and_told(tmp_path):
    bow_tie = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    across = shapely.box(390, 10, 420, 30)
    shapes = make_shapes([GLOMERULUS, GLOMERULUS, bow_tie, across, shapely.box(900, 0, 950, 9)], "glomerulus")
    write_annotations(shapes, tmp_path / "a.xml", "asap")
    found, report = load_shapes(tmp_path / "a.xml", SIZE)
    assert len(found) == 3
    assert [row["action"] for row in report] == ["dropped", "mended", "mended", "dropped"]
    reasons = " ".join(row["reason"] for row in report)
    assert all(word in reasons for word in ("same shape", "self-intersection", "clipped", "outside"))
    assert found.total_bounds[2] == 400


CLICKS = [(20, 20), (20, 100), (100, 20), (100, 100)]


def test_a_set_of_points_is_as_many_points(tmp_path):
    points = shapely.MultiPoint([*CLICKS, (900, 20)])
    properties = {"measurements": {"a": 1}}
    shapes = make_shapes([points, GLOMERULUS], ["macrophage", "g"], id=["set", "area"], properties=[properties, {}])
    found, report = load_shapes(write_geojson(shapes, tmp_path / "a.geojson"), SIZE)
    assert [(shape.x, shape.y) for shape in found.geometry[:4]] == CLICKS and len(found) == 5
    assert found["class"].tolist() == ["macrophage"] * 4 + ["g"] and found["id"].is_unique
    assert all(entry["measurements"] == {"a": 1} for entry in found["properties"][:4])
    assert [(row["action"], row["reason"]) for row in report] == [
        ("mended", "set of 5 points split"),
        ("dropped", "outside the slide"),
    ]
    again, _ = load_shapes(tmp_path / "a.geojson", SIZE)
    assert again["id"].tolist() == found["id"].tolist()


def test_sets_of_points_are_fused_point_by_point(tmp_path):
    files = []
    for name, moved in (("a", 0), ("b", 2)):
        points = shapely.MultiPoint([(x + moved, y) for x, y in CLICKS])
        files.append(write_geojson(make_shapes([points], "macrophage"), tmp_path / f"{name}.geojson"))
    fusion, changes = fuse_files(files, SLIDE, Rules(point_radius=5))
    assert sorted((round(disc.x), round(disc.y)) for disc in fusion.shapes.centroid) == [(x + 1, y) for x, y in CLICKS]
    assert [row["reason"] for row in changes] == ["set of 4 points split"] * 2
    far = shapely.MultiPoint([(9000, 1), (9000, 2)])
    strange = write_geojson(make_shapes([far], "macrophage"), tmp_path / "c.geojson")
    with pytest.raises(AnnotationError, match="all of its 2 shapes lie outside"):
        fuse_files([*files, strange], SLIDE, Rules(point_radius=5))


def test_files_that_cannot_be_placed_say_what_to_do(tmp_path):
    shapes = make_shapes([GLOMERULUS], "glomerulus")
    for name in ("mask", "rle", "cytomine", "sectra"):
        path = tmp_path / f"a{FORMATS[name].suffixes[0]}"
        write_annotations(shapes, path, name, SLIDE)
        with pytest.raises(AnnotationError, match=r"size.*stainda annotations convert"):
            load_shapes(path)
    (tmp_path / "a.ndpa").write_text("<annotations></annotations>")
    with pytest.raises(AnnotationError, match=r"pixel size.*stainda annotations convert"):
        load_shapes(tmp_path / "a.ndpa", SIZE)
    (tmp_path / "a.csv").write_text("one,two\n1,2\n")
    with pytest.raises(AnnotationError, match="not in a known format"):
        load_shapes(tmp_path / "a.csv", SIZE)


def test_a_mask_of_lower_resolution_is_scaled_to_the_slide(tmp_path):
    small = make_shapes([shapely.box(10, 20, 30, 40)], "glomerulus")
    write_annotations(small, tmp_path / "a.png", "mask", PlainFrame((100, 75), Path("a.svs")))
    shapes, _ = load_shapes(tmp_path / "a.png", SIZE)
    assert shapes.geometry[0].equals(shapely.box(40, 80, 120, 160))
    with pytest.raises(AnnotationError, match="do not fit a slide"):
        load_shapes(tmp_path / "a.png", (400, 400))


def test_conversion_counts_mends_renames_and_says_what_is_lost(tmp_path):
    ring = shapely.Polygon(GLOMERULUS.exterior, [shapely.box(120, 120, 140, 150).exterior])
    shapes = make_shapes(
        [ring, shapely.box(10, 10, 100, 90), shapely.box(1, 1, 3, 3), shapely.Point(5, 5), shapely.box(500, 0, 600, 9)],
        ["gl", "gl", "vessel", "gl", "gl"],
        score=0.5,
    )
    write_geojson(shapes, tmp_path / "in.geojson")
    (tmp_path / "map.csv").write_text("from,to\ngl,glomerulus\n")
    classes = read_class_table(tmp_path / "map.csv")
    contents = convert_annotations(
        tmp_path / "in.geojson", tmp_path / "out.xml", SLIDE, target_format="asap", classes=classes
    )
    assert contents.classes == [("glomerulus", 2, 0, 1, "6900"), ("vessel", 1, 0, 0, "4")]
    assert [row[:4] for row in contents.changes] == [
        ("vessel", "kept", "its class is not in the table of classes", 1),
        ("glomerulus", "dropped", "outside the slide", 1),
    ]
    assert any("holes of 1 shapes" in text for text in contents.lost)
    assert any("4 scores" in text for text in contents.lost)
    back = read_annotations(tmp_path / "out.xml")
    assert sorted(back["class"]) == ["glomerulus"] * 3 + ["vessel"]
    assert inspect_annotations(tmp_path / "out.xml").classes == [
        ("glomerulus", 2, 0, 1, "7200"),
        ("vessel", 1, 0, 0, "4"),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("old,new\na,b\n", "not 'from' and 'to'"),
        ("from,to\na,b\na,c\n", r"row 3.*two new names"),
        ("from,to\na\n", r"row 2.*1 cells"),
    ],
)
def test_a_wrong_table_of_classes_is_refused(text, reason, tmp_path):
    (tmp_path / "map.csv").write_text(text)
    with pytest.raises(AnnotationError, match=reason):
        read_class_table(tmp_path / "map.csv")


# what remains of an outline: 32-bit floats, whole nanometres are not tested here (no .ndpi), whole pixels
@pytest.mark.parametrize("name", [name for name in OUTLINES if name != "rle"])
def test_real_glomeruli_survive_every_format_of_outlines(name, real_data, tmp_path):
    file = real_data / "annotation_formats" / "qupath_tpath_glomeruli" / "TPATH068.geojson"
    shapes = read_shapes(file).head(8)
    x, y = shapes.total_bounds[:2] // 1
    shapes = shapes.assign(geometry=shapes.geometry.translate(-x, -y).scale(0.1, 0.1, origin=(0, 0)))
    width, height = (int(side) + 2 for side in shapes.total_bounds[2:])
    slide = PlainFrame((width, height), file)
    path = tmp_path / f"a{FORMATS[name].suffixes[0]}"
    write_annotations(shapes, path, name, slide)
    back, _ = load_shapes(path, slide.size)
    assert len(back) == len(shapes)
    for cls, group in shapes.groupby("class"):
        found, wanted = back[back["class"] == cls].union_all(), group.union_all()
        dice = 2 * found.intersection(wanted).area / (found.area + wanted.area)
        assert dice > (0.9999 if "exact" in FORMATS[name].holds else 0.95)
