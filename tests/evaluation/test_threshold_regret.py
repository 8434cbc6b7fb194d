"""What the threshold lost: from counts of probabilities, against the pixels themselves."""

import numpy as np
import pandas as pd
import pytest

from stainda.evaluation import make_records, probability_rows, score_slide
from stainda.evaluation.metrics import labels_from_probabilities
from stainda.evaluation.threshold_regret import threshold_regret

CLASSES = ("one", "two")


def slide(seed: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (2, 40, 40), whose best threshold is far from the middle, and labels with some ignored."""
    rng = np.random.default_rng(seed)
    truth = rng.choice([0, 0, 0, 1, 2], (40, 40)).astype(np.uint8)
    logits = np.stack([(truth == k) * 3.0 - 1.5 + shift + rng.normal(0, 1, truth.shape) for k in (1, 2)])
    raw = 1 / (1 + np.exp(-logits))
    shares = raw / np.maximum(1.0, raw.sum(axis=0) * 1.01)
    truth[:3] = 255
    return shares, truth


def tables(slides: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]], threshold: float):
    pixels, records = [], []
    for (domain, patient), (shares, truth) in slides.items():
        place = {
            "study": "s", "strategy": "plain", "seed": 1, "job": "j", "stain": "PAS", "centre": "A", "domain": domain,
            "patient": patient, "slide": f"{domain}{patient}", "split": "test", "checkpoint": "best", "trial": 0,
        }  # fmt: skip
        tissue = np.zeros(truth.shape, bool)
        tissue[20:] = True  # glass is scored by Dice, and not by calibration
        pixels += probability_rows(shares, truth, CLASSES, place, tissue, threshold)
        records.append(make_records(score_slide(shares, truth, CLASSES, threshold=threshold, tissue=tissue), **place))
    return pd.DataFrame(pixels), pd.concat(records, ignore_index=True)


def dice(shares: np.ndarray, truth: np.ndarray, label: int, threshold: float) -> float:
    """Of the first of two classes, the threshold of the second being 0.5."""
    called, used = labels_from_probabilities(shares, (threshold, 0.5)) == label, truth != 255
    hits = (called & (truth == label) & used).sum()
    return float(2 * hits / ((called & used).sum() + ((truth == label) & used).sum()))


@pytest.mark.parametrize("shift", [-1.5, 0.8])
def test_the_best_threshold_of_a_domain_is_that_of_trying_them_all_on_the_pixels(shift):
    slides = {("B", name): slide(seed, shift) for seed, name in enumerate("pqr")}
    slides[("C", "p")] = slide(9, 0.0)
    found = threshold_regret(*tables(slides, 0.5))
    row = found.trainings.set_index(["domain", "class"]).loc[("B", "one")]
    people = [slide for (domain, _), slide in slides.items() if domain == "B"]
    tried = {at: [dice(*one, 1, at) for one in people] for at in np.round(np.arange(0.05, 1, 0.05), 2)}
    best = max(tried, key=lambda at: np.mean(tried[at]))
    gained = np.subtract(tried[best], tried[0.5])
    assert row["best_threshold"] == pytest.approx(best) and row["threshold"] == 0.5
    assert row["dice"] == pytest.approx(np.mean(tried[0.5])) and row["best_dice"] == pytest.approx(np.mean(tried[best]))
    assert row["lost"] == pytest.approx(gained.mean()) and row["lost"] > 0
    assert (row["lost_low"], row["lost_high"]) == pytest.approx((gained.min(), gained.max()))
    assert row["n_patients"] == 3


def test_validation_slides_are_no_part_of_what_was_lost():
    slides = {("B", name): slide(seed, -1.5) for seed, name in enumerate("pqr")}
    pixels, records = tables(slides, 0.5)
    others, their_records = tables({("B", "v"): slide(7, 2.0), ("B", "p"): slide(8, 2.0)}, 0.5)
    with_them = threshold_regret(
        pd.concat([pixels, others.assign(split="val")]), pd.concat([records, their_records.assign(split="val")])
    )
    pd.testing.assert_frame_equal(with_them.trainings, threshold_regret(pixels, records).trainings)


def test_a_threshold_between_those_tried_can_be_the_best_and_loses_nothing():
    shares = np.full((2, 20, 20), 0.01)
    truth = np.zeros((20, 20), np.uint8)
    truth[:5], shares[0, :5], shares[0, 5:] = 1, 0.573, 0.571
    found = threshold_regret(*tables({("B", "p"): (shares, truth)}, 0.572)).trainings
    row = found.set_index("class").loc["one"]
    assert row["lost"] == 0 and row["best_threshold"] == 0.572 and row["dice"] == 1


def test_tables_of_an_earlier_version_say_nothing():
    pixels, records = tables({("B", "p"): slide(0, 0.0)}, 0.5)
    assert threshold_regret(pixels.drop(columns=["own", "other"]), records).trainings.empty


@pytest.mark.parametrize(("limits", "least"), [((0.9, 0.5), 0.4), ((0.5, 0.35), 0.4), ((0.6, 0.6), 0.3)])
def test_of_several_classes_the_best_threshold_is_that_of_trying_them_all_with_the_others_in_use(limits, least):
    """A pixel whose most probable class misses its own threshold may be called the second one."""
    rng = np.random.default_rng(7)
    truth = np.zeros((40, 40), np.uint8)
    truth[:20], truth[20:30] = 2, 1
    shares = rng.uniform(0.01, 0.1, (2, 40, 40))
    shares[0, :20], shares[1, :20] = rng.uniform(0.42, 0.58, (20, 40)), rng.uniform(least, 0.42, (20, 40))
    shares[0, 20:30] = rng.uniform(0.4, 0.99, (10, 40))
    where = {"strategy": "s", "trial": 0, "seed": 1, "job": "j", "checkpoint": "best", "stain": "PAS", "centre": "A",
             "domain": "PAS@A", "patient": "p", "slide": "p_PAS", "split": "test", "study": "x"}  # fmt: skip
    rows = pd.DataFrame(probability_rows(shares, truth, ("a", "b"), where, None, limits))
    records = make_records([one for one in score_slide(shares, truth, ("a", "b"), threshold=limits)], **where)
    found = threshold_regret(rows, records).trainings.set_index("class")
    for index, name in enumerate(("a", "b")):
        tried = []
        for limit in np.arange(1, 20) / 20:
            own = [limit if at == index else other for at, other in enumerate(limits)]
            scores = score_slide(shares, truth, ("a", "b"), threshold=own)
            tried.append(next(one.value for one in scores if one.measure == "dice" and one.cls == name))
        assert found.loc[name, "best_dice"] == pytest.approx(max(max(tried), found.loc[name, "dice"]))
