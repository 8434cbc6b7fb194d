"""What is searched of each strategy: ranges, their defaults, and where drawn values are put."""

import pytest

from stainda.config import SearchRange
from stainda.config.load import build_study
from stainda.errors import ConfigError
from stainda.study.budget import budgets
from stainda.study.plan import plan_study
from stainda.study.setting_paths import value_at

RATE = {"default": 1e-3, "low": 1e-4, "high": 1e-2, "log": True}


def study(tmp_path, strategies, **values):
    raw = {
        "study": "x", "phantom": {"patients": 8, "size": 256}, "protocol": {"sources": ["PAS@*"]},
        "patches": {"mpp": 4.0}, "recipe": {"name": "mine", "model": "unet_small"}, "strategies": strategies, **values,
    }  # fmt: skip
    return build_study(raw, tmp_path / "absent.yaml")


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
