"""Scores of domains and of all targets together: which patients count, and which domains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stainda.cohort import Cohort, Roles, Section
from stainda.config import EvaluationConfig
from stainda.config.slide_level import SlideLevelConfig
from stainda.slide_level.scoring import ALL_TARGETS, Scoring
from stainda.slide_level.trainings import Answers

ROLES = Roles(("PAS@A",), ("PAS@B", "SR@B"))


def section(patient, stain, centre, split="test"):
    """Patients with an odd number are positive."""
    label = "bad" if int(patient[1:]) % 2 else "good"
    return Section(f"{patient}_{stain}", patient, patient, 1, stain, centre, Path("x"), split=split, group=label)


def patients(letter, number, stain, centre, split="test"):
    return [section(f"{letter}{k}", stain, centre, split) for k in range(number)]


def summary(sections, aggregators=("mean", "max"), trainings=3, seed=0):
    """Rows of AUROC by aggregator and domain; answers are a label plus noise."""
    cohort = Cohort((*sections, *patients("V", 4, "PAS", "A", "val")))
    config = SlideLevelConfig.model_validate(
        {"positive": ["bad"], "encoder": {"name": "cnn"}, "patches": {"size": 32, "downsample": 1}, "maps": False,
         "aggregators": list(aggregators)}
    )  # fmt: skip
    generator = np.random.default_rng(seed)
    answers = [
        Answers(name, seed, "job", 1, 0.0, 0.0, 0.0, 1, {
            row.slide: float(generator.normal() + (row.group == "bad")) for row in cohort
        }, {})
        for name in aggregators for seed in range(trainings)
    ]  # fmt: skip
    scoring = Scoring(config, cohort, ROLES, {row.slide: 5 for row in cohort}, EvaluationConfig(resamples=300))
    return pd.DataFrame(scoring.summary_rows(answers, 1)).set_index(["measure", "aggregator", "domain"])


def test_source_patients_are_none_of_the_targets():
    targets = [*patients("T", 6, "PAS", "B"), *patients("T", 6, "SR", "B")]
    rows = summary([*patients("S", 20, "PAS", "A"), *targets])
    row = rows.loc["auroc", "mean", ALL_TARGETS]
    assert (row["positive"], row["negative"]) == (3, 3), "every patient of the targets once, none of the source"
    assert pd.isna(row["low"]) and "3 positive and 3 negative patients: no interval" in row["note"]
    more = summary([*patients("S", 20, "PAS", "A"), *patients("T", 12, "PAS", "B"), *patients("T", 6, "SR", "B")])
    row = more.loc["auroc", "mean", ALL_TARGETS]
    assert (row["positive"], row["negative"]) == (6, 6) and row["low"] < row["mean"] < row["high"]


def test_a_target_with_one_label_is_left_out_of_the_mean_and_named():
    sections = [*patients("T", 14, "PAS", "B"), *patients("T", 14, "SR", "B")[1::2]]
    rows = summary(sections)
    for measure in ("auroc", "average_precision", "balanced_accuracy"):
        for name in ("mean", "max"):
            together, alone = rows.loc[measure, name, ALL_TARGETS], rows.loc[measure, name, "PAS@B"]
            given = ["mean", "low", "high", "positive", "negative"]
            assert together[given].tolist() == alone[given].tolist() and not pd.isna(together["low"])
            assert together["note"] == "without SR@B: all test patients have one label there"
    alone = rows.loc["auroc", "mean", "SR@B"]
    assert pd.isna(alone["mean"]) and "7 positive and 0 negative patients: no interval" in alone["note"]
    both = summary([*patients("T", 14, "PAS", "B"), *patients("T", 14, "SR", "B")])
    assert both.loc["auroc", "mean", ALL_TARGETS]["note"] == ""


@pytest.mark.parametrize(("trainings", "tested"), [(1, False), (2, False), (3, True)])
def test_differences_are_tested_from_three_trainings_on(trainings, tested):
    rows = summary([*patients("T", 16, "PAS", "B"), *patients("T", 16, "SR", "B")], trainings=trainings)
    for domain in ("PAS@B", "SR@B", ALL_TARGETS):
        first, other = rows.loc["auroc", "mean", domain], rows.loc["auroc", "max", domain]
        assert first["difference_note"] == "" and pd.isna(first["p"]) and pd.isna(first["difference"])
        assert other["difference"] == pytest.approx(other["mean"] - first["mean"], abs=2e-4)
        assert pd.notna(other["p"]) == tested and (other["difference_note"] == "") == tested
        assert pd.notna(other["difference_low"]) == (trainings > 1)
        if tested:
            low, high = other["difference_low"], other["difference_high"]
            assert (other["p"] < 0.05) == (low > 0 or high < 0)
