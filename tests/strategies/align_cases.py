"""What an align part is given, made by hand."""

import torch
from torch import nn
from torch.nn import functional

from stainda.strategies.align.base import Batch, Site, Step


def leaf(seed, *shape, shift=0.0):
    """Random numbers that keep their gradient."""
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) + shift
    return made.requires_grad_()


def cross_entropy(logits, labels):
    return functional.cross_entropy(logits, labels, ignore_index=255)


def hand_step(
    part, features=(None, None), logits=(None, None), labels=None, progress=0.5, modules=None, domains=None,
    n_domains=2, n_classes=2, network=None, images=None,
):  # fmt: skip
    """A step of a part with the features and logits of source and target as they are given."""
    one = next(tensor for tensor in (*features, *logits) if tensor is not None)
    n = [len(one) if tensor is None else len(tensor) for tensor in (features[0], features[1])]
    domains = [torch.zeros(n[0]).long(), torch.ones(n[1]).long()] if domains is None else domains
    images = [torch.zeros(count, 1) for count in n] if images is None else images
    network = nn.Identity() if network is None else network
    channels = 0 if features[1] is None else features[1].shape[1]
    if modules is None:
        torch.manual_seed(0)
        modules = nn.ModuleDict(part.modules(Site(channels, n_domains, n_classes, network=network)))
    source = Batch(images[0], domains[0], features[0], logits[0], labels)
    target = Batch(images[1], domains[1], features[1], logits[1])
    generator = torch.Generator().manual_seed(0)
    n_sources = max(1, int(domains[1].min()))
    return Step(
        source, target, progress, modules, network, n_sources=n_sources, loss=cross_entropy, generator=generator
    )


def gradient(loss, *inputs):
    """Gradients of a scalar, zeros where it does not depend."""
    found = torch.autograd.grad(loss, inputs, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(to) if one is None else one for one, to in zip(found, inputs, strict=True)]
