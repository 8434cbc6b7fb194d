"""Steps made by hand, for tests of align parts of stainda's own."""

import torch
from torch import nn

from stainda.strategies.align.base import Batch, Site, Step
from stainda.training.losses import LOSSES


def site(channels=4, groups=(), network=None, steps=8, per_epoch=2, more=()):
    return Site(channels, 2, 2, 1, groups, network, steps, per_epoch, more)


def labelled(logits, labels, groups=None, features=None):
    """A source batch; ``groups`` is a list of numbers."""
    numbers = torch.zeros(len(logits)).long()
    groups = None if groups is None else torch.tensor(groups)
    return Batch(torch.zeros(len(logits), 3, 4, 4), numbers, features, logits, labels, groups=groups)


def unlabelled(logits=None, features=None, **more):
    one = logits if logits is not None else features
    images = more.pop("images", torch.zeros(len(one), 3, 4, 4))
    return Batch(images, torch.ones(len(one)).long(), features, logits, **more)


def step(part, source, target=None, progress=0.9, made=None, network=None, index=0, loss="cross_entropy", **more):
    """One step of a part whose modules are ``made`` (or are made here)."""
    modules = made if made is not None else nn.ModuleDict(part.modules(site()))
    network = nn.Identity() if network is None else network
    return Step(source, target, progress, modules, network, index, loss=LOSSES[loss], **more)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def random_labels(n, size=5, seed=0):
    return torch.randint(2, (n, size, size), generator=torch.Generator().manual_seed(seed))
