"""Public data sets: a small folder of each, in which one mask, file of outlines or table is changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from hostile_files import NUMBERS, TOKENS, Case
from PIL import Image
from public_folders import MAKERS, MASK, SIDE, asap, mask_file, picture, square, text

from stainda.annotations import read_landmarks, read_shapes
from stainda.cohort import read_manifest
from stainda.datasets import make_public_manifest
from stainda.errors import AnnotationError, StaindaError

PIXELS = (*NUMBERS, *TOKENS[:8])


def _read(name: str) -> Callable[[Path], object]:
    """``stainda manifest make NAME FOLDER``, and reading what it wrote.

    The error that its notes state of a single file is raised, and has to name that file. A name in a table that is none
    for a manifest (``a@b`` as a scanner) is written as it is, and refused when the manifest is read.
    """

    def read(path: Path) -> object:
        folder = next(parent for parent in path.parents if parent.name == "download")
        made = make_public_manifest(name, folder, folder.parent / "out")
        cohort = read_manifest(made.manifest)
        try:
            for section in cohort:
                if section.annotations is not None and path.suffix != ".csv":
                    read_shapes(section.annotations)
                if section.landmarks is not None:
                    read_landmarks(section.landmarks)
        except StaindaError as error:
            raise AssertionError("what was written cannot be read") from error
        for slide, kind, what in made.notes:
            if kind == "left out" and "cannot be read" in what:
                assert path.name in what, f"{what!r} does not name the file"
                raise AnnotationError(f"{slide}: {what}")
        return made

    return read


def _case(name: str, file: str, add: Callable[[Path], None] | None = None, share: float = 1) -> Case:
    """A data set of which one file is changed.

    ``add`` writes this file where ``MAKERS`` makes none; of a mask, together with its slide, as the only one.
    """
    is_mask = file.endswith((".tif", ".tiff", ".png", ".jpg"))

    def make(folder: Path) -> Path:
        path = folder / "download" / file
        if not is_mask:
            MAKERS[name](folder / "download")
        if add is not None:
            add(path)
        return path

    title = f"{name}: {file.rpartition('/')[2]}"
    return Case(title, make, _read(name), PIXELS if is_mask else TOKENS, writes=("out",), share=share)


def _qupath(path: Path) -> None:
    """Outlines of a slide that the table of run lengths does not know."""
    picture(path.with_suffix(".tiff"))
    ring = [list(corner) for corner in [*square(5, 5, 30), (5, 5)]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    properties = {"classification": {"name": "glomerulus", "colorRGB": -3140401}, "isLocked": True}
    feature = {"type": "Feature", "id": "PathAnnotationObject", "geometry": geometry, "properties": properties}
    text(path, json.dumps([feature, {**feature, "geometry": {**geometry, "coordinates": [ring[:3] + ring[:1]]}}]))


def _mask(slide: str, write: Callable[[Path], None]) -> Callable[[Path], None]:
    """A mask and its slide, whose path is given as seen from the mask."""

    def add(path: Path) -> None:
        picture((path.parent / slide).resolve())
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)

    return add


def _binary(path: Path) -> None:
    mask_file(path, MASK.astype(np.uint8) * 255)


def _pyramid(path: Path) -> None:
    """As a scanner would write it."""
    image = MASK.astype(np.uint8) * 255
    with tifffile.TiffWriter(path) as writer:
        for step in (1, 2):
            tiles = {"tile": (16, 16), "compression": "deflate", "subfiletype": int(step > 1), "metadata": None}
            writer.write(image[::step, ::step], **tiles)


def _jpeg_tiles(path: Path) -> None:
    image = np.stack([MASK.astype(np.uint8) * 255] * 3, axis=2)
    tifffile.imwrite(path, image, tile=(32, 32), photometric="rgb", compression="jpeg", metadata=None)


def _labels(path: Path) -> None:
    labels = np.arange(64, dtype=np.uint16).reshape(8, 8)
    mask_file(path, np.kron(labels, np.ones((SIDE // 8, SIDE // 8), np.uint16)))


def _real_numbers(path: Path) -> None:
    labels = np.arange(64, dtype=np.float32).reshape(8, 8)
    tifffile.imwrite(path, np.kron(labels, np.ones((SIDE // 8, SIDE // 8), np.float32)), compression="lzw")


def _vague(path: Path) -> None:
    """A palette of two colours, next to numbered nuclei."""
    Image.fromarray(MASK.astype(np.uint8)).convert("P").save(path)
    labels = path.parents[2] / "label masks modify" / f"{path.stem}.tif"
    labels.parent.mkdir(exist_ok=True)
    _labels(labels)


def _folds(path: Path) -> None:
    header = "Slide,Tumor,Scanner,Origin,Dataset"
    text(path, f"{header}\n1,breast,Hamammatsu XR,UMC Utrecht,train\n2,breast,Leica GT450,VMU Vienna,test\n")


def _lesions(path: Path) -> None:
    """A ring that crosses itself over another, and a normal area, which is cut out of both."""
    lesions = asap("metastases", [(5, 5), (45, 45), (45, 5), (5, 45)], square(2, 2, 30))
    text(path, lesions.replace("<Annotations>", "<Annotations>" + _annotation(asap("normal", square(10, 10, 10)))))


def _annotation(document: str) -> str:
    return document.split("<Annotations>")[1].split("</Annotations>")[0]


WHOLE = "Task2_WSI_level/train/DN"
PATCH = "Task1_patch_level/train/DN/11_356/mask/DN_11_356_1_0_0_mask.jpg"
NUCLEI = "human kidney/label masks modify"
VAGUE = "human kidney/vague areas/mask binary/human_kidney_03.png"
TCGA = "TCGA-A7-A13E-01Z-00-DX1"

CASES = [
    _case("hubmap_kidney", "train.csv"),
    _case("hubmap_kidney", "HuBMAP-20-dataset_information.csv", share=0.25),
    _case("hubmap_kidney", "train/aaa6a05cd.json", _qupath),
    _case("hubmap_kidney", "masks/2f6ecfcdf_3.png", _mask("../images/2f6ecfcdf_3.png", _binary)),
    _case("kpis", f"{WHOLE}/strips_mask.tiff", _mask("strips_wsi.tiff", _binary)),
    _case("kpis", f"{WHOLE}/pyramid_mask.tiff", _mask("pyramid_wsi.tiff", _pyramid)),
    _case("kpis", f"{WHOLE}/jpeg_mask.tiff", _mask("jpeg_wsi.tiff", _jpeg_tiles)),
    _case("kpis", PATCH, _mask("../img/DN_11_356_1_0_0_img.jpg", _binary)),
    _case("aidpath_kidney", "DATASET_A_DIB/18B0003267.xml"),
    _case("anhir", "dataset_medium.csv", share=0.25),
    _case("anhir", "landmarks/lung-lesion_1/scale-5pc/29-041-Izd2-w35-He-les1.csv"),
    _case("cima", "mammary-gland_1/scale-10pc/s1_37-HE_A4926-4L.csv"),
    _case("acrobat", "df_acrobat_meta.csv", share=0.25),
    _case("acrobat", "acrobat_validation_points_public_1_of_1.csv"),
    _case("monuseg", f"MoNuSeg 2018 Training Data/Annotations/{TCGA}.xml", share=0.5),
    _case("monuseg", f"masks/{TCGA}.jpg", _mask(f"../images/{TCGA}.jpg", _binary)),
    _case("nuinsseg", f"{NUCLEI}/human_kidney_03.tif", _mask("../tissue images/human_kidney_03.png", _labels)),
    _case("nuinsseg", f"{NUCLEI}/real_kidney_04.tif", _mask("../tissue images/real_kidney_04.png", _real_numbers)),
    _case("nuinsseg", VAGUE, _mask("../../tissue images/human_kidney_03.png", _vague)),
    _case("midog", "MIDOG.json"),
    _case("midog", "datasets_xvalidation.csv", _folds, share=0.25),
    _case("camelyon17", "annotations/patient_004_node_4.xml", _lesions),
    _case("camelyon17", "stages.csv", share=0.25),
]
