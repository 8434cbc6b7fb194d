"""Mixup, CutMix, DACS and MIC: what is mixed, and tasks on which the plain network fails.

Mixup, on a circle of points of which 30 % are labelled wrongly, accuracy on right labels by seed: plain .88 .73 .83,
mixup .94 .95 .89. CutMix, on discs whose background tells their class in training and misleads afterwards, by seed:
plain .34 .00 .00, CutMix .56 .38 .60; on patches with such a disc in their middle, accuracy: plain 0, CutMix .20 1.0
.44 (0 .01 0 with labels mixed by the share of the whole patch). DACS and MIC, on discs in a target eight times as
noisy, Dice by seed, batch statistics those of the target for all: plain .61 .60 .75, DACS .76 .84 .86, MIC .80 .84 .88.
"""

from functools import cache

import numpy as np
import pytest
import torch
from own_steps import random, random_labels, site, step
from torch import nn
from torch.nn import functional

from stainda.config import ModelConfig
from stainda.models import build_model
from stainda.strategies.align.base import AugmentedView, Batch
from stainda.strategies.align.cutmix import CutMix
from stainda.strategies.align.dacs import Dacs
from stainda.strategies.align.mic import Mic, shown_squares
from stainda.strategies.align.mixup import Mixup
from stainda.strategies.align.support.pasting import class_masks, object_masks, paste, rectangles, with_rim, without_rim
from stainda.strategies.align.support.shares import beta_draw
from stainda.strategies.align.teachers import pseudo_labels, weighted_cross_entropy
from stainda.strategies.augmented_pixels import first_places, places_of
from stainda.strategies.norm.statistics import estimate_statistics, put_statistics

SEEDS = range(3)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def _pixels(seed=0):
    torch.manual_seed(seed)
    return nn.Conv2d(3, 2, 1)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_draws_are_those_of_the_beta_distribution(alpha):
    generator = seeded(1)
    draws = np.array([beta_draw(alpha, generator) for _ in range(3000)])
    assert draws.min() >= 0 and draws.max() <= 1 and draws.mean() == pytest.approx(0.5, abs=0.03)
    assert draws.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.08)


def test_mixup_of_a_linear_network_by_hand():
    network, images, labels = _pixels(), random(4, 3, 5, 5), random_labels(4)
    batch = Batch(images, torch.zeros(4).long(), None, network(images), labels, weights=torch.rand(4, 5, 5))
    found = Mixup(alpha=1.0).losses(step(Mixup(), batch, made=nn.ModuleDict(), network=network, generator=seeded(3)))
    again = seeded(3)
    share, order = beta_draw(1.0, again), torch.randperm(4, generator=again)
    logits = network(share * images + (1 - share) * images[order])
    parts = []
    for chosen in (torch.arange(4), order):
        each = functional.cross_entropy(logits, labels[chosen], reduction="none") * batch.weights[chosen]
        parts.append(each.sum() / batch.weights[chosen].sum())
    torch.testing.assert_close(found["task"], share * parts[0] + (1 - share) * parts[1])


def test_rectangles_cover_the_share_that_was_drawn():
    images = torch.zeros(400, 3, 40, 60)
    cut = rectangles(images, 1.0, seeded())
    shares = cut.float().mean((1, 2))
    assert shares.min() < 0.05 and shares.max() > 0.6 and 0.2 < float(shares.mean()) < 0.5  # the rim cuts some off
    for own in cut[:20]:
        rows, columns = own.any(1), own.any(0)
        assert (own == (rows[:, None] & columns[None])).all() and (rows.int().diff().abs().sum() <= 2)


def test_cutmix_moves_labels_with_pixels():
    """A network that answers with the colour itself is right everywhere, also on cut patches."""
    labels = random_labels(6, 12)
    images = torch.stack([1.0 - labels, labels.float(), labels.float()], 1) * 20

    def network(pixels):
        return pixels[:, :2]

    batch = Batch(images, torch.zeros(6).long(), None, images[:, :2], labels)
    given = step(CutMix(), batch, made=nn.ModuleDict(), generator=seeded(5), forward=network)
    assert float(CutMix().losses(given)["task"]) < 1e-6
    wrong = Batch(images, torch.zeros(6).long(), None, images[:, :2], labels.roll(1, 0))
    given = step(CutMix(), wrong, made=nn.ModuleDict(), generator=seeded(5), forward=network)
    assert float(CutMix().losses(given)["task"]) > 1
    none = CutMix(p=0.0).losses(step(CutMix(), wrong, made=nn.ModuleDict(), generator=seeded(5)))["task"]
    torch.testing.assert_close(none, functional.cross_entropy(images[:, :2], labels.roll(1, 0)))


@pytest.mark.parametrize("middle", [1.0, 0.5])
def test_cutmix_of_a_classification_by_hand(middle):
    """Patches of one grey each, and a network that scores class 1 by the mean: the cut patch has the mean of its parts.

    Labels count by what is left of the square in the middle, which is the whole patch at 1.
    """
    greys, labels = torch.tensor([-2.0, 0.5, 1.0, 3.0]), torch.tensor([0, 1, 255, 1])
    images = greys[:, None, None, None].expand(4, 3, 8, 8)

    def network(pixels):
        mean = pixels.mean((1, 2, 3))
        return torch.stack([torch.zeros_like(mean), mean], 1)

    batch = Batch(images, torch.zeros(4).long(), None, network(images), labels, weights=torch.rand(4))
    seen = set()
    for seed in range(12):
        given = step(
            CutMix(), batch, made=nn.ModuleDict(), generator=seeded(seed), forward=network, middle=middle
        )  # fmt: skip
        again = seeded(seed)
        torch.rand((), generator=again)  # whether patches are cut at all
        cut, order = rectangles(images[:1], 1.0, again)[0], torch.randperm(4, generator=again)
        area = float(cut.float().mean())
        edge = round(4 - 4 * middle)
        left = 1 - float(cut[edge : 8 - edge, edge : 8 - edge].float().mean())
        scores = (1 - area) * greys + area * greys[order]
        expected = 0.0
        for share, own in ((left, torch.arange(4)), (1 - left, order)):
            truth, counts = labels[own], batch.weights[own] * (labels[own] != 255)
            each = functional.softplus(torch.where(truth == 1, -scores, scores))  # minus the log of the sigmoid
            expected += share * float((each * counts).sum() / counts.sum())
        assert float(CutMix().losses(given)["task"]) == pytest.approx(expected, rel=1e-4)
        seen.add(round(left, 3))
    assert len(seen) > 4 and (middle == 1 or left != pytest.approx(1 - area))


def test_half_of_the_classes_of_each_patch_are_cut_out():
    labels = torch.zeros(40, 6, 6).long()
    labels[:, 2:4], labels[:, 4], labels[:, 5] = 1, 2, 255
    seen = set()
    for own, mask in zip(labels, class_masks(labels, seeded()), strict=True):
        kinds = set(own[mask].tolist())
        assert len(kinds) == 2 and 255 not in kinds
        assert all(mask[own == kind].all() for kind in kinds) and not mask[own == 255].any()
        seen.add(tuple(sorted(kinds)))
    assert len(seen) == 3
    assert (object_masks(labels) == ((labels == 1) | (labels == 2))).all()
    mask = torch.rand(2, 4, 4) > 0.5
    assert (without_rim(with_rim(mask, 3), 3) == mask).all() and with_rim(mask, 3).sum() == mask.sum()


def test_labels_of_a_teacher_count_by_how_much_of_the_patch_is_sure():
    wanted = torch.tensor([[[0.99, 0.6], [0.97, 0.2]], [[0.9, 0.9], [0.9, 0.9]]])
    wanted = torch.stack([wanted, 1 - wanted], 1)
    known = torch.ones(2, 2, 2, dtype=torch.bool)
    known[0, 1, 1] = False
    labels, counts = pseudo_labels(wanted, known, 0.968)
    assert labels.tolist() == [[[0, 0], [0, 255]], [[0, 0], [0, 0]]]
    torch.testing.assert_close(counts[0], torch.tensor([[2 / 3, 2 / 3], [2 / 3, 0]]))
    assert (counts[1] == 0).all()
    logits = random(2, 2, 2, 2)
    each = functional.cross_entropy(logits, labels, ignore_index=255, reduction="none")
    torch.testing.assert_close(weighted_cross_entropy(logits, labels, counts), 2 / 3 * each[0].sum() / 7)
    flat, share = pseudo_labels(torch.tensor([[0.99, 0.01], [0.4, 0.6]]), torch.tensor([True, True]), 0.9)
    assert flat.tolist() == [0, 1] and share.tolist() == [1, 0]


def _target(images):
    same = places_of(first_places(images))
    return Batch(images, torch.ones(len(images)).long(), places=same, redraw=lambda manner: AugmentedView(images, same))


@pytest.mark.parametrize("what", ["classes", "objects", "rectangle"])
def test_dacs_pastes_the_source_and_its_labels_into_the_target(what):
    """Images say by their first channel where they come from; the network answers with its input."""
    labels = random_labels(3, 8, seed=2)
    source = Batch(torch.full((3, 3, 8, 8), 5.0), torch.zeros(3).long(), None, random(3, 2, 8, 8), labels)
    network, part = _pixels(), Dacs(paste=what, threshold=0.01, weight=2.0)
    made = nn.ModuleDict(part.modules(site(network=network)))
    seen = []

    def forward(images):
        seen.append(images.clone())
        return network(images)

    target = _target(torch.full((3, 3, 8, 8), -5.0))
    given = step(part, source, target, made=made, network=network, forward=forward, generator=seeded(4))
    loss = part.losses(given)["mixed"]
    cut = seen[-1][:, 0] == 5.0
    expected = {"classes": class_masks(labels, seeded(4)), "objects": labels == 1}.get(what)
    assert 0 < cut.float().mean() < 1 and (expected is None or (cut == expected).all())
    taught = network(target.images).argmax(1)
    truth = torch.where(cut, labels, taught)
    torch.testing.assert_close(loss, 2 * functional.cross_entropy(network(seen[-1]), truth))
    loss.backward()
    assert network.weight.grad.abs().max() > 0 and made["teacher"].network.weight.grad is None
    assert paste(source.images, target.images, cut).eq(seen[-1]).all()


def test_mic_hides_squares_from_the_student_alone():
    images = random(5, 3, 16, 16) + 3
    shown = shown_squares(images, 0.25, 0.7, seeded())
    blocks = shown.reshape(5, 4, 4, 4, 4)
    assert set(shown.unique().tolist()) == {0.0, 1.0} and (blocks.amax((2, 4)) == blocks.amin((2, 4))).all()
    many = shown_squares(torch.zeros(200, 3, 16, 16), 0.125, 0.7, seeded())
    assert float(many.mean()) == pytest.approx(0.3, abs=0.02)
    network, part = _pixels(), Mic(block=0.25, threshold=0.01)
    made = nn.ModuleDict(part.modules(site(network=network)))
    given = step(part, None, _target(images), made=made, network=network, generator=seeded())
    expected = functional.cross_entropy(network(images * shown), network(images).argmax(1))
    torch.testing.assert_close(part.losses(given)["masked"], expected)


def _fit(part, seed, network, draw, steps, rate, target=None, **more):
    """Train on batches of ``draw`` and, where the part needs them, images of ``target``; the weights that are kept."""
    generator = seeded(seed)
    made = nn.ModuleDict({} if part is None else part.modules(site(network=network)))
    optimiser = torch.optim.Adam(network.parameters(), rate)
    for index in range(steps):
        images, labels = draw(generator)
        source = Batch(images, torch.zeros(len(images)).long(), None, network(images), labels)
        seen = None if target is None else _target(target(generator)[0])
        given = step(
            part, source, seen, progress=index / (steps - 1), made=made, network=network, index=index,
            generator=generator, **more,
        )  # fmt: skip
        terms = {"task": given.task_loss(), **({} if part is None else part.losses(given))}
        optimiser.zero_grad()
        torch.stack([*terms.values()]).sum().backward()
        optimiser.step()
        if part is not None:
            part.after_step(given)
    if part is not None and (kept := part.epoch_weights(made)) is not None:
        network.load_state_dict(kept, strict=False)
    return network


def _noisy_points(generator, n, wrong):
    points = torch.randn(n, 2, generator=generator)
    labels = (points.sum(1) > 0).long()
    return points, torch.where(torch.rand(n, generator=generator) < wrong, 1 - labels, labels)


def _accuracy_of_points(part, seed):
    points, labels = _noisy_points(seeded(seed), 300, 0.3)
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Linear(2, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 2)
    )  # fmt: skip

    def draw(generator):
        some = torch.randint(300, (64,), generator=generator)
        return points[some], labels[some]

    _fit(part, seed, network, draw, 1500, 5e-3)
    new, truth = _noisy_points(seeded(100 + seed), 2000, 0.0)
    return float((network(new).argmax(1) == truth).float().mean())


def test_mixup_does_not_learn_wrong_labels_by_heart():
    plain, found = ([_accuracy_of_points(part, seed) for seed in SEEDS] for part in (None, Mixup(alpha=1.0)))
    assert np.mean(plain) < 0.87
    assert np.mean(found) > np.mean(plain) + 0.06 and (np.array(found) > np.array(plain)).all()


def _scenes(generator, n, misleading=False, size=32):
    """Discs striped upright (class 1) or across (2); the brightness around them tells which, or the contrary."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    kind = torch.randint(2, (n,), generator=generator)
    around = torch.where((kind == 1) ^ misleading, 0.8, 0.4)[:, None, None].expand(n, size, size)
    centre = torch.rand(n, 2, generator=generator) * (size - 14) + 7
    radius = torch.rand(n, generator=generator) * 2 + 4
    disc = (x - centre[:, :1, None]) ** 2 + (y - centre[:, 1:, None]) ** 2 < radius[:, None, None] ** 2
    stripes = torch.where(kind[:, None, None] == 1, (x // 2 % 2)[None], (y // 2 % 2)[None])
    image = torch.where(disc, 0.35 + 0.3 * stripes, around) + 0.15 * torch.randn(n, size, size, generator=generator)
    return image[:, None].repeat(1, 3, 1, 1) - 0.5, torch.where(disc, kind[:, None, None] + 1, 0)


def _right_on_discs(part, seed):
    torch.manual_seed(seed)
    network = build_model(ModelConfig(name="unet", params={"depth": 3, "width": 8}), 3, 3)
    _fit(part, seed, network, lambda generator: _scenes(generator, 8), 150, 3e-3)
    images, labels = _scenes(seeded(99), 64, misleading=True)
    with torch.no_grad():
        return float((network.eval()(images).argmax(1) == labels)[labels > 0].float().mean())


@pytest.mark.slow
def test_cutmix_does_not_read_the_class_of_an_object_off_its_surroundings():
    plain, found = ([_right_on_discs(part, seed) for seed in SEEDS] for part in (None, CutMix()))
    assert np.mean(plain) < 0.3
    assert np.mean(found) > np.mean(plain) + 0.2 and (np.array(found) > np.array(plain)).all()


def _patches(generator, n, misleading=False, size=24):
    """Patches with a disc of :func:`_scenes` in their middle, whose class they have; around it lies what misleads."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    kind = torch.randint(2, (n,), generator=generator)
    around = torch.where((kind == 1) ^ misleading, 0.8, 0.4)[:, None, None].expand(n, size, size)
    disc = ((x - size / 2 + 0.5) ** 2 + (y - size / 2 + 0.5) ** 2 < 36).expand(n, size, size)
    stripes = torch.where(kind[:, None, None] == 1, (x // 2 % 2)[None], (y // 2 % 2)[None])
    image = torch.where(disc, 0.35 + 0.3 * stripes, around) + 0.15 * torch.randn(n, size, size, generator=generator)
    return image[:, None].repeat(1, 3, 1, 1) - 0.5, kind


def _right_on_patches(part, seed, middle=0.4):
    torch.manual_seed(seed)
    network = build_model(ModelConfig(name="cnn", params={"depth": 3, "width": 8}), 3, 2, "classification")
    _fit(part, seed, network, lambda generator: _patches(generator, 16), 200, 3e-3, middle=middle)
    images, labels = _patches(seeded(99), 128, misleading=True)
    with torch.no_grad():
        return float((network.eval()(images).argmax(1) == labels).float().mean())


@pytest.mark.slow
def test_cutmix_does_not_read_the_class_of_a_patch_off_its_surroundings():
    plain, found = ([_right_on_patches(part, seed) for seed in SEEDS] for part in (None, CutMix()))
    assert np.mean(plain) < 0.3
    assert np.mean(found) > np.mean(plain) + 0.2 and (np.array(found) > np.array(plain)).all()


def _discs(generator, n, noise, size=32):
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    centre = torch.rand(n, 2, generator=generator) * (size - 12) + 6
    radius = torch.rand(n, generator=generator) * 3 + 4
    disc = (x - centre[:, :1, None]) ** 2 + (y - centre[:, 1:, None]) ** 2 < radius[:, None, None] ** 2
    image = torch.where(disc, -0.2, 0.2) + noise * torch.randn(n, size, size, generator=generator)
    return image[:, None].repeat(1, 3, 1, 1), disc.long()


def _dice_in_noise(part, seed):
    torch.manual_seed(seed)
    network = build_model(ModelConfig(name="unet", params={"depth": 3, "width": 8}), 3, 2)
    target = None if part is None else lambda generator: _discs(generator, 8, 0.4)
    _fit(part, seed, network, lambda generator: _discs(generator, 8, 0.05), 120, 5e-3, target)
    images, truth = _discs(seeded(99), 64, 0.4)
    put_statistics(network, estimate_statistics(network, [images]))
    with torch.no_grad():
        found = network.eval()(images).argmax(1)
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


@cache
def _plain_in_noise():
    return np.array([_dice_in_noise(None, seed) for seed in SEEDS])


@pytest.mark.slow
@pytest.mark.parametrize("part", [Dacs(colours="same"), Mic(colours="same")], ids=lambda part: part.name)
def test_a_teacher_on_mixed_and_masked_targets_finds_objects_in_noise(part):
    found = np.array([_dice_in_noise(part, seed) for seed in SEEDS])
    assert _plain_in_noise().mean() < 0.7
    assert found.mean() > _plain_in_noise().mean() + 0.1 and (found > _plain_in_noise() + 0.05).all()
