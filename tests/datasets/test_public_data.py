"""Every public data set, laid out as published (or the real sample of it), becomes a manifest that reads."""

from __future__ import annotations

import csv
import json
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from endless_tiff import endless_tiff
from PIL import Image
from typer.testing import CliRunner

from stainda.annotations import PixelGrid, rasterise, read_landmarks, read_shapes
from stainda.cli.app import app
from stainda.cohort import read_manifest
from stainda.datasets import DATASETS, make_public_manifest
from stainda.datasets.pixels import binary_objects
from stainda.errors import AnnotationError, ManifestError

SIDE = 64
MASK = np.zeros((SIDE, SIDE), bool)
MASK[10:30, 8:24] = True
MASK[40:56, 30:60] = True


def picture(path: Path, side: int = SIDE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(path.name.encode()))
    pixels = rng.integers(120, 250, (side, side, 3), np.uint8)
    if path.suffix in (".tif", ".tiff", ".svs"):
        tifffile.imwrite(path, pixels, photometric="rgb", tile=(16, 16))
    else:
        Image.fromarray(pixels).save(path)
    return path


def mask_file(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".tif", ".tiff"):
        tifffile.imwrite(path, mask)
    else:
        Image.fromarray(mask).save(path, quality=95)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def run_lengths(mask: np.ndarray) -> str:
    """Kaggle's run lengths, an implementation of its own: columns one under the other, counted from 1."""
    flat = np.concatenate([[0], mask.T.ravel().astype(int), [0]])
    change = np.flatnonzero(np.diff(flat)) + 1
    return " ".join(f"{start} {stop - start}" for start, stop in change.reshape(-1, 2))


def asap(group: str, *rings: list[tuple[float, float]]) -> str:
    shapes = "".join(
        f'<Annotation Name="A" Type="Polygon" PartOfGroup="{group}"><Coordinates>'
        + "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}"/>' for i, (x, y) in enumerate(ring))
        + "</Coordinates></Annotation>"
        for ring in rings
    )
    return f"<ASAP_Annotations><Annotations>{shapes}</Annotations><AnnotationGroups/></ASAP_Annotations>"


def square(x: float, y: float, side: float) -> list[tuple[float, float]]:
    return [(x, y), (x + side, y), (x + side, y + side), (x, y + side)]


def make_hubmap(folder: Path) -> None:
    for identity in ("2f6ecfcdf", "8242609fa"):
        picture(folder / "train" / f"{identity}.tiff")
    picture(folder / "test" / "0486052bb.tiff")
    runs = run_lengths(MASK)
    text(folder / "train.csv", f"id,encoding\n2f6ecfcdf,{runs}\n8242609fa,{runs}\naaa6a05cc,{runs}\n")
    rows = "\n".join(
        f"{i}.tiff,64,64,,,{n}" for i, n in (("2f6ecfcdf", 63912), ("8242609fa", 68250), ("0486052bb", 67347))
    )
    header = "image_file,width_pixels,height_pixels,anatomical_structures_segmention_file,glomerulus_segmentation_file"
    text(folder / "HuBMAP-20-dataset_information.csv", f"{header},patient_number\n{rows}\n")


def make_kpis(folder: Path) -> None:
    for split, case in (("train", "12_116"), ("train", "12_117"), ("validation", "12_170"), ("test", "12_299")):
        base = folder / "Task1_patch_level" / split / "56Nx" / case
        stem = f"56Nx_{case}_4_4096_0"
        picture(base / "img" / f"{stem}_img.jpg")
        mask_file(base / "mask" / f"{stem}_mask.jpg", MASK.astype(np.uint8) * 255)
    picture(folder / "Task2_WSI_level" / "train" / "DN" / "11-356_wsi.tiff")
    mask_file(folder / "Task2_WSI_level" / "train" / "DN" / "11-356_mask.tiff", MASK.astype(np.uint8))
    picture(folder / "Task1_patch_level" / "train" / "DN" / "11_356" / "img" / "DN_11_356_1_0_0_img.jpg")


def make_aidpath(folder: Path) -> None:
    picture(folder / "DATASET_A_DIB" / "18B0003267.svs")
    picture(folder / "DATASET_A_DIB" / "18B0004566.svs")
    picture(folder / "DATASET_B_DIB" / "train" / "normal" / "1.png")
    text(folder / "DATASET_A_DIB" / "18B0003267.xml", asap("glomerulus", square(5, 5, 20)))


def make_anhir(folder: Path) -> None:
    for name in ("29-041-Izd2-w35-He-les1", "29-041-Izd2-w35-Cc10-5-les1", "29-041-Izd2-w35-proSPC-4-les1"):
        picture(folder / "images" / "lung-lesion_1" / "scale-5pc" / f"{name}.jpg")
        text(folder / "landmarks" / "lung-lesion_1" / "scale-5pc" / f"{name}.csv", ",X,Y\n1,10,20\n2,30.5,40\n")
    picture(folder / "images" / "COAD_01" / "scale-5pc" / "S1.jpg")
    picture(folder / "images" / "COAD_01" / "scale-5pc" / "HE.jpg")
    pairs = [("COAD_01/scale-5pc/S1", "COAD_01/scale-5pc/HE"), ("COAD_02/scale-5pc/S1", "COAD_01/scale-5pc/HE")]
    header = ",Image diagonal [pixels],Source image,Source landmarks,Target image,Target landmarks,status"
    rows = [f"{i},90.5,{s}.jpg,{s}.csv,{t}.jpg,{t}.csv,training" for i, (s, t) in enumerate(pairs)]
    text(folder / "dataset_medium.csv", "\n".join([header, *rows]))


def make_cima(folder: Path) -> None:
    for scale in (5, 10):
        for name in ("s1_36-CNEU_A4926-4L", "s1_37-HE_A4926-4L", "s1_38-ER-A4962-4L"):
            picture(folder / "mammary-gland_1" / f"scale-{scale}pc" / f"{name}.jpg")
            text(folder / "mammary-gland_1" / f"scale-{scale}pc" / f"{name}.csv", f",X,Y\n1,{scale},2\n2,3,4\n")
    text(folder / "mammary-gland_1" / "user-JB_scale-10pc" / "s1_37-HE_A4926-4L.csv", ",X,Y\n1,9,9\n")


def make_acrobat(folder: Path) -> None:
    for name in ("0_HE_train", "0_KI67_train", "0_HE_val", "0_ER_val", "7_HE_test"):
        picture(folder / name.split("_")[-1] / f"{name}.tif")
    header = "anon_id,set,stain,filename,vendor,model,mpp_lvl_0,magnification_lvl_0"
    listed = ("0_HE_train", "0_KI67_train", "0_HE_val", "0_ER_val", "9_ER_test")
    rows = [f"0,{n.split('_')[2]},{n.split('_')[1]},{n}.tif,hamamatsu,C12000-22,0.91,10" for n in listed]
    text(folder / "df_acrobat_meta.csv", "\n".join([header, *rows]))
    header = (
        "anon_id,anon_filename_he,anon_filename_ihc,point_id,ihc_x,ihc_y,mpp_ihc_10X,mpp_he_10X,ihc_antibody,he_x,he_y"
    )
    rows = [
        "0,0_HE_val.ndpi,0_ER_val.ndpi,1,9.1,18.2,0.91,0.5,ER,10,20",
        "0,0_HE_val.ndpi,0_ER_val.ndpi,2,9,9,0.91,0.5,ER,,",
    ]
    text(folder / "acrobat_validation_points_public_1_of_1.csv", "\n".join([header, *rows]))


def make_monuseg(folder: Path) -> None:
    training = folder / "MoNuSeg 2018 Training Data"
    region = '<Region Id="{}" Type="0" NegativeROA="0"><Vertices>{}</Vertices></Region>'
    vertex = '<Vertex X="{}" Y="{}" Z="0"/>'
    regions = region.format(1, "".join(vertex.format(*xy) for xy in square(3, 4, 9)))
    regions += region.format(2, vertex.format(5, 5))  # as there are in the original files
    content = (
        f'<Annotations MicronsPerPixel="0.252"><Annotation><Regions>{regions}</Regions></Annotation></Annotations>'
    )
    for name in ("TCGA-A7-A13E-01Z-00-DX1", "TCGA-A7-A13F-01Z-00-DX1", "TCGA-B0-5711-01Z-00-DX1"):
        picture(training / "Tissue Images" / f"{name}.tif")
        text(training / "Annotations" / f"{name}.xml", content)
    picture(folder / "MoNuSegTestData" / "TCGA-2Z-A9J9-01A-01-TS1.tif")
    text(folder / "MoNuSegTestData" / "TCGA-2Z-A9J9-01A-01-TS1.xml", content)
    text(folder / "MoNuSegTestData" / "TCGA-44-2665-01B-06-BS6.xml", content)


def make_nuinsseg(folder: Path) -> None:
    labels = np.zeros((SIDE, SIDE), np.uint16)
    labels[10:20, 10:20], labels[10:20, 20:30], labels[40:50, 40:50] = 1, 2, 300  # two that touch
    for organ in ("human kidney", "mouse kidney"):
        stem = f"{organ.replace(' ', '_')}_01"
        picture(folder / organ / "tissue images" / f"{stem}.png")
        mask_file(folder / organ / "label masks modify" / f"{stem}.tif", labels)
    mask_file(
        folder / "human kidney" / "vague areas" / "mask binary" / "human_kidney_01.png", MASK.astype(np.uint8) * 255
    )
    picture(folder / "human kidney" / "tissue images" / "human_kidney_02.png")


def make_midog(folder: Path) -> None:
    images = [{"id": n, "file_name": f"{n:03d}.tiff", "width": 128, "height": 128} for n in (1, 2, 51, 151, 152)]
    for image in images[:4]:
        picture(folder / "images" / image["file_name"], 128)
    boxes = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 60, 70]},
             {"id": 2, "image_id": 51, "category_id": 2, "bbox": [3.5, 4, 53.5, 54]}]  # fmt: skip
    categories = [{"id": 1, "name": "mitotic figure"}, {"id": 2, "name": "hard negative"}]
    text(folder / "MIDOG.json", json.dumps({"images": images, "annotations": boxes, "categories": categories}))


def make_camelyon(folder: Path) -> None:
    for name in ("patient_004_node_4", "patient_021_node_0", "patient_021_node_1", "patient_150_node_0"):
        picture(folder / "images" / f"{name}.tif")
    lesions = asap("metastases", square(5, 5, 40)).replace(
        "</Annotations>",
        asap("normal", square(10, 10, 10)).split("<Annotations>")[1].split("</Annotations>")[0] + "</Annotations>",
    )
    text(folder / "annotations" / "patient_004_node_4.xml", lesions)
    text(folder / "annotations" / "patient_009_node_1.xml", lesions)
    text(folder / "stages.csv", "patient,stage\npatient_021.zip,pN0\npatient_021_node_0.tif,negative\n")


MAKERS = {
    "hubmap_kidney": make_hubmap, "kpis": make_kpis, "aidpath_kidney": make_aidpath, "anhir": make_anhir,
    "cima": make_cima, "acrobat": make_acrobat, "monuseg": make_monuseg, "nuinsseg": make_nuinsseg,
    "midog": make_midog, "camelyon17": make_camelyon,
}  # fmt: skip


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
