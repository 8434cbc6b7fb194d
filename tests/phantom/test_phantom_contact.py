"""Glomeruli that touch: how many do, where, how deep, and that nothing else of a block changes."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from pydantic import ValidationError
from skimage.draw import polygon
from skimage.measure import label

from stainda.config import PhantomConfig
from stainda.objects.necks import cut_at_necks
from stainda.phantom.anatomy import Bodies
from stainda.phantom.contact import OVERLAP, bring_together, outline
from stainda.phantom.section import RenderedSection, anatomy_of, plan_sections
from stainda.phantom.shapes import Surface, unit_vectors


def config(**settings):
    return PhantomConfig(
        patients=2, centres=("A",), stains=("PAS", "JONES", "SR", "CD68"), size=1536, mpp=0.75, seed=5, **settings
    )


def glomeruli_of(plan):
    """Outlines of the glomeruli of a section, in the frame, micrometres."""
    section = RenderedSection(plan)
    bodies = section.anatomy.bodies
    return {bodies.name[i]: shape for i, shape in section.scene.outlines.items() if bodies.is_glomerulus[i]}


def touching(shapes):
    """Names of those that touch another one, and how deep the deepest overlap is, as a share of the smaller one."""
    pairs = [(a, b) for a in shapes for b in shapes if a < b and shapes[a].distance(shapes[b]) <= 0.5]
    overlaps = [shapes[a].intersection(shapes[b]).area / min(shapes[a].area, shapes[b].area) for a, b in pairs]
    return {name for pair in pairs for name in pair}, max(overlaps, default=0.0)


def test_none_touches_without_the_setting_and_the_share_does_with_it():
    for plan in plan_sections(config()):
        assert not touching(glomeruli_of(plan))[0]
    seen, met = 0, 0
    for plan in plan_sections(config(touching=0.5)):
        shapes = glomeruli_of(plan)
        names, deepest = touching(shapes)
        assert len(names) >= 4 and deepest < 0.05
        seen, met = seen + len(shapes), met + len(names)
    assert 0.35 <= met / seen <= 0.6


def test_the_glomeruli_are_the_same_ones_and_some_of_them_have_moved():
    plain, moved = (anatomy_of(plan_sections(config(**more))[0]).bodies for more in ({}, {"touching": 0.4}))
    assert plain.name == moved.name and plain.uuid == moved.uuid
    np.testing.assert_array_equal(plain.outer.radius, moved.outer.radius)
    changed = (plain.centre != moved.centre).any(1)
    assert 0 < changed.sum() <= 0.25 * plain.is_glomerulus.sum() and plain.is_glomerulus[changed].all()


def test_bodies_that_are_no_pair_stay_apart():
    bodies = anatomy_of(plan_sections(config(touching=1.0))[0]).bodies
    apart = np.linalg.norm(bodies.centre[:, None] - bodies.centre[None], axis=2)
    close = apart < 1.08 * (bodies.outer.radius[:, None] + bodies.outer.radius[None]) + 7
    np.fill_diagonal(close, False)
    assert close.any() and close.sum(1).max() == 1


@pytest.mark.parametrize("dz", [0.0, 30.0])
def test_the_cut_of_a_ball_is_a_circle(dz):
    rng = np.random.default_rng(1)
    ball = Surface(np.array([50.0]), unit_vectors(rng, 1, 5), np.zeros((1, 5)), 3.0)
    cut = outline(ball, 0, dz)
    assert cut.area == pytest.approx(np.pi * (50**2 - dz**2), rel=0.03)
    assert shapely.Point(0, 0).within(cut) and OVERLAP < 3


def balls(*radii):
    """Surfaces without lobes."""
    number = len(radii)
    lobes = unit_vectors(np.random.default_rng(1), number, 5)
    return Surface(np.array(radii, float), lobes, np.zeros((number, 5)), 3.0)


def pressed_balls(first, second, apart):
    """Two glomeruli pressed against each other, the second to the right of the first."""
    surface = balls(first, second)
    centre = np.array([[0.0, 0, 0], [apart, 0, 0]])
    return Bodies(centre, np.zeros(2, np.int64), surface, surface, ("G1", "G2"), ("1", "2"), np.array([1, 0]))


@pytest.mark.parametrize("depth", [0.0, 0.25, 0.5, 0.8])
def test_the_second_ball_is_pressed_by_a_share_of_the_smaller_radius(depth):
    centre, partner = bring_together(
        np.random.default_rng(3), balls(80.0, 60.0), np.array([[0.0, 0, 0], [500, 0, 0]]), np.arange(2),
        z=0.0, share=1.0, depth=depth, is_free=lambda places, *_: np.ones(len(places), bool),
    )  # fmt: skip
    apart = np.linalg.norm(centre[1] - centre[0])
    assert apart == pytest.approx(140 - max(OVERLAP, depth * 60), abs=1.5)  # outlines are polygons
    assert partner.tolist() == [1, 0]


@pytest.mark.parametrize("apart", [150.0, 120.0, 100.0])
def test_two_balls_that_are_pressed_end_at_their_chord(apart):
    """Circles of radius r whose centres are d apart share a chord of 2 sqrt(r² - (d/2)²); each loses its segment."""
    radius, step = 80.0, 0.5
    bodies = pressed_balls(radius, radius, apart)
    x, y = np.meshgrid(np.arange(-100, 260, step) + step / 2, np.arange(-100, 100, step))
    first, second = (bodies.distance(index, x, y, 0.0) < 0 for index in (0, 1))
    assert not (first & second).any()
    round_first, round_second = (bodies.outer.distance(i, x - bodies.centre[i, 0], y, 0.0) < 0 for i in (0, 1))
    at_the_border = np.abs(x - apart / 2) < step
    assert ((first | second) == (round_first | round_second))[~at_the_border].all()
    half = np.arccos(apart / 2 / radius)
    segment = radius**2 * (half - np.sin(half) * np.cos(half))
    assert first.sum() * step**2 == pytest.approx(np.pi * radius**2 - segment, rel=0.01)
    border = (first[:, :-1] & second[:, 1:]).any(1).sum() * step
    assert border == pytest.approx(2 * np.sqrt(radius**2 - (apart / 2) ** 2), abs=2)
    # the distance is one from the border, too: five micrometres from it on the line of the centres
    assert bodies.distance(0, np.array([apart / 2 - 5]), np.array([0.0]), 0.0)[0] == pytest.approx(-5, abs=0.01)


def test_of_two_balls_of_different_size_each_ends_where_the_other_is_as_deep():
    bodies = pressed_balls(90.0, 60.0, 110.0)
    middle = (110 + 90 - 60) / 2  # on the line of the centres: 90 - x = 60 - (110 - x)
    assert bodies.distance(0, np.array([middle]), np.array([0.0]), 0.0)[0] == pytest.approx(0, abs=1e-3)
    crossing = (110**2 + 90**2 - 60**2) / 220
    corner = np.array([crossing]), np.array([np.sqrt(90**2 - crossing**2)])  # the circles cut each other here
    for index in (0, 1):
        assert bodies.distance(index, *corner, 0.0)[0] == pytest.approx(0, abs=1e-2)


def test_outlines_that_are_pressed_do_not_overlap_and_their_border_grows_with_the_depth():
    borders = []
    for depth in (0.0, 0.25, 0.5):
        plan = plan_sections(config(touching=0.5, contact_depth=depth))[0]
        shapes = glomeruli_of(plan)
        names, deepest = touching(shapes)
        assert len(names) >= 4 and (depth == 0 or deepest < 5e-4)
        pairs = [(a, b) for a in names for b in names if a < b and shapes[a].distance(shapes[b]) <= 0.5]
        borders.append(np.mean([shapes[a].boundary.intersection(shapes[b].buffer(1)).length for a, b in pairs]))
    assert borders[1] > 1.5 * borders[0] and borders[2] > 1.15 * borders[1]
    assert borders[2] > 80  # of glomeruli that are 150 micrometres wide


def merged_at_necks(shapes, half, mpp=4.0):
    """Of glomeruli that touch another one, the share that a watershed on their exact foreground does not part."""
    side = int(2 * half / mpp)
    numbers = np.zeros((side, side), np.int32)
    for value, shape in enumerate(shapes.values(), start=1):
        column, row = (shapely.get_coordinates(shape.exterior).T + half) / mpp
        numbers[polygon(row, column, numbers.shape)] = value
    parts = cut_at_necks(label(numbers > 0, connectivity=1))
    of = {name: np.bincount(parts[numbers == value]).argmax() for value, name in enumerate(shapes, start=1)}
    names, _ = touching(shapes)
    return np.mean([any(of[a] == of[b] for b in names if b != a) for a in names])


def test_a_watershed_on_the_true_outlines_parts_those_that_meet_and_merges_those_that_are_pressed():
    merged = {}
    for depth in (0.0, 0.5):
        plans = plan_sections(config(touching=0.5, contact_depth=depth))[::4]  # a section of each block
        merged[depth] = [merged_at_necks(glomeruli_of(plan), anatomy_of(plan).half) for plan in plans]
    assert max(merged[0.0]) == 0 and np.mean(merged[0.5]) > 0.6, merged


def test_a_depth_without_glomeruli_that_touch_is_refused():
    with pytest.raises(ValidationError, match="set touching above 0"):
        config(contact_depth=0.5)
