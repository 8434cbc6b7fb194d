"""A small cohort whose every pixel is known: colour tells the place, objects are rectangles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import shapely
from PIL import Image

from stainda.annotations import make_shapes
from stainda.cohort import Cohort, Roles, Section
from stainda.config import PatchConfig, TaskConfig

SIDE, MPP = 480, 0.5
RECTANGLES = [(60, 60, 110, 120), (300, 90, 350, 140), (150, 300, 230, 350), (360, 380, 400, 440)]
ROLES = Roles(("PAS@A",), ("SR@A",))
CONFIG = PatchConfig(size=32, mpp=1.0, per_object=3, negatives_per_object=1.0, min_per_slide=5, min_tissue=0.5)
TASK = TaskConfig(classes=("glomerulus", "vessel"))


def slide_image(shift: int = 0) -> np.ndarray:
    """Red tells x, green tells y, blue is dark; a rim of glass."""
    y, x = np.mgrid[:SIDE, :SIDE]
    image = np.stack([60 + x // 4, 60 + y // 4, np.full_like(x, 90 + shift)], -1).astype(np.uint8)
    image[:30] = image[-30:] = 255
    image[:, :30] = image[:, -30:] = 255
    return image


def rectangles(offset: int = 0):
    shapes = [shapely.box(x0 + offset, y0, x1 + offset, y1) for x0, y0, x1, y1 in RECTANGLES]
    return make_shapes(shapes, ["glomerulus", "glomerulus", "glomerulus", "vessel"])


def expected_labels(x: float, y: float, size: int, downsample: float, offset: int = 0) -> np.ndarray:
    """Labels of a patch from the rectangles themselves."""
    centres = (np.arange(size) + 0.5) * downsample
    columns, rows = np.meshgrid(x + centres, y + centres)
    labels = np.zeros((size, size), np.uint8)
    for value, (x0, y0, x1, y1) in zip([1, 1, 1, 2], RECTANGLES, strict=True):
        inside = (columns >= x0 + offset) & (columns < x1 + offset) & (rows >= y0) & (rows < y1)
        labels[inside] = value
    return labels


PATIENTS = (("p1", "train"), ("p2", "val"), ("p3", "test"))


def tint(slide: str) -> int:
    """What tells slides apart: the shift of blue."""
    patient, stain = slide.split("_")
    return int(patient[1:]) + (20 if stain == "SR" else 0)


def write_cohort(folder: Path, patients=PATIENTS, mpp: float | None = MPP) -> Cohort:
    sections = []
    for patient, split in patients:
        for order, stain in enumerate(("PAS", "SR")):
            slide = f"{patient}_{stain}"
            path = folder / f"{slide}.png"
            Image.fromarray(slide_image(tint(slide))).save(path)
            sections.append(Section(slide, patient, patient, order, stain, "A", path, mpp=mpp, split=split))
    return Cohort(tuple(sections))


def own_shapes(cohort: Cohort, target_offset: int = 10):
    return {section.slide: rectangles(0 if section.stain == "PAS" else target_offset) for section in cohort}


def propagated_shapes(cohort: Cohort):
    return {section.slide: rectangles(4) for section in cohort if section.stain == "SR"}
