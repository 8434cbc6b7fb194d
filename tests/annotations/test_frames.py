"""Files that count from the scanned part of a slide: read, checked, written, and read again in level-0 pixels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from scanned_part import BOUNDS, CENTRES, GLOMERULUS, SIZE, glomeruli, write_qupath, write_scn

from stainda.annotations import bounds_of, from_level0, load_shapes, make_shapes, read_shapes, to_level0, write_geojson
from stainda.annotations.formats import FORMATS, read_annotations, write_annotations
from stainda.annotations.formats.frame import PlainFrame
from stainda.errors import AnnotationError
from stainda.slides import Slide, open_slide

MIDDLES = np.array(CENTRES) + BOUNDS[:2]


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    with open_slide(write_scn(tmp_path_factory.mktemp("scn") / "S1.scn")) as opened:
        yield opened


def middles(shapes) -> np.ndarray:
    return np.array([one.centroid.coords[0] for one in shapes.geometry])


def pixels_under(slide: Slide, shapes) -> list[tuple[int, ...]]:
    return [tuple(int(v) for v in slide.read(x, y, 1, 1)[0, 0]) for x, y in middles(shapes)]


def test_the_slide_has_a_scanned_part(slide) -> None:
    assert (slide.size, slide.bounds, bounds_of(slide)) == (SIZE, BOUNDS, BOUNDS)
    assert pixels_under(slide, glomeruli("bounds"))[0] == (255, 255, 255)
    assert pixels_under(slide, glomeruli()) == [GLOMERULUS] * 3


def test_a_file_of_qupath_is_read_from_the_scanned_part(slide, tmp_path) -> None:
    shapes, told = load_shapes(write_qupath(tmp_path / "a.geojson"), slide=slide)
    assert pixels_under(slide, shapes) == [GLOMERULUS] * 3
    assert not told
    np.testing.assert_allclose(middles(shapes), MIDDLES, atol=1e-6)


def test_a_file_without_crop_is_read_where_that_is_said(slide, tmp_path) -> None:
    path = write_qupath(tmp_path / "a.geojson", "level0")
    shapes, _ = load_shapes(path, slide=slide, origin="level0")
    assert pixels_under(slide, shapes) == [GLOMERULUS] * 3


@pytest.mark.parametrize(("frame", "said", "right"), [("level0", "auto", "level0"), ("bounds", "level0", "bounds")])
def test_a_wrong_origin_is_an_error_that_names_the_right_one(slide, tmp_path, frame, said, right) -> None:
    path = write_qupath(tmp_path / "a.geojson", frame)
    with pytest.raises(AnnotationError, match="of what its 3 shapes cover is tissue") as caught:
        load_shapes(path, slide=slide, origin=said)
    assert f"--origin {right}" in str(caught.value)
    assert "100% when read from" in str(caught.value)


def test_a_file_that_fits_somewhat_better_elsewhere_is_told(slide, tmp_path) -> None:
    there = [shapely.box(x, y, x + 20, y + 20) for x, y in [(620, 110)] + [(200 + 40 * k, 300) for k in range(3)]]
    path = tmp_path / "a.csv"  # of points: read from the corner of the slide unless reported otherwise
    path.write_text("x,y\n" + "".join(f"{one.centroid.x},{one.centroid.y}\n" for one in there[:1]) + "700,500\n" * 2)
    shapes, told = load_shapes(path, slide=slide)
    assert len(shapes) >= 2
    assert [row["action"] for row in told if "when read from the corner of the scanned part" in row["reason"]] == [
        "kept"
    ]


def test_what_stainda_writes_is_in_the_frame_of_qupath_and_read_back_without_the_slide(slide, tmp_path) -> None:
    path = write_geojson(glomeruli(), tmp_path / "a.geojson", bounds=bounds_of(slide))
    document = json.loads(path.read_text())
    assert document["stainda"] == {"frame": "bounds", "bounds": [600, 400, 1024, 768]}
    first = shapely.geometry.shape(document["features"][0]["geometry"]).centroid
    assert (first.x, first.y) == pytest.approx(CENTRES[0])
    np.testing.assert_allclose(middles(read_shapes(path)), MIDDLES)
    for origin in ("auto", "level0", "bounds"):  # the file knows better than whoever says otherwise
        np.testing.assert_allclose(middles(load_shapes(path, slide=slide, origin=origin)[0]), MIDDLES)
    np.testing.assert_allclose(middles(load_shapes(path)[0]), MIDDLES)


def test_a_marked_file_of_another_slide_says_so(slide, tmp_path) -> None:
    path = write_geojson(glomeruli("bounds"), tmp_path / "a.geojson")  # says level0
    with pytest.raises(AnnotationError, match="Is it of this slide"):
        load_shapes(path, slide=slide)


@pytest.mark.parametrize("mark", ['{"frame":"bounds"}', '{"frame":"bounds","bounds":["a",2,3,4]}', '{"frame":1}'])
def test_a_broken_mark_is_refused(tmp_path, mark) -> None:
    path = tmp_path / "a.geojson"
    path.write_text(f'{{"type":"FeatureCollection","stainda":{mark},"features":[]}}')
    with pytest.raises(AnnotationError, match="does not say where its coordinates begin"):
        read_shapes(path)


@pytest.mark.parametrize("origin", ["auto", "level0", "bounds"])
@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("ndpa", "points")])
def test_every_format_goes_there_and_back(slide, tmp_path, name, origin) -> None:
    path = tmp_path / f"a{FORMATS[name].suffixes[0]}"
    write_annotations(glomeruli(), path, name, slide, origin)
    shapes = read_annotations(path, name, slide, origin=origin)
    assert len(shapes) == 3
    found = middles(shapes)
    np.testing.assert_allclose(found[np.argsort(found[:, 0])], MIDDLES[np.argsort(MIDDLES[:, 0])], atol=1.0)


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("ndpa", "points", "qupath")])
def test_every_format_may_count_from_the_scanned_part(slide, tmp_path, name) -> None:
    """As a program would write it that knows of the scanned part alone: a picture of that size."""
    path = tmp_path / f"a{FORMATS[name].suffixes[0]}"
    part = PlainFrame(BOUNDS[2:], Path(slide.path))
    write_annotations(glomeruli("bounds"), path, name, part)
    assert pixels_under(slide, read_annotations(path, name, slide, origin="bounds")) == [GLOMERULUS] * 3
    if name != "mask":  # whose size tells
        with pytest.raises(AnnotationError, match="--origin bounds"):
            read_annotations(path, name, slide)
    else:
        assert pixels_under(slide, read_annotations(path, name, slide)) == [GLOMERULUS] * 3


def test_the_points_of_a_table_too(slide, tmp_path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x,y,class\n" + "".join(f"{x},{y},glomerulus\n" for x, y in CENTRES))
    assert pixels_under(slide, read_annotations(path, "points", slide, origin="bounds")) == [GLOMERULUS] * 3
    with pytest.raises(AnnotationError, match="--origin bounds"):
        read_annotations(path, "points", slide)


def test_the_nucleus_of_a_cell_moves_with_it() -> None:
    nucleus = {"type": "Polygon", "coordinates": [[[1, 2], [3, 2], [3, 4], [1, 2]]]}
    cell = make_shapes([shapely.box(0, 0, 5, 5)], "cell", properties=[{"nucleusGeometry": nucleus}])
    there = to_level0(cell, "bounds", BOUNDS)
    assert there["properties"][0]["nucleusGeometry"]["coordinates"][0][0] == [601, 402]
    assert from_level0(there, "bounds", BOUNDS)["properties"][0]["nucleusGeometry"] == nucleus
    assert cell["properties"][0]["nucleusGeometry"] == nucleus


def test_the_scanned_part_asked_for_without_the_slide(tmp_path) -> None:
    with pytest.raises(AnnotationError, match="Give the slide"):
        load_shapes(write_qupath(tmp_path / "a.geojson"), origin="bounds")
    with pytest.raises(AnnotationError, match="Did you mean 'bounds'"):
        load_shapes(write_qupath(tmp_path / "a.geojson"), origin="bound")  # type: ignore[arg-type]
