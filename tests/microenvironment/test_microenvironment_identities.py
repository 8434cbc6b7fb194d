"""Structures named across sections, with the volumes of spheres."""

import numpy as np
import pytest
import shapely

from stainda.microenvironment.identities import Profiles, identify
from stainda.registration.transforms import Transform

SPHERES = ((200, 200, 60, 70), (500, 220, 100, 60), (350, 600, 90, 80))  # x, y, z, radius


def block(spacing=12.0, sections=18, shift=0.0):
    profiles, transforms = {}, {}
    rng = np.random.default_rng(0)
    for number in range(sections):
        z = number * spacing - 20
        cut = [(k, np.sqrt(r**2 - (z - cz) ** 2)) for k, (_, _, cz, r) in enumerate(SPHERES) if abs(z - cz) < r]
        outlines = [shapely.Point(*SPHERES[k][:2]).buffer(radius, quad_segs=64) for k, radius in cut]
        frame = shapely.Point(800, 800).buffer(5)  # something that every section shows
        moved = rng.normal(0, shift, 2) if shift else np.zeros(2)
        matrix = np.array([[1, 0, moved[0]], [0, 1, moved[1]], [0, 0, 1.0]])
        transforms[f"S{number}"] = Transform.affine(f"S{number}", (1000, 1000), "S0", (1000, 1000), matrix)
        corner = shapely.Point(50, 50).buffer(5)
        ids = np.array([*(f"{number}/{k}" for k, _ in cut), "a", "b"], object)
        drawn = np.ones(len(ids), bool)
        profiles[f"S{number}"] = Profiles(
            number,
            np.array([*outlines, frame, corner], object),
            ids,
            np.full(len(ids), "glomerulus", object),
            drawn,
            shapely.box(0, 0, 1000, 1000),
        )
    return profiles, transforms


def test_spheres_keep_their_name_and_have_their_volume():
    profiles, transforms = block(shift=4.0)
    names, found = identify("B", profiles, transforms, dict.fromkeys(profiles, 5.0), 1.0, 12.0)
    of = {}
    for mine in names.values():
        for key, name in mine.items():
            if "/" in key:
                of.setdefault(key.split("/")[1], set()).add(name)
    assert [len(one) for one in of.values()] == [1, 1, 1] and len(set.union(*of.values())) == 3
    volumes = {one.identity: one.volume for one in found}
    for key, (_, _, _, radius) in enumerate(SPHERES):
        volume = volumes[next(iter(of[str(key)]))]
        assert volume.um3 == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.03)
        assert volume.whole and volume.error < 0.05


def test_a_block_that_ends_within_a_sphere_says_that_it_is_not_whole():
    profiles, transforms = block(sections=10)
    found = identify("B", profiles, transforms, dict.fromkeys(profiles, 5.0), 1.0, 12.0)[1]
    large = [one.volume for one in found if one.volume.um3 > 50_000]
    assert len(large) == 3 and not any(one.whole for one in large)


def test_propagated_outlines_give_no_volume():
    profiles, transforms = block()
    copies = {
        slide: Profiles(p.number, p.outlines, p.ids, p.classes, np.zeros(len(p.ids), bool), p.tissue)
        for slide, p in profiles.items()
    }
    found = identify("B", copies, transforms, dict.fromkeys(profiles, 5.0), 1.0, 12.0)[1]
    assert all(np.isnan(one.volume.um3) for one in found)
