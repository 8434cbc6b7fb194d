"""AdaptSegNet, ADVENT, feature + mask discriminators and DSN: whom each gradient reaches, and with which sign."""

import math

import numpy as np
import pytest
import torch
from own_steps import labelled, random, random_labels, site, step, unlabelled
from torch import nn
from torch.nn import functional

from stainda.strategies.align.adaptsegnet import AdaptSegNet
from stainda.strategies.align.advent import Advent
from stainda.strategies.align.domain_separation import Dsn
from stainda.strategies.align.feature_mask_adversarial import FeatureMaskAdversarial
from stainda.strategies.align.support.gradient_reversal import reverse
from stainda.strategies.align.support.map_discriminators import MapDiscriminator, held, verdict
from stainda.strategies.align.support.separation_networks import orthogonality, scale_invariant


def _logits(seed, size=16):
    return random(3, 2, size, size, seed=seed).requires_grad_()


@pytest.mark.parametrize("kind", [AdaptSegNet, Advent])
def test_the_target_is_drawn_to_the_source_and_nobody_else_gets_that_gradient(kind):
    torch.manual_seed(0)
    part = kind(weight=0.3, schedule="constant", hidden=4, layers=2)
    source, target = _logits(0), _logits(1)
    given = step(part, labelled(source, random_labels(3, 16)), unlabelled(target))
    found = part.losses(given)
    judge = given.modules["discriminator"]

    found["adversarial"].backward(retain_graph=True)
    assert source.grad is None and all(parameter.grad is None for parameter in judge.parameters())
    plain = _logits(1)
    verdict(judge(part.maps(plain)), 0).backward()
    torch.testing.assert_close(target.grad, 0.3 * plain.grad)
    assert plain.grad.abs().max() > 0

    target.grad = None
    judge.zero_grad()
    found["domain"].backward()
    assert source.grad is None and target.grad is None, "the discriminator's own loss does not reach the network"
    learned = [parameter.grad.clone() for parameter in judge.parameters()]
    judge.zero_grad()
    maps = [part.maps(one.detach()) for one in (source, target)]
    (0.5 * (verdict(judge(maps[0]), 0) + verdict(judge(maps[1]), 1))).backward()
    for got, expected in zip(learned, judge.parameters(), strict=True):
        torch.testing.assert_close(got, expected.grad)


def test_descending_the_adversarial_term_makes_the_target_look_like_the_source():
    torch.manual_seed(0)
    part = AdaptSegNet(weight=1.0, schedule="constant", hidden=4, layers=2)
    source, target = _logits(0), _logits(1)
    given = step(part, labelled(source, random_labels(3, 16)), unlabelled(target))
    judge = given.modules["discriminator"]
    before = judge(target.softmax(1)).mean()
    part.losses(given)["adversarial"].backward()
    after = judge((target - 5.0 * target.grad).softmax(1)).mean()
    assert after < before, "a lower domain logit is nearer to the source, side 0"


def test_advents_maps_add_up_to_the_entropy_and_know_certainty():
    logits = random(2, 3, 4, 4)
    maps = Advent().maps(logits)
    shares = logits.double().softmax(1).numpy()
    np.testing.assert_allclose(maps.sum(1).numpy(), -(shares * np.log(shares)).sum(1) / math.log(3), rtol=1e-4)
    certain = torch.tensor([80.0, -80.0])[None, :, None, None].requires_grad_()
    sure = Advent().maps(certain)
    sure.sum().backward()
    assert sure.abs().max() < 1e-6 and certain.grad.isfinite().all()


def test_a_held_module_passes_gradients_and_takes_none():
    module = MapDiscriminator(2, 3, 1)
    inputs = random(1, 2, 8, 8).requires_grad_()
    torch.testing.assert_close(held(module, inputs), module(inputs))
    held(module, inputs).sum().backward()
    assert inputs.grad.abs().max() > 0 and all(parameter.grad is None for parameter in module.parameters())


def test_a_reversed_gradient_has_the_other_sign_and_the_weights_size():
    values = random(5).requires_grad_()
    (reverse(values, 0.25) * torch.arange(5.0)).sum().backward()
    torch.testing.assert_close(values.grad, -0.25 * torch.arange(5.0))


def test_three_discriminators_each_reverse_by_a_weight_of_their_own():
    torch.manual_seed(0)
    part = FeatureMaskAdversarial(
        encoder_weight=0.5, decoder_weight=0.25, mask_weight=0.125, schedule="constant", hidden=4
    )
    made = nn.ModuleDict(part.modules(site(channels=4, more=(6,))))

    def batches():
        inputs = [
            (
                _logits(seed),
                random(3, 4, 2, 2, seed=seed).requires_grad_(),
                random(3, 6, 8, 8, seed=seed).requires_grad_(),
            )
            for seed in (0, 1)
        ]
        (a, b, c), (d, e, f) = inputs
        source = labelled(a, random_labels(3, 16), features=b)
        target = unlabelled(d, e)
        return inputs, step(part, _with(source, c), _with(target, f), made=made)

    inputs, given = batches()
    found = part.losses(given)
    assert set(found) == {"domain_encoder", "domain_decoder", "domain_mask"}
    torch.stack([*found.values()]).sum().backward()
    plain, _ = batches()
    judges = (
        lambda one: functional.cross_entropy(made["encoder"](one), torch.zeros(3, 2, 2).long()),
        lambda one: functional.cross_entropy(made["decoder"](one), torch.zeros(3, 8, 8).long()),
        lambda one: verdict(made["mask"](one.softmax(1)), 0),
    )
    for place, weight, judge in ((1, 0.5, judges[0]), (2, 0.25, judges[1]), (0, 0.125, judges[2])):
        judge(plain[0][place]).backward()
        torch.testing.assert_close(inputs[0][place].grad, -weight * 0.5 * plain[0][place].grad)


def _with(batch, decoder):
    from dataclasses import replace

    return replace(batch, more_features=(decoder,))


def test_dsn_asks_shared_and_private_features_to_be_orthogonal():
    eye = torch.eye(4)
    shared = torch.zeros(2, 4, 3, 3)
    private = torch.zeros(2, 4, 3, 3)
    shared[:, :2] = random(2, 2, 3, 3)
    private[:, 2:] = shared[:, :2] @ eye[:3, :3]  # other channels, but the same pattern over positions
    same = orthogonality(shared, private)
    assert float(same) > 0.1, "orthogonal channels are not enough: no private channel may predict a shared one"
    rows = random(18, 4).double()
    rows = rows - rows.mean(0)
    basis = torch.linalg.qr(torch.cat([torch.ones(18, 1).double(), rows], 1))[0]
    one, other = basis[:, 1:3], basis[:, 3:5]
    maps = [block.float().T.reshape(2, 2, 9).permute(1, 0, 2).reshape(2, 2, 3, 3) for block in (one, other)]
    # of unit rows the claim is exact only up to their lengths; against the formula written out it is exact
    for first, second in ((shared, private), maps):
        a, b = (block.movedim(1, -1).reshape(-1, block.shape[1]).double().numpy() for block in (first, second))
        a, b = (block - block.mean(0) for block in (a, b))
        a, b = (block / np.linalg.norm(block, axis=1, keepdims=True) for block in (a, b))
        assert float(orthogonality(first, second)) == pytest.approx(((a.T @ b) ** 2).sum() / len(a) ** 2, rel=1e-4)


def test_dsns_reconstruction_forgives_a_constant_and_nothing_else():
    images = random(2, 3, 8, 8)
    assert float(scale_invariant(images + 3.0, images)) == pytest.approx(0.0, abs=1e-5)
    wrong = images.clone()
    wrong[:, 0] += 3.0
    d = (wrong - images).flatten(1)
    assert float(scale_invariant(wrong, images)) == pytest.approx(float(d.var(1, unbiased=False).mean()), rel=1e-4)


def test_dsns_terms_reach_the_shared_features_with_the_right_signs():
    torch.manual_seed(0)
    network = nn.Conv2d(3, 4, 1)
    network.in_channels = 3
    shared = [random(2, 4, 3, 3, seed=seed).requires_grad_() for seed in (0, 1)]
    images = [random(2, 3, 12, 12, seed=seed) for seed in (2, 3)]
    part = Dsn(reconstruction=1.0, difference=1.0, similarity=0.5, schedule="constant", hidden=4)
    made = nn.ModuleDict(part.modules(site(channels=4, network=network)))
    source = labelled(random(2, 2, 12, 12), random_labels(2, 12), features=shared[0])
    from dataclasses import replace

    given = step(part, replace(source, images=images[0]), unlabelled(features=shared[1], images=images[1]), made=made)
    found = part.losses(given)
    for term in ("reconstruction", "difference"):
        gradient = torch.autograd.grad(found[term], shared[0], retain_graph=True)[0]
        assert gradient.abs().max() > 0
    got = torch.autograd.grad(found["domain"], shared[1], retain_graph=True)[0]
    plain = shared[1].detach().requires_grad_()
    functional.cross_entropy(made["discriminator"](plain), torch.ones(2, 3, 3).long()).backward()
    torch.testing.assert_close(got, -0.5 * 0.5 * plain.grad)
    found["difference"].backward()
    assert made["private_source"].layers[0].weight.grad.abs().max() > 0
