"""Discriminators: their own learning rate, what keeps them in bounds, when they begin, and which side a patch is on."""

import pytest
import torch
from align_cases import hand_step, leaf
from torch import nn

from stainda.config import TrainingConfig, available, load_strategy
from stainda.errors import ConfigError
from stainda.strategies import build
from stainda.strategies.align.adaptsegnet import AdaptSegNet
from stainda.strategies.align.base import Align, JudgedAlign, Site
from stainda.strategies.align.cdan import Cdan
from stainda.strategies.align.combined import CombinedAlign
from stainda.strategies.align.dann import Dann
from stainda.strategies.align.domain_confusion import DomainConfusion
from stainda.strategies.align.gvb import Gvb
from stainda.strategies.align.support.discriminators import PooledDiscriminator, SpatialDiscriminator
from stainda.strategies.align.support.map_discriminators import MapDiscriminator
from stainda.strategies.align.symnets import SymNets
from stainda.training.machine import make_optimiser, parameter_groups, set_rates

JUDGED = [name for name in sorted(available("strategies")) if build(load_strategy(name)).align.rates()]


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "sgd"])
def test_a_discriminator_steps_by_its_own_rate_and_all_else_by_the_networks(optimiser):
    network, modules = nn.Linear(2, 1), nn.ModuleDict({"discriminator": nn.Linear(2, 1), "bridge": nn.Linear(2, 1)})
    config = TrainingConfig(optimiser=optimiser, weight_decay=0.0)
    made = make_optimiser(config, parameter_groups(network, modules, {"discriminator": 3.0}, {}))
    parts = {"network": network, **dict(modules.items())}
    before = {name: part.weight.detach().clone() for name, part in parts.items()}
    for part in parts.values():
        for parameter in part.parameters():
            parameter.grad = torch.ones_like(parameter)
    set_rates(made, 0.01)
    made.step()
    moved = {name: float((before[name] - part.weight).abs().mean()) for name, part in parts.items()}
    assert moved["discriminator"] == pytest.approx(3 * moved["network"], rel=1e-3)
    assert moved["bridge"] == pytest.approx(moved["network"], rel=1e-3) and moved["network"] > 0.005


def test_strategies_with_a_discriminator_have_a_rate_for_it():
    assert {"dann", "cdan", "gvb", "adaptsegnet", "advent", "dsn", "vada", "adda", "serial_dann"} <= set(JUDGED)
    for name in JUDGED:
        align = build(load_strategy(name)).align
        site = Site(4, 2, 2, 1, network=nn.Conv2d(3, 4, 1), more_channels=(4,))
        paths = dict(nn.ModuleDict(align.modules(site)).named_modules())
        assert set(align.rates()) <= set(paths), name


def test_every_part_that_gives_verdicts_can_set_the_rate():
    for name in available("strategies"):
        align = build(load_strategy(name)).align
        if type(align).verdicts is not Align.verdicts and not isinstance(align, CombinedAlign | SymNets):
            assert isinstance(align, JudgedAlign), name


@pytest.mark.parametrize("discriminator", [SpatialDiscriminator, MapDiscriminator])
def test_spectral_discriminators_have_weights_of_norm_one(discriminator):
    torch.manual_seed(0)
    made = discriminator(3, 4, 2, "spectral")
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(30.0)
    for _ in range(40):
        made(torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    for layer in made.layers:
        if isinstance(layer, nn.Conv2d):
            assert float(torch.linalg.matrix_norm(layer.weight.flatten(1), 2)) == pytest.approx(1.0, abs=0.02)


def test_instance_normalisation_makes_hidden_maps_alike_in_contrast_and_leaves_the_first_layer():
    torch.manual_seed(0)
    plain, made = SpatialDiscriminator(3, 4, 2), SpatialDiscriminator(3, 4, 2, "instance")
    norms = [place for place, layer in enumerate(made.layers) if isinstance(layer, nn.InstanceNorm2d)]
    assert norms == [3] and not any(isinstance(layer, nn.InstanceNorm2d) for layer in plain.layers)
    hidden = made.layers[:4](torch.randn(2, 3, 8, 8))
    assert hidden.mean((2, 3)).abs().max() < 1e-4


def test_instance_normalisation_of_vectors_is_refused():
    with pytest.raises(ConfigError, match="instance needs maps"):
        PooledDiscriminator(3, 4, 2, "instance")
    for name in ("cdan", "gvb", "domain_confusion", "adda", "ac_gan", "dann_pooled", "bsp"):
        with pytest.raises(ConfigError, match="instance needs maps") as caught:
            build(load_strategy(name).with_values({"align.discriminator_norm": "instance"}))
        assert "spectral" in str(caught.value)
    for name in ("dann", "adaptsegnet", "feature_mask_adversarial", "dsn"):
        build(load_strategy(name).with_values({"align.discriminator_norm": "instance"}))


@pytest.mark.parametrize(
    ("part", "norm"),
    [
        *((part, "spectral") for part in (Dann, Cdan, DomainConfusion, Gvb, AdaptSegNet)),
        (Dann, "instance"), (AdaptSegNet, "instance"),
    ],
)  # fmt: skip
def test_players_get_their_gradients_through_a_bounded_discriminator(part, norm):
    made = part(discriminator_norm=norm)
    features, logits = [leaf(seed, 3, 4, 16, 16) for seed in (0, 1)], [leaf(seed, 3, 2, 16, 16) for seed in (2, 3)]
    given = hand_step(made, features, logits)
    torch.stack([*made.losses(given).values()]).sum().backward()
    assert all(
        parameter.grad.abs().max() > 0
        for parameter in given.modules["discriminator"].parameters()
        if parameter.dim() > 1
    )
    reached = logits[1] if part in (AdaptSegNet, Gvb) else features[1]
    assert reached.grad.isfinite().all() and reached.grad.abs().max() > 0


def test_a_part_begins_after_its_share_of_the_steps_and_its_schedule_with_it():
    part = Dann(begin=0.2, schedule="warm_up")
    features = leaf(0, 2, 3, 4, 4), leaf(1, 2, 3, 4, 4)
    strengths = [part.strength(hand_step(part, features, progress=p)) for p in (0.0, 0.19, 0.2, 0.6, 1.0)]
    assert strengths[:3] == [0.0, 0.0, 0.0]
    assert strengths[3] == pytest.approx(2 / (1 + torch.tensor(-5.0).exp().item()) - 1)  # half way of what is left
    assert strengths[4] == pytest.approx(2 / (1 + torch.tensor(-10.0).exp().item()) - 1)


@pytest.mark.parametrize("name", ["propagated_dann", "dann", "cdan", "domain_confusion", "gvb"])
def test_a_labelled_patch_of_a_target_is_on_the_targets_side(name):
    """Propagated labels make batches of labelled patches that lie on targets (domain 1 and above)."""
    part = build(load_strategy(name)).align
    features = [leaf(seed, 4, 3, 4, 4) for seed in (0, 1)]
    logits = [leaf(seed, 4, 2, 4, 4) for seed in (2, 3)]
    domains = [torch.tensor([0, 1, 1, 0]), torch.ones(4).long()]
    given = hand_step(part, features, logits, domains=domains)
    answers = part.verdicts(given)["discriminator"]
    labels = answers.labels
    assert (labels == 0).sum() * 2 <= (labels == 1).sum(), "two of eight patches are sources"
    flipped = hand_step(part, features, logits, domains=[1 - domains[0], domains[1]], modules=given.modules)
    one, other = part.losses(given), part.losses(flipped)
    assert float(one["domain"].detach()) != pytest.approx(float(other["domain"].detach()), rel=1e-4)
