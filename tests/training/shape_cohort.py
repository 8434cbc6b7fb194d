"""Patches in memory that show one disc or one square of the same colour and area: only the shape tells the class."""

from __future__ import annotations

import json

import numpy as np
from blob_cohort import COLOURS

from stainda.config import ModelConfig, TaskConfig
from stainda.strategies.detector import Detector

TASK = TaskConfig(kind="classification", classes=("glomerulus",), centre=0.17)
CNN = ModelConfig(name="cnn", params={"depth": 3, "width": 8})


def make_shapes(domain, count, seed, size=48):
    """Discs (odd) and squares (even) of one colour and area near the middle, uint8 (n, S, S, 3), labels (n, S, S)."""
    generator = np.random.default_rng([seed, *domain.encode()])
    tissue, own, _ = (np.asarray(colour) for colour in COLOURS[domain])
    y, x = np.mgrid[:size, :size]
    images, labels = np.empty((count, size, size, 3), np.uint8), np.zeros((count, size, size), np.uint8)
    for index in range(count):
        (cx, cy), radius = generator.uniform(22, 26, 2), generator.uniform(8, 12)
        disc = (x - cx) ** 2 + (y - cy) ** 2 < radius**2
        square = np.maximum(abs(x - cx), abs(y - cy)) < radius * np.pi**0.5 / 2
        shade = generator.normal(0, 0.06, 3)
        image = np.where((disc if index % 2 else square)[..., None], own + shade, tissue + generator.normal(0, 0.06, 3))
        image = image + generator.normal(0, 0.06, image.shape)
        images[index] = (image.clip(0, 1) * 255).astype(np.uint8)
        labels[index] = disc if index % 2 else 0
    return images, labels


def accuracy(folder, domain):
    detector = Detector.load(folder, json.loads((folder / "settings.json").read_text()), "last")
    images, _ = make_shapes(domain, 300, seed=99)
    shares = detector.probabilities(images, [f"{domain}_train0"] * len(images))[:, 0].numpy()
    return float(((shares > 0.5) == (np.arange(len(images)) % 2)).mean())
