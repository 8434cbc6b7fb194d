"""A study of several classes, from annotations to page: confusion of classes, and the scores class by class."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
from small_cohorts import QUICK_STUDY, make_blob_cohort, write_study

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from overlaps import faults

from stainda.evaluation import read_records
from stainda.report import make_plot, view
from stainda.run_directory.result_tables import CONFUSION
from stainda.study import run_study

CLASSES = ["glomerulus", "sclerotic glomerulus"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classes")
    manifest = make_blob_cohort(folder / "cohort")
    for path in (folder / "cohort").glob("*.geojson"):
        collection = json.loads(path.read_text())
        for feature in collection["features"][::2]:
            feature["properties"]["classification"]["name"] = CLASSES[1]
        path.write_text(json.dumps(collection))
    text = QUICK_STUDY.replace("task: glomeruli_segmentation", "task: glomeruli_sclerosis")
    study = write_study(manifest, folder / "study.yaml", f"study: classes\n{text}strategies: [source_only, adabn]\n")
    return run_study(study, folder / "run", overrides=["workers=1"])


def test_every_annotated_object_stands_in_the_confusion_once(run):
    table = pd.read_parquet(CONFUSION.at(run))
    assert list(table.columns) == list(CONFUSION.names)
    objects = table[table["unit"] == "objects"]
    annotated = objects[objects["annotated"] != "background"]
    per_slide = annotated.groupby(["strategy", "slide", "annotated"])["count"].sum().unstack()
    assert len(per_slide) and set(per_slide.columns) == set(CLASSES) and (per_slide == 2).all(axis=None)


def test_pixels_of_a_class_are_those_of_the_records(run):
    table = pd.read_parquet(CONFUSION.at(run))
    table = table[table["unit"] == "pixels"]
    records = read_records(run / "records.parquet")
    dice = records[(records["measure"] == "dice") & (records["checkpoint"] == "best")]
    keys = ["strategy", "slide", "class"]
    annotated = table.rename(columns={"annotated": "class"}).groupby(keys)["count"].sum()
    hits = table[table["annotated"] == table["predicted"]].rename(columns={"annotated": "class"})
    hits = hits.groupby(keys)["count"].sum()
    for key, rows in dice.groupby(keys):
        assert rows["tp"].sum() + rows["fn"].sum() == annotated[key]
        assert rows["tp"].sum() == hits.get(key, 0)


def test_the_page_shows_each_class_and_what_it_is_mistaken_for(run):
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    assert "Class by class" in page and "figure-confusion_objects" in page
    for name in CLASSES:
        assert f"<h3>{name}</h3>" in page
        assert (run / "report" / "tables" / f"class_{name.replace(' ', '_')}_dice.csv").is_file()
    drawn = pd.read_csv(run / "report" / "figures" / "confusion_objects.csv")
    shares = pd.read_csv(run / "report" / "tables" / "class_shares.csv")
    assert set(shares["class"]) == set(CLASSES) and (shares["n_patients"] > 0).any()
    assert shares.loc[shares["unit"] == "number of objects", "annotated"].dropna().to_numpy() == pytest.approx(0.5)
    assert set(shares["interval_kind"]) <= {"interval", "range", "none"}
    known = shares[shares["interval_kind"] != "none"]
    assert (known["concordance_low"] <= known["concordance_high"]).all()
    assert set(drawn["role"]) == {"source", "target"} and set(drawn["annotated"]) == {*CLASSES, "background"}


@pytest.mark.parametrize("kind", ["confusion_objects", "confusion_pixels"])
def test_no_words_of_the_matrices_lie_over_each_other(run, kind):
    made = make_plot(view(run), kind)
    assert faults(made.figure) == [] and "n\u00a0=" in made.caption and made.caption.endswith(".")
