"""AggNet: the E-step, the M-step and the expected loss against second ways of computing them."""

import numpy as np
import pandas as pd
import pytest
import torch
from own_steps import random, step
from torch import nn

from stainda.config import PatchConfig, ProtocolConfig, StrategyConfig, StudyConfig, TaskConfig
from stainda.errors import ConfigError
from stainda.strategies import build
from stainda.strategies.align.aggnet import AggNet
from stainda.strategies.align.base import Batch, Site
from stainda.strategies.align.support.confusions import PRIOR_RIGHT, PRIOR_WRONG, Confusions, answers_of, expected_loss
from stainda.strategies.strategy import check
from stainda.training.losses import LOSSES, make_loss

NAMES = ("a", "b", "c")


def _votes(truth, rates, generator):
    """Answers (A, n) of annotators by sensitivity and specificity."""
    draws = generator.random((len(rates), len(truth)))
    right = np.array([np.where(truth == 1, sensitivity, specificity) for sensitivity, specificity in rates])
    return torch.from_numpy(np.where(draws < right, truth, 1 - truth))


def _dawid_skene(votes, prior, rounds=200):
    """EM by hand, in probabilities and loops, with the same counts added to each annotator's."""
    votes, posterior = votes.numpy(), (votes.numpy().mean(0) > 0.5).astype(float)
    for _ in range(rounds):
        likelihoods = np.ones((2, votes.shape[1]))
        for answers in votes:
            for truth in (0, 1):
                weight = posterior if truth else 1 - posterior
                right = (weight * (answers == truth)).sum() + PRIOR_RIGHT
                rate = right / (weight.sum() + PRIOR_RIGHT + PRIOR_WRONG)
                likelihoods[truth] *= np.where(answers == truth, rate, 1 - rate)
        posterior = prior * likelihoods[1] / (prior * likelihoods[1] + (1 - prior) * likelihoods[0])
    return posterior


def test_em_over_answers_is_that_of_dawid_and_skene_and_finds_the_annotators():
    generator = np.random.default_rng(0)
    truth = (generator.random(4000) < 0.3).astype(int)
    rates = ((0.95, 0.98), (0.7, 0.9), (0.6, 0.85))
    votes = _votes(truth, rates, generator)
    answers, confusions = answers_of(votes, 2), Confusions(NAMES, 2)
    posterior = answers_of((votes.float().mean(0) > 0.5).long(), 2)
    log_prior = torch.tensor([0.7, 0.3]).log()
    for _ in range(200):
        confusions.count(answers, posterior, keep=0)
        posterior = confusions.posterior(answers, log_prior)
    np.testing.assert_allclose(posterior[:, 1].numpy(), _dawid_skene(votes, 0.3), atol=1e-4)
    found = confusions.rates().diagonal(dim1=1, dim2=2).numpy()
    np.testing.assert_allclose(found[:, ::-1], rates, atol=0.06)
    assert confusions.statements()[0].startswith("a: specificity 0.9")


def test_silent_annotators_say_nothing_and_count_nowhere():
    confusions = Confusions(("a", "b"), 2)
    votes = answers_of(torch.tensor([[1, 255], [255, 255]]), 2)
    confusions.count(votes, torch.tensor([[0.0, 1.0], [0.5, 0.5]]), 1.0)
    assert confusions.counts.tolist() == [[[0, 0], [0, 1]], [[0, 0], [0, 0]]]
    prior = torch.tensor([[0.4, 0.6], [0.4, 0.6]]).log()
    torch.testing.assert_close(confusions.posterior(votes, prior)[1], prior[1].exp())


@pytest.mark.parametrize("shape", [(4, 3, 5, 5), (6, 3)])
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_the_expected_loss_of_sure_labels_is_the_loss(name, shape):
    logits = random(*shape)
    labels = torch.randint(3, (shape[0], *shape[2:]), generator=torch.Generator().manual_seed(1))
    labels[0] = 255
    loss = make_loss(name, torch.tensor([1.0, 2.0, 5.0]))
    torch.testing.assert_close(expected_loss(loss, logits, answers_of(labels, 3)), loss(logits, labels))


def test_the_expected_cross_entropy_is_that_of_probabilities():
    logits, truth = random(4, 3, 5, 5), torch.softmax(random(4, 5, 5, 3, seed=2), -1)
    expected = -(truth.movedim(-1, 1) * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(expected_loss(LOSSES["cross_entropy"], logits, truth), expected)


def _step(part, logits, votes, labels, progress=1.0):
    made = nn.ModuleDict(part.modules(Site(0, 1, 2, annotators=NAMES)))
    source = Batch(
        torch.zeros(len(labels), 3, 2, 2), torch.zeros(len(labels)).long(), None, logits, labels, votes=votes
    )
    return part.losses(step(part, source, made=made, progress=progress))["task"], made


def test_the_network_decides_where_annotators_do_not():
    """Two of equal rates say yes and no: the truth is as likely as the network says, by the power given."""
    logits = torch.tensor([[0.0, 2.0]]).view(1, 2, 1, 1)
    votes = torch.tensor([1, 0, 255]).view(3, 1, 1, 1)
    labels = torch.full((1, 1, 1), 255)
    for believed, expected in ((1.0, torch.tensor(2.0).sigmoid()), (0.0, torch.tensor(0.5))):
        _, made = _step(AggNet(believed=believed), logits, votes, labels)
        torch.testing.assert_close(made["confusions"].counts[0, 1, 1], expected)
    before, made = _step(AggNet(begin=0.5), logits, votes, torch.zeros(1, 1, 1).long(), progress=0.2)
    torch.testing.assert_close(before, torch.tensor(2.0).exp().log1p())  # the label, before the network takes part
    assert made["confusions"].counts[0].tolist() == [[0, 1], [0, 0]]


def test_it_needs_the_answers_of_each():
    strategy = build(StrategyConfig(name="x", align={"name": "aggnet"}))
    study = StudyConfig.model_construct(
        task=TaskConfig(), protocol=ProtocolConfig(sources=("a",)), patches=PatchConfig(mpp=4.0)
    )
    with pytest.raises(ConfigError, match="labels 'source' are one set"):
        check(strategy, study)


ANSWERS = np.array(
    [
        [0, 1, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 1, 1, 0, 0, 1, 0, 0, 0, 1, 1, 1, 0],
        [0, 1, 1, 1, 0, 1, 1, 1, 1, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1],
        [0, 255, 1, 0, 1, 0, 1, 1, 1, 255, 1, 0, 255, 1, 0, 0, 1, 0, 1, 1, 1, 1, 0, 1],
    ]
)
# the probability of class 1 that crowd-kit 1.4.2 finds: aggregation.DawidSkene(n_iter=30, tol=-inf) on ANSWERS
KNOWN = np.array(
    [
        0.03424695,
        0.95798214,
        0.97315082,
        0.91621663,
        0.10517287,
        0.11254260,
        0.97315082,
        0.97315082,
        0.29593245,
        0.06884329,
        0.97315082,
        0.91621663,
        0.86441475,
        0.91019529,
        0.03424695,
        0.11254260,
        0.97315082,
        0.03424695,
        0.10517287,
        0.10517287,
        0.91019529,
        0.91019529,
        0.75356855,
        0.29593245,
    ]
)


def crowd_kit(votes, n_classes):
    """What crowd-kit makes of answers (annotators, patches), 255 where there is none: posteriors, and rates by name."""
    aggregation = pytest.importorskip(
        "crowdkit.aggregation", reason="crowd-kit is not in the extra 'test', since it brings transformers along"
    )
    worker, task = np.nonzero(votes != 255)
    table = pd.DataFrame({"task": task, "worker": np.array(NAMES)[worker], "label": votes[worker, task]})
    theirs = aggregation.DawidSkene(n_iter=30, tol=-np.inf).fit(table)
    classes = list(range(n_classes))
    rates = {name: theirs.errors_.loc[name].loc[classes, classes].to_numpy() for name in NAMES}
    return theirs.probas_.sort_index()[classes].to_numpy(), rates


def em(monkeypatch, votes, n_classes):
    """The same rounds from the same start: no counts added, the prior learned."""
    monkeypatch.setattr("stainda.strategies.align.support.confusions.PRIOR_RIGHT", 0.0)
    monkeypatch.setattr("stainda.strategies.align.support.confusions.PRIOR_WRONG", 0.0)
    answers, confusions = answers_of(torch.from_numpy(votes), n_classes).double(), Confusions(NAMES, n_classes).double()
    posterior = answers.sum(0) / answers.sum((0, 2))[:, None]
    for _ in range(30):
        confusions.count(answers, posterior, keep=0)
        posterior = confusions.posterior(answers, posterior.mean(0).log())
    confusions.count(answers, posterior, keep=0)
    return posterior.numpy(), dict(zip(NAMES, confusions.rates().numpy(), strict=True))


def test_em_over_answers_is_what_crowd_kit_found(monkeypatch):
    np.testing.assert_allclose(em(monkeypatch, ANSWERS, 2)[0][:, 1], KNOWN, atol=1e-6)


@pytest.mark.parametrize(
    ("n_classes", "rates"), [(2, (0.95, 0.75, 0.6)), (3, (0.9, 0.7, 0.6))], ids=["two classes", "three classes"]
)
def test_em_over_answers_is_that_of_crowd_kit(monkeypatch, n_classes, rates):
    generator = np.random.default_rng(3)
    truth = generator.integers(n_classes, size=400)
    wrong = (truth + generator.integers(1, n_classes, (len(rates), len(truth)))) % n_classes
    votes = np.where(generator.random(wrong.shape) < np.array(rates)[:, None], truth, wrong)
    votes[1:, generator.random(len(truth)) < 0.2] = 255  # a fifth has the first annotator alone
    theirs, their_rates = crowd_kit(votes, n_classes)
    posterior, own_rates = em(monkeypatch, votes, n_classes)
    np.testing.assert_allclose(posterior, theirs, atol=1e-6)
    for name in NAMES:
        np.testing.assert_allclose(own_rates[name].T, their_rates[name], atol=1e-6)
    assert float((posterior.argmax(1) == truth).mean()) > 0.8
