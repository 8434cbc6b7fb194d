"""The first sentence of the page says what was shown, also where the highest mean is not what was shown."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from stainda.config import StrategyConfig
from stainda.evaluation.effect import Effect
from stainda.evaluation.summary import ALL_TARGETS
from stainda.report import answer, cautions, summary_text
from stainda.report.tables import footnoted

TASK = SimpleNamespace(kind="segmentation")
STUDY = SimpleNamespace(baseline="plain", evaluation=SimpleNamespace(level=0.95), task=TASK)
RUN = SimpleNamespace(study=STUDY, label=lambda name: name.title(), effects={})


def said_of_the_ceiling(monkeypatch, ceiling="oracle", oracle=0.8, dann=0.8, closed=None):
    """Sentences about the ceiling where these are the means over all targets, the baseline's being .5."""
    for module in (answer, summary_text):
        monkeypatch.setattr(module, "headline", lambda table, *_: table)
    row = {"domain": ALL_TARGETS, "low": 0.4, "high": 0.9, "interval_kind": "interval"}
    names = ("plain", "dann", "oracle")
    study = SimpleNamespace(
        baseline="plain", ceiling=ceiling, task=TASK, evaluation=SimpleNamespace(level=0.95, rope=0.01),
        strategies=[StrategyConfig(name=name) for name in names],
    )  # fmt: skip
    means = zip(names, (0.5, dann, oracle), strict=True)
    gaps = [] if closed is None else [{"strategy": "dann", **row, "gap_closed": closed, "low": 0.1, "high": 0.9}]
    analysis = SimpleNamespace(
        results=pd.DataFrame([{"strategy": name, "mean": mean, **row} for name, mean in means]),
        gaps=pd.DataFrame(gaps, columns=["strategy", "domain", "gap_closed", "low", "high", "interval_kind"]).astype(
            {"gap_closed": float}
        ),
    )
    return answer._gap(SimpleNamespace(study=study, label=RUN.label), analysis)


@pytest.mark.parametrize(("ceiling", "sentences"), [("oracle", 1), ("plain", 0)])
def test_a_ceiling_that_is_the_baseline_is_not_called_one(ceiling, sentences, monkeypatch):
    assert len(said_of_the_ceiling(monkeypatch, ceiling)) == sentences


def test_a_ceiling_below_a_strategy_is_called_none_and_no_share_of_the_gap_is_given(monkeypatch):
    below = said_of_the_ceiling(monkeypatch, oracle=0.6, closed=3.0)
    assert [sentence.kind for sentence in below][1:] == ["caution"]
    assert "Dann scored above Oracle (0.80 against 0.60)" in below[1].text
    assert not any("closes most" in sentence.text for sentence in below)
    within = said_of_the_ceiling(monkeypatch, oracle=0.795, closed=1.0)  # less than what is practically nothing
    assert len(within) == 1 and "closes most" in within[0].text


def said(
    monkeypatch, gains: dict[str, tuple[float, float]], n: int = 14, run=RUN, means: dict[str, float] | None = None
) -> list[str]:
    """Sentences for strategies with these differences from the baseline and p after Holm, of 14 patients.

    ``means``: over all that a strategy has, where these are others than those of its gain.
    """
    for module in (answer, summary_text):
        monkeypatch.setattr(module, "headline", lambda table, *_: table)
    common = {"domain": ALL_TARGETS, "family": "overall", "n_patients": n, "n_seeds": 3, "interval_kind": "interval"}
    differences = pd.DataFrame(
        [
            {"strategy": name, "difference": gain, "low": gain - 0.01, "high": gain + 0.01, "p_holm": p, **common}
            for name, (gain, p) in gains.items()
        ]
    )
    common_means = {"plain": 0.79} | {name: 0.79 + gain for name, (gain, _) in gains.items()}
    without = pd.DataFrame(
        [
            {"mean": mean, "low": np.nan, "high": np.nan, "interval_kind": "none"}
            for mean in (common_means | (means or {})).values()
        ],
        index=list(common_means),
    )
    shifts = np.linspace(-0.01, 0.01, n)
    analysis = SimpleNamespace(
        differences=differences, on_common_cells=lambda names, _: [common_means[name] + shifts for name in names]
    )
    return [one.text for one in answer._best_against_baseline(run, analysis, without, n)]


def test_what_was_shown_leads_though_another_mean_is_higher(monkeypatch):
    found = said(monkeypatch, {"macenko": (0.012, 0.2), "randstainna": (0.010, 0.003), "grey": (-0.03, 0.2)})
    assert found[0] == (
        "Randstainna is shown to be better than Plain on the targets: Dice 0.80 against 0.79 for the baseline, in 14 "
        "patients."
    )
    assert found[1].startswith("Paired by patient, Randstainna gains +0.01 against Plain (95\u00a0% interval")
    assert "p = 0.003" in found[1] and "largest margin" not in found[1]
    assert found[2].startswith("Macenko scored highest (Dice 0.80 against 0.79 for the baseline), +0.01 against Plain")
    assert "could not be shown to differ" in found[2]
    assert "all 14 patients scored higher" in found[2] and len(found) == 3
    assert not any("No difference" in one for one in found)


@pytest.mark.parametrize("p", [0.003, 0.2])
def test_the_highest_mean_alone(monkeypatch, p):
    found = said(monkeypatch, {"macenko": (0.012, p), "grey": (-0.03, 0.01)})
    first = (
        "Macenko is shown to be better than Plain on the targets: Dice 0.80 against 0.79 for the baseline"
        if p < 0.05
        else "Macenko scored highest (0.80 against 0.79 for the baseline), but no difference could be shown with 14 "
        "patients and three trainings each."
    )
    assert found[0].startswith(first)
    assert ("the largest margin" in found[1]) == (p < 0.05)
    assert found[2] == "Shown to be worse than Plain: Grey (−0.03)."


def test_what_gains_most_is_not_said_to_score_highest_where_another_has_the_higher_mean(monkeypatch):
    """Means are of what each has, gains of what both have; the scores shown are those of the gain."""
    found = said(monkeypatch, {"macenko": (0.2, 0.2), "grey": (0.1, 0.3)}, means={"macenko": 0.6, "grey": 0.9})
    assert found[0].startswith("Macenko has the largest gain over Plain (0.99 against 0.79 for the baseline), but no")
    assert found[1].endswith("all 14 patients scored higher.")


def test_several_that_were_shown(monkeypatch):
    found = said(monkeypatch, {"macenko": (0.012, 0.01), "randstainna": (0.010, 0.003)})
    assert found[0].startswith("Macenko is shown to be better than Plain on the targets")
    assert found[2] == "Also shown to be better than Plain: Randstainna (+0.01)."


def test_two_patients_are_too_few_for_a_test_and_both_are_said(monkeypatch):
    found = said(monkeypatch, {"macenko": (0.54, np.nan)}, n=2)
    assert found[0] == (
        "Macenko scored highest (1.33 against 0.79 for the baseline), but two patients are too few for a test."
    )
    assert found[1].endswith("both patients scored higher.")


def study_with(**norms: str):
    strategies = tuple(StrategyConfig(name=name, norm=norm) for name, norm in norms.items())
    return SimpleNamespace(
        baseline="plain", evaluation=STUDY.evaluation, task=TASK,
        strategy=lambda name: next(strategy for strategy in strategies if strategy.name == name),
    )  # fmt: skip


def idle(name: str) -> Effect:
    reason = "its discriminator was never better than chance"
    return Effect(name, 3, 3, 0.1, 0.2, 0.5, 0.5, 0.69, 0.69, np.nan, np.nan, reason)


def test_an_alignment_that_was_not_effective_is_not_credited(monkeypatch):
    study = study_with(plain="shared", dann="per_domain", cdan="per_domain", mmd="per_domain", grey="shared")
    run = SimpleNamespace(study=study, label=str.upper, effects={name: idle(name) for name in ("dann", "cdan")})
    gains = {"grey": (0.5, 0.001), "dann": (0.33, 0.001), "cdan": (0.31, 0.001), "mmd": (0.3, 0.001)}
    found = said(monkeypatch, gains, run=run)
    assert "Also shown to be better than PLAIN: MMD (+0.30)." in found
    assert (
        "DANN (+0.33) and CDAN (+0.31) were shown to be higher too, but their alignment was not effective here (its "
        "discriminator was never better than chance): what helped is what else they do (batch statistics per "
        "domain)."
    ) in found
    assert "not effective" not in found[0]


@pytest.mark.parametrize("p", [0.001, 0.2])
def test_the_first_sentence_does_not_credit_it_either(monkeypatch, p):
    study = study_with(plain="shared", dann="per_domain", cdan="shared")
    run = SimpleNamespace(study=study, label=str.upper, effects={name: idle(name) for name in ("dann", "cdan")})
    found = said(monkeypatch, {"dann": (0.33, p), "cdan": (0.1, 0.2)}, run=run)
    assert "its alignment was not effective here" in found[0]
    assert found[0].endswith("so what helped is what else it does (batch statistics per domain).")
    alone = said(monkeypatch, {"cdan": (0.33, p)}, run=run)
    assert alone[0].endswith("so chance in training is what remains.")


def test_a_note_of_many_rows_stands_once_below_the_table():
    notes = ["few patients"] * 4 + ["", "one alone", "few patients"]
    short, meaning = footnoted(notes)
    assert short == ["(a)"] * 4 + ["", "one alone", "(a)"] and meaning == "(a) few patients."
    assert footnoted(["once", "twice", "twice"]) == (["once", "twice", "twice"], "")


@pytest.mark.parametrize("seeds", [1, 2, 3])
@pytest.mark.parametrize("n", [4, 6])
def test_intervals_and_tests_are_spoken_of_where_there_are_some(seeds, n):
    said = cautions._few_trainings(seeds, n)
    assert bool(said) == (seeds < 3)
    assert ("interval" in said.lower()) == (seeds < 3 and n >= 6) and ("tests" in said) == (seeds == 2 and n >= 6)


def test_strategies_with_the_same_scores_throughout_are_named():
    rows = [("a", 1, 0.5), ("a", 2, 0.6), ("b", 1, 0.5), ("b", 2, 0.6), ("c", 1, 0.6), ("c", 2, 0.5)]
    records = pd.DataFrame(rows, columns=["strategy", "seed", "value"])
    records = records.assign(slide="s", measure="dice", tp=1.0, fp=0.0, fn=0.0, **{"class": "glomerulus"})
    assert cautions.alike(records) == [["a", "b"]]
    assert cautions.alike(records.sample(frac=1, random_state=0).query("strategy != 'a'")) == []
