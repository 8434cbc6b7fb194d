"""Weights of other libraries become safetensors with timm's names, and give the answers they gave there."""

from __future__ import annotations

import hashlib
import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors import safe_open
from torch import nn
from torch.nn.functional import gelu, scaled_dot_product_attention, silu

from stainda.config import ModelConfig, PretrainingConfig
from stainda.errors import ConfigError
from stainda.models.conversion import convert, read_checkpoint, to_timm_names
from stainda.models.known_weights import KnownWeights
from stainda.models.weight_checks import check_weights, compare_tensors

WIDTH, HEADS, BLOCKS, PATCH, SIDE = 24, 3, 3, 8, 4


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


class Dinov2(nn.Module):
    """The model of transformers, written from its equations: separate query, key and value, and its own names."""

    def __init__(self, gated: bool) -> None:
        super().__init__()
        self.gated = gated
        hidden = 64
        tensors = {
            "embeddings.cls_token": (1, 1, WIDTH), "embeddings.mask_token": (1, WIDTH),
            "embeddings.position_embeddings": (1, 1 + SIDE**2, WIDTH),
            "embeddings.patch_embeddings.projection.weight": (WIDTH, 3, PATCH, PATCH),
            "embeddings.patch_embeddings.projection.bias": (WIDTH,),
            "layernorm.weight": (WIDTH,), "layernorm.bias": (WIDTH,),
        }  # fmt: skip
        for i in range(BLOCKS):
            of = f"encoder.layer.{i}."
            for part in ("query", "key", "value"):
                tensors |= {f"{of}attention.attention.{part}.weight": (WIDTH, WIDTH)}
                tensors |= {f"{of}attention.attention.{part}.bias": (WIDTH,)}
            tensors |= {
                f"{of}attention.output.dense.weight": (WIDTH, WIDTH),
                f"{of}attention.output.dense.bias": (WIDTH,),
            }
            names = ("weights_in", "weights_out") if gated else ("fc1", "fc2")
            tensors |= {f"{of}mlp.{names[0]}.weight": (hidden * (2 if gated else 1), WIDTH)}
            tensors |= {f"{of}mlp.{names[0]}.bias": (hidden * (2 if gated else 1),)}
            tensors |= {f"{of}mlp.{names[1]}.weight": (WIDTH, hidden), f"{of}mlp.{names[1]}.bias": (WIDTH,)}
            for number in (1, 2):
                tensors |= {f"{of}norm{number}.weight": (WIDTH,), f"{of}norm{number}.bias": (WIDTH,)}
                tensors |= {f"{of}layer_scale{number}.lambda1": (WIDTH,)}
        self.tensors = {name: 0.3 * torch.randn(shape) for name, shape in tensors.items()}

    def _linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"]

    def _norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        return nn.functional.layer_norm(x, (WIDTH,), weight, bias, 1e-6)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The last hidden state, ``[N, 1 + tokens, WIDTH]``."""
        t = self.tensors
        projection = "embeddings.patch_embeddings.projection"
        x = nn.functional.conv2d(images, t[f"{projection}.weight"], t[f"{projection}.bias"], PATCH).flatten(2).mT
        x = torch.cat([t["embeddings.cls_token"].expand(len(x), -1, -1), x], 1) + t["embeddings.position_embeddings"]
        for i in range(BLOCKS):
            of = f"encoder.layer.{i}."
            normed = self._norm(x, f"{of}norm1")
            q, k, v = (
                self._linear(normed, f"{of}attention.attention.{one}").unflatten(2, (HEADS, -1)).transpose(1, 2)
                for one in ("query", "key", "value")
            )
            told = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            x = x + self._linear(told, f"{of}attention.output.dense") * t[f"{of}layer_scale1.lambda1"]
            y = self._norm(x, f"{of}norm2")
            if self.gated:
                gate, value = self._linear(y, f"{of}mlp.weights_in").chunk(2, -1)
                y = self._linear(silu(gate) * value, f"{of}mlp.weights_out")
            else:
                y = self._linear(gelu(self._linear(y, f"{of}mlp.fc1")), f"{of}mlp.fc2")
            x = x + y * t[f"{of}layer_scale2.lambda1"]
        return self._norm(x, "layernorm")


def _options(gated: bool) -> dict[str, object]:
    words = {"mlp_layer": "SwiGLUPacked", "act_layer": "SiLU"} if gated else {}
    ratio = (128 if gated else 64) / WIDTH
    return {
        "img_size": PATCH * SIDE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": BLOCKS, "num_heads": HEADS,
        "mlp_ratio": ratio, "init_values": 1e-5, **words,
    }  # fmt: skip


def _known(gated: bool = False, sha256: str = "") -> KnownWeights:
    facts = PretrainingConfig(
        title="Small", mean=(0.7, 0.6, 0.7), std=(0.2, 0.2, 0.2), input_size=PATCH * SIDE, sha256=sha256
    )
    params = {"encoder": "vit_tiny_patch16_224", "options": _options(gated), "decoder": "dpt"}
    config = ModelConfig(name="encoder", params=params, weights="small.safetensors", pretraining=facts)
    return KnownWeights("small", config, None, ())


def _answer(file: Path, gated: bool, images: torch.Tensor) -> torch.Tensor:
    from stainda.models.named_classes import with_classes

    network = timm.create_model("vit_tiny_patch16_224", num_classes=0, **with_classes(_options(gated)))
    network.load_state_dict(read_checkpoint(file))
    with torch.no_grad():
        return network.eval().forward_features(images)


@pytest.mark.parametrize("gated", [False, True])
def test_the_dinov2_of_transformers_gives_the_same_answers(gated, tmp_path):
    model, images = Dinov2(gated), torch.rand(2, 3, PATCH * SIDE, PATCH * SIDE)
    torch.save(model.tensors, tmp_path / "pytorch_model.bin")
    made = convert(tmp_path / "pytorch_model.bin", tmp_path / "small.safetensors", _known(gated))
    assert made.form == "dinov2 of transformers" and made.found == len(model.tensors)
    torch.testing.assert_close(_answer(made.target, gated, images), model(images), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("gated", [False, True])
def test_a_training_of_dinov2_itself_gives_the_same_answers(gated, tmp_path):
    """``teacher``, ``backbone.``, blocks in chunks, w12 and w3, heads next to: as GPFM is published."""
    model, images = Dinov2(gated), torch.rand(2, 3, PATCH * SIDE, PATCH * SIDE)
    _, renamed = to_timm_names(model.tensors)
    native = {"mask_token": torch.zeros(1, WIDTH), **renamed}
    if gated:
        native = {n.replace(".mlp.fc1.", ".mlp.w12.").replace(".mlp.fc2.", ".mlp.w3."): t for n, t in native.items()}
    for i in range(BLOCKS):
        native = {n.replace(f"blocks.{i}.", f"blocks.{i // 2}.{i}.", 1): t for n, t in native.items()}
    teacher = {f"backbone.{n}": t for n, t in native.items()} | {"dino_head.mlp.0.weight": torch.zeros(2, 2)}
    torch.save({"teacher": teacher}, tmp_path / "GPFM.pth")
    made = convert(tmp_path / "GPFM.pth", tmp_path / "small.safetensors", _known(gated))
    assert made.form == "dinov2"
    torch.testing.assert_close(_answer(made.target, gated, images), model(images), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_vision_tower_on_timm_is_taken_out_of_its_model(prefix, tmp_path):
    _, trunk = to_timm_names(Dinov2(False).tensors)
    whole = {f"{prefix}visual.trunk.{n}": t for n, t in trunk.items()} | {f"{prefix}text.weight": torch.zeros(3)}
    torch.save({"state_dict": whole}, tmp_path / "conch.bin")
    made = convert(tmp_path / "conch.bin", tmp_path / "conch.safetensors", _known())
    assert made.tensors == len(trunk) == made.found - 1
    assert all(torch.equal(t, trunk[n]) for n, t in read_checkpoint(made.target).items())


def test_the_file_says_where_it_is_from_and_the_original_stays(tmp_path):
    source, target = tmp_path / "pytorch_model.bin", tmp_path / "out" / "small.safetensors"
    torch.save(Dinov2(False).tensors, source)
    before = source.read_bytes()
    made = convert(source, target, _known())
    assert source.read_bytes() == before
    assert made.sha256 == hashlib.sha256(target.read_bytes()).hexdigest()
    with safe_open(str(target), "pt") as opened:
        about = json.loads(opened.metadata()["stainda"])
    assert about["model"] == "small" and about["mean"] == [0.7, 0.6, 0.7]
    assert about["from_sha256"] == hashlib.sha256(before).hexdigest()
    again = {convert(source, target, _known(), replace=True).sha256 for _ in range(5)}
    assert again == {made.sha256}, "the fingerprint names trainings: the same weights must have the same"


class Malice:
    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


def test_a_file_that_holds_more_than_tensors_is_refused_and_nothing_in_it_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Malice()}, "evil.bin")
    Path("plain.pth").write_bytes(pickle.dumps(Malice()))
    torch.save({"a": torch.zeros(2), "args": {"lr": 1.0}}, "beside.pt")
    torch.save([torch.zeros(2)], "list.pt")
    Path("cut.bin").write_bytes(Path("beside.pt").read_bytes()[:300])
    for name, said in (
        ("evil.bin", "holds more than tensors, and is not read"),
        ("plain.pth", "holds more than tensors, and is not read"),
        ("beside.pt", "holds more than tensors: args"),
        ("list.pt", "holds a list where tensors by name were expected"),
        ("cut.bin", "cannot be read as a file of torch"),
        ("absent.bin", "there is no such file"),
    ):
        with pytest.raises(ConfigError, match=said):
            convert(name, "out.safetensors")
    assert (
        not Path("ran").exists() and not list(tmp_path.glob("*.safetensors")) and not list(tmp_path.glob(".stainda-*"))
    )


@pytest.mark.parametrize(
    "text", [b"hello\n", b"a" * 20, b"<!DOCTYPE html>", b"version https://git-lfs.github.com/spec/v1\n", b""]
)
def test_a_text_is_no_file_of_torch(text, tmp_path):
    (tmp_path / "model.bin").write_bytes(text)
    with pytest.raises(ConfigError, match=r"is no file of torch: it begins with b'|is empty"):
        read_checkpoint(tmp_path / "model.bin")


def test_a_file_that_is_there_is_replaced_on_demand_alone(tmp_path):
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "a.pth")
    target = tmp_path / "a.safetensors"
    target.write_bytes(b"mine")
    with pytest.raises(ConfigError, match=r"is there already.*--force"):
        convert(tmp_path / "a.pth", target)
    assert target.read_bytes() == b"mine"
    assert convert(tmp_path / "a.pth", target, replace=True).sha256 == hashlib.sha256(target.read_bytes()).hexdigest()
    for name in ("y.bin", "y"):
        with pytest.raises(ConfigError, match=r"another ending|this ending.*Name it y\.safetensors"):
            convert(tmp_path / "a.pth", tmp_path / name)
        assert not (tmp_path / name).exists()


def test_weights_of_another_architecture_are_refused_with_what_differs(tmp_path):
    tensors = Dinov2(False).tensors
    tensors["encoder.layer.1.mlp.fc1.weight"] = torch.zeros(32, WIDTH)
    del tensors["encoder.layer.2.norm1.bias"]
    torch.save(tensors, tmp_path / "other.bin")
    with pytest.raises(ConfigError) as caught:
        convert(tmp_path / "other.bin", tmp_path / "out.safetensors", _known())
    said = str(caught.value)
    assert (
        "1 tensors are missing (blocks.2.norm1.bias)" in said
        and "blocks.1.mlp.fc1.weight is 32x24 and not 64x24" in said
    )
    assert not (tmp_path / "out.safetensors").exists()
    with pytest.raises(ConfigError, match="would be replaced by itself"):
        convert(tmp_path / "other.bin", tmp_path / "other.bin")


def test_a_check_finds_each_fault(tmp_path):
    source = tmp_path / "pytorch_model.bin"
    torch.save(Dinov2(False).tensors, source)
    made = convert(source, tmp_path / "small.safetensors", _known())
    states = {check.what: check.state for check in check_weights(_known(sha256=made.sha256), made.target)}
    assert states == {"SHA-256": "ok", "tensors": "ok", "standardisation": "ok", "forward pass": "ok"}
    found = {check.what: check for check in check_weights(_known(sha256="0" * 64), made.target)}
    assert found["SHA-256"].state == "wrong" and made.sha256 in found["SHA-256"].detail
    other = _known()
    facts = other.facts.model_copy(update={"mean": (0.5, 0.5, 0.5)})
    other = replace(other, config=other.config.model_copy(update={"pretraining": facts}))
    assert {check.what: check.state for check in check_weights(other, made.target)}["standardisation"] == "wrong"
    tensors = read_checkpoint(made.target)
    tensors["blocks.1.attn.proj.bias"][3] = float("nan")
    from safetensors.torch import save_file

    save_file(tensors, str(tmp_path / "nan.safetensors"))
    assert {check.what: check.state for check in check_weights(_known(), tmp_path / "nan.safetensors")}[
        "forward pass"
    ] == "wrong"
    tensors["head.weight"] = tensors.pop("norm.weight")
    save_file(tensors, str(tmp_path / "lacking.safetensors"))
    checks = {check.what: check for check in check_weights(_known(), tmp_path / "lacking.safetensors")}
    assert checks["tensors"].state == "wrong" and "norm.weight" in checks["tensors"].detail
    assert "head.weight" in checks["tensors"].detail and "forward pass" not in checks


def test_position_embeddings_for_a_larger_image_are_no_fault():
    with torch.device("meta"):
        small, large = (timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=side) for side in (64, 128))
    assert compare_tensors(large.state_dict(), small).fits
