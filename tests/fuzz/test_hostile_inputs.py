"""The fuzz of what is read from other people, in its short form; ``python tests/fuzz/run.py`` is the long one."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from every_case import CASES
from fuzzing import fuzz
from hostile_files import Case

from stainda.errors import StaindaError


def _case(name):
    return next(case for case in CASES if case.name == name)


def test_what_the_long_form_found(tmp_path):
    """Names longer than a file system takes, JSON that nests without end, ranges without numbers."""
    path = _case("manifest").make(tmp_path)
    good = path.read_text()
    for row in (2, 3):
        lines = good.splitlines()
        lines[row - 1] = lines[row - 1].replace(".png", "A" * 3000 + ".png")
        path.write_text("\n".join(lines))
        with pytest.raises(StaindaError, match="missing"):
            _case("manifest").read(path)
    path = _case("transform").make(tmp_path)
    path.with_suffix(".json").write_text("[" * 100_000)
    with pytest.raises(StaindaError, match="cannot read the transform"):
        _case("transform").read(path)
    path.with_suffix(".json").write_text("7")
    with pytest.raises(StaindaError, match="cannot read the transform"):
        _case("transform").read(path)
    path = _case("affine.txt of elastix").make(tmp_path)
    chained = path.read_text()
    for name in ("A" * 3000, "", ".."):
        path.write_text(chained.replace("NoInitialTransform", name))
        with pytest.raises(StaindaError, match="is not next to it"):
            _case("affine.txt of elastix").read(path)
    path = _case("study").make(tmp_path)
    path.write_text(path.read_text().replace("default: 5.0e-3", "default: much"))
    with pytest.raises(StaindaError, match="outside its own search range"):
        _case("study").read(path)
    path = _case("strategy").make(tmp_path)
    path.write_text("view: greyscale\naugment: [{name: hed, sigma: {default: 0.05, low: 0.0, 2}}]\nlabels: source\n")
    with pytest.raises(StaindaError, match="2 is no setting of it"):
        _case("strategy").read(path)


@pytest.mark.parametrize("name", ["annotations as cytomine", "annotations as rle", "annotations as points"])
def test_a_table_of_blank_rows_is_refused(name, tmp_path):
    path = _case(name).make(tmp_path)
    path.write_text(",")
    with pytest.raises(StaindaError, match="all its rows are blank"):
        _case(name).read(path)


def test_a_result_that_nests_without_end_is_refused(tmp_path):
    path = _case("run's jobs/*/result.json").make(tmp_path)
    path.write_text('{"cpu_seconds": ' + "[" * 100_000)
    with pytest.raises(StaindaError, match="nested too deeply"):
        _case("run's jobs/*/result.json").read(path)


def test_a_pickle_that_claims_more_than_it_holds_is_refused(tmp_path):
    """A text of 111 petabytes, as the long form made it."""
    path = _case("result of VALIS").make(tmp_path)
    path.write_bytes(b"\x80\x04\x8d" + (111508709004566785).to_bytes(8, "little") + b"text.")
    with pytest.raises(StaindaError, match="only 5 remain"):
        _case("result of VALIS").read(path)


@pytest.mark.parametrize("cell", ["3.5", "dann", "", "1e400"])
def test_a_trial_that_is_no_number_is_refused_with_its_row(cell, tmp_path):
    case = _case("run's trials.csv")
    path = case.make(tmp_path)
    first, second, third, *rest = path.read_text().splitlines()
    strategy, _, after = third.split(",", 2)
    path.write_text("\n".join([first, second, f"{strategy},{cell},{after}", *rest]))
    with pytest.raises(StaindaError, match=r"trials.csv(.|\n)*row 3(.|\n)*no whole number"):
        case.read(path)


@pytest.mark.parametrize("name", ["statistics of domains", "weights of torch"])
def test_broken_tensors_are_refused(name, tmp_path):
    case = _case(name)
    path = case.make(tmp_path)
    path.write_bytes(path.read_bytes()[:40] + b"." * 40)
    with pytest.raises(StaindaError, match="cannot be read"):
        case.read(path)


@pytest.mark.parametrize("text", ["{", '{"state": "running"}', '{"state": "running", "host": 3}', "7"])
def test_a_damaged_progress_file_is_said(text, tmp_path):
    path = _case("status of progress.json").make(tmp_path)
    path.write_text(text)
    with pytest.raises(StaindaError, match=r"progress.json or a table next to it is damaged"):
        _case("status of progress.json").read(path)


def test_a_damaged_curve_of_a_training_is_said(tmp_path):
    case = _case("run's jobs/*/training.csv")
    path = case.make(tmp_path)
    for data in (b"epoch,step\n\xff\xfe,1\n", b"epoch,step,val_dice\n1,4,0.5\nepoch,step,val_dice\n"):
        path.write_bytes(data)
        with pytest.raises(StaindaError, match="not a readable table"):
            case.read(path)


def test_a_transform_of_an_endless_version_is_refused(tmp_path):
    path = _case("transform").make(tmp_path)
    text = path.with_suffix(".json").read_text()
    path.with_suffix(".json").write_text(text.replace('"version": ', '"version": 1e999, "before": '))
    with pytest.raises(StaindaError, match="cannot read the transform"):
        _case("transform").read(path)


def test_tiles_without_pixels_are_refused(tmp_path):
    """The tag of the tiles' width is 0 (as the long form made it)."""
    import tifffile

    path = _case("slide large offsets.tif").make(tmp_path)
    with tifffile.TiffFile(path, mode="r+") as file:
        for page in file.pages:
            page.tags["TileWidth"].overwrite(0)
    with pytest.raises(StaindaError):
        _case("slide large offsets.tif").read(path)


def test_a_cell_longer_than_any_of_a_table_of_landmarks_is_refused(tmp_path):
    path = _case("landmarks").make(tmp_path)
    path.write_text(path.read_text() + "A" * 200_000 + ",1,2\n")
    before = csv.field_size_limit(131_072)  # other readers raise it
    try:
        with pytest.raises(StaindaError, match="not a CSV file"):
            _case("landmarks").read(path)
    finally:
        csv.field_size_limit(before)


def test_the_guided_fuzz_says_what_it_needs():
    start = "import runpy, sys; sys.modules['atheris'] = None; runpy.run_path(sys.argv[1], run_name='__main__')"
    script = Path(__file__).with_name("coverage_guided.py")
    ended = subprocess.run([sys.executable, "-c", start, script], capture_output=True, text=True)
    assert ended.returncode == 1 and "needs atheris: pip install atheris" in ended.stderr


def _dies(path):
    data = path.read_bytes()
    if b"a" in data[:1]:
        return data
    if data[:1] < b"a":
        os.kill(os.getpid(), signal.SIGKILL)
    if data[:1] > b"p":
        (path.parents[3] / "escaped").write_bytes(b"")
    raise KeyError("unforeseen")


def test_the_fuzz_sees_crashes_tracebacks_and_writing():
    """A reader that does all that is forbidden: every input is accounted for."""

    def make(folder):
        (folder / "file").write_bytes(b"a" * 50)
        return folder / "file"

    count = fuzz(Case("bad", make, _dies), 24)
    assert count.of("died") and count.of("traceback") and count.of("wrote") and count.read
    assert count.read + count.refused + count.of("died") + count.of("traceback") == 24


SHORT = [
    pytest.param(case, id=case.name, marks=pytest.mark.slow if case.name.startswith(("run's", "page")) else ())
    for case in CASES
]


@pytest.mark.parametrize("case", SHORT)
def test_a_changed_file_is_read_or_refused_with_a_message(case):
    count = fuzz(case, 40)
    assert count.is_clean, count.faults
    assert count.read + count.refused == 40 and count.refused, "changes that nobody notices test nothing"
