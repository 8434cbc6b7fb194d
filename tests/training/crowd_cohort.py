"""Annotators of known quality on the discs of ``blob_cohort``: they miss discs, and draw some where none are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from blob_cohort import BlobStore
from scipy import ndimage

from stainda.cohort import Roles
from stainda.patches import TrainingData
from stainda.patches.crowd import UNKNOWN, Crowd, encode
from stainda.strategies import build


@dataclass(frozen=True)
class Quality:
    """``missed``: share of the discs not drawn; ``invented``: chance per patch to draw a disc where none is; ``grown``:
    pixels by which outlines are too large (below 0: too small); ``seen``: share of the patches annotated."""

    missed: float = 0.0
    invented: float = 0.0
    grown: int = 0
    seen: float = 1.0


def drawn_by(quality, labels, generator):
    """Labels uint8 (n, h, w) as an annotator of this quality gives them, 255 on patches not seen."""
    out = np.zeros_like(labels)
    y, x = np.mgrid[: labels.shape[1], : labels.shape[2]]
    for place, truth in enumerate(labels):
        mask = truth == 1
        if generator.random() < quality.missed:
            mask = np.zeros_like(mask)
        if quality.grown and mask.any():
            change = ndimage.binary_dilation if quality.grown > 0 else ndimage.binary_erosion
            mask = change(mask, iterations=abs(quality.grown))
        if generator.random() < quality.invented:
            cx, cy = generator.uniform(8, labels.shape[1] - 8, 2)
            mask = mask | ((x - cx) ** 2 + (y - cy) ** 2 < 64)
        out[place] = mask
    out[generator.random(len(labels)) >= quality.seen] = UNKNOWN
    return out


def crowd_data(job, qualities, seed=0, **store):
    """What a job may see of a blob store that these annotators labelled; validation has the majority of them."""
    made = BlobStore(job.sources, job.targets, seed=seed, **store)
    names = tuple(f"annotator{number}" for number in range(len(qualities)))
    own = made.regions("own")
    drawn = np.stack(
        [drawn_by(quality, own, np.random.default_rng([seed, number])) for number, quality in enumerate(qualities)]
    )
    drawn[:, own == 255] = UNKNOWN
    made.annotators = names
    labelled = (made.table["kind"] == "labelled").to_numpy()  # what the study fused: the majority
    own[labelled] = ((drawn == 1).sum(0) > (drawn == 0).sum(0))[labelled]
    made._regions["votes"] = np.stack([encode(drawn[:, row], 1) for row in range(len(own))])
    roles = Roles(job.sources, job.targets)
    crowd = build(job.strategy).labels.crowd
    return TrainingData(
        made, roles, visible=job.protocol.visible, crowd=None if crowd is None else Crowd(*crowd, seed=job.seed)
    )
