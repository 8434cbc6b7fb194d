"""Outlines between two sections: bodies whose cut at every height is known."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from stainda.registration.interpolation import interpolate


def disc(radius: float, x: float = 0.0, y: float = 0.0) -> shapely.Polygon:
    return shapely.Point(x, y).buffer(radius, quad_segs=48)


def dice(first, second) -> float:
    return 2 * first.intersection(second).area / (first.area + second.area)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
def test_an_oblique_cone_is_cut_exactly(share) -> None:
    """Radius and centre of a cone change evenly with height, also where its cuts at both ends hardly meet."""
    found = interpolate(disc(80, 500, 300), disc(40, 610, 330), share)
    true = disc(80 - 40 * share, 500 + 110 * share, 300 + 30 * share)
    assert dice(found, true) > 0.99
    assert found.area == pytest.approx(true.area, rel=0.01)


def test_a_sphere_is_cut_as_well_as_two_cuts_can_tell() -> None:
    """Between two discs nothing is known but their radii, so the mean radius is right; of a sphere cut at its middle
    and near its pole that leaves a Dice of 0.86 at the least, and more than the nearer outline has."""
    radius = 100.0
    cut = {z: radius * np.sqrt(1 - z**2) for z in (0.0, 0.2, 0.4, 0.6, 0.8)}
    for z in (0.2, 0.4, 0.6):
        found = interpolate(disc(cut[0.0]), disc(cut[0.8]), z / 0.8)
        mean = cut[0.0] + (cut[0.8] - cut[0.0]) * z / 0.8
        assert found.area == pytest.approx(np.pi * mean**2, rel=0.01)
        assert dice(found, disc(cut[z])) == pytest.approx(2 * mean**2 / (mean**2 + cut[z] ** 2), abs=0.01)
    found = interpolate(disc(cut[0.0]), disc(cut[0.8]), 0.75)
    assert dice(found, disc(cut[0.6])) > dice(disc(cut[0.8]), disc(cut[0.6]))


def test_holes_and_parts_survive() -> None:
    tube = interpolate(disc(80).difference(disc(30)), disc(60).difference(disc(10)), 0.5)
    assert len(tube.interiors) == 1
    assert tube.area == pytest.approx(np.pi * (70**2 - 20**2), rel=0.02)
    two = [shapely.union(disc(20, -r), disc(20, r)) for r in (60, 80)]
    assert len(shapely.get_parts(interpolate(*two, 0.5))) == 2


def test_the_ends_are_the_outlines_themselves_and_other_kinds_are_told_apart() -> None:
    first, second = disc(30), disc(50)
    assert interpolate(first, second, 0) is first and interpolate(first, second, 1) is second
    point = interpolate(shapely.Point(0, 0), shapely.Point(10, 20), 0.25)
    assert point.equals(shapely.Point(2.5, 5))
    line = shapely.LineString([(0, 0), (5, 5)])
    assert interpolate(line, second, 0.3) is line and interpolate(line, second, 0.7) is second
