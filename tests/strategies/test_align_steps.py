"""Every align part of the pytorch-adapt family: two steps of a real training, and gradients where they belong."""

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from stainda.config import ModelConfig, load_strategy
from stainda.models import build_model
from stainda.strategies import build
from stainda.strategies.align.base import Batch, Site, Step
from stainda.strategies.features import FeatureTap

sys.path.append(str(Path(__file__).parents[1] / "training"))

STRATEGIES = (
    "dann", "dann_pooled", "dann_domains", "cdan", "cdan_entropy", "domain_confusion", "adda", "gvb", "mcd", "symnets",
    "mmd", "jan", "coral", "sliced_wasserstein", "rtn", "atdoc", "mcc", "bnm", "bsp", "afn", "entropy",
    "information_maximisation", "vada", "vat",
)  # fmt: skip
QUICK = ("cdan_entropy", "adda", "mcd", "coral", "mcc", "vada")
"""Trained for two steps on every run of the tests; the others when the slow ones are run too."""


class SmallClassifier(nn.Module):
    """A patch classifier as the align parts meet one: a map at the bottleneck, a vector before the classes."""

    def __init__(self, channels=3, n_classes=3):
        super().__init__()
        self.default_layers = {"bottleneck": "encoder", "decoder": "pool"}
        self.encoder = nn.Sequential(nn.Conv2d(channels, 8, 3, stride=4), nn.BatchNorm2d(8), nn.ReLU())
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(8, n_classes)

    def forward(self, images):
        return self.head(self.pool(self.encoder(images)))


def make_step(part, task, n_domains=4, progress=0.7, seed=0, n=4):
    """A network and what a part sees of one step on random patches of it."""
    torch.manual_seed(seed)
    if task == "segmentation":
        network = build_model(ModelConfig(name="unet", params={"depth": 3, "width": 8}), 3, 2)
        labels = torch.randint(0, 2, (n, 16, 16))
    else:
        network, labels = SmallClassifier(), torch.randint(0, 3, (n,))
    labels[0] = 255
    images = [torch.randn(n, 3, 16, 16), torch.randn(n, 3, 16, 16) + 0.5]
    tap = None if part.tapped is None else FeatureTap(network, part.tapped)
    batches = []
    for index, image in enumerate(images):
        logits, features = (network(image), None) if tap is None else tap(image)
        domains = torch.arange(n) % 2 + 2 * index
        batches.append(Batch(image, domains, features, logits, labels if index == 0 else None))
    channels = 0 if tap is None else batches[0].features.shape[1]
    site = Site(channels, n_domains, 2 if task == "segmentation" else 3, 2, network=network)
    modules = nn.ModuleDict(part.modules(site))

    def loss(logits, labels):
        return functional.cross_entropy(logits, labels, ignore_index=255)

    generator = torch.Generator().manual_seed(seed)
    step = Step(*batches, progress, modules, network, n_sources=2, loss=loss, generator=generator)
    return network, step


def _gradients(part, task, **changes):
    network, step = make_step(part, task, **changes)
    for _ in range(3):  # a memory has to hold enough neighbours first
        terms = part.losses(step)
    torch.stack([*terms.values()]).sum().backward()
    first = next(network.parameters())
    return terms, first.grad, step


@pytest.mark.parametrize("task", ["segmentation", "classification"])
@pytest.mark.parametrize("name", STRATEGIES)
def test_gradients_reach_the_encoder_and_every_network_of_the_part(name, task):
    part = build(load_strategy(name)).align
    assert task in part.tasks
    terms, gradient, step = _gradients(part, task)
    assert all(term.dim() == 0 and term.isfinite() for term in terms.values())
    assert gradient is not None and gradient.isfinite().all() and gradient.abs().max() > 0
    for key, parameter in step.modules.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, key


@pytest.mark.slow
@pytest.mark.parametrize("task", ["segmentation", "classification"])
@pytest.mark.parametrize("name", STRATEGIES)
def test_every_choice_of_features_and_domains_runs(name, task):
    made = build(load_strategy(name)).align
    fields = type(made).model_fields
    choices = {
        key: fields[key].annotation.__args__ for key in ("features", "domains", "kernels", "on") if key in fields
    }
    for key, options in choices.items():
        for option in options:
            part = type(made)(**{**made.model_dump(), key: option, "weight": 1.0})
            terms, gradient, _ = _gradients(part, task)
            assert all(term.isfinite() for term in terms.values()), (key, option)
            assert gradient.isfinite().all() and gradient.abs().max() > 0, (key, option)


@pytest.mark.parametrize(
    "name",
    [strategy if strategy in QUICK else pytest.param(strategy, marks=pytest.mark.slow) for strategy in STRATEGIES],
)
def test_two_steps_of_a_training(name, tmp_path):
    from blob_cohort import make_data, make_job

    from stainda.training import train_on

    config = load_strategy(name)
    job = make_job(config.model_dump(), epochs=1, steps_per_epoch=2, batch_size=4)
    train_on(job, make_data(job, per_slide=2), tmp_path)
    assert json.loads((tmp_path / "result.json").read_text())["steps"] == 2
    rows = (tmp_path / "training.csv").read_text().splitlines()
    terms = [one for one in rows[0].split(",") if one.startswith("loss_")]
    assert len(terms) >= 2 and "nan" not in rows[1], "the task loss and at least one of the part"
