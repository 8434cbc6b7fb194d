"""Losses and thresholds against closed forms."""

import math

import numpy as np
import pytest
import torch

from stainda.training.losses import LOSSES, cross_entropy, dice, focal, hinge
from stainda.training.validation import count_probabilities, score_counts


def _two_discs(shift):
    """Logits that are sure of one disc, labels of another of the same radius, ``shift`` pixels apart."""
    y, x = np.mgrid[:400, :400]
    discs = [(x - cx) ** 2 + (y - 200) ** 2 < 80**2 for cx in (200 - shift / 2, 200 + shift / 2)]
    logits = torch.tensor(np.where(discs[0], 40.0, -40.0), dtype=torch.float32)
    return torch.stack([-logits, logits])[None], torch.tensor(discs[1].astype(np.int64))[None]


@pytest.mark.parametrize("shift", [0, 40, 80])
def test_dice_of_two_shifted_discs(shift):
    share = shift / 160  # of the diameter
    expected = (2 / math.pi) * (math.acos(share) - share * math.sqrt(1 - share**2))
    assert 1 - float(dice(*_two_discs(shift))) == pytest.approx(expected, abs=5e-3)


def test_cross_entropy_and_focal_of_a_known_probability():
    p = 0.8
    logits = torch.tensor([0.0, math.log(p / (1 - p))]).view(1, 2, 1, 1).expand(1, 2, 3, 3)
    labels = torch.ones(1, 3, 3, dtype=torch.long)
    assert float(cross_entropy(logits, labels)) == pytest.approx(-math.log(p), rel=1e-5)
    assert float(focal(logits, labels)) == pytest.approx(-((1 - p) ** 2) * math.log(p), rel=1e-5)


def test_a_linear_layer_under_the_hinge_is_the_support_vector_machine_of_scikit_learn():
    from sklearn.svm import LinearSVC

    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 60)
    vectors = generator.normal(size=(60, 4)) + 0.7 * np.eye(3, 4)[labels]
    theirs = LinearSVC(C=0.5, fit_intercept=False, tol=1e-8, max_iter=100_000).fit(vectors, labels).coef_
    inputs, truth = torch.tensor(vectors), torch.tensor(labels)
    ours = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([ours], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def objective():
        optimiser.zero_grad()
        loss = 0.5 * ours.square().sum() + 0.5 * len(labels) * hinge(inputs @ ours.T, truth).double()
        loss.backward()
        return loss

    optimiser.step(objective)
    np.testing.assert_allclose(ours.detach().numpy(), theirs, atol=2e-3)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_ignored_pixels_count_neither_way(name):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 8, 8, generator=generator)
    labels = torch.randint(0, 3, (2, 8, 8), generator=generator)
    labels[:, :, 4:] = 255
    other = logits.clone()
    other[..., 4:] = 9.0
    assert float(LOSSES[name](logits, labels)) == pytest.approx(float(LOSSES[name](other, labels)), rel=1e-6)
    logits.requires_grad_()
    LOSSES[name](logits, labels).backward()
    assert logits.grad[..., 4:].abs().max() == 0 < logits.grad[..., :4].abs().max()
    everything = torch.full_like(labels, 255)
    assert torch.isfinite(LOSSES[name](logits, everything))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_right_answer_costs_less_than_a_wrong_one(name):
    labels = torch.zeros(1, 8, 8, dtype=torch.long)
    labels[:, 2:5, 2:5] = 1
    right = torch.stack([1.0 - labels, labels.float()], dim=1) * 6
    assert LOSSES[name](right, labels) < LOSSES[name](right * 0, labels) < LOSSES[name](-right, labels)


def test_the_threshold_is_where_pooled_dice_is_highest():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, (4, 30, 30)).astype(np.uint8)
    labels[:, :2] = 255
    shares = np.stack(
        [np.clip((labels == k) * 0.3 + generator.normal(0.3, 0.15, labels.shape), 0, 1) for k in (1, 2)], 1
    )
    found = score_counts({"p": count_probabilities(shares, labels)}, ("one", "two"), "pooled")
    known = labels != 255
    for index, name in enumerate(("one", "two")):
        truth = labels[known] == index + 1

        def brute(threshold, index=index, truth=truth):
            called = shares[:, index][known] >= threshold
            return 2 * (called & truth).sum() / (called.sum() + truth.sum())

        scores = {round(0.05 * step, 2): brute(round(0.05 * step, 2)) for step in range(1, 20)}
        assert found.dice[name] == pytest.approx(max(scores.values()), abs=2e-3)
        assert scores[found.thresholds[name]] == pytest.approx(max(scores.values()), abs=2e-3)
    assert found.score == pytest.approx(np.mean(list(found.dice.values())))


def test_a_class_that_does_not_occur_keeps_one_half_and_does_not_count():
    shares = np.full((1, 2, 4, 4), 0.9)
    labels = np.ones((1, 4, 4), np.uint8)
    found = score_counts({"p": count_probabilities(shares, labels)}, ("one", "two"), "pooled")
    assert found.thresholds["two"] == 0.5 and set(found.dice) == {"one"} and found.score == 1.0
