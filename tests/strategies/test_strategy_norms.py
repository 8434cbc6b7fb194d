"""Batch statistics: estimated, kept apart by domain, put back."""

import pytest
import torch
from torch import nn

from stainda.strategies import PARTS
from stainda.strategies.norm.base import BatchGroup, PerDomain, Shared
from stainda.strategies.norm.statistics import (
    DomainStatistics,
    batchnorm_layers,
    estimate_statistics,
    load_statistics,
    put_statistics,
    read_statistics,
    save_statistics,
    statistics_of,
)


def _network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.ReLU(), nn.Conv2d(4, 2, 1))


def _images(shift, n=8):
    return torch.randn(n, 3, 6, 6, generator=torch.Generator().manual_seed(1)) + shift


def test_estimated_statistics_are_those_of_the_images():
    network = _network()
    batches = [_images(2.0), _images(4.0)]
    got = estimate_statistics(network, batches)
    outputs = [network[0](batch) for batch in batches]
    means = torch.stack([output.mean((0, 2, 3)) for output in outputs]).mean(0)
    variances = torch.stack([output.movedim(1, 0).flatten(1).var(1) for output in outputs]).mean(0)
    torch.testing.assert_close(got["1.mean"], means.detach())
    torch.testing.assert_close(got["1.var"], variances.detach())


def test_estimating_changes_nothing_in_the_network():
    network = _network().train()
    before = {key: value.clone() for key, value in network.state_dict().items() if "tracked" not in key}
    estimate_statistics(network, [_images(3.0)])
    assert network.training and network[1].momentum == 0.1
    for key, value in before.items():
        assert torch.equal(network.state_dict()[key], value), key


def test_under_its_own_statistics_each_domain_is_centred():
    network = _network().eval()
    by_domain = {name: estimate_statistics(network, [_images(shift)]) for name, shift in (("a", 0.0), ("b", 5.0))}
    for name, shift in (("a", 0.0), ("b", 5.0)):
        with statistics_of(network, by_domain[name]):
            normalised = network[1](network[0](_images(shift)))
        assert normalised.mean((0, 2, 3)).abs().max() < 1e-4
        torch.testing.assert_close(normalised.var((0, 2, 3)), torch.ones(4), atol=0.02, rtol=0)
    with statistics_of(network, by_domain["a"]):
        assert network[1](network[0](_images(5.0))).mean((0, 2, 3)).abs().max() > 1, "a mixture would not do"


def test_running_statistics_of_domains_do_not_mix():
    network, alone = _network(), _network()
    kept = DomainStatistics(network)
    network.train(), alone.train()
    for _ in range(5):
        kept.use("a")
        network(_images(0.0))
        alone(_images(0.0))
        kept.use("b")
        network(_images(5.0))
    torch.testing.assert_close(kept.read(["a"])["a"]["1.mean"], alone[1].running_mean)
    assert (kept.read(["b"])["b"]["1.mean"] - alone[1].running_mean).abs().max() > 1
    assert set(kept.read(["a", "b", "never seen"])) == {"a", "b"}


def test_statistics_survive_the_file(tmp_path):
    network = _network()
    statistics = {"PAS@A": read_statistics(network), "a|b": estimate_statistics(network, [_images(1.0)])}
    save_statistics(tmp_path / "statistics.safetensors", statistics)
    found = load_statistics(tmp_path / "statistics.safetensors")
    assert set(found) == set(statistics)
    put_statistics(network, found["a|b"])
    torch.testing.assert_close(network[1].running_mean, statistics["a|b"]["1.mean"])


def test_group_normalisation_replaces_every_batch_normalisation():
    network = _network()
    weight = network[1].weight
    norm = BatchGroup(groups=8)
    norm.prepare(network)
    assert isinstance(network[1], nn.GroupNorm) and network[1].num_groups == 4 and network[1].weight is weight
    assert not batchnorm_layers(network) and "1 group normalisations" in norm.statement(network)
    one, two = _images(0.0), _images(9.0)
    network.eval()
    torch.testing.assert_close(network(torch.cat([one, two]))[:8], network(one))


def test_what_was_done_is_stated_and_is_nothing_without_batch_normalisation():
    plain = nn.Conv2d(3, 2, 1)
    for norm in (Shared(), PerDomain()):
        assert "1 batch normalisations" in norm.statement(_network())
        assert "no batch normalisation" in norm.statement(plain)
    assert estimate_statistics(plain, [_images(0.0)]) == {}


@pytest.mark.parametrize("name", sorted(PARTS["norm"]))
def test_every_norm_leaves_a_network_that_learns(name):
    norm, network = PARTS["norm"][name](), _network()
    norm.prepare(network)
    network(_images(0.0)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
