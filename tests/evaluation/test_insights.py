"""What is said of the made-up study beyond its means, and what is not said of a single patient."""

import numpy as np
from record_makers import study_config, study_records

from stainda.evaluation import analyse, one_rotation
from stainda.evaluation.insights import insights

MEANS = {
    "source_only": {"PAS@A": 0.9, "SR@A": 0.4, "CD68@A": 0.3},
    "dann": {"PAS@A": 0.9, "SR@A": 0.7, "CD68@A": 0.6},
    "greyscale": {"PAS@A": 0.9, "SR@A": 0.402, "CD68@A": 0.302},
    "oracle": {"PAS@A": 0.9, "SR@A": 0.9, "CD68@A": 0.8},
}


def looked_into(patients=("p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8")):
    records = study_records(MEANS, patients=patients)
    config = study_config(tuple(MEANS))
    return insights(analyse([one_rotation(records, config)], config), config)


def test_the_better_strategy_is_ranked_first_and_the_ceiling_is_no_contender():
    found = looked_into()
    assert "oracle" not in found.strategies
    best = found.strategies[int(np.argmin(found.ranking.ranks))]
    assert best == "dann" and found.ranking.tested
    others = [place for place, name in enumerate(found.strategies) if name != "dann"]
    assert (found.ranking.pairwise[found.strategies.index("dann"), others] < 0.01).all()


def test_equal_is_told_from_better():
    effects = looked_into().effects.set_index("strategy")
    assert effects.loc["dann", "p_better"] > 0.99
    equal = effects.loc["greyscale", ["p_worse", "p_equal", "p_better"]].astype(float)
    assert equal.idxmax() == "p_equal", "a gain of 0.002 lies within the region of equivalence"
    assert effects.loc["dann", "share_higher"] == 1 and effects.loc["dann", "n_patients"] == 8
    assert (effects["n_seeds"] == 2).all()


def test_one_training_allows_no_verdict_and_no_pair_to_differ():
    records = study_records(MEANS, patients=[f"p{index}" for index in range(8)], seeds=(0,))
    config = study_config(tuple(MEANS))
    found = insights(analyse([one_rotation(records, config)], config), config)
    assert found.effects["p_better"].isna().all() and found.effects["hedges_g"].notna().all()
    assert not found.ranking.tested and found.ranking.groups() == [] and "one training" in found.ranking.note
    assert np.isfinite(found.ranking.ranks).all(), "the ranks themselves are there"


def test_one_patient_allows_no_verdict():
    found = looked_into(("p1",))
    assert not found.ranking.tested and found.effects["p_better"].isna().all()
    assert found.effects["note"].str.contains("one patient").all()
