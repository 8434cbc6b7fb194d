"""Strategy files: what they may say, what a mistake in one is answered with."""

import subprocess
import sys

import pytest

from stainda.config import (
    PartConfig,
    PatchConfig,
    ProtocolConfig,
    StrategyConfig,
    StudyConfig,
    TaskConfig,
    available,
    load_strategy,
)
from stainda.errors import ConfigError
from stainda.strategies import PARTS, build, check, describe_parts
from stainda.strategies.parts import build_part
from stainda.study import catalogue

ISSUE_2 = {
    "source_only", "colour_jitter", "hed_augmentation", "greyscale", "macenko", "reinhard", "adabn", "dann", "mmd",
    "propagated_labels", "oracle",
}  # fmt: skip


def _study(strategy, **protocol):
    return StudyConfig(
        study="s", phantom={}, patches=PatchConfig(downsample=1), strategies=(strategy,),
        protocol=ProtocolConfig(sources=("PAS@A",), **protocol), task=TaskConfig(kind=build(strategy).tasks[0]),
    )  # fmt: skip


def test_the_strategies_of_the_first_study_are_there_and_explained():
    listed = {row.name: row for row in catalogue("strategies")}
    assert set(listed) >= ISSUE_2 and len(listed) >= 40
    for row in listed.values():
        assert len(row.description) > 80, row.name
        assert "view" in row.parts and "norm" in row.parts and ("segmentation" in row.tasks) == (row.name != "ac_gan")


@pytest.mark.parametrize("name", sorted(available("strategies")))
def test_every_strategy_file_builds_and_fits_a_study(name):
    config = load_strategy(name)
    check(build(config), _study(config))
    for path, found in config.space.items():
        for value in found.choices or (found.low, found.high):
            assert build(config.with_values({path: value})).config != build(config).config or found.contains(value)


def test_only_the_ceiling_and_few_shot_labels_may_see_the_targets_own_annotations():
    seeing = {name for name in available("strategies") if build(load_strategy(name)).may_see_target_truth}
    ceilings = {"oracle", "oracle_per_domain"}
    assert seeing == ceilings | {"few_shot", "few_shot_patient"}
    assert {name for name in seeing if build(load_strategy(name)).labels.few is None} == ceilings


def test_the_plain_baseline_shares_statistics_and_alignment_keeps_them_per_domain():
    norms = {name: build(load_strategy(name)).norm.name for name in ("source_only", "adabn", "dann", "mmd")}
    assert norms == {"source_only": "shared", "adabn": "per_domain", "dann": "per_domain", "mmd": "per_domain"}


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"align": "dan"}, "unknown align 'dan'. Did you mean 'dann'?"),
        ({"align": {"name": "dann", "weigth": 1}}, "Did you mean 'weight'?"),
        ({"align": {"name": "dann", "weight": -1}}, "greater than or equal to 0"),
        ({"align": {"name": "dann", "schedule": "warmup"}}, "Did you mean 'warm_up'?"),
        ({"view": "grayscale"}, "Did you mean 'greyscale'?"),
        ({"view": "hed"}, "is a part of kind 'augment'"),
        ({"augment": ["geometry", {"name": "colour_jitter", "strength": "huge"}]}, "Known: light, strong"),
        ({"norm": {"name": "group", "groups": 0}}, "greater than or equal to 1"),
        ({"labels": "target"}, "Known: all, annotators, few_shot, propagated, source"),
    ],
)
def test_a_mistake_names_its_place_and_the_nearest_right_word(parts, says):
    with pytest.raises(ConfigError) as caught:
        build(StrategyConfig(name="mine", **parts))
    assert says in str(caught.value) and "strategy mine" in str(caught.value)


def test_a_strategy_that_needs_hidden_targets_is_refused_before_the_study_starts():
    for name in ("dann", "mmd", "propagated_labels"):
        config = load_strategy(name)
        with pytest.raises(ConfigError, match="hides"):
            check(build(config), _study(config, visible="nothing"))
    plain = load_strategy("source_only")
    check(build(plain), _study(plain, visible="nothing"))


def test_a_search_range_for_a_parameter_that_does_not_exist_is_refused():
    config = load_strategy({"from": "dann", "name": "mine", "align": {"wait": {"default": 1.0, "low": 0.5, "high": 2}}})
    config = config.model_copy(update={"align": PartConfig(name="dann")})
    with pytest.raises(ConfigError, match="wait"):
        check(build(config), _study(config))


NEEDED = {"together": {"parts": {"dann": {"weight": 0.2}, "coral": {}}}}
"""Parameters without a default."""


def test_a_part_written_back_builds_the_same_part():
    for kind, parts in PARTS.items():
        for name in parts:
            made = build_part(kind, PartConfig(name=name, params=NEEDED.get(name, {})), "test")
            assert build_part(kind, made.config, "test").model_dump() == made.model_dump()
            assert made.summary().endswith((".", ":"))
    assert len(describe_parts()) == sum(map(len, PARTS.values()))


def test_checking_strategies_does_not_wait_for_torch():
    code = "import sys; from stainda.study import catalogue; catalogue('strategies'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
