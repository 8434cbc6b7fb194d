"""Published encoders: every file of configs/models/ with ``name: encoder`` is the network its publisher describes."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from stainda.config import ModelConfig, PretrainingConfig
from stainda.errors import ConfigError
from stainda.models import build_encoder, build_model, load_weights
from stainda.models.known_weights import known_weights
from stainda.models.published_standard import standard_mismatch
from stainda.models.weight_checks import check_weights
from stainda.models.weight_files import look_for

ROOT = Path(__file__).parents[2]
KNOWN = {model_weights.name: model_weights for model_weights in known_weights(ROOT)}
PATHOLOGY = (
    "uni", "uni2_h", "virchow2", "h_optimus_0", "prov_gigapath", "conch", "phikon_v2", "midnight_12k", "gpfm",
)  # fmt: skip
IMAGENET = (
    "resnet18", "resnet50", "efficientnet_lite0", "convnext_tiny", "swin_tiny", "vit_small", "segformer_b0",
    "segformer_b2", "segformer_b5", "vgg16",
)  # fmt: skip
REAL = look_for("tf_efficientnet_lite0.safetensors")
SMALL = {"depth": 4, "embed_dim": 48, "num_heads": 4}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def random_start(name: str) -> ModelConfig:
    return KNOWN[name].config.model_copy(update={"weights": None})


def test_the_encoders_of_the_field_are_there_and_say_what_they_are():
    assert set(KNOWN) == {*PATHOLOGY, *IMAGENET}
    for one in KNOWN.values():
        facts = one.facts
        assert one.config.name == "encoder" and one.config.description and one.config.reference
        assert facts.title and facts.licence and facts.access and facts.command and facts.sources, one.name
        assert one.config.weights_source.startswith("https://") and facts.input_size
        assert facts.mpp or facts.unknown, f"{one.name}: the scale, or that no source gives it"
        assert facts.parameters or "parameters" in facts.unknown, one.name
        assert one.file_name in facts.command or f"--model {one.name}" in facts.command
        assert one.config.weights_source.removeprefix("https://huggingface.co/") in facts.command or (
            one.config.weights_source.removeprefix("https://huggingface.co/timm/") in facts.command
        )


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_the_architecture_has_the_parameters_that_are_published(name):
    known = KNOWN[name]
    with torch.device("meta"):
        encoder = build_encoder(known.config)
        if "/timm/" in known.config.weights_source:  # timm counts the last layer of 1000 classes
            encoder.reset_classifier(1000)
    count = sum(parameter.numel() for parameter in encoder.parameters()) / 1e6
    published = known.facts.parameters
    if published is None:
        return
    # Midnight's publisher counts position embeddings of another size, 0.2 % of it
    assert count == pytest.approx(published, rel=0.006 if published > 1000 else 0.002)


@pytest.mark.parametrize("name", [one for one in sorted(KNOWN) if "/timm/" in KNOWN[one].config.weights_source])
def test_what_timm_says_of_its_weights_is_what_the_file_says(name):
    import timm

    known, tag = KNOWN[name], KNOWN[name].config.weights_source.rpartition("/timm/")[2]
    said = timm.get_pretrained_cfg(tag)
    assert tag.split(".")[0] == known.config.params["encoder"]
    assert (said.mean, said.std, said.input_size[1]) == (known.facts.mean, known.facts.std, known.facts.input_size)
    assert said.license == known.facts.licence.lower() and said.hf_hub_id == f"timm/{tag}"


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_every_encoder_becomes_a_network_of_each_task(name):
    config = random_start(name)
    if config.params["encoder"].startswith("mit_"):
        with pytest.raises(ConfigError, match="is for segmentation, and the task is classification"):
            build_model(config, 3, 2, "classification")
        device = "cpu"
        if name == "segformer_b5":
            return  # as b0 and b2, with more blocks
    else:
        device = "meta"
        with torch.device(device):
            model = build_model(config, 3, 4, "classification")
        assert model.task == "classification" and model.n_classes == 4
    with torch.device(device):
        model = build_model(config, 3, 4, "segmentation")
    assert model.task == "segmentation" and KNOWN[name].facts.input_size % model.stride == 0
    shapes = {name: tuple(one.shape) for name, one in model.state_dict().items()}
    prefix = "encoder." if hasattr(model, "encoder") else "net.encoder."
    with torch.device(device):
        alone = build_encoder(config).state_dict()
    inside = {
        n.removeprefix(prefix).removeprefix("model."): shape for n, shape in shapes.items() if n.startswith(prefix)
    }
    flat = {re.sub(r"^(\w+?)_(\d+)\.", r"\1.\2.", n): shape for n, shape in inside.items()}
    own = {n: tuple(one.shape) for n, one in alone.items()}
    assert all(own[n if n in own else re.sub(r"^(\w+?)_(\d+)\.", r"\1.\2.", n)] == s for n, s in inside.items())
    assert len(flat) > 0.9 * len(own) or prefix == "net.encoder."


@pytest.mark.parametrize("name", ["uni2_h", "virchow2", "h_optimus_0", "prov_gigapath", "conch"])
def test_dense_features_of_a_foundation_model_give_a_map_of_the_patch(name):
    """The publisher's arguments, with few and narrow blocks."""
    config = random_start(name)
    options = {**config.params["options"], **SMALL}
    config = config.model_copy(update={"params": {**config.params, "options": options}})
    model = build_model(config, 3, 3, "segmentation").eval()
    for height, width in ((2, 2), (2, 3)):
        images = torch.rand(1, 3, height * model.stride, width * model.stride)
        with torch.no_grad():
            assert model(images).shape == (1, 3, *images.shape[-2:])
    assert type(model.encoder.blocks[0].mlp).__name__ == ("Mlp" if name == "conch" else "GluMlp")


def test_words_for_classes_are_a_closed_table():
    def built(**options):
        params = {"encoder": "vit_tiny_patch16_224", "options": {**options, **SMALL}, "decoder": "dpt"}
        return build_model(ModelConfig(name="encoder", params=params), 3, 2, "segmentation")

    block = built(mlp_layer="SwiGLUPacked", act_layer="SiLU").encoder.blocks[0]
    assert type(block.mlp).__name__ == "GluMlp" and isinstance(block.mlp.act, torch.nn.SiLU)
    for task, word in (("mlp_layer", "os.system"), ("act_layer", "SiLu"), ("norm_layer", "torch.nn.LayerNorm")):
        with pytest.raises(ConfigError, match=f"'{task}' is '{word}', which names no class"):
            built(**{task: word})
    with pytest.raises(ConfigError, match="'block_fn' takes a class, and none can be named"):
        built(block_fn="Block")
    network = ModelConfig(name="timm", params={"encoder": "vit_tiny_patch16_224", "act_layer": "SiLU", "depth": 1})
    assert isinstance(build_model(network, 3, 2).net.blocks[0].mlp.act, torch.nn.SiLU)
    smp = {"encoder": "tu-vit_tiny_patch16_224", "decoder": "dpt", "act_layer": "SiLU", "img_size": 64}
    assert isinstance(
        build_model(ModelConfig(name="smp", params=smp), 3, 2).net.encoder.model.blocks[0].mlp.act, torch.nn.SiLU
    )


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"encoder": "resnet81"}, "Did you mean 'resnet18'"),
        ({"encodr": "resnet18"}, "Did you mean 'encoder'"),
        ({"encoder": "resnet18", "decoder": "dpt"}, "gives no tokens of one scale"),
        ({"encoder": "vit_tiny_patch16_224", "decoder": "dpt", "options": {"dept": 2}}, "dept"),
        ({"encoder": "vit_tiny_patch16_224", "decoder": "linear", "options": {"dept": 2}}, "dept"),
        ({"encoder": "vit_tiny_patch16_224", "decoder": "upernet"}, "maps of several scales.*decoder linear or dpt"),
        ({"encoder": "vit_tiny_patch16_224", "decoder": "unet"}, "maps of several scales.*decoder linear or dpt"),
        ({"encoder": "vit_tiny_patch16_224", "decoder": "fpn"}, "maps of several scales.*decoder linear or dpt"),
        ({"encoder": "vit_tiny_patch16_224", "decoder": "segformer"}, "maps of several scales.*decoder linear or dpt"),
        ({"encoder": "resnet18", "decoder": "linear", "decoder_options": {"decoder_channels": [1]}}, "no options"),
        ({"encoder": "resnet81", "decoder": "linear"}, "Did you mean 'resnet18'"),
        ({"encoder": "vit_tiny_patch16_224", "decoder": "dpt", "decoder_options": {"readuot": "cat"}}, "'readout'"),
    ],
    ids=str,
)
def test_mistakes_are_answered(params, said):
    with pytest.raises(ConfigError, match=said):
        build_model(ModelConfig(name="encoder", params=params), 3, 2, "segmentation")


def test_a_linear_decoder_is_a_linear_map_of_each_token(tmp_path):
    """A second implementation with matrices."""
    state = _published("vit_tiny_patch16_224", tmp_path / "vit.safetensors", dynamic_img_size=True, **TINY)
    params = {"encoder": "vit_tiny_patch16_224", "options": {**TINY, "dynamic_img_size": True}, "decoder": "linear"}
    config = ModelConfig(name="encoder", params=params, weights=tmp_path / "vit.safetensors")
    model = build_model(config, 3, 3, "segmentation").eval()
    assert torch.equal(model.encoder.blocks[1].mlp.fc1.weight, state["blocks.1.mlp.fc1.weight"])
    model.decoded.running_mean.normal_(), model.decoded.running_var.uniform_(0.5, 2)
    images = torch.rand(2, 3, 48, 80)  # 3 x 5 tokens
    with torch.no_grad():
        tokens = model.encoder.forward_features(images)[:, 5:]
        scaled = (tokens - model.decoded.running_mean) / (model.decoded.running_var + model.decoded.eps).sqrt()
        logits = (scaled @ model.head.weight[:, :, 0, 0].T + model.head.bias).reshape(2, 3, 5, 3).permute(0, 3, 1, 2)
        answer = model(images)
        torch.testing.assert_close(answer, model.answer(model.encode(images)))
    assert answer.shape == (2, 3, 48, 80)
    around = torch.nn.functional.interpolate(logits, scale_factor=16, mode="bilinear", align_corners=False)
    torch.testing.assert_close(answer, around, atol=1e-5, rtol=1e-4)


def _published(encoder: str, path: Path, **options: object) -> dict[str, torch.Tensor]:
    import timm

    state = {name: one.contiguous() for name, one in timm.create_model(encoder, **options).state_dict().items()}
    save_file(state, str(path))
    return state


@pytest.mark.parametrize(
    ("name", "encoder", "tensor"),
    [
        ("resnet18", "resnet18", "layer4.1.conv2.weight"),
        ("convnext_tiny", "convnext_tiny", "stages.2.blocks.1.mlp.fc1.weight"),
        ("swin_tiny", "swin_tiny_patch4_window7_224", "layers.1.blocks.0.attn.qkv.weight"),
        ("vit_small", "vit_small_patch16_224", "blocks.7.mlp.fc2.weight"),
    ],
)
@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_a_file_as_timm_publishes_it_is_loaded_whole(name, encoder, tensor, task, tmp_path):
    """Also where timm flattens the names of stages (ConvNeXt, Swin), which it does not in the file."""
    state = _published(encoder, tmp_path / "published.safetensors")
    config = KNOWN[name].config.model_copy(update={"weights": tmp_path / "published.safetensors"})
    model = build_model(config, 3, 2, task)
    report = load_weights(model, tmp_path / "published.safetensors")
    assert report.part == "encoder" and not [n for n in report.missing if "num_batches" not in n]
    here = model.state_dict()
    flattened = re.sub(r"^(\w+?)\.(\d+)\.", r"\1_\2.", tensor)
    found = [n for n in here if n.endswith(f".{tensor}") or n.endswith(f".{flattened}")]
    assert len(found) == 1 and torch.equal(here[found[0]], state[tensor])


def test_position_embeddings_of_another_size_are_interpolated_and_not_left_at_random(tmp_path):
    state = _published("vit_tiny_patch16_224", tmp_path / "vit.safetensors", img_size=64, **SMALL)
    params = {"encoder": "vit_tiny_patch16_224", "options": {"img_size": 128, **SMALL}, "decoder": "dpt"}
    config = ModelConfig(name="encoder", params=params, weights=tmp_path / "vit.safetensors")
    positions = build_model(config, 3, 2, "segmentation").encoder.pos_embed
    assert positions.shape == (1, 65, 48)
    torch.testing.assert_close(positions[:, 0], state["pos_embed"][:, 0])  # the class token has no place
    grid, given = (
        one[0, 1:].T.reshape(48, math.isqrt(one.shape[1] - 1), -1) for one in (positions, state["pos_embed"])
    )
    averaged = torch.nn.functional.avg_pool2d(grid, 2)
    assert float(torch.corrcoef(torch.stack([averaged.detach().flatten(), given.flatten()]))[0, 1]) > 0.95


def test_a_file_that_lacks_tensors_of_the_encoder_is_refused(tmp_path):
    state = _published("resnet18", tmp_path / "whole.safetensors")
    del state["layer3.0.conv1.weight"]
    save_file(state, str(tmp_path / "part.safetensors"))
    config = KNOWN["resnet18"].config.model_copy(update={"weights": tmp_path / "part.safetensors"})
    with pytest.raises(ConfigError, match=r"lacks 1 tensors of the encoder.*layer3.0.conv1.weight"):
        build_model(config, 3, 2, "segmentation")


def test_a_mean_that_is_not_the_files_is_an_error(tmp_path):
    state = _published("resnet18", tmp_path / "r.safetensors")
    about = {"mean": [0.5, 0.5, 0.5], "std": [0.229, 0.224, 0.225]}
    save_file(state, str(tmp_path / "r.safetensors"), {"stainda": json.dumps(about)})
    config = KNOWN["resnet18"].config.model_copy(update={"weights": tmp_path / "r.safetensors"})
    with pytest.raises(ConfigError, match=r"trained with mean \[0.5, 0.5, 0.5\], and the model says mean \[0.485"):
        build_model(config, 3, 2, "segmentation")
    about["mean"] = [0.485, 0.456, 0.406]
    save_file(state, str(tmp_path / "r.safetensors"), {"stainda": json.dumps(about)})
    build_model(config, 3, 2, "segmentation")


TINY = {"img_size": 64, "reg_tokens": 4, **SMALL}


@pytest.mark.parametrize(("pooling", "width"), [("class", 48), ("patches", 48), ("class_and_patches", 96)])
def test_tokens_are_pooled_as_the_model_says_and_registers_are_left_out(pooling, width, monkeypatch):
    params = {"encoder": "vit_tiny_patch16_224", "options": TINY, "pooling": pooling}
    config = ModelConfig(name="encoder", params=params)
    model = build_model(config, 3, 3, "classification").eval()
    images = torch.rand(2, 3, 64, 64)
    seen = []
    model.decoded.register_forward_hook(lambda *given: seen.append(given[-1]))
    with torch.no_grad():
        assert model(images).shape == (2, 3) and model.handed_channels == width
        network = model.net  # token by token, as Dosovitskiy et al. 2021 and Darcet et al. 2024 have them
        first = (token.expand(2, -1, -1) for token in (network.cls_token, network.reg_token))
        rows = torch.cat([*first, network.patch_embed(images)], 1) + network.pos_embed
        rows = network.norm(network.blocks(rows))
    assert rows.shape == (2, 1 + 4 + 16, 48)
    expected = {"class": rows[:, 0], "patches": sum(rows[:, 5 + i] for i in range(16)) / 16}
    expected["class_and_patches"] = torch.cat([expected["class"], expected["patches"]], 1)
    torch.testing.assert_close(seen[0], expected[pooling], atol=1e-5, rtol=1e-5)
    tokens = torch.full((1, 21, 48), 7.0)
    tokens[:, 0], tokens[:, 1:5] = 3.0, 1e6
    monkeypatch.setattr(model.net, "forward_features", lambda images: tokens)
    numbers = {"class": {3.0}, "patches": {7.0}, "class_and_patches": {3.0, 7.0}}
    assert set(model.encode(images)[0].flatten().tolist()) == numbers[pooling]


def test_a_patch_is_described_as_virchow2s_publisher_does():
    """2560 numbers, by https://github.com/mahmoodlab/TRIDENT."""
    with torch.device("meta"):
        model = build_model(random_start("virchow2"), 3, 2, "classification")
        assert build_model(random_start("uni"), 3, 2, "classification").handed_channels == 1024
    assert model.handed_channels == 2560 and model.net.head.weight.shape == (2, 2560)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"encoder": "resnet18", "pooling": "class"}, "resnet18' does not give"),
        ({"encoder": "vit_tiny_patch16_224", "options": {"global_pool": "avg"}, "pooling": "class"}, "does not give"),
        ({"encoder": "vit_tiny_patch16_224", "pooling": "clas"}, "Did you mean 'class'"),
    ],
)
def test_a_pooling_that_cannot_be_is_answered(params, said):
    with pytest.raises(ConfigError, match=said):
        build_model(ModelConfig(name="encoder", params=params), 3, 2, "classification")


WRONG = PretrainingConfig(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def test_the_facts_of_every_model_are_those_that_timm_gives_for_its_source():
    for known in KNOWN.values():
        assert standard_mismatch(known.config, Path(known.file_name)) is None, known.name
        if "huggingface.co/timm/" in known.config.weights_source:
            facts = known.facts.model_copy(update={"mean": (0.1, 0.2, 0.3)})
            wrong = known.config.model_copy(update={"pretraining": facts})
            assert standard_mismatch(wrong, Path(known.file_name)).certain, known.name
            assert not standard_mismatch(wrong, Path("ours.safetensors")).certain, "it may be a file of our own"


def test_weights_without_a_source_are_doubted_if_timm_knows_none_with_their_numbers():
    """ViT-S/16 has several: by DINO with ImageNet's mean, by others with 0.5."""
    config = ModelConfig(name="encoder", params={"encoder": "vit_small_patch16_224"}, pretraining=WRONG)
    assert standard_mismatch(config, Path("vit_small_patch16_224.safetensors")) is None
    config = config.model_copy(update={"params": {"encoder": "tf_efficientnet_lite0"}})
    found = standard_mismatch(config, Path("tf_efficientnet_lite0.safetensors"))
    assert not found.certain and "none of the 1 weights of tf_efficientnet_lite0" in found.text


@pytest.mark.skipif(REAL is None, reason="tf_efficientnet_lite0.safetensors is in no folder of STAINDA_WEIGHTS")
def test_a_wrong_mean_of_the_real_file_which_says_nothing_is_an_error():
    right = KNOWN["efficientnet_lite0"].config.model_copy(update={"weights": REAL})
    build_model(right, 3, 2, "segmentation")
    with pytest.raises(ConfigError, match=r"timm gives tf_efficientnet_lite0.in1k mean \[0.5, 0.5, 0.5\]"):
        build_model(right.model_copy(update={"pretraining": WRONG}), 3, 2, "segmentation")
    unnamed = right.model_copy(update={"pretraining": WRONG, "weights_source": ""})
    known = replace(KNOWN["efficientnet_lite0"], config=unnamed)
    states = {check.what: check.state for check in check_weights(known, REAL)}
    assert states["standardisation"] == "note", "whose file it is nothing says"


def test_a_missing_file_is_told_with_its_own_publisher(tmp_path, monkeypatch):
    monkeypatch.setenv("STAINDA_WEIGHTS", f"{tmp_path / 'first'}:{tmp_path / 'second'}")
    with pytest.raises(ConfigError) as caught:
        build_model(KNOWN["uni"].config, 3, 2, "segmentation")
    said = str(caught.value)
    assert "MahmoodLab/UNI at " in said and str(tmp_path / "first" / "uni.safetensors") in said
    assert "timm/" not in said, "UNI's architecture is timm's, its weights are not"
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "uni.safetensors").touch()
    assert {model_weights.name: model_weights for model_weights in known_weights(ROOT)}[
        "uni"
    ].file == tmp_path / "second" / "uni.safetensors"
