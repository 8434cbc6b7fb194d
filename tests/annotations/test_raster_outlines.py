"""Shapes to pixels and back: exact, checked against a second implementation."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import shapely

from stainda.annotations import PixelGrid, instances, make_shapes, outlines, rasterise


def random_polygon(rng: np.random.Generator, size: float) -> shapely.Geometry:
    """A star-shaped polygon with a hole and, sometimes, a second part."""

    def star(centre, radius):
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(5, 40)))
        radii = radius * rng.uniform(0.4, 1, len(angles))
        return shapely.Polygon(centre + np.stack([np.cos(angles), np.sin(angles)], 1) * radii[:, None]).buffer(0)

    centre = rng.uniform(0.2 * size, 0.8 * size, 2)
    polygon = star(centre, 0.4 * size).difference(star(centre, 0.15 * size))
    return polygon.union(star(rng.uniform(0, size, 2), 0.15 * size)) if rng.random() < 0.5 else polygon


@pytest.mark.parametrize("seed", range(12))
def test_a_pixel_is_painted_exactly_where_its_centre_lies_inside(seed):
    rng = np.random.default_rng(seed)
    polygon = random_polygon(rng, 200)
    x, y, downsample = rng.uniform(-30, 30), rng.uniform(-30, 30), rng.choice([0.5, 1.0, 2.7, 8.0])
    width, height = 90, 70
    labels = rasterise(make_shapes([polygon], "a"), ["a"], PixelGrid(x, y, width, height, downsample))
    columns, rows = np.meshgrid(x + (np.arange(width) + 0.5) * downsample, y + (np.arange(height) + 0.5) * downsample)
    expected = shapely.contains_xy(polygon, columns, rows)
    assert labels.dtype == np.uint8
    assert (labels == expected).all()


def test_neighbours_neither_overlap_nor_leave_a_gap():
    """Edges run through pixel centres here, the hardest case."""
    xs = np.arange(0, 21, 2.5)
    boxes = [shapely.box(a, c, b, d) for a, b in pairwise(xs) for c, d in pairwise(xs)]
    count = sum(rasterise(make_shapes([box], "a"), ["a"], PixelGrid(0, 0, 20, 20, 1)).astype(int) for box in boxes)
    assert (count == 1).all()


def test_later_classes_win_and_ignored_areas_win_over_all():
    shapes = make_shapes(
        [shapely.box(4, 0, 8, 4), shapely.box(0, 0, 6, 4), shapely.box(0, 0, 9, 9)], ["b", "a", "other"]
    )
    ignore = make_shapes([shapely.box(5, 0, 7, 1)], "whatever")
    labels = rasterise(shapes, ["a", "b"], PixelGrid(0, 0, 10, 4, 1), ignore=ignore)
    assert labels[2].tolist() == [1, 1, 1, 1, 2, 2, 2, 2, 0, 0]
    assert labels[0].tolist() == [1, 1, 1, 1, 2, 255, 255, 2, 0, 0]


def test_points_lines_and_empty_shapes_leave_no_mark():
    geometries = [shapely.Point(2, 2), shapely.LineString([(0, 0), (5, 5)]), shapely.Polygon(), None]
    assert not rasterise(make_shapes(geometries, "a"), ["a"], PixelGrid(0, 0, 8, 8, 1)).any()
    assert not rasterise(make_shapes([], "a"), ["a"], PixelGrid(0, 0, 8, 8, 1)).any()


def test_too_many_classes_are_refused():
    with pytest.raises(ValueError, match="8 bits"):
        rasterise(make_shapes([], "a"), [str(i) for i in range(255)], PixelGrid(0, 0, 4, 4, 1))


def painted(shapes, values, x, y, shape, downsample):
    shapes["class"] = [str(p["label"]) for p in shapes.properties]
    labels = rasterise(shapes, [str(v) for v in values], PixelGrid(x, y, shape[1], shape[0], downsample))
    return np.array([0, *values])[labels]


@pytest.mark.parametrize("seed", range(40))
def test_painting_outlines_gives_the_labels_again(seed):
    """Random labels have every corner contact, hole in hole and single pixel there is."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, rng.integers(1, 16, 2)) * (rng.random() < 0.95) * 3
    shapes = outlines(labels, 30.5, -7, 2.5)
    assert shapes.geometry.is_valid.all()
    assert [p["label"] for p in shapes.properties] == [v for v in np.unique(labels).tolist() if v]
    assert (painted(shapes, [3, 6, 9], 30.5, -7, labels.shape, 2.5) == labels).all()
    assert shapes.area.sum() == pytest.approx((labels > 0).sum() * 2.5**2)


def test_outlines_of_a_ring_have_a_hole_and_no_needless_corner():
    labels = np.ones((6, 8), int)
    labels[2:4, 3:5] = 0
    (polygon,) = outlines(labels, 100, 200, 4).geometry
    assert polygon.equals(shapely.box(100, 200, 132, 224).difference(shapely.box(112, 208, 120, 216)))
    assert len(polygon.exterior.coords) == 5
    assert [len(ring.coords) for ring in polygon.interiors] == [5]


def test_scores_and_class_go_with_their_label():
    labels = np.array([[5, 0, 2]])
    shapes = outlines(labels, scores={2: 0.25, 5: 0.75}, cls="glomerulus")
    assert shapes.score.tolist() == [0.25, 0.75]
    assert set(shapes["class"]) == {"glomerulus"}
    assert outlines(labels, scores=[0, 0.1, 0, 0, 0.4]).score.tolist() == [0.1, 0.4]
    assert len(outlines(np.zeros((4, 4), int))) == 0


def disc(shape, x, y, radius):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return (columns - x) ** 2 + (rows - y) ** 2 < radius**2


def test_instances_are_separate_and_large_enough():
    mask = disc((60, 90), 20, 20, 10) | disc((60, 90), 60, 40, 12)
    mask[0, 89] = mask[59, 0] = mask[58, 1] = True
    labels = instances(mask, min_px=5)
    assert labels.max() == 2
    assert (labels > 0).sum() == mask.sum() - 3
    assert instances(mask).max() == 5
    assert instances(np.zeros((5, 5), bool)).max() == 0


@pytest.mark.parametrize(("distance", "expected"), [(44, 2), (50, 2), (10, 1)])
def test_touching_discs_are_parted_and_one_disc_is_not(distance, expected):
    mask = disc((80, 160), 50, 40, 26) | disc((80, 160), 50 + distance, 40, 26)
    labels = instances(mask, split_touching=True)
    assert labels.max() == expected
    assert ((labels > 0) == mask).all()
    if expected == 2:
        sizes = np.bincount(labels.ravel())[1:]
        assert sizes.min() / sizes.max() > 0.9


def test_elongated_and_rough_objects_stay_whole():
    rows, columns = np.mgrid[:80, :200]
    ellipse = ((columns - 100) / 80) ** 2 + ((rows - 40) / 25) ** 2 < 1
    assert instances(ellipse, split_touching=True).max() == 1
    rng = np.random.default_rng(0)
    angle = np.arctan2(rows - 40, columns - 100)
    rough = np.hypot(rows - 40, columns - 100) < 30 + 2 * np.sin(9 * angle) + rng.normal(0, 0.3, rows.shape)
    assert instances(rough, min_px=20, split_touching=True).max() == 1
