"""Choosing the probability threshold on few validation patients."""

import numpy as np
import pytest

from stainda.errors import ConfigError
from stainda.evaluation.thresholds import (
    GRID,
    choose_threshold,
    dice_at,
    dice_by_threshold,
    robust_threshold,
)


def counts_of(own: dict[int, int], other: dict[int, int]) -> np.ndarray:
    """Pixels of one patient, (2, 101), by their probability in hundredths."""
    counts = np.zeros((2, 101), np.int64)
    for truth, pixels in enumerate((other, own)):
        for place, number in pixels.items():
            counts[truth, place] = number
    return counts


def peaked(at: float, height: float = 0.9, slope: float = 2.0) -> np.ndarray:
    """Dice of a patient who is best served by one threshold and loses linearly away from it."""
    return height - slope * np.abs(GRID / 100 - at)


def test_dice_at_every_threshold_is_that_of_the_pixels_at_or_above_it():
    counts = counts_of(own={30: 10, 80: 30}, other={30: 20, 60: 10})
    dice = dict(zip(GRID.tolist(), dice_by_threshold(counts), strict=True))
    assert dice[5] == dice[30] == pytest.approx(2 * 40 / (70 + 40))
    assert dice[35] == dice[60] == pytest.approx(2 * 30 / (40 + 40))
    assert dice[65] == dice[80] == pytest.approx(2 * 30 / (30 + 40))
    assert dice[85] == 0
    assert dice_at(counts, 0.6) == pytest.approx(dice[60])
    assert dice_at(counts, 0.601) == pytest.approx(dice[65])  # 0.60 is below it
    assert np.isnan(dice_by_threshold(counts_of({}, {50: 3}))).all()


@pytest.mark.parametrize("patients", [1, 2, 6])
def test_the_prior_asks_for_a_gain_that_grows_with_the_distance_and_falls_with_the_patients(patients):
    far = 0.2  # 0.3 from the middle
    needed = 2.0 / patients * 0.3**2
    for gain, expected in ((needed + 0.01, far), (needed - 0.01, 0.5)):
        dice = np.full((patients, len(GRID)), 0.3)
        dice[:, GRID == 50] = 0.5
        dice[:, GRID == 20] = 0.5 + gain
        assert robust_threshold(dice) == expected


@pytest.mark.parametrize("rule", ["pooled", "robust"])
def test_of_equal_thresholds_the_one_nearest_one_half_is_taken(rule):
    perfect = counts_of(own={80: 10}, other={})  # every threshold up to 0.8 has a Dice of 1
    assert choose_threshold(perfect[None], rule) == 0.5
    assert choose_threshold(counts_of(own={40: 10}, other={})[None], "pooled") == 0.4


def test_one_patient_far_off_does_not_move_the_threshold_of_all():
    one_off = np.stack([peaked(0.1, slope=0.5), peaked(0.5), peaked(0.5)])
    assert robust_threshold(one_off) == 0.5
    assert robust_threshold(np.stack([peaked(0.2)] * 3)) < 0.3


def test_what_is_found_on_one_half_of_the_patients_has_to_help_the_other():
    """Two patients who need opposite thresholds: at that of the other each loses, so neither is believed."""
    first, second = peaked(0.2, 0.95, slope=2.5), peaked(0.7, 0.9, slope=1.0)
    mean_best = GRID[np.mean([first, second], axis=0).argmax()] / 100
    assert mean_best != 0.5  # pooled, one of them would win
    assert robust_threshold(np.stack([first, second])) == 0.5


def test_patients_count_equally_where_pixels_do_not():
    """A patient with many pixels decides over the pooled rule alone; by patient the others have their say."""
    big = counts_of(own={20: 10000}, other={10: 100})
    small = [counts_of(own={90: 100}, other={45: 80}) for _ in range(3)]
    counts = np.stack([big, *small])
    assert choose_threshold(counts, "pooled") <= 0.2
    assert choose_threshold(counts, "robust") == 0.5
    assert choose_threshold(counts, 0.37) == 0.37


def test_a_patient_without_the_class_has_no_say_and_none_at_all_leaves_one_half():
    empty = counts_of({}, {90: 50})
    one = counts_of(own={30: 100}, other={10: 100})
    assert choose_threshold(np.stack([one, empty]), "robust") == choose_threshold(one[None], "robust") < 0.5
    for rule in ("robust", "pooled"):
        assert choose_threshold(empty[None], rule) == 0.5
        assert choose_threshold(np.zeros((0, 2, 101), np.int64), rule) == 0.5


def test_on_noise_about_one_half_the_robust_rule_moves_less_than_the_pooled_one():
    """Calibration that varies by patient about 0.5: two of them are no reason to leave it."""
    generator = np.random.default_rng(0)
    own, pooled = [], []
    for _ in range(300):
        dice = np.stack([peaked(at, slope=0.6) for at in np.clip(generator.normal(0.5, 0.2, 2), 0.05, 0.95)])
        own.append(robust_threshold(dice))
        pooled.append(GRID[dice.mean(axis=0).argmax()] / 100)
    assert np.std(own) < 0.6 * np.std(pooled)


@pytest.mark.parametrize("value", ["robus", "0", 0, 1, 1.5, True])
def test_a_threshold_of_the_study_file_is_a_rule_or_a_probability(value):
    from stainda.config import EvaluationConfig
    from stainda.config.load import validated

    assert validated(EvaluationConfig, {"threshold": 0.4}, "a study").threshold == 0.4
    with pytest.raises(ConfigError, match="robust, pooled or a number between 0 and 1"):
        validated(EvaluationConfig, {"threshold": value}, "a study")
