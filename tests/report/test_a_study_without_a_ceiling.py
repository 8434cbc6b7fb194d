"""A ceiling that is the baseline means that there is none: the baseline stays a contender, and the page is made."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml
from make_run import make_run

from stainda.evaluation import read_records, write_records
from stainda.evaluation.groups import ceiling_of, contenders
from stainda.report import load_run, make_report
from stainda.report.answer import answer
from stainda.report.drawings import Drawing
from stainda.report.plotting import view
from stainda.report.question import question_rows
from stainda.report.recipe_tables import recipe
from stainda.report.result_tables import strategies_by_domain

SMALL = dict(
    test_patients=6, stains=("PAS", "SR"), centres=("A",), failed_job=False, seeds=2, trials=1, registration=False,
    evidence=False,
)  # fmt: skip


def with_ceiling(folder, ceiling: str, strategies):
    run = make_run(folder, strategies=strategies, **SMALL)
    study = yaml.safe_load((run / "study.yaml").read_text())
    (run / "study.yaml").write_text(yaml.safe_dump(study | {"ceiling": ceiling}))
    return run


@pytest.mark.parametrize("strategies", [("source_only",), ("source_only", "dann")])
def test_the_baseline_stays_a_contender_and_the_page_is_made(tmp_path, monkeypatch, strategies):
    monkeypatch.setattr(
        "stainda.report.writer.draw", lambda figure, name, caption, alt, frame, folder: Drawing(name, "", caption, alt)
    )
    run = with_ceiling(tmp_path / "run", "source_only", strategies)
    seen = view(run)
    assert ceiling_of(seen.run.study) == "" == seen.look.ceiling
    assert contenders(seen.run.study, strategies) == list(strategies) == list(seen.insights().strategies)
    assert seen.look.contenders(strategies) == list(strategies)
    assert strategies_by_domain(seen, "dice").rows[0][0].mark == "baseline" and seen.analysis.gaps.empty
    assert dict(question_rows(load_run(run), seen))["Baseline, ceiling"].endswith("none in this study")
    said = " ".join(one.text for one in answer(seen))
    assert "ceiling" not in said
    assert ("there is nothing to compare" in said) == (len(strategies) == 1)
    page = make_report(run).read_text(encoding="utf-8")
    assert "source_only" in page and 'class="mark-baseline"' in page
    assert "the study has no ceiling (an oracle)" in page


def test_a_ceiling_alone_with_records_is_no_crash_and_no_contender(tmp_path):
    run = with_ceiling(tmp_path / "run", "oracle", ("source_only", "oracle"))
    records = read_records(run / "records.parquet")
    write_records(records[records["strategy"] == "oracle"], run / "records.parquet")
    trials = pd.read_csv(run / "trials.csv")
    trials[trials["strategy"] == "oracle"].to_csv(run / "trials.csv", index=False)
    found = view(run).insights()
    assert found.strategies == () and not np.isfinite(found.ranking.ranks).any()


def test_a_recipe_describes_itself_as_such_where_the_study_changes_it(tmp_path):
    run = load_run(with_ceiling(tmp_path / "run", "source_only", ("source_only",)))
    own = run.study.recipe.model_copy(update={"description": "A U-Net.", "changed": ()})
    for changed, said in (((), "A U-Net."), (("model",), "The recipe without the changes of this study: A U-Net.")):
        study = run.study.model_copy(update={"recipe": own.model_copy(update={"changed": changed})})
        assert recipe(replace(run, study=study)).note == said
