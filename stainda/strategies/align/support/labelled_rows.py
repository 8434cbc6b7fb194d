"""Labelled places as rows: features, logits and classes of the same pixels or patches."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from stainda.strategies.align.base import Batch
from stainda.strategies.align.support.rows import draw_evenly, rows_of
from stainda.strategies.features import pooled

_IGNORE = 255


def labelled_rows(batch: Batch, samples: int, generator: Generator | None) -> tuple[Tensor, Tensor, Tensor]:
    """Features ``[M, C]``, logits ``[M, K]`` (both float32) and classes ``[M]`` of labelled places.

    Of a classification every labelled patch; of a segmentation ``samples`` pixels per patch, drawn over the batch
    evenly by class, the feature being that of the layer's position the pixel lies in.
    """
    assert batch.features is not None and batch.logits is not None and batch.labels is not None
    if batch.logits.dim() == 2:
        known = batch.labels != _IGNORE
        return pooled(batch.features)[known], batch.logits.float()[known], batch.labels[known]
    n, k, height, width = batch.logits.shape
    h, w = batch.features.shape[2:]
    labels = batch.labels.flatten()
    known = (labels != _IGNORE).nonzero()[:, 0]
    chosen = known[draw_evenly(labels[known], samples * n, k, generator)]
    patch, place = chosen.div(height * width, rounding_mode="floor"), chosen % (height * width)
    row, column = place.div(width, rounding_mode="floor") * h, place % width * w
    row, column = row.div(height, rounding_mode="floor"), column.div(width, rounding_mode="floor")
    features = rows_of(batch.features)[(patch * h + row) * w + column]
    return features, rows_of(batch.logits).float()[chosen], labels[chosen]


def partners(labels: Tensor, generator: Generator | None) -> Tensor:
    """For each row another of its class (or itself) at random: long ``[M]``, a permutation within every class."""
    order = torch.randperm(len(labels), generator=generator).to(labels.device)
    result = torch.empty_like(labels)
    for kind in labels.unique():
        own = (labels == kind).nonzero()[:, 0]
        result[own] = order[labels[order] == kind]
    return result
