"""The PDF, the model cards, centres, excluded slides, the limits of large pages, and the commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
from make_run import make_run
from typer.testing import CliRunner

from stainda.cli.app import app
from stainda.errors import StaindaError
from stainda.evaluation import read_records, write_records
from stainda.report import load_run, make_plot, view
from stainda.report.cards import card_text, model_cards
from stainda.report.centres import centres
from stainda.report.data_tables import excluded
from stainda.report.pdf import figure_page, write_pdf
from stainda.report.result_tables import strategies_by_domain
from stainda.report.sections import Said
from stainda.report.summary_text import Sentence
from stainda.report.tables import PageTable, number, text
from stainda.report.writer import MOST_ROWS, Writer

SMALL = dict(
    test_patients=4, stains=("PAS", "SR"), centres=("A", "B"), strategies=("source_only", "dann", "oracle"),
    failed_job=False, seeds=1, trials=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("pdf") / "run", **SMALL)


@pytest.fixture(scope="module")
def seen(run):
    return view(run)


def test_the_pdf_holds_the_first_view_and_the_figures_and_no_folded_sentence(seen, tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr("stainda.report.pdf._Flow.paragraph", lambda flow, style, words: written.append(words))
    write = Writer(tmp_path, keep=True)
    write.plots.append(("Forest", make_plot(seen, "forest")))
    table = write.table(strategies_by_domain(seen, "dice"))
    said = Said.of(
        [Sentence("It works."), Sentence("Folded."), Sentence("Few.", "limit"), Sentence("Mind.", "caution")]
    )
    context = {"title": "A study", "study": seen.run.study, "said": said, "made": "today", "main_table": table}
    data = write_pdf(tmp_path / "report.pdf", context, write).read_bytes()
    assert data.startswith(b"%PDF") and data.rstrip().endswith(b"%%EOF")
    assert len(re.findall(rb"/Type /Page\b", data)) == 2  # the first view, a figure
    said_in_order = ["It works.", "Few.", table.caption, "Limitations", "Mind."]
    assert [words for words in written if words in said_in_order] == said_in_order and "Folded." not in written


def test_a_figure_keeps_its_size_on_its_page(seen):
    made = make_plot(seen, "worst_domain")
    width = made.figure.get_size_inches()[0] * 25.4
    made.figure.draw_without_rendering()
    before = [place.get_position().width * width for place in made.figure.axes]
    page = figure_page(made, "Title")
    after = [place.get_position().width * 210 for place in page.axes]
    assert after == pytest.approx(before, rel=0.02)
    assert page.get_size_inches()[0] * 25.4 == pytest.approx(210)


def test_a_model_card_says_data_scores_limits_and_how_to_apply(seen):
    cards = {card.strategy: card for card in model_cards(seen)}
    assert list(cards) == ["source_only", "dann", "oracle"]
    words = card_text(seen, cards["dann"])
    row = seen.overall().loc["dann"]
    assert f"| {row['mean']:.2f} (range {row['low']:.2f} to {row['high']:.2f}) |" in words
    job = seen.run.trials.set_index("strategy").loc["dann", "job"]
    command = shlex.split(cards["dann"].command)
    assert command[:2] == ["stainda", "predict"] and command[3:] == ["SLIDE", "--out", "predictions/"]
    assert Path(command[2]).samefile(seen.run.folder / "jobs" / job), "it can be run as it stands"
    assert cards["dann"].command in words
    for part in ("Intended use", "Training data", "Two patients", "labels: source (PAS@A)", "Licence", "Not a medical",
                 "synthetic sections"):  # fmt: skip
        assert part in words, part
    assert "the ceiling of the study: it saw target labels" in card_text(seen, cards["oracle"])


def test_each_centre_has_its_domains_and_claims_no_test(seen):
    found = {centre.name: centre for centre in centres(seen)}
    assert set(found) == {"A", "B"}
    assert "Over the two target domains here" in " ".join(found["B"].words)
    assert "no test is made per centre" in " ".join(found["B"].words)


def test_slides_left_out_are_named_with_the_reason(run, tmp_path):
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    records = read_records(copy / "records.parquet")
    lost = records.loc[records["split"] == "test", "slide"].iloc[0]
    write_records(records[records["slide"] != lost], copy / "records.parquet")
    cohort = pd.read_csv(copy / "cohort.csv")
    cohort.assign(n_shapes=[None if slide == lost else 12 for slide in cohort["slide"]]).to_csv(
        copy / "cohort.csv", index=False
    )
    rows = excluded(load_run(copy)).frame.set_index("slide")
    assert rows.loc[lost, "reason"] == "it has no annotations of its own" and rows.loc[lost, "from"] == "scoring"
    refused = load_run(copy).quality.query("status == 'refused'")["source"].item()
    assert rows.loc[refused, "reason"] == "only 6 matches, 15 are needed"


def test_a_long_table_is_cut_in_the_page_and_whole_beside_it(tmp_path):
    frame = pd.DataFrame({"a": range(MOST_ROWS + 5)})
    table = PageTable("long", "Long.", ["a"], [[number(value, 0)] for value in frame["a"]], frame)
    shown = Writer(tmp_path).table(table)
    assert len(shown.rows) == MOST_ROWS and f"first {MOST_ROWS} of {MOST_ROWS + 5} rows" in shown.note
    assert len(pd.read_csv(tmp_path / "tables" / "long.csv")) == MOST_ROWS + 5 and list(shown.files) == ["csv"]
    assert len(Writer(tmp_path).table(PageTable("short", "Short.", ["a"], [[text("x")]], frame)).rows) == 1


def test_plot_and_compare_as_a_newcomer_types_them(run, tmp_path):
    runner = CliRunner()
    listed = runner.invoke(app, ["plot", "--list"])
    assert listed.exit_code == 0 and "critical_difference" in listed.output
    out = tmp_path / "cost.png"
    done = runner.invoke(app, ["plot", str(run), "--kind", "cost", "--out", str(out)])
    assert done.exit_code == 0 and out.read_bytes().startswith(b"\x89PNG") and out.with_suffix(".csv").is_file()
    assert runner.invoke(app, ["plot"]).exit_code == 2
    wrong = runner.invoke(app, ["plot", str(run), "--kind", "forrest"])
    assert isinstance(wrong.exception, StaindaError) and "Did you mean 'forest'" in str(wrong.exception)
    alone = runner.invoke(app, ["compare", str(run), "--out", str(tmp_path / "c")])
    assert isinstance(alone.exception, StaindaError) and not (tmp_path / "c").exists()
