"""Volumes of spheres by Cavalieri."""

import numpy as np
import pytest

from stainda.microenvironment.volumes import FEW_RUNS, OutlineErrors, cavalieri


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


def test_a_profile_missed_at_an_end_is_added_and_makes_the_error_larger():
    exact = 4 / 3 * np.pi * 75**3
    profiles, shown = sphere(75, 10, 3)
    whole = cavalieri(profiles, shown, 10)
    del profiles[max(profiles)]
    short = cavalieri(profiles, shown, 10)
    assert short.whole and short.um3 == pytest.approx(exact, rel=0.01) == whole.um3
    assert short.error > 2 * whole.error


def test_one_profile_has_no_error_and_none_has_no_volume():
    assert np.isnan(cavalieri({1: 100.0}, {0: True, 1: True, 2: True}, 5).error)
    assert cavalieri({1: 100.0}, {0: True, 1: True, 2: True}, 5).um3 == 500
    assert np.isnan(cavalieri({}, {0: True}, 5).um3)


def drawn(rng, spread, missed, bodies=60):
    """Spheres whose outlines are drawn too large or too small, and some of them missed."""
    found = []
    for radius, phase in zip(rng.uniform(60, 100, bodies), rng.uniform(0, 15, bodies), strict=True):
        profiles, shown = sphere(radius, 15, phase)
        kept = {k: area * (1 + rng.normal(0, spread)) for k, area in profiles.items() if rng.random() >= missed}
        found.append((kept, shown, 4 / 3 * np.pi * radius**3))
    return found


@pytest.mark.parametrize("spread", [0.03, 0.1])
def test_the_error_of_outlines_is_that_with_which_they_were_drawn(spread):
    found = drawn(np.random.default_rng(0), spread, 0.1)
    errors = OutlineErrors.of([(areas, shown) for areas, shown, _ in found])
    assert errors.relative == pytest.approx(spread, rel=0.2) and errors.missed == pytest.approx(0.1, abs=0.04)


def test_intervals_hold_the_true_volume_as_often_as_they_say():
    rng = np.random.default_rng(1)
    held, naive, ratios = [], [], []
    for _ in range(8):
        found = drawn(rng, 0.06, 0.1)
        errors = OutlineErrors.of([(areas, shown) for areas, shown, _ in found])
        for areas, shown, truth in found:
            volume = cavalieri(areas, shown, 15, errors)
            if volume.whole and volume.profiles > 2:
                low, high = volume.interval(1.96)
                held.append(low <= truth <= high)
                sampling = cavalieri(areas, shown, 15).interval(1.96)
                naive.append(sampling[0] <= truth <= sampling[1])
                ratios.append(volume.um3 / truth)
    assert len(held) > 300 and 0.92 < np.mean(held) < 0.99
    assert np.mean(naive) < 0.7, "the error of sampling alone is too small"
    assert np.mean(ratios) == pytest.approx(1, abs=0.01)


def test_few_runs_and_bodies_that_are_not_whole_have_no_interval():
    errors = OutlineErrors.of([sphere(75, 15, 0)])
    assert len(sphere(75, 15, 0)[0]) - 3 < FEW_RUNS and np.isnan(errors.relative)
    assert np.isnan(cavalieri(*sphere(75, 15, 0), 15, errors).error)
    cut = cavalieri(*sphere(75, 15, 0, sections=range(-1, 11)), 15)
    assert np.isfinite(cut.error) and np.isnan(cut.interval(1.96)).all()
