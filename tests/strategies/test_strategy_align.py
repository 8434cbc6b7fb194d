"""Alignment losses against closed forms and second implementations."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from stainda.errors import ConfigError
from stainda.strategies.align.adversarial import dense_cross_entropy
from stainda.strategies.align.base import Batch, Site, Step
from stainda.strategies.align.dann import Dann
from stainda.strategies.align.mmd import Mmd
from stainda.strategies.features import FeatureTap, find_layer


def _step(part, source, target, progress=0.5, modules=None, n_domains=2, domains=(0, 1)):
    modules = nn.ModuleDict(part.modules(Site(source.shape[1], n_domains, 2))) if modules is None else modules
    batches = [
        Batch(torch.zeros(len(one)), torch.full((len(one),), index), features=one)
        for one, index in zip((source, target), domains, strict=True)
    ]
    return Step(*batches, progress, modules, nn.Identity())


def _features(seed, n=6, channels=4, size=3):
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(seed), requires_grad=True)


@pytest.mark.parametrize("features", ["spatial", "pooled"])
@pytest.mark.parametrize(
    ("schedule", "progress"), [("constant", 0.0), ("warm_up", 0.02), ("warm_up", 0.3), ("warm_up", 1)]
)
def test_the_network_gets_minus_lambda_times_what_the_discriminator_descends(features, schedule, progress):
    weight = 0.3
    expected = weight if schedule == "constant" else weight * (2 / (1 + math.exp(-10 * progress)) - 1)
    part = Dann(weight=weight, schedule=schedule, features=features, hidden=5)
    source, target = _features(0), _features(1)
    step = _step(part, source, target, progress)
    part.losses(step)["domain"].backward()
    reversed_ = [source.grad.clone(), target.grad.clone()]
    discriminator = step.modules["discriminator"]
    learned = [parameter.grad.clone() for parameter in discriminator.parameters()]

    plain_source, plain_target = _features(0), _features(1)
    discriminator.zero_grad()
    logits = [discriminator(one) for one in (plain_source, plain_target)]
    losses = [dense_cross_entropy(logit, torch.full((6,), index)).mean() for index, logit in enumerate(logits)]
    (0.5 * (losses[0] + losses[1])).backward()
    for got, plain in zip(reversed_, (plain_source.grad, plain_target.grad), strict=True):
        assert plain.abs().max() > 0
        torch.testing.assert_close(got, -expected * plain)
    for got, plain in zip(learned, discriminator.parameters(), strict=True):
        torch.testing.assert_close(got, plain.grad)


def test_a_scheduled_weight_below_one_is_not_stored_as_zero():
    """pytorch-adapt's default reversal has an integer buffer: 0.5 becomes 0 and DANN trains as source only."""
    from stainda.strategies.align.support.pytorch_adapt import hooks

    trap = hooks.GradientReversalHook(apply_to=["x"]).fn
    trap.update_weight(0.5)
    assert float(trap.weight) == 0.0
    part = Dann(weight=0.5, schedule="constant")
    source, target = _features(0), _features(1)
    part.losses(_step(part, source, target))["domain"].backward()
    assert part._hooks[0].weight.dtype.is_floating_point and float(part._hooks[0].weight) == 0.5
    assert source.grad.abs().max() > 0


def test_weight_zero_leaves_the_network_the_gradient_of_source_only():
    network = nn.Conv2d(3, 4, 1)
    images = torch.rand(4, 3, 5, 5)
    (network(images).square().mean()).backward()
    alone = network.weight.grad.clone()
    network.zero_grad()
    part = Dann(weight=0.0)
    features = network(images)
    loss = features.square().mean() + part.losses(_step(part, features, network(torch.rand(4, 3, 5, 5))))["domain"]
    loss.backward()
    torch.testing.assert_close(network.weight.grad, alone, rtol=0, atol=0)


def test_one_step_is_that_of_pytorch_adapts_whole_dann_hook():
    from pytorch_adapt.weighters import MeanWeighter

    from stainda.strategies.align.support.pytorch_adapt import hooks

    torch.manual_seed(0)
    part = Dann(weight=0.7, schedule="constant", features="pooled", hidden=5)
    ours = nn.ModuleDict({"G": nn.Linear(3, 4), "C": nn.Linear(4, 2), **part.modules(Site(4, 2, 2))})
    theirs = nn.ModuleDict({"G": nn.Linear(3, 4), "C": nn.Linear(4, 2), **part.modules(Site(4, 2, 2))})
    theirs.load_state_dict(ours.state_dict())
    xs, xt, labels = torch.randn(8, 3), torch.randn(8, 3), torch.arange(8) % 2

    optimiser = torch.optim.SGD(ours.parameters(), lr=0.1)
    source, target = ours["G"](xs), ours["G"](xt)
    task = functional.cross_entropy(ours["C"](source), labels)
    (task + part.losses(_step(part, source, target, modules=ours))["domain"]).backward()
    optimiser.step()

    f_hook = hooks.FeaturesForDomainLossHook()
    hook = hooks.DANNHook(
        opts=[torch.optim.SGD(theirs.parameters(), lr=0.1)],
        f_hook=f_hook,
        gradient_reversal=hooks.GradientReversalHook(weight=0.7, apply_to=f_hook.out_keys),
        domain_loss_hook=hooks.DomainLossHook(d_loss_fn=nn.CrossEntropyLoss(reduction="none"), f_hook=f_hook),
        # the weighter divides by the number of losses
        weighter=MeanWeighter(weights={"src_c_loss": 3, "src_domain_loss": 1.5, "target_domain_loss": 1.5}),
    )
    domains = {"src_domain": torch.zeros(8).long(), "target_domain": torch.ones(8).long()}
    models = {"G": theirs["G"], "C": theirs["C"], "D": theirs["discriminator"]}
    hook({**models, "src_imgs": xs, "target_imgs": xt, "src_labels": labels, **domains})
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_each_domain_can_be_named_by_the_discriminator():
    part = Dann(domains="each", features="spatial")
    step = _step(part, _features(0), _features(1), n_domains=5, domains=(0, 3))
    assert step.modules["discriminator"](_features(0)).shape == (6, 5, 3, 3)
    assert float(part.losses(step)["domain"]) == pytest.approx(math.log(5), rel=0.3)


def test_dense_cross_entropy_is_the_mean_over_positions():
    logits, labels = torch.randn(2, 3, 4, 5), torch.tensor([2, 0])
    expected = [
        np.mean([functional.cross_entropy(logits[n, :, i, j], labels[n]).item() for i in range(4) for j in range(5)])
        for n in range(2)
    ]
    np.testing.assert_allclose(dense_cross_entropy(logits, labels).numpy(), expected, rtol=1e-5)


def _mmd(x, y, scales):
    """The unbiased estimate, written out (Gretton et al. 2012, eq. 3), with the median of the source's distances."""

    def squared(a, b):
        return ((a[:, None] - b[None]) ** 2).sum(-1)

    pairs = np.sort(squared(x, x)[np.triu_indices(len(x), 1)])
    median = pairs[(len(pairs) - 1) // 2]

    def kernel(a, b):
        return np.mean([np.exp(-scale * squared(a, b) / median) for scale in scales], axis=0)

    xx, yy = kernel(x, x), kernel(y, y)
    n, m = len(x), len(y)
    off = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return off - 2 * kernel(x, y).mean()


@pytest.mark.parametrize(("kernels", "scales"), [("single", [1.0]), ("many", np.logspace(-8, 8, 33, base=2.0))])
def test_mmd_is_the_unbiased_estimate_of_gretton(kernels, scales):
    source, target = _features(0, n=8), _features(1, n=5) + 0.5
    part = Mmd(weight=2.0, kernels=kernels)
    got = float(part.losses(_step(part, source, target))["mmd"])
    pooled = [one.detach().mean((2, 3)).double().numpy() for one in (source, target)]
    assert got == pytest.approx(2.0 * _mmd(*pooled, scales), abs=1e-4)


def test_mmd_draws_distributions_together_and_leaves_equal_ones_alone():
    part = Mmd()
    source, near, far = _features(0, n=64, size=1), _features(1, n=64, size=1), _features(2, n=64, size=1)
    same = float(part.losses(_step(part, source, near))["mmd"])
    shifted = (far.detach() + 2).requires_grad_()
    loss = part.losses(_step(part, source, shifted))["mmd"]
    loss.backward()
    assert abs(same) < 0.05 < float(loss)
    assert (shifted.grad.sum((0, 2, 3)) > 0).all(), "descent moves the target's mean down, towards the source"


def test_mmd_of_identical_patches_has_a_finite_gradient():
    source = torch.ones(4, 3, 2, 2, requires_grad=True)
    target = torch.zeros(4, 3, 2, 2, requires_grad=True)
    spread = source + torch.arange(4.0).view(4, 1, 1, 1)
    part = Mmd()
    part.losses(_step(part, spread, target))["mmd"].backward()
    assert source.grad.isfinite().all() and target.grad.isfinite().all()


def test_features_are_read_by_layer_name_and_the_rest_is_not_computed():
    ran = []
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1))
    network[1].register_forward_hook(lambda *_: ran.append(1))
    tap = FeatureTap(network, "0")
    images = torch.rand(1, 3, 4, 4)
    logits, features = tap(images)
    torch.testing.assert_close(network[1](features), logits)
    ran.clear()
    torch.testing.assert_close(tap.until(images), features)
    assert not ran and not network[0]._forward_hooks
    network.default_layers = {"bottleneck": "0"}
    assert find_layer(network, "bottleneck") is network[0]
    with pytest.raises(ConfigError, match="Did you mean 'bottleneck'"):
        find_layer(network, "botleneck")
