"""What plan says of few steps, and how many patches a step of each strategy reads."""

import pytest

from stainda.config.load import build_study
from stainda.study.budget import budgets
from stainda.study.converging import expectations
from stainda.study.plan import plan_study


def study(tmp_path, **values):
    raw = {
        "study": "x", "phantom": {}, "patches": {"mpp": 4.0}, "protocol": {"sources": ["PAS@A"]},
        "strategies": ["source_only", "dann", "oracle"], **values,
    }  # fmt: skip
    return build_study(raw, tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("recipe", "warned"),
    [
        ({"from": "strong", "training": {"epochs": 20}}, True),
        ({"from": "strong", "training": {"epochs": 60}}, False),
        ({"name": "mine", "model": "unet_small", "patches": {"size": 96}}, True),
        ("small", False),
    ],
    ids=["optional weights that are not here", "enough steps", "the default of geometry's scale", "no scale"],
)
def test_few_steps_from_random_weights_are_told_where_the_scale_changes(recipe, warned, tmp_path, monkeypatch):
    for name in ("STAINDA_WEIGHTS", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    notes = expectations(study(tmp_path, recipe=recipe), tmp_path / "no run")
    assert any("are few for augmentation that changes the scale" in note for note in notes) == warned


def test_no_few_steps_from_weights_that_are_here(tmp_path, monkeypatch):
    (tmp_path / "tf_efficientnet_lite0.safetensors").write_bytes(b"only its name is asked for")
    monkeypatch.setenv("STAINDA_WEIGHTS", str(tmp_path))
    found = expectations(study(tmp_path, recipe={"from": "strong", "training": {"epochs": 20}}), tmp_path / "no run")
    assert found == []


@pytest.mark.parametrize(("compared", "unlabelled"), [("tissue", 16), ("labelled", 8)])
def test_source_patches_that_alignment_compares_are_counted(compared, unlabelled, tmp_path):
    config = study(tmp_path, recipe="small", training={"batch_size": 8, "compared_patches": compared})
    assert {budget.strategy: budget.unlabelled for budget in budgets(config)} == {
        "source_only": 0, "dann": unlabelled, "oracle": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("protocol", "ways"),
    [
        ({"sources": ["PAS@A"]}, 6 * 2),
        ({"sources": ["PAS@A"], "folds": 3}, 6 * 2),
        ({"scheme": "all_pairs"}, 6 * 3 * 2),
        ({"scheme": "all_pairs", "sources": ["PAS@A", "SR@A"], "folds": 2}, 6 * 2 * 2),
        ({"scheme": "leave_one_stain_out"}, 6 * 3 * 4),
    ],
)
def test_propagation_is_estimated_once_for_all_rotations_of_one_set_of_sources(protocol, ways, tmp_path):
    """Six patients of one centre with a block of three sections each, all annotated; two ways from each section."""
    phantom = {"patients": 6, "size": 256, "centres": ["A"], "stains": ["PAS", "SR", "CD68"]}
    strategies = ["source_only", "propagated_labels"]
    config = study(tmp_path, phantom=phantom, protocol=protocol, recipe="small", strategies=strategies)
    [found] = [stage.basis for stage in plan_study(config, tmp_path / "run").stages if stage.stage == "propagate"]
    assert found == f"from one section to another {ways} times"
