"""A weight means the same for any number of rows: a batch, and the same batch twice over."""

import pytest
import torch
from align_cases import hand_step
from torch import nn

from stainda.strategies.align.adaptsegnet import AdaptSegNet
from stainda.strategies.align.advent import Advent
from stainda.strategies.align.afn import Afn
from stainda.strategies.align.base import Site
from stainda.strategies.align.bnm import Bnm
from stainda.strategies.align.bsp import Bsp
from stainda.strategies.align.cdan import Cdan
from stainda.strategies.align.coral import Coral
from stainda.strategies.align.dann import Dann
from stainda.strategies.align.domain_confusion import DomainConfusion
from stainda.strategies.align.entropy import Entropy
from stainda.strategies.align.gvb import Gvb
from stainda.strategies.align.information_maximisation import InformationMaximisation
from stainda.strategies.align.jan import Jan
from stainda.strategies.align.mcc import Mcc
from stainda.strategies.align.mcd import Mcd
from stainda.strategies.align.mmd import Mmd
from stainda.strategies.align.rtn import Rtn
from stainda.strategies.align.sliced_wasserstein import SlicedWasserstein
from stainda.strategies.align.support.separation_networks import orthogonality
from stainda.strategies.align.symnets import SymNets

N, C, K, SIZE = 6, 5, 3, 8
SAME = [
    Dann(), Dann(features="pooled"), Cdan(features="pooled"), Cdan(features="pooled", entropy=True), Bsp(),
    DomainConfusion(), Gvb(layer="bottleneck", features="spatial"), AdaptSegNet(layers=2), Advent(layers=2), Mcd(),
    SymNets(), Afn(), Entropy(), InformationMaximisation(features="spatial"), Mcc(features="spatial"),
    Bnm(features="spatial"), SlicedWasserstein(),
]  # fmt: skip


def _random(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _losses(part, times, modules):
    features = [_random(seed, N, C, SIZE, SIZE).repeat(times, 1, 1, 1) for seed in (0, 1)]
    logits = [_random(seed, N, K, SIZE, SIZE).repeat(times, 1, 1, 1) for seed in (2, 3)]
    labels = torch.randint(K, (N, SIZE, SIZE), generator=torch.Generator().manual_seed(4)).repeat(times, 1, 1)
    given = hand_step(part, features, logits, labels, modules=modules)
    return {name: float(value.detach()) for name, value in part.losses(given).items()}


@pytest.mark.parametrize("part", SAME, ids=lambda part: f"{part.name}-{getattr(part, 'features', '')}")
def test_a_batch_twice_over_costs_what_it_costs_once(part):
    torch.manual_seed(0)
    modules = nn.ModuleDict(part.modules(Site(C, 2, K)))
    once, twice = _losses(part, 1, modules), _losses(part, 2, modules)
    assert once.keys() == twice.keys() and any(abs(value) > 1e-4 for value in once.values())
    assert twice == pytest.approx(once, rel=1e-4, abs=1e-6)


def test_coral_of_a_batch_twice_over_differs_by_its_unbiased_covariance_alone():
    """Divided by n - 1: covariances of 2 n rows are 2 (n - 1) / (2 n - 1) times as large, their distance squared so."""
    part, modules = Coral(features="pooled"), nn.ModuleDict()
    once, twice = _losses(part, 1, modules)["coral"], _losses(part, 2, modules)["coral"]
    assert twice == pytest.approx(once * (2 * (N - 1) / (2 * N - 1)) ** 2, rel=1e-4)


def test_dsns_difference_is_the_same_for_a_batch_twice_over():
    shared, private = _random(0, N, C, 3, 3), _random(1, N, C, 3, 3)
    once = float(orthogonality(shared, private))
    assert float(orthogonality(shared.repeat(2, 1, 1, 1), private.repeat(2, 1, 1, 1))) == pytest.approx(once, rel=1e-4)


@pytest.mark.parametrize("part", [Mmd(kernels="many"), Mmd(), Jan(), Rtn(features="pooled", entropy=0.0)], ids=str)
def test_unbiased_distances_have_one_mean_for_few_rows_and_many(part):
    """A row twice over is another sample, so these are compared over many draws."""
    key = {"mmd": "mmd", "jan": "joint_mmd", "rtn": "mmd"}[part.name]
    means = []
    for n, draws in ((6, 400), (48, 50)):
        found = []
        for draw in range(draws):
            features = [_random(4 * draw + side, n, C) + 0.8 * side for side in (0, 1)]
            logits = [_random(4 * draw + 2 + side, n, K) + side for side in (0, 1)]
            given = hand_step(part, features, logits, torch.zeros(n, dtype=torch.long), n_classes=K)
            found.append(float(part.losses(given)[key].detach()))
        means.append(sum(found) / len(found))
    assert means[0] == pytest.approx(means[1], rel=0.15) and means[1] > 0.01
