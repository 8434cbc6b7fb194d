"""A recipe is what all strategies of a study share: the study's own words win, and the run needs no recipe file."""

from pathlib import Path

import pytest
import yaml

from stainda.config import GeometryConfig, available, load_study
from stainda.config.load import apply_overrides, build_study
from stainda.config.recipes import DEFAULT, load_recipe
from stainda.errors import ConfigError
from stainda.strategies import build, check
from stainda.strategies.augment.geometry import GeometryAugment

ROOT = Path(__file__).parents[2]
MINIMAL = {
    "study": "one",
    "phantom": {"patients": 2},
    "patches": {"mpp": 4.0},
    "protocol": {"sources": ["PAS@A"]},
    "strategies": ["source_only", "dann"],
}


@pytest.fixture
def place(tmp_path):
    """A folder with a recipe of its own, and the study in it."""
    (tmp_path / "configs" / "recipes").mkdir(parents=True)
    write(tmp_path / "configs" / "recipes" / "mine.yaml", {
        "title": "Mine", "description": "As we do it.", "model": "unet_small", "patches": {"size": 64},
        "geometry": {"scale": {"default": 0.25, "low": 0.0, "high": 0.5}, "rotation": 30},
        "training": {"epochs": 7, "loss": "dice", "learning_rate": {"default": 1e-3, "low": 1e-4, "high": 1e-2}},
    })  # fmt: skip
    return tmp_path


def write(path, values):
    path.write_text(yaml.safe_dump(values))
    return path


def study(place, *overrides, **changes):
    return load_study(write(place / "study.yaml", {**MINIMAL, **changes}), overrides)


def test_a_study_has_the_settings_of_its_recipe(place):
    found = study(place, recipe="mine")
    assert (found.recipe.name, found.recipe.title, found.recipe.changed) == ("mine", "Mine", ())
    assert (found.model.name, found.model.params["width"], found.patches.size) == ("unet", 8, 64)
    assert (found.training.epochs, found.training.loss, found.training.learning_rate) == (7, "dice", 1e-3)
    assert set(found.space) == {"training.learning_rate"}


def test_what_the_study_says_itself_wins_and_is_told(place):
    found = study(place, recipe="mine", patches={"mpp": 4.0, "size": 32}, training={"learning_rate": 0.01})
    assert (found.patches.size, found.training.learning_rate, found.training.epochs) == (32, 0.01, 7)
    assert not found.space, "a value without a range is not searched"
    assert set(found.recipe.changed) == {"patches.size", "training.learning_rate"}
    other = study(place, recipe="mine", model={"params": {"width": 4}}, geometry={"scale": 0})
    assert other.model.params == {**found.model.params, "width": 4}
    assert set(other.recipe.changed) == {"model.params.width", "geometry.scale"}
    assert study(place, recipe="mine", model="cnn_small").recipe.changed == ("model",)


def test_the_scale_of_the_study_replaces_that_of_the_recipe(place):
    recipe = {"name": "coarse", "patches": {"downsample": 8.0, "size": 32}}
    assert study(place, recipe=recipe, patches={"mpp": 2.0}).patches.downsample is None
    assert study(place, recipe=recipe, patches={"size": 48}).patches.downsample == 8


@pytest.mark.parametrize(
    ("recipe", "name", "epochs", "changed"),
    [
        ({"from": "mine", "training": {"epochs": 3}}, "mine", 3, ("training.epochs",)),
        ({"from": "mine", "name": "shorter", "training": {"epochs": 3}}, "shorter", 3, ()),
        ({"name": "own", "model": "unet_small", "training": {"epochs": 2}}, "own", 2, ()),
    ],
)
def test_a_recipe_with_changes_or_written_out(place, recipe, name, epochs, changed):
    found = study(place, recipe=recipe)
    assert (found.recipe.name, found.training.epochs, found.recipe.changed) == (name, epochs, changed)


def test_a_recipe_is_chosen_on_the_command_line(place):
    found = study(place, "recipe=mine", "training.epochs=2", "model.params.width=4", recipe="small")
    assert (found.recipe.name, found.training.epochs, found.model.params["width"]) == ("mine", 2, 4)
    assert study(place, "recipe.training.epochs=5", recipe="mine").training.epochs == 5
    assert study(place, "recipe.training.epochs=5").recipe.name == DEFAULT
    out = apply_overrides({"model": "unet_small"}, ["model.params.width=4"])
    assert out == {"model": {"from": "unet_small", "params": {"width": 4}}}


def test_geometry_reaches_every_strategy_that_does_not_set_it_itself(place):
    own = {"from": "source_only", "name": "own", "augment": [{"name": "geometry", "scale": 0.1}]}
    none = {"from": "source_only", "name": "none", "augment": ["colour_jitter"]}
    found = study(place, recipe="mine", strategies=["source_only", "hed_augmentation", own, none])
    parts = {
        strategy.name: [part.params for part in strategy.augment if part.name == "geometry"]
        for strategy in found.strategies
    }
    shared = {"scale": 0.25, "rotation": 30}
    assert parts == {
        "source_only": [shared],
        "hed_augmentation": [shared],
        "own": [{**shared, "scale": 0.1}],
        "none": [],
    }
    searched = {strategy.name for strategy in found.strategies if "geometry.scale" in strategy.space}
    assert searched == {"source_only", "hed_augmentation"}
    drawn = found.strategy("source_only").with_values({"geometry.scale": 0.5})
    assert [one.scale for one in build(drawn).augment] == [0.5]
    check(build(found.strategy("source_only")), found)


def test_a_range_of_geometry_that_no_part_takes_is_refused(place):
    with pytest.raises(ConfigError, match=r"geometry\.scale"):
        broken = study(place, recipe="mine", geometry={"scale": {"default": 0.2, "low": 0.0, "high": 9.0}})
        check(build(broken.strategy("source_only")), broken)


def test_recipes_set_what_the_geometry_part_has():
    assert set(GeometryConfig.model_fields) == set(GeometryAugment.model_fields) - set(
        GeometryAugment.__bases__[0].model_fields
    )


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ("mien", "unknown recipe 'mien'. Did you mean 'mine'"),
        ({"from": "mien"}, "Did you mean 'mine'"),
        ({"name": "x", "trainign": {}}, "Did you mean 'training'"),
        ({"name": "x", "training": {"epochz": 1}}, "Did you mean 'epochs'"),
        ({"name": "x", "geometry": {"scael": 1}}, "Did you mean 'scale'"),
        ({"name": "x", "training": {"learning_rate": {"default": 1, "low": 2, "high": 3}}}, "outside its own"),
        ({"name": "x", "model": "unet_smal"}, "Did you mean 'unet_small'"),
        ({"name": "x", "patches": 3}, "not a mapping"),
        (3, "neither a name nor a mapping"),
    ],
)
def test_a_slip_in_a_recipe_is_named(place, recipe, told):
    with pytest.raises(ConfigError, match=told):
        study(place, recipe=recipe)


def test_a_fault_in_a_recipe_file_is_told_with_that_file(place):
    file = write(place / "configs" / "recipes" / "bad.yaml", {"training": {"epochs": 0}})
    with pytest.raises(ConfigError) as caught:
        study(place, recipe="bad")
    assert str(file) in str(caught.value)


def test_a_resolved_study_is_run_again_without_the_recipe_file(place):
    from stainda.run_directory.folder import RunFolder

    first = study(place, recipe={"from": "mine", "training": {"epochs": 3}})
    RunFolder(place / "run").write_study(first)
    (place / "configs" / "recipes" / "mine.yaml").unlink()
    assert load_study(place / "run" / "study.yaml") == first


def test_a_study_without_a_recipe_gets_the_strong_one():
    assert DEFAULT == "strong"
    found = build_study(MINIMAL, ROOT / "studies" / "one.yaml")
    assert found.recipe.name == "strong" and found.model.weights is not None and found.model.weights_optional
    assert all(
        part.params["scale"] > 0
        for strategy in found.strategies
        for part in strategy.augment
        if part.name == "geometry"
    )
    asked = build_study({**MINIMAL, "task": "glomeruli_detection"}, ROOT / "studies" / "one.yaml")
    assert asked.model.name == "timm", "a patch classifier for a task of patches"


@pytest.mark.parametrize("name", sorted(available("recipes", ROOT)))
def test_every_recipe_says_what_it_is_and_fits_a_study(name):
    raw = load_recipe(name, ROOT)
    assert raw["title"] and raw["description"]
    found = build_study({**MINIMAL, "recipe": name}, ROOT / "studies" / "one.yaml")
    for strategy in found.strategies:
        check(build(strategy), found)


@pytest.mark.parametrize("path", sorted((ROOT / "studies").rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_study_file_names_its_recipe(path):
    from stainda.config.load import read_extended

    study = read_extended(path)
    if "strategies" in study or "slide_level" not in study:  # labels of slides are learned without a recipe
        assert study.get("recipe") in available("recipes", ROOT)


def settings(task, recipe="strong", **changes):
    """What all strategies of a study of this task have, with the recipe's name and what departs from it."""
    found = build_study(
        {**MINIMAL, "patches": {}, "recipe": recipe, "task": task, **changes}, ROOT / "studies" / "one.yaml"
    )
    for strategy in found.strategies:
        check(build(strategy), found)
    return found


STRONG = {
    "glomeruli_segmentation": (1.0, 128, 0.5, 16, "cross_entropy_dice", 0.5, "smp"),
    "nuclei_segmentation": (0.5, 128, None, 16, "cross_entropy_dice", 0.25, "smp"),
    "glomeruli_detection": (2.0, 128, 0.5, 32, "cross_entropy", 0.5, "timm"),
    "nuclei_detection": (0.5, 64, 0.5, 32, "focal", 0.25, "timm"),
}


@pytest.mark.parametrize("task", STRONG)
def test_the_strong_recipe_is_one_for_each_task(task):
    changes = {"patches": {"mpp": 1.0}} if task == "glomeruli_segmentation" else {}  # it leaves the scale to the study
    found = settings(task, **changes)
    training, (scale,) = found.training, {one.params["scale"] for one in found.strategies[0].augment}
    of = (found.patches.mpp, found.patches.size, training.object_share, training.batch_size, training.loss, scale)
    assert (*of, found.model.name) == STRONG[task] and not found.recipe.changed


def test_a_task_without_settings_of_its_own_has_those_of_glomeruli():
    own = {"kind": "segmentation", "classes": ["tubule"]}
    same = [settings(task, patches={"mpp": 4.0}) for task in ("glomeruli_segmentation", "papilla_segmentation", own)]
    first = same[0]
    assert all((one.training, one.patches, one.model) == (first.training, first.patches, first.model) for one in same)


def test_the_study_and_changes_to_a_recipe_win_over_its_settings_for_a_task():
    found = settings("nuclei_detection", patches={"downsample": 2.0}, training={"loss": "cross_entropy"})
    assert (found.patches.mpp, found.patches.downsample, found.training.loss) == (None, 2.0, "cross_entropy")
    assert set(found.recipe.changed) == {"patches.downsample", "patches.mpp", "training.loss"}
    changed = settings("nuclei_detection", {"from": "strong", "training": {"batch_size": 8}})
    assert (changed.training.batch_size, changed.training.loss) == (8, "focal")


@pytest.mark.parametrize("task", ["glomeruli_detection", "nuclei_detection"])
def test_a_recipe_is_refused_for_a_kind_of_task_that_its_network_is_not_for(task):
    with pytest.raises(
        ConfigError, match=rf"'lampert2018' is for segmentation.*{task} is class.*Take recipe: small or"
    ):
        settings(task, "lampert2018", patches={"mpp": 1.0})
    found = settings(task, "lampert2018", patches={"mpp": 1.0, "size": 64}, model="cnn_small")
    assert found.model.name == "cnn", "a study may bring a network of its own"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"tasks": {"nuclei_segmentatoin": {}}}, "Did you mean 'nuclei_segmentation'"),
        ({"tasks": {"nuclei_segmentation": {"model": "unet"}}}, "cannot be changed for task nuclei_segmentation"),
        ({"tasks": {"nuclei_segmentation": {"training": {"epochz": 1}}}}, "Did you mean 'epochs'"),
        ({"kinds": ["segmentatoin"]}, "Did you mean 'segmentation'"),
        ({"random_start": {"trainign": {}}}, "cannot be changed for a random start.*Did you mean 'training'"),
        ({"random_start": {"training": {"epochz": 1}}}, "Did you mean 'epochs'"),
        ({"random_start": 3}, "'random_start' of a recipe is not a mapping"),
    ],
)
def test_a_slip_in_what_a_recipe_has_for_a_task_is_named(place, given, told):
    with pytest.raises(ConfigError, match=told):
        study(place, recipe={"name": "x", **given})


def test_a_network_that_names_no_weights_has_the_settings_of_a_random_start(place):
    strong = load_recipe("strong")
    pretrained, random = study(place), study(place, model="unet_small")
    assert pretrained.training.learning_rate == strong["training"]["learning_rate"]["default"]
    assert pretrained.training.schedule == strong["training"]["schedule"]
    wanted = strong["random_start"]["training"]
    assert random.training.learning_rate == wanted["learning_rate"]["default"] > pretrained.training.learning_rate
    assert (random.training.schedule, random.recipe.changed) == (wanted["schedule"], ("model",))
    assert random.space["training.learning_rate"].high == wanted["learning_rate"]["high"]


def test_the_study_and_changes_to_a_recipe_win_over_its_settings_for_a_random_start(place):
    fixed = study(place, model="unet_small", training={"learning_rate": 0.02})
    assert (fixed.training.learning_rate, fixed.training.schedule) == (0.02, "one_cycle")
    assert "training.learning_rate" not in fixed.space
    slow = {"from": "strong", "model": "unet_small", "random_start": {"training": {"schedule": "constant"}}}
    assert study(place, recipe=slow).training.schedule == "constant"
    with_weights = study(place, model={"name": "unet", "weights": {"file": "mine.safetensors", "optional": True}})
    assert with_weights.training.schedule == "cosine"


def test_a_study_that_starts_at_random_has_them_too_whatever_weights_its_network_names(place):
    found = study(place, training={"start": "random"})
    assert (found.training.learning_rate, found.training.schedule) == (3e-3, "one_cycle")
    assert found.recipe.changed == ("training.start",)
    assert study(place, training={"start": "weights"}).training.schedule == "cosine"


def test_a_recipe_that_was_written_out_is_read_again_as_it_is(place):
    first = study(place, model="unet_small", training={"learning_rate": 0.02})
    again = load_study(write(place / "again.yaml", yaml.safe_load(first.model_dump_json(by_alias=True))))
    assert again.training == first.training


def test_the_list_says_what_a_recipe_has_for_each_task():
    from stainda.study.listing import catalogue, find_entry

    strong = find_entry(catalogue("recipes"), "recipes", "strong")
    assert (
        "for nuclei_detection: patches.mpp 0.5, patches.size 64" in strong.parts
        and "training.loss focal" in strong.parts
    )
    assert find_entry(catalogue("recipes"), "recipes", "lampert2018").tasks == ("segmentation",)
