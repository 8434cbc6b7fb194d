"""The page says whether each alignment method acted, and marks one that did not."""

import pandas as pd
import pytest
from make_run import make_run

from stainda.report import make_report
from stainda.report.effect_tables import method_effects
from stainda.report.loading import load_run


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run", stains=("PAS", "SR"), strategies=("source_only", "dann", "oracle"))


def _all(run, **values):
    path = run / "alignment_effects.csv"
    pd.read_csv(path, dtype={"job": str}).assign(**values).to_csv(path, index=False)


def test_a_method_that_acted_has_its_numbers(run):
    table = method_effects(load_run(run))
    (row,) = table.rows
    shown = [cell.text for cell in row[1:4]]
    assert shown == ["12%", "0.71 (chance 0.50)", "0.58 (chance 0.69)"] and row[7].text == "yes"
    assert table.frame["jobs"].tolist() == [len(pd.read_csv(run / "alignment_effects.csv"))]


def test_a_run_of_an_earlier_version_has_no_losses(run):
    path = run / "alignment_effects.csv"
    pd.read_csv(path, dtype={"job": str}).drop(columns=["discriminator_loss", "chance_loss"]).to_csv(path, index=False)
    (row,) = method_effects(load_run(run)).rows
    assert [cell.text for cell in row[2:4]] == ["0.71 (chance 0.50)", ""] and row[7].text == "yes"


def test_one_that_did_not_is_marked_wherever_its_scores_stand(run):
    _all(run, gradient_ratio=0.0018, not_effective=1, reason="its terms never reached 1% of the task's gradient")
    page = make_report(run).read_text(encoding="utf-8")
    assert page.count("not effective here") >= 3 and "0.18%" in page and "never reached 1%" in page
    markdown = (run / "report" / "tables" / "alignment_effects.md").read_text(encoding="utf-8")
    assert "not effective here" in markdown


def test_a_run_without_the_table_has_a_page_all_the_same(run):
    (run / "alignment_effects.csv").unlink()
    assert method_effects(load_run(run)) is None
    assert "Did each alignment method act?" not in make_report(run).read_text(encoding="utf-8")
