"""Parts with classifiers of their own: which player descends what."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from align_cases import cross_entropy, gradient, hand_step, leaf
from torch import nn
from torch.nn import functional

from stainda.strategies.align.mcd import Mcd
from stainda.strategies.align.rtn import Rtn
from stainda.strategies.align.support.discriminators import Head
from stainda.strategies.align.support.pytorch_adapt import layers
from stainda.strategies.align.symnets import SymNets, halves

SHAPES = {"segmentation": ((3, 4, 5, 5), (3, 2, 5, 5), (3, 5, 5)), "classification": ((6, 4), (6, 2), (6,))}


def _case(part, task, progress=0.5):
    shape, scores, labelled = SHAPES[task]
    features, logits = (leaf(0, *shape), leaf(1, *shape)), (leaf(2, *scores), leaf(3, *scores))
    labels = torch.randint(0, 2, labelled, generator=torch.Generator().manual_seed(4))
    labels.flatten()[0] = 255
    return hand_step(part, features, logits, labels, progress), features, logits, labels


def _heads(step):
    return step.modules["head_a"], step.modules["head_b"]


def _parameters(step):
    return [parameter for head in _heads(step) for parameter in head.parameters()]


def _same(got, wanted):
    for one, other in zip(got, wanted, strict=True):
        assert other.abs().max() > 0
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("task", SHAPES)
@pytest.mark.parametrize(("schedule", "progress"), [("constant", 0.0), ("warm_up", 0.1)])
def test_mcd_heads_seek_to_differ_where_the_features_seek_to_make_them_agree(task, schedule, progress):
    part = Mcd(weight=0.6, schedule=schedule)
    step, features, _, labels = _case(part, task, progress)
    one, other = _heads(step)
    got = gradient(sum(part.losses(step).values()), *features, *_parameters(step))
    taught = cross_entropy(one(features[0]), labels) + cross_entropy(other(features[0]), labels)
    apart = (torch.softmax(one(features[1]), 1) - torch.softmax(other(features[1]), 1)).abs().mean()
    factor = 0.6 * (1.0 if schedule == "constant" else 2 / (1 + math.exp(-10 * progress)) - 1)
    _same(got[:1], gradient(taught, features[0]))
    _same(got[1:2], gradient(factor * apart, features[1]))
    _same(got[2:], gradient(taught - apart, *_parameters(step)))


@pytest.mark.parametrize("task", SHAPES)
def test_symnets_gives_heads_and_network_the_losses_of_the_paper(task):
    part = SymNets(weight=0.4, schedule="constant")
    step, features, _, labels = _case(part, task)
    one, other = _heads(step)
    got = gradient(sum(part.losses(step).values()), *features, *_parameters(step))

    def joint(x):
        return torch.softmax(torch.cat([one(x), other(x)], 1), 1)

    source, target = (joint(x).movedim(1, -1).reshape(-1, 4) for x in features)
    known = labels.flatten() != 255
    y = labels.flatten()[known]
    of_class = source[known].gather(1, torch.stack([y, y + 2], 1)).log()
    category = -0.5 * of_class.sum(1).mean()
    confusion = -0.5 * (target[:, :2].sum(1).log() + target[:, 2:].sum(1).log()).mean()
    both = target[:, :2] + target[:, 2:]
    entropy = -(both * both.log()).sum(1).mean()
    _same(got[:2], gradient(0.4 * (category + confusion + entropy), *features))
    taught = cross_entropy(one(features[0]), labels) + cross_entropy(other(features[0]), labels)
    apart = -source[:, :2].sum(1).log().mean() - target[:, 2:].sum(1).log().mean()
    _same(got[2:], gradient(taught + apart, *_parameters(step)))


def test_symnets_domain_and_entropy_terms_are_pytorch_adapts_and_its_category_loss_is_not_the_papers():
    part = SymNets(weight=1.0, schedule="constant")
    step, features, _, _ = _case(part, "classification")
    one, other = _heads(step)
    terms = part.losses(step)
    scores = [[head(x) for head in (one, other)] for x in features]
    apart = layers.SymNetsDomainLoss(0)(*scores[0]) + layers.SymNetsDomainLoss(1)(*scores[1])
    confusion = 0.5 * (layers.SymNetsDomainLoss(0)(*scores[1]) + layers.SymNetsDomainLoss(1)(*scores[1]))
    torch.testing.assert_close(terms["domain"], apart)
    torch.testing.assert_close(terms["confusion"], confusion)
    torch.testing.assert_close(terms["entropy"], layers.SymNetsEntropyLoss()(*scores[1]))
    # a perfect prediction, shared evenly by both halves: the paper's loss is log 2, pytorch-adapt's a softmax of halves
    sure = torch.tensor([[40.0, 0.0]])
    ours = -0.5 * sum(half[0, 0] for half in halves(sure, sure))
    theirs = 0.5 * layers.SymNetsCategoryLoss()(sure, sure, torch.tensor([0]))
    assert float(ours) == pytest.approx(math.log(2), rel=1e-5)
    assert float(theirs) == pytest.approx(math.log(1 + math.exp(-0.5)), rel=1e-5)


@pytest.mark.parametrize("task", SHAPES)
def test_rtn_teaches_the_source_through_the_residual_and_keeps_the_plain_logits_for_the_target(task):
    part = Rtn(weight=0.0, entropy=0.3, schedule="constant", features="pooled")
    step, _, logits, labels = _case(part, task)
    residual = step.modules["residual"]
    terms = part.losses(step)
    shifted = logits[0] + residual.layer(logits[0])
    torch.testing.assert_close(terms["task"], cross_entropy(shifted, labels))
    share = torch.softmax(logits[1], 1)
    torch.testing.assert_close(terms["entropy"], -0.3 * (share * share.log()).sum(1).mean())
    assert gradient(terms["task"], logits[1])[0].abs().max() == 0
    for parameter in residual.parameters():
        nn.init.zeros_(parameter)
    torch.testing.assert_close(part.losses(step)["task"], cross_entropy(logits[0], labels))


def test_rtn_compares_products_of_features_and_predictions():
    part = Rtn(weight=2.0, entropy=0.0, schedule="constant", features="pooled")
    step, features, logits, _ = _case(part, "classification")
    rows = [
        np.einsum("nc,nk->nck", f.detach().double().numpy(), torch.softmax(z, 1).detach().double().numpy()).reshape(
            6, -1
        )
        for f, z in zip(features, logits, strict=True)
    ]

    def squared(a, b):
        return ((a[:, None] - b[None]) ** 2).sum(-1)

    own = np.sort(squared(rows[0], rows[0]).ravel())
    median = own[(len(own) - 1) // 2]
    kernel = [
        np.mean([np.exp(-s * squared(a, b) / median) for s in np.logspace(-8, 8, 33, base=2.0)], axis=0)
        for a, b in ((rows[0], rows[0]), (rows[1], rows[1]), (rows[0], rows[1]))
    ]
    expected = sum((one.sum() - 6) / 30 for one in kernel[:2]) - 2 * kernel[2].mean()
    assert float(part.losses(step)["mmd"].detach()) == pytest.approx(2 * expected, abs=2e-4)


def test_a_coarser_layer_is_scored_at_the_size_of_the_logits():
    part = Mcd()
    features, logits = (leaf(0, 2, 4, 3, 3), leaf(1, 2, 4, 3, 3)), (leaf(2, 2, 2, 6, 6), leaf(3, 2, 2, 6, 6))
    step = hand_step(part, features, logits, torch.zeros(2, 6, 6).long())
    assert all(term.isfinite() for term in part.losses(step).values())
    assert Head(4, 3, 2)(torch.zeros(5, 4)).shape == (5, 2)


@pytest.mark.parametrize("part", [Mcd(), SymNets(), Rtn(features="pooled")], ids=lambda part: part.name)
def test_pixels_count_by_their_weight_in_the_task_loss_of_a_part(part):
    step, *_ = _case(part, "segmentation")
    weights = torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(5))

    def loss(logits, labels, weights=None):
        each = functional.cross_entropy(logits, labels, ignore_index=255, reduction="none")
        return (each if weights is None else each * weights).mean()

    term = "task" if part.name == "rtn" else "heads"
    plain, weighted, even = (
        part.losses(replace(step, loss=loss, source=replace(step.source, weights=given)))[term]
        for given in (None, weights, torch.full((3, 5, 5), 0.5))
    )
    torch.testing.assert_close(even, 0.5 * plain)
    assert (weighted - even).detach().abs() > 1e-4
