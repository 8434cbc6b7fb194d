"""The page: complete, self-contained, true to the records, and honest where something is missing."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import pandas as pd
import pytest
import yaml
from declared_files import faults_of_run
from make_run import make_run, object_gallery, review_and_annotators

from stainda.errors import RecordError, StaindaError
from stainda.evaluation import analyse, one_rotation, read_records, write_records
from stainda.report import load_run, make_report
from stainda.report.drawings import Drawing

SMALL = dict(
    test_patients=2, stains=("PAS", "SR"), centres=("A",), strategies=("source_only", "dann", "oracle"),
    failed_job=False, seeds=1, trials=1,
)  # fmt: skip


class Reader(HTMLParser):
    """Collects what the tests ask about; ``text`` is what a person reads."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.images: list[dict] = []
        self.loaded: list[str] = []
        self.text = ""
        self._silent = 0
        self.feed(page.read_text(encoding="utf-8"))
        self.text = re.sub(r"\s+", " ", self.text.replace("\xa0", " "))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if "id" in values:
            self.ids.append(values["id"])
        if tag == "a":
            self.links.append(values["href"])
        if tag == "img":
            self.images.append(values)
        if tag in ("img", "script", "link", "iframe", "image"):
            self.loaded += [values[key] for key in ("src", "href", "xlink:href") if key in values]
        self._silent += tag in ("style", "script")

    def handle_endtag(self, tag):
        self._silent -= tag in ("style", "script")

    def handle_data(self, data):
        if not self._silent:
            self.text += data


def undrawn(figure, name, caption, alt, frame, folder) -> Drawing:
    return Drawing(name, "", caption, alt)


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A complete run with six test patients, three stains, two centres, a failed job."""
    strategies = ("source_only", "macenko", "dann", "propagated_labels", "oracle")
    run = make_run(tmp_path_factory.mktemp("full") / "run", stains=("PAS", "SR", "CD68"), strategies=strategies)
    return run, Reader(make_report(run))


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("small") / "run", **SMALL)


@pytest.fixture
def small(small_run, tmp_path, monkeypatch):
    """A small run of one's own, to be spoiled; figures are left out, which are most of the time."""
    monkeypatch.setattr("stainda.report.writer.draw", undrawn)
    return Path(shutil.copytree(small_run, tmp_path / "run"))


def test_the_made_up_run_is_as_declared(small_run, tmp_path):
    """What the report is developed on is what studies write: every table with the declared columns."""
    run = Path(shutil.copytree(small_run, tmp_path / "run"))
    review_and_annotators(run)
    object_gallery(run)
    assert faults_of_run(run) == []


def test_page_has_every_section_and_the_answer_first(full):
    _, page = full
    ids = [
        "answer",
        "asked",
        "results",
        "statistics",
        "domain-gap",
        "centres",
        "objects",
        "examples",
        "data",
        "registration",
    ]
    ids += ["propagation", "training", "left-out", "cost", "models", "provenance"]
    assert [one for one in page.ids if one in ids] == ids
    assert len(page.ids) == len(set(page.ids)), "an id stands twice"
    assert all(link.removeprefix("#") in page.ids for link in page.links if link.startswith("#"))


def test_one_sentence_and_the_main_table_are_seen_and_all_else_is_folded(full):
    """What stands outside every fold: the first sentence (or two, where there is a limit) and one table."""
    run, _ = full
    html = (run / "report" / "index.html").read_text(encoding="utf-8")
    main = html[html.index("<main>") : html.index("</main>")]
    folded = re.compile(r"<details(?:(?!</?details)[\s\S])*</details>")
    while folded.search(main):
        main = folded.sub("", main)
    assert re.findall(r"<table", main) == ["<table"] and 'id="table-strategies_dice"' in main
    assert len(re.findall(r"<p class=\"(?:result|none)\">", main)) == 1 and '<figure class="drawing' not in main
    opened = re.findall(r"<details class=\"([^\"]*)\" open>", html)
    assert opened == ["more cautions"], "the limitations alone are open at first"
    assert html.count("<h3>Limitations</h3>") == 1


def test_a_page_opened_fully_stays_short_and_long_tables_are_links(full):
    """Tables of patients, sections, trials and single results are files next to the page."""
    run, _ = full
    html = (run / "report" / "index.html").read_text(encoding="utf-8")
    linked = re.findall(r'<li id="table-(\w+)"', html)
    assert {"results", "differences_dice", "patients", "registration", "trials", "selection"} <= set(linked)
    printed = re.findall(r'<figure class="table" id="table-(\w+)"', html)
    assert html.count("<tbody>") <= 17 and html.count("<tr>") < 130
    assert len(printed) <= 16 and not set(printed) & set(linked)
    figures = re.sub(r"<svg[\s\S]*?</svg>", "", html[html.index("<main>") : html.index("</main>")])
    assert len(re.sub(r"<[^>]+>", " ", figures).split()) < 5500


def test_a_column_without_content_is_left_to_the_files(full):
    run, _ = full
    report = run / "report"
    html = (report / "index.html").read_text(encoding="utf-8")
    shown = {}
    for name, table in re.findall(r'<figure class="table" id="table-(\w+)"[\s\S]*?(<table[\s\S]*?</table>)', html):
        shown[name] = re.findall(r"<button[^>]*>([^<]*)", table)
        rows = [
            re.findall(r"<t[hd][^>]*>([\s\S]*?)</t[hd]>", row) for row in table.split("<tbody>")[1].split("<tr>")[1:]
        ]
        assert {len(row) for row in rows} == {len(shown[name])}, name
        for column, cells in zip(shown[name], zip(*rows, strict=True), strict=True):
            assert any(cells), f"{name}: nothing stands under {column!r}"
    assert "Note" not in shown["effects_dice"]
    assert "| Note |" in (report / "tables" / "effects_dice.md").read_text(encoding="utf-8")


def test_a_domain_of_which_no_share_of_the_gap_is_given_has_no_panel(full):
    """Three test patients in a domain are too few for a share: the panel of all targets stands alone."""
    run, page = full
    words = page.text[page.text.index("No share is given for five domains, left out here.") :]
    assert re.search(r"n = 6 test patients", words[:250])
    drawn = (run / "report" / "figures" / "gap_closed_dice.svg").read_text(encoding="utf-8")
    assert "all targets" in drawn and "CD68@A" not in drawn and "not given" not in drawn


def test_text_of_figures_has_11_pixels_on_a_phone():
    """The smallest text of a figure has 7 pt (see test_single_figures); there are 4/3 pixels to the point."""
    styles = resources.files("stainda.report").joinpath("templates/style.css").read_text(encoding="utf-8")
    phone = styles[styles.index("@media (max-width: 600px)") :]
    factor = float(re.search(r"\.drawing svg \{[^}]*\* ([\d.]+)\)", phone)[1])
    assert 7 * 4 / 3 * factor >= 11


def test_what_holds_for_every_model_is_said_once(full):
    _, page = full
    for words in ("Not a medical device", "stainda is under the MIT licence", "none of these patients was seen"):
        assert page.text.count(words) == 1, words


def test_page_loads_nothing_from_anywhere(full):
    run, page = full
    assert page.loaded and all(address.startswith(("data:", "#")) for address in page.loaded)
    html = (run / "report" / "index.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in html
    assert not re.findall(r"@import|url\(\s*['\"]?https?:", html)
    assert all(image.get("alt") for image in page.images)


def test_every_file_the_page_offers_lies_beside_it(full):
    run, page = full
    files = [link for link in page.links if not link.startswith("#")]
    assert len(files) > 20
    assert all((run / "report" / name).stat().st_size > 0 for name in files)
    for svg in (run / "report" / "figures").glob("*.svg"):
        assert svg.read_text(encoding="utf-8").rstrip().endswith("</svg>")


def test_numbers_on_the_page_are_those_of_the_records(full):
    run, page = full
    config = load_run(run).study
    trials = pd.read_csv(run / "trials.csv")
    unsupervised = pd.read_csv(run / "unsupervised.csv")
    records = read_records(run / "records.parquet")
    results = analyse([one_rotation(records, config, trials, unsupervised)], config).results
    written = pd.read_csv(run / "results.csv", na_values=[""], keep_default_na=False)
    pd.testing.assert_frame_equal(written.fillna({"note": ""}), results, check_dtype=False)
    rows = results[(results["measure"] == "dice") & (results["selection"] == "source_validation")]
    row = rows[(rows["strategy"] == "dann") & (rows["domain"] == "SR@B")].iloc[0]
    assert row["interval_kind"] == "range", "few patients in a single domain"
    assert f"{row['mean']:.2f}range {row['low']:.2f} to {row['high']:.2f}" in page.text.replace(" range", "range")


def test_failures_refusals_and_reasons_are_listed(full):
    _, page = full
    for words in (
        "the loss is not a number at step 12", "only 6 matches, 15 are needed", "One training job failed",
        "less than … of its area on tissue",
    ):  # fmt: skip
        assert words in page.text, words


def test_a_difference_is_claimed_where_the_test_shows_it_and_nowhere_else(full):
    run, page = full
    assert "but no difference could be shown with" in page.text or "is shown to be better" in page.text
    rows = pd.read_csv(run / "report" / "tables" / "differences_dice.csv")
    least = rows.loc[(rows["domain"] == "all targets") & (rows["family"] == "overall"), "p_holm"].min()
    assert ("is shown to be better" in page.text) == (least <= 0.05)


def test_one_training_claims_nothing_and_has_ranges_of_patients(tmp_path, monkeypatch):
    monkeypatch.setattr("stainda.report.writer.draw", undrawn)
    page = Reader(make_report(make_run(tmp_path / "run", **{**SMALL, "test_patients": 8, "seeds": 1})))
    assert "but with one training of each strategy, chance in training" in page.text
    assert "patients from" in page.text and "% interval" not in page.text and "is shown to be better" not in page.text
    assert "strategies were not tested against each other" in page.text


def test_a_shown_difference_is_claimed_with_interval_and_p(tmp_path, monkeypatch):
    monkeypatch.setattr("stainda.report.writer.draw", undrawn)
    run = make_run(tmp_path / "run", **{**SMALL, "test_patients": 8, "seeds": 2})
    page = Reader(make_report(run))
    assert re.search(
        r"DANN is shown to be better than Source only on the targets: Dice 0\.\d\d against 0\.\d\d for the baseline",
        page.text,
    )
    assert re.search(r"p (=|<) 0\.\d+", page.text) and "eight patients" in page.text
    assert "could not be shown" not in page.text


def test_one_patient_is_told_to_be_no_cohort_and_has_no_interval(tmp_path):
    run = make_run(tmp_path / "run", **{**SMALL, "test_patients": 1})
    page = Reader(make_report(run))
    assert "This is one test patient, not a cohort: there is no interval and no test" in page.text
    assert not re.search(r"\d\.\d\d to \d\.\d\d", page.text)
    assert "on this patient" in page.text and "is shown to be better" not in page.text
    assert "With a single test patient, neither intervals nor tests were computed" in page.text


@pytest.mark.parametrize(
    "lost",
    [
        {
            "registration": "There is no registration/quality.csv: that stage was not run",
            "annotations/agreement.csv": "No section has annotations of its own to compare with",
            "fields": "There is no fields/fields.csv",
            "environment.json": "There is no environment.json",
            "records.parquet": "The study is not finished: records of 3 finished jobs are shown",
        },
        {
            "annotations/propagation.csv": "There is no annotations/propagation.csv",
            "thumbnails": "There are no thumbnails",
            "trials.csv": "There is no trials.csv",
            "stages.csv": "No training time was recorded",
            "annotations/own": "Strategy by domain",
        },
        {"records.parquet": "There is no answer yet: nothing was evaluated yet", "jobs": "0 trained networks"},
        {"cohort.csv": "There is no cohort.csv"},
    ],
    ids=["registration and more", "propagation and more", "not evaluated", "cohort"],
)
def test_a_missing_piece_is_said_and_the_rest_shown(small, lost):
    for name in lost:
        path = small / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = Reader(make_report(small))
    for words in (*lost.values(), "Provenance"):
        assert words.lower() in page.text.lower()


def test_single_sections_are_told_to_need_no_registration(small):
    cohort = pd.read_csv(small / "cohort.csv")
    cohort.assign(block=cohort["slide"]).to_csv(small / "cohort.csv", index=False)
    (small / "registration" / "quality.csv").unlink()
    (small / "annotations" / "propagation.csv").unlink()
    page = Reader(make_report(small))
    gone = page.text[page.text.index("Not on this page: ") :]
    assert "Registration (every block holds a single section, so there was nothing to register)" in gone
    assert "Propagation (nothing was registered, so no annotation was propagated)" in gone
    assert not {"registration", "propagation"} & set(page.ids), "a section without content is not printed"
    assert not {"#registration", "#propagation"} & set(page.links)


def test_a_job_that_failed_before_any_table_knew_is_listed(small):
    folder = small / "jobs" / "deadbeef0000"
    folder.mkdir()
    (folder / "error.txt").write_text("TrainingError: out of memory")
    assert "out of memory" in Reader(make_report(small)).text


def test_results_come_from_records_alone(small):
    first = make_report(small)
    before = (small / "results.csv").read_text()
    (small / "results.csv").unlink()
    shutil.rmtree(small / "report")
    shutil.rmtree(small / "jobs")
    assert make_report(small) == first
    assert (small / "results.csv").read_text() == before


@pytest.mark.parametrize("with_table", [True, False])
def test_jobs_of_an_interrupted_study_are_told_apart_though_their_records_do_not_know_their_trial(small, with_table):
    shutil.copytree(small / "jobs" / "dann00000000", small / "jobs" / "dann10000000")
    trials = pd.read_csv(small / "trials.csv")
    again = trials[trials["strategy"] == "dann"].assign(trial=1, job="dann10000000", chosen=False)
    pd.concat([trials, again]).to_csv(small / "trials.csv", index=False)
    (small / "records.parquet").unlink()
    if not with_table:
        (small / "trials.csv").unlink()
    records = load_run(small).records
    assert records.groupby("strategy")["trial"].nunique()["dann"] == 2


def test_text_from_files_cannot_become_markup(small):
    study = yaml.safe_load((small / "study.yaml").read_text())
    study["title"] = "<script>alert(1)</script>"
    (small / "study.yaml").write_text(yaml.safe_dump(study))
    trials = pd.read_csv(small / "trials.csv")
    trials.assign(reason="<img src=x onerror=alert(2)>").to_csv(small / "trials.csv", index=False)
    html = make_report(small).read_text()
    assert "<script>alert" not in html and "<img src=x" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_files_outside_the_run_directory_are_not_shown(small):
    secret = small.parent / "secret.jpg"
    shutil.copy(small / "thumbnails" / "P01_PAS.jpg", secret)
    cohort = pd.read_csv(small / "cohort.csv")
    cohort.loc[0, "slide"] = "../../secret"
    cohort.to_csv(small / "cohort.csv", index=False)
    assert "../../secret," not in " ".join(image["alt"] for image in Reader(make_report(small)).images)


def test_a_strategy_without_records_is_named(small):
    records = read_records(small / "records.parquet")
    write_records(records[records["strategy"] != "oracle"], small / "records.parquet")
    assert "Without any result: Oracle (target labels)" in Reader(make_report(small)).text


def test_a_folder_that_is_no_run_and_broken_tables_are_refused(small, tmp_path):
    with pytest.raises(RecordError, match=r"no study\.yaml"):
        make_report(tmp_path)
    (small / "trials.csv").write_text("strategy,trial\ndann,0\n")
    with pytest.raises(RecordError, match="columns seed, job, state"):
        make_report(small)


def test_a_failing_report_leaves_the_old_one(small):
    page = make_report(small)
    before = page.read_text()
    (small / "records.parquet").write_bytes(b"broken")
    with pytest.raises(StaindaError):
        make_report(small)
    assert page.read_text() == before


def test_report_needs_neither_torch_nor_slides_nor_registration(small):
    code = (  # an entry None in sys.modules would be taken for torch by scipy, which asks what is loaded
        "import importlib.abc, sys\n"
        "class Blocked(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in {'torch', 'torchvision', 'valis', 'openslide', 'pyvips', 'pytorch_adapt',"
        " 'optuna', 'timm', 'lightning_fabric'}:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
        "from stainda.report import make_plot, make_report\n"
        f"print(make_plot({str(small)!r}, 'slopes').caption)\n"
        f"print(make_report({str(small)!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("index.html")


def test_jobs_of_earlier_settings_are_not_counted_and_fallbacks_have_their_reason(small):
    import json
    import shutil

    from stainda.report.data_tables import left_out
    from stainda.report.loading import load_run

    mine = sorted(path.name for path in (small / "jobs").iterdir())
    shutil.copytree(small / "jobs" / mine[0], small / "jobs" / "earlier00000")
    path = small / "jobs" / mine[0] / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "fallbacks": {"P1_CD68": "a single colour"}}))
    run = load_run(small)
    assert set(run.jobs) == set(mine)
    rows = left_out(run).frame
    row = rows[rows["status"] == "fell back"].iloc[0]
    assert "P1_CD68" in row["what"] and row["reason"] == "a single colour"


def test_records_of_earlier_settings_are_not_summarised_as_those_of_the_run(small):
    from stainda.study.steps import report_run

    trials = pd.read_csv(small / "trials.csv")
    trials.assign(job=[f"new{index}" for index in range(len(trials))]).to_csv(small / "trials.csv", index=False)
    with pytest.raises(StaindaError, match="other settings"):
        report_run(small)
