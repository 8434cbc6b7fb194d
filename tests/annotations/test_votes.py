"""Majority, weighted votes, STAPLE and agreement, against analytic answers, SimpleITK and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from stainda.annotations import votes

SENSITIVITY, SPECIFICITY = np.array([0.95, 0.8, 0.7, 0.6]), np.array([0.9, 0.97, 0.85, 0.99])


def simulated(n=60_000, share=0.3, seed=3):
    """Votes (4, n) of annotators of known sensitivity and specificity, and the truth (n,)."""
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < share
    drawn = np.where(truth, rng.random((4, n)) < SENSITIVITY[:, None], rng.random((4, n)) > SPECIFICITY[:, None])
    return drawn.astype(np.int8), truth


def test_majority_counts_those_who_spoke():
    patterns = np.array([[1, 1, 0], [1, 0, -1], [0, 0, 1], [-1, -1, -1], [1, -1, -1]], np.int8)
    assert votes.share_of_yes(patterns) == pytest.approx([2 / 3, 1 / 2, 1 / 3, 0, 1])


def test_weighted_vote_is_decided_by_the_sign_of_the_sum_of_signed_reliabilities():
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 2, (200, 5)).astype(np.int8)
    weights = rng.random(5)
    signed = np.where(patterns == 1, 1, -1) @ weights
    share = votes.share_of_yes(patterns, weights)
    assert np.array_equal(share > 0.5, signed > 0)
    assert 2 * share - 1 == pytest.approx(signed / weights.sum())
    assert votes.reliability(0.8, 0.6) == pytest.approx(0.35 * 0.8 + 0.65 * 0.6)


def test_staple_finds_the_annotators_it_was_made_from():
    drawn, truth = simulated()
    patterns, counts, which = votes.table_of_patterns(drawn)
    found = votes.staple(patterns, counts)
    assert found.converged
    assert found.sensitivity == pytest.approx(SENSITIVITY, abs=0.015)
    assert found.specificity == pytest.approx(SPECIFICITY, abs=0.015)
    right = ((found.probability[which] > 0.5) == truth).mean()
    assert right > ((votes.share_of_yes(patterns)[which] > 0.5) == truth).mean() + 0.01
    # probabilities mean what they say: of places said to be 80 to 95 % sure, so many are true
    sure = (found.probability > 0.8) & (found.probability < 0.97)
    assert truth[sure[which]].mean() == pytest.approx(found.probability[which][sure[which]].mean(), abs=0.03)


@pytest.mark.parametrize("seed", [1, 2])
def test_staple_is_what_simpleitk_finds(seed):
    sitk = pytest.importorskip("SimpleITK")
    drawn, _ = simulated(6000, 0.2, seed)
    image_filter = sitk.STAPLEImageFilter()
    image_filter.SetForegroundValue(1.0)
    image_filter.SetMaximumIterations(5000)
    images = [sitk.GetImageFromArray(one.reshape(60, 100).astype(np.uint8)) for one in drawn]
    probability = sitk.GetArrayFromImage(image_filter.Execute(images)).ravel()
    patterns, counts, which = votes.table_of_patterns(drawn)
    found = votes.staple(patterns, counts)
    # ITK ends when single precision changes no more
    assert found.sensitivity == pytest.approx(image_filter.GetSensitivity(), abs=2e-4)
    assert found.specificity == pytest.approx(image_filter.GetSpecificity(), abs=2e-4)
    assert found.probability[which] == pytest.approx(probability, abs=2e-3)


def test_an_annotator_who_draws_nothing_or_everything_is_seen_through():
    drawn, truth = simulated()
    drawn = np.concatenate([drawn, np.zeros((1, drawn.shape[1]), np.int8), np.ones((1, drawn.shape[1]), np.int8)])
    patterns, counts, which = votes.table_of_patterns(drawn)
    found = votes.staple(patterns, counts)
    assert found.sensitivity[4:] == pytest.approx([0, 1], abs=1e-6)
    assert found.specificity[4:] == pytest.approx([1, 0], abs=1e-6)
    assert found.sensitivity[:4] == pytest.approx(SENSITIVITY, abs=0.03), "the fixed prior (mean vote) is a little off"
    assert ((found.probability[which] > 0.5) == truth).mean() > 0.93


def test_abstentions_neither_help_nor_hurt_who_abstains():
    drawn, _ = simulated()
    silent = np.random.default_rng(9).random(drawn.shape[1]) < 0.5
    drawn[1, silent] = votes.SILENT
    patterns, counts, _ = votes.table_of_patterns(drawn)
    found = votes.staple(patterns, counts)
    assert found.sensitivity == pytest.approx(SENSITIVITY, abs=0.02)
    assert found.specificity == pytest.approx(SPECIFICITY, abs=0.02)


def test_where_all_say_the_same_there_is_nothing_to_learn():
    found = votes.staple(np.zeros((1, 3), np.int8), np.array([10.0]))
    assert found.probability.tolist() == [0]
    assert np.isnan(found.sensitivity).all() and found.specificity.tolist() == [1, 1, 1]


def test_patterns_of_many_annotators_are_told_apart():
    rng = np.random.default_rng(5)
    drawn = rng.integers(-1, 2, (70, 500)).astype(np.int8)
    drawn[:, 250:] = drawn[:, :250]
    drawn[69, 250:260] = np.where(drawn[69, 250:260] == 1, 0, 1)  # the last vote alone differs
    patterns, counts, which = votes.table_of_patterns(drawn)
    assert np.array_equal(patterns[which], drawn.T)
    assert len(patterns) == len(np.unique(drawn.T, axis=0)) == 260
    assert counts.sum() == 500


def test_kappas_are_the_textbook_ones():
    from sklearn.metrics import cohen_kappa_score

    drawn, _ = simulated(3000)
    patterns, counts, _ = votes.table_of_patterns(drawn)
    assert votes.cohen_kappa(patterns, counts, 0, 2) == pytest.approx(cohen_kappa_score(drawn[0], drawn[2]))
    # four places, three annotators: yes 3, 0, 2, 1 times; agreement (1 + 1 + 1/3 + 1/3) / 4, by chance 1/2
    four = np.array([[1, 1, 1], [0, 0, 0], [1, 1, 0], [0, 0, 1]], np.int8)
    assert votes.fleiss_kappa(four, np.ones(4)) == pytest.approx(1 / 3)
    assert np.isnan(votes.fleiss_kappa(np.zeros((1, 3), np.int8), np.ones(1)))


def test_reliability_among_peers_is_the_mean_dice_with_the_others():
    patterns = np.array([[1, 1, 1], [1, 1, 0], [0, 0, 1], [0, 0, 0]], np.int8)
    amounts = np.array([10.0, 5.0, 5.0, 100.0])
    # the first two drew the same 15; the third 15, 10 of it the same
    assert votes.reliability_among_peers(patterns, amounts) == pytest.approx([5 / 6, 5 / 6, 2 / 3])
