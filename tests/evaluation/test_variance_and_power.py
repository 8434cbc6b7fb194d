"""Variance components, power and equivalence where the truth is put in."""

import numpy as np
import pytest
from record_makers import study_records
from scipy import stats

from stainda.errors import StaindaError
from stainda.evaluation.domain_gap import lab_distance, linear_cka, optical_density_distance, proxy_a_distance
from stainda.evaluation.equivalence import posterior
from stainda.evaluation.variance import patients_needed, variance_components, variance_table


def crossed(rng, n_patients, n_domains, n_seeds, sd):
    """Scores of a crossed design with given standard deviations of patient, domain, seed, rest."""
    p, d, s = (axis.ravel() for axis in np.meshgrid(range(n_patients), range(n_domains), range(n_seeds), indexing="ij"))
    values = rng.normal(0, sd[0], n_patients)[p] + rng.normal(0, sd[1], n_domains)[d]
    return values + rng.normal(0, sd[2], n_seeds)[s] + rng.normal(0, sd[3], len(p)), (p, d, s)


def test_components_are_those_of_analysis_of_variance_where_it_is_balanced():
    rng = np.random.default_rng(1)
    values, factors = crossed(rng, 6, 5, 4, (3.0, 2.0, 1.0, 0.5))
    cube = values.reshape(6, 5, 4)
    grand = cube.mean()
    squares, n = {}, cube.size
    for axis, others in enumerate([(1, 2), (0, 2), (0, 1)]):
        means = cube.mean(axis=others)
        squares[axis] = n / len(means) * ((means - grand) ** 2).sum() / (len(means) - 1)
    total = ((cube - grand) ** 2).sum()
    explained = sum(squares[axis] * (cube.shape[axis] - 1) for axis in range(3))
    rest = (total - explained) / (n - 1 - sum(size - 1 for size in cube.shape))
    expected = [(squares[axis] - rest) / (n / cube.shape[axis]) for axis in range(3)]
    found = variance_components(values, factors, rng)
    np.testing.assert_allclose(found, [*expected, rest], rtol=1e-6)


def test_components_are_unbiased_with_cells_missing():
    rng = np.random.default_rng(2)
    found = []
    for _ in range(120):
        values, factors = crossed(rng, 12, 6, 6, (2.0, 1.5, 1.0, 1.0))
        kept = rng.random(len(values)) < 0.6
        found.append(variance_components(values[kept], [factor[kept] for factor in factors], rng))
    np.testing.assert_allclose(np.mean(found, axis=0), [4, 2.25, 1, 1], rtol=0.15)


def test_a_single_seed_leaves_its_variance_unsaid():
    values, (p, d, _) = crossed(np.random.default_rng(0), 4, 3, 1, (1, 1, 0, 1))
    found = variance_components(values, (p, d, np.zeros(len(p))), np.random.default_rng(0))
    assert np.isnan(found[2]) and np.isfinite(found[[0, 1, 3]]).all()
    # the domain of every patient is another: patient and domain are one
    nested = variance_components(values[:4], (p[:4], p[:4]), np.random.default_rng(0))
    assert np.isnan(nested).all()


def test_the_made_up_study_varies_between_domains_most_and_between_seeds_least():
    means = {"source_only": {"PAS@A": 0.9, "SR@A": 0.5, "CD68@A": 0.2}}
    table = variance_table(study_records(means), "dice", np.random.default_rng(0)).set_index("component")
    assert table.loc["domain", "share"] > 0.9 > table.loc["patient", "share"] > table.loc["seed", "share"]
    assert table["share"].sum() == pytest.approx(1)


def test_patients_needed_reach_the_power_in_simulation():
    rng = np.random.default_rng(0)
    pattern = rng.normal(size=40)
    pattern = (pattern - pattern.mean()) / pattern.std(ddof=1)
    needed = patients_needed(0.05 + 0.1 * pattern)
    studies = rng.normal(0.05, 0.1, (4000, int(needed)))
    p = stats.ttest_1samp(studies, 0, axis=1).pvalue
    assert 0.77 <= (p < 0.05).mean() <= 0.84
    assert np.isnan(patients_needed(np.array([0.1, 0.1]))), "all differ alike"
    assert patients_needed(np.array([0.1, -0.1])) == np.inf
    assert patients_needed(np.array([1.0, 1.0001])) == 2


def test_the_posterior_is_students_distribution_about_the_difference():
    found = posterior(0.02, 0.01, 5.0, 0.01)
    t = stats.t(5.0, 0.02, 0.01)
    assert (found.worse, found.better) == pytest.approx((t.cdf(-0.01), t.sf(0.01)))
    assert found.worse + found.equal + found.better == pytest.approx(1)
    back = posterior(-0.02, 0.01, 5.0, 0.01)
    assert (back.better, back.worse) == pytest.approx((found.worse, found.better))
    assert posterior(0.0, 1e-4, 5.0, 0.01).equal > 0.999 and posterior(0.3, 0.0, 5.0, 0.01).better == 1
    assert np.isnan(posterior(0.3, np.nan, np.nan, 0.01).better), "one training: no error to judge by"
    with pytest.raises(StaindaError, match="region of practical equivalence"):
        posterior(0.0, 0.1, 5.0, -0.1)


def test_distances_of_domains_where_they_are_known():
    rng = np.random.default_rng(0)
    pixels = rng.integers(50, 200, (500, 3)).astype(np.uint8)
    assert optical_density_distance(pixels, pixels) == 0
    dark, light = np.full((5, 3), 24, np.uint8), np.full((5, 3), 249, np.uint8)
    assert optical_density_distance(dark, light) == pytest.approx(np.sqrt(3), rel=1e-9), "a tenth in every channel"
    lab = rng.normal(size=(400, 3))
    assert lab_distance(lab, lab + np.array([3, 0, 0])) == pytest.approx(1.0)


def test_proxy_a_distance_is_0_for_one_domain_and_2_for_two_worlds():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(6), 30)
    same = proxy_a_distance(rng.normal(size=(180, 5)), rng.normal(size=(180, 5)), groups, groups + 6)[0]
    apart = proxy_a_distance(rng.normal(size=(180, 5)), rng.normal(size=(180, 5)) + 6, groups, groups + 6)[0]
    assert same < 0.35 and apart > 1.95
    # a patient's own signature in every domain is no difference of domains
    signature = rng.normal(size=(12, 5)) * 5
    mixed = proxy_a_distance(
        signature[groups] + rng.normal(size=(180, 5)),
        signature[groups + 6] + rng.normal(size=(180, 5)),
        groups,
        groups + 6,
    )[0]
    assert mixed < 1.2
    value, note = proxy_a_distance(np.zeros((3, 2)), np.zeros((3, 2)), np.zeros(3), np.arange(3))
    assert np.isnan(value) and "one patient" in note


def test_alignment_of_features_ignores_rotation_and_scale_and_sees_the_rest():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 8))
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    assert linear_cka(x, 3 * x @ turn + 1) == pytest.approx(1)
    assert linear_cka(x, rng.normal(size=(300, 8))) < 0.1
    # against the definition through Gram matrices (HSIC)
    y = x[:, :3] + 0.5 * rng.normal(size=(300, 3))
    centre = np.eye(300) - 1 / 300
    k, m = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre
    assert linear_cka(x, y) == pytest.approx((k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum()))
