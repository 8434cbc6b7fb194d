"""Reliability of simulated annotators, measured on sections that are in no cohort, and what it decides."""

from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest

from stainda.annotations.votes import share_of_yes
from stainda.config import PhantomConfig, load_study
from stainda.errors import ConfigError
from stainda.phantom import qualification
from stainda.phantom.section import plan_sections

STUDIES = Path(__file__).parents[2] / "studies"


def small(**changes):
    return PhantomConfig(**{"stains": ["PAS"], "centres": ["A"], "size": 768, "mpp": 1.5, "seed": 3, **changes})


def test_reliability_is_the_dice_with_the_truth():
    annotators = {"exact": {}, "blind": {"missed": 1.0}, "half": {"missed": 0.5}, "eager": {"invented": 1.0}}
    measured = qualification.measured_reliability(small(annotators=annotators), sections=12)
    assert measured["exact"] == pytest.approx(1) and measured["blind"] == 0
    assert measured["half"] == pytest.approx(2 / 3, abs=0.07)  # 2 · ½ / (1 + ½)
    assert 0.6 < measured["eager"] < 0.8  # 2 / (1 + 2) if there were room for all that is invented


def test_sections_of_reference_are_of_no_cohort(monkeypatch):
    seen = []

    def plans(config):
        seen.extend(plan_sections(config))
        return seen

    monkeypatch.setattr(qualification, "plan_sections", plans)
    config = small(annotators={"one": {}, "two": {"missed": 0.2}}, annotated_at=["A"], artefacts=["fold"], patients=2)
    assert set(qualification.measured_reliability(config, sections=3)) == {"one", "two"}
    assert len(seen) == 3 and not {plan.seed for plan in seen} & {plan.seed for plan in plan_sections(config)}
    assert not any(plan.artefacts for plan in seen)


def test_a_cohort_without_annotators_has_no_reliability():
    with pytest.raises(ConfigError, match="in a cohort that has annotators"):
        qualification.measured_reliability(small())


@pytest.mark.parametrize("name", ["crowds.yaml", "small/crowds.yaml"])
def test_a_study_gives_what_is_measured(name):
    study = load_study(STUDIES / name)
    given = [
        row.labels.params["reliability"] for row in study.strategies if row.labels.params.get("method") == "weighted"
    ]
    assert given and all(table == given[0] for table in given)
    assert given[0] == pytest.approx(qualification.measured_reliability(study.phantom), abs=6e-4)


def test_measured_weights_decide_otherwise_than_the_majority():
    """Of three annotators where the best outweighs the two others, of all seven where three outweigh four."""
    table = load_study(STUDIES / "crowds.yaml").strategies[1].labels.params["reliability"]
    differ = {}
    for count in (3, 5, 7):
        votes = np.array(list(product((0, 1), repeat=count)), np.int8)
        plain = share_of_yes(votes) > 0.5
        weighted = [share_of_yes(votes, [table[name] for name in some]) > 0.5 for some in combinations(table, count)]
        differ[count] = sum(bool((plain != other).any()) for other in weighted)
    assert differ == {3: 6, 5: 14, 7: 1}  # of 35, 21 and 1 choices of annotators
