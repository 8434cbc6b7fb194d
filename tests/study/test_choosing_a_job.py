"""The job that is applied to new slides: what the page names, never what learned from target labels."""

import json
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from make_run import make_run

from stainda.errors import StaindaError
from stainda.report import load_run
from stainda.report.answer import answer
from stainda.report.leading import named_first
from stainda.report.study_view import make_view
from stainda.study.choosing import choose_job


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    strategies = ("source_only", "hed_augmentation", "propagated_labels", "few_shot", "oracle")
    return make_run(tmp_path_factory.mktemp("runs") / "made", strategies=strategies, registration=False, evidence=False)


def test_the_best_is_the_one_the_page_names(run):
    loaded = load_run(run)
    view = make_view(loaded)
    choice = choose_job(run)
    assert choice.strategy == "propagated_labels", "oracle and few-shot score higher, with labels of the targets"
    leading = answer(view)[0].text
    assert leading.startswith(f"{choice.label} is shown to be better") and "shown to be better" in choice.reasons[0]
    assert view.overall()["mean"].idxmax() == "oracle"


def test_of_its_trainings_the_best_on_source_validation(run):
    trials = pd.read_csv(run / "trials.csv", dtype={"job": str})
    mine = trials[(trials["strategy"] == "propagated_labels") & (trials["trial"] == 0)]
    best = mine.loc[mine["value"].idxmax()]
    choice = choose_job(run)
    assert (choice.folder, choice.seed) == (run / "jobs" / best["job"], best["seed"])
    assert (choice.trial, choice.checkpoint) == (0, "best")
    assert choice.reasons[1] == f"of 2 trainings of it the best on source validation ({best['value']:.3f})"
    other = mine[mine["seed"] != best["seed"]].iloc[0]
    again = choose_job(run, seed=int(other["seed"]), checkpoint="last")
    assert (again.folder.name, again.checkpoint) == (other["job"], "last")
    with pytest.raises(StaindaError, match=r"not trained with seed 9.*There are: "):
        choose_job(run, seed=9)


def test_a_study_of_several_rotations_has_no_one_job(run, tmp_path):
    root = tmp_path / "root"
    (root / "rotations").mkdir(parents=True)
    shutil.copytree(run, root / "rotations" / "one")
    shutil.copy(run / "study.yaml", root)
    columns = "rotation,group,folder,sources,targets,train,val,test,state,reason\n"
    (root / "rotations.csv").write_text(f"{columns}one,one,rotations/one,PAS@A,SR@A,P01,P02,P03,complete,\n")
    with pytest.raises(StaindaError, match=r"several rotations.*below rotations/"):
        choose_job(root)
    assert choose_job(root / "rotations" / "one").strategy == "propagated_labels"


def test_others_can_be_named(run):
    assert choose_job(run, strategy="source_only").strategy == "source_only"
    assert "learned from labels of the targets" in choose_job(run, strategy="few_shot").reasons[0]
    assert choose_job(run, strategy="hed_augmentation").label == "HED augmentation"
    with pytest.raises(StaindaError, match="Did you mean 'source_only'"):
        choose_job(run, strategy="source_onli")


def test_a_job_is_found_by_the_beginning_of_its_name(run, tmp_path):
    folder = run / "jobs" / "source000000"
    (folder / "settings.json").write_text(json.dumps({"strategy": {"name": "source_only"}, "seed": 4}))
    one = choose_job(run, job="source0000")
    assert (one.folder, one.strategy, one.seed) == (folder, "source_only", 4)
    assert choose_job(folder).folder == folder
    with pytest.raises(StaindaError, match="jobs begin with 'source'"):
        choose_job(run, job="source")
    with pytest.raises(StaindaError, match="there is no job 'x'"):
        choose_job(run, job="x")
    with pytest.raises(StaindaError, match="one job already"):
        choose_job(folder, strategy="source_only")
    with pytest.raises(StaindaError, match="not a run directory"):
        choose_job(tmp_path)


def test_where_no_other_is_better_the_baseline_is_taken(tmp_path):
    run = make_run(tmp_path / "run", strategies=("source_only", "macenko", "oracle"), registration=False,
                   evidence=False)  # fmt: skip
    choice = choose_job(run)
    assert choice.strategy == "source_only" and "none of the others scored higher" in choice.reasons[0]
    loaded = load_run(run)
    assert named_first(loaded, make_view(loaded).analysis)[0] == "source_only"


def test_what_is_shown_to_be_better_is_taken(tmp_path):
    run = make_run(tmp_path / "run", strategies=("source_only", "propagated_labels", "oracle"), registration=False,
                   evidence=False, test_patients=8)  # fmt: skip
    loaded = load_run(run)
    leading = next(one.text for one in answer(make_view(loaded)) if "is shown to be better" in one.text)
    choice = choose_job(run)
    assert leading.startswith(choice.label) and choice.reasons[0].startswith("shown to be better than Source only")


def test_trainings_that_are_gone_are_not_chosen(tmp_path):
    run = make_run(tmp_path / "run", strategies=("source_only", "hed_augmentation"), registration=False, evidence=False)
    first = choose_job(run)
    (first.folder / "done").unlink()
    second = choose_job(run)
    assert second.strategy == first.strategy and second.folder != first.folder
    (second.folder / "done").unlink()
    with pytest.raises(StaindaError, match="the trained jobs of hed_augmentation are not in this run"):
        choose_job(run)
