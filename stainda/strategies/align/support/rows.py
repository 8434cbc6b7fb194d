"""Features and predictions as rows, whatever the task: one row per patch, per position, or per sampled position.

Segmentation gives features ``[N, C, h, w]`` and logits ``[N, K, H, W]``, patch classification ``[N, C]`` (or a map) and
``[N, K]``. Losses that compare distributions take rows ``[M, C]``: several of pytorch-adapt's fail on maps, and two of
them (diversity, batch spectral) return a number that means something else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from stainda.strategies.align.base import Batch, DomainAnswers, Step
from stainda.strategies.features import pooled

Choice = Literal["pooled", "spatial", "sampled"]


@dataclass(frozen=True)
class Rows:
    """What was chosen of a batch.

    Attributes:
        features: float32 ``[M, C]``.
        patch: long ``[M]``, the patch of the batch each row is of.
        domains: long ``[M]``, that patch's domain.
        probabilities: float32 ``[M, K]``, predicted where the feature is; ``None`` for a batch without logits.
    """

    features: Tensor
    patch: Tensor
    domains: Tensor
    probabilities: Tensor | None = None


def rows_of(tensor: Tensor) -> Tensor:
    """``[N, C, h, w]`` to ``[N * h * w, C]``, patch after patch; ``[N, C]`` as it is."""
    return tensor if tensor.dim() == 2 else tensor.flatten(2).transpose(1, 2).reshape(-1, tensor.shape[1])


def joined_answers(sides: Sequence[DomainAnswers]) -> DomainAnswers:
    """DomainAnswers about several batches as those of one: patches of different batches are different patches."""
    patches, before = [], 0
    for side in sides:
        patches.append(side.patches + before)
        before = int(patches[-1].max()) + 1
    return DomainAnswers(torch.cat([side.logits for side in sides]), torch.cat([side.labels for side in sides]),
                   torch.cat(patches))  # fmt: skip


def predicted_rows(logits: Tensor, features: Choice, samples: int, generator: Generator | None) -> Tensor:
    """Logits as float32 rows ``[M, K]``: every pixel, or ``samples`` per patch drawn evenly by predicted class."""
    rows = rows_of(logits).float()
    if features != "sampled" or logits.dim() == 2:
        return rows
    chosen = draw_evenly(rows.detach().argmax(1), samples * len(logits), rows.shape[1], generator)
    return rows[chosen]


def chosen_rows(batch: Batch, features: Choice, samples: int = 16, generator: Generator | None = None) -> Rows:
    """Rows of a batch's features, with what was predicted at the same places where the batch has logits.

    ``pooled``: one row per patch, averaged over space. ``spatial``: one per position of the layer's map, predictions
    being averaged over the pixels of a position. ``sampled``: ``samples`` positions per patch; with logits they are
    drawn over the whole batch evenly by predicted class, so that rare structures weigh as much as background.

    Args:
        generator: on the CPU; for ``sampled``.
    """
    assert batch.features is not None
    maps, n = batch.features, len(batch.features)
    shares = None if batch.logits is None else torch.softmax(batch.logits.float(), dim=1)
    if features == "pooled" or maps.dim() == 2:
        patch = torch.arange(n, device=maps.device)
        return Rows(pooled(maps), patch, batch.domains, None if shares is None else pooled(shares))
    rows = rows_of(maps)
    positions = maps.shape[2] * maps.shape[3]
    patch = torch.arange(n, device=maps.device).repeat_interleave(positions)
    at = None
    if shares is not None:
        at = (
            shares[patch]
            if shares.dim() == 2
            else rows_of(functional.adaptive_avg_pool2d(shares, (maps.shape[2], maps.shape[3])))
        )
    if features == "sampled":
        count = min(samples, positions) * n
        kinds = rows.new_zeros(len(rows), dtype=torch.long) if at is None else at.detach().argmax(1)
        chosen = draw_evenly(kinds, count, 1 if at is None else at.shape[1], generator)
        rows, patch, at = rows[chosen], patch[chosen], None if at is None else at[chosen]
    return Rows(rows, patch, batch.domains[patch], at)


def both_rows(
    step: Step, features: Choice, samples: int, predictions: bool, source: Batch | None = None
) -> tuple[Rows, Rows]:
    """Rows of source and target, chosen in the same way.

    Args:
        predictions: with predictions, sampled positions being even by class; without, they are even over the patch, on
            both sides (logits may be there on one of them only).
        source: in place of the step's own batch to compare.
    """
    assert step.target is not None
    batches = [source or step.compared, step.target]
    if not predictions:
        batches = [replace(batch, logits=None) for batch in batches]
    one, other = (chosen_rows(batch, features, samples, step.generator) for batch in batches)
    return one, other


def draw_evenly(kinds: Tensor, count: int, n_kinds: int, generator: Generator | None) -> Tensor:
    """Indices ``[min(count, M)]`` drawn without replacement, each of ``n_kinds`` kinds (long ``[M]``) equally likely.

    Weighted sampling by exponential keys (Efraimidis & Spirakis 2006): the ``count`` largest of ``log(u) / w``, with w
    one over the number of the kind. The draw is made on the CPU, the same on any device.
    """
    if count >= len(kinds):
        return torch.arange(len(kinds), device=kinds.device)
    uniform = torch.rand(len(kinds), generator=generator, dtype=torch.float64).to(kinds.device)
    numbers = torch.bincount(kinds, minlength=n_kinds)
    return torch.topk(uniform.log() * numbers[kinds], count).indices


def head_input(features: Tensor, logits: Tensor) -> Tensor:
    """What a classifier of a part's own reads: the map for a segmentation, the pooled vector for a classification."""
    return pooled(features) if logits.dim() == 2 else features


def like_logits(maps: Tensor, logits: Tensor) -> Tensor:
    """Scores brought to the size of the network's own logits, by interpolation where the layer is coarser."""
    if maps.shape[2:] == logits.shape[2:]:
        return maps
    return functional.interpolate(maps, size=logits.shape[2:], mode="bilinear", align_corners=False)


def frozen_call(module: nn.Module, *inputs: Tensor) -> Tensor:
    """The module's output, with gradients to its inputs and none to its parameters."""
    return functional_call(module, {name: parameter.detach() for name, parameter in module.named_parameters()}, inputs)


def on_pairs(
    source: Rows, target: Rows, each: bool, distance: Callable[[Tensor, Tensor], Tensor], least: int = 2
) -> Tensor:
    """A distance between the features of source and target, or its mean over all pairs of the domains present.

    Args:
        each: over pairs of domains of at least ``least`` rows each; sources and targets are not distinguished.
    """
    if not each:
        return distance(source.features, target.features)
    features = torch.cat([source.features, target.features])
    domains = torch.cat([source.domains, target.domains])
    groups = [features[domains == domain] for domain in domains.unique()]
    groups = [group for group in groups if len(group) >= least]
    result = [distance(group, other) for index, group in enumerate(groups) for other in groups[index + 1 :]]
    return torch.stack(result).mean() if result else features.sum() * 0.0
