"""A transform puts points where they belong, both ways, at once for all shapes, and survives being saved."""

from __future__ import annotations

import json
import time

import geopandas as gpd
import numpy as np
import pytest
import shapely
from scipy import ndimage

from stainda.errors import RegistrationError
from stainda.registration import Transform, map_points, map_shapes
from stainda.registration.fields import extend, invert, jacobian
from stainda.registration.moved_shapes import move_shapes
from stainda.registration.transforms import Between, from_backward

SIZE, FRAME = (1200, 800), (1100, 900)


def smooth_field(seed: int, amplitude: float = 4.0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(2, 100, 150))
    field = np.stack([ndimage.gaussian_filter(part, 12) for part in noise])
    return (field * amplitude / np.abs(field).max()).astype(np.float32)


def bent(slide: str = "a", seed: int = 1) -> Transform:
    thin = np.diag([1 / 8, 1 / 8, 1.0])
    turn = np.array([[np.cos(0.2), -np.sin(0.2), 30], [np.sin(0.2), np.cos(0.2), -12], [0, 0, 1]])
    return from_backward(Transform(slide, "ref", SIZE, FRAME, thin @ turn, np.linalg.inv(thin)), smooth_field(seed))


def test_affine_known_answer() -> None:
    quarter = np.array([[0.0, -2, 100], [2, 0, 50], [0, 0, 1]])
    transform = Transform.affine("a", SIZE, "ref", FRAME, quarter)
    np.testing.assert_allclose(transform.to_frame(np.array([[10.0, 20.0]])), [[60, 70]])
    np.testing.assert_allclose(transform.from_frame(np.array([[60.0, 70.0]])), [[10, 20]])
    np.testing.assert_allclose(transform.area_change(np.array([[3.0, 4.0]])), 4)


def test_there_and_back_is_below_a_pixel() -> None:
    points = np.random.default_rng(0).uniform((-100, -100), (1300, 900), (20_000, 2))
    assert np.percentile(bent().round_trip(points), 99) < 0.5
    assert np.percentile(Between(bent("a", 1), bent("b", 2)).round_trip(points), 99) < 0.5


def test_beyond_the_lattice_the_displacement_is_that_of_its_border() -> None:
    transform = bent()
    far = transform.from_frame(np.array([[-5000.0, 300.0], [-9000.0, 300.0]]))
    rigid = transform.rigid.from_frame(np.array([[-5000.0, 300.0], [-9000.0, 300.0]]))
    np.testing.assert_allclose(far[0] - rigid[0], far[1] - rigid[1], atol=1e-6)


def test_none_and_not_a_number() -> None:
    assert bent().to_frame(np.zeros((0, 2))).shape == (0, 2)
    assert np.isnan(bent().to_frame(np.array([[np.nan, 1.0]]))).all()


def test_saved_with_arrays_and_json_only(tmp_path) -> None:
    bent().save(tmp_path / "slide.one")
    with np.load(tmp_path / "slide.one.npz", allow_pickle=False) as arrays:
        assert set(arrays.files) == {"pre", "post", "forward", "backward"}
    back = Transform.load(tmp_path / "slide.one")
    points = np.random.default_rng(0).uniform(0, 800, (500, 2))
    np.testing.assert_array_equal(back.to_frame(points), bent().to_frame(points))
    assert (back.size, back.frame_size, back.frame) == (SIZE, FRAME, "ref")


@pytest.mark.parametrize("damage", ["missing", "truncated", "newer", "refused", "not_json"])
def test_a_transform_that_cannot_be_used_says_so(tmp_path, damage) -> None:
    head = bent().save(tmp_path / "a")
    values = json.loads(head.read_text())
    if damage == "missing":
        (tmp_path / "a.npz").unlink()
    elif damage == "truncated":
        (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:100])
    elif damage == "newer":
        head.write_text(json.dumps(values | {"version": 99}))
    elif damage == "refused":
        head.write_text(json.dumps(values | {"status": "refused", "reason": "blank"}))
    else:
        head.write_text("{")
    with pytest.raises(RegistrationError) as caught:
        Transform.load(tmp_path / "a")
    assert str(head) in str(caught.value)


def test_sections_of_two_blocks_are_not_mapped() -> None:
    with pytest.raises(RegistrationError, match="frame"):
        map_points(np.zeros((1, 2)), Transform.identity("a", SIZE), Transform.identity("b", SIZE))


def test_every_kind_of_shape_is_warped_and_everything_else_kept() -> None:
    ring = shapely.Point(400, 400).buffer(60)
    geometries = [
        ring.difference(shapely.Point(400, 400).buffer(20)),
        shapely.MultiPolygon([shapely.box(10, 10, 30, 30), shapely.box(50, 10, 70, 30)]),
        shapely.Point(5, 6),
        shapely.MultiPoint([(1, 2), (3, 4)]),
        shapely.LineString([(0, 0), (10, 10)]),
        shapely.Polygon([(0, 0, 7), (10, 0, 7), (10, 10, 7)]),
    ]
    shapes = gpd.GeoDataFrame({"id": list("abcdef"), "properties": [{"k": i} for i in range(6)]}, geometry=geometries)
    source, target = bent("a", 1), bent("b", 2)
    moved = map_shapes(shapes, source, target)
    assert list(moved.geom_type) == list(shapes.geom_type)
    assert list(moved["id"]) == list("abcdef") and moved["properties"].iloc[3] == {"k": 3}
    assert len(moved.geometry.iloc[0].interiors) == 1
    for before, after in zip(geometries, moved.geometry, strict=True):
        expected = map_points(shapely.get_coordinates(before), source, target)
        np.testing.assert_allclose(shapely.get_coordinates(after), expected)
    assert moved.attrs["z_dropped"] == 1 and not shapely.has_z(moved.geometry.iloc[5])


def test_the_nucleus_of_a_cell_moves_with_it() -> None:
    cell, nucleus = shapely.Point(400, 400).buffer(10), shapely.Point(402, 401).buffer(4)
    without = {"type": "Polygon", "coordinates": "none"}
    drawn = {"nucleusGeometry": json.loads(shapely.to_geojson(nucleus)), "k": 1}
    nested = [drawn, {"k": 2}, {"nucleusGeometry": without}]
    shapes = gpd.GeoDataFrame({"properties": nested}, geometry=[cell] * 3)
    source, target = bent("a", 1), bent("b", 2)
    first, second, third = map_shapes(shapes, source, target)["properties"]
    found = shapely.get_coordinates(shapely.geometry.shape(first["nucleusGeometry"]))
    np.testing.assert_allclose(found, map_points(shapely.get_coordinates(nucleus), source, target))
    assert first["k"] == 1 and second == {"k": 2} and third == {}
    assert shapes["properties"][0] == nested[0], "what was given is not changed"
    near = move_shapes(shapes.iloc[:1], lambda xy: np.where(np.hypot(*(xy - 402).T)[:, None] < 7, np.nan, xy))
    (gone,) = near["properties"]
    assert gone == {"k": 1}, "it has no place"


def test_an_outline_that_folds_over_is_repaired() -> None:
    bow = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    moved = map_shapes(gpd.GeoDataFrame(geometry=[bow]), Transform.identity("a", SIZE), Transform.identity("a", SIZE))
    assert moved.geometry.iloc[0].is_valid and moved.attrs["repaired"] == 1


def test_ten_thousand_polygons_in_two_seconds() -> None:
    turns = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    circle = np.stack([np.cos(turns), np.sin(turns)], 1) * 9
    centres = np.random.default_rng(0).uniform(50, 700, (10_000, 1, 2))
    shapes = gpd.GeoDataFrame(geometry=list(shapely.polygons(centres + circle)))
    source, target = bent("a", 1), bent("b", 2)
    started = time.process_time()
    moved = map_shapes(shapes, source, target)
    assert time.process_time() - started < 2
    assert moved.geometry.is_valid.all()


def test_the_inverse_of_a_field_undoes_it_and_area_change_is_its_derivative() -> None:
    rows, columns = np.mgrid[:60, :80].astype(float)
    stretch = np.stack([0.1 * (columns - 40), -0.2 * (rows - 30)]).astype(np.float32)
    np.testing.assert_allclose(jacobian(stretch), 1.1 * 0.8, rtol=1e-5)
    inside = (slice(None), slice(15, 45), slice(15, 65))
    inverse = invert(stretch)
    np.testing.assert_allclose(inverse[inside][0], ((columns - 40) / 1.1 - (columns - 40))[inside[1:]], atol=2e-2)
    assert (jacobian(np.stack([-2.0 * columns, 0 * rows]).astype(np.float32)) < 0).all()


def test_a_field_is_continued_without_a_jump() -> None:
    field = np.full((2, 80, 80), 5.0, np.float32)
    known = np.zeros((80, 80), bool)
    known[20:60, 20:60] = True
    field[:, ~known] = 0
    np.testing.assert_allclose(extend(field, known), 5.0, rtol=1e-5)
