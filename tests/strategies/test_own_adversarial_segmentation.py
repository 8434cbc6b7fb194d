"""Adversarial segmentation by hand: what D sees, whom each gradient reaches, and that ignored pixels carry nothing."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from own_steps import random, random_labels, step
from torch import nn
from torch.nn import functional

from stainda.config import load_strategy
from stainda.evaluation.effect import judge_effect
from stainda.strategies import build
from stainda.strategies.align.adversarial_segmentation import AdversarialSegmentation
from stainda.strategies.align.base import Batch, Site
from stainda.study.listing import catalogue


class Weighted(nn.Module):
    """A discriminator whose verdict at each pixel is a weighted sum of its channels."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights))

    def forward(self, maps):
        return (maps * self.weights.view(1, -1, 1, 1)).sum(1, keepdim=True)


def _given(part, logits, labels, images, judge=None):
    made = nn.ModuleDict({"pairs": judge} if judge is not None else part.modules(_site(images, logits)))
    batch = Batch(images, torch.zeros(len(labels)).long(), None, logits, labels)
    return step(part, batch, made=made, progress=1.0)


def _site(images, logits):
    network = nn.Identity()
    network.in_channels = images.shape[1]
    return Site(0, 1, logits.shape[1], network=network)


def _softplus(value):
    return math.log1p(math.exp(value))


def test_losses_of_two_pixels_by_hand():
    """Image 1 and 2; labels 1 and ignored; p of class 1 is 3/4 and anything; D = image + 2 · class 0 - 3 · class 1."""
    part = AdversarialSegmentation(weight=0.5, schedule="constant")
    images = torch.tensor([1.0, 2.0]).view(1, 1, 1, 2)
    logits = torch.tensor([[0.0, math.log(3.0)], [5.0, -2.0]]).T.reshape(1, 2, 1, 2).clone().requires_grad_()
    given = _given(part, logits, torch.tensor([[[1, 255]]]), images, Weighted([1.0, 2.0, -3.0]))
    found = part.losses(given)
    annotated, predicted = 1 - 3, 1 + 2 * 0.25 - 3 * 0.75
    assert float(found["pairs"].detach()) == pytest.approx((_softplus(annotated) + _softplus(-predicted)) / 2)
    assert float(found["adversarial"].detach()) == pytest.approx(0.5 * _softplus(predicted))
    found["adversarial"].backward()
    sigmoid, slope = 1 / (1 + math.exp(-predicted)), 0.25 * 0.75
    by_hand = 0.5 * sigmoid * slope * (-3 - 2)  # of the logit of class 1
    np.testing.assert_allclose(logits.grad[0, :, 0].T.numpy(), [[-by_hand, by_hand], [0, 0]], atol=1e-6)


def test_each_side_gets_its_own_gradient():
    part = AdversarialSegmentation(weight=0.3, schedule="constant", hidden=4, layers=2)
    torch.manual_seed(0)
    logits = random(3, 2, 16, 16).requires_grad_()
    given = _given(part, logits, random_labels(3, 16), random(3, 3, 16, 16, seed=1))
    found, judge = part.losses(given), given.modules["pairs"]
    found["adversarial"].backward(retain_graph=True)
    assert logits.grad.abs().max() > 0 and all(parameter.grad is None for parameter in judge.parameters())
    logits.grad = None
    found["pairs"].backward()
    assert logits.grad is None and all(parameter.grad.abs().max() > 0 for parameter in judge.parameters())


def test_ignored_pixels_carry_nothing():
    part = AdversarialSegmentation(schedule="constant", hidden=4, layers=2)
    torch.manual_seed(0)
    labels = random_labels(2, 16)
    labels[:, :, :6] = 255
    images, logits = random(2, 3, 16, 16, seed=1), random(2, 2, 16, 16)
    given = _given(part, logits, labels, images)
    other_images, other_logits = images.clone(), logits.clone()
    other_images[..., :6] += 100
    other_logits[:, 1, :, :6] += 100
    batch = Batch(other_images, given.source.domains, None, other_logits, labels)
    other = step(part, batch, made=given.modules, progress=1.0)
    for name, value in part.losses(given).items():
        torch.testing.assert_close(part.losses(other)[name], value)
    nothing = Batch(images, given.source.domains, None, logits.requires_grad_(), torch.full_like(labels, 255))
    losses = part.losses(step(part, nothing, made=given.modules, progress=1.0))
    assert all(float(value.detach()) == 0 for value in losses.values())
    assert part.verdicts(step(part, nothing, made=given.modules, progress=1.0)) == {}


def test_the_rim_that_a_network_does_not_answer_is_not_shown():
    part = AdversarialSegmentation(schedule="constant")
    images = torch.zeros(1, 1, 6, 6)
    images[..., 2:4, 2:4] = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    annotated, predicted, known = part._pairs(
        Batch(images, torch.zeros(1).long(), None, torch.zeros(1, 2, 2, 2), torch.tensor([[[0, 1], [1, 255]]]))
    )
    assert annotated[0].tolist() == [[[1, 2], [3, 0]], [[1, 0], [0, 0]], [[0, 1], [1, 0]]]
    assert predicted[0].tolist() == [[[1, 2], [3, 0]], [[0.5, 0.5], [0.5, 0]], [[0.5, 0.5], [0.5, 0]]]
    assert known[0, 0].tolist() == [[1, 1], [1, 0]]


def _lines(count, generator):
    """A line a pixel wide; its annotation lies on it or a pixel off it."""
    columns = torch.randint(4, 12, (count, 1), generator=generator).expand(-1, 16)
    moved = torch.randint(-1, 2, (count, 1), generator=generator)
    drawn = functional.one_hot(columns + moved, 16)
    return 2.0 * functional.one_hot(columns, 16)[:, None].float(), drawn


@pytest.mark.parametrize("seed", range(3))
def test_the_discriminator_learns_to_distinguish_and_the_network_to_pass(seed):
    """D learns against a network that stays; then the network against the D that it was: thin lines that are sure."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(1, 16, 5, padding=2), nn.LeakyReLU(0.1), nn.Conv2d(16, 2, 5, padding=2))
    part = AdversarialSegmentation(weight=1.0, schedule="constant", hidden=8, layers=2)
    images, drawn = _lines(16, generator)
    modules = _given(part, network(images), drawn, images).modules

    def learn(learner, term, steps):
        optimiser, values = torch.optim.Adam(learner.parameters(), 3e-3), []
        for _ in range(steps):
            images, drawn = _lines(16, generator)
            source = Batch(images, torch.zeros(16).long(), None, network(images), drawn)
            given = step(part, source, made=modules, progress=1.0)
            loss = part.losses(given)[term]
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            values.append(float(loss.detach()))
        answers = part.verdicts(given)["pairs"]
        return values, float((answers.logits.argmax(1) == answers.labels).float().mean())

    values, accuracy = learn(modules, "pairs", 80)
    assert np.mean(values[-5:]) < 0.2 < 0.6 < values[0] and accuracy > 0.95
    values, deceived = learn(network, "adversarial", 80)
    assert np.mean(values[-5:]) < 0.5 * np.mean(values[:5]) and deceived < accuracy


def test_the_strategy_is_supervised_and_is_not_listed_with_what_aligns():
    strategy = build(load_strategy("adversarial_segmentation"))
    assert strategy.tasks == ("segmentation",) and not strategy.align.needs_targets and not strategy.align.compares
    assert strategy.align.rates() == {"pairs": 1.0}
    families = {entry.name: entry.family for entry in catalogue("strategies")}
    assert families["adversarial_segmentation"] == "adversarial segmentation" != families["adaptsegnet"]


def test_what_did_not_act_is_said_of_masks_not_of_domains():
    rows = [
        {"step": index, "gradient_ratio": 0.1, "distance": None, "discriminator": "pairs",
         "discriminator_accuracy": accuracy, "chance_accuracy": 0.5}
        for index, accuracy in enumerate([0.9, 0.99, 1.0, 1.0])
    ]  # fmt: skip
    reason = judge_effect("x", pd.DataFrame(rows)).reason
    assert reason == "its discriminator distinguished annotated from predicted masks to the end"
