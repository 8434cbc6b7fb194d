"""AUROC, average precision and balanced accuracy: known answers, and what their intervals are over."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from stainda.evaluation.two_class import (
    CrossedBootstrap,
    Trained,
    Units,
    auroc,
    average_precision,
    balanced_accuracy,
    interval,
)


@pytest.fixture
def sample():
    generator = np.random.default_rng(3)
    labels = generator.random(40) < 0.4
    return np.round(generator.normal(size=40) + labels, 1), labels, generator.integers(0, 4, (5, 40)).astype(float)


def test_scores_are_those_of_scikit_learn_under_any_weights(sample):
    scores, labels, weights = sample
    for row in range(len(weights)):
        given = {"sample_weight": weights[row]}
        assert auroc(scores, labels, weights)[row] == pytest.approx(metrics.roc_auc_score(labels, scores, **given))
        precision = metrics.average_precision_score(labels, scores, **given)
        assert average_precision(scores, labels, weights)[row] == pytest.approx(precision)
        accuracy = metrics.balanced_accuracy_score(labels, scores >= 0.5, **given)
        assert balanced_accuracy(scores >= 0.5, labels, weights)[row] == pytest.approx(accuracy)


def test_of_one_label_only_there_is_no_score():
    ones = np.ones((1, 3))
    assert np.isnan(auroc(np.arange(3.0), np.array([True] * 3), ones)[0])
    assert np.isnan(balanced_accuracy(np.array([True] * 3), np.array([False] * 3), ones)[0])


def _bootstrap(units, seed=1):
    return CrossedBootstrap(units, 2000, np.random.default_rng(seed))


def test_slides_of_one_patient_are_no_more_evidence_than_one():
    generator = np.random.default_rng(0)
    labels, scores = np.arange(20) % 2 == 0, generator.normal(size=20) + (np.arange(20) % 2 == 0)
    names = [f"P{k}" for k in range(20)]
    once = Units(names, labels, ["B"] * 20)
    copies = Units(names * 5, np.tile(labels, 5), ["B"] * 100)
    widths = []
    for units, given in ((once, scores), (copies, np.tile(scores, 5))):
        score = _bootstrap(units).score("auroc", Trained(given[None], np.array([0.5])), "B")
        low, high, note = interval(score.draws, (10, 10), 0.95)
        widths.append(high - low)
        assert not note and low < score.mean < high
    assert widths[1] == pytest.approx(widths[0], rel=0.02)


def test_trainings_that_differ_widen_the_interval():
    generator = np.random.default_rng(0)
    labels = np.arange(30) % 2 == 0
    units = Units([f"P{k}" for k in range(30)], labels, ["B"] * 30)
    same = np.tile(generator.normal(size=30) + 3 * labels, (4, 1))
    apart = np.stack([same[0], same[0], -same[0], -same[0]])
    spreads = [
        _bootstrap(units).score("auroc", Trained(runs, np.full(4, 0.5)), "B").draws.std() for runs in (same, apart)
    ]
    assert spreads[1] > 1.5 * spreads[0]


def test_paired_methods_share_their_patients():
    generator = np.random.default_rng(0)
    labels = np.arange(30) % 2 == 0
    units = Units([f"P{k}" for k in range(30)], labels, ["B"] * 30)
    bootstrap = _bootstrap(units)
    scores = generator.normal(size=30) + labels
    first = bootstrap.score("auroc", Trained(scores[None], np.array([0.5])), "B")
    second = bootstrap.score("auroc", Trained(scores[None] * 2 + 1, np.array([0.5])), "B")
    assert np.abs(first.draws - second.draws).max() < 1e-12, "the same order of patients, the same score in each draw"


def test_few_patients_of_a_label_get_no_interval():
    low, high, note = interval(np.linspace(0, 1, 100), (2, 30), 0.95)
    assert np.isnan(low) and np.isnan(high) and "2 positive and 30 negative" in note


def test_a_perfect_ranking_gets_no_interval_without_width():
    low, high, note = interval(np.ones(100), (12, 12), 0.95)
    assert np.isnan(low) and np.isnan(high) and "every resample gives the same" in note
    assert np.isnan(interval(np.linspace(0, 1, 100), (5, 30), 0.95)[0])


def test_resamples_without_a_score_are_the_reason_given():
    low, high, note = interval(np.full(100, np.nan), (17, 17), 0.95)
    assert np.isnan(low) and np.isnan(high) and note == "no resample has a score: no interval"
