"""Losses on the target's predictions: by hand, in numpy, or against pytorch-adapt's own where that is right."""

import math

import numpy as np
import pytest
import torch
from align_cases import gradient, hand_step, leaf
from torch import nn

from stainda.strategies.align.atdoc import Atdoc, sharpened
from stainda.strategies.align.bnm import Bnm
from stainda.strategies.align.entropy import Entropy
from stainda.strategies.align.information_maximisation import InformationMaximisation
from stainda.strategies.align.mcc import Mcc
from stainda.strategies.align.support.buffers import RowMemory
from stainda.strategies.align.support.discriminators import PooledDiscriminator
from stainda.strategies.align.support.pytorch_adapt import layers
from stainda.strategies.align.vada import Vada
from stainda.strategies.align.vat import Vat, divergence, of_size, worst_change
from stainda.strategies.norm.statistics import read_statistics

SURE, EVEN = [50.0, 0.0], [0.0, 0.0]


def _term(part, logits, progress=1.0):
    (found,) = part.losses(hand_step(part, logits=(logits, logits), progress=progress)).values()
    return found


def _plain(cls, **settings):
    return cls(weight=1.0, schedule="constant", features="spatial", **settings)


def test_entropy_of_one_sure_and_one_undecided_row_is_half_of_log_two():
    assert float(_term(_plain(Entropy), torch.tensor([SURE, EVEN]))) == pytest.approx(0.5 * math.log(2))
    dense = torch.tensor([SURE, EVEN]).T.reshape(1, 2, 1, 2)
    assert float(_term(_plain(Entropy), dense)) == pytest.approx(0.5 * math.log(2))


@pytest.mark.parametrize(("progress", "factor"), [(0.0, 0.0), (0.2, 2 / (1 + math.exp(-2)) - 1), (1.0, 0.99991)])
def test_the_weight_grows_with_the_schedule(progress, factor):
    part = Entropy(weight=0.3, schedule="warm_up")
    assert float(_term(part, torch.zeros(3, 2), progress)) == pytest.approx(0.3 * factor * math.log(2), rel=1e-4)


def test_information_maximisation_is_least_where_rows_are_sure_and_classes_even():
    part = _plain(InformationMaximisation)
    both = torch.tensor([SURE, [0.0, 50.0]])
    assert float(_term(part, both)) == pytest.approx(-math.log(2), rel=1e-5)
    assert float(_term(part, torch.tensor([SURE, SURE]))) == pytest.approx(0.0, abs=1e-5)
    assert float(_term(part, torch.tensor([EVEN, EVEN]))) == pytest.approx(0.0, abs=1e-5)
    dense = both.T.reshape(1, 2, 1, 2).expand(3, 2, 1, 2)
    assert float(_term(part, dense)) == pytest.approx(-math.log(2), rel=1e-5), "the mean is over rows, not over patches"
    tilted = _plain(InformationMaximisation, diversity=0.5)
    assert float(_term(tilted, both)) == pytest.approx(-0.5 * math.log(2), rel=1e-5)


def test_mcc_is_the_confusion_of_the_paper():
    logits = leaf(0, 7, 3)
    p = np.exp(logits.detach().double().numpy() / 2.5)
    p /= p.sum(1, keepdims=True)
    w = 1 + np.exp((p * np.log(p)).sum(1))
    w *= len(w) / w.sum()
    confusion = p.T @ np.diag(w) @ p
    confusion /= confusion.sum(1, keepdims=True)
    expected = (confusion.sum() - np.trace(confusion)) / 3
    assert float(_term(_plain(Mcc), logits).detach()) == pytest.approx(expected, rel=1e-5)


def test_mcc_of_predictions_that_never_mix_two_classes_is_zero():
    apart = torch.tensor([SURE, [0.0, 50.0], SURE])
    assert float(_term(_plain(Mcc, temperature=1.0), apart)) == pytest.approx(0.0, abs=1e-6)
    assert float(_term(_plain(Mcc, temperature=1.0), torch.tensor([EVEN] * 3))) == pytest.approx(0.5)


def test_bnm_of_sure_predictions_is_the_sum_of_the_roots_of_the_class_shares():
    """Rows of one class are equal: the singular values of the matrix are √n_k, divided by √(14 · 3) here."""
    sizes = np.asarray([9, 4, 1])
    logits = 60.0 * torch.nn.functional.one_hot(torch.from_numpy(np.repeat(np.arange(3), sizes)), 3).float()
    assert float(_term(_plain(Bnm), logits)) == pytest.approx(-np.sqrt(sizes).sum() / math.sqrt(42), rel=1e-5)
    even = 60.0 * torch.eye(3).repeat(5, 1)
    assert float(_term(_plain(Bnm), even)) == pytest.approx(-1.0, rel=1e-5), "the least, sure and even"
    assert float(_term(_plain(Bnm), torch.zeros(8, 2))) == pytest.approx(-math.sqrt(4 / 16))  # σ = √(8/2) alone


def test_bnm_of_the_authors_batch_is_what_their_code_gives():
    """36 rows of 31 classes: the mean singular value, to within the 8 % of √36/√31."""
    logits = 6.0 * torch.randn(36, 31, generator=torch.Generator().manual_seed(0))
    theirs = -float(torch.linalg.svdvals(logits.softmax(1)).mean())
    assert float(_term(_plain(Bnm), logits)) == pytest.approx(theirs * math.sqrt(31 / 36), rel=1e-4)


def test_sampled_pixels_give_a_rare_class_the_weight_of_a_frequent_one():
    """4 % of the pixels undecided between two classes, the others sure: by pixels the entropy is small."""
    logits = torch.tensor(SURE).view(1, 2, 1, 1).repeat(2, 1, 40, 40)
    logits[:, 0, :8, :8], logits[:, 1, :8, :8] = 0.0, 0.01
    spatial = float(_term(Entropy(weight=1, schedule="constant"), logits))
    sampled = float(_term(Entropy(weight=1, schedule="constant", features="sampled", samples=60), logits))
    assert spatial == pytest.approx(0.04 * math.log(2), rel=0.01)
    assert sampled == pytest.approx(0.5 * math.log(2), rel=0.25)


# -- ATDOC --------------------------------------------------------------------------------------------------------


def test_pseudo_labels_are_those_of_pytorch_adapts_neighbourhood_aggregation():
    rows, shares = leaf(0, 30, 4).detach(), torch.softmax(leaf(1, 30, 3).detach(), 1)
    near = torch.nn.functional.normalize(rows)
    theirs = layers.NeighborhoodAggregation(31, 4, 3, k=5, T=0.5)
    theirs.feat_memory[:30] = near
    theirs.pred_memory[:30] = sharpened(shares)
    queries = torch.nn.functional.normalize(leaf(2, 8, 4).detach())
    labels, means = theirs.get_pseudo_labels(queries, torch.full((8,), 30))  # a query's own entry is left out
    weights, ours = Atdoc(neighbours=5).vote(queries, near, sharpened(shares))
    assert torch.equal(ours, labels)
    torch.testing.assert_close(weights, means.max(1).values)
    memory = shares.clone().log()
    theirs.update_memory(near, memory, torch.arange(30))
    torch.testing.assert_close(theirs.pred_memory[:30], sharpened(shares))


def test_a_row_on_the_wrong_side_is_labelled_by_its_neighbours():
    part = Atdoc(weight=1.0, schedule="constant", features="pooled", neighbours=3, memory=16)
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    kinds = torch.arange(8) % 2
    features = directions[kinds] + 0.05 * leaf(0, 8, 2).detach()
    logits = 3.0 * torch.nn.functional.one_hot(kinds, 2).float()
    step = hand_step(part, (features, features), (logits, logits))
    assert float(part.losses(step)["pseudo_labels"]) == 0.0, "nothing is remembered yet"
    wrong = torch.tensor([[0.0, 0.4]]).requires_grad_()
    again = hand_step(part, (features[:1], features[:1]), (wrong, wrong), modules=step.modules)
    loss = part.losses(again)["pseudo_labels"]
    assert float(loss.detach()) == pytest.approx(-float(torch.log_softmax(wrong, 1)[0, 0].detach()), rel=1e-4)
    (slope,) = gradient(loss, wrong)
    assert slope[0, 0] < 0 < slope[0, 1]


def test_the_memory_holds_the_latest_rows():
    memory = RowMemory(5, 1, 1)
    for value in range(4):
        memory.write(torch.full((2, 1), float(value)), torch.zeros(2, 1))
        if value == 1:
            assert memory.read()[0].flatten().tolist() == [0, 0, 1, 1]
    assert sorted(memory.read()[0].flatten().tolist()) == [1, 2, 2, 3, 3]
    memory.write(torch.arange(9.0)[:, None], torch.zeros(9, 1))
    assert sorted(memory.read()[0].flatten().tolist()) == [4, 5, 6, 7, 8]


# -- VAT ----------------------------------------------------------------------------------------------------------


def _vat_step(part, seed=0, n=6):
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Tanh(), nn.Conv2d(8, 2, 3, padding=1)
    )  # fmt: skip
    images = torch.randn(n, 3, 8, 8), torch.randn(n, 3, 8, 8)
    logits = [3.0 * network(image) for image in images]
    network = nn.Sequential(network, _Times(3.0))
    features = leaf(1, n, 4), leaf(2, n, 4)
    return hand_step(part, features, logits, network=network, images=images), network


class _Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


def test_divergence_is_that_of_torch():
    before, after = leaf(0, 3, 2, 4, 4), leaf(1, 3, 2, 4, 4)
    kl = nn.KLDivLoss(reduction="none")(torch.log_softmax(after, 1), torch.softmax(before, 1)).sum(1).mean((1, 2))
    torch.testing.assert_close(divergence(before, after), kl)
    assert gradient(divergence(before, after).sum(), before)[0].abs().max() == 0


def test_the_worst_change_does_more_than_random_ones_of_its_size():
    part = Vat(radius=0.05)
    step, network = _vat_step(part)
    clean = step.target.logits.detach()
    with torch.no_grad():
        worst = divergence(clean, network(step.target.images + worst_change(step, step.target, 0.05, 1)))
        generator = torch.Generator().manual_seed(3)
        drawn = [
            divergence(clean, network(step.target.images + of_size(torch.randn(6, 3, 8, 8, generator=generator), 0.05)))
            for _ in range(20)
        ]
    assert (worst > 2.0 * torch.stack(drawn).max(0).values).all()


def test_vat_has_the_size_asked_for_and_leaves_statistics_and_gradients_alone():
    part = Vat(weight=1.0, schedule="constant", radius=0.2, on="both")
    step, network = _vat_step(part)
    change = worst_change(step, step.target, 0.2, 2)
    before = read_statistics(network)
    torch.testing.assert_close(change.square().mean((1, 2, 3)).sqrt(), torch.full((6,), 0.2))
    assert all(parameter.grad is None for parameter in network.parameters()) and not change.requires_grad
    counted = network[0][1].num_batches_tracked.clone()
    loss = part.losses(step)["smoothness"]
    assert network[0][1].num_batches_tracked == counted, "passes that are forgotten are not counted"
    for key, value in read_statistics(network).items():
        torch.testing.assert_close(value, before[key])
    assert network[0][1].momentum == 0.1
    assert loss > 0 and gradient(loss, *network.parameters())[0].abs().max() > 0
    assert float(of_size(torch.zeros(1, 2), 1.0).abs().max()) == 0.0


def test_vada_is_dann_with_entropy_and_smoothness():
    part = Vada(weight=0.2, schedule="constant", features="pooled", target=0.5, source=0.0)
    step, _ = _vat_step(part)
    terms = part.losses(step)
    assert set(terms) == {"domain", "entropy", "smooth_target"}
    assert isinstance(step.modules["discriminator"], PooledDiscriminator)
    share = torch.softmax(step.target.logits, 1)
    entropy = -(share * share.log()).sum(1).mean()
    torch.testing.assert_close(terms["entropy"], 0.5 * entropy)
    assert set(part.model_copy(update={"source": 0.1}).losses(step)) == {*terms, "smooth_source"}
