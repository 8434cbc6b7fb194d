"""Strategies with target labels stand apart: tested among themselves, and never ranked or the best without labels."""

import numpy as np
import pytest
from record_makers import study_config, study_records

from stainda.config import StrategyConfig, load_strategy
from stainda.evaluation import analyse, one_rotation
from stainda.evaluation.comparison import holm
from stainda.evaluation.groups import contenders, few_labels, group_of, with_few
from stainda.evaluation.insights import insights
from stainda.strategies.labels.base import FewShotLabels
from stainda.strategies.parts import PARTS

LABELS = {
    "source_only": "source", "dann": "source", "propagated_labels": "propagated", "few_shot": {"name": "few_shot"},
    "few_patients": {"name": "few_shot", "k": 1, "unit": "patients"}, "oracle": "all", "second_oracle": "all",
}  # fmt: skip
LEVELS = {
    "source_only": 0.5, "dann": 0.6, "propagated_labels": 0.7, "few_shot": 0.85, "few_patients": 0.8, "oracle": 0.9,
    "second_oracle": 0.91,
}  # fmt: skip


@pytest.fixture(scope="module")
def config():
    strategies = [StrategyConfig(name=name, labels=labels) for name, labels in LABELS.items()]
    return study_config(strategies=tuple(LABELS)).model_copy(update={"strategies": tuple(strategies)})


@pytest.fixture(scope="module")
def records():
    rng = np.random.default_rng(3)
    means = {name: {"PAS@A": 0.9, "SR@A": level, "JONES@A": level - 0.1} for name, level in LEVELS.items()}
    table = study_records(means)
    noise = rng.normal(0, 40, len(table)).round()
    return table.assign(fp=(table["fp"] + noise.clip(min=0)).where(table["measure"] == "dice", table["fp"]))


@pytest.fixture(scope="module")
def found(records, config):
    return analyse([one_rotation(records, config)], config)


def test_every_part_that_uses_target_truth_is_set_apart_and_no_other():
    for name, part in PARTS["labels"].items():
        study = study_config(strategies=("source_only", "mine"))
        mine = StrategyConfig(name="mine", labels=name)
        study = study.model_copy(update={"strategies": (study.strategies[0], mine)})
        assert (group_of(study, "mine") != "without") == part.uses_target_truth, name
        assert (group_of(study, "mine") == "few") == (part(**{}).few is not None), name


def test_the_ceiling_is_apart_by_name_and_propagated_labels_are_in_the_ranking(config):
    assert contenders(config, LABELS) == ["source_only", "dann", "propagated_labels"]
    assert with_few(config, LABELS) == ["few_shot", "few_patients"]
    bare = study_config(strategies=("source_only", "oracle"))
    assert group_of(bare, "oracle") == "all", "the ceiling, whatever its labels are said to be"
    assert group_of(bare, "of an earlier study") == "without"


def test_words_name_how_many_labels_there_were(config):
    assert few_labels(config, "few_shot") == f"{FewShotLabels().k} patches of every target domain"
    assert few_labels(config, "few_patients") == "1 patient of every target domain"
    shipped = config.model_copy(update={"strategies": (load_strategy("few_shot"), load_strategy("few_shot_patient"))})
    assert [group_of(shipped, strategy.name) for strategy in shipped.strategies] == ["few", "few"]


def test_few_shot_strategies_are_corrected_among_themselves_and_change_no_other_p(found, records, config):
    rows = found.differences
    rows = rows[(rows["measure"] == "dice") & (rows["selection"] == "source_validation")]
    rows = rows[rows["domain"] == "all targets"].set_index("strategy")
    assert list(rows.loc[["dann", "propagated_labels"], "family"]) == ["overall"] * 2
    assert list(rows.loc[["few_shot", "few_patients"], "family"]) == ["few target labels, overall"] * 2
    assert list(rows.loc[["oracle", "second_oracle"], "family"]) == ["ceiling"] * 2
    for family in (["dann", "propagated_labels"], ["few_shot", "few_patients"]):
        np.testing.assert_allclose(rows.loc[family, "p_holm"], holm(rows.loc[family, "p"].to_numpy(float)))
    assert rows.loc[["oracle", "second_oracle"], "p_holm"].isna().all()
    fewer = [name for name in LABELS if "few" not in name]
    study = config.model_copy(
        update={"strategies": tuple(strategy for strategy in config.strategies if strategy.name in fewer)}
    )
    without = analyse([one_rotation(records[records["strategy"].isin(fewer)], study)], study).differences
    without = without[(without["measure"] == "dice") & (without["selection"] == "source_validation")]
    without = without[without["domain"] == "all targets"].set_index("strategy")
    assert without.loc["dann", "p_holm"] == rows.loc["dann", "p_holm"]


def test_ranks_are_of_strategies_without_target_labels_and_all_others_still_have_effects(found, records, config):
    seen = insights(found, config)
    assert seen.strategies == ("source_only", "dann", "propagated_labels")
    assert set(seen.effects["strategy"]) == set(LABELS) - {"source_only"}


def test_few_shot_still_has_scores_and_its_share_of_the_gap(found):
    gaps = found.gaps[(found.gaps["domain"] == "all targets") & (found.gaps["measure"] == "dice")]
    assert {"few_shot", "few_patients"} <= set(gaps["strategy"])
