"""Records: the contract holds on writing and on reading what others wrote."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from record_makers import counts_for, rows_of

from stainda.errors import RecordError
from stainda.evaluation import (
    RECORD_COLUMNS,
    as_records,
    empty_records,
    gather_records,
    make_records,
    read_records,
    score_slide,
    write_records,
)


def records() -> pd.DataFrame:
    return as_records(pd.DataFrame(rows_of("dann", "PAS@A", "p1", counts_for(0.8), (3, 1, 0))))


def test_scores_of_a_slide_survive_the_way_to_disk_and_back(tmp_path):
    truth = np.zeros((10, 10), np.uint8)
    truth[2:5, 2:5] = 1
    table = make_records(
        score_slide(truth, truth, ("glomerulus", "artery")), study="s", strategy="dann", trial=1, seed=2,
        checkpoint="best", job="abc", stain="PAS", centre="A", domain="PAS@A", patient="p", slide="p_PAS", split="test",
    )  # fmt: skip
    assert list(table.columns) == list(RECORD_COLUMNS)
    again = read_records(write_records(table, tmp_path / "deep" / "records.parquet"))
    pd.testing.assert_frame_equal(again, table)
    assert not list((tmp_path / "deep").glob(".*")), "nothing half-written is left"
    nothing = again[again["class"] == "artery"]
    assert nothing["value"].isna().all() and (nothing[["tp", "fp", "fn"]] == 0).all(axis=None)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.drop(columns=["tp", "domain"]), "columns domain, tp missing"),
        (lambda t: t.assign(value="high"), "'value' holds text"),
        (lambda t: t.assign(trial=0.5), "'trial' must hold whole numbers"),
        (lambda t: t.assign(tp=-1.0), "'tp' holds counts that are negative"),
        (lambda t: t.assign(value=1.5), "outside"),
        (lambda t: t.assign(split="testing"), "unknown split 'testing'"),
        (lambda t: pd.concat([t, t]), "given twice"),
        (lambda t: t.assign(patient=None), "'patient' has"),
    ],
)
def test_a_foreign_table_is_refused_with_its_file_and_fault(tmp_path, spoil, message):
    path = tmp_path / "foreign.parquet"
    spoil(records()).to_parquet(path)
    with pytest.raises(RecordError, match=message) as caught:
        read_records(path)
    assert "foreign.parquet" in str(caught.value)


def test_all_faults_are_reported_at_once():
    with pytest.raises(RecordError) as caught:
        as_records(records().assign(split="x", tp=-1.0, value="high"))
    assert all(word in str(caught.value) for word in ("split", "'tp'", "'value'"))


def test_missing_and_broken_files_say_so(tmp_path):
    with pytest.raises(RecordError, match="no such file"):
        read_records(tmp_path / "none.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 this is not")
    with pytest.raises(RecordError, match="not a readable Parquet"):
        read_records(tmp_path / "broken.parquet")


def test_records_of_a_later_version_keep_their_extra_columns_and_measures(tmp_path):
    table = records().assign(operator="someone")
    table.loc[0, "measure"] = "some_new_measure"
    again = read_records(write_records(table, tmp_path / "r.parquet"))
    assert "operator" in again and "some_new_measure" in set(again["measure"])


def test_gathering_is_independent_of_the_order_of_jobs():
    other = as_records(pd.DataFrame(rows_of("mmd", "PAS@A", "p1", counts_for(0.7))))
    pd.testing.assert_frame_equal(gather_records([records(), other]), gather_records([other, records()]))
    assert gather_records([]).equals(empty_records())
