"""Threshold-free and boundary measures against scikit-learn, scikit-image and brute force."""

import numpy as np
import pytest
from scipy import ndimage, stats
from scipy.spatial.distance import cdist
from skimage.metrics import hausdorff_distance
from sklearn.metrics import average_precision_score, roc_auc_score

from stainda.errors import StaindaError
from stainda.evaluation import (
    ProbabilityCounts,
    bland_altman,
    concordance,
    concordance_interval,
    surface_distances,
)
from stainda.evaluation.boundaries import nearest_distances


@pytest.mark.parametrize("seed", range(5))
def test_areas_under_curves_equal_scikit_learn_on_probabilities_of_three_digits(seed):
    rng = np.random.default_rng(seed)
    truth = rng.random(2000) < 0.2
    probabilities = np.round(np.clip(rng.normal(0.4 + 0.2 * truth, 0.2), 0, 0.999), 3)
    counts = ProbabilityCounts.of(probabilities, truth)
    assert counts.auroc == pytest.approx(roc_auc_score(truth, probabilities), abs=1e-12)
    assert counts.average_precision == pytest.approx(average_precision_score(truth, probabilities), abs=1e-12)


def test_counts_of_two_slides_add_up_to_those_of_both():
    rng = np.random.default_rng(0)
    values, truth = rng.random(500), rng.random(500) < 0.5
    both = ProbabilityCounts.of(values[:200], truth[:200]) + ProbabilityCounts.of(values[200:], truth[200:])
    whole = ProbabilityCounts.of(values, truth)
    np.testing.assert_array_equal(both.positive, whole.positive)
    assert both.auroc == pytest.approx(whole.auroc)


def test_calibration_error_by_hand():
    # bin of 0.9: 10 pixels, half of them the class: 0.4 off; bin of 0.1: 30 pixels, none: 0.1 off
    values, truth = np.r_[np.full(10, 0.9), np.full(30, 0.1)], np.r_[np.arange(10) < 5, np.zeros(30, bool)]
    assert ProbabilityCounts.of(values, truth).calibration_error == pytest.approx((10 * 0.4 + 30 * 0.1) / 40)
    mean, share, pixels = ProbabilityCounts.of(values, truth, 20).reliability()
    assert (mean[18], share[18], pixels[18]) == (pytest.approx(0.9), 0.5, 10)
    rng = np.random.default_rng(1)
    sure = rng.random(200_000)
    assert ProbabilityCounts.of(sure, rng.random(200_000) < sure).calibration_error < 0.01


def test_where_curves_say_nothing():
    none = ProbabilityCounts.of(np.array([0.2, 0.7]), np.zeros(2, bool))
    assert np.isnan(none.auroc) and np.isnan(none.average_precision)
    assert np.isnan(ProbabilityCounts.of(np.zeros(0), np.zeros(0, bool)).calibration_error)
    with pytest.raises(StaindaError, match="not between 0 and 1"):
        ProbabilityCounts.of(np.array([1.5]), np.array([True]))


def blob(rng, size=60):
    y, x = np.mgrid[:size, :size]
    mask = np.zeros((size, size), bool)
    for _ in range(3):
        (cx, cy), r = rng.uniform(10, size - 10, 2), rng.uniform(4, 12)
        mask |= (x - cx) ** 2 + (y - cy) ** 2 < r**2
    return mask


@pytest.mark.parametrize("seed", range(8))
def test_distances_equal_brute_force_and_scikit_image(seed):
    rng = np.random.default_rng(seed)
    first, second = blob(rng), blob(rng)

    def edge(mask):
        padded = np.pad(mask, 1)
        inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        return mask & ~inner

    a, b = np.argwhere(edge(first)) * 0.5, np.argwhere(edge(second)) * 0.5
    apart = cdist(a, b)
    there, back = apart.min(axis=1), apart.min(axis=0)
    found = surface_distances(first, second, spacing=0.5)
    assert found.hausdorff_95 == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)))
    assert found.mean == pytest.approx(np.concatenate([there, back]).mean())
    largest = surface_distances(first, second, percentile=100).hausdorff_95
    assert largest == pytest.approx(hausdorff_distance(edge(first), edge(second)))


def test_an_edge_made_by_an_ignored_region_is_no_outline():
    truth = np.zeros((40, 40), bool)
    truth[10:30, 10:30] = True
    ignored = np.zeros_like(truth)
    ignored[:, 25:] = True
    found = surface_distances(truth, truth & ~ignored, ignored=ignored)
    assert found.hausdorff_95 == 0
    nothing = surface_distances(truth, np.zeros_like(truth), 2.0)
    assert nothing.mean == nothing.hausdorff_95 == pytest.approx(2 * np.hypot(*truth.shape))
    wholly = surface_distances(truth, truth, ignored=np.ones_like(truth))
    assert np.isnan(wholly.hausdorff_95)


def test_limits_of_agreement_by_hand():
    there = np.array([10.0, 12, 8, 20, 15])
    found = there + np.array([1.0, -1, 2, 0, 3])
    result = bland_altman(found, there)
    spread = np.std([1, -1, 2, 0, 3], ddof=1)
    assert result.bias == 1 and result.upper == pytest.approx(1 + 1.96 * spread)
    assert result.bias_interval[1] - 1 == pytest.approx(2.7764451 * spread / np.sqrt(5))
    assert result.lower_interval[0] < result.lower < result.lower_interval[1] < result.upper
    assert bland_altman(there[:2], there[:2]).n == 2 and np.isnan(bland_altman(there[:2], there[:2]).lower)


def test_limits_cover_what_they_promise():
    rng = np.random.default_rng(3)
    inside = []
    for _ in range(400):
        difference = rng.normal(2, 3, 12)
        result = bland_altman(difference, np.zeros(12))
        inside.append(result.lower_interval[0] <= 2 - 1.96 * 3 <= result.lower_interval[1])
    assert 0.90 <= np.mean(inside) <= 0.98


def test_the_interval_of_a_concordance_is_that_of_drawing_pairs_again():
    """Pairs drawn one resample after the other, and the same quantiles, taken outwards for twelve pairs."""
    generator = np.random.default_rng(1)
    x = generator.uniform(0, 1, 12)
    y = x + generator.normal(0.05, 0.15, 12)
    low, high, kind = concordance_interval(x, y, np.random.default_rng(0), 4000)
    slow = []
    for _ in range(4000):
        drawn = generator.integers(0, 12, 12)
        slow.append(concordance(x[drawn], y[drawn]))
    tail = stats.norm.cdf(-np.sqrt(12 / 11) * stats.t.ppf(0.975, 11))
    assert kind == "interval" and low < concordance(x, y) < high
    np.testing.assert_allclose((low, high), np.quantile(slow, [tail, 1 - tail]), atol=0.02)


def test_the_interval_of_a_concordance_of_many_pairs_is_lins():
    """Lin 1989, with the correction of 2000: normal on the scale of Fisher's z."""
    generator, n = np.random.default_rng(2), 600
    x = generator.normal(0, 1, n)
    y = 0.8 * x + generator.normal(0.2, 0.5, n)
    c, r = concordance(x, y), np.corrcoef(x, y)[0, 1]
    u = (x.mean() - y.mean()) / np.sqrt(x.std() * y.std())
    variance = (1 - r**2) * c**2 / ((1 - c**2) * r**2) + 2 * c**3 * (1 - c) * u**2 / (r * (1 - c**2) ** 2)
    variance = (variance - c**4 * u**4 / (2 * r**2 * (1 - c**2) ** 2)) / (n - 2)
    expected = np.tanh(np.arctanh(c) + np.array([-1.96, 1.96]) * np.sqrt(variance))
    low, high, _ = concordance_interval(x, y, np.random.default_rng(0), 4000)
    np.testing.assert_allclose((low, high), expected, atol=0.01)


def test_few_pairs_have_a_range_and_equal_ones_no_doubt():
    x, y = np.array([0.1, 0.4, 0.5, 0.9]), np.array([0.2, 0.3, 0.6, 0.8])
    without = [concordance(np.delete(x, k), np.delete(y, k)) for k in range(4)]
    low, high, kind = concordance_interval(x, y, np.random.default_rng(0))
    assert kind == "range" and (low, high) == pytest.approx((min(without), max(without)))
    assert concordance_interval(x[:2], y[:2], np.random.default_rng(0))[2] == "none"
    assert concordance_interval(np.ones(8), np.ones(8), np.random.default_rng(0))[2] == "none"
    eight = np.linspace(0, 1, 8)
    assert concordance_interval(eight, eight, np.random.default_rng(0))[:2] == pytest.approx((1, 1))


def test_concordance_is_correlation_lessened_by_shift_and_scale():
    x = np.random.default_rng(0).normal(size=50)
    assert concordance(x, x) == pytest.approx(1)
    assert concordance(x, x + 1) == pytest.approx(2 * x.var() / (2 * x.var() + 1))
    assert concordance(x, -x + 2 * x.mean()) == pytest.approx(-1)
    assert np.isnan(concordance(np.ones(4), np.ones(4)))


@pytest.mark.parametrize("share", [0.0005, 0.01, 0.02, 0.2])
@pytest.mark.parametrize("spacing", [1.0, 0.37])
def test_distances_of_few_pixels_are_those_of_the_distance_transform(share, spacing):
    rng = np.random.default_rng(0)
    near, far = (rng.random((90, 130)) < share for _ in range(2))
    far[40, 60] = True
    found = nearest_distances(near, far, spacing)
    expected = ndimage.distance_transform_edt(~far, sampling=spacing)[near]
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    assert found.shape == (int(near.sum()),)
