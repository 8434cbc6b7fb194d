"""The network with other weights than its own, for parts that look a step ahead."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.func import functional_call

from stainda.strategies.align.base import Step
from stainda.strategies.norm.frozen_statistics import quiet


def learning_weights(step: Step) -> dict[str, Tensor]:
    """The parameters of the network that learn, by name."""
    return {name: value for name, value in step.network.named_parameters() if value.requires_grad}


def loss_with(step: Step, members: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """The task loss of some patches of the source batch with other weights: a scalar, differentiable by them.

    Batch normalisation normalises by these patches and remembers nothing.

    Args:
        members: long, indices of patches. weights: by the names of :func:`learning_weights`; others are the network's.
    """
    images = step.source.images[members]
    with quiet(step.network), step.autocast():
        logits = functional_call(step.network, dict(weights), (images,))
    return step.task_loss_of(logits, members)


def moved(weights: Mapping[str, Tensor], loss: Tensor, rate: float, second_order: bool = False) -> dict[str, Tensor]:
    """Weights after a step of plain gradient descent: ``θ - rate ∇ loss``; those the loss does not read stay.

    Args:
        second_order: the gradient can itself be differentiated by the weights; otherwise it is a constant.
    """
    gradients = torch.autograd.grad(
        loss, list(weights.values()), retain_graph=True, create_graph=second_order, allow_unused=True
    )
    return {
        name: value if gradient is None else value - rate * gradient
        for (name, value), gradient in zip(weights.items(), gradients, strict=True)
    }
