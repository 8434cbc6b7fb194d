"""Volumes of spheres by Cavalieri."""

import numpy as np
import pytest

from stainda.microenvironment.volumes import cavalieri


def sphere(radius, spacing, phase, sections=range(-10, 11)):
    z = {k: k * spacing + phase for k in sections}
    profiles = {k: np.pi * (radius**2 - at**2) for k, at in z.items() if abs(at) < radius}
    return profiles, dict.fromkeys(sections, True)


def test_spheres_have_their_volume_and_about_the_error_that_is_told():
    exact = 4 / 3 * np.pi * 75**3
    found = [cavalieri(*sphere(75, 25, phase), 25) for phase in np.linspace(0, 25, 50, endpoint=False)]
    volumes = np.array([one.um3 for one in found])
    assert volumes.mean() == pytest.approx(exact, rel=1e-3)
    assert all(one.whole for one in found)
    spread = volumes.std() / exact
    assert 0.3 * spread < np.mean([one.error for one in found]) < 4 * spread


def test_a_body_at_the_end_of_the_block_is_not_whole():
    profiles, shown = sphere(75, 25, 0, sections=range(-1, 11))
    assert not cavalieri(profiles, shown, 25).whole
    hidden = {**dict.fromkeys(range(-10, 11), True), 3: False}
    assert not cavalieri(sphere(75, 25, 0)[0], hidden, 25).whole


def test_a_section_that_is_missing_is_bridged():
    profiles, shown = sphere(75, 10, 0)
    whole = cavalieri(profiles, shown, 10).um3
    del shown[2], profiles[2]
    assert cavalieri(profiles, shown, 10).um3 == pytest.approx(whole, rel=0.01)


def test_a_body_whose_last_profiles_were_missed_is_not_whole():
    profiles, shown = sphere(75, 10, 0)
    assert cavalieri(profiles, shown, 10).whole
    for number in (3, 4, 5, 6, 7):
        profiles.pop(number)
    assert not cavalieri(profiles, shown, 10).whole


def test_a_profile_that_was_missed_is_bridged():
    profiles, shown = sphere(75, 10, 0)
    whole = cavalieri(profiles, shown, 10).um3
    del profiles[2]
    assert cavalieri(profiles, shown, 10).um3 == pytest.approx(whole, rel=0.01)


def test_one_profile_has_no_error_and_none_has_no_volume():
    assert np.isnan(cavalieri({1: 100.0}, {0: True, 1: True, 2: True}, 5).error)
    assert cavalieri({1: 100.0}, {0: True, 1: True, 2: True}, 5).um3 == 500
    assert np.isnan(cavalieri({}, {0: True}, 5).um3)
