"""Batch-normalisation statistics as things of their own: swapped per domain, re-estimated, saved."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from stainda.errors import TrainingError
from stainda.files import whole_file

Statistics = dict[str, Tensor]
"""``<layer>.mean`` and ``<layer>.var`` of every batch normalisation, float32 ``[C]``."""


FEWEST = 4
"""Images of a batch, at least, for statistics of several: a batch of a few is no estimate of a variance."""


class TooFewImages(TrainingError):
    """A batch normalisation has a single value per channel of all images: no variance can be estimated."""


@contextmanager
def single_values_refused() -> Iterator[None]:
    """Inside the block torch's refusal to normalise one value per channel by itself is a :class:`TooFewImages`."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise TooFewImages(
            "batch statistics cannot be estimated from one image, of which the network has one value per channel",
            remedy="Give more images, or take norm: shared, per_domain or group",
        ) from error


def batches_for_statistics(count: int, size: int) -> list[slice]:
    """Batches of ``size`` of ``count`` images; a last one of fewer than :data:`FEWEST` joins the one before it."""
    starts = list(range(0, count, size))
    if len(starts) > 1 and count - starts[-1] < FEWEST:
        starts.pop()
    return [slice(start, end) for start, end in pairwise([*starts, count])]


def batchnorm_layers(network: nn.Module) -> dict[str, _BatchNorm]:
    """Batch normalisations that keep running statistics, by name."""
    return {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, _BatchNorm) and layer.track_running_stats
    }


def read_statistics(network: nn.Module) -> Statistics:
    """A copy of the running statistics now in the network."""
    statistics: Statistics = {}
    for name, layer in batchnorm_layers(network).items():
        assert layer.running_mean is not None and layer.running_var is not None
        statistics[f"{name}.mean"] = layer.running_mean.detach().clone()
        statistics[f"{name}.var"] = layer.running_var.detach().clone()
    return statistics


def put_statistics(network: nn.Module, statistics: Mapping[str, Tensor]) -> None:
    """Make these the network's running statistics (copied into its buffers)."""
    with torch.no_grad():
        for name, layer in batchnorm_layers(network).items():
            assert layer.running_mean is not None and layer.running_var is not None
            layer.running_mean.copy_(statistics[f"{name}.mean"])
            layer.running_var.copy_(statistics[f"{name}.var"])


def estimate_statistics(network: nn.Module, batches: Iterable[Tensor]) -> Statistics:
    """Statistics of the images in ``batches`` (float ``[N, C, H, W]``), the weights unchanged.

    The mean over batches of each batch's mean and unbiased variance, every layer seeing inputs normalised by the batch
    as in training. The network's own statistics are left as they were; its other layers run as in evaluation.

    Raises:
        TooFewImages: a batch is one image, of which a layer sees one value per channel.
    """
    layers = batchnorm_layers(network)
    if not layers:
        return {}
    before, momenta = read_statistics(network), {name: layer.momentum for name, layer in layers.items()}
    counted = {name: None if layer.num_batches_tracked is None else layer.num_batches_tracked.clone()
               for name, layer in layers.items()}  # fmt: skip
    was_training = network.training
    network.eval()
    for layer in layers.values():
        layer.reset_running_stats()
        layer.momentum = None  # cumulative average
        layer.train()
    try:
        with torch.no_grad(), single_values_refused():
            for images in batches:
                network(images)
        return read_statistics(network)
    finally:
        put_statistics(network, before)
        for name, layer in layers.items():
            layer.momentum = momenta[name]
            if (count := counted[name]) is not None and layer.num_batches_tracked is not None:
                layer.num_batches_tracked.copy_(count)
        network.train(was_training)


class DomainStatistics:
    """Running statistics per domain while a network trains (domain-specific batch normalisation, shared weights).

    ``use(domain)`` points the network's buffers at that domain's; a domain starts from the statistics the network had
    at the beginning.
    """

    def __init__(self, network: nn.Module) -> None:
        self._layers = batchnorm_layers(network)
        self._start = read_statistics(network)
        self._kept: dict[str, Statistics] = {}

    def use(self, domain: str) -> None:
        kept = self._kept.setdefault(domain, {key: value.clone() for key, value in self._start.items()})
        for name, layer in self._layers.items():
            layer.running_mean, layer.running_var = kept[f"{name}.mean"], kept[f"{name}.var"]

    @property
    def kept(self) -> Mapping[str, Statistics]:
        """The statistics of every domain that has been used."""
        return self._kept

    def put(self, domain: str, statistics: Statistics) -> None:
        """Take over statistics of a domain, when a training goes on that was cut off."""
        device = next(iter(self._start.values())).device
        self._kept[domain] = {key: value.to(device).clone() for key, value in statistics.items()}

    def read(self, domains: Iterable[str]) -> dict[str, Statistics]:
        """Copies of the statistics of those of these domains that have been used."""
        return {
            domain: {key: value.clone() for key, value in self._kept[domain].items()}
            for domain in domains
            if domain in self._kept
        }


@contextmanager
def statistics_of(network: nn.Module, statistics: Mapping[str, Tensor] | None) -> Iterator[None]:
    """Inside the block the network normalises by these statistics (``None``: by its own)."""
    if not statistics:
        yield
        return
    before = read_statistics(network)
    put_statistics(network, statistics)
    try:
        yield
    finally:
        put_statistics(network, before)


def to_group_norm(network: nn.Module, groups: int) -> None:
    """Replace every batch normalisation by a group normalisation of at most ``groups`` groups, affine weights kept."""
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, _BatchNorm):
                channels = layer.num_features
                group = nn.GroupNorm(math.gcd(groups, channels), channels, eps=layer.eps)
                if layer.affine:
                    group.weight, group.bias = layer.weight, layer.bias
                setattr(parent, name, group)


def save_statistics(path: str | Path, by_domain: Mapping[str, Statistics]) -> None:
    """Statistics of several domains in one safetensors file; keys are ``<domain>|<layer>.mean`` and ``.var``."""
    flat = {
        f"{domain}|{key}": value.detach().cpu().contiguous().clone()
        for domain, statistics in by_domain.items()
        for key, value in statistics.items()
    }
    with whole_file(path) as aside:
        save_file(flat, str(aside))


def load_statistics(path: str | Path) -> dict[str, Statistics]:
    """What :func:`save_statistics` wrote.

    Raises:
        TrainingError: the file cannot be read as such.
    """
    try:
        flat = load_file(str(path))
    except (SafetensorError, OSError) as error:
        raise TrainingError(
            f"the statistics of the domains cannot be read ({error})",
            file=path,
            remedy="Delete the job's folder and run the study again",
        ) from error
    statistics: dict[str, Statistics] = {}
    for key, value in flat.items():
        domain, _, rest = key.rpartition("|")
        statistics.setdefault(domain, {})[rest] = value
    return statistics
