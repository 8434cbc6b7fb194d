"""Files appear whole or not at all; errors survive the way back from another process."""

import ast
import os
import pickle
import time
from pathlib import Path

import pytest

from stainda.errors import SlideError, StaindaError, did_you_mean
from stainda.files import read_once, stable_hash, whole_file, write_csv
from stainda.randomness import generator_for, seed_for


def test_a_file_that_could_not_be_finished_leaves_the_old_one(tmp_path):
    path = tmp_path / "table.csv"
    write_csv(path, [{"a": 1}], ["a"])
    with pytest.raises(RuntimeError), whole_file(path) as aside:
        aside.write_text("half")
        raise RuntimeError
    assert path.read_text().split() == ["a", "1"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.csv"]


def test_a_new_file_has_the_permissions_of_any_other(tmp_path):
    write_csv(tmp_path / "table.csv", [], ["a"])
    (tmp_path / "plain").touch()
    assert (tmp_path / "table.csv").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StaindaError, match="cannot write here"), whole_file(tmp_path / "file" / "inside.csv"):
        pass


def test_errors_say_where_and_what_to_do_also_after_pickling():
    error = SlideError("not a TIFF", file="a.svs", row=3, remedy="Export it again")
    assert str(pickle.loads(pickle.dumps(error))) == str(error) == "a.svs, row 3: not a TIFF. Export it again."
    assert isinstance(pickle.loads(pickle.dumps(error)), SlideError)


@pytest.mark.parametrize(
    ("message", "remedy", "text"),
    [
        ("no mask", "Is it a mask?", "no mask. Is it a mask?"),
        ("no mask", "Take another.", "no mask. Take another."),
        ("no mask", "See folder/", "no mask. See folder/."),
        ("no mask", "Did you mean 'a'? Known: a, b", "no mask. Did you mean 'a'? Known: a, b."),
        ("it says: broken!", "Export it again", "it says: broken! Export it again."),
        ("no mask", None, "no mask"),
    ],
    ids=["question", "full stop", "folder", "question and list", "message with a mark", "no remedy"],
)
def test_a_sentence_that_ends_with_a_mark_gets_no_second_one(message, remedy, text):
    assert str(StaindaError(message, remedy=remedy)) == text


def test_no_remedy_of_the_program_ends_with_a_colon_or_a_full_stop():
    package = Path(__file__).parents[1] / "stainda"
    wrong = [
        f"{path.relative_to(package)}:{keyword.value.lineno}"
        for path in package.rglob("*.py")
        for keyword in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(keyword, ast.keyword) and keyword.arg == "remedy"
        for last in [keyword.value.values[-1] if isinstance(keyword.value, ast.JoinedStr) else keyword.value]
        if isinstance(last, ast.Constant) and str(last.value).endswith((".", ":", ",", ";"))
    ]  # fmt: skip
    assert wrong == []


def test_the_nearest_word_is_named():
    assert did_you_mean("dan", ["dann", "mmd"]).startswith("Did you mean 'dann'?")
    assert did_you_mean("zzz", ["dann", "mmd"]) == "Known: dann, mmd"


def test_seeds_depend_on_the_name_alone_not_on_the_process():
    assert seed_for(1, "dann", 0) == 4739269971286772
    assert generator_for(1, "a").integers(1 << 40) != generator_for(1, "b").integers(1 << 40)
    assert stable_hash({"a": [1, 2.5, "x"]}) == "0b7427b31067"
    assert stable_hash({"b": 1, "a": 2}) == stable_hash({"a": 2, "b": 1})


@pytest.mark.parametrize(("age", "reads"), [(0, 2), (60, 1)], ids=["changed just now", "a minute ago"])
def test_a_file_that_changed_just_now_is_read_again(age, reads, tmp_path):
    """A second change of the same size within a tick of the clock leaves size and time as they were."""
    count = []
    read = read_once(lambda path: count.append(1) or path.read_bytes())
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    then = time.time_ns() - age * 10**9
    os.utime(file, ns=(then, then))
    first = read(file)
    file.write_bytes(b"two")
    os.utime(file, ns=(then, then))
    assert read(file) == (b"two" if reads == 2 else first) and len(count) == reads
    os.utime(file, ns=(then - 10**9, then - 10**9))
    assert read(file) == b"two", "another time is another file"
