"""GroupDRO, IRM, V-REx and Fishr against their formulas written out."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from own_steps import labelled, random, random_labels, site, step
from torch import nn
from torch.nn import functional

from stainda.cohort import Cohort, Section, resolve_roles
from stainda.config import ModelConfig, ProtocolConfig, StrategyConfig
from stainda.errors import ConfigError
from stainda.models import build_model
from stainda.strategies import build, check_cohort
from stainda.strategies.align.fishr import Fishr
from stainda.strategies.align.group_dro import GroupDro
from stainda.strategies.align.irm import Irm, even_halves
from stainda.strategies.align.support.gradients import classifier_gradients
from stainda.strategies.align.vrex import Vrex

GROUPS = [0, 2, 2, 0, 0, 2]


def _batch(seed=0, groups=GROUPS, features=None):
    logits = random(len(groups), 2, 5, 5, seed=seed).requires_grad_()
    return labelled(logits, random_labels(len(groups), seed=seed + 1), groups, features)


def _losses(batch):
    """Cross-entropy of the pixels of each group, in the order of their numbers."""
    return [
        functional.cross_entropy(batch.logits[batch.groups == number], batch.labels[batch.groups == number])
        for number in sorted(set(batch.groups.tolist()))
    ]


def test_group_dro_multiplies_the_weights_by_the_exponential_of_the_losses():
    part = GroupDro(eta=0.5)
    made = nn.ModuleDict(part.modules(site(groups=("a", "b", "c"))))
    q = np.full(3, 1 / 3)
    for turn in range(3):
        batch = _batch(seed=turn)
        losses = _losses(batch)
        got = part.losses(step(part, batch, made=made))["task"]
        raised = q[[0, 2]] * np.exp(0.5 * np.array([float(loss.detach()) for loss in losses]))
        q[[0, 2]] = raised / raised.sum() * q[[0, 2]].sum()
        np.testing.assert_allclose(made["weights"].of("q").numpy(), q, rtol=1e-5)
        expected = (q[0] * losses[0] + q[2] * losses[1]) / (q[0] + q[2])
        torch.testing.assert_close(got, expected.float())
    assert q.sum() == pytest.approx(1) and q[1] == pytest.approx(1 / 3), "a group that was not seen keeps its weight"


def test_group_dro_leans_to_the_worst_group():
    part = GroupDro(eta=2.0)
    made = nn.ModuleDict(part.modules(site(groups=("easy", "hard"))))
    labels = torch.zeros(4, 5, 5).long()
    logits = torch.zeros(4, 2, 5, 5)
    logits[:2, 0] = 4.0
    logits[2:, 1] = 4.0
    for _ in range(20):
        part.losses(step(part, labelled(logits, labels, [0, 0, 1, 1]), made=made))
    assert made["weights"].of("q")[1] > 0.99


def _by_scale(batch, members):
    """d/dw of the mean of -log softmax(w z)_y at w = 1 is the mean of (softmax(z) · z) - z_y."""
    z, y = batch.logits[members], batch.labels[members]
    return ((z.softmax(1) * z).sum(1) - z.gather(1, y[:, None])[:, 0]).mean()


def _irm_modules(part, n_groups):
    return nn.ModuleDict(part.modules(site(groups=tuple("abc"[:n_groups]))))


def test_irm_penalty_is_the_product_of_the_gradients_of_two_halves_by_the_scale():
    part = Irm(weight=0.7, grow=0.0)
    batch = _batch(groups=[0, 2, 2, 0, 0, 2, 0, 2])
    given = step(part, batch, made=_irm_modules(part, 3), generator=torch.Generator().manual_seed(3))
    got = part.losses(given)["irm"]
    again = torch.Generator().manual_seed(3)
    expected = []
    for number in (0, 2):
        halves = even_halves(replace(given, generator=again), (batch.groups == number).nonzero()[:, 0])
        expected.append(_by_scale(batch, halves[0]) * _by_scale(batch, halves[1]))
    torch.testing.assert_close(got, 0.7 * torch.stack(expected).mean())
    got.backward()
    assert batch.logits.grad.abs().max() > 0


def test_both_halves_of_a_group_show_as_many_objects_and_are_drawn_at_random():
    labels = torch.zeros(6, 4, 4).long()
    labels[[0, 1, 5], 2] = 1
    labels[3, 1] = 255  # not labelled: no object
    batch = labelled(torch.zeros(6, 2, 4, 4), labels, [0] * 6)
    given = step(Irm(), batch, made=nn.ModuleDict(), generator=torch.Generator().manual_seed(0))
    seen = set()
    for _ in range(40):
        one, other = even_halves(given, torch.arange(6))
        assert sorted([*one.tolist(), *other.tolist()]) == [0, 1, 2, 3, 4, 5]
        shown = [sum(place in (0, 1, 5) for place in half.tolist()) for half in (one, other)]
        assert sorted(shown) == [1, 2]
        seen.add(tuple(sorted(one.tolist())))
    assert len(seen) > 6


def test_irm_of_groups_too_small_for_halves_does_not_count_their_noise():
    """Patches of one group pull the scale by ±1, on the mean by nothing: the penalty is 0 and not the variance 1."""
    part = Irm(weight=1.0, grow=0.0)
    made = _irm_modules(part, 2)
    z = torch.zeros(2, 2, 1, 1)
    z[0, 0], z[1, 0] = 3.0, 3.0
    generator = torch.Generator().manual_seed(0)
    found, squared = [], []
    for _ in range(300):
        # either wrong by 3 (softmax says 0), or right: gradients of the scale of both signs
        labels = torch.randint(2, (2, 1, 1), generator=generator)
        batch = labelled(z.clone().requires_grad_(), labels, [0, 1])
        found.append(float(part.losses(step(part, batch, made=made))["irm"].detach()))
        squared.append(float(torch.stack([_by_scale(batch, [one]) ** 2 for one in (0, 1)]).mean().detach()))
    p = 1 / (1 + np.exp(-3.0))
    mean = 3 * p - 3 * 0.5  # over both labels
    assert np.mean(found[50:]) == pytest.approx(mean**2, abs=0.5)
    assert np.mean(squared) == pytest.approx(mean**2 + 1.5**2, abs=0.5), "which the plain square counts"


def test_vrex_is_the_variance_of_the_groups_losses():
    part = Vrex(weight=0.6, grow=0.0)
    batch = _batch()
    found = part.losses(step(part, batch))
    losses = np.array([float(loss.detach()) for loss in _losses(batch)])
    assert float(found["vrex"]) == pytest.approx(0.6 * losses.var(), rel=1e-4)
    assert float(found["task"]) == pytest.approx(losses.mean(), rel=1e-5)
    same = labelled(batch.logits[[0, 0]], batch.labels[[0, 0]], [0, 1])
    assert float(part.losses(step(part, same))["vrex"]) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("part", [Vrex(weight=50.0, grow=0.5), Irm(weight=50.0, grow=0.5)])
def test_a_penalty_grows_evenly_and_a_large_one_is_no_larger_learning_rate(part):
    batch = _batch(groups=[0, 2, 2, 0, 0, 2, 0, 2])
    start, early, late = (
        part.losses(
            step(
                part, batch, progress=progress, made=nn.ModuleDict(part.modules(site(groups=("a", "b", "c")))),
                generator=torch.Generator().manual_seed(0),
            )
        )
        for progress in (0.0, 0.25, 0.5)
    )  # fmt: skip
    assert float(start[part.name].detach()) == 0.0
    assert float(late[part.name].detach()) == pytest.approx(2 * float(early[part.name].detach()), rel=1e-4)
    assert float(start["task"].detach()) == float(late["task"].detach())
    mean = torch.stack(_losses(batch)).mean()
    assert float(late["task"].detach()) == pytest.approx(float(mean.detach()) / 50, rel=1e-4)


def test_gradients_of_single_patches_are_those_of_torch_func_on_a_unet():
    """Second implementation: per-sample gradients of the U-Net's head by vmap over grad."""
    network = build_model(ModelConfig(name="unet", params={"depth": 2, "width": 4}), 3, 3).eval()
    images, labels = random(5, 3, 8, 8), torch.randint(3, (5, 8, 8), generator=torch.Generator().manual_seed(3))
    labels[0, :2] = 255
    seen = []
    handle = network.get_submodule(network.default_layers["decoder"]).register_forward_hook(
        lambda _m, _i, output: seen.append(output)
    )
    logits = network(images)
    handle.remove()
    got = classifier_gradients(logits, labels, seen[0])

    def loss(weight, bias, features, target):
        out = functional.conv2d(features[None], weight, bias)
        return functional.cross_entropy(out, target[None], ignore_index=255)

    head = network.head
    by_sample = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1)), in_dims=(None, None, 0, 0))
    weights, biases = by_sample(head.weight.detach(), head.bias.detach(), seen[0].detach(), labels)
    torch.testing.assert_close(got, torch.cat([weights.flatten(1), biases], 1), rtol=1e-4, atol=1e-6)


def test_gradients_of_flat_logits_are_those_of_a_linear_layer():
    features, labels = random(4, 6), torch.tensor([0, 2, 1, 255])
    layer = nn.Linear(6, 3)
    got = classifier_gradients(layer(features), labels, features)
    for index in range(3):
        layer.zero_grad()
        functional.cross_entropy(layer(features[index : index + 1]), labels[index : index + 1]).backward()
        torch.testing.assert_close(got[index], torch.cat([layer.weight.grad.flatten(), layer.bias.grad]))
    assert (got[3] == 0).all()


def test_gradients_of_a_classifier_on_a_map_are_those_on_its_mean():
    features, logits, labels = random(3, 5, 4, 4), random(3, 2, seed=1), torch.tensor([0, 1, 255])
    got = classifier_gradients(logits, labels, features)
    torch.testing.assert_close(got, classifier_gradients(logits, labels, features.mean((2, 3))))


def test_fishr_is_the_distance_of_gradient_variances_and_remembers_them():
    part = Fishr(weight=1.0, grow=0.0, smooth=0.5)
    made = nn.ModuleDict(part.modules(site(channels=4, groups=("a", "b", "c"))))
    kept = {}
    for turn in range(2):
        features = random(6, 4, 5, 5, seed=10 + turn).requires_grad_()
        batch = _batch(seed=turn, features=features)
        got = part.losses(step(part, batch, made=made))["fishr"]
        gradients = classifier_gradients(batch.logits, batch.labels, features).detach().double().numpy()
        found = []
        for number in (0, 2):
            own = gradients[batch.groups.numpy() == number].var(0)
            kept[number] = 0.5 * kept.get(number, 0.0) + 0.5 * own
            found.append(kept[number] / (1 - 0.5 ** (turn + 1)))
        spread = np.stack(found) - np.mean(found, axis=0)
        assert float(got) == pytest.approx((spread**2).sum(1).mean(), rel=1e-3)
    got.backward()
    assert features.grad.abs().max() > 0
    equal = labelled(
        batch.logits[[0, 1, 0, 1]].detach(), batch.labels[[0, 1, 0, 1]], [0, 0, 1, 1], features[[0, 1, 0, 1]]
    )
    fresh = nn.ModuleDict(part.modules(site(channels=4, groups=("a", "b"))))
    assert float(part.losses(step(part, equal, made=fresh))["fishr"].detach()) == pytest.approx(0.0, abs=1e-10)


def _cohort(tmp_path, sources=1):
    rows = []
    for patient, split in (("1", "train"), ("2", "val"), ("3", "test")):
        for stain in ("PAS", "SR", "JONES"):
            rows.append(Section(f"{stain}{patient}", patient, patient, 1, stain, "A", tmp_path / "x", split=split))
    cohort = Cohort(tuple(rows))
    names = ("PAS@A", "SR@A")[:sources]
    return cohort, resolve_roles(cohort, ProtocolConfig(sources=names))


@pytest.mark.parametrize("name", ["group_dro", "irm", "vrex", "fishr"])
def test_a_cohort_with_one_group_is_refused_and_told_what_fits(name, tmp_path):
    strategy = build(StrategyConfig(name=name, norm="shared", align={"name": name}))
    with pytest.raises(ConfigError, match="by domain, and the source has 1") as caught:
        check_cohort(strategy, *_cohort(tmp_path))
    assert "second source domain" in str(caught.value)
    check_cohort(strategy, *_cohort(tmp_path, sources=2))
    by_slide = build(StrategyConfig(name=name, norm="shared", align={"name": name, "groups": "patient"}))
    with pytest.raises(ConfigError, match=r"domain \(2\), slide \(2\)"):
        check_cohort(by_slide, *_cohort(tmp_path, sources=2))


def test_penalties_want_finite_gradients_where_a_group_has_one_patch():
    for part in (Irm(grow=0.0), Vrex(grow=0.0)):
        batch = _batch(groups=[0, 1, 2])
        made = nn.ModuleDict(part.modules(site(groups=("a", "b", "c"))))
        part.losses(step(part, batch, made=made))
        loss = sum(part.losses(step(part, batch, made=made)).values())
        loss.backward()
        assert math.isfinite(float(loss)) and batch.logits.grad.isfinite().all()
