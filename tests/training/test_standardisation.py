"""Images are standardised as the encoder's weights were trained, unless start, model or view say otherwise."""

from __future__ import annotations

import json

import numpy as np
import pytest
from blob_cohort import make_data, make_job
from safetensors.torch import save_file

from stainda.config import ModelConfig, load_strategy
from stainda.errors import ConfigError
from stainda.models import build_model
from stainda.strategies import build
from stainda.strategies.detector import Detector
from stainda.training.preparation import Preparation

MEAN, STD = (0.7, 0.6, 0.5), (0.2, 0.25, 0.3)
NETWORK = {"depth": 3, "width": 8}


@pytest.fixture
def weights(tmp_path):
    """A file to start from, and one whose weights say that they were trained with another mean."""
    state = build_model(ModelConfig(name="unet", params=NETWORK), 3, 2).state_dict()
    save_file(state, str(tmp_path / "own.safetensors"))
    save_file(state, str(tmp_path / "other.safetensors"), {"stainda": '{"mean": [0.5, 0.5, 0.5]}'})
    return tmp_path


def _job(file=None, pretraining=True, strategy="source_only", **training):
    job = make_job(load_strategy(strategy).model_dump(), **training)
    facts = {"pretraining": {"mean": MEAN, "std": STD}} if pretraining else {}
    model = {"name": "unet", "params": NETWORK, **facts} | ({} if file is None else {"weights": file})
    return type(job)(**{**vars(job), "model": ModelConfig.model_validate(model)})


def _prepared(job):
    return Preparation(job, build(job.strategy), make_data(job, per_slide=4))


def test_a_pretrained_network_sees_images_as_its_weights_were_trained(weights, tmp_path):
    made = _prepared(_job(weights / "own.safetensors"))
    np.testing.assert_array_equal(made.detector.standard.mean, np.float32(MEAN))
    np.testing.assert_array_equal(made.detector.standard.std, np.float32(STD))
    rows = np.arange(2)
    raw = made.data.images(rows).astype(np.float32).transpose(0, 3, 1, 2) / 255
    wanted = (raw - np.float32(MEAN)[None, :, None, None]) / np.float32(STD)[None, :, None, None]
    np.testing.assert_allclose(made.passes.plain(rows).numpy(), wanted, atol=1e-5)
    made.detector.save(tmp_path / "job")  # and prediction does the same
    assert json.loads((tmp_path / "job" / "view.json").read_text())["mean"] == pytest.approx(MEAN)


@pytest.mark.parametrize(
    ("file", "more"),
    [
        (None, {}),  # a random start
        ("own.safetensors", {"pretraining": False}),  # nothing is known of the weights
        ("own.safetensors", {"standardise": "tissue"}),  # requested
        ("own.safetensors", {"strategy": "dyes"}),  # channels that are no colours
    ],
    ids=["random start", "unknown weights", "tissue requested", "no RGB view"],
)
def test_else_they_are_standardised_by_tissue_under_the_name_that_trainings_always_had(file, more, weights):
    job = _job(file and weights / file, **more)
    assert job.encoder_standard() is None
    plain = _job(file and weights / file, **{**more, "pretraining": False})
    assert job.hash == plain.hash, "facts about weights change nothing here"
    if more.get("strategy") != "dyes":
        standard = _prepared(job).detector.standard
        assert not np.allclose(standard.mean, MEAN, atol=0.01)
        pixels = make_data(job, per_slide=4).tissue_pixels
        assert any(abs(standard.mean - pixel_array.mean(0) / 255).max() < 0.05 for pixel_array in pixels.values())


def test_what_standardises_is_part_of_a_trainings_name(weights):
    file = weights / "own.safetensors"
    names = {
        _job(file).hash, _job(file, standardise="tissue").hash,
        type(_job())(**{**vars(_job(file)), "model": _job(file).model.model_copy(
            update={"pretraining": _job(file).model.pretraining.model_copy(update={"mean": (0.6, 0.6, 0.5)})}
        )}).hash,
    }  # fmt: skip
    assert len(names) == 3
    titled = _job(file).model.pretraining.model_copy(update={"title": "Ours", "licence": "MIT", "mpp": (0.5,)})
    job = _job(file)
    other = type(job)(**{**vars(job), "model": job.model.model_copy(update={"pretraining": titled})})
    assert other.hash == job.hash, "prose is no part of it"
    again = type(job).from_settings(job.settings())
    assert again.encoder_standard() == (MEAN, STD) and again.hash == job.hash


def test_weights_trained_with_another_mean_than_the_model_says_are_an_error(weights):
    job = _job(weights / "other.safetensors")
    with pytest.raises(ConfigError, match=r"trained with mean \[0.5, 0.5, 0.5\], and the model says mean \[0.7"):
        Detector.build(build(job.strategy), job.model, job.task, None)
    with pytest.raises(ConfigError, match="trained with mean"):
        _prepared(job)


def test_every_model_and_recipe_that_names_weights_says_what_they_were_trained_with():
    from stainda.config import available, load_piece
    from stainda.config.recipes import load_recipe

    found = {f"model {name}": load_piece("models", name) for name in available("models")}
    for name in available("recipes"):
        recipe = load_recipe(name)
        found |= {f"{key} of {name}": recipe[key] for key in ("model", "classifier") if key in recipe}
    with_weights = {name: one for name, one in found.items() if one.get("weights")}
    assert "model of strong" in with_weights and "model uni" in with_weights
    files = {}
    for name, model_weights in with_weights.items():
        model = ModelConfig.model_validate(model_weights)
        assert model.pretraining is not None, f"{name} would be standardised by tissue"
        files.setdefault(model.weights.name, set()).add((model.pretraining.mean, model.pretraining.std))
    assert all(len(numbers) == 1 for numbers in files.values()), "one file, one mean and standard deviation"
