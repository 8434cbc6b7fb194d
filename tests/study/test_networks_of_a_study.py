"""A strategy may have a network of its own: it is trained, planned, stated on the page and used for prediction."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from small_cohorts import QUICK_STUDY, make_blob_cohort, write_study

from stainda.config import load_study
from stainda.errors import ConfigError
from stainda.study import run_study
from stainda.study.plan import plan_study

STUDY = (
    "study: networks\n"
    + QUICK_STUDY
    + """strategies:
  - source_only
  - {{from: source_only, name: segnet, model: {{from: segnet_small, params: {{width: 4}}}}}}
  - {{from: source_only, name: pangnet, model: pangnet}}
  - {{from: source_only, name: the_same, model: {{name: unet, params: {{depth: 2, width: 4}}}}}}
"""
)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    return write_study(make_blob_cohort(folder / "cohort"), folder / "study.yaml", STUDY)


@pytest.fixture(scope="module")
def run(study):
    return run_study(study, study.parent / "run", overrides=["workers=1"])


def test_names_and_changes_are_resolved(study):
    config = load_study(study)
    assert [(model.name, names) for model, names in config.networks()] == [
        ("unet", ["source_only", "the_same"]), ("segnet", ["segnet"]), ("pangnet", ["pangnet"]),
    ]  # fmt: skip
    assert config.networks()[1][0].params == {"width": 4, "norm": "batch"}


def test_every_strategy_is_trained_with_its_network(run):
    trials = pd.read_csv(run / "trials.csv", dtype=str).set_index("strategy")
    assert (trials["state"] == "complete").all()
    networks = {
        name: json.loads((run / "jobs" / job / "settings.json").read_text())["model"]["name"]
        for name, job in trials["job"].items()
    }
    assert networks == {"source_only": "unet", "the_same": "unet", "segnet": "segnet", "pangnet": "pangnet"}
    assert (run / "jobs" / trials.loc["segnet", "job"] / "model.safetensors").is_file()


def test_the_page_says_whose_network_is_another(run):
    table = pd.read_csv(run / "report" / "tables" / "recipe.csv").set_index("setting")
    assert table.loc["network", "value"] == "unet (depth 2, width 4)"
    departs = table.loc["network", "departs"].split("; ")
    assert departs == ["segnet: segnet (width 4, norm batch)", "pangnet: pangnet (width 8, convolutions 3)"]
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    assert "Networks (unet, segnet and pangnet) were trained" in page


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("segnett", "Did you mean"),
        ("lenet_5", "is for classification, and the task is segmentation"),
        ("deconvnet", "224"),
    ],
)
def test_a_network_that_cannot_be_is_refused_before_anything_is_made(study, model, message):
    strategy = f"{{from: source_only, name: other, model: {model}}}"
    with pytest.raises(ConfigError, match=message):
        plan_study(load_study(study, [f"strategies=[source_only, {strategy}]"]))
