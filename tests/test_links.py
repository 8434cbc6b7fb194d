"""Links that came with a folder lead nowhere outside it; links that the user named, or made and allowed, do."""

import os
import shutil

import pytest
from small_cohorts import make_blob_cohort

from stainda.cohort import read_manifest
from stainda.errors import ManifestError, StaindaError
from stainda.links import FOLLOW, leads_outside, refuse_links
from stainda.run_directory.folder import RunFolder, read_study
from stainda.study.choosing import choose_job
from stainda.study.predicting import predict_slides


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    (folder / "jobs" / "a").mkdir(parents=True)
    (folder / "study.yaml").write_text("study: mine\nmanifest: m.csv\n")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text("secret")
    return folder


def _locked(folder):
    with RunFolder(folder).locked():
        pass


USES = [
    read_study,
    _locked,
    lambda folder: choose_job(folder),
    lambda folder: choose_job(folder / "jobs" / "a"),
    lambda folder: predict_slides("no run", [], folder),
]


@pytest.mark.parametrize("use", USES, ids=["read", "write", "choose a job", "choose by folder", "write predictions"])
@pytest.mark.parametrize("target", ["../../../outside", "../../../outside/secret.txt", "../../../not there"])
def test_a_link_out_of_a_run_directory_is_refused(run, use, target):
    (run / "jobs" / "a" / "error.txt").symlink_to(target)
    with pytest.raises(StaindaError, match=r"error\.txt: this link leads out of") as raised:
        use(run)
    assert FOLLOW in str(raised.value)


def test_a_folder_that_another_process_removes_is_no_fault(run, monkeypatch):
    (run / "shared" / "open").mkdir(parents=True)
    scan = os.scandir

    def removed_before(path):
        if str(path).endswith("shared"):
            shutil.rmtree(path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", removed_before)
    refuse_links(run)
    assert not (run / "shared").exists()


def test_nothing_is_written_through_a_link(run):
    (run / "report").symlink_to(run.parent / "outside", target_is_directory=True)
    with pytest.raises(StaindaError, match="leads out"):
        _locked(run)
    assert [path.name for path in (run.parent / "outside").iterdir()] == ["secret.txt"]
    assert not (run / ".lock").exists()


def test_links_inside_a_folder_and_to_the_folder_itself_are_followed(run, monkeypatch):
    (run / "jobs" / "b").symlink_to("a")
    (run.parent / "by link").symlink_to(run)
    refuse_links(run)
    refuse_links(run.parent / "by link")
    refuse_links(run / "not there yet")
    (run / "circle").symlink_to(".")
    refuse_links(run)
    (run / "out").symlink_to("..")
    monkeypatch.setenv(FOLLOW, "1")
    refuse_links(run)
    monkeypatch.setenv(FOLLOW, "0")
    with pytest.raises(StaindaError):
        refuse_links(run)


def test_where_a_path_leads_is_known_without_its_file(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "out").symlink_to("..")
    assert leads_outside(tmp_path / "data" / "out" / "a.svs", tmp_path / "data") == tmp_path.resolve() / "a.svs"
    assert leads_outside(tmp_path / "data" / "a.svs", tmp_path / "data") is None
    assert leads_outside(tmp_path / "other" / "a.svs", tmp_path / "data") is None, "its name says so"


@pytest.mark.parametrize("column, name", [("path", "P1_PAS.png"), ("annotations", "P1_PAS.geojson")])
def test_a_manifest_whose_link_leads_out_of_its_folder_is_refused(tmp_path, monkeypatch, column, name):
    manifest = make_blob_cohort(tmp_path / "cohort", patients=2)
    shutil.move(manifest.parent / name, tmp_path / name)
    (manifest.parent / name).symlink_to(tmp_path / name)
    with pytest.raises(ManifestError, match="lies behind a link") as raised:
        read_manifest(manifest)
    assert raised.value.row == 4 and repr(column) in str(raised.value) and FOLLOW in str(raised.value)
    monkeypatch.setenv(FOLLOW, "1")
    assert len(read_manifest(manifest)) == 4


def test_links_that_the_user_names_are_followed(tmp_path):
    """The folder of the manifest or of the data may be a link, and a path may be absolute."""
    manifest = make_blob_cohort(tmp_path / "storage" / "cohort", patients=2)
    (tmp_path / "cohort").symlink_to("storage/cohort")
    assert len(read_manifest(tmp_path / "cohort" / "manifest.csv")) == 4
    shutil.copy(manifest, tmp_path / "manifest.csv")
    assert len(read_manifest(tmp_path / "manifest.csv", tmp_path / "cohort")) == 4
    (tmp_path / "far").symlink_to("storage")
    text = manifest.read_text().replace("P1_PAS.png", f"{tmp_path}/far/cohort/P1_PAS.png")
    manifest.write_text(text)
    assert len(read_manifest(manifest)) == 4
