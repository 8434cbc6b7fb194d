"""Places warped through augmentation, mean teacher, pseudo-labels."""

import pytest
import torch
from own_steps import labelled, random, random_labels, site, step, unlabelled
from torch import nn
from torch.nn import functional

from stainda.stains import Geometry
from stainda.strategies.align.base import AugmentedView, ramp_up
from stainda.strategies.align.fixmatch import FixMatch, pseudo_label_loss
from stainda.strategies.align.mean_teacher import MeanTeacher
from stainda.strategies.augmented_pixels import first_places, places_of, restore, warp_maps
from stainda.strategies.norm.frozen_statistics import quiet


def _drawn(change, n=6, size=12, seed=0):
    images = torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed))
    moved, marks = change(images, first_places(images), torch.Generator().manual_seed(seed + 1))
    return images, moved, places_of(marks)


def test_what_is_warped_is_what_augmentation_would_have_made_of_it():
    images, moved, places = _drawn(Geometry())
    warped, known = warp_maps(images, places)
    assert known.all()
    torch.testing.assert_close(warped, moved)
    back, shown = restore(moved, places)
    assert shown.all()
    torch.testing.assert_close(back, images)


def test_any_angle_scale_and_shift_is_followed_pixel_by_pixel():
    change = Geometry(rotation=40, scale=0.3, shift=0.2)
    labels = random_labels(6, 24)
    images = torch.rand(6, 3, 24, 24)
    _, expected = change(images, labels, torch.Generator().manual_seed(1))
    _, marks = change(images, first_places(images), torch.Generator().manual_seed(1))
    warped, known = warp_maps(labels[:, None].float(), places_of(marks))
    assert (known == (expected != 255)).all() and not known.all()
    assert (warped[:, 0][known] == expected[known]).all()
    smooth = functional.avg_pool2d(torch.rand(6, 2, 32, 32), 9, 1)
    there, _ = warp_maps(smooth, places_of(marks))
    again, shown = restore(there, places_of(marks))
    assert shown.float().mean() > 0.5
    assert ((again - smooth).abs() * shown[:, None]).max() < 0.12, "neighbours fill what enlargement leaves open"


def test_networks_without_padding_say_nothing_about_the_rim():
    images, moved, places = _drawn(Geometry(), size=12)
    middle = images[..., 2:-2, 2:-2]
    warped, known = warp_maps(middle, places, margin=2)
    assert known.all()
    torch.testing.assert_close(warped, moved[..., 2:-2, 2:-2])
    back, shown = restore(moved[..., 2:-2, 2:-2], places, margin=2)
    assert shown.all()
    torch.testing.assert_close(back, middle)


def test_gradients_come_back_through_restoring():
    _, moved, places = _drawn(Geometry())
    maps = moved.clone().requires_grad_()
    weights = torch.rand(6, 3, 12, 12)
    (restore(maps, places)[0] * weights).sum().backward()
    torch.testing.assert_close(maps.grad, warp_maps(weights, places)[0])


def _network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)).train()


def _target(network, change, seed=0):
    images, moved, places = _drawn(change, seed=seed)
    identity = places_of(first_places(images))
    return images, unlabelled(
        network(moved),
        images=moved,
        places=places,
        redraw=lambda manner: {"none": AugmentedView(images, identity)}[manner],
    )


def test_a_teacher_that_is_its_student_has_nothing_to_correct():
    """1x1 networks answer a turned patch with the turned answer: the loss is 0 where teacher and student are equal."""
    torch.manual_seed(0)
    network = nn.Conv2d(3, 2, 1)
    part = MeanTeacher(weight=1.0, grow=0.0, colours="same")
    made = nn.ModuleDict(part.modules(site(network=network)))
    _, batch = _target(network, Geometry())
    given = step(part, labelled(random(2, 2, 4, 4), random_labels(2, 4)), batch, made=made, network=network)
    assert float(part.losses(given)["consistency"].detach()) < 1e-10
    with torch.no_grad():
        made["teacher"].network.weight.add_(0.5)
    loss = part.losses(given)["consistency"]
    images = batch.redraw("none").images
    expected = ((network(images).softmax(1) - made["teacher"](images).softmax(1)) ** 2).sum(1).mean()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert network.weight.grad.abs().max() > 0 and made["teacher"].network.weight.grad is None


def test_the_teacher_follows_and_is_what_is_kept():
    network = _network()
    part = MeanTeacher(keep=0.9)
    made = nn.ModuleDict(part.modules(site(network=network)))
    with torch.no_grad():
        network[0].weight.add_(1.0)
    start = made["teacher"].weights()["0.weight"]
    given = step(part, None, None, made=made, network=network, index=0)
    part.after_step(given)
    torch.testing.assert_close(part.epoch_weights(made)["0.weight"], start + 0.5)  # at the first step half
    part.after_step(step(part, None, None, made=made, network=network, index=500))
    torch.testing.assert_close(part.epoch_weights(made)["0.weight"], start + 0.5 + 0.05)
    assert MeanTeacher(predict="student").epoch_weights(made) is None


def test_only_confident_pixels_become_labels_and_classes_count_alike():
    logits = random(1, 2, 2, 3)
    wanted = torch.tensor([[0.95, 0.6, 0.1], [0.97, 0.92, 0.96]])[None, None]
    wanted = torch.cat([wanted, 1 - wanted], 1)
    known = torch.ones(1, 2, 3, dtype=torch.bool)
    known[0, 1, 2] = False
    labels = wanted.argmax(1)
    each = functional.cross_entropy(logits, labels, reduction="none")[0]
    believed = torch.tensor([[1.0, 0, 1], [1, 1, 0]])  # .95, not .6, .9 for class 1; the last is not known
    plain = pseudo_label_loss(logits, wanted, known, 0.9 - 1e-6, balance=False)
    torch.testing.assert_close(plain, (each * believed).sum() / 5)
    even = pseudo_label_loss(logits, wanted, known, 0.9 - 1e-6, balance=True)
    zeros, ones = (believed * (labels[0] == 0)).bool(), (believed * (labels[0] == 1)).bool()
    torch.testing.assert_close(even, 4 / 5 * 0.5 * (each[zeros].mean() + each[ones].mean()))


def test_fixmatch_leaves_no_trace_in_batch_statistics_and_learns_from_the_strong_view():
    network = _network()
    part = FixMatch(weight=1.0, grow=0.0, threshold=0.5001)
    _, batch = _target(network, Geometry())
    before = {key: value.clone() for key, value in network.state_dict().items()}
    given = step(part, labelled(random(2, 2, 4, 4), random_labels(2, 4)), batch, network=network)
    loss = part.losses(given)["pseudo_labels"]
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    loss.backward()
    assert network[0].weight.grad.abs().max() > 0
    with quiet(network):
        loud = network(batch.images)
    torch.testing.assert_close(loud, batch.logits)


@pytest.mark.parametrize(("share", "progress", "expected"), [(0.4, 0.4, 1.0), (0.4, 0.0, 0.0067379), (0.0, 0.0, 1.0)])
def test_the_ramp_is_that_of_laine_and_aila(share, progress, expected):
    assert ramp_up(share, progress) == pytest.approx(expected, rel=1e-4)
