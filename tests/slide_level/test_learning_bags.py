"""Aggregators on bags whose truth is known: which of them find a label that few vectors carry."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made_bags import CARRIERS, WIDTH, carriers_of, made_bags

from stainda.config.slide_level import SlideTrainingConfig
from stainda.errors import ConfigError, TrainingError
from stainda.evaluation.two_class import auroc
from stainda.slide_level import torchmil_here
from stainda.slide_level.aggregators import BagNetwork, SmoothMargin
from stainda.slide_level.learning import LabelledBag, learn

SETTINGS = SlideTrainingConfig(epochs=30, hidden=16, dropout=0.1, learning_rate=3e-3)


def _learned(name, seed):
    """AUROC on bags that taught nothing, and the share of carriers among the patches with most attention."""
    learned = learn(name, made_bags(80, 10 * seed), made_bags(20, 10 * seed + 1), SETTINGS, seed)
    tested = made_bags(60, 10 * seed + 2)
    answers = [learned.answer(bag.features()) for bag in tested]
    labels = np.array([bag.positive for bag in tested])
    score = auroc(np.array([answer[0] for answer in answers]), labels, np.ones((1, len(labels))))[0]
    hits = [
        len({*np.argsort(evidence.numpy())[-CARRIERS:].tolist()} & {*carriers_of(bag).tolist()}) / CARRIERS
        for (_, evidence), bag in zip(answers, tested, strict=True)
        if evidence is not None and bag.positive
    ]
    return score, np.mean(hits) if hits else None


def test_attention_finds_what_mean_pooling_dilutes():
    pytest.importorskip("torchmil", reason="the extra 'bags'")
    torch.set_num_threads(1)
    mean = [_learned("mean", seed)[0] for seed in (1, 2, 3)]
    attention, hits = zip(*(_learned("attention", seed) for seed in (1, 2, 3)), strict=True)
    assert np.mean(mean) < 0.75 and np.mean(attention) > np.mean(mean) + 0.15, (mean, attention)
    assert all(second > first for first, second in zip(mean, attention, strict=True))
    assert np.mean(hits) > 0.7, "the patches with most attention are those that carry the label"


@pytest.mark.parametrize("name", ["mean", "max", "svm", "fisher", "attention", "clam", "transmil"])
def test_every_aggregator_learns_one_step_and_answers_of_a_bag_of_any_size(name):
    if name in torchmil_here.OF_TORCHMIL:
        pytest.importorskip("torchmil", reason="the extra 'bags'")
    torch.manual_seed(0)
    network = BagNetwork(name, WIDTH, 8, 0.0)
    first = made_bags(2, 0)[1]
    network.fit(first.features, 0)
    before = [parameter.clone() for parameter in network.parameters()]
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05)
    loss = network.loss(first.features(), True)
    loss.backward()
    optimiser.step()
    assert any((old != new).any() for old, new in zip(before, network.parameters(), strict=True))
    assert network.eval().loss(first.features(), True).item() < loss.item()
    for number in (1, 7, 40):
        logit, evidence = network(first.features()[:number])
        assert logit.shape == () and torch.isfinite(logit)
        assert (evidence is None) == (name in ("mean", "svm", "fisher"))
        if evidence is not None:
            assert evidence.shape == (number,) and (evidence >= 0).all()
            assert name == "max" or float(evidence.sum().detach()) == pytest.approx(1, abs=1e-4)


def test_mean_and_max_are_what_they_are_called():
    torch.manual_seed(0)
    bag = made_bags(2, 0)[1].features()
    mean, largest = BagNetwork("mean", WIDTH, 8, 0.0).eval(), BagNetwork("max", WIDTH, 8, 0.0).eval()
    doubled = torch.cat([bag, bag])
    assert torch.allclose(mean(bag)[0], mean(doubled)[0], atol=1e-6)
    alone = torch.stack([largest(patch[None])[0] for patch in bag])
    assert torch.allclose(largest(bag)[0], alone.max(), atol=1e-6)


def test_the_smooth_margin_is_the_logarithm_of_its_sum():
    scores, labels = torch.tensor([[2.0, -1.0], [0.5, 0.5]]), torch.tensor([[0.0], [1.0]])
    first = np.log(np.exp(2.0) + np.exp(1 - 1.0)) - 2.0
    second = np.log(np.exp(1.5) + np.exp(0.5)) - 0.5
    assert float(SmoothMargin()(scores, labels)) == pytest.approx((first + second) / 2, abs=1e-6)


def test_a_missing_torchmil_is_said_with_what_to_install(monkeypatch):
    monkeypatch.setattr(torchmil_here, "find_spec", lambda name: None)
    torchmil_here.check_torchmil(("mean", "max"))
    with pytest.raises(ConfigError, match=r"'clam' needs the package torchmil.*\n?.*stainda\[bags\]"):
        torchmil_here.check_torchmil(("mean", "clam"))


def test_a_training_without_any_finite_loss_says_what_to_do():
    bags = [LabelledBag(lambda: torch.full((5, WIDTH), float("nan")), label) for label in (True, False)]
    with pytest.raises(TrainingError, match=r"'max', seed 3.* not finite after any epoch") as raised:
        learn("max", bags, bags, SETTINGS.model_copy(update={"epochs": 2}), 3)
    assert "slide_level.training.learning_rate (0.003)" in str(raised.value)
