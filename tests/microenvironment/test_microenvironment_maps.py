"""Density maps and indices of clustering, and areas by compartment."""

import numpy as np
import pytest
import shapely

from stainda.microenvironment.compartments import h_score
from stainda.microenvironment.density_maps import clustering, density_map
from stainda.microenvironment.window import CountingWindow

FIELD = CountingWindow(shapely.box(0, 0, 1000, 1000).difference(shapely.box(0, 0, 150, 100)))


def test_squares_have_their_cells_and_their_tissue():
    xy = np.array([[50.0, 150.0], [60.0, 160.0], [950.0, 950.0]])
    found = density_map(xy, FIELD, (1000.0, 1000.0), 100.0)
    assert found.cells[1, 0] == 2 and found.cells[9, 9] == 1 and found.cells.sum() == 3
    assert (found.tissue[0, 0], found.tissue[0, 1], found.tissue[5, 5]) == (0, pytest.approx(0.5), 1)
    assert found.density[1, 0] == pytest.approx(200) and np.isnan(found.density[0, 0])


def test_indices_tell_clusters_from_randomness_and_from_a_lattice():
    rng = np.random.default_rng(0)
    random = rng.uniform(0, 1000, (500, 2))
    parents = rng.uniform(100, 900, (12, 2))
    clustered = np.repeat(parents, 40, axis=0) + rng.normal(0, 25, (480, 2))
    broad = np.repeat(parents[:3], 200, axis=0) + rng.normal(0, 120, (600, 2))  # wider than the squares
    lattice = np.stack(np.meshgrid(np.arange(25, 1000, 50), np.arange(25, 1000, 50)), -1).reshape(-1, 2).astype(float)
    index = {}
    for name, xy in (("random", random), ("clustered", clustered), ("broad", broad), ("lattice", lattice)):
        xy = xy[FIELD.contains(xy)]
        index[name] = clustering(xy, FIELD, density_map(xy, FIELD, (1000, 1000), 100.0), rng)
    assert index["random"]["clark_evans"] == pytest.approx(1, abs=0.1)
    assert index["clustered"]["clark_evans"] < 0.6 < 1.5 < index["lattice"]["clark_evans"]
    assert index["random"]["morisita"] == pytest.approx(1, abs=0.15) and index["clustered"]["morisita"] > 2
    assert index["broad"]["moran_p"] <= 0.05 < index["random"]["moran_p"]
    assert index["broad"]["hot_share"] > 0.02 >= index["random"]["hot_share"]


def test_too_few_cells_have_no_index():
    none = np.zeros((0, 2))
    found = clustering(none, FIELD, density_map(none, FIELD, (1000, 1000), 100.0), np.random.default_rng(0))
    assert np.isnan(found["clark_evans"]) and np.isnan(found["moran"])


def test_the_h_score_is_the_mean_grade_times_a_hundred():
    assert h_score(np.array([0.3, 0.6, 0.9, 0.9, np.nan]), (0.55, 0.8)) == 100 * (1 + 2 + 3 + 3) / 4
    assert np.isnan(h_score(np.array([np.nan]), (0.55, 0.8)))
