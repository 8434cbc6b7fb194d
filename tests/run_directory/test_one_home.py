"""Names of files and columns of a run directory stand in its declarations and nowhere else."""

from pathlib import Path

import pytest
from file_names import column_tuples, file_names

PACKAGE = Path(__file__).parents[2] / "stainda"
ROOMS = sorted(
    path.name for path in PACKAGE.iterdir() if (path.is_dir() and path.name != "run_directory") and path.name[0] != "_"
)

OTHER_FILES = {
    ("cli/manifest.py", "manifest.csv"): "where 'manifest scan' writes",
    ("cohort/pseudonyms.py", "manifest.csv"): "where 'manifest pseudonymise' writes",
    ("datasets/making.py", "manifest.csv"): "of a public data set",
    ("report/comparing.py", "index.html"): "the page that compares studies",
    ("review/server.py", "index.html"): "the page of the review, which lies in the package",
    ("study/starting.py", "manifest.csv"): "where 'init' writes",
    ("study/starting.py", "classes.csv"): "where 'init' writes",
}
"""Files of the same name that lie in no run directory."""

OTHER_COLUMNS = {("report/data_tables.py", 4)}
"""Lists of numbers to be rounded."""


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_names_no_file_of_a_run_directory(room):
    found = {
        (path.relative_to(PACKAGE).as_posix(), name): line
        for path in sorted((PACKAGE / room).rglob("*.py"))
        for line, name in file_names(path)
    }
    told = [f"{name} line {line}: {text!r}" for (name, text), line in found.items() if (name, text) not in OTHER_FILES]
    assert told == [], "use the declaration in stainda/run_directory"
    columns = [
        (path.relative_to(PACKAGE).as_posix(), count)
        for path in sorted((PACKAGE / room).rglob("*.py"))
        for _, count in column_tuples(path)
    ]
    assert [column for column in columns if column not in OTHER_COLUMNS] == []


def test_no_exception_is_left_over():
    there = {
        (path.relative_to(PACKAGE).as_posix(), name) for path in PACKAGE.rglob("*.py") for _, name in file_names(path)
    }
    assert set(OTHER_FILES) <= there


def test_names_and_columns_are_found(tmp_path):
    (tmp_path / "room.py").write_text(
        '"""Writes trials.csv."""\nA = root / "trials.csv"\nB = {"registration/quality.csv": 1}\n'
        'C = glob("*/block.json")\nD = f"{root}/annotations/propagation.csv"\nE = "trials.csv has no rows"\n'
        'F = ("block", "slide", "reason")\nG = ("slide", "x", "y", "width", "height", "downsample")\n'
        'H = ["class", "first", "second", "dice", "cohen_kappa", "fleiss_kappa", "object_f1"]\nI = "log.txt", "done"\n'
    )
    found = {name for _, name in file_names(tmp_path / "room.py")}
    assert found == {
        "trials.csv", "registration/quality.csv", "*/block.json", "/annotations/propagation.csv", "log.txt",
    }  # fmt: skip
    assert sorted(column_tuples(tmp_path / "room.py")) == [(8, 6), (9, 7)]
