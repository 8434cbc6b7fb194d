"""`stainda weights`: what is here, a file converted, a file checked."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from stainda.cli.app import app

REAL = Path(__file__).parents[3] / "shared" / "weights"
FILE = "tf_efficientnet_lite0.safetensors"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("STAINDA_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(*words: str, ends: int = 0) -> str:
    result = CliRunner().invoke(app, ["weights", *words])
    assert result.exit_code == ends, (result.output, result.exception)
    return " ".join(result.output.split())


def test_the_list_says_what_is_here_what_is_missing_and_how_it_is_got(folder):
    (folder / "weights").mkdir()
    (folder / "weights" / FILE).touch()
    said = _run("list")
    assert f"efficientnet_lite0 {folder / 'weights' / FILE}" in said and "missing (uni.safetensors)" in said
    assert "CC-BY-NC-ND-4.0" in said and str(folder / "cache" / "stainda" / "weights") in said
    whole = _run("list", "uni")
    assert "hf download MahmoodLab/UNI pytorch_model.bin" in whole and "--model uni" in whole
    assert str(folder / "weights" / "uni.safetensors") in whole and "0.485 0.456 0.406" in whole
    result = CliRunner().invoke(app, ["weights", "list", "unni"])
    assert "Did you mean 'uni'" in str(result.exception)


def test_a_file_is_converted_to_where_its_model_looks_for_it_and_passes_the_check(folder):
    import timm

    state = {f"module.{name}": one for name, one in timm.create_model("resnet18").state_dict().items()}
    torch.save({"state_dict": state}, "checkpoint.pth")
    said = _run("convert", "checkpoint.pth", "--model", "resnet18")
    made = folder / "weights" / "resnet18.safetensors"
    assert str(made) in said and "SHA-256" in said and "model: resnet18" in said
    assert torch.equal(load_file(str(made))["conv1.weight"], state["module.conv1.weight"])
    said = _run("check")
    assert "tensors ok" in said and "forward pass ok 512 numbers" in said and "the file says the same" in said
    tensors = load_file(str(made))
    del tensors["layer1.0.bn1.bias"]
    save_file(tensors, "other.safetensors")
    assert "1 tensors are missing (layer1.0.bn1.bias)" in _run(
        "check", "other.safetensors", "--model", "resnet18", ends=1
    )


def test_what_cannot_be_checked_is_answered(folder):
    result = CliRunner().invoke(app, ["weights", "check", "resnet18"])
    assert "resnet18.safetensors is not here" in str(result.exception) and "timm/resnet18.a1_in1k" in str(
        result.exception
    )
    save_file({"a": torch.zeros(1)}, "mine.safetensors")
    result = CliRunner().invoke(app, ["weights", "check", "mine.safetensors"])
    assert "is not the file of a known model" in str(result.exception) and "--model" in str(result.exception)


@pytest.mark.parametrize("words", [("/nothere.safetensors", "--model", "resnet18"), ("nothere.safetensors",), ("a/b",)])
def test_a_file_that_is_not_there_is_named_whatever_the_model(folder, words):
    import timm

    (folder / "weights").mkdir()
    save_file(timm.create_model("resnet18").state_dict(), folder / "weights" / "resnet18.safetensors")
    result = CliRunner().invoke(app, ["weights", "check", *words])
    assert result.exit_code != 0 and "there is no such file" in str(result.exception)
    assert words[0] in str(result.exception)


def test_a_check_of_no_weights_is_an_error(folder):
    result = CliRunner().invoke(app, ["weights", "check"])
    assert result.exit_code != 0 and f"no weights are in {folder / 'weights'}" in str(result.exception)


def test_what_is_converted_replaces_nothing_unless_forced(folder):
    import timm

    torch.save(timm.create_model("resnet18").state_dict(), "mine.pth")
    made = folder / "weights" / "resnet18.safetensors"
    made.parent.mkdir()
    made.write_bytes(b"before")
    result = CliRunner().invoke(app, ["weights", "convert", "mine.pth", "--model", "resnet18"])
    assert result.exit_code != 0 and "--force" in str(result.exception) and made.read_bytes() == b"before"
    assert str(made) in _run("convert", "mine.pth", "--model", "resnet18", "--force")
    assert len(load_file(str(made))) > 60


@pytest.mark.skipif(not (REAL / FILE).is_file(), reason="the ImageNet weights are not at ../shared/weights")
def test_the_real_file_is_whole_and_answers(folder, monkeypatch):
    monkeypatch.setenv("STAINDA_WEIGHTS", str(REAL))
    said = _run("check", "efficientnet_lite0")
    assert "tensors ok 294 of the encoder, none missing" in said and "forward pass ok 1280 numbers" in said
    assert "mean 0.5, 0.5, 0.5; std 0.5, 0.5, 0.5" in said
