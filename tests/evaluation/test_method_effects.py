"""A method that did nothing is distinguished from one that acted."""

import math

import pandas as pd
import pytest

from stainda.evaluation.effect import join_effects, judge_effect


def measured(ratios, accuracies=None, distances=None):
    n = len(ratios)
    return pd.DataFrame(
        {
            "step": range(1, n + 1),
            "gradient_ratio": ratios,
            "discriminator": "" if accuracies is None else "discriminator",
            "discriminator_accuracy": math.nan if accuracies is None else accuracies,
            "chance_accuracy": math.nan if accuracies is None else 0.5,
            "distance": math.nan if distances is None else distances,
        }
    )


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (measured([0.0, 0.009, 0.002, 0.001]), "never reached 1%"),
        (measured([0.0, 0.011, 0.002, 0.001]), ""),
        (measured([0.5] * 4, [0.5, 0.54, 0.52, 0.49]), "never distinguished"),
        (measured([0.5] * 4, [0.7, 0.6, 0.5, 0.5]), ""),
        (measured([0.5] * 4, [0.6, 0.9, 0.98, 1.0]), "to the end"),
        (measured([0.5] * 4, [1.0, 1.0, 1.0, 0.9]), ""),
        (measured([math.nan] * 2), "never reached"),
    ],
)
def test_a_method_that_did_not_act_is_named_with_its_reason(table, reason):
    found = judge_effect("dann", table)
    assert (reason in found.reason) and bool(found.reason) == bool(reason) and found.effective == (not reason)


def test_numbers_are_of_the_second_half():
    found = judge_effect("mmd", measured([9.0, 9.0, 0.1, 0.2, 0.4], distances=[3.0, 2.0, math.nan, 1.5, 1.0]))
    assert found.gradient_ratio == pytest.approx(0.2) and found.largest_ratio == 9.0
    assert (found.distance_first, found.distance_last) == (3.0, 1.0) and math.isnan(found.discriminator_accuracy)


def test_of_several_discriminators_the_best_is_told():
    one, other = measured([0.5] * 4, [0.5] * 4), measured([0.5] * 4, [0.7, 0.7, 0.8, 0.9])
    found = judge_effect("three", pd.concat([one, other.assign(discriminator="mask")]))
    assert found.discriminator_accuracy == pytest.approx(0.85) and found.effective


def test_trainings_of_a_strategy_are_joined():
    acted, idle = judge_effect("a", measured([0.3] * 4)), judge_effect("a", measured([0.001] * 4))
    (both,) = join_effects([acted, idle])
    assert (both.jobs, both.not_effective, both.effective) == (2, 1, True) and both.largest_ratio == 0.3
    (mostly,) = join_effects([acted, idle, idle])
    assert not mostly.effective and "1%" in mostly.reason


def test_nothing_measured_is_an_error():
    with pytest.raises(ValueError, match="nothing was measured"):
        judge_effect("a", measured([]))
