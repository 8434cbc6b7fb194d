"""Small folders laid out as the public data sets are."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

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
