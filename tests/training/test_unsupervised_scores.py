"""Scores without target labels: against pytorch-adapt's validators, closed forms, and a network that has collapsed."""

import warnings

import numpy as np
import pytest
import torch

from stainda.training.unsupervised import (
    SampledPixels,
    cluster_agreement,
    deep_embedded_risk,
    entropies,
    information,
    nearest_source_accuracy,
    neighbourhood_density,
    score_pixels,
    squared_mmd,
)


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(3))
def test_they_are_those_of_pytorch_adapt(seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pytorch_adapt import validators

    logits = np.random.default_rng(seed).normal(size=(120, 3)) * 2
    shares = softmax(logits)
    given = {"logits": torch.from_numpy(logits), "preds": torch.from_numpy(shares)}
    assert -entropies(shares).mean() == pytest.approx(
        float(validators.EntropyValidator()(target_train=given)), abs=1e-6
    )
    assert information(shares) == pytest.approx(float(validators.IMValidator()(target_train=given)), abs=1e-6)
    nuclear = np.linalg.norm(shares, "nuc") / len(shares)
    assert nuclear == pytest.approx(float(validators.BNMValidator()(target_train=given)), rel=1e-5)
    snd = validators.SNDValidator(layer="preds", T=0.05)
    assert neighbourhood_density(shares) == pytest.approx(float(snd(target_train=given)), rel=1e-4)


def test_information_by_hand():
    sure_and_even = np.array([[1.0, 0], [0, 1]])
    assert information(sure_and_even) == pytest.approx(np.log(2))
    assert information(np.array([[0.5, 0.5], [0.5, 0.5]])) == pytest.approx(0)
    assert information(np.array([[1.0, 0], [1, 0]])) == pytest.approx(0, abs=1e-9), "sure of one class says nothing"


def test_mmd_is_nothing_for_one_cloud_and_grows_with_the_distance():
    rng = np.random.default_rng(0)
    cloud = rng.normal(size=(200, 4))
    same, near, far = (squared_mmd(cloud, rng.normal(size=(200, 4)) + shift) for shift in (0, 0.5, 2))
    assert 0 <= same < 0.02 < near < far


def test_nearest_source_pixels_are_asked():
    source = np.array([[0.0], [10.0]])
    assert nearest_source_accuracy(np.array([[1.0], [2.0], [9.0]]), source, np.array([1.0, 0.0])) == pytest.approx(
        2 / 3
    )


def test_importance_weights_find_the_loss_on_the_target():
    rng = np.random.default_rng(1)
    train, val, target = rng.normal(0, 1, (1500, 1)), rng.normal(0, 1, (1500, 1)), rng.normal(1, 1, (1500, 1))

    def loss(x):
        return (x[:, 0] > 0.5) * 1.0

    plain, truth = loss(val).mean(), loss(target).mean()
    found = deep_embedded_risk(train, target, val, loss(val))
    assert abs(found - truth) < 0.06 < abs(plain - truth)
    # without a shift the weights change nothing
    assert deep_embedded_risk(train, rng.normal(0, 1, (1500, 1)), val, loss(val)) == pytest.approx(plain, abs=0.04)


def world(rng, shift, collapsed):
    """Two classes as two clouds of features; predictions by the right border, or of one class alone."""
    labels = rng.integers(0, 2, 300)
    features = rng.normal(size=(300, 3)) + 4 * labels[:, None] + shift
    logits = np.stack([np.zeros(300), (features.sum(axis=1) - 6 - 3 * shift) * 2], axis=1)
    if collapsed:
        logits = np.stack([np.full(300, 4.0), np.zeros(300)], axis=1) + rng.normal(0, 0.1, (300, 2))
    return SampledPixels(softmax(logits), features, labels)


@pytest.mark.parametrize("seed", range(3))
def test_a_network_that_calls_everything_background_is_told_from_one_that_works(seed):
    rng = np.random.default_rng(seed)
    train, val = world(rng, 0, False), world(rng, 0, False)
    good = score_pixels(world(rng, 0.5, False), train, val)
    bad = score_pixels(world(rng, 0.5, True), train, val)
    assert good["information"] > bad["information"] + 0.3 and good["clusters"] > bad["clusters"] + 0.3
    assert good["nuclear_norm"] > 1.3 * bad["nuclear_norm"]
    drifted = score_pixels(world(rng, 6, False), train, val)
    assert good["mmd"] > drifted["mmd"] + 0.1


def test_one_predicted_class_has_no_clusters():
    assert cluster_agreement(np.zeros((5, 2)), np.zeros(5, np.int64), 0) == 0.0


def test_labels_of_the_target_change_nothing():
    rng = np.random.default_rng(0)
    train, val, target = world(rng, 0, False), world(rng, 0, False), world(rng, 1, False)
    spoiled = SampledPixels(target.probabilities, target.features, 1 - target.labels)
    assert score_pixels(target, train, val) == score_pixels(spoiled, train, val)


def test_density_ratios_are_relative_to_the_numbers_of_both_samples():
    """Where target and source look alike every weight is 1, however many pixels were drawn of each."""
    train, target, val = np.zeros((300, 2)), np.zeros((100, 2)), np.zeros((7, 2))
    losses = np.arange(7.0)
    assert deep_embedded_risk(train, target, val, losses) == pytest.approx(3.0, abs=0.02)
    assert deep_embedded_risk(target, train, val, losses) == pytest.approx(3.0, abs=0.02)


def test_the_risk_by_its_formula():
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    train, target, val = rng.normal(0, 1, (200, 1)), rng.normal(1, 1, (80, 1)), rng.normal(0, 1, (50, 1))
    losses = rng.random(50) + (val[:, 0] > 0)
    model = LogisticRegression(C=0.1, max_iter=500).fit(np.concatenate([train, target]), np.repeat([0, 1], [200, 80]))
    chance = model.predict_proba(val)[:, 1]
    weight = 200 / 80 * chance / (1 - chance)
    eta = -np.cov(weight * losses, weight)[0, 1] / weight.var(ddof=1)
    assert deep_embedded_risk(train, target, val, losses) == pytest.approx(
        (weight * losses).mean() + eta * (weight.mean() - 1)
    )


def test_scores_of_pixels_by_hand():
    sure, split = np.array([[1.0, 0.0], [0.0, 1.0]]), np.full((2, 2), 0.5)
    assert entropies(sure) == pytest.approx([0, 0], abs=1e-6) and entropies(split) == pytest.approx([np.log(2)] * 2)
    assert information(sure) == pytest.approx(np.log(2)) and information(split) == pytest.approx(0, abs=1e-9)
    source, correct = np.array([[0.0], [10.0]]), np.array([1.0, 0.0])
    assert nearest_source_accuracy(np.array([[1.0], [2.0], [9.0]]), source, correct) == pytest.approx(2 / 3)
    first, second = np.array([[0.0], [1.0]]), np.array([[0.0], [3.0]])
    both = np.concatenate([first, second])
    squared = (both - both.T) ** 2
    middle = np.median(squared[np.triu_indices(4, 1)])
    expected = 0.0
    for factor in (0.25, 1, 4):
        kernel = np.exp(-squared / (factor * middle))
        expected += (kernel[:2, :2].mean() + kernel[2:, 2:].mean() - 2 * kernel[:2, 2:].mean()) / 3
    assert squared_mmd(first, second) == pytest.approx(expected)
    unit = sure / np.linalg.norm(sure, axis=1, keepdims=True)
    assert neighbourhood_density(np.concatenate([unit, unit])) == pytest.approx(0, abs=1e-3), "one neighbour each"
    assert neighbourhood_density(np.tile(split, (2, 1))) == pytest.approx(np.log(3)), "three alike"
    assert neighbourhood_density(np.eye(2)) == pytest.approx(0), "one neighbour, however far; never itself"
