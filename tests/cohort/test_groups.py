"""The group of a patient in a manifest: read, written, and one per patient."""

import csv

import pytest

from stainda.cohort import read_manifest, write_manifest
from stainda.errors import ManifestError

HEADER = "slide,patient,block,section,stain,centre,path,group"


def manifest(tmp_path, *groups):
    rows = [f"S{k},P{k // 2},B{k // 2},{k},PAS,A,S{k}.tif,{group}" for k, group in enumerate(groups)]
    path = tmp_path / "m.csv"
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def test_groups_are_read_and_written_again(tmp_path):
    cohort = read_manifest(manifest(tmp_path, "stable", "stable", "rejection", "rejection"), check_files=False)
    assert [section.group for section in cohort] == ["stable", "stable", "rejection", "rejection"]
    assert cohort.to_frame()["group"].tolist()[1:3] == ["stable", "rejection"]
    again = read_manifest(write_manifest(cohort, tmp_path / "again.csv"), check_files=False)
    assert [section.group for section in again] == [section.group for section in cohort]


def test_a_manifest_without_groups_has_no_such_column(tmp_path):
    cohort = read_manifest(manifest(tmp_path, "", ""), check_files=False)
    with write_manifest(cohort, tmp_path / "again.csv").open() as stream:
        assert "group" not in next(csv.reader(stream))


@pytest.mark.parametrize("groups", [("stable", "rejection"), ("stable", ""), ("stable", "stable", "Stable", "Stable")])
def test_a_patient_in_two_groups_or_two_spellings_is_a_fault(tmp_path, groups):
    with pytest.raises(ManifestError, match="group"):
        read_manifest(manifest(tmp_path, *groups), check_files=False)
