"""Several rotations as one study: what strategies are compared on, and what is counted as dropped."""

import numpy as np
import pandas as pd
import pytest

from stainda.evaluation import RotationRecords, analyse, as_records
from stainda.evaluation.insights import insights
from stainda.evaluation.selection import DEFAULT_RULE
from tests.evaluation.record_makers import counts_for, rows_of, study_config

ROTATIONS = {"PAS@A": ("SR@A", "PAS@B"), "PAS@B": ("SR@A", "PAS@A")}
CONFIG = study_config(strategies=("source_only", "dann"), protocol={"sources": ["PAS@*"], "scheme": "all_pairs"})


def rotation(source: str, *, seed: int, empty: str = "", base: float = 0.7, other: float = 0.7) -> RotationRecords:
    """Two trainings of two strategies; the domain ``empty`` has no object, ``dann`` finds none."""
    rows = []
    for training in (seed, seed + 1):
        for strategy, dice in (("source_only", base), ("dann", other)):
            for number in range(6):
                patient = f"p{number}"
                for domain in ROTATIONS[source]:
                    there = counts_for(dice + 0.01 * number)
                    nothing = (0.0, 5.0, 0.0) if strategy == "source_only" else (0.0, 0.0, 0.0)
                    counts = nothing if domain == empty else there
                    rows += rows_of(strategy, domain, patient, counts, seed=training)
            rows += rows_of(strategy, source, "v", counts_for(0.9), split="val", seed=training)
    return RotationRecords(source, source, (source,), ROTATIONS[source], as_records(pd.DataFrame(rows)))


def overall(table: pd.DataFrame) -> pd.Series:
    rows = table[(table["domain"] == "all targets") & (table["measure"] == "dice") & (table["strategy"] == "dann")]
    return rows[rows["selection"] == DEFAULT_RULE].iloc[0]


@pytest.mark.parametrize("empty", [("", "SR@A"), ("SR@A", "SR@A"), ("PAS@B", "SR@A")])
def test_strategies_are_compared_on_the_domains_that_both_have_in_each_rotation(empty):
    """A section without objects once gave the strategy that found nothing there a gain of its easier domains."""
    parts = [rotation("PAS@A", seed=0, empty=empty[0]), rotation("PAS@B", seed=100, empty=empty[1])]
    found = analyse(parts, CONFIG)
    row = overall(found.differences)
    assert row["difference"] == pytest.approx(0.0, abs=1e-12) and row["n_patients"] == 6
    dropped = 6 * sum(map(bool, empty))
    assert f"{dropped} of 24 scores of a patient in a domain dropped" in row["note"]
    assert f"over {24 - dropped} of 24 scores" in overall(found.results)["note"]
    effect = insights(found, CONFIG).effects.iloc[0]
    assert effect["share_higher"] == 0.5 and effect["p_better"] == pytest.approx(effect["p_worse"])


def test_where_no_score_is_missing_a_patient_has_its_mean_over_rotations():
    parts = [rotation("PAS@A", seed=0, base=0.5, other=0.7), rotation("PAS@B", seed=100, base=0.6, other=0.7)]
    found = analyse(parts, CONFIG)
    row = overall(found.differences)
    assert row["difference"] == pytest.approx(0.15) and row["note"] == ""
    cube = found.cubes["dice"]
    both = cube.common([1, 0])
    assert both.strategies == ("dann", "source_only")
    assert np.array_equal(both.runs, cube.runs[[1, 0]], equal_nan=True)
    assert np.array_equal(both.values, cube.values[[1, 0]], equal_nan=True)


def test_a_strategy_that_lacks_a_rotation_is_compared_on_the_others():
    whole = rotation("PAS@A", seed=0, base=0.5, other=0.7)
    half = rotation("PAS@B", seed=100, base=0.6, other=0.9)
    lacking = RotationRecords(*(getattr(half, key) for key in ("name", "group", "sources", "tested")),
                              half.records[half.records["strategy"] == "source_only"])  # fmt: skip
    row = overall(analyse([whole, lacking], CONFIG).differences)
    assert row["difference"] == pytest.approx(0.2) and row["n_patients"] == 6
    assert "12 of 24 scores of a patient in a domain dropped" in row["note"]
