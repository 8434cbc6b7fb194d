"""Study files: what a person writes is what is run, and a slip is answered with the right word."""

import re
from pathlib import Path

import pytest
import yaml

from stainda.config import available, load_strategy, load_study
from stainda.config.load import apply_overrides, build_study, parse_yaml
from stainda.config.space import split_space
from stainda.errors import ConfigError

ROOT = Path(__file__).parents[2]
MINIMAL = {
    "study": "small",
    "phantom": {"patients": 2},
    "patches": {"size": 32, "mpp": 4.0},
    "protocol": {"sources": ["PAS@A"]},
    "strategies": [{"name": "plain"}],
}


def build(**changes):
    return build_study({**MINIMAL, **changes}, ROOT / "studies" / "small.yaml")


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_study_file_is_valid(path):
    config = load_study(path)
    assert config.study == path.stem
    assert config.question and config.title
    if config.strategies or config.slide_level is None:
        assert config.baseline in {strategy.name for strategy in config.strategies}


def test_a_file_of_an_earlier_version_may_name_the_intervals_of_one_training():
    assert (
        build(evaluation={"interval": "expanded", "level": 0.9}).evaluation
        == build(evaluation={"level": 0.9}).evaluation
    )
    with pytest.raises(ConfigError, match="intervall"):
        build(evaluation={"intervall": "expanded"})


@pytest.mark.parametrize("name", sorted(available("strategies", ROOT)))
def test_every_strategy_file_explains_itself_and_its_ranges_hold_its_defaults(name):
    strategy = load_strategy(name, ROOT)
    assert strategy.name == name and strategy.title and strategy.description
    for path, found in strategy.space.items():
        ends = (found.low, found.high) if found.choices is None else found.choices
        assert len({strategy.with_values({path: value}).model_dump_json() for value in ends}) == len(ends), path


@pytest.mark.parametrize("name", sorted(available("strategies", ROOT)))
def test_every_alignment_says_where_its_values_are_from(name):
    strategy = load_strategy(name, ROOT)
    if strategy.align.name != "none":
        found = re.search(r"github\.com/|\bours\b", strategy.description)
        assert found, "name the code that the values were read in, or say that they are ours"


def test_ranges_are_split_from_defaults_and_keep_their_place():
    text = "{a: {default: 0.1, low: 0.01, high: 1.0, log: true}, b: {c: {default: x, choices: [x, y]}}, d: 3}"
    raw = yaml.safe_load(text)
    values, space = split_space(raw)
    assert values == {"a": 0.1, "b": {"c": "x"}, "d": 3}
    assert set(space) == {"a", "b.c"} and space["a"].log and space["b.c"].choices == ("x", "y")


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({"a": {"default": 2.0, "low": 0.0, "high": 1.0}}, "outside its own search range"),
        ({"a": {"default": 1.0, "low": 1.0}}, "low and high"),
        ({"a": {"default": 1.0, "low": 2.0, "high": 1.0}}, "below high"),
        ({"a": {"default": 0.5, "low": 0.0, "high": 1.0, "log": True}}, "low > 0"),
    ],
)
def test_a_wrong_range_is_refused(raw, told):
    with pytest.raises(ConfigError, match=told):
        split_space(raw)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"protocol": {"sources": ["PAS@A"], "sedes": 3}}, "Did you mean 'seeds'"),
        ({"trainign": {}}, "Did you mean 'training'"),
        ({"strategies": ["source_onyl"]}, "Did you mean 'source_only'"),
        ({"model": "unet_smal"}, "Did you mean 'unet_small'"),
        ({"task": "glomeruli_segmentatoin"}, "Did you mean 'glomeruli_segmentation'"),
        ({"training": {"optimiser": "adamm"}}, "Did you mean 'adam'"),
        ({"training": {"learning_rate": -1}}, "greater than 0"),
        ({"patches": {"size": 32}}, "exactly one of mpp"),
        ({"patches": {"size": 32, "mpp": 1, "downsample": 2}}, "exactly one of mpp"),
        ({"manifest": "m.csv"}, "exactly one of manifest and phantom"),
        ({"strategies": [{"name": "a"}, {"name": "a"}]}, "named twice"),
        ({"strategies": []}, "strategies"),
        ({"strategies": "dann"}, "must be a list"),
        ({"protocol": {"sources": ["PAS@A"], "split": [0.5, 0.2, 0.2]}}, "add up to 1"),
        ({"study": "../outside"}, "study"),
        ({"model": 5}, r"'model' is 5, where settings belong \(name, params.*stainda list models"),
        ({"training": {"init": 5}}, r"'training.init' is 5, where settings belong \(name, pairs"),
    ],
)
def test_a_slip_is_named_with_what_to_do(changes, told):
    with pytest.raises(ConfigError, match=told):
        build(**changes)


def test_all_faults_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        build(seeed=1, training={"epochs": 0}, search={"trials": "many"})
    for word in ("seeed", "training.epochs", "search.trials"):
        assert word in str(caught.value)


def test_overrides_reach_nested_keys_and_replace_ranges():
    raw = {"training": {"learning_rate": {"default": 1e-3, "low": 1e-4, "high": 1e-2, "log": True}}}
    out = apply_overrides(raw, ["training.learning_rate=5e-3", "training.epochs=2", "strategies=[a, b]"])
    assert out == {"training": {"learning_rate": 5e-3, "epochs": 2}, "strategies": ["a", "b"]}
    with pytest.raises(ConfigError, match="key=value"):
        apply_overrides({}, ["epochs"])


def test_a_strategy_can_be_changed_in_place():
    changed = load_strategy({"from": "dann", "name": "dann_strong", "description": "More of it."}, ROOT)
    assert changed.name == "dann_strong" and changed.align.name == "dann"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\na: 2", "given twice"),
        ("a: [1, 2", "not valid YAML"),
        ("- 1", "key: value"),
        ("a: &x [1]\nb: *x", "aliases"),
        ("a: !!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_hostile_or_broken_yaml_is_refused(text, told):
    with pytest.raises(ConfigError, match=told):
        parse_yaml(text, Path("study.yaml"))


def test_numbers_are_read_as_people_write_them():
    assert parse_yaml("a: 1e-3\nb: 2\nc: 1.5E+2\nd: 2.0e-3", Path("x")) == {"a": 1e-3, "b": 2, "c": 150.0, "d": 2e-3}


def test_a_study_extends_another(tmp_path):
    from stainda.config import load_study
    from stainda.errors import ConfigError

    (tmp_path / "small").mkdir()
    (tmp_path / "base.yaml").write_text(
        "study: base\nmanifest: cohort/m.csv\npatches: {mpp: 1.0, size: 64}\nprotocol: {sources: [PAS@A], seeds: 3}\n"
        "training: {epochs: 9, learning_rate: {default: 1e-3, low: 1e-4, high: 1e-2}}\nstrategies: [source_only]\n"
    )
    small = tmp_path / "small" / "base.yaml"
    small.write_text("extends: ../base.yaml\nstudy: small\ntraining: {epochs: 2}\nstrategies: [source_only, dann]\n")
    study = load_study(small, ["protocol.seeds=1"])
    assert study.study == "small" and study.training.epochs == 2 and study.protocol.seeds == 1
    assert study.space["training.learning_rate"].high == 1e-2, "what is not said again is kept"
    assert study.manifest == tmp_path / "cohort" / "m.csv", "paths are those of the file that names them"
    assert [strategy.name for strategy in study.strategies] == ["source_only", "dann"]
    (tmp_path / "base.yaml").write_text("extends: small/base.yaml\n")
    with pytest.raises(ConfigError, match=r"extends base\.yaml, which extends this file"):
        load_study(small)
    small.write_text("extends: ../bsae.yaml\n")
    with pytest.raises(ConfigError, match=r"does not exist\. Did you mean 'base.yaml'"):
        load_study(small)


def test_strategies_that_a_study_defines_can_be_picked_by_name():
    own = {"from": "source_only", "name": "watershed", "instances": "watershed"}
    raw = {"study": "s", "strategies": [own, "dann"]}
    picked = apply_overrides(raw, ["strategies=[watershed, adabn]"])["strategies"]
    assert picked == [own, "adabn"] and raw["strategies"] == [own, "dann"]
    found = load_study("studies/monuseg_instances.yaml", ["strategies=[watershed, mask_rcnn]"])
    assert [strategy.title for strategy in found.strategies] == ["watershed", "Mask R-CNN"]
