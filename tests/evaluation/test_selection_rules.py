"""Selection rules see what they may see, and choose what a person would."""

from __future__ import annotations

import pandas as pd
import pytest
from record_makers import counts_for, rows_of

from stainda.errors import LeakError, RecordError
from stainda.evaluation import SelectionRule, as_records, chosen_records, rule, select
from stainda.evaluation.selection import as_reported


def two_trials() -> pd.DataFrame:
    """Trial 0 is better on source validation, trial 1 on the targets; the last checkpoint is worse."""
    rows: list[dict] = []
    for trial, source, target in ((0, 0.9, 0.5), (1, 0.8, 0.7)):
        for checkpoint, loss in (("best", 0.0), ("last", 0.1)):
            where = dict(trial=trial, checkpoint=checkpoint)
            rows += rows_of("dann", "PAS@A", "v", counts_for(source - loss), split="val", **where)
            rows += rows_of("dann", "PAS@A", "p", counts_for(source - loss), **where)
            rows += rows_of("dann", "SR@A", "p", counts_for(target - loss), **where)
            rows += rows_of("dann", "CD68@A", "p", counts_for(1 - target - loss), **where)
    return as_records(pd.DataFrame(rows))


def test_source_validation_last_and_oracle_choose_as_their_names_say():
    choices = select(two_trials(), ["PAS@A"]).set_index(["selection", "domain"])
    assert tuple(choices.loc[("source_validation", "*"), ["trial", "checkpoint"]]) == (0, "best")
    assert tuple(choices.loc[("last", "*"), ["trial", "checkpoint"]]) == (0, "last")
    assert choices.loc[("oracle_selection", "SR@A"), "trial"] == 1
    assert choices.loc[("oracle_selection", "CD68@A"), "trial"] == 0
    assert choices["uses_target_labels"].tolist() == [False, False, True, True, True]
    assert choices.loc[("source_validation", "*"), "score"] == pytest.approx(0.9)


def test_changing_target_scores_changes_nothing_but_the_oracle():
    table = two_trials()
    spoiled = table.copy()
    spoiled.loc[(spoiled["split"] == "test"), ["tp", "value"]] = 0.0
    honest = [one for one in ("source_validation", "last")]
    first, second = (select(one, ["PAS@A"]) for one in (table, spoiled))
    pd.testing.assert_frame_equal(
        first[first["selection"].isin(honest)].reset_index(drop=True),
        second[second["selection"].isin(honest)].reset_index(drop=True),
    )


def test_a_rule_that_does_not_declare_it_is_never_handed_test_scores():
    seen = []

    class Nosy(SelectionRule):
        name, title = "nosy", "nosy"

        def choose(self, candidates):
            seen.append(set(candidates.columns))
            return candidates.index[0]

    select(two_trials(), ["PAS@A"], rules=[Nosy()])
    assert seen and all("test" not in columns for columns in seen)


def test_validation_rows_of_a_target_domain_are_a_leak():
    leak = as_records(pd.DataFrame(rows_of("dann", "SR@A", "v", counts_for(0.5), split="val")))
    with pytest.raises(LeakError, match="SR@A"):
        select(pd.concat([two_trials(), leak]), ["PAS@A"])


def test_what_the_search_settled_on_is_kept_because_only_that_has_seeds():
    trials = pd.DataFrame(
        {"strategy": "dann", "trial": [0, 1], "value": [0.6, 0.7], "chosen": [False, True], "seed": 0}
    )
    choice = select(two_trials(), ["PAS@A"], trials).iloc[0]
    assert (choice["trial"], choice["checkpoint"]) == (1, "best")
    unmarked = trials.assign(chosen=False, value=[0.9, 0.7])
    assert select(two_trials(), ["PAS@A"], unmarked).iloc[0]["trial"] == 0


def test_a_tie_goes_to_the_earlier_trial_which_is_the_default_setting():
    rows: list[dict] = []
    for trial in (3, 1, 2):
        rows += rows_of("dann", "PAS@A", "v", counts_for(0.8), split="val", trial=trial)
        rows += rows_of("dann", "SR@A", "p", counts_for(0.8), trial=trial)
    assert select(as_records(pd.DataFrame(rows)), ["PAS@A"]).iloc[0]["trial"] == 1


def test_chosen_records_are_the_rows_of_the_choice_per_domain_for_the_oracle():
    table = two_trials()
    choices = select(table, ["PAS@A"])
    oracle = chosen_records(table[table["split"] == "test"], choices, "oracle_selection")
    assert set(oracle.loc[oracle["domain"] == "SR@A", "trial"]) == {1}
    assert set(oracle.loc[oracle["domain"] == "CD68@A", "trial"]) == {0}
    assert set(chosen_records(table, choices, "last")["checkpoint"]) == {"last"}
    assert chosen_records(table, choices, "unknown").empty


def test_without_a_last_checkpoint_that_rule_has_no_row():
    table = two_trials()
    choices = select(table[table["checkpoint"] == "best"], ["PAS@A"])
    assert "last" not in set(choices["selection"])
    with pytest.raises(RecordError, match="Did you mean 'last'"):
        rule("lst")


def test_scores_without_labels_choose_between_trials_and_a_rule_without_its_score_chooses_nothing():
    table = two_trials()
    looks = pd.DataFrame(
        {"strategy": "dann", "trial": [0, 0, 1, 1], "seed": 0, "checkpoint": ["best", "last"] * 2,
         "information": [0.1, 0.5, 0.2, 0.3], "entropy": [-0.1, -0.2, -0.3, -0.4]}
    )  # fmt: skip
    name = table["strategy"].iloc[0]
    choices = select(table, ["PAS@A"], unsupervised=looks.assign(strategy=name))
    choices = choices[choices["strategy"] == name].set_index("selection")
    present = table[["trial", "checkpoint"]].drop_duplicates()
    asked = looks.merge(present, on=["trial", "checkpoint"])
    for score in ("information", "entropy"):
        best = asked.loc[asked[score].idxmax()]
        assert (choices.loc[score, "trial"], choices.loc[score, "checkpoint"]) == (best["trial"], best["checkpoint"])
        assert not choices.loc[score, "uses_target_labels"]
    assert "clusters" not in choices.index and "validation_and_clusters" not in choices.index
    assert "validation_and_information" in choices.index


def test_a_training_made_again_is_reported_in_place_of_the_one_it_repeats():
    rows = pd.DataFrame(
        [("a", 0, 1, "best", 0.5), ("a", 0, 1, "refit", 0.6), ("a", 0, 1, "last", 0.4), ("a", 0, 2, "best", 0.7)],
        columns=["strategy", "trial", "seed", "checkpoint", "value"],
    )
    assert as_reported(rows)["value"].tolist() == [0.6, 0.7]
