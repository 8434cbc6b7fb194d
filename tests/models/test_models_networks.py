"""Every network keeps one contract; the U-Nets have the sizes and margins of the papers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from stainda.config import ModelConfig, available
from stainda.config.load import load_piece
from stainda.errors import ConfigError
from stainda.models import TwoStageNetwork, UNet, build_model, count_parameters, list_models
from stainda.models.catalogue import NETWORKS
from stainda.strategies.capture import listening

CONFIGS = Path(__file__).parents[2]
FILES = [
    name
    for name in sorted(available("models", CONFIGS))
    if load_piece("models", name, CONFIGS)["name"] != "encoder"  # those: test_encoders.py
    and NETWORKS[load_piece("models", name, CONFIGS)["name"]].task == "segmentation"
]
SETTINGS = [
    ModelConfig(name="unet", params={"depth": 3, "width": 4, "norm": "batch"}),
    ModelConfig(name="unet", params={"depth": 3, "width": 4, "norm": "group", "upsampling": "bilinear"}),
    ModelConfig(name="unet", params={"depth": 3, "width": 4, "upsampling": "interpolated", "init": "pytorch"}),
    ModelConfig(name="unet", params={"depth": 2, "width": 4, "norm": "instance", "convolutions": 1}),
    ModelConfig(name="unet", params={"depth": 3, "width": 4, "norm": "none", "padding": "valid", "init": "glorot"}),
    ModelConfig(name="unet", params={"depth": 4, "width": 2, "padding": "valid", "convolutions": 3}),
    ModelConfig(name="smp", params={"decoder": "fpn", "encoder": "tu-mobilenetv3_small_050"}),
    ModelConfig(name="unet", params={"depth": 3, "width": 4, "dropout": 0.2}),
    ModelConfig(name="smp", params={"decoder": "linknet", "encoder": "resnet18"}),
    ModelConfig(
        name="smp",
        params={
            "decoder": "unet",
            "encoder": "tu-convnext_atto",
            "encoder_depth": 4,
            "decoder_channels": [16, 8, 8, 4],
        },
    ),
    ModelConfig(
        name="smp",
        params={
            "decoder": "dpt",
            "encoder": "tu-vit_tiny_patch16_224",
            "dynamic_img_size": True,
            "decoder_intermediate_channels": [16, 16, 16, 16],
            "decoder_fusion_channels": 16,
        },
    ),
    ModelConfig(name="smp", params={"decoder": "segformer", "encoder": "mit_b0"}),
    ModelConfig(
        name="dpt",
        params={
            "encoder": "vit_tiny_patch16_224",
            "options": {"depth": 4, "dynamic_img_size": True, "mlp_layer": "SwiGLUPacked", "act_layer": "SiLU"},
        },
    ),
    ModelConfig(
        name="dpt",  # tokens of 14 pixels, registers, layer scale
        params={
            "encoder": "vit_small_patch14_reg4_dinov2",
            "options": {"img_size": 224, "depth": 5, "dynamic_img_size": True},
            "readout": "cat",
        },
    ),
    ModelConfig(
        name="linear",
        params={
            "encoder": "vit_small_patch14_reg4_dinov2",
            "options": {"img_size": 224, "depth": 3, "dynamic_img_size": True},
        },
    ),
    ModelConfig(name="linear", params={"encoder": "test_resnet"}),
    ModelConfig(name="linear", params={"encoder": "mit_b0"}),
    ModelConfig(
        name="faster_rcnn",
        params={"encoder": "tu-test_resnet", "width": 32, "semantic_width": 32, "hidden": 16, "sampled": 16},
    ),
    ModelConfig(name="fcn", params={"finest": 32, "width": 4, "fully_connected": 16}),
    ModelConfig(name="fcn", params={"finest": 16, "width": 4, "fully_connected": 16, "norm": "group"}),
    ModelConfig(name="segnet", params={"width": 4, "norm": "instance"}),
    ModelConfig(name="deconvnet", params={"width": 4, "fully_connected": 16, "context": 1, "norm": "group"}),
    ModelConfig(
        name="smp",
        params={"encoder": "tu-swin_tiny_patch4_window7_224", "strict_img_size": False, "decoder_channels": [8] * 5},
    ),
]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """A network that tried to download would fail here."""
    import socket

    def refuse(*args, **kwargs):
        raise AssertionError("a model wanted to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    torch.manual_seed(0)


def file_config(name: str) -> ModelConfig:
    return ModelConfig.model_validate(load_piece("models", name, CONFIGS))


def _smaller(config: ModelConfig) -> ModelConfig:
    """The network with few features; DeconvNet with patches of 64 pixels."""
    few = {"width": 4, "fully_connected": 16, "context": 2}
    params = {**config.params, **{key: value for key, value in few.items() if key in config.params}}
    return config.model_copy(update={"params": params})


@pytest.mark.parametrize(
    "config", SETTINGS + [_smaller(file_config(name)) for name in FILES], ids=lambda c: str(c.params)
)
def test_contract(config):
    model = build_model(config, 3, 4).train()
    for module in model.modules():  # residual blocks of timm start as the identity
        if isinstance(module, torch.nn.BatchNorm2d) and not module.weight.any():
            torch.nn.init.ones_(module.weight)
    side = max(model.minimum_size, model.input_size(64))
    assert side % model.stride == 0
    seen = {}
    for role, name in model.default_layers.items():
        model.get_submodule(name).register_forward_hook(lambda m, i, out, role=role: seen.update({role: out}))
    images = torch.rand(2, 3, side, side + model.stride)
    logits = model(images)
    assert logits.shape == (2, 4, side - 2 * model.margin, side + model.stride - 2 * model.margin)
    labels = torch.zeros(2, side, side + model.stride)
    assert model.crop(labels).shape == (2, *logits.shape[-2:])
    assert set(seen) == {"bottleneck", "decoder"} and all(out.ndim == 4 for out in seen.values())
    if config.name not in ("pangnet", "linear"):  # have one resolution
        assert seen["bottleneck"].shape[-1] < seen["decoder"].shape[-1]
    loss = logits.square().mean()
    if isinstance(model, TwoStageNetwork):  # a square in each patch
        numbers = torch.zeros(2, side, side + model.stride, dtype=torch.long)
        numbers[:, 8:40, 8:40] = 1
        with listening(model, model.pyramid) as levels:
            model(images)
        loss = loss + model.region_loss(levels, numbers, numbers)
    loss.backward()
    left = (
        "net.encoder.model.norm.",
        "net.encoder.model.head.",
        "encoder.norm.",
    )  # of a transformer whose maps are taken before them
    named = [(name, p) for name, p in model.named_parameters() if not name.startswith(left)]
    without = [name for name, p in named if p.grad is None or not p.grad.isfinite().all()]
    assert not without
    assert sum(float(p.grad.abs().sum()) > 0 for _, p in named) > 0.9 * len(named)


@pytest.mark.parametrize("name", FILES)
def test_every_file_builds_and_says_what_it_is(name):
    config = file_config(name)
    model = build_model(config, 1, 2).eval()
    assert dict(list_models(CONFIGS))[name] == " ".join(config.description.split()) != ""
    if count_parameters(model) < 5_000_000:
        with torch.no_grad():
            assert model(torch.rand(1, 1, 96, 96)).shape == (1, 2, 96, 96)


@pytest.mark.parametrize("name", sorted(available("models", CONFIGS)))
def test_every_file_says_how_many_parameters_it_has(name):
    config = file_config(name).model_copy(update={"weights": None})
    device = "cpu" if "mit_" in str(config.params) else "meta"  # those read numbers of tensors while they are built
    sizes = {}
    for task in ("segmentation", "classification"):
        try:
            with torch.device(device):
                sizes[task] = sum(p.numel() for p in build_model(config, 3, 2, task).parameters()) / 1e6
        except ConfigError as refused:
            assert f"the task is {task}" in str(refused)
    assert config.million_parameters == pytest.approx(sizes, rel=0.005) and config.reference


def test_lampert_setting_is_the_published_one():
    model = build_model(file_config("unet_lampert"), 3, 3)
    # two 3x3 convolutions per level with bias, 2x2 transposed convolutions, 1x1 head
    widths, count, below = [64, 128, 256, 512, 1024], 0, 3
    for width in widths:
        count += 9 * below * width + width + 9 * width * width + width
        below = width
    for width in reversed(widths[:-1]):
        count += 4 * 2 * width * width + width + 9 * 2 * width * width + width + 9 * width * width + width
    assert count_parameters(model) == count + 64 * 3 + 3 == 31_031_875
    # 572 gives 388 in Ronneberger et al. 2015: 92 pixels at each side; 512 is cut to 508 first
    assert (model.stride, model.margin, 512 - 2 * model.margin) == (16, 94, 324)
    kinds = {type(module).__name__ for module in model.modules()} - {
        "UNet",
        "_UpBlock",
        "Sequential",
        "ModuleList",
        "Identity",
    }
    assert kinds == {"Conv2d", "ReLU", "MaxPool2d", "ConvTranspose2d"}, "no normalisation, no dropout"
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d) and module is not model.head:
            fans = 9 * (module.in_channels + module.out_channels)
            assert module.kernel_size == (3, 3) and module.padding == (0, 0)
            limit = (6 / fans) ** 0.5  # Glorot: evenly within, so that the deviation is limit / sqrt(3)
            assert float(module.weight.detach().abs().max()) <= limit * (1 + 1e-6)
            assert float(module.weight.detach().std()) == pytest.approx(limit / 3**0.5, rel=0.1)


def test_convolutions_start_as_pytorch_starts_them_or_six_times_as_variable():
    torch.manual_seed(0)
    pytorch, he = (UNet(3, 2, depth=3, width=32, init=init) for init in ("pytorch", "kaiming"))
    for one, other in zip(pytorch.modules(), he.modules(), strict=True):
        if isinstance(one, torch.nn.Conv2d) and one.kernel_size == (3, 3):
            fan_in = 9 * one.in_channels
            assert float(one.weight.detach().std()) == pytest.approx((1 / 3 / fan_in) ** 0.5, rel=0.1)
            assert float(other.weight.detach().std()) == pytest.approx((2 / fan_in) ** 0.5, rel=0.1)


def test_an_interpolated_u_net_is_the_one_written_out():
    """Two levels in the words of torch alone: the level below, twice as large, next to the skip."""
    torch.manual_seed(0)
    network = UNet(3, 2, depth=2, width=4, norm="none", upsampling="interpolated", convolutions=1)
    fine, coarse, up = network.encoder[0][0], network.bottleneck[0], network.decoder[0].block[0]
    images = torch.rand(2, 3, 10, 14)
    skip = fine(images).relu()
    below = coarse(functional.max_pool2d(skip, 2)).relu()
    larger = functional.interpolate(below, scale_factor=2, mode="bilinear", align_corners=False)
    assert up.in_channels == 4 + 8
    expected = network.head(up(torch.cat([skip, larger], 1)).relu())
    torch.testing.assert_close(network(images), expected)


@pytest.mark.parametrize(("depth", "convolutions"), [(2, 2), (3, 2), (4, 2), (5, 2), (4, 1), (4, 3)])
def test_margin_is_exactly_what_an_output_pixel_sees(depth, convolutions):
    """Unpadded, an output pixel depends on nothing outside the input, and the output is centred on it."""
    model = UNet(1, 2, depth=depth, width=1, norm="none", padding="valid", convolutions=convolutions).double()
    model.pool = torch.nn.AvgPool2d(2)  # a maximum passes gradient to one of four pixels only
    for parameter in model.parameters():  # all positive: no ReLU is ever dead, so every path carries gradient
        torch.nn.init.constant_(parameter, 0.1)
    side = model.minimum_size
    images = torch.ones(1, 1, side, side, dtype=torch.double, requires_grad=True)
    logits = model(images)
    assert logits.shape[-1] == side - 2 * model.margin > 0
    logits[0, 0].sum().backward()
    columns = (images.grad[0, 0].abs().sum(0) > 0).nonzero()[:, 0]
    first, last = int(columns.min()), int(columns.max())
    assert first == side - 1 - last, "the output is not centred"
    assert first == convolutions % 2 ** (depth - 2), "the whole input but the trimmed rim is used"


def test_tiles_of_an_unpadded_network_agree_with_the_whole():
    model = UNet(3, 2, depth=3, width=4, padding="valid", norm="none").eval()
    image = torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        whole = model(image)
        shift = 4 * model.stride
        part = model(image[..., shift:, shift:])
    assert torch.allclose(whole[..., shift:, shift:], part, atol=1e-5)


def test_building_is_deterministic_in_the_seed():
    config = SETTINGS[0]
    first, second = (torch.manual_seed(3) and build_model(config, 3, 2).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (ModelConfig(name="unnet"), "Did you mean 'unet'"),
        (ModelConfig(name="unet", params={"dept": 3}), "Did you mean 'depth'"),
        (ModelConfig(name="unet", params={"norm": "bacth"}), "Did you mean 'batch'"),
        (ModelConfig(name="unet", params={"depth": 99}), "from 2 to 8"),
        (ModelConfig(name="unet", params={"dropout": 1}), "below 1"),
        (ModelConfig(name="smp", params={"encoder": "resnet81"}), "Did you mean 'resnet18'"),
        (ModelConfig(name="smp", params={"encoder": "tu-mobilenetv3_smal_100"}), "mobilenetv3_small_100"),
        (ModelConfig(name="smp", params={"decoder": "unett"}), "Did you mean 'unet'"),
        (ModelConfig(name="smp", params={"decoder_chanels": [1]}), "Did you mean 'decoder_channels'"),
        (ModelConfig(name="smp", params={"encoder_weights": "imagenet"}), "safetensors"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_mistakes_are_answered_with_the_nearest_word(config, said):
    with pytest.raises(ConfigError, match=said):
        build_model(config, 3, 2)


def test_a_size_that_does_not_fit_says_which_does():
    model = build_model(SETTINGS[0], 3, 2)
    with pytest.raises(ConfigError, match=r"multiples of 4 .* 100 x 98.*Set patches.size to 100"):
        model(torch.rand(1, 3, 100, 98))
