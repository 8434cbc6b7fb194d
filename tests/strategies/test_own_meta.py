"""MLDG, Fish and EQRM: their formulas, and groups whose own cues mislead the plain network.

Groups that each have a cue of their own (it agrees with the label in 90 % of the group and by chance in others) next to
one that holds in 75 % of every group; in a group never seen the own cues contradict. Accuracy there by seed: plain .21
.22 .21, MLDG .75 .75 .75. Fish changes no decision there; its cross-entropy is lower (1.5 1.4 1.2 for 1.9 2.1 1.9 with
eight groups). EQRM meets the two groups of ``test_own_learning.py``: plain .11 .11 .11, with a small tail .74 .76 .75.
"""

import math
from functools import cache

import numpy as np
import pytest
import torch
from own_steps import labelled, random, random_labels, site, step
from test_own_learning import _accuracy, _two_groups
from torch import nn
from torch.nn import functional

from stainda.strategies.align.base import Batch
from stainda.strategies.align.eqrm import Eqrm, quantile_of
from stainda.strategies.align.fish import Fish
from stainda.strategies.align.mldg import Mldg

SEEDS = range(3)


def _linear(groups=(0, 1, 1, 0, 2, 2), seed=0):
    """A linear network on six points, its weights as one vector, and the loss of each group as a function of them."""
    torch.manual_seed(seed)
    network = nn.Linear(3, 2)
    points, labels = random(6, 3, seed=seed), torch.tensor([0, 1, 0, 1, 1, 0])
    numbers = torch.tensor(groups)
    batch = Batch(points, torch.zeros(6).long(), None, network(points), labels, groups=numbers)

    def loss(number, weight, bias):
        own = numbers == number
        return functional.cross_entropy(functional.linear(points[own], weight, bias), labels[own])

    return network, batch, loss


@pytest.mark.parametrize("second", [True, False])
def test_mldg_is_the_loss_after_a_step_on_the_other_groups(second):
    network, batch, loss = _linear()
    part = Mldg(weight=0.7, inner_rate=0.5, second_order=second)
    given = step(part, batch, made=nn.ModuleDict(), network=network, generator=torch.Generator().manual_seed(1))
    held = int(torch.randint(3, (1,), generator=torch.Generator().manual_seed(1)))
    terms = part.losses(given)
    weights = [value.detach().clone().requires_grad_() for value in network.parameters()]
    first = torch.stack([loss(number, *weights) for number in range(3) if number != held]).mean()
    inner = torch.autograd.grad(first, weights, create_graph=second, retain_graph=True)
    after = loss(held, *(value - 0.5 * slope for value, slope in zip(weights, inner, strict=True)))
    torch.testing.assert_close(terms["task"], first)
    torch.testing.assert_close(terms["held_out"], 0.7 * after)
    expected = torch.autograd.grad(first + 0.7 * after, weights)
    torch.stack([*terms.values()]).sum().backward()
    for parameter, slope in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, slope)


def test_fish_goes_where_steps_on_one_group_after_another_end():
    network, batch, loss = _linear()
    part = Fish(inner_rate=0.5)
    given = step(part, batch, made=nn.ModuleDict(), network=network, generator=torch.Generator().manual_seed(2))
    order = torch.randperm(3, generator=torch.Generator().manual_seed(2)).tolist()
    weights = [value.detach().clone().requires_grad_() for value in network.parameters()]
    at, losses = weights, []
    for number in order:
        losses.append(loss(number, *at))
        slopes = torch.autograd.grad(losses[-1], at)
        at = [(value - 0.5 * slope).detach().requires_grad_() for value, slope in zip(at, slopes, strict=True)]
    total = part.losses(given)["task"]
    torch.testing.assert_close(total, torch.stack(losses).mean())
    total.backward()
    for parameter, start, end in zip(network.parameters(), weights, at, strict=True):
        torch.testing.assert_close(parameter.grad, (start - end).detach() / 1.5)


def test_fish_adds_the_gradient_of_the_inner_products_of_the_groups_gradients():
    """Averaged over both orders of two groups, to first order in the rate: the mean gradient less α/4 ∇(g_0 · g_1)."""
    rate = 1e-3
    network, batch, _ = _linear(groups=(0, 1, 1, 0, 0, 1))
    weights = [value.detach().clone().double().requires_grad_() for value in network.parameters()]
    network.double()
    batch = Batch(batch.images.double(), batch.domains, None, network(batch.images.double()), batch.labels,
                  groups=batch.groups)  # fmt: skip

    def double(number, *given):
        own = batch.groups == number
        return functional.cross_entropy(functional.linear(batch.images[own], *given), batch.labels[own])

    slopes = [torch.autograd.grad(double(number, *weights), weights, create_graph=True) for number in (0, 1)]
    product = sum((one * other).sum() for one, other in zip(*slopes, strict=True))
    bend = torch.autograd.grad(product, weights)
    found = []
    for seed in range(20):
        network.zero_grad()
        given = step(Fish(inner_rate=rate), batch, made=nn.ModuleDict(), network=network,
                     generator=torch.Generator().manual_seed(seed))  # fmt: skip
        Fish(inner_rate=rate).losses(given)["task"].backward()
        order = tuple(torch.randperm(2, generator=torch.Generator().manual_seed(seed)).tolist())
        found.append((order, [parameter.grad.clone() for parameter in network.parameters()]))
    by_order = dict(found)
    assert len(by_order) == 2
    for place, way in enumerate(zip(*by_order.values(), strict=True)):
        mean = (slopes[0][place] + slopes[1][place]).detach() / 2
        added = (torch.stack(way).mean(0) - mean) / rate
        torch.testing.assert_close(added, -bend[place] / 4, rtol=5e-3, atol=1e-5)


def test_the_quantile_has_the_tail_above_it_and_the_gradient_of_its_losses():
    losses = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64, requires_grad=True)
    for tail in (0.5, 0.25, 1e-3):
        q = quantile_of(losses, tail)
        width = 1.06 * losses.detach().std() * 3**-0.2
        above = 1 - torch.distributions.Normal(losses.detach(), width).cdf(q.detach())
        assert float(above.mean()) == pytest.approx(tail, rel=1e-6)
        slope = torch.autograd.grad(q, losses)[0]
        nudge = torch.tensor([1e-5, -2e-5, 3e-5], dtype=torch.float64)
        moved = quantile_of(losses.detach() + nudge, tail) - quantile_of(losses.detach() - nudge, tail)
        assert float(moved) == pytest.approx(2 * float((slope * nudge).sum()), rel=1e-3)
    far = float(quantile_of(losses.detach(), 1e-300))
    assert math.isfinite(far) and far > 5
    same = torch.full((3,), 0.4, requires_grad=True)
    assert float(quantile_of(same, 0.1).detach()) == pytest.approx(0.4)
    assert float(quantile_of(losses[:1], 0.1).detach()) == pytest.approx(0.2)


def test_eqrm_learns_the_mean_first():
    batch = labelled(random(4, 2, 5, 5), random_labels(4), [0, 1, 1, 0])
    early, late = (
        float(Eqrm(begin=0.5, tail=0.1).losses(step(Eqrm(), batch, progress=progress))["task"])
        for progress in (0.1, 0.9)
    )
    each = [functional.cross_entropy(batch.logits[batch.groups == k], batch.labels[batch.groups == k]) for k in (0, 1)]
    assert early == pytest.approx(float(torch.stack(each).mean()), rel=1e-5) and late > max(map(float, each))


def _own_cues(generator, n, own, groups):
    """Inputs [n, 1 + groups] of +-1: the lasting cue, and one for each group; ``own=None`` is the group never seen."""
    label = generator.integers(2, size=n)
    shares = [0.75, *(0.1 if own is None else 0.9 if place == own else 0.5 for place in range(groups))]
    cues = [np.where(generator.random(n) < share, label, 1 - label) * 2 - 1 for share in shares]
    return torch.tensor(np.stack(cues, 1)).float(), torch.from_numpy(label)


def _train(part, seed, data, steps=300):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(data[0][0].shape[1], 16), nn.Tanh(), nn.Linear(16, 2))
    optimiser = torch.optim.Adam(network.parameters(), 0.02)
    inputs, labels = (torch.cat([group[place] for group in data]) for place in (0, 1))
    groups = torch.cat([torch.full((len(group[0]),), number) for number, group in enumerate(data)])
    generator = torch.Generator().manual_seed(seed)
    made = nn.ModuleDict({} if part is None else part.modules(site(groups=("a", "b"))))
    for index in range(steps):
        batch = Batch(inputs, torch.zeros(len(inputs)).long(), None, network(inputs), labels, groups=groups)
        given = step(part, batch, progress=index / (steps - 1), made=made, network=network, generator=generator)
        terms = {"task": given.task_loss()} if part is None else part.losses(given)
        optimiser.zero_grad()
        torch.stack([*terms.values()]).sum().backward()
        optimiser.step()
    return network


@cache
def _groups(seed, groups):
    generator = np.random.default_rng(seed)
    data = [_own_cues(generator, 300, own, groups) for own in range(groups)]
    return data, _own_cues(generator, 2000, None, groups)


def test_mldg_leaves_the_cues_that_hold_in_one_group_alone():
    plain = [_accuracy(_train(None, seed, _groups(seed, 3)[0]), _groups(seed, 3)[1]) for seed in SEEDS]
    part = Mldg(inner_rate=10.0)
    found = [_accuracy(_train(part, seed, _groups(seed, 3)[0]), _groups(seed, 3)[1]) for seed in SEEDS]
    assert max(plain) < 0.35
    assert min(found) > 0.65


def test_fish_is_less_wrong_where_the_groups_cues_contradict():
    """It weighs these cues less; that is not enough to change decisions."""
    losses = {}
    for part in (None, Fish(inner_rate=3.0)):
        losses[part is None] = []
        for seed in SEEDS:
            data, unseen = _groups(seed, 8)
            logits = _train(part, seed, data)(unseen[0]).detach()
            losses[part is None].append(float(functional.cross_entropy(logits, unseen[1])))
    assert (np.array(losses[False]) < 0.85 * np.array(losses[True])).all(), losses


def test_eqrm_with_a_small_tail_leaves_the_cue_that_is_not_the_same_in_every_group():
    for part, least, most in ((None, 0.0, 0.3), (Eqrm(tail=1e-10), 0.6, 1.0)):
        found = [_accuracy(_train(part, seed, _two_groups(seed)[0]), _two_groups(seed)[1]) for seed in SEEDS]
        assert least <= min(found) and max(found) <= most
