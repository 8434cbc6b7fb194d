"""Every public data set, laid out as published (or the real sample of it), becomes a manifest that reads."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from endless_tiff import endless_tiff
from PIL import Image
from public_folders import MAKERS, MASK, SIDE, make_hubmap, make_midog, make_nuinsseg
from typer.testing import CliRunner

from stainda.annotations import PixelGrid, rasterise, read_landmarks, read_shapes
from stainda.cli.app import app
from stainda.cohort import read_manifest
from stainda.datasets import DATASETS, make_public_manifest
from stainda.datasets.entry import Notes
from stainda.datasets.pixels import binary_objects, labelled_objects
from stainda.errors import AnnotationError, ManifestError


@pytest.fixture
def made(tmp_path):
    def make(name):
        folder = tmp_path / "download"
        folder.mkdir()
        MAKERS[name](folder)
        before = sorted(folder.rglob("*"))
        result = make_public_manifest(name, folder, tmp_path / "out")
        assert sorted(folder.rglob("*")) == before  # the user's data are only read
        return result, read_manifest(result.manifest)

    return make


def notes(result, kind: str) -> str:
    return "\n".join(f"{slide}: {what}" for slide, one, what in result.notes if one == kind)


@pytest.mark.parametrize("name", DATASETS)
def test_the_published_layout_becomes_a_manifest_that_reads(name, made):
    result, cohort = made(name)
    assert len(cohort) == len(result.sections) > 1
    assert sum(section.annotations is not None for section in cohort) == result.annotated
    assert sum(section.landmarks is not None for section in cohort) == result.landmarks
    with result.notes_file.open(newline="") as stream:
        assert [tuple(row.values()) for row in csv.DictReader(stream)] == list(result.notes)
    assert result.notes[0][1] == "layout" and DATASETS[name].checked in result.notes[0][2]
    told = DATASETS[name]
    assert all(
        (told.title, told.good_for, told.stains, told.centres, told.licence, told.where, told.layout, told.checked)
    )


@pytest.mark.parametrize("name", ["kpis", "monuseg", "camelyon17"])
def test_folders_above_the_one_that_is_given_say_nothing_of_its_slides(name, made, tmp_path):
    result, _ = made(name)
    elsewhere = tmp_path / "center_4" / "normal" / "training data" / "MoNuSegTestData" / "test" / "download"
    elsewhere.mkdir(parents=True)
    MAKERS[name](elsewhere)
    again = make_public_manifest(name, elsewhere, tmp_path / "again").sections
    assert [(one.slide, one.patient, one.centre, one.split) for one in again] == [
        (one.slide, one.patient, one.centre, one.split) for one in result.sections
    ]


def test_a_folder_above_gives_no_split_to_whole_slides_of_no_published_one(tmp_path):
    folder = tmp_path / "test" / "download"
    MAKERS["kpis"](folder)
    (folder / "Task2_WSI_level" / "train" / "DN").rename(folder / "DN")
    found = DATASETS["kpis"].find(folder, Notes())
    assert [slide.split for slide in found if slide.slide == "DN_11-356"] == [None]
    assert {slide.split for slide in found} == {None, "train", "val", "test"}


def test_the_given_folder_may_be_that_of_one_disease_model(tmp_path):
    MAKERS["kpis"](tmp_path)
    result = make_public_manifest("kpis", tmp_path / "Task2_WSI_level" / "train" / "DN", tmp_path / "out")
    assert [section.patient for section in result.sections] == ["DN_11-356"]


@pytest.mark.parametrize("name", DATASETS)
def test_a_folder_of_something_else_is_refused_with_what_was_expected_and_found(name, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "holiday.doc").write_text("no slide")
    with pytest.raises(ManifestError, match=r"expected .*; found holiday\.doc \(1 \.doc\)"):
        make_public_manifest(name, tmp_path / "other", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_hubmap_masks_are_the_run_lengths(made):
    result, cohort = made("hubmap_kidney")
    section = cohort.section("2f6ecfcdf")
    assert (section.patient, section.stain, section.split) == ("63912", "PAS", None)
    painted = rasterise(read_shapes(section.annotations), ["glomerulus"], PixelGrid(0, 0, SIDE, SIDE, 1))
    assert (painted == MASK).all()
    assert cohort.section("0486052bb").annotations is None
    assert "aaa6a05cc" in notes(result, "missing")


def test_kpis_splits_masks_and_patients(made):
    result, cohort = made("kpis")
    assert {section.slide: section.split for section in cohort}["DN_11-356"] == "train"
    assert sorted(section.split for section in cohort if section.slide != "DN_11-356") == [
        "test",
        "train",
        "train",
        "val",
    ]
    assert "1 patches that are cut from whole slides" in notes(result, "left out")
    for section in cohort:  # saved as 0/1 in one file, as 0/255 with loss in the others
        painted = rasterise(read_shapes(section.annotations), ["glomerulus"], PixelGrid(0, 0, SIDE, SIDE, 1))
        assert (painted == MASK).mean() > 0.99
    assert cohort.section("DN_11-356").patient == "DN_11-356"


def test_aidpath_takes_outlines_beside_the_slide(made):
    result, cohort = made("aidpath_kidney")
    assert read_shapes(cohort.section("18B0003267").annotations).area.tolist() == [400]
    assert cohort.section("18B0004566").annotations is None
    assert "1 pictures of single glomeruli" in notes(result, "left out")


def test_anhir_pairs_images_with_landmarks_of_another_folder(made):
    result, cohort = made("anhir")
    block = cohort.blocks()["lung-lesion_1"]
    assert [(one.stain, one.section) for one in block] == [("HE", 1), ("PROSPC", 2), ("CC10", 3)]
    assert {one.patient for one in block} == {"29-041"}
    assert read_landmarks(block[0].landmarks)["x"].tolist() == [10, 30.5]
    assert "COAD_02/scale-5pc/S1.jpg" in notes(result, "missing")
    assert "'S1.jpg' tells none" in notes(result, "guessed")


def test_cima_uses_the_finest_scale_and_its_landmarks(made):
    result, cohort = made("cima")
    assert [(section.stain, section.section, section.patient) for section in cohort] == [
        ("NEU", 1, "A4926-4L"), ("HE", 2, "A4926-4L"), ("ER", 3, "A4926-4L"),
    ]  # fmt: skip
    assert read_landmarks(cohort.sections[0].landmarks)["x"].tolist() == [10, 3]
    assert "only 10 % is used" in notes(result, "left out")


def test_acrobat_patients_of_two_sets_are_two_and_points_become_pixels(made):
    result, cohort = made("acrobat")
    assert {section.patient for section in cohort} == {"train_0", "val_0", "test_7"}
    he, er = (read_landmarks(cohort.section(name).landmarks) for name in ("0_HE_val", "0_ER_val"))
    assert (he["x"][0], he["y"][0]) == pytest.approx((20, 40))
    assert (er["x"][0], er["y"][0]) == pytest.approx((10, 20))
    assert list(he["id"]) == list(er["id"])
    assert "1 points" in notes(result, "missing") and "1 of 5 slides" in notes(result, "missing")
    assert cohort.section("0_HE_val").scanner == "hamamatsu C12000-22" and cohort.section("0_HE_val").mpp == 0.91


def test_monuseg_outlines_splits_and_what_cannot_be_used(made):
    result, cohort = made("monuseg")
    assert cohort.section("TCGA-2Z-A9J9-01A-01-TS1").split == "test"
    assert sorted(section.split for section in cohort) == [
        "test",
        "train",
        "train",
        "val",
    ]  # one of two patients of a site
    shapes = read_shapes(cohort.section("TCGA-A7-A13E-01Z-00-DX1").annotations)
    assert (shapes["class"].tolist(), shapes.area.tolist()) == (["nucleus"], [81])
    assert notes(result, "mended").count("1 shapes dropped") == 4  # the outline of one point in each file
    assert "TCGA-44-2665-01B-06-BS6" in notes(result, "missing")


def test_nuinsseg_keeps_touching_nuclei_apart(made):
    result, cohort = made("nuinsseg")
    shapes = read_shapes(cohort.section("human_kidney_01").annotations)
    assert sorted(shapes[shapes["class"] == "nucleus"].area) == [100, 100, 100]
    assert sorted(shapes[shapes["class"] == "Ignore*"].area) == [320, 480]
    assert cohort.section("human_kidney_02").annotations is None
    assert "label masks modify" in notes(result, "missing")


def test_midog_tells_no_figure_from_not_labelled(made):
    result, cohort = made("midog")
    assert read_shapes(cohort.section("midog_001").annotations).total_bounds.tolist() == [10, 20, 60, 70]
    assert len(read_shapes(cohort.section("midog_002").annotations)) == 0
    assert cohort.section("midog_151").annotations is None
    assert [section.scanner for section in cohort] == ["Hamamatsu XR", "Hamamatsu XR", "Hamamatsu S360", "Leica GT450"]
    assert "1 of 5 images" in notes(result, "missing")


def test_midog_boxes_of_another_meaning_are_refused(tmp_path):
    make_midog(tmp_path / "a")
    path = tmp_path / "a" / "MIDOG.json"
    path.write_text(path.read_text().replace("[10, 20, 60, 70]", "[10, 20, 33, 70]"))
    with pytest.raises(Exception, match="boxes are not of 50 px"):
        make_public_manifest("midog", tmp_path / "a", tmp_path / "out")


def test_camelyon_centres_holes_and_negative_slides(made):
    result, cohort = made("camelyon17")
    assert [section.centre for section in cohort] == ["centre_0", "centre_1", "centre_1", "unknown"]
    assert read_shapes(cohort.sections[0].annotations).area.tolist() == [1600 - 100]
    assert len(read_shapes(cohort.section("patient_021_node_0").annotations)) == 0
    assert cohort.section("patient_021_node_1").annotations is None
    assert "patient_009_node_1.tif" in notes(result, "missing")


def test_a_damaged_slide_is_left_out_and_told(tmp_path):
    make_hubmap(tmp_path / "a")
    (tmp_path / "a" / "train" / "2f6ecfcdf.tiff").write_bytes(b"II*\0 cut short")
    result = make_public_manifest("hubmap_kidney", tmp_path / "a", tmp_path / "out")
    assert sorted(section.slide for section in result.sections) == ["0486052bb", "8242609fa"]
    assert "2f6ecfcdf: the slide cannot be read" in notes(result, "left out")


def test_pixel_sizes_given_fill_what_the_files_do_not_tell(tmp_path):
    make_nuinsseg(tmp_path / "a")
    assert "the pixel size of 3" in notes(make_public_manifest("nuinsseg", tmp_path / "a", tmp_path / "out"), "missing")
    result = make_public_manifest("nuinsseg", tmp_path / "a", tmp_path / "out", mpp=0.25)
    assert {section.mpp for section in result.sections} == {0.25}


def test_the_output_never_lies_in_the_data(tmp_path):
    make_hubmap(tmp_path / "a")
    with pytest.raises(ManifestError, match="inside the downloaded data"):
        make_public_manifest("hubmap_kidney", tmp_path / "a", tmp_path / "a" / "train" / "out")
    with pytest.raises(ManifestError, match="Did you mean 'hubmap_kidney'"):
        make_public_manifest("hubmap", tmp_path / "a", tmp_path / "out")


def test_real_monuseg_test_images(real_data, tmp_path):
    folder = real_data / "nuclei_monuseg_test14"
    for path in [*sorted(folder.glob("images/*"))[:3], *sorted(folder.glob("masks/*"))[:3]]:
        (tmp_path / "a" / path.parent.name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "a" / path.parent.name / path.name).symlink_to(path)
    result = make_public_manifest("monuseg", tmp_path / "a", tmp_path / "out")
    assert len(result.sections) == result.annotated == 3
    section = read_manifest(result.manifest).section("TCGA-2Z-A9J9-01A-01-TS1")
    truth = np.asarray(Image.open(folder / "masks" / "TCGA-2Z-A9J9-01A-01-TS1.jpg").convert("L")) > 127
    painted = rasterise(read_shapes(section.annotations), ["nucleus"], PixelGrid(0, 0, 1000, 1000, 1))
    assert (painted == truth).mean() > 0.999
    assert (section.patient, section.centre) == ("TCGA-2Z-A9J9", "2Z")


def test_real_hubmap_tiles(real_data, tmp_path):
    result = make_public_manifest("hubmap_kidney", real_data / "hubmap_pas_tiles", tmp_path)
    cohort = read_manifest(result.manifest)
    assert len(cohort) == 12 and set(cohort.patients) == {"2f6ecfcdf", "8242609fa"}
    folder = real_data / "hubmap_pas_tiles" / "data_1" / "masks_256_red16"
    for section in cohort.sections[:3]:
        truth = np.asarray(Image.open(folder / f"{section.slide}.png")) > 0
        assert (
            rasterise(read_shapes(section.annotations), ["glomerulus"], PixelGrid(0, 0, 256, 256, 1)) == truth
        ).all()
    assert result.shapes >= 45


def test_the_real_rat_kidney_pair_laid_out_as_published(real_data, tmp_path):
    folder = tmp_path / "rat-kidney_" / "scale-5pc"
    folder.mkdir(parents=True)
    for name in ("HE", "PanCK"):
        (folder / f"Rat-Kidney_{name}.jpg").symlink_to(real_data / "rat_kidney" / f"{name}.jpg")
        (folder / f"Rat-Kidney_{name}.csv").symlink_to(real_data / "rat_kidney" / f"{name}_landmarks.csv")
    cohort = read_manifest(make_public_manifest("cima", tmp_path, tmp_path.parent / f"{tmp_path.name}-out").manifest)
    assert [section.stain for section in cohort] == ["HE", "PANCK"]
    assert [len(read_landmarks(section.landmarks)) for section in cohort] == [71, 69]


def run(*arguments):
    result = CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "200"})
    return result, " ".join(result.output.split())


def test_the_commands_as_a_newcomer_types_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_hubmap(tmp_path / "download")
    result, said = run("manifest", "make", "hubmap_kidney", "download", "--mpp", "0.5")
    assert result.exit_code == 0, said
    assert "3 slides, 2 with annotations (4 shapes)" in said and "missing" in said
    assert run("manifest", "check", "hubmap_kidney/manifest.csv")[0].exit_code == 0
    result, said = run("manifest", "make", "--list")
    assert result.exit_code == 0
    assert all(dataset.name in said and dataset.title in said for dataset in DATASETS.values())
    assert said.count("layout checked against") == len(DATASETS)
    assert run("manifest", "make")[0].exit_code == 2
    result, said = run("list", "data")
    assert result.exit_code == 0 and all(name in said for name in DATASETS)
    result, said = run("manifest", "make", "--help")
    assert "stainda manifest make" in said and "xample" in said


def test_the_readme_says_what_the_command_says():
    """The table of data_manifests/README.md is written from the registry."""
    readme = (Path(__file__).parents[2] / "data_manifests" / "README.md").read_text(encoding="utf-8")
    for dataset in DATASETS.values():
        assert (
            f"| `{dataset.name}` ({dataset.title}) | {dataset.good_for} | {dataset.stains} | {dataset.centres} |"
            in readme
        ), dataset.name
        assert f"| `{dataset.name}` | {dataset.layout} | {dataset.checked} |" in readme, dataset.name
        assert dataset.licence in readme and dataset.where in readme


def test_a_mask_whose_directories_never_end_is_refused(tmp_path):
    path = tmp_path / "mask.tif"
    path.write_bytes(endless_tiff(np.zeros((64, 64, 3), np.uint8)))
    with pytest.raises(AnnotationError, match="follows itself") as error:
        binary_objects(path, SimpleNamespace(size=(64, 64)), "glomerulus")
    assert str(path) in str(error.value)


def test_a_mask_with_a_damaged_structure_is_refused(tmp_path):
    path = tmp_path / "mask.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8), tile=(32, 32))
    with tifffile.TiffFile(path) as file:
        tag = file.pages[0].tags["TileWidth"]
    data = bytearray(path.read_bytes())
    data[tag.offset + 4] = 2  # two numbers instead of one
    path.write_bytes(data)
    with pytest.raises(AnnotationError, match="cannot be read"):
        binary_objects(path, SimpleNamespace(size=(64, 64)), "glomerulus")


@pytest.mark.parametrize(
    ("name", "file", "content"),
    [
        ("hubmap_kidney", "train.csv", "id,encoding\n2f6ecfcdf,1 x\n"),
        ("kpis", "Task2_WSI_level/train/DN/11-356_mask.tiff", "no picture"),
        ("cima", "mammary-gland_1/scale-10pc/s1_37-HE_A4926-4L.csv", "a,b\n1,2\n"),
    ],
)
def test_a_note_on_what_is_left_out_names_the_file_at_fault(name, file, content, tmp_path):
    MAKERS[name](tmp_path / "a")
    (tmp_path / "a" / file).write_text(content)
    left_out = notes(make_public_manifest(name, tmp_path / "a", tmp_path / "out"), "left out")
    assert Path(file).name in left_out and str(tmp_path) not in left_out


def test_acrobat_points_that_are_cut_short_endless_or_there_twice_are_no_landmarks(tmp_path):
    MAKERS["acrobat"](tmp_path / "a")
    path = tmp_path / "a" / "acrobat_validation_points_public_1_of_1.csv"
    header, first, _ = path.read_text().splitlines()
    endless = first.replace(",1,9.1,", ",3,1e999,")
    path.write_text("\n".join([header, first, first, "0,0_HE_val.ndpi", endless]))
    result = make_public_manifest("acrobat", tmp_path / "a", tmp_path / "out")
    section = read_manifest(result.manifest).section("0_HE_val")
    assert read_landmarks(section.landmarks)["x"].tolist() == [20]
    assert "1 points" in notes(result, "left out") and "2 points" in notes(result, "missing")


def test_a_point_whose_id_holds_a_separator_of_lines_is_read_again(tmp_path):
    """As the fuzz made it: what was written could not be read."""
    MAKERS["acrobat"](tmp_path / "a")
    path = tmp_path / "a" / "acrobat_validation_points_public_1_of_1.csv"
    path.write_text(path.read_text().replace(",1,9.1,", ",a\x0b\x1d1,9.1,"))
    result = make_public_manifest("acrobat", tmp_path / "a", tmp_path / "out")
    assert read_landmarks(read_manifest(result.manifest).section("0_HE_val").landmarks)["x"].tolist() == [20]


def read_mask(path: Path, pixels: np.ndarray, **options: object):
    tifffile.imwrite(path, pixels, **options)
    return labelled_objects(path, SimpleNamespace(size=(SIDE, SIDE)), "nucleus")[0]


def test_a_mask_far_finer_than_its_slide_is_refused_before_its_pixels_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", lambda *_: pytest.fail("its pixels are read"))
    for pixels in (np.zeros((4 * SIDE, 4 * SIDE), np.uint8), np.zeros((SIDE, SIDE // 2), np.uint8)):
        with pytest.raises(AnnotationError, match="do not fit a slide of 64 x 64"):
            read_mask(tmp_path / "mask.tif", pixels)
    with pytest.raises(AnnotationError, match="no picture of numbers"):
        read_mask(tmp_path / "mask.tif", np.zeros((SIDE, SIDE, 50), np.uint8), planarconfig="contig", photometric=1)


def test_large_numbers_of_objects_are_kept_and_endless_ones_refused(tmp_path):
    numbers = np.zeros((SIDE, SIDE), np.uint32)
    numbers[:8, :8], numbers[8:16, :8] = 2**32 - 1, 2**31
    shapes = read_mask(tmp_path / "mask.tif", numbers)
    assert [properties["label"] for properties in shapes["properties"]] == [2**31, 2**32 - 1]
    for value in (np.inf, np.nan, 1e30, 0.5):
        with pytest.raises(AnnotationError, match="fractions or endless numbers"):
            read_mask(tmp_path / "mask.tif", np.full((SIDE, SIDE), value, np.float32))
