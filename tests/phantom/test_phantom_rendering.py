"""What is drawn is what the truth says, whichever tiles it is drawn in."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from scipy import ndimage
from skimage.draw import polygon2mask

from stainda.config import PhantomConfig
from stainda.errors import ConfigError
from stainda.phantom.grids import TileGrid, upsample
from stainda.phantom.scene import CODE
from stainda.phantom.section import RenderedSection, plan_sections
from stainda.phantom.shapes import Surface, Tubes
from stainda.stains.table import STAINS

SIZE = 768
CONFIG = PhantomConfig(patients=2, stains=tuple(STAINS), centres=("A", "B"), size=SIZE, mpp=1.0, seed=7)
IN_GLOMERULUS = [
    CODE[name]
    for name in ("bowman_membrane", "bowman_space", "podocyte", "mesangium", "tuft_wall", "tuft_lumen", "sclerosis",
                 "nucleus_tuft")
]  # fmt: skip


@lru_cache(maxsize=8)
def section(number: int = 0) -> RenderedSection:
    return RenderedSection(plan_sections(CONFIG)[number])


@lru_cache(maxsize=8)
def image(number: int = 0) -> np.ndarray:
    return np.concatenate(list(section(number).bands()))


def test_any_region_is_the_same_as_in_the_whole() -> None:
    for x, y, width, height in ((0, 0, 200, 130), (301, 267, 256, 256), (500, 490, 268, 278)):
        np.testing.assert_array_equal(section().region(x, y, width, height), image()[y : y + height, x : x + width])


def test_the_same_seed_gives_the_same_section_and_another_seed_another() -> None:
    again = RenderedSection(plan_sections(CONFIG)[0]).region(300, 300, 96, 96)
    np.testing.assert_array_equal(again, image()[300:396, 300:396])
    other = RenderedSection(plan_sections(CONFIG.model_copy(update={"seed": 8}))[0]).region(300, 300, 96, 96)
    assert np.abs(other.astype(int) - again).mean() > 5


def outline_mask(one: RenderedSection) -> np.ndarray:
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    for index, outline in one.scene.outlines.items():
        if one.anatomy.bodies.is_glomerulus[index]:
            ring = one.map.from_frame(np.asarray(outline.exterior.coords))
            mask |= polygon2mask((SIZE, SIZE), ring[:, ::-1] - 0.5)
    return mask


def test_outlines_lie_on_what_is_drawn() -> None:
    one = section()
    grid = TileGrid(0, 0, SIZE, SIZE, one.scene.step)
    drawn = np.isin(one.scene.tile(grid).labels, IN_GLOMERULUS)
    drawn = ndimage.binary_fill_holes(ndimage.binary_opening(drawn, iterations=2))
    truth = outline_mask(one)
    overlap = 2 * (drawn & truth).sum() / (drawn.sum() + truth.sum())
    assert overlap > 0.97
    assert truth.mean() > 0.03


@pytest.mark.parametrize("number", range(len(STAINS)), ids=list(STAINS))
def test_bowmans_space_is_a_bright_rim_within_the_outline_in_every_stain(number: int) -> None:
    one, light = section(number), image(number).mean(axis=2)
    brighter = []
    for index, outline in one.scene.outlines.items():
        if one.scene.body_kind(index) != "glomerulus":
            continue
        ring = one.map.from_frame(np.asarray(outline.exterior.coords))
        inside = polygon2mask((SIZE, SIZE), ring[:, ::-1] - 0.5)
        within = ndimage.binary_erosion(inside, iterations=3) & ~ndimage.binary_erosion(inside, iterations=7)
        beside = ndimage.binary_dilation(inside, iterations=7) & ~ndimage.binary_dilation(inside, iterations=2)
        brighter.append(light[within].mean() - light[beside].mean())
    assert np.median(brighter) > 8


def test_consecutive_sections_show_the_same_tissue_where_the_maps_say() -> None:
    """Bright lumens of one section, propagated by the true maps, lie on those of the next, not a few pixels away."""
    first, second = section(0), section(1)
    light = [ndimage.gaussian_filter(image(number).mean(axis=2), 1.5) for number in (0, 1)]
    rows, columns = np.mgrid[200:568:2, 200:568:2]
    points = np.column_stack([columns.ravel(), rows.ravel()]) + 0.5
    carried = second.map.from_frame(first.map.to_frame(points))

    def agreement(shift: float) -> float:
        there = ndimage.map_coordinates(light[1], (carried[:, ::-1] - 0.5 + shift).T, order=1)
        return float(np.corrcoef(light[0][rows.ravel(), columns.ravel()], there)[0, 1])

    assert agreement(0.0) > 0.5
    assert agreement(0.0) > max(agreement(3.0), agreement(-3.0)) + 0.05


def test_a_glomerulus_changes_from_section_to_section_and_may_be_absent() -> None:
    config = CONFIG.model_copy(update={"gap_sections": 9})  # 30 micrometres apart
    sections = [RenderedSection(plan) for plan in plan_sections(config)[: len(STAINS)]]
    bodies = sections[0].anatomy.bodies
    seen = [{i for i in section.scene.outlines if bodies.is_glomerulus[i]} for section in sections]
    kept = set.intersection(seen[0], seen[1])
    assert kept, "some glomeruli span two sections"
    assert set.union(*seen) - set.intersection(*seen), "and some are absent from one of them"
    areas = [(sections[0].scene.outlines[i].area, sections[1].scene.outlines[i].area) for i in kept]
    assert all(a != b for a, b in areas)
    across = [
        2 * np.sqrt(one.scene.outlines[i].area / np.pi)
        for one, found in zip(sections, seen, strict=True)
        for i in found
    ]
    assert min(across) > 25
    assert 120 < max(across) < 290


def test_structures_of_cortex_are_all_there() -> None:
    labels = np.concatenate(
        [
            RenderedSection(plan).scene.tile(TileGrid(0, 0, SIZE, SIZE, 1)).labels.ravel()
            for plan in plan_sections(CONFIG.model_copy(update={"stains": ("PAS",)}))
        ]
    )
    share = np.bincount(labels, minlength=len(CODE)) / np.count_nonzero(labels != CODE["glass"])
    for name in (
                 "proximal", "brush_border", "distal", "lumen", "tubule_membrane", "interstitium", "capillary_wall",
                 "muscle", "endothelium", "fibrosis", "bowman_space", "podocyte", "nucleus_tubule", "macrophage",
    ):  # fmt: skip
        assert share[CODE[name]] > 1e-4, name
    assert 0.1 < share[CODE["proximal"]] < 0.5
    assert share[CODE["lumen"]] > 0.04


def test_a_body_looks_like_a_glomerulus_in_some_stains_only() -> None:
    """A scar is as red as a sclerotic glomerulus in Sirius red, and as pale as tubules in CD68."""
    contrast = {}
    for name, entry in STAINS.items():
        colour = {
            s: 10 ** -(np.array(entry.affinity[s]) @ entry.vectors) for s in ("fibrosis", "sclerosis", "proximal")
        }
        contrast[name] = (
            np.abs(colour["fibrosis"] - colour["sclerosis"]).max(),
            np.abs(colour["fibrosis"] - colour["proximal"]).max(),
        )  # fmt: skip
    assert contrast["SR"][0] < 0.12 and contrast["SR"][1] > 0.3
    assert contrast["CD68"][1] < 0.2


def test_centres_differ_and_the_first_is_the_reference() -> None:
    a, b = (plan_sections(CONFIG)[k * len(STAINS)].centre for k in (0, 1))
    assert (a.name, b.name) == ("A", "B")
    assert a.mpp == 1.0 and b.mpp != a.mpp
    assert (a.gamma, a.strength, a.hue) == (1.0, 0.0, 0.0) and b.hue > 0
    colours = [np.median(image(number)[250:500, 250:500].reshape(-1, 3), axis=0) for number in (0, len(STAINS))]
    assert np.abs(colours[0] - colours[1]).max() > 6
    same = plan_sections(CONFIG.model_copy(update={"difficulty": 0.0}))[len(STAINS)].centre
    assert same.mpp == a.mpp and same.hue == 0


def test_an_unknown_stain_is_named() -> None:
    with pytest.raises(ConfigError, match="unknown stain 'PASS'"):
        plan_sections(CONFIG.model_copy(update={"stains": ("PASS",)}))


# the artefacts, each compared with the same section without it


def pair(artefact: str) -> tuple[np.ndarray, np.ndarray, RenderedSection]:
    plan = replace(plan_sections(CONFIG)[0], artefacts=(artefact,))
    spoilt = RenderedSection(plan)
    return image().astype(int), np.concatenate(list(spoilt.bands())).astype(int), spoilt


@pytest.mark.parametrize("artefact", ["tear", "fold", "bubble", "pen"])
def test_an_artefact_changes_its_place_and_nothing_else(artefact: str) -> None:
    clean, spoilt, _ = pair(artefact)
    changed = np.abs(clean - spoilt).max(axis=2) > 8
    assert 0.0005 < changed.mean() < 0.15
    change = (spoilt - clean)[changed].mean(axis=0)
    if artefact == "tear":
        assert change.min() > 20  # glass
        assert np.median(spoilt[changed].min(axis=1)) > 215
    elif artefact == "fold":
        assert change.max() < -15  # twice the tissue
    elif artefact == "pen":
        assert change.max() - change.min() > 15 or change.max() < -60  # a colour, or black


def test_a_mirrored_section_is_the_other_way_round() -> None:
    _, _, spoilt = pair("mirror")
    assert spoilt.map.mirrored and not section().map.mirrored
    straight, turned = section().map.to_frame(np.eye(2) * 100), spoilt.map.to_frame(np.eye(2) * 100)
    assert np.linalg.norm(straight - turned) > 1


def test_a_blank_section_is_glass() -> None:
    _, spoilt, one = pair("blank")
    assert np.percentile(spoilt, 1) > 225
    assert one.plan.blank


# geometry against analytic answers


def test_a_smooth_body_is_a_sphere_cut_by_a_plane() -> None:
    ball = Surface(np.array([50.0]), np.zeros((1, 1, 3)), np.zeros((1, 1)), 3.0)
    x = np.linspace(0, 80, 81, dtype=np.float32)
    away = ball.distance(0, x, np.zeros_like(x), 30.0)
    assert away[np.abs(x - 40).argmin()] == pytest.approx(0, abs=1e-3)  # sqrt(50^2 - 30^2)
    assert (away[x < 39.5] < 0).all() and (away[x > 40.5] > 0).all()


def test_a_tube_is_a_capsule() -> None:
    tube = Tubes(
        np.array([[0.0, 0, 0]]), np.array([[100.0, 0, 0]]), np.array([0]),
        np.array([10.0]), np.array([0]), np.array([1.0]), np.array([0.5]),
    )  # fmt: skip
    points = np.array([[50, 0], [50, 30], [-3, 4], [110, 0]], dtype=np.float32)
    np.testing.assert_allclose(tube.distance(0, points[:, 0], points[:, 1], 0.0), [-10, 20, -5, 0], atol=1e-4)
    np.testing.assert_allclose(tube.distance(0, points[:1, 0], points[:1, 1], 6.0), [-4], atol=1e-4)
    assert len(tube.discs(9.0, 0.0)[0]) == 1 and len(tube.discs(11.0, 0.0)[0]) == 0


def test_interpolation_is_exact_for_linear_fields() -> None:
    rows, columns = np.mgrid[0:5, 0:6].astype(np.float64)
    fine = upsample(3 * rows - 2 * columns + 1, 4)
    y, x = np.mgrid[0:16, 0:20] / 4
    np.testing.assert_allclose(fine, 3 * y - 2 * x + 1)
