"""Serial consistency: who is moved, what a displacement costs, and that unsure places cost nothing."""

import inspect
import math

import numpy as np
import pytest
import torch
from own_steps import random, step
from scipy.ndimage import gaussian_filter

from stainda.config import StrategyConfig, TrainingConfig
from stainda.errors import ConfigError
from stainda.strategies import build
from stainda.strategies.align.base import Batch, PairBatch
from stainda.strategies.align.serial_consistency import SerialConsistency
from stainda.strategies.align.support.disagreement import disagreement, windowed
from stainda.strategies.parts import PARTS
from stainda.training.compiling import refuse_what_cannot_be_compiled
from stainda.training.sharing import refuse_what_cannot_be_shared


def _grid(n, size, move=(0.0, 0.0)):
    y, x = np.mgrid[:size, :size] + 0.5
    grid = np.stack([2 * (x + move[0]) / size - 1, 2 * (y + move[1]) / size - 1], -1)
    return torch.from_numpy(np.broadcast_to(grid, (n, *grid.shape)).copy()).float()


def _pairs(one, two, domains=(0, 1), certainty=None, radius=0.0, move=(0.0, 0.0)):
    n, size = len(one), one.shape[-1]
    sides = [
        Batch(torch.zeros(n, 3, size, size), torch.full((n,), domain), logits=logits)
        for logits, domain in zip((one, two), domains, strict=True)
    ]
    certainty = torch.ones(n, size, size) if certainty is None else certainty
    return PairBatch(*sides, _grid(n, size, move), certainty, torch.full((n,), radius))


def _loss(part, pairs):
    return part.losses(step(part, None, pairs=pairs))["serial"]


def _disc(size=32, cx=16.0, cy=16.0, radius=7.0, strength=8.0):
    y, x = np.mgrid[:size, :size] + 0.5
    inside = torch.from_numpy(((x - cx) ** 2 + (y - cy) ** 2 < radius**2).astype(np.float32))
    return torch.stack([-strength * (inside - 0.5), strength * (inside - 0.5)])[None].requires_grad_()


@pytest.mark.parametrize("measure", ["dice", "js", "both"])
def test_agreement_costs_nothing_and_contradiction_the_most(measure):
    part = SerialConsistency(measure=measure, grow=0.0)
    one = _disc(strength=40.0)
    assert float(_loss(part, _pairs(one, one)).detach()) == pytest.approx(0.0, abs=1e-4)
    away = float(_loss(part, _pairs(one, -one)).detach())
    assert away == pytest.approx({"dice": 1.0, "js": 1.0, "both": 2.0}[measure], abs=1e-3)


def test_the_measures_are_those_of_their_formulas():
    one, two = (random(2, 3, 4, 4, seed=seed).softmax(1) for seed in (0, 1))
    sure = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(2))
    p, q, c = (x.double().numpy() for x in (one, two, sure[:, None]))
    dice = 1 - 2 * (c * p * q)[:, 1:].sum((0, 2, 3)) / (c * (p**2 + q**2))[:, 1:].sum((0, 2, 3))
    assert float(disagreement(one, two, sure, "dice")) == pytest.approx(dice.mean(), abs=1e-4)
    m = (p + q) / 2
    js = 0.5 * (p * np.log2(p / m)).sum(1) + 0.5 * (q * np.log2(q / m)).sum(1)
    assert float(disagreement(one, two, sure, "js")) == pytest.approx((js * c[:, 0]).sum() / c.sum(), rel=1e-4)


def test_the_labelled_side_leads_whichever_it_is():
    part = SerialConsistency(grow=0.0)
    for domains, moved in (((0, 1), (False, True)), ((1, 0), (True, False)), ((1, 2), (True, True))):
        one, two = _disc(), _disc(cx=20.0)
        _loss(part, _pairs(one, two, domains)).backward()
        got = [side.grad is not None and bool(side.grad.abs().max() > 0) for side in (one, two)]
        assert tuple(got) == moved, domains


def test_the_registration_is_followed_to_where_the_tissue_lies():
    part = SerialConsistency(measure="dice", grow=0.0)
    one, two = _disc(cx=14.0), _disc(cx=19.0, cy=13.0)
    assert float(_loss(part, _pairs(one, two, move=(5.0, -3.0))).detach()) < 0.01
    assert float(_loss(part, _pairs(one, two)).detach()) > 0.2
    assert float(_loss(part, _pairs(one, two, move=(-5.0, 3.0))).detach()) > 0.5


def test_a_displacement_within_the_error_costs_little_and_one_beyond_it_much():
    part = SerialConsistency(measure="dice", grow=0.0)
    one = _disc()
    costs = {
        (shift, radius): float(_loss(part, _pairs(one, _disc(cx=16.0 + shift), radius=radius)).detach())
        for shift in (2.0, 10.0)
        for radius in (0.0, 4.0)
    }
    assert costs[2.0, 4.0] < 0.25 * costs[2.0, 0.0]
    assert costs[10.0, 4.0] > 8 * costs[2.0, 4.0]


def test_where_the_registration_is_unsure_nothing_is_asked():
    part = SerialConsistency(grow=0.0, certainty=0.3)
    one, two = _disc(), _disc(cx=6.0)
    certainty = torch.full((1, 32, 32), 0.29)
    certainty[:, :, 28:] = 1.0  # both are background there
    loss = _loss(part, _pairs(one, two, certainty=certainty, radius=1.0))
    loss.backward()
    assert two.grad[..., :26].abs().max() == 0
    nowhere = _loss(part, _pairs(_disc(), _disc(), certainty=torch.zeros(1, 32, 32)))
    assert float(nowhere.detach()) == 0.0


def test_the_window_is_scipys_gaussian_where_everything_is_sure():
    maps = torch.rand(2, 2, 40, 40)
    got = windowed(maps, torch.ones(2, 40, 40), torch.tensor([0.0, 2.0]))
    torch.testing.assert_close(got[0], maps[0])
    expected = gaussian_filter(maps[1].numpy(), (0, 2, 2), truncate=2.0)
    np.testing.assert_allclose(got[1, :, 5:-5, 5:-5].numpy(), expected[:, 5:-5, 5:-5], atol=1e-5)
    hole = torch.ones(1, 40, 40)
    hole[:, :20] = 0
    constant = torch.full((1, 1, 40, 40), 0.7)
    constant[:, :, :20] = 0.0  # what is not sure does not leak into what is
    kept = windowed(constant, hole, torch.tensor([3.0]))[0, 0, 20:]
    torch.testing.assert_close(kept, torch.full((20, 40), 0.7))
    assert math.isfinite(float(windowed(maps, torch.zeros(2, 40, 40), torch.tensor([3.0, 1.0])).sum()))


def test_parts_work_together_or_say_why_not():
    both = build(
        StrategyConfig(
            name="x", align={"name": "together", "parts": {"serial_consistency": {}, "dann": {"weight": 0.2}}}
        )
    ).align
    assert both.needs_pairs and both.needs_targets and both.tapped == "bottleneck"
    assert both.members["dann"].weight == 0.2
    for parts, message in (
        ({"dann": {}, "fishr": {}}, "differ in tapped"),
        ({"dann": {}, "danm": {}}, "unknown align 'danm'"),
        ({"dann": {"wieght": 1}, "serial_consistency": {}}, "wieght"),
        ({"dann": {}}, "at least 2"),
        ({"mixup": {}, "group_dro": {}}, "mixup and group_dro both replace the task loss"),
        ({"rtn": {}, "cutmix": {}}, "both replace the task loss"),
        ({"mean_teacher": {}, "swad": {}}, "both keep weights of their own"),
        ({"mean_teacher": {"colours": "same"}, "fixmatch": {}}, "mean_teacher same, fixmatch strong"),
        ({"mean_teacher": {}, "dann": {}}, "differ in how colours of the target change"),
        ({"dann": {"share": 0.3}, "serial_consistency": {}}, "share of dann has no meaning among several"),
    ):
        with pytest.raises(ConfigError, match=message):
            build(StrategyConfig(name="x", align={"name": "together", "parts": parts}))
    for parts in ({"mean_teacher": {"predict": "student"}, "swad": {}}, {"fixmatch": {}, "serial_consistency": {}}):
        build(StrategyConfig(name="x", align={"name": "together", "parts": parts}))


def test_parts_that_move_weights_do_so_in_company():
    """Otherwise a training with them would be compiled, or shared by devices."""
    strategy = build(StrategyConfig(name="x", align={"name": "together", "parts": {"mldg": {}, "selfreg": {}}}))
    with pytest.raises(ConfigError, match="differentiates a gradient"):
        refuse_what_cannot_be_compiled(TrainingConfig(compile=True), strategy, "unet")
    with pytest.raises(ConfigError, match="differentiates the loss"):
        refuse_what_cannot_be_shared(TrainingConfig(devices=2), strategy)


def test_parts_say_whether_they_replace_the_task_loss():
    for name, part in PARTS["align"].items():
        if name == "together":
            continue
        code = [inspect.getsource(kind.losses) for kind in part.__mro__ if "losses" in vars(kind)]
        assert part.replaces_task == any('"task": ' in own for own in code), name
