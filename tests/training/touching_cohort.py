"""A synthetic cohort in memory whose objects touch: clusters of discs of one colour, their numbers known."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stainda.annotations.raster import PixelGrid
from stainda.cohort import Roles
from stainda.config import ModelConfig, PatchConfig, ProtocolConfig, StrategyConfig, TaskConfig, TrainingConfig
from stainda.patches import TrainingData
from stainda.patches.details import HALF, heat_of
from stainda.training import Job

TISSUE, OWN = np.array([0.90, 0.74, 0.85]), np.array([0.55, 0.28, 0.52])
SIGMA = 2.5


def touching_patch(generator, size=64, clusters=3):
    """uint8 (S, S, 3), and numbers (S, S): each cluster three discs that lie into each other, darker at their middle.

    The chord between two neighbours is nearly as long as the discs are wide: there is hardly a neck between them.
    """
    y, x = np.mgrid[:size, :size].astype(float)
    numbers, shade = np.zeros((size, size), np.int64), np.zeros((size, size))
    value = 0
    for _ in range(clusters):
        radius, turn = generator.uniform(5, 6.5), generator.uniform(0, np.pi)
        cx, cy = generator.uniform(0, size, 2)
        for place in (-1, 0, 1):
            px, py = cx + place * 1.25 * radius * np.cos(turn), cy + place * 1.25 * radius * np.sin(turn)
            away = np.hypot(x - px, y - py) / radius
            nearer = (away <= 1) & ((numbers == 0) | (1 - away > shade))
            value += 1
            numbers[nearer], shade[nearer] = value, (1 - away)[nearer]
    colour = np.where((numbers > 0)[..., None], OWN - 0.25 * shade[..., None], TISSUE)
    image = colour + generator.normal(0, 0.04, colour.shape)
    return (image.clip(0, 1) * 255).astype(np.uint8), numbers


def middles(numbers):
    """x, y of the middles of numbered objects, pixels from the corner."""
    values = np.unique(numbers[numbers > 0])
    return np.array([np.argwhere(numbers == value).mean(0)[::-1] + 0.5 for value in values]).reshape(-1, 2)


class TouchingStore:
    """What ``patches.TrainingData`` reads of a patch store, in memory; ``kind`` as that of the task."""

    classes, weights, margin = ("nucleus",), None, 0

    def __init__(self, kind="instances", count=48, seed=0, size=64, targets=()):
        self.has_details = kind in ("instances", "points")
        generator, rows, images, labels, details = np.random.default_rng(seed), [], [], [], []
        for split, patients in (("train", 3), ("val", 1)):
            for patient in range(patients):
                for index in range(count // 4):
                    image, numbers = touching_patch(generator, size, clusters=0 if index % 6 == 5 else 3)
                    label = (numbers > 0).astype(np.uint8)
                    if kind == "points":
                        grid, points = PixelGrid(0, 0, size, size, 1), middles(numbers)
                        numbers = heat_of(points, [1] * len(points), SIGMA, grid)
                        label = (numbers % 256 >= 128).astype(np.uint8)
                    rows.append({"slide": f"{split}{patient}", "split": split, "kind": "labelled", "domain": "HE@A"})
                    images.append(image)
                    labels.append(label)
                    details.append(numbers)
        for domain in targets:
            for _ in range(count // 2):
                image, numbers = touching_patch(generator, size)
                rows.append({"slide": f"{domain}0", "split": "train", "kind": "unlabelled", "domain": domain})
                images.append(255 - image)
                labels.append(np.full_like(numbers, 255, np.uint8))
                details.append(0 * numbers)
        self.table = pd.DataFrame(rows).assign(patient=[row["slide"] for row in rows])
        for column in ("block", "stain", "centre", "scanner", "around", "x", "y", "downsample"):
            self.table[column] = 0
        own = np.stack(labels)
        self._regions = {
            "images": np.stack(images), "own": own, "propagated": own, "details": np.stack(details).astype(np.uint16)
        }  # fmt: skip
        self.images = self._regions["images"]
        self.tissue_pixels = {
            slide: self.images[group.index].reshape(-1, 3)[::29]
            for slide, group in self.table.groupby("slide", sort=False)
        }

    def labels(self, kind):
        return self._regions["own"]

    def regions(self, name):
        return self._regions[name]


def touching_data(job, **store):
    kept = TouchingStore(job.task.kind, seed=job.seed, targets=job.targets, **store)
    return TrainingData(kept, Roles(job.sources, job.targets), visible=job.protocol.visible)


def touching_job(seed=1, strategy=None, task=None, targets=(), **training):
    settings = {"epochs": 4, "steps_per_epoch": 25, "batch_size": 8, "learning_rate": 5e-3, **training}
    geometry = {"name": "geometry", "params": {"scale": 0, "rotation": 30}}
    return Job(
        study="touching",
        strategy=StrategyConfig(
            **{"name": "source_only", "norm": {"name": "shared"}, "augment": [geometry], **(strategy or {})}
        ),
        model=ModelConfig(name="unet", params={"depth": 3, "width": 8}),
        task=TaskConfig(**{"kind": "instances", "classes": ("nucleus",), "min_object_px": 12, **(task or {})}),
        patches=PatchConfig(size=64, downsample=1),
        training=TrainingConfig(**settings),
        protocol=ProtocolConfig(sources=("HE@A",), visible="targets" if targets else "nothing"),
        sources=("HE@A",), targets=tuple(targets), seed=seed,
    )  # fmt: skip


__all__ = ["HALF", "SIGMA", "TouchingStore", "middles", "touching_data", "touching_job", "touching_patch"]
