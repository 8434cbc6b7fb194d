"""What a person relies on when reading and writing a manifest."""

from __future__ import annotations

from pathlib import Path

import pytest

from stainda.cohort import COLUMNS, inspect_manifest, read_manifest, write_manifest
from stainda.errors import LeakError, ManifestError

GOOD = {
    "slide": "p1_1", "patient": "p1", "block": "b1", "section": "1", "stain": "PAS", "centre": "A",
    "path": "p1_1.tif",
}  # fmt: skip


def manifest(folder: Path, *rows: dict[str, str], columns=COLUMNS, encoding="utf-8", separator=",") -> Path:
    path = folder / "manifest.csv"
    lines = [separator.join(columns)] + [separator.join(row.get(name, "") for name in columns) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    for row in rows:
        if row.get("path") and not row["path"].startswith("no"):
            (folder / row["path"]).write_bytes(row["path"].encode())
    return path


def row(number: int = 1, **changes: str) -> dict[str, str]:
    return {**GOOD, "slide": f"p1_{number}", "section": str(number), "path": f"p1_{number}.tif", **changes}


def test_a_good_manifest_gives_its_sections_in_order(tmp_path):
    path = manifest(tmp_path, row(1, mpp="0.25", split="Train", scanner="S1"), row(2, stain="SR"))
    cohort = read_manifest(path)
    first, second = cohort
    assert (first.slide, first.section, first.mpp, first.split, first.scanner, first.row) == (
        "p1_1", 1, 0.25, "train", "S1", 2,
    )  # fmt: skip
    assert first.path == tmp_path / "p1_1.tif"
    assert (second.mpp, second.annotations, second.split) == (None, None, None)
    assert cohort.domains == ("PAS@A", "SR@A")
    assert [block.section for block in cohort.blocks()["b1"]] == [1, 2]


def test_every_fault_is_told_at_once_with_its_row_and_remedy(tmp_path):
    path = manifest(
        tmp_path,
        row(1),
        row(1, slide="p1_1", section="1"),  # row 3: slide twice, section twice
        row(3, section="third", mpp="-1"),  # row 4
        row(4, patient="p2", split="tain"),  # row 5: block of two patients, unknown split
        row(5, stain="", path="nowhere.tif"),  # row 6
        row(6, annotations="nothing.geojson", landmarks="none.csv", mpp="0,25"[:1] + ".x"),  # row 7
        row(7, slide="a/b"),  # row 8
        row(8, stain="PAS*"),  # row 9
    )
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    text = str(caught.value)
    for expected in (
        "row 3: the slide 'p1_1' is already in row 2",
        "row 3: section 1 of block 'b1' is already in row 2",
        "row 4: the section 'third' is no whole number",
        "row 4: mpp '-1' is not a positive number",
        "row 5: block 'b1' is of patient 'p2'",
        "row 5: unknown split 'tain'. Did you mean 'train'?",
        "row 6: 'stain' is empty",
        "row 6: the file in 'path' is missing",
        "row 7: the file in 'annotations' is missing",
        "row 7: the file in 'landmarks' is missing",
        "row 7: mpp '0.x' is not a positive number",
        "row 8: the slide 'a/b' cannot name a file",
        "row 9: the stain 'PAS*' contains one of",
    ):
        assert expected in text
    assert str(path) in text


@pytest.mark.parametrize("value", ["nan", "inf", "0", "-0.5", "0,25", "a quarter"])
def test_an_mpp_that_is_no_positive_number_is_refused(tmp_path, value):
    path = manifest(tmp_path, row(mpp=f'"{value}"'))
    with pytest.raises(ManifestError, match="row 2: mpp"):
        read_manifest(path)


def test_a_missing_column_is_named_with_the_one_that_may_be_meant(tmp_path):
    columns = tuple("center" if name == "centre" else name for name in COLUMNS)
    path = manifest(tmp_path, row(), columns=columns)
    with pytest.raises(ManifestError, match=r"column 'centre' is missing. Did you mean 'center'"):
        read_manifest(path)


def test_unknown_columns_are_kept_and_said(tmp_path):
    path = manifest(tmp_path, row() | {"age": "61"}, columns=(*COLUMNS, "age"))
    cohort = read_manifest(path)
    assert any("age" in warning for warning in cohort.warnings)
    section = cohort.sections[0]
    assert (section.cell("age"), section.cell("stain"), section.cell("weight")) == ("61", section.stain, None)
    again = read_manifest(write_manifest(cohort, tmp_path / "again.csv"))
    assert again.sections[0].further == section.further == (("age", "61"),)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\n , \n", "empty"),
        (",".join(COLUMNS).encode(), "no slide"),
        (";".join(COLUMNS).encode() + b"\na;b\n", "semicolons"),
        ("\t".join(COLUMNS).encode() + b"\na\tb\n", "tabs"),
        (",".join(COLUMNS).encode("utf-16"), "UTF-16"),
        (b"PK\x03\x04rest of a spreadsheet", "spreadsheet"),
        (b"slide,patient\n\x00\x01\x02", "not text"),
        ("slide,patient\nGöttingen,1\n".encode("latin-1"), "not UTF-8"),
        (b"slide,patient,slide\na,b,c\n", "named twice"),
        (b'slide,patient\n"never closed,1\n', "not a comma-separated file"),
    ],
)
def test_what_is_no_manifest_is_refused_with_what_it_is(tmp_path, content, said):
    path = tmp_path / "manifest.csv"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=said):
        read_manifest(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(ManifestError, match="no such file"):
        read_manifest(tmp_path / "none.csv")
    with pytest.raises(ManifestError, match="folder"):
        read_manifest(tmp_path)


def test_a_byte_order_mark_blank_lines_and_spaces_do_no_harm(tmp_path):
    path = manifest(tmp_path, row(1, stain=" PAS "), encoding="utf-8-sig")
    path.write_text(path.read_text(encoding="utf-8").replace("\n", "\n\n", 1), encoding="utf-8")
    (section,) = read_manifest(path)
    assert section.stain == "PAS"
    assert section.row == 3


def test_one_stain_written_two_ways_is_a_fault(tmp_path):
    path = manifest(tmp_path, row(1), row(2, stain="pas"))
    with pytest.raises(ManifestError, match="row 3: the stain 'pas' is 'PAS' in row 2"):
        read_manifest(path)


def test_an_empty_scanner_is_a_fault_only_where_it_names_domains(tmp_path):
    path = manifest(tmp_path, row())
    assert len(read_manifest(path)) == 1
    with pytest.raises(ManifestError, match="'scanner' is empty"):
        read_manifest(path, domain_keys=("stain", "scanner"))


def test_paths_start_from_the_data_folder_or_the_manifest(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "there.tif").write_bytes(b"there")
    path = manifest(tmp_path, row(1), row(2, path="nothere.tif"))
    path.write_text(path.read_text().replace("nothere", "there"))
    first, second = read_manifest(path, data=tmp_path / "data")
    assert first.path == tmp_path / "p1_1.tif"
    assert second.path == tmp_path / "data" / "there.tif"
    with pytest.raises(ManifestError, match=r"data folder .* does not exist"):
        read_manifest(path, data=tmp_path / "typo")


def test_a_windows_path_finds_its_file(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.tif").write_bytes(b"a")
    path = manifest(tmp_path, row(1, path="no"))
    path.write_text(path.read_text().replace(",no,", ",sub\\a.tif,"))
    (section,) = read_manifest(path)
    assert section.path == tmp_path / "sub" / "a.tif"


def test_files_need_not_exist_where_they_are_not_checked(tmp_path):
    path = manifest(tmp_path, row(1, path="nowhere.tif"))
    assert len(read_manifest(path, check_files=False)) == 1


def test_a_patient_in_two_splits_is_a_leak(tmp_path):
    path = manifest(tmp_path, row(1, split="train"), row(2, split="test"))
    with pytest.raises(LeakError, match="row 3: patient 'p1' is in 'test' and in row 2 in 'train'"):
        read_manifest(path)


def test_written_manifests_read_back_the_same(tmp_path):
    path = manifest(tmp_path, row(1, mpp="0.5", split="train"), row(2))
    cohort = read_manifest(path)
    again = read_manifest(write_manifest(cohort, tmp_path / "copy.csv"))
    assert again.sections == cohort.sections
    assert "p1_1.tif" in (tmp_path / "copy.csv").read_text()
    assert str(tmp_path) not in (tmp_path / "copy.csv").read_text()
    elsewhere = tmp_path / "elsewhere" / "m.csv"
    assert read_manifest(write_manifest(cohort, elsewhere)).sections[0].path == cohort.sections[0].path


def test_inspect_tells_faults_as_data(tmp_path):
    report = inspect_manifest(manifest(tmp_path, row(1, mpp="x"), row(2, section="1", path="p1_1.tif")))
    assert sorted(fault.row for fault in report.faults) == [2, 3]
    assert all(fault.remedy for fault in report.faults)
    assert any("same slide file" in warning for warning in report.warnings)


def test_the_manifest_of_the_rat_kidney_is_complete(real_data):
    cohort = read_manifest(Path(__file__).parents[2] / "data_manifests" / "rat_kidney.csv", data=real_data)
    assert cohort.single_patient
    assert [section.stain for section in cohort] == ["HE", "PANCK"]
    assert all(section.annotations and section.landmarks and section.mpp is None for section in cohort)
