"""A study of several shares and starts: counted objects, starts that are shared, curves, and regions to annotate."""

import pandas as pd
import pytest
from small_cohorts import QUICK_STUDY, make_blob_cohort, write_study

from stainda.report import make_plot, view
from stainda.study import run_study
from stainda.study.active import simulate_rounds, suggest_regions

STUDY = (
    "study: few\n"
    + QUICK_STUDY
    + """strategies:
  - source_only
  - {{from: source_only, name: some, labels: {{name: source, share: 30 %}}}}
  - from: source_only
    name: serial
    labels: {{name: source, share: 30 %}}
    training: {{init: {{pairs: serial, epochs: 1, batch_size: 8, certainty: 0.1}}}}
  - from: propagated_labels
    name: propagated
    labels: {{name: propagated, share: 30 %}}
    training: {{init: {{pairs: serial, epochs: 1, batch_size: 8, certainty: 0.1}}}}
"""
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("few")
    manifest = make_blob_cohort(folder / "cohort")
    return run_study(write_study(manifest, folder / "study.yaml", STUDY), folder / "run", overrides=["workers=1"])


@pytest.fixture(scope="module")
def refitted(run, tmp_path_factory):
    """Two of the strategies, trained again from all source patients."""
    changes = [
        "workers=1", "protocol.refit=true", "baseline=source_only",
        "strategies=[source_only, {from: source_only, name: some, labels: {name: source, share: 30 %}}]",
    ]  # fmt: skip
    return run_study(run.parent / "study.yaml", tmp_path_factory.mktemp("refitted") / "run", overrides=changes)


def test_objects_are_counted_and_starts_shared(run):
    shares = pd.read_csv(run / "label_shares.csv").set_index("strategy")
    assert shares.loc["source_only", "objects"] == shares.loc["source_only", "of"] > shares.loc["some", "objects"] > 0
    assert shares.loc["some", "objects"] == shares.loc["propagated", "objects"]
    starts = pd.read_csv(run / "pretraining.csv")
    assert len(starts) == 1 and starts["strategies"].item() == "serial;propagated" and starts["pairs_used"].item() > 0
    assert starts["cpu_seconds"].item() > 0 and len(list((run / "pretraining").iterdir())) == 1
    assert (pd.read_csv(run / "trials.csv")["state"] == "complete").all()


def test_the_curve_has_the_counted_objects(run):
    drawn = make_plot(view(run), "label_curve")
    targets = drawn.frame[drawn.frame["domain"] == "all targets"].set_index("strategy")
    assert set(targets.index) == {"source_only", "some", "serial", "propagated"}
    assert targets.loc["source_only", "of_all_labels"] == 1 and targets["curve"].nunique() == 3
    results = pd.read_csv(run / "results.csv")
    rows = results[(results["strategy"] == "some") & (results["domain"] == "all targets")]
    rows = rows[(rows["measure"] == "dice") & (rows["selection"] == "source_validation")]
    assert targets.loc["some", "mean"] == pytest.approx(rows["mean"].iloc[0])


def test_regions_to_annotate_are_chosen_and_written(run):
    for method in ("entropy", "disagreement", "core_set", "random"):
        found = suggest_regions(run, method=method, budget=3, strategy="some")
        assert 1 <= len(found.rows) <= 3 and all(file.is_file() for file in found.files)
    table = pd.read_csv(run / "active" / "regions.csv")
    cohort = pd.read_csv(run / "cohort.csv").set_index("slide")
    assert set(cohort.loc[table["slide"], "split"]) == {"train"}


def test_rounds_reveal_objects(run):
    rows = simulate_rounds(run, methods=("entropy", "random"), rounds=2, budget=2, strategy="source_only")
    table = pd.DataFrame(rows)
    assert table.groupby("method")["objects"].apply(lambda one: one.is_monotonic_increasing).all()
    assert table[table["round"] == 1]["job"].nunique() == 1, "every method starts from the same regions"
    assert table["dice"].between(0, 1).all() and (run / "active" / "rounds.csv").is_file()


def test_trainings_made_again_from_all_source_patients_count_the_objects_of_all(refitted):
    shares, refits = (pd.read_csv(refitted / name, dtype={"job": str}) for name in ("label_shares.csv", "refits.csv"))
    again = shares[shares["job"].isin(refits["job"])].set_index("strategy")
    first = shares[~shares["job"].isin(refits["job"])].set_index("strategy")
    objects = pd.read_parquet(refitted / "patches" / "objects.parquet").query("kind == 'own'")
    number = {split: int((objects["split"] == split).sum()) for split in ("train", "val")}
    assert (first["of"] == number["train"]).all() and number["val"]
    assert (again["of"] == sum(number.values())).all()
    assert again.loc["some", "objects"] > first.loc["some", "objects"]
    drawn = make_plot(view(refitted), "label_curve").frame.set_index(["strategy", "domain"])
    for name in ("source_only", "some"):
        assert drawn.loc[(name, "all targets"), "objects"] == again.loc[name, "objects"]
        card = (refitted / "report" / "model_cards" / f"{name}.md").read_text(encoding="utf-8")
        assert f"{again.loc[name, 'objects']} of {again.loc[name, 'of']} annotated objects" in card


def test_rounds_are_simulated_on_a_run_whose_trainings_were_made_again(refitted):
    rows = simulate_rounds(refitted, methods=("random",), rounds=2, budget=2, strategy="source_only")
    assert [row["round"] for row in rows] == [1, 2] and all(0 <= row["dice"] <= 1 for row in rows)
