"""Whether validation was still rising, on curves whose truth is known."""

import numpy as np
import pytest

from stainda.evaluation.convergence import CONVERGED, NOTHING, RISING, SHORT, judge_curve, rising_sentence


@pytest.mark.parametrize("epochs", [8, 10, 20, 40])
@pytest.mark.parametrize("noise", [0.01, 0.05])
def test_noise_about_a_plateau_is_seldom_called_a_rise(epochs, noise):
    rng = np.random.default_rng(epochs)
    called = [judge_curve(0.7 + rng.normal(0, noise, epochs)).state == RISING for _ in range(600)]
    assert np.mean(called) <= 0.08


@pytest.mark.parametrize("epochs", [10, 20, 40])
def test_a_clear_slope_is_nearly_always_called_a_rise(epochs):
    rng = np.random.default_rng(epochs)
    called = [
        judge_curve(0.2 + 0.6 * np.arange(epochs) / epochs + rng.normal(0, 0.02, epochs)).state == RISING
        for _ in range(300)
    ]
    assert np.mean(called) >= 0.95


def test_exact_curves():
    line = np.arange(16) * 0.02
    assert judge_curve(line).rise == pytest.approx(4 * 0.02) and judge_curve(line).state == RISING
    assert judge_curve(line * 0.05).state == CONVERGED or judge_curve(line * 0.05).state == NOTHING  # 0.004: no matter
    assert judge_curve(1 - 0.5 ** np.arange(40)).state == CONVERGED
    assert judge_curve(line[::-1]).state == CONVERGED
    assert judge_curve([0.01] * 12).state == NOTHING
    assert judge_curve(line[:7]).state == SHORT


def test_the_sentence_names_strategies_once_and_counts_trainings():
    states = [("a", RISING), ("a", RISING), ("b", CONVERGED), ("c", SHORT)]
    assert "2 of 4 trainings (a)" in rising_sentence(states)
    assert rising_sentence(states[2:]) == ""
