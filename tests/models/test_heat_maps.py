"""Heat maps of classifiers: what they say adds up to the answer, and points at what decided."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stainda.config import ModelConfig
from stainda.models import build_model
from stainda.models.heat_maps import (
    ACTIVATION,
    OCCLUSION,
    against_the_others,
    class_activation_maps,
    heat_maps,
    occlusion,
)
from stainda.strategies.features import FeatureTap

POOLED = [
    ModelConfig(name="cnn", params={"depth": 3, "width": 4, "dropout": 0.5}),
    ModelConfig(name="timm", params={"encoder": "resnet10t"}),
    ModelConfig(name="timm", params={"encoder": "efficientnet_lite0"}),
    ModelConfig(name="torchvision", params={"encoder": "googlenet"}),
]
OTHERS = [
    ModelConfig(name="lenet5"),
    ModelConfig(name="cnn_handcrafted", params={"depth": 2, "width": 4}),
    ModelConfig(name="timm", params={"encoder": "mobilenetv3_small_050"}),
    ModelConfig(name="timm", params={"encoder": "vit_tiny_patch16_224", "img_size": 64, "depth": 1}),
]


def network_of(config, n_classes=3):
    torch.manual_seed(0)
    network = build_model(config, 3, n_classes, "classification")
    network.train()
    network(torch.rand(4, 3, 64, 64))  # batch statistics that are no longer 0 and 1
    return network.eval()


@pytest.mark.parametrize("config", POOLED, ids=lambda config: str(config.params))
def test_the_mean_of_a_class_activation_map_and_the_bias_are_the_logit(config):
    network, images = network_of(config), torch.randn(2, 3, 64, 64)
    maps, logits = class_activation_maps(network, images)
    with torch.no_grad():
        torch.testing.assert_close(logits, network(images))
    last = [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1]
    torch.testing.assert_close(maps.mean((2, 3)) + last.bias, logits, rtol=1e-3, atol=1e-4)
    assert heat_maps(network, images).method == ACTIVATION


@pytest.mark.parametrize("config", POOLED[:1] + POOLED[-1:], ids=lambda config: str(config.params))
def test_it_is_the_gradient_weighted_map_up_to_scale(config):
    """Grad-CAM (Selvaraju et al. 2017) weighs features by the mean gradient of the logit, by autograd."""
    network, images = network_of(config), torch.randn(1, 3, 64, 64)
    maps, _ = class_activation_maps(network, images)
    logits, features = FeatureTap(network, "bottleneck")(images)
    for index in range(3):
        gradient = torch.autograd.grad(logits[0, index], features, retain_graph=True)[0]
        weighted = (gradient.mean((2, 3), keepdim=True) * features).sum(1)[0]
        torch.testing.assert_close(weighted * features[0, 0].numel(), maps[0, index], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("config", OTHERS, ids=lambda config: config.name + str(config.params))
def test_networks_that_are_no_mean_and_one_layer_are_covered_square_by_square(config):
    network, images = network_of(config), torch.randn(1, 3, 64, 64)
    assert class_activation_maps(network, images) is None
    result = heat_maps(network, images)
    assert result.method == OCCLUSION and result.values.shape == (1, 3, 64, 64)
    assert torch.isfinite(result.values).all() and result.values.abs().sum() > 0


def test_covering_a_linear_score_gives_what_the_square_adds_to_it():
    weights, image = torch.randn(2, 3, 16, 16), torch.randn(1, 3, 16, 16)
    maps = occlusion(lambda seen: torch.einsum("nchw,kchw->nk", seen, weights), image, 4, 4)
    parts = (weights * image).sum(1).unfold(1, 4, 4).unfold(2, 4, 4).sum((3, 4))  # by square
    torch.testing.assert_close(maps[0], parts.repeat_interleave(4, 1).repeat_interleave(4, 2), rtol=1e-4, atol=1e-4)
    over = occlusion(lambda seen: torch.einsum("nchw,kchw->nk", seen, weights), image, 4, 2)
    every = (weights * image).sum(1).unfold(1, 4, 2).unfold(2, 4, 2).sum((3, 4))
    torch.testing.assert_close(over[0, :, 0, 0], every[:, 0, 0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(over[0, :, 8, 8], every[:, 3:5, 3:5].mean((1, 2)), rtol=1e-4, atol=1e-4)


def test_of_two_classes_it_is_the_log_odds():
    logits = torch.tensor([[1.0, 3.0]])
    torch.testing.assert_close(against_the_others(logits), torch.tensor([[-2.0, 2.0]]))
    shares = torch.softmax(logits, 1)[0]
    assert against_the_others(logits)[0, 1] == pytest.approx(float((shares[1] / shares[0]).log()), rel=1e-5)
    torch.testing.assert_close(against_the_others(torch.tensor([[3.0, 0.0, 1.0]]))[0, 0], torch.tensor(2.5))


@pytest.mark.parametrize("config", [POOLED[0], ModelConfig(name="lenet5")], ids=lambda config: config.name)
def test_the_map_is_highest_where_the_object_lies(config):
    """Patches with and without a bright disc; a network learns which, and the map finds the disc."""
    torch.manual_seed(1)
    network = build_model(config, 3, 2, "classification")
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    y, x = torch.meshgrid(torch.arange(48), torch.arange(48), indexing="ij")
    generator = torch.Generator().manual_seed(0)

    def batch(size):
        images, labels = 0.3 * torch.randn(size, 3, 48, 48, generator=generator), torch.arange(size) % 2
        centres = torch.randint(8, 40, (size, 2), generator=generator)
        for image, label, (cx, cy) in zip(images, labels, centres, strict=True):
            image[:, (x - cx) ** 2 + (y - cy) ** 2 < 36] += 2.0 * label
        return images, labels, centres

    for _ in range(60):
        images, labels, _ = batch(16)
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        optimiser.step()
    images, labels, centres = batch(20)
    maps = heat_maps(network.eval(), images).values[:, 1]
    maps = nn.functional.interpolate(maps[:, None], size=(48, 48), mode="bilinear")[:, 0]
    hits = [
        (at // 48 - centre[1]) ** 2 + (at % 48 - centre[0]) ** 2 < 144
        for at, label, centre in zip(maps.flatten(1).argmax(1), labels, centres, strict=True)
        if label
    ]
    assert sum(map(bool, hits)) >= 8, f"{sum(map(bool, hits))} of {len(hits)}"
