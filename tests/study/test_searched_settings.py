"""What is searched of each strategy: ranges, their defaults, and where drawn values are put."""

import pytest

from stainda.config import SearchConfig, SearchRange
from stainda.config.load import build_study
from stainda.config.space import split_space
from stainda.errors import ConfigError
from stainda.study.budget import budgets
from stainda.study.plan import plan_study
from stainda.study.search import StrategySearch
from stainda.study.setting_paths import value_at, with_drawn
from stainda.study.storage import sqlite_address
from stainda.training import resolve_training

RATE = {"default": 1e-3, "low": 1e-4, "high": 1e-2, "log": True}


def study(tmp_path, strategies, **values):
    raw = {
        "study": "x", "phantom": {"patients": 8, "size": 256}, "protocol": {"sources": ["PAS@*"]},
        "patches": {"mpp": 4.0}, "recipe": {"name": "mine", "model": "unet_small"}, "strategies": strategies, **values,
    }  # fmt: skip
    return build_study(raw, tmp_path / "absent.yaml")


def tried(place, space, defaults, trials=8):
    """The values of every trial of a search, the default first."""
    config = SearchConfig(trials=trials, sampler="random")
    search = StrategySearch("x", space, defaults, config, 1, sqlite_address(place / "search.db"))
    drawn = []
    for index in range(trials):
        drawn.append(search.suggest(index))
        search.tell(index, drawn[-1], 0.1 * index, f"job{index}")
    assert all(space[path].contains(value) for params in drawn for path, value in params.items())
    return drawn


def defaults_of(config, name):
    strategy = config.strategy(name)
    return {path: value_at(config, strategy, path) for path in config.searched(strategy)}


def test_a_strategy_does_not_search_what_it_sets_itself(tmp_path):
    slow = {"from": "source_only", "name": "slow", "training": {"learning_rate": 1e-5}}
    own = {"from": "source_only", "name": "own", "training": {"learning_rate": {"default": 5, "low": 1, "high": 9}}}
    config = study(tmp_path, ["source_only", slow, own], training={"learning_rate": RATE})
    assert defaults_of(config, "source_only") == {"training.learning_rate": 1e-3}
    assert defaults_of(config, "slow") == {}
    assert config.searched(config.strategy("own"))["training.learning_rate"].high == 9
    found = {budget.strategy: (budget.trials, budget.settings) for budget in budgets(config)}
    many = (config.search.trials, "training.learning_rate")
    assert many[0] > 1 and found == {"source_only": many, "slow": (1, ""), "own": many}
    plan_study(config)


def test_a_default_outside_its_range_is_refused_before_the_start(tmp_path):
    config = study(tmp_path, ["source_only", "dann"])
    plan_study(config)
    config = config.model_copy(update={"space": {"training.learning_rate": SearchRange(low=2, high=3)}})
    with pytest.raises(ConfigError) as refused:
        plan_study(config)
    assert "source_only: training.learning_rate is 0.001" in str(refused.value) and "2 to 3" in str(refused.value)


@pytest.mark.parametrize(
    ("values", "inside"),
    [
        ({"default": 0.3, "low": 0, "high": 1, "step": 0.1}, True),
        ({"default": 0.25, "low": 0, "high": 1, "step": 0.1}, False),
        ({"default": 4, "low": 1, "high": 9, "step": 2}, False),
        ({"default": 5, "low": 1, "high": 9, "step": 2}, True),
        ({"default": 0.95, "low": 0.05, "high": 1.0, "step": 0.1}, True),
        ({"default": 1.0, "low": 0.05, "high": 1.0, "step": 0.1}, False),
    ],
)
def test_a_default_lies_on_the_grid_of_its_range(values, inside, tmp_path):
    """As Optuna sees it, which refuses the first trial otherwise, after it is trained."""
    if not inside:
        with pytest.raises(ConfigError, match=r"outside its own search range, .* in steps of"):
            split_space({"w": values})
        return
    plain, space = split_space({"w": values})
    tried(tmp_path, space, plain)


@pytest.mark.parametrize(
    ("values", "whole"),
    [
        ({"default": 1, "low": 0.1, "high": 10, "log": True}, False),
        ({"default": 1, "low": 0.5, "high": 2.5}, False),
        ({"default": 1, "low": 0, "high": 2, "step": 0.5}, False),
        ({"default": 4, "low": 1.0, "high": 9}, True),
        ({"default": 1.0, "low": 1, "high": 9}, False),
    ],
)
def test_whole_numbers_are_searched_where_default_and_limits_are_whole(values, whole, tmp_path):
    plain, space = split_space({"w": values})
    assert space["w"].integer == whole
    assert (
        SearchRange.model_validate({**space["w"].model_dump(), "integer": isinstance(values["default"], int)})
        == (space["w"])
    ), "a resolved study of an earlier version"
    drawn = [params["w"] for params in tried(tmp_path, space, plain)]
    assert drawn[0] == values["default"] and len(set(drawn)) > 2
    assert all(float(value).is_integer() for value in drawn) == whole


def test_a_nested_setting_of_the_loop_is_searched_and_the_rest_of_it_stays(tmp_path):
    cooler = {"name": "simclr", "temperature": {"default": 0.1, "low": 0.05, "high": 0.5}, "epochs": 3}
    strategies = [
        "source_only",
        {"from": "source_only", "name": "cool", "training": {"init": cooler}},
        {"from": "source_only", "name": "whole", "training": {"train": "all"}},
    ]
    blocks = {"default": 2, "low": 1, "high": 4}
    config = study(tmp_path, strategies, training={"train": {"mode": "last_n", "blocks": blocks}})
    assert defaults_of(config, "source_only") == {"training.train.blocks": 2}
    assert defaults_of(config, "cool") == {"training.train.blocks": 2, "training.init.temperature": 0.1}
    assert defaults_of(config, "whole") == {}

    def drawn(name, params):
        return resolve_training(config.training, with_drawn(config, config.strategy(name), params))

    assert drawn("source_only", {}) == drawn("source_only", {"training.train.blocks": 2})
    assert str(drawn("source_only", {"training.train.blocks": 3}).train) == "last_n (blocks 3)"
    found = drawn("cool", {"training.train.blocks": 4, "training.init.temperature": 0.3})
    assert (found.train.mode, found.train.blocks) == ("last_n", 4)
    assert (found.init.name, found.init.temperature, found.init.epochs) == ("simclr", 0.3, 3)
    plan_study(config)
