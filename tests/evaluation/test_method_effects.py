"""A method that did nothing is distinguished from one that acted."""

import math

import numpy as np
import pandas as pd
import pytest

from stainda.evaluation.effect import distinguished, join_effects, judge_effect


def measured(ratios, accuracies=None, distances=None, patches=64):
    n = len(ratios)
    table = pd.DataFrame(
        {
            "step": range(1, n + 1),
            "gradient_ratio": ratios,
            "discriminator": "" if accuracies is None else "discriminator",
            "discriminator_accuracy": math.nan if accuracies is None else accuracies,
            "chance_accuracy": math.nan if accuracies is None else 0.5,
            "distance": math.nan if distances is None else distances,
        }
    )
    return table if patches is None else table.assign(patches=math.nan if accuracies is None else patches)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (measured([0.0, 0.009, 0.002, 0.001]), "never reached 1%"),
        (measured([0.0, 0.011, 0.002, 0.001]), ""),
        (measured([0.5] * 4, [0.5, 0.54, 0.52, 0.49]), "never better than chance"),
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
    one = one.assign(discriminator_loss=[9.0, 9.0, 0.8, 0.7], chance_loss=math.log(2))
    other = other.assign(discriminator="mask", discriminator_loss=[9.0, 9.0, 0.6, 0.4], chance_loss=math.log(2))
    found = judge_effect("three", pd.concat([one, other]))
    assert found.discriminator_accuracy == pytest.approx(0.85) and found.effective
    assert (found.discriminator_loss, found.chance_loss) == (pytest.approx(0.5), math.log(2))
    without = judge_effect("three", pd.concat([one, other]).drop(columns=["discriminator_loss", "chance_loss"]))
    assert math.isnan(without.discriminator_loss) and without.discriminator_accuracy == found.discriminator_accuracy
    (joined,) = join_effects([found, judge_effect("three", one)])
    assert joined.discriminator_loss == pytest.approx((0.5 + 0.75) / 2)


def trainings(accuracy, n, *, steps=12, side=8, domains=2, patches=True, seed=0):
    """Measurements of ``n`` trainings whose discriminator names a patch right with the probability ``accuracy``."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        right = rng.binomial(side, accuracy, size=(steps, domains)) / side
        judged = domains * side if patches else None
        table = measured([0.5] * steps, right.mean(axis=1), patches=judged)
        yield table.assign(chance_accuracy=1 / domains, discriminator="discriminator")


def share_distinguished(accuracy, n=200, **world):
    return sum(map(distinguished, trainings(accuracy, n, **world))) / n


@pytest.mark.parametrize("world", [{}, {"steps": 30}, {"side": 4}, {"domains": 5}, {"patches": False}])
def test_a_blind_discriminator_is_marked_in_nine_of_ten_trainings_and_one_that_is_not_in_few(world):
    assert share_distinguished(1 / world.get("domains", 2), **world) <= 0.1
    assert share_distinguished(0.70, **world) >= 0.95


def test_one_measurement_above_chance_shows_nothing():
    """The rule of before: the largest of twelve gains reaches .05 in nearly every training of a blind one."""
    gains = [float((t["discriminator_accuracy"] - 0.5).max()) for t in trainings(0.5, 200)]
    assert np.mean(np.array(gains) >= 0.05) > 0.95


def test_several_blind_discriminators_pass_no_more_often():
    sets = zip(*(trainings(0.5, 200, seed=seed) for seed in (1, 2, 3)), strict=True)
    joined = (pd.concat([t.assign(discriminator=f"d{i}") for i, t in enumerate(some)]) for some in sets)
    assert np.mean([distinguished(table) for table in joined]) <= 0.1


def test_one_that_was_deceived_in_the_end_distinguished_the_domains():
    table = measured([0.5] * 12, [0.9, 0.8, 0.7, 0.6] + [0.5] * 8, patches=16)
    assert judge_effect("dann", table).effective
    assert not judge_effect("dann", table.assign(discriminator_accuracy=0.5)).effective


def test_the_error_is_that_of_the_patches():
    """A gain of .1 in four measurements: z = .1 / √(.25 / 4 n), of which 1.96 is needed; hence 24 patches each."""
    flat = measured([0.5] * 8, [0.6] * 8)
    first = flat.assign(discriminator_accuracy=[0.6] * 4 + [0.5] * 4)
    last = flat.assign(discriminator_accuracy=[0.5] * 4 + [0.6] * 4)
    for table in (first, last):
        z = 0.1 / math.sqrt(0.25 / (4 * 24))
        assert z == pytest.approx(1.9596, abs=1e-3)
        assert distinguished(table.assign(patches=24.1)) and not distinguished(table.assign(patches=23.9))


def test_files_without_numbers_of_patches_are_read():
    """Student's t of the differences .1, .2, .3: .2 / (.1 / √3) = 3.46, of which p one-sided is .037."""
    three = measured([0.5] * 6, [0.5] * 3 + [0.6, 0.7, 0.8], patches=None)
    assert "patches" not in three
    assert not distinguished(three) and distinguished(three, level=0.0745) and not distinguished(three, level=0.073)
    assert distinguished(measured([0.5] * 6, [0.8] * 6, patches=None))
    assert not distinguished(measured([0.5], [0.8], patches=None)), "of one measurement the scatter is not known"
    old = measured([0.5] * 6, [0.6, 0.9, 0.98, 1.0, 1.0, 1.0], patches=None)
    assert "to the end" in judge_effect("dann", old).reason


def test_trainings_of_a_strategy_are_joined():
    acted, idle = judge_effect("a", measured([0.3] * 4)), judge_effect("a", measured([0.001] * 4))
    (both,) = join_effects([acted, idle])
    assert (both.jobs, both.not_effective, both.effective) == (2, 1, False) and both.largest_ratio == 0.3
    (mostly,) = join_effects([acted, acted, idle])
    assert mostly.effective and "1%" in mostly.reason


def test_nothing_measured_is_an_error():
    with pytest.raises(ValueError, match="nothing was measured"):
        judge_effect("a", measured([]))
