"""A table that an earlier version wrote is completed, not refused, where it goes into one of today's."""

import pandas as pd

from stainda.run_directory.declaration import Column, Table

TABLE = Table(
    "t.csv", "a table", written_by="nobody",
    columns=(Column("name", "text", "n"), Column("new", "number", "x"), Column("value", "number", "v"),
             Column("rare", "number", "r", optional=True)),
    per_rotation=True,
)  # fmt: skip


def test_what_is_needed_and_missing_is_added_empty_and_in_its_place(tmp_path):
    earlier = pd.DataFrame({"rotation": ["r"], "name": ["a"], "value": [1.0]})
    found = TABLE.complete(earlier)
    assert list(found.columns) == ["rotation", "name", "new", "value"] and found["new"].isna().all()
    assert found["value"].tolist() == [1.0]
    TABLE.write_frame(tmp_path, found)


def test_a_whole_table_stays_as_it_is():
    whole = pd.DataFrame({"name": ["a"], "new": [2.0], "value": [1.0], "rare": [3.0]})
    pd.testing.assert_frame_equal(TABLE.complete(whole), whole)
