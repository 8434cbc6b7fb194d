"""Outlines of tubules, vessels and sclerotic glomeruli, against the pixels that were drawn."""

import json
from collections import Counter

import numpy as np
import pytest
import shapely

from stainda.config import PhantomConfig
from stainda.phantom import make_cohort
from stainda.phantom.grids import NODE, TileGrid
from stainda.phantom.section import RenderedSection, plan_sections
from stainda.phantom.structures import POSITIVE, TUBULE, VESSEL, StructureMap
from stainda.phantom.truth import glomerulus_features, structure_features
from stainda.stains.table import STRUCTURES

CONFIG = PhantomConfig(
    patients=1, stains=("PAS",), centres=("A",), size=768, mpp=1.0, seed=5, groups=("chronic",),
    sclerotic_shares={"chronic": 0.5}, annotated=("sclerosis", "tubules", "vessels"),
)  # fmt: skip


@pytest.fixture(scope="module")
def section():
    rendered = RenderedSection(plan_sections(CONFIG)[0])
    list(rendered.bands())
    return rendered


def _outlines(features, *names):
    rings = [
        feature["geometry"]["coordinates"][0]
        for feature in features
        if feature["properties"]["classification"]["name"] in names
    ]
    return [shapely.Polygon(ring) for ring in rings]


def test_outlines_enclose_what_was_drawn_of_a_tubule(section):
    tubules = _outlines(structure_features(section), "tubule")
    step = section.structures.step
    assert len(tubules) > 100 and all(shape.is_valid for shape in tubules)
    drawn = int((section.structures.kinds == TUBULE).sum()) * step**2
    assert sum(shape.area for shape in tubules) == pytest.approx(drawn, rel=0.03)
    middles = shapely.get_coordinates([shape.representative_point() for shape in tubules]).astype(int)
    assert (section.structures.kinds[middles[:, 1] // step, middles[:, 0] // step] == TUBULE).mean() > 0.98


def test_tubules_do_not_lie_in_glomeruli_or_vessels(section):
    glomeruli = shapely.union_all(_outlines(glomerulus_features(section), "glomerulus", "sclerotic glomerulus"))
    tubules = shapely.union_all(_outlines(structure_features(section), "tubule"))
    vessels = shapely.union_all(_outlines(structure_features(section), "vessel"))
    assert glomeruli.area > 0 and vessels.area > 0
    assert tubules.intersection(glomeruli).area < 0.02 * glomeruli.area
    assert tubules.intersection(vessels).area < 0.02 * vessels.area


def test_macrophages_are_annotated_as_points_where_that_is_wanted(tmp_path):
    settings = {"patients": 1, "stains": ("CD68",), "centres": ("A",), "size": 512, "mpp": 1.0, "seed": 5}
    for annotated in ((), ("macrophages",)):
        make_cohort(PhantomConfig(**settings, annotated=annotated), tmp_path / str(len(annotated)))
    plain, points = (
        json.loads(next((tmp_path / name / "annotations").glob("*.geojson")).read_text())["features"] for name in "01"
    )
    cells = json.loads(next((tmp_path / "1" / "macrophages").glob("*.geojson")).read_text())["features"]
    assert len(cells) > 10 and points == plain + cells
    assert {cell["geometry"]["type"] for cell in cells} == {"Point"}
    with pytest.raises(ValueError, match="annotators draw outlines, and macrophages are points"):
        PhantomConfig(**settings, annotated=("macrophages",), annotators={"a": {}, "b": {}})


def test_the_map_agrees_with_the_labels_of_a_tile(section):
    margin = section.scene.margin // NODE * NODE
    side = 256 + 2 * margin
    tile = section.scene.tile(TileGrid(256 - margin, 256 - margin, side, side, section.scene.step))
    inside = np.s_[margin : margin + 256, margin : margin + 256]
    labels, kinds = tile.labels[inside], tile.kinds[inside]
    of_tubules = np.isin(labels, [STRUCTURES.index(name) for name in ("proximal", "distal", "collecting_duct")])
    assert of_tubules.any() and (kinds[of_tubules] == TUBULE).mean() > 0.97
    muscle = labels == STRUCTURES.index("muscle")
    assert not muscle.any() or (kinds[muscle] == VESSEL).mean() > 0.97


def test_regions_in_any_order_make_one_map():
    kinds = np.random.default_rng(0).integers(0, 3, (60, 60)).astype(np.uint8)
    whole = StructureMap.of(60, 0.4)
    assert whole.step == 2
    for y in (45, 0, 15, 30):
        for x in (0, 45, 30, 15):
            whole.put(x, y, kinds[y : y + 15, x : x + 15])
    np.testing.assert_array_equal(whole.kinds, kinds[::2, ::2])


@pytest.mark.parametrize("mpp", [0.25, 0.5, 1.0])
def test_outlines_lie_where_a_structure_was_drawn(mpp):
    """A disc about a point of a slide: whatever the step, the centroid of its outline is that point."""
    down, right = np.indices((400, 400)) + 0.5
    disc = np.where(np.hypot(right - 210, down - 180) < 100, TUBULE, 0).astype(np.uint8)
    drawn = StructureMap.of(400, mpp)
    for top in range(0, 400, 100):
        drawn.put(0, top, disc[top : top + 100])
    (outline,) = drawn.outlines(TUBULE)
    assert (outline.centroid.x, outline.centroid.y) == pytest.approx((210, 180), abs=0.3)
    assert outline.area == pytest.approx(np.pi * 100**2, rel=0.01)


@pytest.mark.parametrize(
    ("changes", "named"),
    [({}, False), ({"mpp": 0.5}, True), ({"mpp": 0.5, "annotated": ("sclerosis",)}, False)],
)
def test_only_cohorts_whose_outlines_changed_have_another_mark(changes, named, tmp_path):
    from stainda.phantom.cohort import _claim

    _claim(CONFIG.model_copy(update=changes), tmp_path)
    assert ("structures" in json.loads((tmp_path / "phantom.json").read_text())) == named


def test_sclerotic_glomeruli_are_a_class_where_asked(section, tmp_path):
    names = Counter(feature["properties"]["classification"]["name"] for feature in glomerulus_features(section))
    marked = Counter(feature["properties"]["measurements"]["sclerotic"] for feature in glomerulus_features(section))
    assert names == {"glomerulus": marked[0], "sclerotic glomerulus": marked[1]} and marked[1] > 0
    make_cohort(CONFIG.model_copy(update={"annotated": (), "size": 256}), tmp_path)
    features = json.loads(next((tmp_path / "annotations").glob("*.geojson")).read_text())["features"]
    assert {feature["properties"]["classification"]["name"] for feature in features} <= {"glomerulus"}
    assert "annotated" not in json.loads((tmp_path / "phantom.json").read_text()), "as cohorts of earlier versions"


def test_what_is_annotated_does_not_change_the_picture(section):
    plain = RenderedSection(plan_sections(CONFIG.model_copy(update={"annotated": ()}))[0])
    np.testing.assert_array_equal(plain.region(128, 128, 128, 128), section.region(128, 128, 128, 128))


def _positive_section(share, stain="PDL1"):
    config = CONFIG.model_copy(
        update={"stains": (stain,), "positive_tubules": (share, share), "annotated": ("tubules",)}
    )
    rendered = RenderedSection(plan_sections(config)[0])
    list(rendered.bands())
    return rendered


def test_the_share_of_positive_tubules_is_the_one_that_was_given():
    section = _positive_section(0.3)
    names = Counter(one["properties"]["classification"]["name"] for one in structure_features(section))
    assert set(names) == {"negative tubule", "positive tubule"}
    share = names["positive tubule"] / sum(names.values())
    assert share == pytest.approx(0.3, abs=3 * np.sqrt(0.21 / sum(names.values())))
    kinds = section.structures.kinds
    assert (kinds == POSITIVE).sum() / np.isin(kinds, (TUBULE, POSITIVE)).sum() == pytest.approx(share, abs=0.1)


def test_membranes_are_brown_where_a_tubule_is_positive_and_only_in_that_stain():
    positive = _positive_section(1.0)
    none = _positive_section(0.0)
    region = (256, 256, 256, 256)
    darker = none.region(*region).astype(int).sum(2) - positive.region(*region).astype(int).sum(2)
    assert (darker > 100).mean() > 0.1
    assert _positive_section(1.0, "PAS").plan.positive is None
    names = {one["properties"]["classification"]["name"] for one in structure_features(_positive_section(1.0, "PAS"))}
    assert names == {"tubule"}
