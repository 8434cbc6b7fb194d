"""What a run directory holds is reported, or the page says what was left out and why."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest
from small_cohorts import write_study

from stainda.report.data_tables import left_out
from stainda.report.loading import load_run
from stainda.study import run_study

BASE = ["workers=1", "registration.method=identity", "ceiling=oracle"]
THREE, ONE = "strategies=[source_only, dann, oracle]", "strategies=[source_only]"


@pytest.fixture(scope="module")
def study(blob_manifest, tmp_path_factory):
    return write_study(blob_manifest, tmp_path_factory.mktemp("earlier") / "blobs.yaml")


@pytest.fixture(scope="module")
def whole(study, tmp_path_factory):
    """All three strategies, two seeds."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return run_study(study, folder, overrides=[*BASE, THREE, "protocol.seeds=2"])


@pytest.fixture
def run(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "run")


def _again(study, run, *changes, until="evaluate"):
    run_study(study, run, overrides=[*BASE, *changes], until=until)
    return pd.read_csv(run / "trials.csv", dtype={"job": str}), pd.read_csv(run / "exclusions.csv", dtype={"job": str})


def _accounted(run):
    """Every folder of jobs/ has a row in one of the two tables."""
    tables = [pd.read_csv(run / name, dtype={"job": str})["job"] for name in ("trials.csv", "exclusions.csv")]
    assert {path.name for path in (run / "jobs").iterdir()} == set(pd.concat(tables))
    assert not set(tables[0]) & set(tables[1])


def test_fewer_strategies_lose_none_that_is_comparable(study, run):
    before = {name: pd.read_csv(run / name) for name in ("trials.csv", "results.csv")}
    trials, excluded = _again(study, run, ONE, "protocol.seeds=2", until="report")
    assert excluded.empty and set(trials["strategy"]) == {"source_only", "dann", "oracle"}
    pd.testing.assert_frame_equal(pd.read_csv(run / "results.csv"), before["results.csv"])
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    assert "Kept from an earlier call" in page and "No other strategy was evaluated" not in page
    loaded = load_run(run)
    assert loaded.earlier == ("dann", "oracle") and loaded.study.strategy("oracle").labels.name == "all"
    assert (run / "report" / "model_cards" / "dann.md").is_file()
    _accounted(run)


def test_tables_that_an_older_version_cut_are_made_whole_from_the_disk(study, run):
    before = pd.read_csv(run / "trials.csv", dtype={"job": str})
    before[before["strategy"] == "source_only"].to_csv(run / "trials.csv", index=False)
    (run / "exclusions.csv").unlink(missing_ok=True)
    trials, excluded = _again(study, run, ONE, "protocol.seeds=2")
    columns = ["strategy", "trial", "seed", "job", "state", "chosen"]
    keys = ["strategy", "trial", "seed"]
    pd.testing.assert_frame_equal(
        trials[columns].sort_values(keys, ignore_index=True), before[columns].sort_values(keys, ignore_index=True)
    )
    assert excluded.empty


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (("protocol.seeds=1",), "asks for 1 seed"),
        (("protocol.seeds=2", "search.trials=1"), "2 trials, now 1"),
        (("protocol.seeds=3",), "2 seeds, now 3"),
        (("protocol.seeds=2", "training.steps_per_epoch=3"), "training.steps_per_epoch was 4, is now 3"),
        (("protocol.seeds=2", "protocol.visible=nothing"), "protocol.visible was targets, is now nothing"),
        (("protocol.seeds=2", "patches.per_object=3"), "patches.per_object was 2, is now 3"),
    ],
)
def test_what_is_not_comparable_is_named_with_the_reason(study, run, changes, why):
    with_page = changes[0] == "protocol.seeds=3"
    _, excluded = _again(study, run, ONE, *changes, until="report" if with_page else "evaluate")
    mine = excluded[excluded["strategy"] == "dann"]
    assert len(mine) and mine["why"].str.contains(why, regex=False).all(), mine["why"].tolist()
    _accounted(run)
    table = left_out(load_run(run))
    assert table is not None
    not_reported = table.frame[table.frame["status"] == "not reported"]
    assert not_reported["reason"].str.contains(why, regex=False).any()
    if with_page:
        page = (run / "report" / "index.html").read_text(encoding="utf-8")
        assert why in page.replace("&#39;", "'")
    back, none = _again(study, run, THREE, "protocol.seeds=2")
    assert len(back) == 9 and not set(none["job"]) & set(back["job"])
