"""QuPath's GeoJSON goes in and out with everything kept, and broken or hostile files are refused in words."""

from __future__ import annotations

import json
import math
import uuid

import numpy as np
import pytest
import shapely

from stainda.annotations import SHAPE_COLUMNS, empty_shapes, load_shapes, make_shapes, read_shapes, write_geojson
from stainda.errors import AnnotationError

SQUARE = [[[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]]
HOLE = [[4, 4], [6, 4], [6, 6], [4, 6], [4, 4]]


def feature(geometry=None, **properties) -> dict:
    return {
        "type": "Feature",
        "id": "1b69fefe-e669-5d9b-8078-23a000785c47",
        "geometry": geometry or {"type": "Polygon", "coordinates": SQUARE},
        "properties": {"objectType": "annotation", **properties},
    }


def saved(tmp_path, document, name="a.geojson"):
    path = tmp_path / name
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


GEOMETRIES = {
    "polygon": shapely.Polygon(SQUARE[0]),
    "hole": shapely.Polygon(SQUARE[0], [HOLE]),
    "multipolygon": shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.Polygon(SQUARE[0], [HOLE])]),
    "point": shapely.Point(3.25, 4.125),
    "multipoint": shapely.MultiPoint([(1, 2), (3, 4)]),
    "line": shapely.LineString([(0, 0), (5, 5.5)]),
    "multiline": shapely.MultiLineString([[(0, 0), (1, 1)], [(2, 2), (3, 3)]]),
    "inexact": shapely.box(0.1, 0.2, 1 / 3, 1e5 / 7),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_every_geometry_survives_the_way_out_and_in(name, tmp_path):
    shapes = make_shapes([GEOMETRIES[name]], "glomerulus")
    back = read_shapes(write_geojson(shapes, tmp_path / "a.geojson"))
    assert back.geometry[0].equals_exact(GEOMETRIES[name], 0)
    assert back["id"].tolist() == shapes["id"].tolist()


def test_all_columns_survive_the_way_out_and_in(tmp_path):
    properties = {
        "isLocked": True,
        "measurements": {"Area": 12.5},
        "metadata": {"reader": "A"},
        "custom": [1, {"a": None}],
    }
    shapes = make_shapes(
        [shapely.box(0, 0, 1, 1), shapely.box(2, 2, 3, 3)],
        ["glomerulus", ""],
        name=["G 1", ""],
        id=["P1-g7", str(uuid.uuid4())],
        score=[0.75, math.nan],
        confidence=[math.nan, 0.5],
        source_slide=["P1_PAS", ""],
        properties=[properties, {}],
    )
    back = read_shapes(write_geojson(shapes, tmp_path / "a.geojson"))
    assert tuple(back.columns) == SHAPE_COLUMNS
    for column in ("class", "name", "id", "source_slide"):
        assert back[column].tolist() == shapes[column].tolist()
    for column in ("score", "confidence"):
        assert np.array_equal(back[column], shapes[column], equal_nan=True)
    assert {key: back.properties[0][key] for key in properties} == properties
    again = read_shapes(write_geojson(back, tmp_path / "b.geojson"))
    assert again.properties.tolist() == back.properties.tolist()


def test_the_output_is_what_qupath_opens(tmp_path):
    shapes = make_shapes([shapely.box(0, 0, 4, 4)] * 3, "glomerulus", id=["a", "a", "b"], score=np.float32(0.5).item())
    document = json.loads(write_geojson(shapes, tmp_path / "a.geojson", object_type="detection").read_text())
    assert document["type"] == "FeatureCollection"
    ids = [one["id"] for one in document["features"]]
    assert len({uuid.UUID(one) for one in ids}) == 3
    for one in document["features"]:
        assert one["type"] == "Feature"
        properties = one["properties"]
        assert properties["objectType"] == "detection"
        assert properties["isLocked"] is False
        assert properties["classification"]["name"] == "glomerulus"
        assert len(properties["classification"]["color"]) == 3
        assert all(isinstance(part, int) and 0 <= part <= 255 for part in properties["classification"]["color"])
        assert properties["measurements"] == {"score": 0.5}
        assert one["geometry"]["coordinates"][0][0] == one["geometry"]["coordinates"][0][-1]


def test_a_class_keeps_its_colour_until_it_changes(tmp_path):
    path = saved(tmp_path, feature(classification={"name": "Normal", "color": [1, 2, 3]}))
    shapes = read_shapes(path)
    kept = json.loads(write_geojson(shapes, tmp_path / "b.geojson").read_text())["features"][0]["properties"]
    assert kept["classification"]["color"] == [1, 2, 3]
    shapes["class"] = "Sclerotic"
    changed = json.loads(write_geojson(shapes, tmp_path / "c.geojson").read_text())["features"][0]["properties"]
    assert changed["classification"]["name"] == "Sclerotic"
    assert changed["classification"]["color"] != [1, 2, 3]


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"classification": {"name": "A: B", "colorRGB": -65536}}, "A: B"),
        ({"classification": {"names": ["A", "B"], "color": [0, 0, 0]}}, "A: B"),
        ({"classification": "A"}, "A"),
        ({"class": "A"}, "A"),
        ({"classification": None}, ""),
        ({}, ""),
    ],
)
def test_the_class_is_found_where_each_version_writes_it(properties, expected, tmp_path):
    assert read_shapes(saved(tmp_path, feature(**properties)))["class"].tolist() == [expected]


def test_the_old_packed_colour_is_understood(tmp_path):
    shapes = read_shapes(saved(tmp_path, feature(classification={"name": "A", "colorRGB": -8397766})))
    document = json.loads(write_geojson(shapes, tmp_path / "b.geojson").read_text())
    assert document["features"][0]["properties"]["classification"]["color"] == [127, 220, 58]


def test_collections_lists_features_and_bare_geometries_are_read(tmp_path):
    one = feature()
    for document in (
        {"type": "FeatureCollection", "features": [one]},
        [one],
        one,
        one["geometry"],
        {"features": [one]},
    ):
        assert read_shapes(saved(tmp_path, document)).geometry[0].area == 100
    assert len(read_shapes(saved(tmp_path, {"type": "FeatureCollection", "features": []}))) == 0
    assert read_shapes(saved(tmp_path, [])).columns.tolist() == empty_shapes().columns.tolist()


def test_ids_that_name_no_object_are_replaced_by_ones_that_do(tmp_path):
    old = [
        feature() | {"id": "PathAnnotationObject"},
        feature({"type": "Point", "coordinates": [1, 2]}) | {"id": "PathDetectionObject"},
    ]
    for one in old:
        del one["properties"]["objectType"]
    shapes = read_shapes(saved(tmp_path, old))
    assert shapes["id"].nunique() == 2
    assert [p["objectType"] for p in shapes.properties] == ["annotation", "detection"]
    assert read_shapes(saved(tmp_path, old))["id"].tolist() == shapes["id"].tolist()


def test_qupath_writes_nan_in_measurements_and_planes_in_geometries(tmp_path):
    text = json.dumps(
        feature(
            {"type": "Polygon", "coordinates": SQUARE, "plane": {"c": -1, "z": 2, "t": 0}},
            measurements=[{"name": "Area", "value": 3.5}, {"name": "Empty", "value": "NAN"}],
        )
    ).replace('"NAN"', "NaN")
    shapes = read_shapes(saved(tmp_path, text))
    path = write_geojson(shapes, tmp_path / "b.geojson")
    assert "NaN" not in path.read_text()
    written = json.loads(path.read_text())["features"][0]
    assert written["properties"]["measurements"] == {"Area": 3.5}
    assert written["geometry"]["plane"] == {"c": -1, "z": 2, "t": 0}


BROKEN = {
    "not json": ("{this is no JSON", "not valid JSON"),
    "cut short": (json.dumps([feature()])[:-30], "not valid JSON.*cut short|not valid JSON"),
    "empty": ("  ", "empty"),
    "other json": ('{"a": 1}', "not GeoJSON"),
    "a number": ("42", "not GeoJSON"),
    "too deep": ("[" * 5000 + "]" * 5000, "nested more than"),
    "deep objects": ('{"a":' * 3000 + "1" + "}" * 3000, "nested more than"),
    "not a feature": ("[1, 2]", "2 of 2 features cannot be used"),
    "nan": (
        json.dumps(feature({"type": "Point", "coordinates": [1, "NAN"]})).replace('"NAN"', "NaN"),
        "feature 1: .*NaN",
    ),
    "infinite": (json.dumps(feature()).replace("10]", "1e999]"), "feature 1: .*NaN or infinite"),
    "two points": (feature({"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}), "ring of 2 points"),
    "text": (feature({"type": "Polygon", "coordinates": [[["a", "b"]] * 4]}), "no pairs of numbers"),
    "flat": (feature({"type": "Polygon", "coordinates": [1, 2, 3]}), "feature 1"),
    "unknown type": (feature({"type": "Circle", "coordinates": [1, 2]}), "unknown type 'Circle'"),
    "no geometry": ([feature() | {"geometry": None}], "has no geometry"),
    "no coordinates": (feature({"type": "Point"}), "no coordinates"),
    "mixed": (
        feature({"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [1, 2]}]}),
        "mixed",
    ),
    "huge integer": (feature({"type": "Point", "coordinates": [10**400, 1]}), "no pairs of numbers"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused_in_words(name, tmp_path):
    document, said = BROKEN[name]
    path = saved(tmp_path, document)
    with pytest.raises(AnnotationError, match=said) as caught:
        read_shapes(path)
    assert str(path) in str(caught.value)


def test_brackets_in_text_are_no_nesting(tmp_path):
    shapes = read_shapes(saved(tmp_path, feature(name="[" * 500 + '\\"{{')))
    assert shapes["name"][0].startswith("[[[")


def test_too_large_a_file_is_refused_unread(tmp_path):
    path = saved(tmp_path, [feature()])
    with pytest.raises(AnnotationError, match="more than is read"):
        read_shapes(path, max_bytes=100)
    with pytest.raises(AnnotationError, match="no such file"):
        read_shapes(tmp_path / "none.geojson")


def test_what_cannot_be_used_is_left_out_where_it_is_told(tmp_path):
    bow = {"type": "Polygon", "coordinates": [[[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]]}
    document = [feature(), feature() | {"geometry": None}, feature(bow, classification={"name": "A"})]
    shapes, rows = load_shapes(saved(tmp_path, document))
    assert len(shapes) == 2
    assert shapes.geometry.is_valid.all()
    assert [(row["action"], row["reason"].split(" (")[0]) for row in rows] == [
        ("dropped", "has no geometry"),
        ("mended", "invalid"),
        ("mended", f"its id was taken; it is now {shapes['id'][1]}"),
    ]


def test_shapes_without_geometry_are_not_written(tmp_path):
    with pytest.raises(AnnotationError, match="no geometry"):
        write_geojson(make_shapes([shapely.Polygon()], "a"), tmp_path / "a.geojson")
    assert not (tmp_path / "a.geojson").exists()


def test_real_files_of_several_versions_keep_everything(real_data, tmp_path):
    folder = real_data / "annotation_formats"
    files = [
        *folder.glob("qupath*/*.geojson"),
        *folder.glob("wsidicom/qupath*/*.json"),
        *real_data.glob("rat_kidney/*.geojson"),
    ]
    assert len(files) > 15
    for file in files:
        shapes, problems = load_shapes(file)
        assert len(shapes) > 0, file
        assert not [row for row in problems if not row["reason"].endswith("points split")], file
        back = read_shapes(write_geojson(shapes, tmp_path / "a.geojson"))
        assert all(a.equals_exact(b, 0) for a, b in zip(shapes.geometry, back.geometry, strict=True))
        for column in ("class", "name", "id"):
            assert back[column].tolist() == shapes[column].tolist()
        for before, after in zip(shapes.properties, back.properties, strict=True):
            kept = {key for key, value in before.items() if key != "classification" and value not in ({}, [])}
            assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
