"""Where a patch classifier found what it says: class activation maps, and occlusion for networks that have none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stainda.models.base import ClassificationNetwork

ACTIVATION, OCCLUSION = "class activation map", "occlusion"
_SQUARES = 64
"""Covered copies of a patch that the network looks at in one pass."""


@dataclass(frozen=True)
class HeatMaps:
    """What each place of patches says for each class, as log odds against the mean of the other classes.

    Attributes:
        values: float32 ``[N, n_classes, h, w]``; positive speaks for the class. Of class activation maps the mean over
            the patch and a bias are the log odds of the whole patch. Of occlusion: how much the log odds of the whole
            patch fall when the place is covered.
        logits: of the patches, ``[N, n_classes]``.
        method: ``class activation map`` or ``occlusion``.
    """

    values: Tensor
    logits: Tensor
    method: str


@torch.no_grad()
def heat_maps(network: ClassificationNetwork, images: Tensor) -> HeatMaps:
    """Class activation maps where the network is a mean over places and one linear layer, else occlusion.

    A logit alone says nothing, as softmax takes any number that is added to all: maps are of the logit less the mean of
    the logits of the other classes (of two classes: the log odds).

    Args:
        images: standardised, ``[N, C, H, W]``; the network is in evaluation.
    """
    activation = class_activation_maps(network, images)
    if activation is not None:
        return HeatMaps(against_the_others(activation[0]), activation[1], ACTIVATION)
    logits = network(images).float()
    maps = occlusion(lambda seen: against_the_others(network(seen).float()), images, *squares_of(images.shape[-1]))
    return HeatMaps(maps, logits, OCCLUSION)


def against_the_others(logits: Tensor) -> Tensor:
    """Of logits ``[N, n_classes, ...]``, each less the mean of the other classes'."""
    n_classes = logits.shape[1]
    return (logits - logits.mean(1, keepdim=True)) * n_classes / (n_classes - 1)


@torch.no_grad()
def class_activation_maps(network: ClassificationNetwork, images: Tensor) -> tuple[Tensor, Tensor] | None:
    """Zhou et al. 2016, *Learning deep features for discriminative localization* (arXiv 1512.04150).

    A logit is ``sum_k w_k mean_xy f_k(x, y) + b``, so that ``M(x, y) = sum_k w_k f_k(x, y)`` is what a place adds to
    it: ``mean_xy M(x, y) + b`` is the logit.

    Returns:
        ``M`` of each class, ``[N, n_classes, h, w]``, and the logits ``[N, n_classes]``; ``None`` where the logits are
        not those of one linear layer that reads the mean of the ``bottleneck``.
    """
    linear: list[tuple[nn.Linear, Tensor, Tensor]] = []
    features: list[Tensor] = []

    def read(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        if isinstance(layer, nn.Linear):
            linear.append((layer, inputs[0], output))

    handles = [layer.register_forward_hook(read) for layer in network.modules() if isinstance(layer, nn.Linear)]
    bottleneck = network.get_submodule(network.default_layers["bottleneck"])
    handles.append(bottleneck.register_forward_hook(lambda _layer, _inputs, output: features.append(output)))
    try:
        logits = network(images)
    finally:
        for handle in handles:
            handle.remove()
    if not linear or not features:
        return None
    layer, vector, output = linear[-1]
    places = features[-1]
    if output.shape != logits.shape or not torch.equal(output, logits) or vector.shape != places.shape[:2]:
        return None
    if not torch.allclose(places.float().mean((2, 3)), vector.float(), rtol=1e-3, atol=1e-4):
        return None
    return torch.einsum("kc,nchw->nkhw", layer.weight.float(), places.float()), logits.float()


def squares_of(side: int) -> tuple[int, int]:
    """Side and step of the squares that cover a patch of this side: a quarter of it, at each eighth."""
    return max(side // 4, 1), max(side // 8, 1)


def occlusion(scores: Callable[[Tensor], Tensor], images: Tensor, square: int, step: int) -> Tensor:
    """Zeiler and Fergus 2014, *Visualizing and understanding convolutional networks* (arXiv 1311.2901).

    A square of the mean colour is laid on the patch at every ``step`` pixels, and how much each score falls is noted; a
    pixel has the mean over the squares that cover it.

    Args:
        scores: standardised images ``[M, C, H, W]`` to ``[M, n]``.
        images: ``[N, C, H, W]``.
        square, step: side of the squares and how far apart they lie, pixels.

    Returns:
        float32 ``[N, n, H, W]``.
    """
    height, width = images.shape[-2:]
    corners = [(top, left) for top in _starts(height, square, step) for left in _starts(width, square, step)]
    maps = []
    for image in images:
        whole = scores(image[None]).float()[0]
        falls = image.new_zeros((len(whole), height, width), dtype=torch.float32)
        covers = image.new_zeros((height, width), dtype=torch.float32)
        for first in range(0, len(corners), _SQUARES):
            part = corners[first : first + _SQUARES]
            covered = image.expand(len(part), *image.shape).clone(memory_format=torch.contiguous_format)
            for copy, (top, left) in zip(covered, part, strict=True):
                copy[:, top : top + square, left : left + square] = 0  # the mean of the source's tissue
            for (top, left), score in zip(part, scores(covered).float(), strict=True):
                falls[:, top : top + square, left : left + square] += (whole - score)[:, None, None]
                covers[top : top + square, left : left + square] += 1
        maps.append(falls / covers)
    return torch.stack(maps)


def _starts(side: int, square: int, step: int) -> list[int]:
    """Where squares begin along a side; the last one ends with it."""
    last = max(side - square, 0)
    return sorted({*range(0, last + 1, step), last})
