"""Distances between feature distributions against closed forms and plain numpy."""

import numpy as np
import pytest
import torch
from align_cases import gradient, hand_step, leaf

from stainda.strategies.align.afn import Afn
from stainda.strategies.align.coral import Coral
from stainda.strategies.align.jan import Jan
from stainda.strategies.align.mmd import Mmd, unit_bandwidth
from stainda.strategies.align.sliced_wasserstein import SlicedWasserstein, sliced_wasserstein
from stainda.strategies.align.support.rows import Rows, on_pairs


def _numpy(tensor):
    return tensor.detach().double().numpy()


def test_coral_is_the_squared_distance_of_the_covariances():
    part = Coral(weight=3.0, features="pooled")
    features = leaf(0, 9, 4), leaf(1, 6, 4, shift=5.0)
    got = float(part.losses(hand_step(part, features))["coral"].detach())
    cov = [np.cov(_numpy(feature), rowvar=False) for feature in features]
    assert got == pytest.approx(3.0 * ((cov[0] - cov[1]) ** 2).sum() / (4 * 16), rel=1e-4)


def test_coral_of_two_known_gaussians():
    """Diagonal covariances 4 and 1 in one of three directions: ``(4 - 1)² / (4 · 9)``; a shift changes nothing."""
    part = Coral(weight=1.0, features="spatial")
    scale = torch.tensor([2.0, 1.0, 1.0]).view(1, 3, 1, 1)
    source = leaf(0, 40, 3, 30, 30).detach() * scale
    target = leaf(1, 40, 3, 30, 30, shift=7.0)
    got = float(part.losses(hand_step(part, (source, target)))["coral"].detach())
    assert got == pytest.approx(9 / 36, rel=0.03)


def _joint_mmd(source, target, scales):
    """The unbiased estimate with product kernels (Long et al. 2017, eq. 9 and Gretton et al. 2012, eq. 3).

    The kernel of the predictions has the fixed width of the authors' code.
    """

    def squared(a, b):
        return ((a[:, None] - b[None]) ** 2).sum(-1)

    pairs = np.sort(squared(source[0], source[0])[np.triu_indices(len(source[0]), 1)])
    median = pairs[(len(pairs) - 1) // 2]

    def kernel(one, other):
        seen = np.mean([np.exp(-s * squared(one[0], other[0]) / median) for s in scales], axis=0)
        return seen * np.exp(-squared(one[1], other[1]) / 1.68)

    xx, yy = kernel(source, source), kernel(target, target)
    n, m = len(xx), len(yy)
    off = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return off - 2 * kernel(source, target).mean()


@pytest.mark.parametrize(("kernels", "scales"), [("single", [1.0]), ("many", np.logspace(-8, 8, 33, base=2.0))])
def test_jan_is_the_joint_mmd_written_out(kernels, scales):
    part = Jan(weight=2.0, kernels=kernels)
    features, logits = (leaf(0, 8, 4, 3, 3), leaf(1, 5, 4, 3, 3, shift=0.5)), (leaf(2, 8, 2, 6, 6), leaf(3, 5, 2, 6, 6))
    got = float(part.losses(hand_step(part, features, logits))["joint_mmd"].detach())
    rows = [[_numpy(f.mean((2, 3))), _numpy(torch.softmax(z, 1).mean((2, 3)))]
            for f, z in zip(features, logits, strict=True)]  # fmt: skip
    assert got == pytest.approx(2.0 * _joint_mmd(rows[0], rows[1], scales), abs=2e-4)


def test_jan_sees_classes_that_have_changed_places_and_mmd_does_not():
    centres = torch.tensor([[-2.0, 0.0], [2.0, 0.0]])
    kinds = torch.arange(80) % 2
    source, target = (centres[kinds] + 0.3 * leaf(seed, 80, 2).detach() for seed in (0, 1))
    sure = 4.0 * torch.nn.functional.one_hot(kinds, 2).float()
    same = [Jan(kernels="single"), (source, target), (sure, sure)]
    swapped = [Jan(kernels="single"), (source, target), (sure, sure.flip(1))]
    found = [float(part.losses(hand_step(part, f, z))["joint_mmd"]) for part, f, z in (same, swapped)]
    assert abs(found[0]) < 0.05 < 0.3 < found[1]
    assert abs(float(Mmd().losses(hand_step(Mmd(), (source, target)))["mmd"])) < 0.05


def test_equal_predictions_give_a_finite_joint_mmd():
    """Their squared distances are then 0, and with them the bandwidth that pytorch-adapt would take from them."""
    features, logits = (leaf(0, 6, 4), leaf(1, 6, 4)), (torch.zeros(6, 2), torch.zeros(6, 2, requires_grad=True))
    part = Jan()
    loss = part.losses(hand_step(part, features, logits))["joint_mmd"]
    assert loss.isfinite() and all(one.isfinite().all() for one in gradient(loss, *features, logits[1]))
    scaled, _ = unit_bandwidth(torch.tensor([[0.0], [0.0], [0.0], [0.0], [3.0]]), torch.zeros(1, 1))
    assert float(torch.nn.functional.pdist(scaled).square().mean()) == pytest.approx(1.0), "the median is 0: the mean"


def test_predictions_that_hardly_differ_do_not_blow_the_joint_mmd_up():
    """At a bandwidth of their own the same gradient came from differences a thousand times as small."""
    features = leaf(0, 16, 4), leaf(1, 16, 4)
    sizes = []
    for scale in (1.0, 1e-3):
        logits = (scale * leaf(2, 16, 2)).detach(), (scale * leaf(3, 16, 2, shift=0.5)).detach().requires_grad_()
        loss = Jan(kernels="single").losses(hand_step(Jan(), features, logits))["joint_mmd"]
        sizes.append(float(gradient(loss, logits[1])[0].norm()))
    assert sizes[1] < 0.02 * sizes[0]


def test_sliced_wasserstein_in_one_dimension_is_that_of_the_sorted_values():
    one, other = leaf(0, 7, 1), leaf(1, 7, 1, shift=1.0)
    expected = ((np.sort(_numpy(one), 0) - np.sort(_numpy(other), 0)) ** 2).mean()
    assert float(sliced_wasserstein(one, other, 3).detach()) == pytest.approx(expected, rel=1e-5)
    twice = torch.cat([other, other])
    assert float(sliced_wasserstein(one, twice, 3).detach()) == pytest.approx(expected, rel=1e-5)


def test_sliced_wasserstein_of_a_shift_is_its_mean_square_over_directions():
    rows, shift = leaf(0, 50, 8).detach(), torch.arange(8.0) / 4
    found = float(sliced_wasserstein(rows, rows + shift, 4000, torch.Generator().manual_seed(0)))
    assert found == pytest.approx(float(shift.square().sum()) / 8, rel=0.05)  # E (u·δ)² = |δ|² / d
    part = SlicedWasserstein(weight=2.0, directions=4000)
    found = float(part.losses(hand_step(part, (rows, rows + shift)))["wasserstein"])
    assert found == pytest.approx(2 * float(shift.square().sum()) / 8, rel=0.05)


def test_directions_come_from_the_generator_of_the_step():
    rows = leaf(0, 20, 4).detach(), leaf(1, 20, 4).detach()
    found = [float(sliced_wasserstein(*rows, 3, torch.Generator().manual_seed(9))) for _ in range(2)]
    assert found[0] == found[1] != float(sliced_wasserstein(*rows, 3, torch.Generator().manual_seed(8)))


@pytest.mark.parametrize("part", [Mmd(), Coral(features="pooled"), SlicedWasserstein(), Jan()])
def test_descent_draws_the_target_to_the_source(part):
    """Twice as wide and shifted: a step along minus the gradient brings the two closer by the same measure."""
    source, target = leaf(0, 40, 3), (2.0 * leaf(1, 40, 3).detach() + 0.5).requires_grad_()
    logits = torch.zeros(40, 2), torch.zeros(40, 2)
    (before,) = part.losses(hand_step(part, (source, target), logits)).values()
    (slope,) = gradient(before, target)
    moved = target - 0.05 * slope / slope.norm() * target.norm()
    (after,) = part.losses(hand_step(part, (source, moved), logits)).values()
    assert float(after.detach()) < float(before.detach())


def test_each_domain_is_compared_with_each():
    rows = torch.tensor([[0.0], [0.0], [1.0], [1.0], [5.0], [5.0], [9.0]])
    domains = torch.tensor([0, 0, 1, 1, 3, 3, 4])
    patch = torch.arange(7)
    source, target = Rows(rows[:4], patch[:4], domains[:4]), Rows(rows[4:], patch[4:], domains[4:])

    def apart(one, other):
        return (one.mean() - other.mean()).abs()

    assert float(on_pairs(source, target, True, apart)) == pytest.approx((1 + 5 + 4) / 3)  # the ninth is alone
    assert float(on_pairs(source, target, False, apart)) == pytest.approx(19 / 3 - 0.5)
    alone = Rows(rows[:2], patch[:2], domains[:2])
    assert float(on_pairs(alone, alone, True, apart)) == 0.0


def test_afn_asks_every_vector_to_grow_by_the_step():
    part = Afn(weight=0.5, step_size=0.7)
    features = leaf(0, 5, 4), leaf(1, 5, 4)
    loss = part.losses(hand_step(part, features))["norm"]
    assert float(loss.detach()) == pytest.approx(0.5 * 2 * 0.7**2)
    for slope, one in zip(gradient(loss, *features), features, strict=True):
        unit = one.detach() / one.detach().norm(dim=1, keepdim=True)
        torch.testing.assert_close(slope, -0.5 * 2 * 0.7 * unit / 5)
