"""Costs where they were measured, strategies with a few target labels apart from the others, and reviewed labels."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from make_run import make_run, review_and_annotators

import stainda.evaluation.analysis as analysis
import stainda.report.study_view as study_view
from stainda.errors import StaindaError
from stainda.files import write_json
from stainda.report import load_run, make_report
from stainda.report.answer import answer
from stainda.report.cards import model_cards
from stainda.report.centres import centres
from stainda.report.costs import cost_frame, cost_sentence, cost_table
from stainda.report.drawings import Drawing
from stainda.report.gallery import shown_strategies
from stainda.report.insight_tables import effects
from stainda.report.methods import methods_paragraph
from stainda.report.plotting import make_plot, view
from stainda.report.result_tables import differences, strategies_by_domain
from stainda.report.reviewing import review_table, review_words
from stainda.report.search_tables import dashboard_command, without_password
from stainda.run_directory.training_tables import REFITS

STRATEGIES = ("source_only", "dann", "propagated_labels", "few_shot", "oracle")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Few-shot scores higher than every strategy without target labels."""
    folder = make_run(
        tmp_path_factory.mktemp("costs") / "run", test_patients=8, stains=("PAS", "SR"), strategies=STRATEGIES,
        failed_job=False, seeds=2, trials=1, costs=True,
    )  # fmt: skip
    review_and_annotators(folder)
    return folder


@pytest.fixture(scope="module")
def seen(run):
    return view(run)


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "run")


def undrawn(figure, name, caption, alt, frame, folder) -> Drawing:
    return Drawing(name, "", caption, alt)


# strategies with a few target labels


def test_the_best_is_sought_among_those_without_target_labels(seen):
    means = seen.overall()["mean"]
    assert means["few_shot"] > means["propagated_labels"], "else this shows nothing"
    assert seen.best() == "propagated_labels"
    assert set(seen.insights().strategies) == {"source_only", "dann", "propagated_labels"}
    for centre in centres(seen):
        assert not any("few shot" in words for words in centre.words)
    assert any("Propagated labels" in words for centre in centres(seen) for words in centre.words)


def test_the_answer_names_few_shot_in_a_sentence_of_its_own_and_nowhere_else(seen):
    said = [one.text for one in answer(seen)]
    mine = [text for text in said if "few shot" in text]
    assert len(mine) == 1 and mine[0].startswith("With target labels of 8 patches of every target domain, ")
    assert said[0].startswith("Propagated labels is shown to be better") and "for 2 comparisons" in said[1]
    assert "comparisons" not in mine[0], "it is the only one of its family"
    closes = next(text for text in said if "closes most" in text)
    assert "Propagated labels closes most of those without target labels" in closes
    assert any(text.startswith("The best of 2 strategies") for text in said)


def test_no_claim_is_made_of_few_shot_where_too_few_patients_could_show_it(tmp_path):
    small = make_run(
        tmp_path / "run", test_patients=4, stains=("PAS", "SR"), centres=("A",), failed_job=False, seeds=1, trials=1,
        strategies=("source_only", "few_shot", "oracle"), registration=False, evidence=False,
    )  # fmt: skip
    one = view(small)
    said = [sentence.text for sentence in answer(one)]
    assert any("few shot" in text and "not tested: four patients are too few for a test" in text for text in said)
    assert any("No other strategy was evaluated" in text for text in said), "there is no contender against the baseline"


def test_tables_figures_and_cards_set_few_shot_apart(seen):
    rows = {row[0].text: row for row in strategies_by_domain(seen, "dice").rows}
    assert rows["few shot"][0].small == "8 patches of every target domain" and rows["DANN"][0].small == ""
    assert rows["Oracle (target labels)"][0].mark == "ceiling"
    table = differences(seen, "dice")
    assert "a few target labels among themselves" in table.note
    ranks = effects(seen, "dice").frame.set_index("strategy")["mean_rank"]
    assert np.isnan(ranks["few_shot"]) and np.isfinite(ranks["dann"])
    assert len({seen.look.colour(name) for name in ("source_only", "few_shot", "oracle", "dann")}) == 4
    assert len({seen.look.marker(name) for name in ("source_only", "few_shot", "oracle", "dann")}) == 4
    assert "excluded from the ranking" in make_plot(seen, "gap_closed").caption
    cards = {card.strategy: dict(card.items) for card in model_cards(seen)}
    assert "excluded from the ranking: it saw target labels" in cards["few_shot"]["What it is"]
    assert "8 patches of every target domain" in cards["few_shot"]["Training data"]
    assert "(ranked)" in cards["propagated_labels"]["What it is"]
    assert "not ranked" in methods_paragraph(seen.run, seen)


def test_the_gallery_shows_contenders_before_few_shot(seen):
    shown = shown_strategies(seen.run, seen.analysis)
    assert "propagated_labels" in shown
    assert "few_shot" not in shown or "dann" in shown


# costs


def test_memory_and_energy_are_medians_over_trainings_and_their_measurement_is_said(seen):
    frame = cost_frame(seen.run, seen.look).set_index("strategy")
    assert (
        frame.loc["dann", "peak_memory_mib"] == pytest.approx(1150, abs=1)
        and frame.loc["oracle", "cpu_energy_wh"] == 0.2
    )
    table = cost_table(seen.run)
    assert [column for column in table.columns if "MiB" in column or "Wh" in column] == [
        "Peak memory, MiB",
        "Processor energy, Wh",
    ]
    assert "RAPL counts for the whole packages" in table.note and "idle power included" in table.note
    assert "GPU" not in table.note, "nothing was trained on a GPU, so it does not lack"
    assert "0.9 GiB of memory at most and 0.20 Wh of the processor" in cost_sentence(seen)[0].text


def test_what_could_not_be_measured_is_said(copy):
    trials = pd.read_csv(copy / "trials.csv").assign(cpu_energy_wh="")
    trials.to_csv(copy / "trials.csv", index=False)
    one = view(copy)
    note = cost_table(one.run).note
    assert "Not measured on this machine: processor energy (RAPL cannot be read)." in note
    trials.drop(columns=[name for name in trials if "memory" in name or "energy" in name]).to_csv(
        copy / "trials.csv", index=False
    )
    one = view(copy)
    assert "Not recorded by the version of stainda that trained: peak memory" in cost_table(one.run).note
    assert make_plot(one, "cost").frame["peak_memory_mib"].isna().all()


def test_gpu_time_memory_and_energy_have_columns_where_trainings_ran_on_one(copy):
    for job in (copy / "jobs").iterdir():
        write_json(job / "result.json", {"score": 0.9, "device": "cuda:0", "seconds": 120.0})
    trials = pd.read_csv(copy / "trials.csv").assign(peak_gpu_memory_mib=2048.0)
    trials.to_csv(copy / "trials.csv", index=False)
    one = view(copy)
    table = cost_table(one.run)
    row = dict(zip(table.columns, table.rows[0], strict=True))
    assert row["GPU time, one training"].text == "2 min" and row["Peak GPU memory, MiB"].text == "2048"
    assert "GPU energy (NVML or pynvml is not there)" in table.note
    plot = make_plot(one, "cost")
    assert [axes.get_xlabel() for axes in plot.figure.axes if axes.get_visible()] == [
        "processor time, minutes", "GPU time, minutes", "peak memory, MiB", "peak GPU memory, MiB",
        "processor energy, Wh",
    ]  # fmt: skip


# reviewed labels


def test_reviewed_labels_are_counted_and_stale_decisions_are_told_apart(seen):
    words = review_words(seen.run)
    carried = len(seen.run.propagation)
    assert words == (
        f"12 of {carried} propagated annotations were reviewed by Dr A. Name. 9 decisions hold, 3 did not any more and "
        "changed nothing."
    )
    table = review_table(seen.run)
    assert table.frame["reviewed"].sum() == 12 and table.frame["stale"].sum() == 3
    assert table.frame[["accept", "nudge", "redraw", "reject", "unsure"]].sum().tolist() == [3, 3, 0, 3, 0]


def test_a_run_that_nobody_reviewed_says_nothing_of_it(copy):
    (copy / "review" / "applied.csv").unlink()
    loaded = load_run(copy)
    assert review_words(loaded) == "" and review_table(loaded) is None


# the page


def test_trainings_made_again_from_all_source_patients_cost_too(copy):
    before = cost_frame(load_run(copy), view(copy).look).set_index("strategy")
    trials = pd.read_csv(copy / "trials.csv", dtype=str)
    again = trials[trials["strategy"] == "dann"].iloc[[0]]
    again = again.assign(repeats=again["job"], seconds="60.0", cpu_seconds="100.0", reason="")
    again.reindex(columns=list(REFITS.names)).to_csv(REFITS.at(copy), index=False)
    after = cost_frame(load_run(copy), view(copy).look).set_index("strategy")
    assert after.loc["dann", "jobs"] == before.loc["dann", "jobs"] + 1
    assert after.loc["dann", "cpu_seconds"] == pytest.approx(before.loc["dann", "cpu_seconds"] + 100)
    assert after.loc["source_only", "cpu_seconds"] == before.loc["source_only", "cpu_seconds"]


def test_the_page_of_one_analysis_shows_reviews_costs_few_shot_and_how_to_watch_the_search(copy, monkeypatch):
    from stainda.study.steps import report_run

    calls, analyse = [], analysis.analyse

    def counted(*arguments):
        calls.append(analyse(*arguments))
        return calls[-1]

    monkeypatch.setattr(analysis, "analyse", counted)
    monkeypatch.setattr(study_view, "analyse", counted)
    monkeypatch.setattr("stainda.report.writer.draw", undrawn)
    (copy / "study.db").write_bytes(b"")
    (copy / "results.csv").write_text("old\n")
    page = report_run(copy).read_text(encoding="utf-8")
    assert len(calls) == 1, "statistics are costly and are made once"
    written = pd.read_csv(copy / "results.csv", keep_default_na=False, na_values=[""])
    np.testing.assert_allclose(written["mean"], calls[0].results["mean"], rtol=1e-12)
    text = re.sub(r"<[^>]+>", " ", page)
    assert "propagated annotations were reviewed by Dr A. Name" in text
    assert "the source annotation was changed since" in text
    assert re.search(r'<pre class="command"[^>]*>stainda dashboard \.</pre>', page)
    assert re.search(r"few shot\s*<small>8 patches of every target domain</small>", page)
    assert "strategies with a few of them (few shot: 8 patches of every target domain)" in text
    tables = copy / "report" / "tables"
    annotators = (tables / "annotators.csv").read_text(encoding="utf-8")
    assert "first_reader" in annotators and "Ünal & Co" in annotators
    assert "rtre_median" in (tables / "landmarks.csv").read_text(encoding="utf-8").splitlines()[0]
    for name in ("annotators", "landmarks"):
        assert f'href="tables/{name}.csv"' in page and f'id="table-{name}"' in page


def test_the_address_of_a_shared_search_is_shown_without_its_password(copy):
    assert dashboard_command(load_run(copy)) == "", "there is no study.db"
    address = "postgresql+psycopg2://me:se:cr/et@host:5432/studies"
    study = yaml.safe_load((copy / "study.yaml").read_text())
    study["search"]["storage"] = address
    (copy / "study.yaml").write_text(yaml.safe_dump(study))
    shown = "postgresql+psycopg2://me:PASSWORD@host:5432/studies"
    assert without_password(address) == shown and dashboard_command(load_run(copy)) == "stainda dashboard ."
    assert without_password("sqlite:///a/b@c.db") == "sqlite:///a/b@c.db"
    for records in copy.rglob("records.parquet"):
        records.unlink()  # a page without results is made at once
    page = make_report(copy).read_text(encoding="utf-8")
    study = (copy / "report" / "study.yaml").read_text(encoding="utf-8")
    assert "cr/et" not in page + study and study.count(shown) == 1


def test_records_of_other_trainings_or_none_are_not_reported(copy):
    from stainda.study.steps import report_run

    trials = pd.read_csv(copy / "trials.csv")
    trials[trials["strategy"] != "dann"].to_csv(copy / "trials.csv", index=False)
    with pytest.raises(StaindaError, match="other settings"):
        report_run(copy)
    (copy / "records.parquet").write_bytes(b"no table")
    with pytest.raises(StaindaError, match="Parquet"):
        report_run(copy)
    (copy / "records.parquet").unlink()
    with pytest.raises(StaindaError, match="no records"):
        report_run(copy)
