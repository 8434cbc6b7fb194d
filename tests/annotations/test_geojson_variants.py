"""GeoJSON as other programs write it: nested members as text, packed, and larger than memory should hold at once."""

from __future__ import annotations

import gzip
import io
import json
import math
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import shapely

from stainda.annotations import inspect_annotations, load_shapes, make_shapes, read_shapes, sniff_format, write_geojson
from stainda.annotations.formats import write_annotations
from stainda.annotations.guarded import read_bytes
from stainda.annotations.json_stream import FeatureStream
from stainda.annotations.unpacking import Member
from stainda.errors import AnnotationError

SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9], [0, 0]]]}


def one(tmp_path: Path, properties, **feature):
    path = tmp_path / "a.geojson"
    features = [{"type": "Feature", "geometry": SQUARE, "properties": properties, **feature}]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    shapes = read_shapes(path)
    assert len(shapes) == 1
    return shapes.iloc[0], path


def test_a_classification_as_text_is_the_class_it_names(tmp_path) -> None:
    text = '{ "name": "glomerulus", "color": [ 10, 20, 30 ] }'
    row, path = one(tmp_path, {"objectType": "annotation", "classification": text})
    assert row["class"] == "glomerulus"
    written = json.loads(write_geojson(read_shapes(path), tmp_path / "b.geojson").read_text())
    assert written["features"][0]["properties"]["classification"] == {"name": "glomerulus", "color": [10, 20, 30]}


@pytest.mark.parametrize(
    ("classification", "name"),
    [
        ('{"names": ["Tumor", "Positive"]}', "Tumor: Positive"),
        ('{"name": "a", "colorRGB": "-3670016"}', "a"),
        ({"name": "a", "color": "[1, 2, 3]"}, "a"),
        ({"names": '["x", "y"]'}, "x: y"),
        ("[dead]", "[dead]"),
        ("{broken", "{broken"),
        ("glomerulus", "glomerulus"),
        (math.nan, ""),
        (None, ""),
    ],
)
def test_classes_as_they_come(tmp_path, classification, name) -> None:
    assert one(tmp_path, {"classification": classification})[0]["class"] == name


def test_measurements_metadata_and_numbers_as_text(tmp_path) -> None:
    row, _ = one(
        tmp_path,
        {
            "measurements": '{"score": "0.75", "confidence": 0.5, "Area": 12.5}',
            "metadata": '{"source_slide": "S1", "stainda_id": "own", "note": "n"}',
            "name": math.nan,
        },
    )
    assert (row["score"], row["confidence"], row["source_slide"]) == (0.75, 0.5, "S1")
    assert (row["id"], row["name"]) == ("own", "")
    assert row["properties"]["measurements"] == {"Area": 12.5}
    assert row["properties"]["metadata"] == {"note": "n"}
    assert one(tmp_path, {"score": "0.25"})[0]["score"] == 0.25
    assert math.isnan(one(tmp_path, {"measurements": '[{"name": "score", "value": NaN}]'})[0]["score"])
    assert one(tmp_path, '{"classification": {"name": "all of it"}}')[0]["class"] == "all of it"


def test_missing_ids_of_tables_are_derived(tmp_path) -> None:
    assert "nan" not in one(tmp_path, {"id": math.nan})[0]["id"].lower()


# packed ----------------------------------------------------------------------------------------------------------


def document(x: float = 0, mark: bool = True) -> bytes:
    path = io.StringIO()
    shape = shapely.box(x, 0, x + 10, 10)
    features = [{"type": "Feature", "geometry": shapely.geometry.mapping(shape), "properties": {"name": f"at {x}"}}]
    path.write(json.dumps({"type": "FeatureCollection", "features": features}))
    return path.getvalue().encode()


def zipped(path: Path, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name.replace("__dot__", "."), data)
    return path


@pytest.mark.parametrize("name", ["a.geojson.gz", "a.geojson.zip", "a.zip", "a.json.gz"])
def test_packed_exports_of_qupath_are_read(tmp_path, name) -> None:
    path = tmp_path / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(document(5)))
    else:
        zipped(path, a__dot__geojson=document(5))
    assert sniff_format(path).name == "qupath"
    shapes, told = load_shapes(path)
    assert shapes.geometry[0].equals(shapely.box(5, 0, 15, 10))
    assert not told
    assert inspect_annotations(path).count == 1


def test_a_zip_of_several_geojson_files_is_one_set_of_shapes(tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("one.geojson", document(0))
        archive.writestr("../../two.json", document(50))  # a name, never a path
        archive.writestr("__MACOSX/._one.geojson", b"junk")
        archive.writestr("readme.md", b"junk")
    shapes, _ = load_shapes(tmp_path / "a.zip")
    assert sorted(shapes["name"]) == ["at 0", "at 50"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip"]
    assert not (tmp_path.parents[1] / "two.json").exists()


@pytest.mark.parametrize("name", ["asap", "imagescope", "points", "coco", "labelme"])
def test_other_texts_are_read_packed_too(tmp_path, name) -> None:
    from stainda.annotations.formats import FORMATS

    plain = tmp_path / f"a{FORMATS[name].suffixes[0]}"
    shapes = make_shapes([shapely.Point(3, 4) if name == "points" else shapely.box(1, 2, 30, 40)], "a")
    write_annotations(shapes, plain, name)
    packed = tmp_path / f"{plain.name}.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    in_zip = zipped(tmp_path / "b.zip", **{plain.name.replace(".", "__dot__"): plain.read_bytes()})
    for path in (packed, in_zip):
        assert sniff_format(path).name == name
        np.testing.assert_allclose(load_shapes(path)[0].total_bounds, shapes.total_bounds)


def test_what_cannot_be_unpacked_says_so(tmp_path) -> None:
    (tmp_path / "cut.geojson.gz").write_bytes(gzip.compress(document() * 500)[:200])
    (tmp_path / "cut.zip").write_bytes(zipped(tmp_path / "whole.zip", a__dot__geojson=document()).read_bytes()[:60])
    for name, said in (("cut.geojson.gz", "cannot be unpacked|not valid JSON"), ("cut.zip", "not a readable zip")):
        with pytest.raises(AnnotationError, match=said):
            load_shapes(tmp_path / name)
    with pytest.raises(AnnotationError, match="zip file without annotations"):
        load_shapes(zipped(tmp_path / "none.zip", slide__dot__svs=b"x"))
    both = zipped(tmp_path / "both.zip", a__dot__xml=b"<a/>", b__dot__geojson=document())
    with pytest.raises(AnnotationError, match="Unpack it"):
        load_shapes(both)


@pytest.mark.parametrize("name", ["bomb.geojson.gz", "bomb.zip"])
def test_bombs_are_refused_before_they_fill_the_memory(tmp_path, name) -> None:
    path, data = tmp_path / name, b"[" + b" " * 60_000_000
    if name.endswith(".zip"):
        zipped(path, bomb__dot__geojson=data)
    else:
        path.write_bytes(gzip.compress(data, 1))
    assert path.stat().st_size < 1_000_000
    tracemalloc.start()
    try:
        for read in (read_shapes, read_bytes):
            with pytest.raises(AnnotationError, match="more than is read"):
                read(path, max_bytes=5_000_000)
        assert tracemalloc.get_traced_memory()[1] < 40e6
    finally:
        tracemalloc.stop()


# feature by feature ----------------------------------------------------------------------------------------------


class Dripping(io.BytesIO):
    """Gives a few bytes at a time, so that every value is cut somewhere."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(3)


DOCUMENTS = [
    {"type": "FeatureCollection", "features": [], "stainda": {"frame": "level0"}},
    {"features": [{"a": [1.5e-3, -2, 1e300, True, None, 'quo"te\\ ü 😀 ] }']}, {"b": {}}, 12.25], "after": [1, 2]},
    [{"x": 1}, [], "text", 3.25, None, False],
    {"type": "Feature", "geometry": None},
    {},
    [],
]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("number", range(len(DOCUMENTS)))
def test_a_stream_gives_what_json_gives_wherever_it_is_cut(number, encoding) -> None:
    wanted = DOCUMENTS[number]
    for indent, ascii_only in ((None, True), (2, False)):
        data = json.dumps(wanted, indent=indent, ensure_ascii=ascii_only).encode(encoding)
        stream = FeatureStream(Dripping(data), Member(Path("a.geojson"), "a.geojson"))
        found = list(stream)
        if isinstance(wanted, list):
            assert stream.is_list
            assert found == wanted
        else:
            assert found == wanted.get("features", [])
            assert stream.rest | ({"features": []} if "features" in wanted else {}) == wanted | (
                {"features": []} if "features" in wanted else {}
            )


BROKEN = ['{"features": [{"a": 1}', '[{"a": tru}]', '{"features": [1 2]}', "[1,]", '{"a" 1}', "[1] x"]


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_no_json_is_refused_with_its_line(tmp_path, text) -> None:
    path = tmp_path / "a.geojson"
    path.write_text("\n\n" + text)
    with pytest.raises(AnnotationError, match="not valid JSON") as caught:
        read_shapes(path)
    assert caught.value.row == 3


def test_a_large_file_is_read_without_lying_in_memory_twice(tmp_path) -> None:
    ring = [[round(math.cos(k) * 100, 6), round(math.sin(k) * 100, 6)] for k in np.linspace(0, 6.2, 4000)]
    feature = json.dumps({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {}})
    path = tmp_path / "a.geojson"
    with path.open("w") as stream:
        stream.write('{"type": "FeatureCollection", "features": [')
        stream.write(",\n".join([feature] * 80))
        stream.write("]}")
    size = path.stat().st_size
    assert size > 6e6
    tracemalloc.start()
    try:
        shapes = read_shapes(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(shapes) == 80
    assert peak < 4 * size  # as one text with its lists it takes 12 times its size
