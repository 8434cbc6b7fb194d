"""Trainings that start from a training of another study: what is taken, what is refused, and what it is recorded as."""

from pathlib import Path

import pandas as pd
import pytest
import yaml
from safetensors.torch import load_file
from small_cohorts import QUICK_STUDY, make_blob_cohort, write_study

from stainda.config import load_study
from stainda.errors import ConfigError, LeakError
from stainda.strategies.detector import Detector, Standard
from stainda.study import run_study
from stainda.study.other_runs import with_starts
from stainda.study.plan import plan_study
from stainda.training import Job

OTHER = "study: other\n" + QUICK_STUDY + "strategies: [source_only]\n"
STUDY = (
    "study: few\n"
    + QUICK_STUDY
    + """starts: {{other: {run}}}
strategies:
  - {{from: source_only, training: {{start: random}}}}
  - {{from: source_only, name: tuned, training: {{start: other}}}}
  - {{from: source_only, name: head, training: {{start: other, train: head}}}}
"""
)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """The run directory of a study on other patients."""
    folder = tmp_path_factory.mktemp("other")
    manifest = make_blob_cohort(folder / "cohort")
    study = write_study(manifest, folder / "study.yaml", OTHER)
    return run_study(study, folder / "run", overrides=["workers=1"], until="evaluate")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_blob_cohort(tmp_path_factory.mktemp("own") / "cohort", first=50)


@pytest.fixture(scope="module")
def run(other, manifest, tmp_path_factory):
    folder = tmp_path_factory.mktemp("few")
    return run_study(_study(folder, manifest, other), folder / "run", overrides=["workers=1"])


def _study(folder: Path, manifest: Path, run: object, changes: str = "") -> Path:
    path = folder / "study.yaml"
    path.write_text(STUDY.format(manifest=manifest, run=run) + changes)
    return path


def _job(run: Path) -> Path:
    return run / "jobs" / str(pd.read_csv(run / "trials.csv")["job"].iloc[0])


def _network(job: Job):
    """As a training of it has it at its first step."""
    from stainda.strategies import build

    return Detector.build(build(job.strategy), job.model, job.task, Standard.of([0.5] * 3, [0.5] * 3)).network


def test_a_study_trains_further_what_another_has_trained(other, run):
    trials = pd.read_csv(run / "trials.csv").set_index("strategy")
    assert (trials["state"] == "complete").all(), trials["reason"].dropna().tolist()
    job, given = Job.load(run / "jobs" / trials.loc["head", "job"]), load_file(_job(other) / "model.safetensors")
    assert job.model.weights == _job(other) / "model.safetensors" and job.model.weights_sha256
    assert job.encoder_standard() == Job.load(run / "jobs" / trials.loc["tuned", "job"]).encoder_standard() is not None
    network, learned = _network(job), load_file(run / "jobs" / trials.loc["head", "job"] / "model.safetensors")
    encoder = [name for name in given if network.in_encoder(name) and name in learned]  # fixed layers count no batches
    assert encoder and all((learned[name] == given[name]).all() for name in encoder), "train: head"
    assert any((learned[name] != given[name]).any() for name in set(given) & set(learned))
    tuned = load_file(run / "jobs" / trials.loc["tuned", "job"] / "model.safetensors")
    assert any((tuned[name] != given[name]).any() for name in encoder)
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    assert "the encoder of strategy source_only, seed 1, of study other" in page
    log = (run / "jobs" / trials.loc["head", "job"] / "log.txt").read_text(encoding="utf-8")
    assert "the encoder of strategy source_only, seed 1, of study other" in log
    again = load_study(run / "study.yaml")
    assert with_starts(again) == again, "a resolved study names its training"


def test_at_the_first_step_the_encoder_is_that_of_the_other_training(other, manifest, tmp_path):
    study = with_starts(load_study(_study(tmp_path, manifest, other)))
    given = load_file(_job(other) / "model.safetensors")
    job = Job.load(_job(other))
    for part in ("encoder", "body", "network"):
        model = study.strategies[1].model.model_copy(update={"weights_part": part})
        network = _network(type(job)(**{**vars(job), "model": model}))
        same = {name for name, tensor in network.state_dict().items() if (tensor == given[name]).all()}
        encoder = {name for name in given if network.in_encoder(name)}
        head = {name for name in given if name.startswith(network.head_names)}
        learned = {name for name, _ in network.named_parameters() if name.endswith(".weight")}
        assert encoder <= same
        assert bool(learned - encoder - head - same) == (part == "encoder")
        assert bool(head - same) == (part != "network")


def test_a_training_that_saw_a_tested_patient_is_refused(other, manifest, tmp_path):
    """By its name, whatever the slide; by its slide, whatever the name."""
    rows = pd.read_csv(manifest)
    tested, theirs = "P50", pd.read_csv(other / "cohort.csv").query("split == 'train'")
    rows["split"] = rows["patient"].map({"P50": "test", "P51": "train", "P52": "val"}).fillna("test")
    rows["path"] = [str(manifest.parent / path) for path in rows["path"]]
    rows["annotations"] = [str(manifest.parent / path) for path in rows["annotations"]]
    shared = theirs["patient"].iloc[0]
    named = rows.assign(patient=rows["patient"].replace({tested: shared}))
    named.to_csv(tmp_path / "named.csv", index=False)
    with pytest.raises(
        LeakError, match=rf"(?s)other.*tuned.*patients {theirs['patient'].iloc[0]} .*study other"
    ) as known:
        plan_study(load_study(_study(tmp_path, tmp_path / "named.csv", other)))
    assert "unrelated_patients" in str(known.value.remedy)
    unrelated = f"{{run: {other}, unrelated_patients: true}}"
    plan_study(load_study(_study(tmp_path, tmp_path / "named.csv", unrelated)))

    copied = rows.set_index("slide")
    copied.loc[f"{tested}_PAS", "path"] = theirs.set_index("slide").loc[theirs["slide"].iloc[0], "path"]
    copied.reset_index().to_csv(tmp_path / "copied.csv", index=False)
    with pytest.raises(LeakError, match=f"slides {tested}_PAS .*study other"):
        plan_study(load_study(_study(tmp_path, tmp_path / "copied.csv", unrelated)))


def test_patients_are_followed_through_a_chain_of_studies(other, run, tmp_path):
    """What the other study itself started from was trained on its patients."""
    between = run / "jobs" / pd.read_csv(run / "trials.csv").set_index("strategy").loc["tuned", "job"]
    path = _study(tmp_path, other.parent / "cohort" / "manifest.csv", between)
    with pytest.raises(LeakError, match="study other"):
        plan_study(load_study(path, ["seed=5", "strategies=[{from: source_only, training: {start: other}}]"]))


def test_what_does_not_fit_is_refused_before_any_work(other, manifest, tmp_path):
    path = _study(tmp_path, manifest, other)
    for change, message in {
        "model={name: unet, params: {depth: 2, width: 8}}": "unet .*width.: 4.* and this one unet .*width.: 8",
        "task=glomeruli_detection": "network for segmentation, and this study is one of classification",
        "strategies=[{from: greyscale, training: {start: other}}]": "tensors of the encoder .*another shape",
        f"starts.other={{run: {other}, strategy: dann}}": "starts.other: .*no strategy 'dann'",
        f"starts.other={{run: {other}, seed: 7}}": "starts.other: .*not trained with seed 7",
        "starts.other=nowhere": "starts.other: .*not a run directory",
    }.items():
        with pytest.raises(ConfigError, match=message):
            plan_study(load_study(path, [change]))
    with pytest.raises(ConfigError, match=r"no start 'othr'.*other"):
        load_study(path, ["training.start=othr"])
    with pytest.raises(ConfigError, match="'random' names"):
        load_study(path, [f"starts.random={other}"])


def test_the_last_layer_is_new_where_classes_differ(other, manifest, tmp_path):
    whole = f"{{run: {other}, part: network}}"
    study = with_starts(load_study(_study(tmp_path, manifest, whole)))
    assert study.strategies[1].model.weights_part == "network"
    changed = yaml.safe_dump({"name": "mine", "classes": ["lymphocyte"]}, default_flow_style=True).strip()
    study = with_starts(load_study(_study(tmp_path, manifest, whole), [f"task={changed}"]))
    assert study.strategies[1].model.weights_part == "body"
