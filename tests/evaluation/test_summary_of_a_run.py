"""The table of a run that results commit: README's sentences about differences can be checked with it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path += [str(Path(__file__).parents[2] / "benchmarks"), str(Path(__file__).parents[1] / "report")]
from make_run import make_run
from study_summary import COLUMNS, summary

from stainda.evaluation import analyse, holm, one_rotation, read_records
from stainda.evaluation.selection import DEFAULT_RULE
from stainda.report.loading import load_run
from stainda.run_directory.folder import read_study
from stainda.run_directory.result_tables import RECORDS


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(
        tmp_path_factory.mktemp("summary") / "run", stains=("PAS", "SR"), test_patients=8, seeds=2,
        strategies=("source_only", "dann", "reinhard", "oracle"),
    )  # fmt: skip


def test_differences_are_those_of_the_page_with_interval_and_p(run):
    table, study = summary(run), read_study(run)
    assert list(table.columns) == [name for name in COLUMNS if name != "class"]
    loaded = load_run(run)
    page = analyse([one_rotation(read_records(RECORDS.at(run)), study, loaded.trials)], study).differences
    page = page[(page["measure"] == "dice") & (page["selection"] == DEFAULT_RULE) & (page["domain"] == "all targets")]
    rows = table[(table["stain"] == "*") & (table["role"] == "target")].set_index("strategy")
    assert set(page["strategy"]) == {"dann", "reinhard", "oracle"}
    for row in page.itertuples():
        shown = rows.loc[row.strategy]
        assert shown["difference_kind"] == "interval"
        assert (shown["difference"], shown["difference_low"]) == pytest.approx((row.difference, row.low), abs=6e-5)
        assert (shown["difference_high"], shown["p"]) == pytest.approx((row.high, row.p), abs=6e-5)
    mine = rows.loc[["dann", "reinhard"]]
    assert mine["p_holm"].tolist() == pytest.approx(holm(mine["p"].to_numpy()), abs=2e-6), "the ceiling is no member"
    assert rows.loc["oracle", "p_holm"] != rows.loc["oracle", "p_holm"]


def test_a_difference_is_that_of_the_means_where_no_score_is_missing(run):
    rows = summary(run)
    rows = rows[(rows["stain"] == "*") & (rows["role"] == "target")].set_index("strategy")
    assert rows.loc["source_only", ["difference", "p", "difference_kind"]].isna().all()
    gains = rows["dice"] - rows.loc["source_only", "dice"]
    for name in ("dann", "reinhard", "oracle"):
        assert rows.loc[name, "difference"] == pytest.approx(gains[name], abs=2e-4)
        assert rows.loc[name, "difference_low"] < gains[name] < rows.loc[name, "difference_high"]
