"""Fusing polygons of several annotators: analytic areas, SimpleITK, and nothing lost."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from stainda.annotations import Rules, fuse_annotators, make_shapes, with_ignored
from stainda.errors import AnnotationError

METHODS = ("majority", "staple", "weighted")


def shapes(*geometries, cls="glomerulus"):
    return make_shapes(geometries, cls)


def disc(x, y, radius=50):
    return shapely.Point(x, y).buffer(radius, quad_segs=16)


def parts(table):
    """Every input id that a table of fused shapes or of dissent stands for."""
    return [one for row in table["properties"] for one in row["metadata"]["fused_from"].split("; ")]


def test_majority_of_three_shifted_boxes():
    drawn = {name: shapes(shapely.box(x, 0, x + 100, 100)) for name, x in (("a", 0), ("b", 20), ("c", 40))}
    fusion = fuse_annotators(drawn)
    assert fusion.shapes.geometry[0].equals(shapely.box(20, 0, 120, 100))
    assert fusion.shapes["confidence"][0] == pytest.approx((40 * 2 / 3 + 60) / 100)
    assert fusion.shapes["properties"][0]["measurements"] == {"support": 3, "annotators": 3}
    assert len(fusion.dissent) == 0
    table = {row["annotator"]: row for row in fusion.annotators}
    assert table["b"]["sensitivity"] == 1 and table["b"]["specificity"] == 1
    assert table["a"]["sensitivity"] == pytest.approx(0.8) and table["a"]["precision"] == pytest.approx(0.8)
    # the field is 140 by 100 widened by half on each side, and 40 by 100 of it is wrongly drawn by nobody but a and c
    assert table["a"]["specificity"] == pytest.approx(1 - 2000 / (280 * 200 - 10_000), abs=1e-4)
    pair = {(row["first"], row["second"]): row for row in fusion.agreement}
    assert pair["a", "c"]["dice"] == pytest.approx(0.6) and pair["a", "b"]["object_f1"] == 1
    assert pair["a", "c"]["object_f1"] == 0, "IoU 60 / 140 is no hit"
    assert 0.5 < pair["all", "all"]["fleiss_kappa"] < 1


def test_a_tie_is_not_enough_and_is_kept_as_dissent():
    fusion = fuse_annotators({"a": shapes(disc(100, 100), disc(400, 100)), "b": shapes(disc(110, 100))})
    assert fusion.shapes.geometry[0].area == pytest.approx(disc(100, 100).intersection(disc(110, 100)).area, rel=0.01)
    [lonely] = fusion.dissent.to_dict("records")
    assert lonely["geometry"].equals(disc(400, 100)), "one annotator's outline is kept as it was drawn"
    assert lonely["confidence"] == pytest.approx(0.5)
    assert lonely["properties"]["metadata"]["drawn_by"] == "a"
    assert "drawn by 1 of 2" in lonely["properties"]["metadata"]["dissent"]


@pytest.mark.parametrize("method", METHODS)
def test_holes_stay_and_an_empty_annotator_is_heard(method):
    ring = shapely.Polygon(shapely.box(0, 0, 100, 100).exterior, [shapely.box(40, 40, 60, 60).exterior])
    drawn = {"a": shapes(ring), "b": shapes(ring), "c": shapes()}
    fusion = fuse_annotators(drawn, Rules(method))
    assert fusion.shapes.geometry[0].equals(ring)
    table = {row["annotator"]: row for row in fusion.annotators}
    assert table["c"]["sensitivity"] == pytest.approx(0, abs=1e-6)
    assert table["c"]["specificity"] == pytest.approx(1, abs=1e-6)
    assert table["c"]["object_recall"] == 0 and table["c"]["object_precision"] is None


def test_one_who_circles_everything_joins_nothing():
    objects = [disc(100, 100), disc(300, 100), disc(500, 120, 40)]
    drawn = {"a": shapes(*objects), "b": shapes(*objects), "c": shapes(shapely.box(0, 0, 700, 300))}
    for method in METHODS:
        fusion = fuse_annotators(drawn, Rules(method))
        assert sorted(fusion.shapes.area) == pytest.approx(sorted(object_.area for object_ in objects), rel=0.01)
        assert {row["metadata"]["drawn_by"] for row in fusion.shapes["properties"]} == {"a; b; c"}
        assert fusion.dissent.geometry[0].equals(shapely.box(0, 0, 700, 300))


def test_touching_objects_stay_apart():
    left, right = shapely.box(0, 0, 100, 100), shapely.box(100, 0, 190, 100)
    both = shapely.box(0, 0, 190, 100)
    fusion = fuse_annotators({"a": shapes(left, right), "b": shapes(left, right), "c": shapes(both)})
    assert sorted(fusion.shapes.area) == [9000, 10000]
    given = [*shapes(left, right)["id"], *shapes(left, right)["id"], *shapes(both)["id"]]
    assert sorted(parts(fusion.shapes) + parts(fusion.dissent)) == sorted(given)


def test_rims_that_overlap_by_accident_make_no_object():
    # a's and b's different objects share a sliver: two votes, but nobody's object
    fusion = fuse_annotators({"a": shapes(disc(100, 100)), "b": shapes(disc(185, 100)), "c": shapes()})
    assert len(fusion.shapes) == 0
    assert len(fusion.dissent) == 2


def test_a_reliable_minority_may_win_under_staple_and_weighted_votes():
    common = [disc(x, y) for x in (100, 300, 500, 700) for y in (100, 300, 500)]
    extra = disc(900, 300)
    noise = [[disc(150 + 200 * i, 800 + 250 * j, 45) for i in range(4)] for j in range(2)]
    drawn = {
        "good": shapes(*common, extra),
        "poor": shapes(*common[:5], *noise[0]),
        "other": shapes(*common[4:9], *noise[1]),
    }
    found = {method: fuse_annotators(drawn, Rules(method)) for method in METHODS}
    assert len(found["majority"].shapes) == 9, "the first nine were drawn by two or three"
    assert len(found["staple"].shapes) > len(found["majority"].shapes)
    told = Rules("weighted", {"good": 0.95, "poor": 0.4, "other": 0.4})
    assert len(fuse_annotators(drawn, told).shapes) == len(common) + 1, "0.95 outweighs 0.8"
    for fusion in found.values():
        ids = sorted(one for table in drawn.values() for one in table["id"])
        assert sorted(parts(fusion.shapes) + parts(fusion.dissent)) == ids


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_lost(method):
    """Every outline that anyone drew is part of exactly one fused shape or one object of the dissent."""
    rng = np.random.default_rng(7)
    centres = rng.uniform(0, 1500, (40, 2))
    drawn = {}
    for name in "abcd":
        seen = centres[rng.random(40) < 0.75] + rng.normal(0, 6, (1, 2))
        false = rng.uniform(0, 1500, (5, 2))
        drawn[name] = shapes(*(disc(x, y, rng.uniform(30, 45)) for x, y in np.concatenate([seen, false])))
    fusion = fuse_annotators(drawn, Rules(method), size=(1600, 1600))
    given = sorted(one for table in drawn.values() for one in table["id"])
    assert sorted(parts(fusion.shapes) + parts(fusion.dissent)) == given
    assert fusion.shapes.geometry.is_valid.all() and fusion.dissent.geometry.is_valid.all()
    assert fusion.shapes["confidence"].between(0.5, 1).all() and (fusion.dissent["confidence"] <= 1).all()
    assert len(set(fusion.shapes["id"]) | set(fusion.dissent["id"])) == len(fusion.shapes) + len(fusion.dissent)


def test_staple_of_polygons_is_what_simpleitk_finds_on_their_pixels():
    sitk = pytest.importorskip("SimpleITK")
    rng = np.random.default_rng(11)
    n, cell = 24, 10
    truth = rng.random((n, n)) < 0.4
    truth[0, 0] = truth[-1, -1] = True  # so that the extent is known
    drawn, pixels = {}, []
    for name, p, q in (("a", 0.9, 0.95), ("b", 0.8, 0.9), ("c", 0.7, 0.97)):
        mask = np.where(truth, rng.random((n, n)) < p, rng.random((n, n)) > q)
        mask[0, 0] = mask[-1, -1] = True
        rows, columns = np.nonzero(mask)
        cells = shapely.box(columns * cell, rows * cell, (columns + 1) * cell, (rows + 1) * cell)
        drawn[name] = shapes(*shapely.get_parts(shapely.union_all(cells)))
        pixels.append(np.pad(mask, n // 2).astype(np.uint8))
    # one outline around all makes it one cluster, whose field is its box widened by half on each side: the padded image
    frame = shapely.box(0, 0, n * cell, n * cell)
    drawn["all"] = shapes(frame)
    pixels.append(np.pad(np.ones((n, n)), n // 2).astype(np.uint8))
    fusion = fuse_annotators(drawn, Rules("staple"))
    image_filter = sitk.STAPLEImageFilter()
    image_filter.SetForegroundValue(1.0)
    image_filter.SetMaximumIterations(5000)
    probability = sitk.GetArrayFromImage(
        image_filter.Execute([sitk.GetImageFromArray(pixel_array) for pixel_array in pixels])
    )
    rows = fusion.annotators
    assert [row["sensitivity"] for row in rows] == pytest.approx(image_filter.GetSensitivity(), abs=5e-4)
    assert [row["specificity"] for row in rows] == pytest.approx(image_filter.GetSpecificity(), abs=5e-4)
    won = fusion.shapes.area.sum() / cell**2
    crumbs = (probability > 0.5).sum() - won  # pieces below a quarter of every outline they belong to are no objects
    assert 0 <= crumbs <= 0.05 * won


def test_classes_are_fused_apart_and_another_class_is_told():
    cortex = shapely.box(0, 0, 600, 300)
    drawn = {
        name: make_shapes([cortex, disc(100, 100), disc(300, 100)], ["cortex", "glomerulus", third])
        for name, third in (("a", "glomerulus"), ("b", "glomerulus"), ("c", "sclerotic"))
    }
    fusion = fuse_annotators(drawn)
    assert sorted(fusion.shapes["class"]) == ["cortex", "glomerulus", "glomerulus"]
    [other] = fusion.dissent.to_dict("records")
    assert other["class"] == "sclerotic"
    assert "the others call it 'glomerulus'" in other["properties"]["metadata"]["dissent"]


def test_who_ignores_a_place_has_no_vote_there():
    drawn = {
        "a": shapes(disc(100, 100), disc(400, 100)),
        "b": shapes(disc(100, 100)),
        "c": make_shapes([shapely.box(0, 0, 200, 200)], "Ignore"),
        "d": shapes(),
    }
    fusion = fuse_annotators(drawn)
    assert fusion.shapes["class"].tolist() == ["glomerulus"], "two of the three who looked"
    assert fusion.shapes["confidence"][0] == pytest.approx(2 / 3)
    row = next(row for row in fusion.annotators if row["annotator"] == "c" and row["class"] == "glomerulus")
    assert row["sensitivity"] is None, "nothing was to be found where c looked"
    most = {"a": drawn["a"], "b": drawn["c"], "c": drawn["c"]}
    assert "Ignore*" in set(fuse_annotators(most).shapes["class"]), "what most ignore is ignored"


def test_a_tie_teaches_neither_object_nor_background():
    whole = shapely.box(0, 0, 300, 200)
    fusion = fuse_annotators({"a": shapes(disc(100, 100), disc(400, 100)), "b": shapes(disc(100, 100), whole)})
    table = with_ignored(fusion, 0.5)
    ignored = table[table["class"] == "Ignore*"]
    assert len(ignored) == 2
    expected = disc(400, 100).area + 300 * 200 - disc(100, 100).area
    assert ignored.area.sum() == pytest.approx(expected, rel=1e-3), "what was fused stays what it is"
    assert len(with_ignored(fusion, 0.6)) == 1


def test_points_need_a_radius_and_what_takes_no_part_is_told():
    drawn = {"a": shapes(shapely.Point(10, 10), disc(300, 300)), "b": shapes(shapely.Point(14, 10), disc(300, 300))}
    fusion = fuse_annotators(drawn)
    assert len(fusion.shapes) == 1
    assert [(note["annotator"], note["shapes"]) for note in fusion.notes] == [("a", 1), ("b", 1)]
    assert len(fuse_annotators(drawn, Rules(point_radius=8)).shapes) == 2


def test_broken_outlines_are_mended_first():
    bow_tie = shapely.Polygon([(0, 0), (100, 100), (100, 0), (0, 100)])
    fusion = fuse_annotators({"a": shapes(bow_tie), "b": shapes(bow_tie)})
    assert fusion.shapes.area.sum() == pytest.approx(5000)


@pytest.mark.parametrize(
    ("drawn", "rules", "reason"),
    [
        ({"a": shapes(disc(9, 9))}, Rules(), "at least two"),
        ({"a": shapes(), "b": shapes()}, Rules(), "none of the 2 annotators drew"),
        ({"a": shapes(shapely.Point(1, 1)), "b": shapes()}, Rules(), "--radius"),
        ({"a": shapes(disc(9, 9)), "b": shapes()}, Rules("stable"), "Did you mean 'staple'"),
        ({"a": shapes(disc(9, 9)), "b": shapes()}, Rules("weighted", {"a": 1}), "'b' has no reliability"),
        ({"a": shapes(disc(9, 9)), "b": shapes()}, Rules("weighted", {"a": 1, "b": 7}), "not within 0 to 1"),
    ],
)
def test_wrong_use_is_told(drawn, rules, reason):
    with pytest.raises(AnnotationError, match=reason):
        fuse_annotators(drawn, rules)


def test_memory_and_time_do_not_grow_with_the_slide():
    """100,000 px wide, 300 objects of three annotators; a raster of it would be 10 gigapixels."""
    import time

    rng = np.random.default_rng(1)
    centres = rng.uniform(500, 99_500, (300, 2))
    region = shapely.box(0, 0, 100_000, 100_000)
    drawn = {
        name: make_shapes(
            [*(disc(x, y, 120) for x, y in centres + rng.normal(0, 8, (300, 2))), region],
            ["glomerulus"] * 300 + ["cortex"],
        )
        for name in "abc"
    }
    started = time.process_time()
    fusion = fuse_annotators(drawn, Rules("staple"), size=(100_000, 100_000))
    assert time.process_time() - started < 20
    assert 295 <= (fusion.shapes["class"] == "glomerulus").sum() <= 300
    assert fusion.shapes.loc[fusion.shapes["class"] == "cortex"].area.tolist() == [1e10]
