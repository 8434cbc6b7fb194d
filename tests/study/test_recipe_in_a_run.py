"""What a study starts from, and whether its baseline is tuned as hard as the others."""

from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import save_file

from stainda.config import ModelConfig
from stainda.config.load import build_study
from stainda.errors import ConfigError
from stainda.models import build_model, missing_weights, pinned, random_start, start_of, weights_at_hand
from stainda.strategies.shared_settings import recipe_line, shared_settings
from stainda.study.budget import budget_sentences, budgets

ROOT = Path(__file__).parents[2]
SMALL = {"name": "unet", "params": {"depth": 2, "width": 4}}
OPTIONAL = ModelConfig.model_validate({**SMALL, "weights": {"file": "own.safetensors", "optional": True}})


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Makes ``own.safetensors`` in the folder that STAINDA_WEIGHTS names."""
    monkeypatch.setenv("STAINDA_WEIGHTS", str(tmp_path))

    def put() -> Path:
        save_file(build_model(ModelConfig(**SMALL), 3, 2).state_dict(), str(tmp_path / "own.safetensors"))
        return tmp_path / "own.safetensors"

    return put


def study(**changes):
    raw = {
        "study": "one", "phantom": {"patients": 2}, "patches": {"mpp": 4.0}, "protocol": {"sources": ["PAS@A"]},
        "strategies": ["source_only", "dann"], "search": {"trials": 5}, "recipe": "small", **changes,
    }  # fmt: skip
    return build_study(raw, ROOT / "studies" / "one.yaml")


def test_optional_weights_that_are_missing_start_at_random_and_say_what_that_costs(weights):
    assert weights_at_hand(OPTIONAL) is None and start_of(OPTIONAL) == ""
    assert missing_weights(OPTIONAL) == "own.safetensors"
    assert "random weights" in random_start(OPTIONAL) and ".27" in random_start(OPTIONAL)
    build_model(OPTIONAL, 3, 2)
    with pytest.raises(ConfigError, match=r"own\.safetensors is not here"):
        build_model(OPTIONAL.model_copy(update={"weights_optional": False}), 3, 2)


def test_a_pinned_start_is_the_same_on_every_machine(weights):
    before = pinned(OPTIONAL)
    file = weights()
    assert missing_weights(before) == "own.safetensors" and weights_at_hand(before) is None, "found later: not used"
    after = pinned(OPTIONAL)
    assert not random_start(after) and start_of(after) == after.weights_sha256 != ""
    assert pinned(after) == after and pinned(before) == before
    weights()  # another random network
    with pytest.raises(ConfigError, match="not the one that was used"):
        build_model(after, 3, 2)
    file.unlink()
    with pytest.raises(ConfigError, match="is not here"):
        build_model(after, 3, 2)


def test_the_start_is_part_of_the_name_of_a_training_wherever_the_file_was_found(weights):
    from training.blob_cohort import make_job

    base = make_job()

    def name(model):
        return replace(base, model=model).hash

    random = name(ModelConfig(**SMALL))
    assert name(OPTIONAL) == name(pinned(OPTIONAL)) == random
    weights()
    first = name(OPTIONAL)
    assert first == name(pinned(OPTIONAL)) != random
    weights()
    assert name(OPTIONAL) not in (first, random)


def test_the_baseline_is_tuned_with_as_many_trials_as_any():
    for recipe in ("strong", "small"):
        assert {budget.trials for budget in budgets(study(recipe=recipe))} == {5}
    less = budgets(study(training={"learning_rate": 0.001}))
    assert [one.trials for one in less] == [1, 5] and "tuned less" in less[0].note and not less[1].note
    assert "tuned less" in " ".join(budget_sentences(less, "source_only"))
    scale = {"scale": {"default": 0.2, "low": 0.0, "high": 0.5}}
    both = budgets(study(training={"learning_rate": 0.001}, geometry=scale))
    assert [one.trials for one in both] == [5, 5] and both[0].settings == "geometry.scale"


def test_the_recipe_is_stated_with_those_that_depart_from_it():
    own = {"from": "source_only", "name": "own", "augment": [{"name": "geometry", "scale": 0.1}]}
    found = study(recipe="strong", strategies=["source_only", "adabn", own], training={"epochs": 2})
    told = {setting.setting: setting for setting in shared_settings(found)}
    assert told["recipe"].value == "strong, changed: training.epochs"
    assert "tu-tf_efficientnet_lite0" in told["network"].value
    assert "scale 1/1.5 to 1.5" in told["geometry"].value
    assert [name for name, _ in told["geometry"].departs] == ["own"]
    assert [name for name, _ in told["batch statistics"].departs] == ["adabn"]
    assert "recipe strong" in recipe_line(found) and "2 × 20 steps" in recipe_line(found)


def test_the_head_is_stated_where_the_task_is_of_instances():
    own = {"from": "source_only", "name": "rays", "instances": {"name": "star", "rays": 8}}
    found = study(recipe="small", task="glomeruli_instances", strategies=["source_only", own])
    rows = {setting.setting: setting for setting in shared_settings(found)}
    assert rows["head"].value == "contours" and rows["head"].departs == (("rays", "star (rays 8)"),)
    assert "head" not in {setting.setting for setting in shared_settings(study(recipe="small"))}


def test_what_images_are_standardised_by_is_stated_with_the_views_that_say_otherwise(weights):
    facts = {"mean": [0.7, 0.6, 0.5], "std": [0.2, 0.2, 0.2]}
    own = {**SMALL, "weights": {"file": "own.safetensors", "optional": True}, "pretraining": facts}
    found = study(model=own, strategies=["source_only", "greyscale"])
    told = {setting.setting: setting for setting in shared_settings(found)}["standardised by"]
    assert told.value == "mean and standard deviation of the sources' tissue" and not told.departs, "a random start"
    weights()
    told = {setting.setting: setting for setting in shared_settings(found)}["standardised by"]
    assert told.value == "the encoder's mean and standard deviation (0.7, 0.6, 0.5; 0.2, 0.2, 0.2)"
    assert told.departs == (("greyscale", "mean and standard deviation of the sources' tissue"),)
    assert f"standardised by {told.value}" in recipe_line(found)
