"""What augmentations learn from training patches before the first step."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stainda.arrays import Array
from stainda.randomness import generator_for
from stainda.strategies import Strategy
from stainda.training.batches import Patches, PatchMetadata

FITTED = 64
"""Patches of each kind that augmentations are fitted to, at most."""


def fit_augments(
    strategy: Strategy, data: Patches, origins: PatchMetadata, source: Array, targets: Array, seed: int
) -> None:
    """Let every augmentation of a strategy learn what it needs; patches are read only where one asks for them.

    Args:
        source: labelled training patches of the source domains.
        targets: unlabelled training patches of the targets, where the protocol shows them; else empty.
    """

    def shown(indices: Array, name: str) -> Tensor:
        some = np.sort(generator_for(seed, name).permutation(indices)[:FITTED])
        images = torch.from_numpy(np.ascontiguousarray(data.images(some))).permute(0, 3, 1, 2).float() / 255
        return strategy.view(images, origins.slides(some)) if strategy.view.is_colour else images

    for part in strategy.augment:
        part.learn(lambda: shown(source, "augment source"), lambda: shown(targets, "augment targets"))
