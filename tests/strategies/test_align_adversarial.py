"""Two-player parts: each player gets the gradient of its own loss, of the right sign and size; and the row helpers."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from align_cases import gradient, hand_step, leaf
from torch import nn
from torch.nn import functional

from stainda.strategies.align.adda import Adda
from stainda.strategies.align.adversarial import certainty
from stainda.strategies.align.base import Batch, Site
from stainda.strategies.align.bsp import Bsp
from stainda.strategies.align.cdan import Cdan
from stainda.strategies.align.domain_confusion import DomainConfusion
from stainda.strategies.align.gvb import Gvb
from stainda.strategies.align.support.gradient_reversal import reverse
from stainda.strategies.align.support.rows import (
    chosen_rows,
    draw_evenly,
    frozen_call,
    predicted_rows,
    rows_of,
)

SCHEDULES = [("constant", 0.0), ("warm_up", 0.02), ("warm_up", 0.5), ("warm_up", 1.0)]


def _factor(schedule, progress):
    return 1.0 if schedule == "constant" else 2 / (1 + math.exp(-10 * progress)) - 1


def _domain_loss(discriminator, source, target):
    """The mean of both sides' cross-entropies, written out."""
    sides = [functional.cross_entropy(discriminator(one), torch.full((len(one),), index).long())
             for index, one in enumerate((source, target))]  # fmt: skip
    return 0.5 * (sides[0] + sides[1])


# -- rows ---------------------------------------------------------------------------------------------------------


def test_sampling_is_even_by_kind_without_repeats_and_from_the_generator_alone():
    kinds = torch.cat([torch.zeros(5000), torch.ones(400), torch.full((100,), 2.0)]).long()
    chosen = draw_evenly(kinds, 240, 3, torch.Generator().manual_seed(1))
    counts = torch.bincount(kinds[chosen])
    assert len(chosen.unique()) == 240 and (counts - 80).abs().max() < 25
    torch.manual_seed(5)
    assert torch.equal(chosen, draw_evenly(kinds, 240, 3, torch.Generator().manual_seed(1)))
    assert len(draw_evenly(kinds[:7], 20, 3, None)) == 7


def test_rows_hold_the_features_the_prediction_and_the_domain_of_one_place():
    features, logits = torch.arange(2 * 3 * 2 * 2.0).view(2, 3, 2, 2), torch.randn(2, 2, 4, 4)
    batch = Batch(torch.zeros(2), torch.tensor([4, 7]), features, logits)
    spatial = chosen_rows(batch, "spatial")
    shares = torch.softmax(logits, 1)
    torch.testing.assert_close(spatial.features[5], features[1, :, 0, 1])
    torch.testing.assert_close(spatial.probabilities[5], shares[1, :, :2, 2:].mean((1, 2)))
    assert spatial.domains.tolist() == [4] * 4 + [7] * 4
    sampled = chosen_rows(batch, "sampled", 3, torch.Generator().manual_seed(0))
    assert len(sampled.features) == 6
    for row, patch, share in zip(sampled.features, sampled.patch, sampled.probabilities, strict=True):
        index = int((spatial.features - row).abs().sum(1).argmin())
        assert spatial.patch[index] == patch
        torch.testing.assert_close(spatial.probabilities[index], share)
    pooled = chosen_rows(batch, "pooled")
    torch.testing.assert_close(pooled.features, features.mean((2, 3)))
    torch.testing.assert_close(pooled.probabilities, shares.mean((2, 3)))


@pytest.mark.parametrize("choice", ["pooled", "spatial", "sampled"])
def test_a_vector_per_patch_is_one_row_whatever_is_chosen(choice):
    batch = Batch(torch.zeros(4), torch.arange(4), torch.randn(4, 5), torch.randn(4, 3))
    rows = chosen_rows(batch, choice)
    torch.testing.assert_close(rows.features, batch.features)
    torch.testing.assert_close(rows.probabilities, torch.softmax(batch.logits, 1))
    torch.testing.assert_close(predicted_rows(batch.logits, "sampled", 1, None), batch.logits)


def test_a_frozen_call_passes_gradients_to_its_input_and_none_to_the_module():
    module, x = nn.Linear(3, 2), leaf(0, 4, 3)
    frozen_call(module, x).square().sum().backward()
    frozen, x.grad = x.grad.clone(), None
    assert module.weight.grad is None
    module(x).square().sum().backward()
    torch.testing.assert_close(frozen, x.grad)
    (reversed_,) = gradient(reverse(x, 0.25).square().sum(), x)
    torch.testing.assert_close(reversed_, -0.5 * x.detach())


# -- CDAN ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entropy", [False, True])
@pytest.mark.parametrize(("schedule", "progress"), SCHEDULES)
def test_cdan_reverses_the_gradient_of_the_joint_of_features_and_predictions(entropy, schedule, progress):
    part = Cdan(weight=0.3, schedule=schedule, features="pooled", entropy=entropy, hidden=5)
    features, logits = (leaf(0, 6, 4), leaf(1, 6, 4)), (leaf(2, 6, 2), leaf(3, 6, 2))
    step = hand_step(part, features, logits, progress=progress)
    discriminator = step.modules["discriminator"]
    parameters = [*discriminator.parameters()]
    got = gradient(part.losses(step)["domain"], *features, *logits, *parameters)

    sides = []
    for side, (f, z) in enumerate(zip(features, logits, strict=True)):
        p = torch.softmax(z, 1).detach()
        joint = torch.einsum("nc,nk->nck", f, p).flatten(1)
        loss = functional.cross_entropy(discriminator(joint), torch.full((6,), side), reduction="none")
        weights = 1 + torch.exp((p * p.log()).sum(1)) if entropy else torch.ones(6)
        sides.append((weights * loss).sum() / weights.sum())
    plain = gradient(0.5 * (sides[0] + sides[1]), *features, *parameters)
    factor = 0.3 * _factor(schedule, progress)
    for one, other in zip(got[:2], plain[:2], strict=True):
        assert other.abs().max() > 0
        torch.testing.assert_close(one, -factor * other)
    assert all(one.abs().max() == 0 for one in got[2:4]), "predictions are a condition"
    for one, other in zip(got[4:], plain[2:], strict=True):
        torch.testing.assert_close(one, other)


def test_the_randomised_product_keeps_the_inner_product_of_the_full_one():
    part = Cdan(width=4096, hidden=3)
    f, p = torch.randn(2, 900), torch.softmax(torch.randn(2, 6), 1)
    torch.manual_seed(0)
    modules = nn.ModuleDict(part.modules(Site(900, 2, 6)))
    assert modules["discriminator"].layers[0].in_features == 4096
    step = hand_step(part, (f, f), (p, p), modules=modules)
    joint = part.joint(f, p, step)
    full = float((f[0] @ f[0]) * (p[0] @ p[0]))
    assert float(joint[0] @ joint[0]) == pytest.approx(full, rel=0.15)


def test_certainty_of_hand_made_predictions():
    sure, even = [1.0, 0.0], [0.5, 0.5]
    weights = certainty(torch.tensor([sure, even]))
    raw = np.asarray([2.0, 1.5])
    np.testing.assert_allclose(weights.numpy(), raw / raw.mean(), rtol=1e-5)


# -- domain confusion ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("domains", ["source_target", "each"])
def test_domain_confusion_gives_each_player_its_own_gradient(domains):
    part = DomainConfusion(weight=0.4, schedule="constant", features="spatial", domains=domains, hidden=5)
    features = leaf(0, 3, 4, 2, 2), leaf(1, 3, 4, 2, 2)
    ids = [torch.tensor([0, 1, 0]), torch.tensor([2, 3, 4])]
    step = hand_step(part, features, domains=ids, n_domains=5)
    discriminator = step.modules["discriminator"]
    parameters = [*discriminator.parameters()]
    terms = part.losses(step)
    got = gradient(sum(terms.values()), *features, *parameters)

    rows = [rows_of(feature) for feature in features]
    truth = [one.repeat_interleave(4) if domains == "each" else torch.full((12,), side) for side, one in enumerate(ids)]
    named = [functional.cross_entropy(discriminator(one), to) for one, to in zip(rows, truth, strict=True)]
    confused = [-torch.log_softmax(discriminator(row), 1).mean() for row in rows]
    for one, other in zip(got[2:], gradient(0.5 * sum(named), *parameters), strict=True):
        torch.testing.assert_close(one, other)
    for one, other in zip(got[:2], gradient(0.4 * 0.5 * sum(confused), *features), strict=True):
        assert other.abs().max() > 0
        torch.testing.assert_close(one, other)


def test_where_every_domain_is_answered_equally_often_confusion_is_at_its_least():
    part = DomainConfusion(weight=1.0, schedule="constant", features="pooled", domains="each")
    features = leaf(0, 6, 4), leaf(1, 6, 4)
    step = hand_step(part, features, n_domains=3)
    for parameter in step.modules["discriminator"].parameters():
        nn.init.zeros_(parameter)
    confusion = part.losses(step)["confusion"]
    assert float(confusion.detach()) == pytest.approx(math.log(3))
    assert all(one.abs().max() == 0 for one in gradient(confusion, *features))


# -- ADDA ---------------------------------------------------------------------------------------------------------


def _adda(progress, network, modules=None):
    part = Adda(weight=0.5, warm_up=0.3, features="pooled", layer="0", hidden=5)
    images = torch.randn(6, 3), torch.randn(6, 3) + 1
    features = network[0](images[0]), network[0](images[1])
    step = hand_step(part, features, modules=modules, progress=progress, network=network, images=images)
    return part, step


def test_adda_learns_from_the_source_alone_first():
    part, step = _adda(0.29, nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)))
    assert part.losses(step) == {}


def test_adda_moves_the_target_towards_what_the_source_was_when_the_second_phase_began():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    part, first = _adda(0.3, network)
    with torch.no_grad():
        network[0].weight.mul_(1.5)  # the first phase
    _, first = _adda(0.3, network, first.modules)
    part.losses(first)
    then = [parameter.clone() for parameter in network.parameters()]
    with torch.no_grad():
        network[0].weight.mul_(2.0)  # the second
    _, step = _adda(0.6, network, first.modules)
    kept = step.modules["source_network"]
    for one, other in zip(kept.network.parameters(), then, strict=True):
        torch.testing.assert_close(one, other)
        assert not one.requires_grad

    discriminator = step.modules["discriminator"]
    parameters, target = [*discriminator.parameters()], step.target.features
    terms = part.losses(step)
    got = gradient(sum(terms.values()), step.source.features, target, *parameters)
    real = functional.linear(step.source.images, then[0], then[1])
    plain = gradient(_domain_loss(discriminator, real, target.detach()), *parameters)
    inverted = functional.cross_entropy(discriminator(target), torch.zeros(6).long())
    assert got[0].abs().max() == 0, "the source is not moved"
    torch.testing.assert_close(got[1], gradient(0.5 * inverted, target)[0])
    for one, other in zip(got[2:], plain, strict=True):
        torch.testing.assert_close(one, other)


def test_adda_runs_its_copy_in_the_precision_of_the_training():
    part, step = _adda(0.6, nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)))
    step = replace(step, autocast=lambda: torch.autocast("cpu", torch.bfloat16))
    network, seen = step.modules["source_network"].network, []
    network[0].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    part.losses(step)
    assert seen == [torch.bfloat16]


# -- GVB and BSP --------------------------------------------------------------------------------------------------


def test_gvb_reverses_for_the_network_and_its_bridge_and_lets_each_bridge_vanish_by_its_owner():
    part = Gvb(weight=0.3, schedule="constant", features="pooled", bridge=2.0, verdict_bridge=0.5, hidden=5)
    features, logits = (leaf(0, 6, 4), leaf(1, 6, 4)), (leaf(2, 6, 2), leaf(3, 6, 2))
    step = hand_step(part, features, logits)
    bridge, judge, judge_bridge = (step.modules[key] for key in ("bridge", "discriminator", "verdict_bridge"))
    own, judging = [*bridge.parameters()], [*judge.parameters(), *judge_bridge.parameters()]
    got = gradient(sum(part.losses(step).values()), *features, *logits, *own, *judging)

    gammas = [bridge(feature) for feature in features]
    shares = [torch.softmax(z - gamma, 1) for z, gamma in zip(logits, gammas, strict=True)]
    domain = _domain_loss(lambda p: judge(p) - judge_bridge(p), *shares)
    small = 0.5 * sum(gamma.abs().mean() for gamma in gammas)
    small_judge = 0.5 * sum(judge_bridge(share.detach()).abs().mean() for share in shares)
    wanted = gradient(-0.3 * domain + 2.0 * small, *features, *logits, *own)
    wanted += gradient(domain + 0.5 * small_judge, *judging)
    for one, other in zip(got, wanted, strict=True):
        assert other.abs().max() > 0
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_bsp_penalises_the_largest_singular_values_and_nothing_else():
    part = Bsp(features="pooled", penalty=0.7, directions=2)
    features = leaf(0, 8, 5), leaf(1, 6, 5)
    term = part.losses(hand_step(part, features))["spectrum"]
    expected, gradients = 0.0, []
    for feature in features:
        u, sigma, v = np.linalg.svd(feature.detach().double().numpy(), full_matrices=False)
        expected += (sigma[:2] ** 2).sum() / len(feature)
        gradients.append(0.7 * 2 * (u[:, :2] * sigma[:2]) @ v[:2] / len(feature))  # d σ² = 2 σ u vᵀ
    assert float(term.detach()) == pytest.approx(0.7 * expected, rel=1e-5)
    for got, analytic in zip(gradient(term, *features), gradients, strict=True):
        np.testing.assert_allclose(got.numpy(), analytic, atol=1e-5)
