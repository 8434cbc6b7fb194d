"""Tables of a run directory are read as text, and a spreadsheet's damage is named with its row."""

from __future__ import annotations

import pytest

from stainda.errors import RecordError
from stainda.run_directory.tables import AGREEMENT
from stainda.run_directory.text_rows import read_text_rows


def read(path, content, needed=("id", "status")):
    path.write_bytes(content)
    return read_text_rows(path, needed, "Run it again")


def test_cells_stay_text_and_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    columns, rows = read(tmp_path / "table.csv", b'\xef\xbb\xbfid,status,note\r\n007,kept,"a,\n""b"""\r\n\r\n8,,\r\n')
    assert columns == ["id", "status", "note"]
    assert rows == [{"id": "007", "status": "kept", "note": 'a,\n"b"'}, {"id": "8", "status": "", "note": ""}]


@pytest.mark.parametrize(
    ("content", "row", "found"),
    [
        (b"id,status\na,kept\nb,kept,more\n", 3, "3 cells, and the header has 2"),
        (b"id,status,note\na,kept,\n\nb\n", 4, "1 cells, and the header has 3"),
        (b"id,status\na,kept\nb,J\xfcrgen\n", 3, "not UTF-8"),
        (b'id,status\n"two\nlines",kept\n"b"x,kept\n', 3, "not comma-separated text"),
        (b'id,status\na,kept\nb,"kept\n', 3, "not comma-separated text"),
        (b"id;status\na;kept\n", 1, "columns id, status are missing; the columns are not separated by commas"),
        (b"id,state\na,kept\n", 1, "columns status are missing"),
        (b"id,status,id\na,kept,b\n", 1, "columns named twice: id"),
        (b"", None, "the table is empty; expected were the columns id, status"),
    ],
    ids=["longer", "shorter", "Latin-1", "after a quote", "open quote", "semicolons", "lacking", "twice", "empty"],
)
def test_what_is_no_such_table_is_named_with_its_row(content, row, found, tmp_path):
    with pytest.raises(RecordError, match=found) as caught:
        read(tmp_path / "table.csv", content)
    assert caught.value.row == row
    assert caught.value.file == tmp_path / "table.csv" and caught.value.remedy == "Run it again"


def test_rows_of_a_declared_table_are_checked_too(tmp_path):
    AGREEMENT.write(tmp_path, [])
    path = AGREEMENT.inside(tmp_path)
    path.write_bytes(path.read_bytes() + b"one cell\n")
    with pytest.raises(RecordError, match="row 2: 1 cells"):
        AGREEMENT.rows(tmp_path)
