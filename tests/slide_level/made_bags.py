"""Bags whose label is known: a few of many vectors carry it, next to an offset that is the slide's own."""

from __future__ import annotations

import numpy as np
import torch

from stainda.slide_level.learning import LabelledBag

WIDTH, PATCHES, CARRIERS = 16, 40, 3


def made_bags(number: int, seed: int, carriers: int = CARRIERS) -> list[LabelledBag]:
    """Every second bag is positive: ``carriers`` of its vectors lie 5 away in one direction, which mean pooling
    dilutes below what the slide's own offset (as of its staining) moves all of them."""
    generator = np.random.default_rng(seed)
    bags = []
    for index in range(number):
        vectors = generator.normal(size=(PATCHES, WIDTH)) + 0.8 * generator.normal(size=WIDTH)
        if index % 2:
            vectors[generator.permutation(PATCHES)[:carriers], 0] += 5.0
        features = torch.tensor(vectors, dtype=torch.float32)
        bags.append(LabelledBag(lambda features=features: features, bool(index % 2)))
    return bags


def carriers_of(bag: LabelledBag) -> np.ndarray:
    """The vectors that carry the label."""
    return np.sort(np.argsort(bag.features()[:, 0].numpy())[-CARRIERS:])
