"""The law of macrophages: numbers per zone follow it, whatever is not asked for stays as it was."""

import csv
import json

import numpy as np
import pytest
import shapely

from stainda.config import PhantomConfig
from stainda.errors import StaindaError
from stainda.phantom import make_cohort
from stainda.phantom.cohort import _claim
from stainda.phantom.section import RenderedSection, plan_sections

LAW = {"inside": 300, "rings_um": [30, 80], "ring_rates": [900, 500], "beyond": 200}


def section(**law):
    config = PhantomConfig(patients=1, stains=("CD68",), size=4096, mpp=0.75, seed=3, macrophage_law={**LAW, **law})
    return RenderedSection(plan_sections(config)[0])


def counted(scene, cells, edges):
    """Cells and mm² per zone by buffers of the outlines, without the law's own code."""
    bodies = scene.anatomy.bodies
    outlines = {index: outline for index, outline in scene.outlines.items() if bodies.is_glomerulus[index]}
    union = shapely.union_all(list(outlines.values()))
    side = 1.15 * scene.anatomy.tissue.axes
    grid = np.random.default_rng(0).uniform(-1, 1, (200_000, 2)) * side
    cell = 4 * side.prod() / 1e6 / len(grid)
    grid = grid[scene.anatomy.tissue.depth(grid[:, 0], grid[:, 1]) > 3]
    zones = [union, *(union.buffer(edge, quad_segs=32) for edge in edges)]
    found = []
    for inner, outer in zip([shapely.Polygon(), *zones], zones, strict=False):
        ring = outer.difference(inner)
        shapely.prepare(ring)
        area = shapely.contains_xy(ring, grid[:, 0], grid[:, 1]).sum() * cell
        found.append((int(shapely.contains_xy(ring, cells[:, 0], cells[:, 1]).sum()), area))
    return found


def test_cells_follow_the_rates_of_the_zones():
    scene = section().scene
    cells = scene.anatomy.macrophages
    for (number, area), rate in zip(counted(scene, cells, (30, 80)), (300, 900, 500), strict=True):
        assert abs(number - rate * area) < 4 * np.sqrt(rate * area) + 0.02 * rate * area


def test_attracting_glomeruli_and_groups_multiply_what_is_near():
    plain, near = section(), section(attracting=1.0, attraction=2.0)
    for zone, factor in ((0, 2), (1, 2), (2, 2)):
        one, two = (counted(x.scene, x.scene.anatomy.macrophages, (30, 80))[zone] for x in (plain, near))
        assert two[0] / one[0] == pytest.approx(factor * two[1] / one[1], rel=0.25)
    values = {"patients": 4, "stains": ("CD68",), "centres": ("A", "B"), "size": 256, "groups": ("stable", "rejection")}
    law = {**LAW, "group_factors": {"rejection": 3.0}}
    plans = plan_sections(PhantomConfig(**values, macrophage_law=law))
    assert [plan.group for plan in plans] == ["stable", "stable", "rejection", "rejection"]
    assert plans[0].law.rates.tolist() == [300, 900, 500, 200]
    assert plans[2].law.rates.tolist() == [900, 2700, 1500, 200]


def test_what_is_written_is_what_was_drawn_and_the_law(tmp_path):
    config = PhantomConfig(
        patients=2, stains=("PAS", "CD68"), size=512, mpp=1.0, groups=("stable", "rejection"), centres=("A",),
        macrophage_law={**LAW, "attracting": 0.5},
    )  # fmt: skip
    manifest = make_cohort(config, tmp_path)
    rows = list(csv.DictReader(manifest.open()))
    assert [row["group"] for row in rows] == ["stable", "stable", "rejection", "rejection"]
    law = list(csv.DictReader((tmp_path / "law.csv").open()))
    assert [row["zone"] for row in law[:4]] == ["inside", "0-30", "30-80", "beyond"]
    factors = {row["id"]: row["attraction"] for row in csv.DictReader((tmp_path / "attraction.csv").open())}
    drawn = json.loads((tmp_path / "annotations" / f"{rows[1]['slide']}.geojson").read_text())["features"]
    assert {factors[one["id"]] for one in drawn} <= {"1.0", "2.0"} and len(factors) >= len(drawn) > 0
    points = json.loads((tmp_path / "macrophages" / f"{rows[1]['slide']}.geojson").read_text())["features"]
    with np.load(tmp_path / "truth" / f"{rows[1]['slide']}.npz") as truth:
        assert len(points) == len(truth["macrophages"]) > 20
        assert np.unique(truth["macrophages"][:, 2]).tolist() == [float(truth["z"])]


def test_a_cohort_without_a_law_is_claimed_as_before(tmp_path):
    config = PhantomConfig(patients=1, size=256)
    _claim(config, tmp_path)
    assert not {"groups", "macrophage_law"} & set(json.loads((tmp_path / "phantom.json").read_text()))
    _claim(config, tmp_path)
    with pytest.raises(StaindaError):
        _claim(PhantomConfig(patients=1, size=256, macrophage_law=LAW), tmp_path)


@pytest.mark.parametrize(
    "wrong", [{"macrophage_law": {"rings_um": [50, 25], "ring_rates": [1, 1]}},
              {"macrophage_law": {"rings_um": [25]}}, {"macrophage_law": {"group_factors": {"x": 2}}}]
)  # fmt: skip
def test_a_law_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=r"rings_um|group_factors"):
        PhantomConfig(**wrong)
