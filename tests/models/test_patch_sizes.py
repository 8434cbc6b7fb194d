"""Patches that a network cannot take are refused before anything is computed."""

from __future__ import annotations

import pytest

from stainda.config import ModelConfig, load_piece, load_study
from stainda.errors import ConfigError
from stainda.models import patch_sizes
from stainda.models.patch_sizes import check_patch_size


def _model(name):
    return ModelConfig.model_validate({**load_piece("models", name), "weights": None})


@pytest.mark.parametrize(
    ("name", "task", "fits", "not_"),
    [
        ("unet_small", "segmentation", 96, 97), ("efficientnet_lite0", "segmentation", 96, 100),
        ("resnet50", "classification", 100, 16), ("uni", "segmentation", 224, 240),
        ("uni2_h", "classification", 224, 225), ("segformer_b0", "segmentation", 96, 80),
    ],
)  # fmt: skip
def test_what_fits_and_what_does_not(name, task, fits, not_):
    check_patch_size(_model(name), fits, task)
    with pytest.raises(ConfigError, match=r"sizes that are multiples of|does not take patches"):
        check_patch_size(_model(name), not_, task)


def test_what_can_be_told_from_the_settings_is_told_as_the_network_would(monkeypatch):
    """The short way says that a size fits only where the network itself says so."""
    for name, task in (("unet_small", "segmentation"), ("efficientnet_lite0", "segmentation"),
                       ("cnn_small", "classification"), ("unet_lampert", "segmentation")):  # fmt: skip
        for size in (32, 64, 96, 100):
            if not patch_sizes._surely_fits(_model(name), size):
                continue
            with monkeypatch.context() as patched:
                patched.setattr(patch_sizes, "_surely_fits", lambda config, size: False)
                check_patch_size(_model(name), size, task)


def test_plan_and_run_refuse_before_the_first_slide(tmp_path):
    from stainda.study import run_study
    from stainda.study.plan import plan_study

    study = load_study("studies/small/starts.yaml", ["patches.size=100", "strategies=[source_only]",
                                                     "baseline=source_only"])  # fmt: skip
    with pytest.raises(ConfigError, match=r"Set patches.size to 128"):
        plan_study(study, tmp_path)
    with pytest.raises(ConfigError, match=r"Set patches.size to 128"):
        run_study(study, tmp_path / "run")
    assert not (tmp_path / "run" / "phantom").exists()
