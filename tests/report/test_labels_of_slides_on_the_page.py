"""What the page says of aggregators: differences that were tested and corrected, and why others were not."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from stainda.config import EvaluationConfig
from stainda.report.slide_level import slide_answers
from stainda.run_directory.slide_level_tables import SLIDE_SUMMARY

FEW = "two trainings each: no test (from 3 on)"


def row(aggregator, domain="PAS@B", p=np.nan, difference=None, note="", about=""):
    apart = {} if difference is None else {
        "difference": difference, "difference_low": difference - 0.1, "difference_high": difference + 0.1,
    }  # fmt: skip
    return {
        "aggregator": aggregator, "domain": domain, "role": "target", "measure": "auroc", "mean": 0.8, "low": 0.7,
        "high": 0.9, "positive": 12, "negative": 12, "trainings": 3, "p": p, "difference_note": note, "note": about,
        **apart,
    }  # fmt: skip


def answers(folder, rows, without=()):
    path = SLIDE_SUMMARY.write(SLIDE_SUMMARY.at(folder).parent, rows)
    pd.read_csv(path).drop(columns=list(without)).to_csv(path, index=False)
    encoder = SimpleNamespace(name="cnn", params={}, pretraining=None, weights=None)
    slides = SimpleNamespace(positive=["bad"], encoder=encoder)
    study = SimpleNamespace(slide_level=slides, evaluation=EvaluationConfig())
    return slide_answers(SimpleNamespace(folder=folder, study=study))


@pytest.fixture(autouse=True)
def untrained(monkeypatch):
    monkeypatch.setattr("stainda.models.start_of", lambda encoder: "")


def test_differences_are_corrected_for_all_aggregators_and_targets(tmp_path):
    """Of four p the smallest is multiplied by 4: .004 stays small, the next, .02, does not, though its interval
    leaves out 0."""
    rows = [
        row("mean"), row("max", p=0.004, difference=-0.2), row("clam", p=0.5, difference=0.02),
        row("mean", "SR@B"), row("max", "SR@B", p=0.02, difference=-0.15), row("clam", "SR@B", p=0.9, difference=0.0),
    ]  # fmt: skip
    sentences = answers(tmp_path, rows)
    claimed = [sentence.text for sentence in sentences if "scores" in sentence.text]
    shown = "−0.20, −0.30 to −0.10; p = 0.016 after Holm's correction for 4 comparisons"
    assert claimed == [f"In PAS@B max scores lower than mean ({shown})."]
    none = [sentence for sentence in sentences if "could be shown" in sentence.text]
    assert len(none) == 3 and all(sentence.kind == "none" for sentence in none)
    assert any("In SR@B no difference between max and mean" in one.text and "p = 0.060" in one.text for one in none)


def test_what_was_not_tested_is_no_claim_and_says_why(tmp_path):
    rows = [row("mean"), row("max", difference=-0.2, note=FEW), row("clam", difference=0.3, note=FEW)]
    sentences = answers(tmp_path, rows)
    assert not any("scores" in sentence.text or "could be shown" in sentence.text for sentence in sentences)
    text = f"Less mean in PAS@B: max −0.20 (−0.30 to −0.10) and clam 0.30 (0.20 to 0.40); {FEW}."
    assert [sentence.kind for sentence in sentences if sentence.text == text] == ["none"]


def test_a_table_of_an_earlier_version_makes_no_claim(tmp_path):
    rows = [row("mean"), row("max", difference=-0.2)]
    texts = [sentence.text for sentence in answers(tmp_path, rows, without=["p", "difference_note"])]
    assert "Less mean in PAS@B: max −0.20 (−0.30 to −0.10); no test: scored by an earlier version." in texts


def test_names_of_domains_keep_their_letters(tmp_path):
    about = "without SR@B: all test patients have one label there"
    texts = [sentence.text for sentence in answers(tmp_path, [row("mean", "all targets", about=about)])]
    assert "Without SR@B: all test patients have one label there." in texts
