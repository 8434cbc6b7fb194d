"""`stainda list`: found by family and by words, one line each, and one entry whole."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from stainda.cli.app import app
from stainda.errors import ConfigError
from stainda.study import catalogue
from stainda.study.listing import FAMILIES, FIRST, find_entry, pick

STRATEGIES = catalogue("strategies")


def _run(*words: str) -> str:
    result = CliRunner().invoke(app, ["list", *words])
    assert result.exit_code == 0, result.output
    return result.output


def test_every_strategy_is_one_line_in_one_family():
    lines = _run("strategies").splitlines()
    for strategy in STRATEGIES:
        assert sum(line.split()[:1] == [strategy.name] for line in lines) == 1, strategy.name
    assert len(lines) < len(STRATEGIES) + 4 * len(FAMILIES)
    assert {strategy.family for strategy in STRATEGIES} <= set(FAMILIES)
    assert not [strategy.name for strategy in STRATEGIES if strategy.family == "other alignment"], (
        "name their family in listing.py"
    )
    assert f"start with: {', '.join(FIRST)}"[:40] in _run("strategies")


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("source_only", "baseline"), ("adabn", "batch statistics"), ("dann", "adversarial"), ("coral", "discrepancy"),
        ("hed_augmentation", "augmentation"), ("macenko", "colour views"), ("mean_teacher", "self-training"),
        ("irm", "generalisation"), ("serial_dann", "serial sections"), ("propagated_dann", "propagated labels"),
        ("few_shot", "few target labels"), ("tent", "at test time"), ("oracle", "ceiling"), ("mcd", "predictions"),
    ],
)  # fmt: skip
def test_families_are_those_of_the_field(name, family):
    assert find_entry(STRATEGIES, "strategies", name).family == family


def test_a_family_and_words_narrow_the_list():
    adversarial = pick(STRATEGIES, "strategies", "Adversarial")
    assert "dann" in {one.name for one in adversarial} and "coral" not in {one.name for one in adversarial}
    found = {one.name for one in pick(STRATEGIES, "strategies", search="ganin discriminator")}
    assert "dann" in found and "adabn" not in found
    assert "adabn" not in _run("strategies", "--family", "adversarial")
    with pytest.raises(ConfigError, match="Did you mean 'adversarial'"):
        pick(STRATEGIES, "strategies", "adverserial")
    with pytest.raises(ConfigError, match="none of the strategies speaks of 'zebra'"):
        pick(STRATEGIES, "strategies", search="zebra")
    with pytest.raises(ConfigError, match="no families"):
        pick(catalogue("tasks"), "tasks", "x")


def test_one_is_described_whole_and_a_wrong_name_is_answered():
    text = _run("strategies", "dann")
    assert "reversed gradient" in text and "Ganin" in text and "dann.yaml" in text
    assert "glomerul" in _run("tasks", "glomeruli_segmentation").splitlines()[1].casefold()
    with pytest.raises(ConfigError, match=r"Did you mean .*dann"):
        find_entry(STRATEGIES, "strategies", "dan")
    with pytest.raises(ConfigError, match="coral"):
        find_entry(STRATEGIES, "strategies", "corall")


@pytest.mark.parametrize("kind", ["strategies", "models", "tasks", "stains", "parts", "data"])
def test_json_holds_everything(kind):
    entries = catalogue(kind)
    rows = json.loads(_run(kind, "--json"))
    assert [row["name"] for row in rows] == [entry.name for entry in entries]
    assert [row["description"] for row in rows] == [entry.description for entry in entries]
    assert json.loads(_run(kind, entries[-1].name, "--json"))[0]["name"] == entries[-1].name
