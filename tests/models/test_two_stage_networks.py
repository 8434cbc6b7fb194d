"""Two-stage networks: targets, anchors and painted detections with known answers, and what a layer's name gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stainda.config import ModelConfig
from stainda.errors import ConfigError
from stainda.models import build_model
from stainda.models.ignored_regions import ignored_share, mask_loss
from stainda.models.regions import Detections, RegionTargets, paint
from stainda.strategies.capture import listening

SMALL = {"encoder": "tu-test_resnet", "width": 32, "semantic_width": 32, "hidden": 16, "proposals": 50, "sampled": 16}
KINDS = ("faster_rcnn", "mask_rcnn")


def network_of(name, classes=3, **params):
    torch.manual_seed(0)
    return build_model(ModelConfig(name=name, params={**SMALL, **params}), 3, classes)


def objects():
    """Classes and numbers [H, W]: a bar of class 1, a square of class 2 whose rim is ignored, a crumb of a pixel."""
    classes, numbers = torch.zeros(64, 64, dtype=torch.long), torch.zeros(64, 64, dtype=torch.long)
    classes[10:20, 5:35], numbers[10:20, 5:35] = 1, 300
    classes[40:56, 40:56], numbers[40:56, 40:56] = 2, 7
    classes[40:42, 40:56] = 255
    classes[0, 63], numbers[0, 63] = 1, 9
    return classes, numbers


def test_targets_are_the_boxes_classes_and_masks_of_what_is_shown():
    targets = RegionTargets.of(*objects())
    assert targets.boxes.tolist() == [[40, 42, 56, 56], [5, 10, 35, 20]]  # in the order of their numbers
    assert targets.labels.tolist() == [2, 1]
    assert [int(mask.sum()) for mask in targets.masks] == [14 * 16, 10 * 30]
    nothing = RegionTargets.of(torch.zeros(64, 64, dtype=torch.long), torch.full((64, 64), 5))
    assert nothing.boxes.shape == (0, 4) and nothing.masks.shape == (0, 64, 64)


def test_an_object_of_two_classes_is_of_that_of_most_of_its_pixels():
    classes, numbers = torch.ones(32, 32, dtype=torch.long), torch.ones(32, 32, dtype=torch.long)
    classes[:, :12] = 2
    assert RegionTargets.of(classes, numbers).labels.tolist() == [1]


def test_anchors_have_the_size_of_objects_on_the_finest_levels():
    network = network_of("mask_rcnn")
    network.propose(20.0)
    for level, cells in enumerate(network.regions.rpn.anchor_generator.cell_anchors):
        sides = np.sqrt((cells[:, 2] - cells[:, 0]) * (cells[:, 3] - cells[:, 1])).numpy()  # of squares as large
        np.testing.assert_allclose(np.sort(sides), 10 * 2**level * np.array([1, 1, 1, 2, 2, 2]), rtol=0.06)


def test_a_pixel_is_of_the_most_probable_mask():
    boxes = torch.tensor([[8.0, 8, 24, 24], [20, 8, 36, 24]])
    masks = torch.stack([torch.full((1, 28, 28), 0.9), torch.full((1, 28, 28), 0.7)])
    numbers = paint(Detections(boxes, torch.tensor([0.6, 0.9]), masks), (40, 48))
    assert (numbers[10:22, 10:23] == 1).all() and (numbers[10:22, 26:35] == 2).all() and not numbers[30:].any()


def test_boxes_alone_are_ellipses_and_where_two_overlap_a_pixel_is_of_the_one_it_lies_deeper_in():
    boxes = torch.tensor([[10.0, 10, 40, 30], [32, 10, 62, 30]])
    numbers = paint(Detections(boxes, torch.tensor([0.9, 0.8]), None), (40, 72)).numpy()
    assert (numbers == 1).sum() == pytest.approx(np.pi * 15 * 10, rel=0.08)
    rows, columns = np.nonzero(numbers == 1)
    assert abs(columns.min() - 10) <= 1 and abs(rows.min() - 10) <= 1 and abs(rows.max() - 29) <= 1
    assert numbers[20, 34] == 1 and numbers[20, 38] == 2
    assert numbers[11, 11] == 0  # a corner of the box


def test_a_second_detection_of_the_same_object_is_left_out():
    boxes = torch.tensor([[8.0, 8, 24, 24], [8, 8, 24, 18], [22, 8, 38, 24]])
    masks = torch.stack([torch.full((1, 28, 28), probability) for probability in (0.7, 0.9, 0.7)])
    numbers = paint(Detections(boxes, torch.tensor([0.9, 0.8, 0.7]), masks), (40, 48))
    assert numbers.max() == 2 and (numbers[10:22, 10:21] == 1).all() and (numbers[10:22, 26:36] == 2).all()


def test_nothing_detected_is_nothing():
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, 1, 28, 28))
    assert not paint(nothing, (16, 16)).any()


@pytest.mark.parametrize("name", KINDS)
def test_the_losses_are_torchvisions_and_reach_every_stage_and_the_encoder(name):
    network = network_of(name).train()
    network.propose(16.0)
    classes, numbers = (part.expand(2, -1, -1) for part in objects())
    with listening(network, network.pyramid) as levels:
        logits = network(torch.rand(2, 3, 64, 64))
    assert logits.shape == (2, 3, 64, 64) and [maps.shape[-1] for maps in levels] == [16, 8, 4, 2]
    loss = network.region_loss(levels, classes, numbers)
    assert loss.ndim == 0 and float(loss.detach()) > 1  # log 3 of classes, log 2 of objectness and, with masks, of them
    loss.backward()
    named = [(key, parameter) for key, parameter in network.named_parameters() if "seg" not in key]
    assert not [key for key, parameter in named if parameter.grad is None]
    network.zero_grad()
    empty = torch.zeros_like(numbers)
    with listening(network, network.pyramid) as levels:
        network(torch.rand(2, 3, 64, 64))
    assert torch.isfinite(network.region_loss(levels, torch.zeros_like(classes), empty))


@pytest.mark.parametrize("name", KINDS)
def test_a_network_of_one_image_finds_its_objects_again(name):
    """Sixty steps on one image with three objects, two of which touch: each is one detection that covers it."""
    network, image = network_of(name, classes=2, sampled=64, hidden=64).train(), torch.zeros(1, 3, 64, 64)
    network.propose(16.0)
    classes, numbers = torch.zeros(1, 64, 64, dtype=torch.long), torch.zeros(1, 64, 64, dtype=torch.long)
    for value, (row, column) in enumerate(((8, 8), (8, 24), (36, 34)), start=1):
        classes[:, row : row + 16, column : column + 16], numbers[:, row : row + 16, column : column + 16] = 1, value
        image[:, :, row + 1 : row + 15, column + 1 : column + 15] = 1
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3)
    for _ in range(60):
        with listening(network, network.pyramid) as levels:
            network(image)
        optimiser.zero_grad()
        network.region_loss(levels, classes, numbers).backward()
        optimiser.step()
    network.eval()
    with torch.no_grad(), listening(network, network.pyramid) as levels:
        network(image)
    detected = network.detect(levels, (64, 64), 0.5)[0]
    covering = []
    for value in (1, 2, 3):
        mine = numbers[0] == value
        most = detected[mine].mode().values
        both, either = (mine & (detected == most)).sum(), (mine | (detected == most)).sum()
        assert most > 0 and float(both / either) > 0.65  # an ellipse is π/4 of its box
        covering.append(int(most))
    assert len(set(covering)) == 3 and float((detected[numbers[0] == 0] > 0).float().mean()) < 0.1


def test_a_pyramid_of_another_kind_is_refused():
    with pytest.raises(ConfigError, match="no parameter 'decoder'"):
        network_of("mask_rcnn", decoder="unet")
    with pytest.raises(ConfigError, match="multiple of 32"):
        network_of("mask_rcnn", semantic_width=48)


def loss_of(network, classes, numbers, seed=0):
    with listening(network, network.pyramid) as levels:
        network(torch.rand(len(classes), 3, 64, 64, generator=torch.Generator().manual_seed(3)))
    torch.manual_seed(seed)  # of the samples
    return network.region_loss(levels, classes, numbers)


def test_the_ignored_share_of_a_box_is_of_its_area_within_the_patch():
    known = torch.ones(10, 20, dtype=torch.bool)
    known[:, 10:] = False
    boxes = torch.tensor([
        [0.0, 0, 10, 10], [10, 0, 20, 10], [5, 2, 15, 4], [9.5, 0.25, 10.25, 9.5], [15, 5, 90, 90], [-90, -9, 20, 3],
    ])  # fmt: skip
    assert ignored_share(boxes, known).tolist() == pytest.approx([0, 1, 0.5, 1 / 3, 1, 0.5], abs=1e-6)


@pytest.mark.parametrize("name", KINDS)
def test_where_everything_is_ignored_the_regions_learn_nothing(name):
    network = network_of(name).train()
    network.propose(16.0)
    classes, numbers = (part.expand(2, -1, -1) for part in objects())
    loss = loss_of(network, torch.full_like(classes, 255), numbers)
    loss.backward()
    assert float(loss.detach()) == 0
    assert not any(float(p.grad.abs().sum()) for key, p in network.named_parameters() if "regions" in key)


@pytest.mark.parametrize("name", KINDS)
def test_anchors_and_proposals_mainly_on_ignored_pixels_are_neither_positive_nor_negative(name):
    """The left half is known and empty, the right half ignored, with an object whose labels say 255."""
    network, sampled = network_of(name).train(), []
    network.propose(16.0)
    classes, numbers = (torch.zeros(1, 64, 64, dtype=torch.long) for _ in range(2))
    numbers[:, 20:40, 40:60], classes[:, :, 32:] = 1, 255
    anchors, heads = network.regions.rpn.fg_bg_sampler, network.regions.roi_heads
    network.regions.rpn.fg_bg_sampler = lambda labels: sampled.append(labels) or anchors(labels)
    proposals = heads.fg_bg_sampler
    heads.fg_bg_sampler = lambda labels: sampled.append(labels) or proposals(labels)
    seen = []
    pool = heads.box_roi_pool.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[1]))
    loss_of(network, classes, numbers)
    pool.remove()
    assert all(set(labels[0].tolist()) == {-1, 0} for labels in sampled)  # theirs: all 0
    known = classes[0] != 255
    assert len(seen[0]) and float(ignored_share(seen[0], known).max()) <= 0.5


@pytest.mark.parametrize("name", KINDS)
def test_an_ignored_pixel_that_matters_to_no_box_leaves_torchvisions_losses(name):
    network = network_of(name).train()
    network.propose(16.0)
    classes, numbers = (part[None].clone() for part in objects())
    classes[classes == 255] = 2
    plain = loss_of(network, classes, numbers)
    classes[:, 63, 0] = 255
    assert float(loss_of(network, classes, numbers).detach()) == pytest.approx(float(plain.detach()), rel=1e-5)


def test_the_loss_of_masks_leaves_ignored_pixels_out():
    """An object of 14 pixels in as many cells; the values of cell j are the mean of pixels j and j + 1 of its box."""
    classes, numbers = torch.zeros(32, 32, dtype=torch.long), torch.zeros(32, 32, dtype=torch.long)
    classes[4:18, 4:18], numbers[4:18, 4:18] = 1, 1
    whole = vars(RegionTargets.of(classes, numbers))
    ignored = {**whole, "known": torch.ones(32, 32, dtype=torch.bool)}
    ignored["known"][:, 11:] = False
    logits, boxes = torch.zeros(1, 2, 14, 14), [torch.tensor([[4.0, 4, 18, 18]])]
    logits[:, 1, :, :6] = 2.0
    logits[:, 1, :, 6:] = -50.0  # from here on a cell reaches what is ignored
    rows = [torch.zeros(1, dtype=torch.long)]
    inside, outside = np.log1p(np.exp(-2)), np.log1p(np.exp(2))
    on_known = (13 * inside + (inside + outside) / 2) / 14  # the last row is half outside
    assert float(mask_loss(logits, boxes, [ignored], rows)) == pytest.approx(on_known, rel=1e-5)
    assert float(mask_loss(logits, boxes, [whole], rows)) > 20
    nothing = {**whole, "known": torch.zeros(32, 32, dtype=torch.bool)}
    assert float(mask_loss(logits, boxes, [nothing], rows)) == 0
