"""Starting weights come from local safetensors files, or the message says which file to put where."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from stainda.config import ModelConfig
from stainda.errors import ConfigError
from stainda.models import build_model, load_weights

UNET = ModelConfig(name="unet", params={"depth": 2, "width": 4})
TIMM = ModelConfig(name="smp", params={"encoder": "tu-mobilenetv3_small_050", "decoder_channels": [16, 8, 8, 4, 4]})


def test_a_whole_network_comes_back(tmp_path):
    first = build_model(UNET, 3, 2)
    save_file(first.state_dict(), str(tmp_path / "unet.safetensors"))
    second = build_model(UNET.model_copy(update={"weights": tmp_path / "unet.safetensors"}), 3, 2).eval()
    images = torch.rand(1, 3, 16, 16)
    assert torch.equal(first.eval()(images), second(images))


def test_a_head_of_other_classes_stays_at_random(tmp_path):
    save_file(build_model(UNET, 3, 2).state_dict(), str(tmp_path / "unet.safetensors"))
    model = build_model(UNET, 3, 5)
    head = model.head.weight.clone()
    report = load_weights(model, tmp_path / "unet.safetensors")
    assert torch.equal(model.head.weight, head) and set(report.ignored) == {"head.weight", "head.bias"}
    assert not report.missing


@pytest.mark.parametrize("channels", [1, 3])
def test_an_encoder_as_timm_publishes_it(tmp_path, channels, monkeypatch):
    import timm

    published = timm.create_model("mobilenetv3_small_050", pretrained=False)
    save_file({k: v.contiguous() for k, v in published.state_dict().items()}, str(tmp_path / "mobile.safetensors"))
    monkeypatch.setenv("STAINDA_WEIGHTS", str(tmp_path))
    model = build_model(TIMM.model_copy(update={"weights": "mobile.safetensors"}), channels, 2)
    stem = model.net.encoder.model.conv_stem
    grey = torch.rand(1, 1, 32, 32)
    torch.testing.assert_close(stem(grey.expand(1, channels, 32, 32)), published.conv_stem(grey.expand(1, 3, 32, 32)))
    report = load_weights(model, tmp_path / "mobile.safetensors")
    assert report.part == "encoder" and "classifier.weight" in report.ignored and not report.missing


def test_missing_weights_say_which_file_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setenv("STAINDA_WEIGHTS", str(tmp_path / "w"))
    with pytest.raises(ConfigError) as caught:
        build_model(TIMM.model_copy(update={"weights": "mobile.safetensors"}), 3, 2)
    text = str(caught.value)
    assert str(tmp_path / "w" / "mobile.safetensors") in text and "huggingface.co/timm/mobilenetv3_small_050" in text


def test_weights_of_another_network_are_refused(tmp_path):
    save_file({"fc.weight": torch.zeros(2, 2)}, str(tmp_path / "other.safetensors"))
    with pytest.raises(ConfigError, match=r"only 0% .*fc.weight"):
        build_model(UNET.model_copy(update={"weights": tmp_path / "other.safetensors"}), 3, 2)
    (tmp_path / "broken.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ConfigError, match="cannot be read as safetensors"):
        build_model(UNET.model_copy(update={"weights": tmp_path / "broken.safetensors"}), 3, 2)
