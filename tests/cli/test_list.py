"""`stainda list`: found by family and by words, one line each, and one entry whole."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from typer.testing import CliRunner

from stainda.cli.app import app
from stainda.config.slide_level import Aggregator
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
    with pytest.raises(ConfigError, match=r"Did you mean dann, .*\?$"):
        find_entry(STRATEGIES, "strategies", "dan")
    with pytest.raises(ConfigError, match="coral"):
        find_entry(STRATEGIES, "strategies", "corall")


@pytest.mark.parametrize("kind", ["strategies", "models", "tasks", "heads", "aggregators", "stains", "parts", "data"])
def test_json_holds_everything(kind):
    entries = catalogue(kind)
    rows = json.loads(_run(kind, "--json"))
    assert [row["name"] for row in rows] == [entry.name for entry in entries]
    assert [row["description"] for row in rows] == [entry.description for entry in entries]
    assert json.loads(_run(kind, entries[-1].name, "--json"))[0]["name"] == entries[-1].name


def test_aggregators_and_heads_have_their_papers_and_numbers_of_parameters():
    """By hand: 512 features to 64 numbers and one answer; the support vector machine has a weight per feature."""
    sizes = {entry.name: entry.size for entry in catalogue("aggregators")}
    assert set(sizes) == set(get_args(Aggregator))
    assert sizes["mean"] == sizes["max"] == f"{512 * 64 + 64 + 64 + 1:,}" and sizes["svm"] == "513"
    gated = 2 * (64 * 64 + 64) + 64  # two branches of the attention and its answer
    assert abs(int(sizes["attention"].replace(",", "")) - int(sizes["mean"].replace(",", "")) - gated) <= 64 + 1
    text = _run("aggregators")
    for paper in ("Xu et al. 2015", "Ilse et al. 2018", "Lu et al. 2021", "Shao et al. 2021"):
        assert paper in text, text
    assert sizes["clam"] in text and "parameters, of 512 features" in text
    heads = {entry.name: entry.size for entry in catalogue("heads")}
    assert heads["distance"] == "17" and heads["horizontal_vertical"] == "34", "a convolution of one pixel for each map"
    assert heads["watershed"] == "0" and heads["regions"] == "those of its network"
    assert "stainda list aggregators" in _run("models")
