"""Patch classifiers: one answer per patch, their features by name, for networks as different as timm has."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from stainda.config import ModelConfig, available
from stainda.config.load import load_piece
from stainda.errors import ConfigError
from stainda.models import build_model, check_model, load_weights
from stainda.models.catalogue import NETWORKS
from stainda.strategies.features import FeatureTap

ROOT = Path(__file__).parents[2]
FILES = {name: load_piece("models", name, ROOT) for name in sorted(available("models", ROOT))}
VIT = {"encoder": "vit_tiny_patch16_224", "img_size": 64, "depth": 2}
SETTINGS = [
    (ModelConfig(name="cnn", params={"depth": 3, "width": 4, "norm": "group", "dropout": 0.2}), 4),
    (ModelConfig(name="timm", params={"encoder": "resnet10t"}), 2),  # convolutions, batch statistics
    (ModelConfig(name="timm", params={"encoder": "mobilenetv3_small_050"}), 2),  # a convolution after the pooling
    (ModelConfig(name="timm", params={"encoder": "convnext_atto"}), 2),  # normalised by layer, a norm after pooling
    (ModelConfig(name="timm", params=VIT), 4),  # tokens
    (ModelConfig(name="timm", params={"encoder": "swin_tiny_patch4_window7_224", "img_size": 64, "window_size": 2,
                                      "depths": [1, 1, 1, 1], "embed_dim": 24, "num_heads": [1, 1, 2, 2]}), 2),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize(("config", "side"), SETTINGS, ids=lambda value: str(getattr(value, "params", value))[:40])
def test_contract(config, side):
    """The answer is the network's own; features are what it reads, and gradients reach every layer before."""
    model = build_model(config, 1, 3, "classification").eval()
    images = torch.rand(2, 1, 64, 64)
    logits, bottleneck = FeatureTap(model, "bottleneck")(images)
    again, vector = FeatureTap(model, "decoder")(images)
    assert logits.shape == (2, 3) and torch.equal(logits, again)
    assert bottleneck.ndim == 4 and vector.ndim == 2 and len(vector) == 2
    if config.name == "timm":
        torch.testing.assert_close(logits, model.net(images))
        torch.testing.assert_close(logits, model.net.get_classifier()(vector))
        assert bottleneck.shape[1] == model.net.num_features and bottleneck.shape[2:] == (side, side)
    torch.testing.assert_close(FeatureTap(model, "bottleneck").until(images), bottleneck)
    model.train()
    FeatureTap(model, "bottleneck")(images)[1].square().mean().backward()
    first = next(iter(model.parameters()))
    assert first.grad is not None and float(first.grad.abs().sum()) > 0
    labels = torch.zeros(2, 64, 64)
    assert model.crop(labels).shape == labels.shape


def test_tokens_are_laid_out_as_they_lie_on_the_patch():
    model = build_model(ModelConfig(name="timm", params=VIT), 3, 2).eval()
    tokens = torch.arange(1 + 16, dtype=torch.float).view(1, 17, 1).expand(1, 17, model.net.num_features)
    torch.testing.assert_close(model._as_map(tokens)[0, 0], torch.arange(1.0, 17).view(4, 4))


CLASSIFIERS = [
    name
    for name, piece in FILES.items()
    if piece["name"] != "encoder" and NETWORKS[piece["name"]].task == "classification"
]  # those of name encoder: test_encoders.py


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_file_builds(name):
    model = build_model(ModelConfig.model_validate(FILES[name]), 3, 2, "classification").eval()
    with torch.no_grad():
        side = max(48, model.minimum_size)
        assert model(torch.rand(1, 3, side, side)).shape == (1, 2)


def test_a_network_for_another_task_is_refused_and_told_which_fit():
    with pytest.raises(
        ConfigError,
        match=r"'unet' is for segmentation.*cnn or timm or torchvision or lenet5 or cnn_handcrafted or encoder",
    ):
        check_model(ModelConfig(name="unet"), "classification")
    with pytest.raises(
        ConfigError,
        match=r"'cnn' is for classification.*unet or smp or dpt or linear or fcn or segnet or deconvnet or pangnet or ",
    ):
        check_model(ModelConfig(name="cnn"), "segmentation")


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"encoder": "resnet81"}, "Did you mean 'resnet18'"),
        ({"pretrained": True}, "safetensors"),
        ({"encoder": "resnet10t", "drop_rat": 0.1}, "drop_rat"),
    ],
)
def test_mistakes_are_answered(params, said):
    with pytest.raises(ConfigError, match=said):
        build_model(ModelConfig(name="timm", params=params), 3, 2)


def test_a_transformer_says_which_sizes_it_takes():
    model = build_model(ModelConfig(name="timm", params=VIT), 3, 2)
    with pytest.raises(ConfigError, match=r"\(48, 48\) pixels.*img_size"):
        model(torch.rand(1, 3, 48, 48))
    with pytest.raises(ConfigError, match=r"at least 32.*Set patches.size to 32"):
        build_model(ModelConfig(name="timm", params={"encoder": "resnet10t"}), 3, 2)(torch.rand(1, 3, 16, 16))


def test_weights_as_timm_publishes_them(tmp_path, monkeypatch):
    import timm

    published = timm.create_model("resnet10t", pretrained=False)
    save_file({k: v.contiguous() for k, v in published.state_dict().items()}, str(tmp_path / "r.safetensors"))
    config = ModelConfig(name="timm", params={"encoder": "resnet10t"}, weights=tmp_path / "r.safetensors")
    model = build_model(config, 3, 2).eval()
    torch.testing.assert_close(model.net.layer4[0].conv1.weight, published.layer4[0].conv1.weight)
    report = load_weights(model, tmp_path / "r.safetensors")
    assert report.part == "encoder" and {"fc.weight", "fc.bias"} == set(report.ignored) and not report.missing
    monkeypatch.setenv("STAINDA_WEIGHTS", str(tmp_path))
    with pytest.raises(ConfigError, match=r"model\.safetensors of https://huggingface.co/timm/resnet10t.* at .*other"):
        build_model(config.model_copy(update={"weights": Path("other.safetensors")}), 3, 2)
