"""Registered pairs of sections in which another stain turns contrasts over: dark in one is pale in the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import shapely
from PIL import Image

from stainda.annotations import make_shapes
from stainda.cohort import Cohort, Roles, Section
from stainda.config import PatchConfig, StrategyConfig, TaskConfig, TrainingConfig
from stainda.patches import PatchStore, build_store
from stainda.patches.serial import SectionLink, build_serial
from stainda.training import Job

SIDE, MPP, SIZE = 512, 1.0, 32
ROLES = Roles(("PAS@A",), ("SR@A",))
PATCHES = PatchConfig(size=SIZE, mpp=1.0, per_object=1, min_per_slide=140, min_tissue=0.5, margin=0)
TASK = TaskConfig(classes=("glomerulus",))
PATIENTS = (("p1", "train"), ("p2", "train"), ("p3", "val"), ("p4", "test"))
# tissue, discs, squares, bars: each stain has its own order of light and dark
COLOURS = {
    "PAS": ((200, 150, 180), (110, 50, 110), (235, 215, 228), (160, 50, 120)),
    "SR": ((150, 90, 60), (235, 215, 160), (90, 40, 30), (200, 160, 110)),
}


def section_images(seed: int) -> tuple[dict[str, np.ndarray], list]:
    """The same scene in both stains, and its discs as shapes."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    kinds, shapes = np.zeros((SIDE, SIDE), np.uint8), []
    for index in range(230):
        cx, cy, kind = *generator.uniform(30, SIDE - 30, 2), 1 if index % 9 == 0 else index % 2 + 2
        radius = generator.uniform(4, 9)
        if kind == 1:
            inside = (x - cx) ** 2 + (y - cy) ** 2 < radius**2
            if not kinds[inside].any():
                shapes.append(shapely.Point(cx, cy).buffer(radius))
        elif kind == 2:
            inside = (abs(x - cx) < 0.8 * radius) & (abs(y - cy) < 0.8 * radius)
        else:
            angle = generator.uniform(0, np.pi)
            along = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
            across = -(x - cx) * np.sin(angle) + (y - cy) * np.cos(angle)
            inside = (abs(along) < 2 * radius) & (abs(across) < 2)
        if not kinds[inside].any():
            kinds[inside] = kind
    images = {}
    for stain, colours in COLOURS.items():
        image = (
            np.asarray(colours)[kinds]
            + generator.normal(0, 6, (SIDE, SIDE, 1))
            + generator.normal(0, 3, (SIDE, SIDE, 3))
        )
        image[:20] = image[-20:] = 255
        image[:, :20] = image[:, -20:] = 255
        images[stain] = image.clip(0, 255).astype(np.uint8)
    return images, shapes


def write_sections(folder: Path) -> tuple[Cohort, dict]:
    sections, own = [], {}
    for number, (patient, split) in enumerate(PATIENTS):
        images, shapes = section_images(number)
        for order, (stain, image) in enumerate(images.items()):
            slide = f"{patient}_{stain}"
            Image.fromarray(image).save(folder / f"{slide}.png")
            path = folder / f"{slide}.png"
            sections.append(Section(slide, patient, patient, order, stain, "A", path, mpp=MPP, split=split))
            own[slide] = make_shapes(shapes, "glomerulus")
    return Cohort(tuple(sections)), own


def links(cohort: Cohort, split: str) -> list[SectionLink]:
    """Each patient's two sections lie on each other."""

    def same(points: np.ndarray) -> np.ndarray:
        return points

    patients = [name for name, of in PATIENTS if of == split]
    return [SectionLink(f"{patient}_PAS", f"{patient}_SR", same, same, 2.0, 1, patient) for patient in patients]


def make_store(folder: Path) -> tuple[PatchStore, Cohort, dict]:
    """Patches, and pairs for training without labels and of validation patients."""
    cohort, own = write_sections(folder)
    store = build_store(cohort, ROLES, PATCHES, TASK, {"own": own, "propagated": {}}, folder / "patches", seed=1)
    for which, split in (("serial_tissue", "train"), ("serial_validation", "val")):
        build_serial(store, cohort, ROLES, links(cohort, split), 1, per_link=80, which=which)
    return store, cohort, own


def make_job(init: dict | None, seed: int = 1, visible: str = "targets", **training) -> Job:
    from stainda.config import ModelConfig, ProtocolConfig

    settings = {"epochs": 2, "steps_per_epoch": 10, "batch_size": 8, "learning_rate": 3e-3, **training}
    strategy = StrategyConfig(name="source_only", augment=({"name": "geometry", "scale": 0},))
    return Job(
        study="sections", strategy=strategy, model=ModelConfig(name="unet", params={"depth": 3, "width": 8}), task=TASK,
        patches=PATCHES, training=TrainingConfig(init=init, **settings),
        protocol=ProtocolConfig(sources=ROLES.sources, visible=visible), sources=ROLES.sources, targets=ROLES.targets,
        seed=seed,
    )  # fmt: skip
