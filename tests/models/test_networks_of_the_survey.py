"""The networks of the survey chapter are those of their papers: sizes, places of maxima, what a pixel sees."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stainda.config import ModelConfig
from stainda.errors import ConfigError
from stainda.models import build_model, count_parameters
from stainda.models.fcn import Fcn, enlarging
from stainda.models.lenet import LeNet5
from stainda.models.pangnet import PangNet
from stainda.models.torchvision_classifier import TorchvisionClassifier
from stainda.models.unpooling import DeconvNet, SegNet
from stainda.strategies.features import FeatureTap

VGG_16 = 14_714_688
"""Weights and biases of the 13 convolutions of Simonyan and Zisserman's column D."""


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def on_meta(network: type[nn.Module], **params) -> nn.Module:
    with torch.device("meta"):
        return network(3, 21, **params)


def test_fcn_has_the_parameters_of_vgg_16_and_of_its_scores():
    fully = 512 * 49 * 4096 + 4096 + 4096 * 4096 + 4096
    coarse = 4096 * 21 + 21
    assert count_parameters(on_meta(Fcn, finest=32)) == VGG_16 + fully + coarse + 21 * 21 * 64**2
    summed = (512 * 21 + 21) + (256 * 21 + 21) + 2 * 21 * 21 * 4**2 + 21 * 21 * 16**2
    assert count_parameters(on_meta(Fcn, finest=8)) == VGG_16 + fully + coarse + summed


def test_segnet_mirrors_the_encoder():
    network = on_meta(SegNet)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 13 + 13 + 1
    encoder, decoder = convolutions[:13], convolutions[13:-1]
    assert [64, *(layer.in_channels for layer in encoder[1:])] == [layer.out_channels for layer in reversed(decoder)]
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == 26


def test_deconvnet_has_the_layers_of_its_table():
    network = on_meta(DeconvNet)
    assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == 13 + 2 + 1
    assert sum(isinstance(module, nn.ConvTranspose2d) for module in network.modules()) == 1 + 13
    assert network.minimum_size == 224
    with pytest.raises(ConfigError, match="at least 224"):
        network(torch.empty(1, 3, 192, 192, device="meta"))


def test_a_maximum_goes_back_to_its_place():
    """With convolutions that pass maps on unchanged, what is left is the largest of 32 x 32 pixels, where it was."""
    network = SegNet(1, 2, width=1, norm="none")
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.dirac_(module.weight)
            nn.init.zeros_(module.bias)
    nn.init.ones_(network.head.weight)
    image = torch.rand(1, 1, 64, 64) + 0.1
    logits = network(image)[0, 0]
    expected = torch.zeros(64, 64)
    for row in (0, 32):
        for column in (0, 32):
            window = image[0, 0, row : row + 32, column : column + 32]
            place = divmod(int(window.argmax()), 32)
            expected[row + place[0], column + place[1]] = window.max()
    torch.testing.assert_close(logits, expected)


def test_features_of_unpooling_networks_are_not_kept():
    with pytest.raises(ConfigError, match="SegNet has no features apart from its decoder"):
        SegNet(3, 2, width=4).encode(torch.rand(1, 3, 64, 64))


@pytest.mark.parametrize("times", [2, 8, 16, 32])
def test_enlarging_starts_as_bilinear_interpolation(times):
    maps = torch.rand(1, 3, 6, 6)
    inner = slice(times, -times)  # at the border torch's interpolation repeats the last pixel
    expected = nn.functional.interpolate(maps, scale_factor=times, mode="bilinear", align_corners=False)
    torch.testing.assert_close(enlarging(3, times)(maps)[..., inner, inner], expected[..., inner, inner])


def test_the_scores_of_the_poolings_start_at_nothing():
    torch.manual_seed(0)
    coarse = Fcn(3, 2, finest=16, width=4, fully_connected=8, dropout=0.0).eval()
    maps = torch.rand(1, 3, 64, 64)
    pools, last = coarse.encode(maps)[1:], coarse.encode(maps)[2]
    whole = coarse.head.whole(coarse.head.twice[0](coarse.head.score(last)))
    torch.testing.assert_close(coarse(maps), whole)
    nn.init.ones_(coarse.head.skips[0].weight)
    assert not torch.allclose(coarse(maps), whole), "and are added once they are learned"
    assert pools[0].shape[-1] == 2 * last.shape[-1]


def test_pangnet_sees_seven_pixels():
    network = PangNet(1, 2, width=2)
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.1)
    image = torch.ones(1, 1, 21, 21, requires_grad=True)
    network(image)[0, 0, 10, 10].backward()
    seen = (image.grad[0, 0] != 0).nonzero()
    assert seen.min(dim=0).values.tolist() == [7, 7] and seen.max(dim=0).values.tolist() == [13, 13]


def test_lenet_5_of_32_pixels_has_the_layers_of_the_paper():
    network = LeNet5(1, 10)
    shapes = {}
    for name in ("encoder.2", "encoder.5", "bottleneck", "last"):
        network.get_submodule(name).register_forward_hook(
            lambda module, args, out, name=name: shapes.update({name: tuple(out.shape[1:])})
        )
    assert network(torch.rand(2, 1, 32, 32)).shape == (2, 10)
    assert shapes == {"encoder.2": (6, 14, 14), "encoder.5": (16, 5, 5), "bottleneck": (120, 1, 1), "last": (84,)}
    assert network(torch.rand(2, 1, 96, 64)).shape == (2, 10)
    with pytest.raises(ConfigError, match="at least 32"):
        network(torch.rand(1, 1, 28, 28))


@pytest.mark.parametrize("encoder", ["googlenet", "inception_v3"])
def test_a_network_of_torchvision_is_torchvisions(encoder):
    config = ModelConfig(name="torchvision", params={"encoder": encoder})
    model = build_model(config, 3, 4, "classification").eval()
    assert isinstance(model, TorchvisionClassifier)
    images = torch.rand(1, 3, model.minimum_size, model.minimum_size)
    with torch.no_grad():
        logits, vector = FeatureTap(model, "decoder")(images)
        torch.testing.assert_close(logits, model.net(images))
        torch.testing.assert_close(logits, model.net.fc(vector))
        assert FeatureTap(model, "bottleneck")(images)[1].shape[2:] == (1, 1)
    smaller = images[..., : model.minimum_size - 1, : model.minimum_size - 1]
    with pytest.raises(RuntimeError, match=r"too small|greater than actual input"):
        model.net(smaller)
    assert build_model(config, 1, 2, "classification").eval()(images[:, :1]).shape == (1, 2)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ModelConfig(name="fcn", params={"finest": 4}), "one of 32, 16, 8"),
        (ModelConfig(name="segnet", params={"width": 0}), "whole number from 1"),
        (ModelConfig(name="torchvision", params={"encoder": "googlnet"}), "Did you mean 'googlenet'"),
        (ModelConfig(name="lenet5", params={"activation": "tahn"}), "Did you mean 'tanh'"),
        (ModelConfig(name="torchvision", params={"dropout": 1.0}), "below 1"),
    ],
)
def test_mistakes_are_answered(config, message):
    with pytest.raises(ConfigError, match=message):
        build_model(config, 3, 2)
