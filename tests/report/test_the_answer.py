"""The first sentence of the page says what was shown, also where the highest mean is not what was shown."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from stainda.evaluation.summary import ALL_TARGETS
from stainda.report import answer, words

STUDY = SimpleNamespace(baseline="plain", evaluation=SimpleNamespace(level=0.95))
RUN = SimpleNamespace(study=STUDY, label=lambda name: name.title())


@pytest.mark.parametrize(("ceiling", "said_of_it"), [("oracle", 1), ("plain", 0)])
def test_a_ceiling_that_is_the_baseline_is_not_told_as_one(ceiling, said_of_it, monkeypatch):
    for module in (answer, words):
        monkeypatch.setattr(module, "headline", lambda table: table)
    row = {"domain": ALL_TARGETS, "mean": 0.8, "low": 0.7, "high": 0.9, "interval_kind": "interval"}
    study = SimpleNamespace(baseline="plain", ceiling=ceiling, evaluation=STUDY.evaluation)
    analysis = SimpleNamespace(
        results=pd.DataFrame([{"strategy": name, **row} for name in ("oracle", "plain")]),
        gaps=pd.DataFrame({"strategy": [], "domain": [], "gap_closed": np.zeros(0)}),
    )
    found = answer._gap(SimpleNamespace(study=study, label=RUN.label), analysis)
    assert len([one for one in found if "the ceiling" in one.text]) == said_of_it


def said(monkeypatch, gains: dict[str, tuple[float, float]]) -> list[str]:
    """Sentences for strategies with these differences to the baseline and p after Holm, of 14 patients."""
    for module in (answer, words):
        monkeypatch.setattr(module, "headline", lambda table: table)
    common = {"domain": ALL_TARGETS, "family": "overall", "n_patients": 14, "n_seeds": 3, "interval_kind": "interval"}
    differences = pd.DataFrame(
        [
            {"strategy": name, "difference": gain, "low": gain - 0.01, "high": gain + 0.01, "p_holm": p, **common}
            for name, (gain, p) in gains.items()
        ]
    )
    means = {"plain": 0.79} | {name: 0.79 + gain for name, (gain, _) in gains.items()}
    without = pd.DataFrame(
        [{"mean": mean, "low": np.nan, "high": np.nan, "interval_kind": "none"} for mean in means.values()],
        index=list(means),
    )
    patients = pd.DataFrame(
        [
            {"domain": ALL_TARGETS, "patient": f"P{number}", "strategy": name, "value": mean + 0.001 * number}
            for name, mean in means.items()
            for number in range(14)
        ]
    )
    analysis = SimpleNamespace(differences=differences, patients=patients)
    return [one.text for one in answer._best_against_baseline(RUN, analysis, without, 14)]


def test_what_was_shown_leads_though_another_mean_is_higher(monkeypatch):
    found = said(monkeypatch, {"macenko": (0.012, 0.2), "randstainna": (0.010, 0.003), "grey": (-0.03, 0.2)})
    assert found[0].startswith(
        "Randstainna is shown to be better than Plain: Dice 0.80, +0.01 against Plain (paired by patient"
    )
    assert "p = 0.003" in found[0] and "largest margin" not in found[0]
    assert (
        found[1].startswith("The highest mean is that of Macenko: Dice 0.80, +0.01 against Plain (")
        and "could not be shown to differ" in found[1]
    )
    assert "all 14 patients scored higher with it" in found[1] and len(found) == 2
    assert not any("No difference" in one for one in found)


@pytest.mark.parametrize("p", [0.003, 0.2])
def test_the_highest_mean_alone(monkeypatch, p):
    found = said(monkeypatch, {"macenko": (0.012, p), "grey": (-0.03, 0.01)})
    first = (
        "Macenko is shown to be better than Plain, by the largest margin"
        if p < 0.05
        else "No difference to Plain could"
    )
    assert found[0].startswith(first)
    assert found[1] == "Shown to be worse than Plain: Grey (−0.03)."


def test_several_that_were_shown(monkeypatch):
    found = said(monkeypatch, {"macenko": (0.012, 0.01), "randstainna": (0.010, 0.003)})
    assert found[0].startswith("Macenko is shown to be better than Plain, by the largest margin")
    assert found[1] == "Also shown to be better than Plain: Randstainna (+0.01)."
