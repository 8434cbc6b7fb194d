"""A folder of slides becomes the first draft of a manifest."""

from __future__ import annotations

import pytest

from stainda.cohort import find_sections, read_manifest, scan_folder, write_manifest
from stainda.errors import ManifestError

PATTERN = "{patient}_{block}_{section}_{stain}.svs"


@pytest.fixture
def folder(tmp_path):
    for name in ("P1_B1_2_SR.svs", "P1_B1_1_PAS.svs", "sub/P2_B7_1_PAS.SVS", "P_01_B1_2_PAS.svs", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode())
    (tmp_path / "P1_B1_1_PAS.geojson").write_text("{}")
    (tmp_path / "landmarks").mkdir()
    (tmp_path / "landmarks" / "P1_B1_2_SR.csv").write_text("id,x,y\n")
    return tmp_path


def test_names_become_sections_in_the_order_of_the_cut(folder):
    sections = scan_folder(folder, PATTERN, centre="A")
    assert [
        (section.slide, section.patient, section.block, section.section, section.stain, section.centre)
        for section in sections
    ] == [
        ("P1_B1_1_PAS", "P1", "B1", 1, "PAS", "A"),
        ("P1_B1_2_SR", "P1", "B1", 2, "SR", "A"),
        ("P2_B7_1_PAS", "P2", "B7", 1, "PAS", "A"),
    ]
    assert sections[0].annotations == folder / "P1_B1_1_PAS.geojson"
    assert sections[1].landmarks == folder / "landmarks" / "P1_B1_2_SR.csv"


def test_a_name_that_does_not_follow_the_pattern_is_told_and_not_cut_wrongly(folder):
    scan = find_sections(folder, PATTERN, centre="A")
    assert [path.name for path, _ in scan.skipped] == ["P_01_B1_2_PAS.svs"]


def test_the_draft_is_a_manifest_that_reads(folder):
    path = write_manifest(scan_folder(folder, PATTERN, centre="A"), folder / "manifest.csv")
    assert len(read_manifest(path)) == 3


def test_folders_may_tell_fields(tmp_path):
    for name in ("A/P1/PAS.tif", "B/P2/PAS.tif"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(name.encode())
    scan = find_sections(tmp_path, "{centre}/{patient}/{stain}.tif")
    assert [(section.slide, section.centre, section.patient) for section in scan.sections] == [
        ("A_P1_PAS", "A", "P1"),
        ("B_P2_PAS", "B", "P2"),
    ]
    assert any("check the order" in note for note in scan.notes)


@pytest.mark.parametrize(
    ("pattern", "fixed", "said"),
    [
        ("{patient}_{stian}.svs", {"centre": "A"}, "Did you mean 'stain'"),
        (PATTERN, {}, "does not tell: centre"),
        ("{patient}-{stain}.svs", {"centre": "A"}, "no file follows"),
        (PATTERN, {"center": "A"}, "unknown field 'center'"),
    ],
)
def test_wrong_patterns_are_answered(folder, pattern, fixed, said):
    with pytest.raises(ManifestError, match=said):
        scan_folder(folder, pattern, **fixed)
    with pytest.raises(ManifestError, match="no such folder"):
        scan_folder(folder / "none", PATTERN, centre="A")


def test_annotations_of_any_format_beside_a_slide_are_taken(tmp_path):
    import numpy as np
    import shapely
    from PIL import Image

    from stainda.annotations import make_shapes
    from stainda.annotations.formats import FORMATS, annotation_finder, write_annotations
    from stainda.annotations.formats.frame import PlainFrame

    (tmp_path / "annotations").mkdir()
    frame = PlainFrame((64, 48), tmp_path / "P0_PAS.ndpi")
    shapes = make_shapes([shapely.box(5, 5, 20, 20), shapely.Point(3, 4)], "glomerulus")
    names = [name for name in FORMATS if name != "ndpa"]
    for number, name in enumerate(names):
        write_annotations(shapes, tmp_path / "annotations" / f"P{number}_PAS{FORMATS[name].suffixes[0]}", name, frame)
        Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / f"P{number}_PAS.png")
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / "P90_PAS.png")
    (tmp_path / "P90_PAS.png.ndpa").write_text("<annotations><ndpviewstate/></annotations>")
    scan = find_sections(tmp_path, "{patient}_{stain}.png", annotation_finder(), centre="A")
    found = {section.patient: section.annotations for section in scan.sections}
    assert len(found) == len(names) + 1  # the mask among the annotations follows the pattern, but is no slide
    for number, name in enumerate(names):
        assert found[f"P{number}"].name == f"P{number}_PAS{FORMATS[name].suffixes[0]}", name
    assert found["P90"].name == "P90_PAS.png.ndpa"


def test_the_better_of_two_files_is_taken_and_the_other_told(tmp_path):
    from stainda.annotations.formats import annotation_finder

    for name in ("P1_PAS.svs", "P2_PAS.svs", "P3_PAS.svs"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "P1_PAS.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    (tmp_path / "P1_PAS.xml").write_text("<ASAP_Annotations/>")
    (tmp_path / "P2_PAS.csv").write_text("id,x,y\n1,2,3\n")  # points of what? they may be landmarks
    (tmp_path / "P2_PAS.png").write_bytes(b"a thumbnail")
    (tmp_path / "P3_PAS_annotations.csv").write_text("id,x,y\n1,2,3\n")
    scan = find_sections(tmp_path, "{patient}_{stain}.svs", annotation_finder(), centre="A")
    assert [section.annotations and section.annotations.name for section in scan.sections] == [
        "P1_PAS.geojson",
        None,
        "P3_PAS_annotations.csv",
    ]
    assert any("P1_PAS.geojson was taken as its annotations, not P1_PAS.xml" in note for note in scan.notes)


def _touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def test_a_block_that_every_laboratory_calls_b1_is_named_by_patient(tmp_path):
    folder = _touch(tmp_path, *(f"2021-{n}_B1_0{s}_PAS.tif" for n in (14, 15, 16) for s in (3, 4)))
    scan = find_sections(folder, "{patient}_{block}_{section}_{stain}.tif", centre="A")
    assert {section.block for section in scan.sections} == {"2021-14_B1", "2021-15_B1", "2021-16_B1"}
    assert any("'B1' alone is a block of 3 patients" in note for note in scan.notes)
    assert len(read_manifest(write_manifest(scan.sections, folder / "manifest.csv"))) == 6


def test_blocks_of_their_own_names_stay(folder):
    scan = find_sections(folder, PATTERN, centre="A")
    assert {section.block for section in scan.sections} == {"B1", "B7"} and not scan.notes


def test_patients_counted_anew_at_each_centre_are_named_apart(tmp_path):
    folder = _touch(tmp_path, *(f"{c}/{n:03d}_{s}_PAS.tif" for c in ("Aachen", "Bonn") for n in (1, 2) for s in (1, 2)))
    scan = find_sections(folder, "{centre}/{patient}_{section}_{stain}.tif")
    assert {section.patient for section in scan.sections} == {"Aachen_001", "Aachen_002", "Bonn_001", "Bonn_002"}
    assert len({section.block for section in scan.sections}) == 4
    assert any("one patient of two centres" in note for note in scan.notes)
    assert len(read_manifest(write_manifest(scan.sections, folder / "manifest.csv"))) == 8


def test_a_patient_whose_sections_were_shared_among_centres_stays_one(tmp_path):
    folder = _touch(tmp_path, "Aachen/001_1_PAS.tif", "Bonn/001_2_PAS.tif")
    scan = find_sections(folder, "{centre}/{patient}_{section}_{stain}.tif")
    assert {section.patient for section in scan.sections} == {"001"}


def test_one_centre_for_folders_of_two_is_suspected(tmp_path):
    names = [f"Centre {c}/{c}{n}_1_PAS.tif" for c in "AB" for n in (1, 2)]
    scan = find_sections(_touch(tmp_path / "two", *names), "{patient}_{section}_{stain}.tif", centre="A")
    assert scan.centre_folders == ("Centre A", "Centre B")
    named = find_sections(tmp_path / "two", "{centre}/{patient}_{section}_{stain}.tif")
    assert named.centre_folders == () and {section.centre for section in named.sections} == {"Centre A", "Centre B"}
    by_patient = _touch(tmp_path / "patients", *(f"P{n}/P{n}_{s}_PAS.tif" for n in (1, 2, 3) for s in (1, 2)))
    scan = find_sections(by_patient, "{patient}_{section}_{stain}.tif", centre="A")
    assert scan.centre_folders == (), "a folder for each patient is no centre"


def test_an_ending_of_two_parts_is_one(tmp_path):
    _touch(tmp_path, "P1_1_PAS.ome.tif", "P1_2_SR.ome.tif", "P1_3_HE.tif")
    (tmp_path / "P1_1_PAS.geojson").write_text("{}")
    (tmp_path / "P1_2_SR_landmarks.csv").write_text("id,x,y\n")
    scan = find_sections(tmp_path, "{patient}_{section}_{stain}.ome.tif", centre="A")
    assert [section.slide for section in scan.sections] == ["P1_1_PAS", "P1_2_SR"]
    assert scan.sections[0].annotations == tmp_path / "P1_1_PAS.geojson"
    assert scan.sections[1].landmarks == tmp_path / "P1_2_SR_landmarks.csv"
    assert not scan.skipped, "P1_3_HE.tif has another ending"


def test_any_ending_of_slides_but_no_other_file(tmp_path):
    _touch(tmp_path, "P1_1_PAS.svs", "P1_2_SR.ndpi", "P1_3_HE.xlsx", "annotations/P1_1_PAS.tif")
    scan = find_sections(tmp_path, "{patient}_{section}_{stain}.*", lambda _: [], centre="A")
    assert {section.path.suffix for section in scan.sections} == {".svs", ".ndpi"}
