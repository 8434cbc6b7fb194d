"""A recorded study: the statistics say of its records to the digit what they said when it was recorded."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pandas as pd
import pytest

from stainda.evaluation import read_records

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def recorded():
    spec = importlib.util.spec_from_file_location("make_golden", GOLDEN / "make_golden.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def found(recorded):
    return recorded.tables(read_records(GOLDEN / "records.parquet"))


@pytest.mark.parametrize("name", ["results", "differences", "gaps", "effects", "variance", "ranks"])
def test_the_recorded_numbers_are_reproduced(found, name):
    written = pd.read_csv(GOLDEN / f"{name}.csv", keep_default_na=False, na_values=[""])
    table = found[name].reset_index(drop=True)
    assert list(written.columns) == list(table.columns) and len(written) == len(table) > 0
    for column in written.columns:
        if table[column].dtype == object:
            assert written[column].fillna("").astype(str).tolist() == table[column].fillna("").astype(str).tolist()
        else:
            pd.testing.assert_series_equal(
                written[column], table[column], check_dtype=False, rtol=1e-8, atol=1e-10, check_names=False
            )


def test_the_recorded_study_is_small_and_its_scores_are_what_a_hand_finds(found):
    assert sum(path.stat().st_size for path in GOLDEN.glob("*.*")) < 200_000
    records = read_records(GOLDEN / "records.parquet")
    mine = records[(records["strategy"] == "oracle") & (records["domain"] == "SR@A") & (records["split"] == "test")]
    mine = mine[mine["measure"] == "dice"]
    dice = 2 * mine["tp"] / (2 * mine["tp"] + mine["fp"] + mine["fn"])
    rows = found["results"]
    rows = rows[(rows["strategy"] == "oracle") & (rows["domain"] == "SR@A") & (rows["measure"] == "dice")]
    row = rows[rows["selection"] == "source_validation"].iloc[0]
    assert row["mean"] == pytest.approx(dice.groupby(mine["patient"]).mean().mean())
    assert row["n_patients"] == 5 and row["n_seeds"] == 2
