"""Whether a network's answer for a pixel depends on how large the image is."""

from __future__ import annotations

import pytest
import torch

from stainda.config import ModelConfig
from stainda.models import build_model, looks_locally

SMP = {"encoder": "resnet18", "decoder": "unet", "weights": None}


def network(name, **params):
    torch.manual_seed(0)
    return build_model(ModelConfig(name=name, params=params), 3, 2, "segmentation")


@pytest.mark.parametrize(
    ("name", "params", "local"),
    [
        ("unet", {"depth": 3, "width": 4}, True),
        ("unet", {"depth": 2, "width": 4, "padding": "valid", "upsampling": "bilinear"}, True),
        ("unet", {"depth": 2, "width": 4, "norm": "none"}, True),
        ("unet", {"depth": 2, "width": 8, "norm": "group"}, False),
        ("unet", {"depth": 2, "width": 4, "norm": "instance"}, False),
        ("smp", {"encoder": "resnet18"}, True),
        ("smp", {"encoder": "tu-tf_efficientnet_lite0"}, True),
        ("smp", {"encoder": "tu-mobilenetv3_small_050"}, False),
    ],
)
def test_means_over_the_image_and_attention_are_seen(name, params, local):
    assert looks_locally(network(name, **params)) is local


@pytest.mark.parametrize(("norm", "same"), [("batch", True), ("group", False)])
def test_it_is_what_the_network_does(norm, same):
    """The middle of a large image, asked alone with all that the network sees around it."""
    asked = network("unet", depth=2, width=8, norm=norm).eval()
    image = torch.rand(1, 3, 96, 96)
    image[..., :16] += 3  # far from the middle
    with torch.no_grad():
        large, small = asked(image)[..., 44:52, 44:52], asked(image[..., 24:72, 24:72])[..., 20:28, 20:28]
    assert torch.allclose(large, small, atol=1e-5) is same is looks_locally(asked)


def test_it_is_left_in_the_state_it_was_in():
    asked = network("unet", depth=2, width=4).train()
    before = {key: value.clone() for key, value in asked.state_dict().items()}
    looks_locally(asked)
    assert asked.training and all(torch.equal(value, before[key]) for key, value in asked.state_dict().items())
