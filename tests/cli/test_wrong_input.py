"""Wrong input gives one clear message, a non-zero exit, no traceback, and leaves other files alone."""

import csv
import subprocess
import sys

import pytest
from small_cohorts import make_blob_cohort, write_rows, write_study

from stainda.cli import main


@pytest.fixture
def cohort(tmp_path):
    return make_blob_cohort(tmp_path / "cohort", patients=4)


def rows_of(manifest):
    with manifest.open() as stream:
        return list(csv.DictReader(stream))


def change(manifest, index, **cells):
    rows = rows_of(manifest)
    rows[index].update(cells)
    return write_rows(rows, manifest)


def run(capsys, monkeypatch, *arguments):
    """Exit status and what was printed."""
    monkeypatch.setattr(sys, "argv", ["stainda", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    printed = capsys.readouterr()
    return stopped.value.code, " ".join((printed.out + printed.err).split())


def _missing_slide(cohort):
    (cohort.parent / "P1_SR.png").unlink()
    return "row 5", "P1_SR.png"


def _unreadable_slide(cohort):
    (cohort.parent / "P1_SR.png").write_bytes(b"not an image")
    return "P1_SR", "slides cannot be read"


def _truncated_slide(cohort):
    path = cohort.parent / "P1_SR.png"
    path.write_bytes(path.read_bytes()[:3000])
    return "P1_SR", "slides cannot be read"


def _broken_geojson(cohort):
    (cohort.parent / "P0_PAS.geojson").write_text('{"type": "FeatureCollection", "features": [')
    return "P0_PAS", "JSON"


def _mpp_missing(cohort):
    for index in range(len(rows_of(cohort))):
        change(cohort, index, mpp="")
    return "mpp", "4.0"


def _patient_in_two_splits(cohort):
    change(cohort, 0, split="train")
    change(cohort, 1, split="test")
    return "P0", "split"


def _no_tissue(cohort):
    from PIL import Image

    for number, row in enumerate(rows_of(cohort)):
        Image.new("RGB", (384, 384), (245, 245, 236 + number)).save(cohort.parent / row["path"])
    return "tissue", ""


def _no_annotation(cohort):
    for index in range(len(rows_of(cohort))):
        change(cohort, index, annotations="")
    return "annot", ""


def _other_class(cohort):
    for row in rows_of(cohort):
        path = cohort.parent / row["annotations"]
        path.write_text(path.read_text().replace('"glomerulus"', '"glomerullus"'))
    return "no source section has a shape of class 'glomerulus'", "Did you mean 'glomerullus'"


def _empty_manifest(cohort):
    cohort.write_text("slide,patient,block,section,stain,centre,path\n")
    return "manifest.csv", ""


def _not_a_table(cohort):
    cohort.write_bytes(bytes(range(256)) * 20)
    return "manifest.csv", ""


def _column_missing(cohort):
    cohort.write_text(cohort.read_text().replace("stain,centre", "staining,centre", 1))
    return "stain", "manifest.csv"


def _duplicate_slide(cohort):
    change(cohort, 2, slide="P0_PAS")
    return "P0_PAS", "row 4"


def _bad_mpp(cohort):
    change(cohort, 0, mpp="0.5 um")
    return "mpp", "row 2"


COHORT_FAULTS = [
    _missing_slide, _unreadable_slide, _truncated_slide, _broken_geojson, _mpp_missing, _patient_in_two_splits,
    _no_tissue, _no_annotation, _other_class, _empty_manifest, _not_a_table, _column_missing, _duplicate_slide,
    _bad_mpp,
]  # fmt: skip


@pytest.mark.parametrize("fault", COHORT_FAULTS, ids=lambda fault: fault.__name__.strip("_"))
def test_a_fault_of_the_cohort(fault, cohort, tmp_path, capsys, monkeypatch):
    told = fault(cohort)
    study = write_study(cohort, tmp_path / "blobs.yaml")
    strict = "on_bad_slide=stop"
    status, printed = run(capsys, monkeypatch, "run", study, strict, "--out", tmp_path / "run", "--quiet")
    assert status == 2, printed
    assert "Traceback" not in printed
    for word in told:
        assert word in printed, printed


STUDY_FAULTS = {
    "unknown strategy": (["strategies=[source_onyl]"], "Did you mean 'source_only'"),
    "unknown key": (["training.epoch=2"], "Did you mean 'epochs'"),
    "unknown source": (["protocol.sources=[PASS@A]"], "Did you mean 'PAS@A'"),
    "unknown dye in a strategy": (
        ["strategies=[{from: source_only, name: x, view: {name: deconvolved, dye: haematoxilin}}]"],
        "haematoxylin",
    ),
    "unknown stain": (["propagation.sources=[PASS]"], "Did you mean 'PAS'"),
    "unknown part": (["strategies=[{from: dann, name: x, align: {name: dan}}]"], "Did you mean 'dann'"),
    "unknown parameter": (
        ["strategies=[{from: dann, name: x, align: {name: dann, wieght: 1}}]"],
        "Did you mean 'weight'",
    ),
    "unknown model": (["model={name: unett}"], "Did you mean 'unet'"),
    "not key=value": (["epochs"], "key=value"),
    "no target": (["protocol.targets=[PAS@A]"], "PAS@A"),
    "too few patients": (["protocol.split=[0, 0.5, 0.5]"], "train"),
    "not a number": (["training.learning_rate=fast"], "training.learning_rate"),
}


@pytest.mark.parametrize("name", STUDY_FAULTS)
def test_a_fault_of_the_study(name, blob_manifest, tmp_path, capsys, monkeypatch):
    overrides, told = STUDY_FAULTS[name]
    study = write_study(blob_manifest, tmp_path / "blobs.yaml")
    status, printed = run(capsys, monkeypatch, "run", study, *overrides, "--out", tmp_path / "run", "--quiet")
    assert status == 2, printed
    assert told in printed and "Traceback" not in printed, printed


def test_a_place_that_cannot_be_written(blob_manifest, tmp_path, capsys, monkeypatch):
    study = write_study(blob_manifest, tmp_path / "blobs.yaml")
    (tmp_path / "file").write_text("mine")
    status, printed = run(capsys, monkeypatch, "run", study, "--out", tmp_path / "file" / "run")
    assert status == 2 and "cannot write here" in printed and "--out" in printed
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "nowhere.yaml"], "no such file"),
        (["report", "nowhere"], "not a run directory"),
        (["predict", "nowhere", "slide.svs"], "nowhere"),
        (["register", "nowhere.csv", "--out", "run"], "nowhere.csv"),
        (["list", "stratgies"], "Did you mean 'strategies'"),
        (["manifest", "check", "nowhere.csv"], "nowhere.csv"),
        (["manifest", "scan", "nowhere", "--pattern", "{slide}.svs"], "nowhere"),
        (["phantom", "out", "--stains", "PASS"], "Did you mean 'PAS'"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else None,
)
def test_a_fault_of_the_command(arguments, told, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, printed = run(capsys, monkeypatch, *arguments)
    assert status == 2 and told in printed and "Traceback" not in printed, printed


def test_a_second_run_in_the_same_directory_is_refused(blob_manifest, tmp_path, capsys, monkeypatch):
    from stainda.run_directory.folder import RunFolder

    holder = (
        "import sys, time; from pathlib import Path; from stainda.run_directory.folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).locked():\n    print('held', flush=True); time.sleep(60)"
    )
    root = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-c", holder, root], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline().strip() == "held"
        study = write_study(blob_manifest, tmp_path / "blobs.yaml")
        status, printed = run(capsys, monkeypatch, "run", study, "--out", root)
        assert status == 2 and "another stainda process" in printed
    finally:
        process.kill()
        process.wait()
    with RunFolder(root).locked():  # a killed holder does not stand in the way
        pass
