"""Several studies: paired where patients are shared, not elsewhere, refused where scores differ in meaning."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest
import yaml
from make_run import make_run

from stainda.errors import StaindaError
from stainda.evaluation import read_records, write_records
from stainda.report import make_comparison
from stainda.report.comparing import compare_runs, sentences

SMALL = dict(
    test_patients=8, stains=("PAS", "SR", "CD68"), centres=("A",), strategies=("source_only", "dann", "oracle"),
    registration=False, failed_job=False, seeds=2, trials=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("studies") / "first", **SMALL)


@pytest.fixture
def pair(made, tmp_path):
    """The study, and a copy in which dann is 0.1 of Dice worse for every patient on SR."""
    other = tmp_path / "second"
    shutil.copytree(made, other)
    records = read_records(other / "records.parquet")
    rows = (records["strategy"] == "dann") & (records["domain"] == "SR@A") & (records["measure"] == "dice")
    worse = records.loc[rows, "tp"] * 0.8
    records.loc[rows, "fn"] += records.loc[rows, "tp"] - worse
    records.loc[rows, "tp"] = worse
    write_records(records, other / "records.parquet")
    return made, other


def test_the_same_strategy_is_paired_by_patient(pair):
    found = compare_runs(pair)
    rows = found.paired.set_index("strategy")
    tables = [read_records(run / "records.parquet") for run in pair]
    means = []
    for table in tables:
        mine = table[(table["strategy"] == "dann") & (table["measure"] == "dice") & (table["checkpoint"] == "best")]
        mine = mine[(mine["split"] == "test") & mine["domain"].isin(["SR@A", "CD68@A"])]
        dice = 2 * mine["tp"] / (2 * mine["tp"] + mine["fp"] + mine["fn"])
        means.append(dice.groupby(mine["patient"]).mean())
    gain = (means[1] - means[0]).to_numpy()
    assert rows.loc["dann", "difference"] == pytest.approx(gain.mean())
    assert 0 < rows.loc["dann", "p"] < 0.01 and rows.loc["dann", "interval_kind"] == "interval"
    assert rows.loc["dann", "p_holm"] == pytest.approx(3 * rows.loc["dann", "p"])
    assert rows.loc["oracle", "difference"] == 0 and rows.loc["oracle", "p"] == 1
    said = " ".join(sentence.text for sentence in sentences(found))
    assert "In second shown to be worse than in first by Dice (eight shared patients): DANN" in said


def test_slides_of_the_same_name_but_other_objects_are_not_paired(pair):
    _, second = pair
    records = read_records(second / "records.parquet")
    objects = records["measure"].eq("object_f1") & records["split"].eq("test")
    records.loc[objects, "fn"] += 1
    write_records(records, second / "records.parquet")
    found = compare_runs(pair)
    assert found.paired.empty and "other annotated objects" in found.shared.iloc[0]["note"]
    said = " ".join(sentence.text for sentence in sentences(found))
    assert "cannot be compared patient by patient" in said and "shown to be" not in said


def test_other_patients_are_not_paired(pair):
    records = read_records(pair[1] / "records.parquet")
    records["patient"] = "X" + records["patient"]
    records["slide"] = "X" + records["slide"]
    write_records(records, pair[1] / "records.parquet")
    found = compare_runs(pair)
    assert found.paired.empty and found.shared.iloc[0]["shared_patients"] == 0
    assert len(found.scores["study"].unique()) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda study: study["task"].update(classes=["tubule"]), "finds tubule"),
        (lambda study: study["evaluation"].update(iou=0.3), "hit with an IoU of at least 0.3"),
        (lambda study: study.update(domain=["stain"]), "domains of second are stain"),
    ],
)
def test_studies_whose_scores_mean_other_things_are_refused(pair, change, words):
    path = pair[1] / "study.yaml"
    study = yaml.safe_load(path.read_text())
    change(study)
    path.write_text(yaml.safe_dump(study))
    with pytest.raises(StaindaError, match="cannot be compared") as error:
        compare_runs(pair)
    assert words in str(error.value)


def test_one_study_or_the_same_twice_is_refused(made):
    with pytest.raises(StaindaError, match="nothing to be compared with"):
        compare_runs([made])
    with pytest.raises(StaindaError, match="given twice"):
        compare_runs([made, made])


def test_the_page_holds_the_numbers_and_replaces_only_its_own_folder(pair, tmp_path):
    out = tmp_path / "comparison"
    page = make_comparison(pair, out)
    html = page.read_text()
    paired = pd.read_csv(out / "tables" / "paired.csv")
    assert f"{abs(paired.set_index('strategy').loc['dann', 'difference']):.3f}" in html
    assert make_comparison(pair, out) == page
    busy = tmp_path / "busy"
    busy.mkdir()
    (busy / "thesis.txt").write_text("mine")
    with pytest.raises(StaindaError, match="other files"):
        make_comparison(pair, busy)
    assert (busy / "thesis.txt").read_text() == "mine"


def test_studies_in_which_every_domain_teaches_are_paired_on_these(pair, tmp_path):
    """They have no targets; the page once ended in a traceback, and nothing was paired."""
    for run in pair:
        shutil.copytree(run, tmp_path / f"pooled_{run.name}")
    pooled = [tmp_path / f"pooled_{run.name}" for run in pair]
    for run in pooled:
        values = yaml.safe_load((run / "study.yaml").read_text())
        values["protocol"] |= {"scheme": "pooled", "sources": []}
        (run / "study.yaml").write_text(yaml.safe_dump(values))
    found = compare_runs(pooled)
    assert set(found.overall["domain"]) == {"all sources"}
    rows = found.paired.set_index("strategy")
    assert set(rows["domain"]) == {"CD68@A + PAS@A + SR@A"}
    assert rows.loc["dann", "difference"] < 0 and rows.loc["dann", "n_patients"] == 8
    page = make_comparison(pooled, tmp_path / "page").read_text(encoding="utf-8")
    assert "each study's own domains" in page or "each study&#39;s own domains" in page
    with pytest.raises(StaindaError, match="every domain teaches"):
        compare_runs([pair[0], pooled[1]])
