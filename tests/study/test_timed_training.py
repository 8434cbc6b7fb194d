"""A plan times what a strategy trains: its own network, head and loss, and of these what learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from stainda.config import load_study
from stainda.models import TwoStageNetwork
from stainda.study import plan
from stainda.study.pace import Pace, trained_alike
from stainda.study.timed_training import TimedTraining, made_objects
from stainda.training.losses import hinge
from stainda.training.tasks import heat_loss

STUDIES = Path(__file__).parents[2] / "studies"
MASK_RCNN = "{name: mask_rcnn, params: {encoder: resnet18, width: 32, semantic_width: 32, hidden: 32}}"
HEADS = ("watershed", "contours", "distance", "horizontal_vertical", "star")


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """A study of small networks: the heads, two strategies that share one, and Mask R-CNN."""
    path = tmp_path_factory.mktemp("heads") / "heads.yaml"
    strategies = [f"{{from: source_only, name: {name}, instances: {name}}}" for name in HEADS]
    strategies += ["{from: hed_augmentation, name: star_hed, instances: star}"]
    strategies += [f"{{from: source_only, name: mask_rcnn, model: {MASK_RCNN}}}"]
    path.write_text(
        f"extends: {STUDIES / 'small' / 'instance_heads.yaml'}\nstudy: heads\npatches: {{size: 64}}\n"
        "model: {name: unet, params: {depth: 3, width: 4}}\nrecipe: small\ntraining: {batch_size: 2}\n"
        f"strategies: [{', '.join(strategies)}]\n"
    )
    return load_study(path)


@pytest.mark.parametrize("name", HEADS)
def test_the_head_is_that_of_the_strategy_and_learns(name, heads):
    made = TimedTraining(heads, heads.strategy(name))
    head = made.detector.head
    assert head is not None and head.name == name
    terms = made.step()
    assert set(terms) == ({"task", "instances"} if head.channels else {"task"})
    assert all(value > 0 for value in terms.values())


def test_a_two_stage_network_is_timed_with_its_regions(heads):
    made = TimedTraining(heads, heads.strategy("mask_rcnn"))
    network = made.detector.network
    assert isinstance(network, TwoStageNetwork) and network.masks
    before = [parameter.detach().clone() for parameter in network.regions.parameters()]
    assert made.step()["instances"] > 0
    changed = [not torch.equal(old, new) for old, new in zip(before, network.regions.parameters(), strict=True)]
    assert all(changed), "every layer of both stages, masks among them, has learned"


def test_each_different_training_is_timed_once_and_counted_for_its_own(heads, monkeypatch):
    groups = [names for _, names in trained_alike(heads)]
    assert groups == [["watershed"], ["contours"], ["distance"], ["horizontal_vertical"], ["star", "star_hed"],
                      ["mask_rcnn"]]  # fmt: skip
    paces = {"star": 2.0, "mask_rcnn": 7.0}
    monkeypatch.setattr(
        plan, "time_strategy", lambda config, strategy: Pace(paces.get(strategy.name, 1.0), 0.0, 0.0)
    )  # fmt: skip
    planned = plan.plan_study(heads, "nowhere", timed=True)
    fixed = plan.plan_study(heads.model_copy(update={"strategies": heads.strategies[:1]}), "nowhere", timed=True)
    steps = 80 * 2  # steps of two patches; a trial each and one seed
    rest = fixed.cpu_seconds - steps
    assert planned.cpu_seconds == pytest.approx(7 * rest + steps * (4 * 1 + 2 * 2 + 7))


def test_points_are_timed_with_the_loss_of_heat_maps():
    config = load_study(STUDIES / "small" / "points.yaml")
    made, same = TimedTraining(config, config.strategies[0]), TimedTraining(config, config.strategies[0])
    labels, details = made_objects(config, config.task, config.training.batch_size)
    assert set(torch.unique(details).tolist()) == {0, 256 + 255}
    logits = same.detector.network.train()(same.images).detach()
    heat = (labels > 0)[:, None].float()
    known = torch.ones_like(heat, dtype=torch.bool)
    assert made.step() == {"task": pytest.approx(float(heat_loss(logits, heat, known)))}


def test_a_trained_head_on_kept_features_is_timed_without_the_encoder(monkeypatch, tmp_path):
    path = tmp_path / "svm.yaml"
    path.write_text(
        f"extends: {STUDIES / 'small' / 'classifiers.yaml'}\nstudy: svm\nbaseline: svm\nstrategies:\n"
        "  - {from: source_only, name: svm, model: {name: cnn, params: {depth: 3, width: 4}},\n"
        "     training: {start: random, train: head, cache: {views: 2}, loss: hinge}}\n"
    )
    config = load_study(path)
    made, same = TimedTraining(config, config.strategies[0]), TimedTraining(config, config.strategies[0])
    network = made.detector.network
    learns = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert learns and not any(network.in_encoder(name) for name in learns)
    answers = torch.zeros(len(made.images), dtype=torch.long)
    answers[::2] = 1
    logits = same.detector.network.eval()(same.images).detach()

    def refuse(images):
        raise AssertionError("the encoder ran")

    monkeypatch.setattr(network, "encode", refuse)
    value = made.step()["task"]
    assert value == pytest.approx(float(hinge(logits, answers)), rel=1e-4)
    assert value != pytest.approx(float(functional.cross_entropy(logits, answers)), rel=1e-2)
    made.validate()
    with pytest.raises(AssertionError, match="the encoder ran"):
        made.look()  # a slide has to be encoded


def test_networks_and_losses_of_classifiers_are_timed_each():
    groups = [names for _, names in trained_alike(load_study(STUDIES / "small" / "classifiers.yaml"))]
    assert groups == [["source_only"], ["lenet_5"], ["googlenet"], ["autoencoder_softmax"], ["features_svm"]]
