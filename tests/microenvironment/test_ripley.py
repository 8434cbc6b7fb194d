"""K, L and g, of cells and of cells about centres, against processes whose K is known and against other estimators."""

import numpy as np
import pandas as pd
import pytest
import shapely

from stainda.config.microenvironment import MicroenvironmentConfig
from stainda.microenvironment.curves import FUNCTIONS, MeasuredCurves, SectionCurve, curve_rows
from stainda.microenvironment.patterns import CellPairs, k_function, l_function, ring_areas
from stainda.microenvironment.raster_fields import RasterField, StepCounts
from stainda.microenvironment.window import CountingWindow

BOOT = shapely.Polygon([(0, 0), (900, 0), (900, 250), (350, 250), (350, 800), (0, 800)]).difference(
    shapely.Point(200, 200).buffer(80)
)
R = np.array([15.0, 30.0, 60.0, 90.0])
SIGMA, PARENTS = 18.0, 40 / 1e6


def clusters(rng, shape=BOOT):
    """Parents anywhere, also beyond the window, and ten cells about each; those in the window."""
    x0, y0, x1, y1 = np.add(shape.bounds, [-100, -100, 100, 100])
    parents = rng.uniform((x0, y0), (x1, y1), (rng.poisson((x1 - x0) * (y1 - y0) * PARENTS), 2))
    number = rng.poisson(10, len(parents))
    cells = np.repeat(parents, number, axis=0) + rng.normal(0, SIGMA, (number.sum(), 2))
    return tuple(xy[shapely.contains_xy(shape, *xy.T)] for xy in (parents, cells))


def test_k_and_cross_k_of_clusters_in_a_polygon_are_those_of_the_process():
    """Thomas process: K = pi r^2 + (1 - exp(-r^2 / 4 s^2)) / kappa, of cells about parents with 2 s^2.

    Over the number expected at the rate of the process: over that of each pattern K is too low by one over the number
    of clusters in its window, here 6 %, with every correction of the edge.
    """
    rng = np.random.default_rng(0)
    window, rate = CountingWindow(BOOT, step=3.0), 10 * PARENTS
    own, cross = [], []
    for _ in range(150):
        parents, cells = clusters(rng)
        pairs, about = CellPairs.of(cells, window, R).counts(), RasterField.about_centres(parents, R, window)
        own.append(StepCounts(pairs.found, rate**2 * window.area * ring_areas(R)))
        counts = about.observed(cells)
        cross.append(StepCounts(counts.found, counts.expected * rate * window.area / len(cells)))
    for counts, spread in ((own, 4), (cross, 2)):
        pooled = StepCounts.stacked(counts, len(R)).weighted(np.ones(len(counts)))
        exact = np.pi * R**2 + (1 - np.exp(-(R**2) / (spread * SIGMA**2))) / PARENTS
        assert k_function(pooled.ratio, R) == pytest.approx(exact, rel=0.05)
        assert l_function(pooled.ratio, R) + R == pytest.approx(np.sqrt(exact / np.pi), rel=0.03)


def test_without_correction_the_edge_would_be_seen():
    """The same sum without the translation correction is too low: the correction is what the test above rests on."""
    rng = np.random.default_rng(0)
    window = CountingWindow(BOOT, step=3.0)
    found = np.mean([2 * len(CellPairs.of(clusters(rng)[1], window, R).step) for _ in range(40)])
    exact = np.pi * R[-1] ** 2 + 1 / PARENTS
    assert found / ((10 * PARENTS) ** 2 * window.area) < 0.9 * exact


def test_k_agrees_with_the_border_method():
    """Reduced sample: only cells farther than r from the edge are looked from (B. D. Ripley 1988)."""
    rng = np.random.default_rng(1)
    window = CountingWindow(BOOT, step=3.0)
    ours, border = [], []
    for _ in range(80):
        cells = clusters(rng)[1]
        ours.append(CellPairs.of(cells, window, R).counts())
        away = shapely.distance(shapely.boundary(BOOT), shapely.points(cells))
        apart = np.linalg.norm(cells[:, None] - cells[None], axis=2)
        within = (apart[..., None] <= R).sum(axis=1) - 1
        inner = away[:, None] > R
        rate = (len(cells) - 1) / BOOT.area
        border.append(StepCounts((within * inner).sum(axis=0).astype(float), inner.sum(axis=0) * rate))
    sums = [StepCounts.stacked(counts, len(R)).weighted(np.ones(80)) for counts in (ours, border)]
    assert k_function(sums[0].ratio, R) == pytest.approx(sums[1].ratio, rel=0.05)


def test_k_and_l_are_those_of_pointpats():
    """pointpats at 524296c (April 2026): ``distance_statistics.k`` and ``l`` of these points; it corrects no edge and
    takes their bounding box as window, so they lie in the middle of a wide one that two corners span."""
    k = np.arange(300)
    x = 150 * np.sin(1.7 * k) + 40 * np.cos(0.9 * k * k)
    y = 150 * np.cos(2.3 * k) + 40 * np.sin(1.1 * k * k)
    points = np.concatenate([10_000 + np.column_stack([x, y]), [[0, 0], [20_000, 20_000]]])
    r = np.array([10.0, 20.0, 30.0, 50.0, 80.0])
    g = CellPairs.of(points, CountingWindow(shapely.box(0, 0, 20_000, 20_000), 50.0), r).counts().ratio
    theirs = [789439.0596903645, 3280557.8702688483, 7394412.525766415, 19630717.950967062, 47050567.95754572]
    # theirs divides by n * n, ours by n (n - 1); the correction that is left is at most 80 / 20 000 on each side
    assert k_function(g, r) * (len(points) - 1) / len(points) == pytest.approx(theirs, rel=0.005)
    assert l_function(g, r) + r == pytest.approx(np.sqrt(np.array(theirs) / np.pi), rel=0.005)


def test_every_function_is_in_the_table_by_its_name_and_k_and_l_say_the_same():
    rng = np.random.default_rng(2)
    window = CountingWindow(BOOT, step=3.0)
    steps = np.concatenate([[0.0], R[:-1]])
    sections = []
    for number in range(3):
        parents, cells = clusters(rng)
        field = RasterField.about_centres(parents, R, window)
        own = CellPairs.of(cells, window, R).counts()
        drawn = StepCounts.stacked([CellPairs.of(clusters(rng)[1], window, R).counts() for _ in range(19)], len(R))
        curves = [
            SectionCurve("cross", "csr", steps, R, field.observed(cells), field.simulated("csr", cells, 19, rng),
                         len(cells), 1.0),
            SectionCurve("cells", "csr", steps, R, own, drawn, len(cells), 1.0),
        ]  # fmt: skip
        sections.append(MeasuredCurves(f"s{number}", f"P{number}", "", "CD68", curves))
    rows = pd.DataFrame(curve_rows(sections, MicroenvironmentConfig(resamples=100), rng))
    whole = rows[rows["scope"] == "all"].set_index(["function", "to_um"])
    assert set(rows["function"]) == {"cross_g", "cross_L", "cross_K", "g", "L", "K"}
    assert {*FUNCTIONS["cross"], *FUNCTIONS["cells"]} == set(rows["function"])
    for name in ("", "cross_"):
        k, el = whole.loc[f"{name}K"], whole.loc[f"{name}L"]
        for column in ("value", "low", "high", "ci_low", "ci_high"):
            within = 0.01 if column == "value" else 1.0  # between two simulations, quantiles are interpolated
            assert np.sqrt(k[column] / np.pi).to_numpy() - R == pytest.approx(el[column].to_numpy(), abs=within)
        assert (k["p"] == el["p"]).all()
        assert k["value"][15.0] == pytest.approx(whole.loc[f"{name}g"]["value"][15.0] * np.pi * 225, rel=1e-3)
