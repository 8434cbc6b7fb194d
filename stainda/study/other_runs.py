"""Starts from trainings of other studies: which training, whether it fits, and that it saw no patient tested here.

A supervised training on data set A gives the weights, and strategies are trained further on few labels of data set B:

- Xia, Kumar, Feng & Kim (2018), "Patch-level tumor classification in digital histopathology images with domain adapted
  deep learning", EMBC, 644-647: pretraining on other tissues, then fine-tuning.
- Kieffer, Babaie, Kalra & Tizhoosh (2017), "Convolutional neural networks for histopathology image classification:
  training vs. using pre-trained networks", IPTA, arXiv 1710.05726: a linear classifier on features that stay as they
  are (``train: head``) against training.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stainda.cohort import Cohort, Roles, Section
from stainda.config import ModelConfig, PretrainingConfig, StartConfig, StrategyConfig, StudyConfig, WeightsPart
from stainda.errors import ConfigError, LeakError, StaindaError
from stainda.files import load_json
from stainda.run_directory.contents import VIEW
from stainda.run_directory.folder import read_study
from stainda.run_directory.tables import COHORT, SLIDES
from stainda.study.bad_slides import content_of

if TYPE_CHECKING:
    from stainda.training import Job


def with_starts(config: StudyConfig) -> StudyConfig:
    """The study with the network of every strategy that starts from another study written out: file and fingerprint of
    its weights, and the mean and standard deviation that they were trained with.

    Raises:
        ConfigError: there is no such training, or it is of another network or kind of task.
    """
    strategies = [
        strategy.model_copy(update={"model": _trained_model(config, strategy)})
        if config.start_name(strategy) in config.starts and config.model_of(strategy).weights_part is None
        else strategy
        for strategy in config.strategies
    ]
    return config.model_copy(update={"strategies": tuple(strategies)})


def check_starts(config: StudyConfig, cohort: Cohort, roles: Roles) -> None:
    """Refuse starts that were trained on what this study tests.

    Raises:
        LeakError: a tested patient or slide was seen in the training of a start, or of what that started from.
        ConfigError: the run directory that says so is not there.
    """
    tested = [
        section for section in cohort
        if section.split in ("test", "all") and roles.role(cohort.domain(section)) != "unused"
    ]  # fmt: skip
    config = with_starts(config)
    users: dict[tuple[str, Path], list[str]] = {}
    for strategy in config.strategies:
        name, model = config.start_name(strategy), config.model_of(strategy)
        if name in config.starts and model.weights is not None:
            users.setdefault((name, model.weights.parent), []).append(strategy.name)
    for (name, job), strategies in users.items():
        _refuse_leak(name, config.starts[name], _seen_by(job), tested, strategies)


@dataclass(frozen=True)
class _Seen:
    """What a training may have seen. ``slides``: by the hash of their files."""

    run: Path
    study: str
    patients: frozenset[str]
    slides: dict[str, str]


def _refuse_leak(
    name: str, start: StartConfig, seen: Iterable[_Seen], tested: Iterable[Section], strategies: list[str]
) -> None:
    for other in seen:
        same = [section for section in tested if (content := content_of(section.path)) and content in other.slides]
        known = [] if start.unrelated_patients else [entry for entry in tested if entry.patient in other.patients]
        if not same and not known:
            continue
        what = f"slides {_few(section.slide for section in same)}" if same else (
            f"patients {_few(section.patient for section in known)}"
        )  # fmt: skip
        unrelated = "" if same else (
            f"; or, where they are other people of the same names, set starts.{name}.unrelated_patients: true"
        )  # fmt: skip
        raise LeakError(
            f"start {name!r} (of {', '.join(strategies)}) has seen what this study tests: {what} are not test patients "
            f"of study {other.study}",
            file=other.run,
            remedy=f"Let them be test patients in both studies (column split of their manifests){unrelated}",
        )


def _few(names: Iterable[str]) -> str:
    listed = list(dict.fromkeys(names))
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")


def _seen_by(job: Path) -> list[_Seen]:
    """What a training, and whatever it started from, may have seen: sections of all but its test patients."""
    from stainda.training import Job

    run = job.parent.parent
    if not COHORT.at(run).is_file():
        raise ConfigError(
            "the patients of the training that strategies start from are not known, so a leak cannot be excluded",
            file=COHORT.at(run),
            remedy="Name the whole run directory of a finished study",
        )
    rows = [row for row in COHORT.rows(run) if row["role"] != "unused" and row["split"] != "test"]
    slides = {row["slide"] for row in rows}
    files = SLIDES.rows(run) if SLIDES.at(run).is_file() else []
    contents = {row["hash"]: row["slide"] for row in files if row["hash"] and row["slide"] in slides}
    seen = [_Seen(run, read_study(run).study, frozenset(row["patient"] for row in rows), contents)]
    before = Job.load(job).model
    if before.weights_part is not None and before.weights is not None:
        seen += _seen_by(before.weights.parent)
    return seen


def _trained_model(config: StudyConfig, strategy: StrategyConfig) -> ModelConfig:
    """The strategy's network, with the weights of the training that it starts from."""
    from stainda.models import pinned
    from stainda.strategies.detector import CHECKPOINTS
    from stainda.study.choosing import choose_job
    from stainda.training import Job

    name = config.start_name(strategy)
    start, model = config.starts[name], config.model_of(strategy)
    try:
        choice = choose_job(start.run, strategy=start.strategy, seed=start.seed)
        job = Job.load(choice.folder)
    except StaindaError as error:
        raise ConfigError(
            f"starts.{name}: {error.message}", file=error.file,
            remedy=error.remedy or "Name the run directory of a finished study",
        ) from error  # fmt: skip
    _check_network(config, model, job, name)
    given = model.model_copy(
        update={
            "weights": (choice.folder / CHECKPOINTS[choice.checkpoint]).resolve(),
            "weights_optional": False, "weights_sha256": "", "weights_missing": "",
            "weights_source": f"strategy {choice.strategy}, seed {job.seed}, of study {job.study}",
            "weights_part": _part(config, job, start),
            "pretraining": _pretraining(choice.folder, job),
        }
    )  # fmt: skip
    _check_tensors(config, strategy, given)
    return pinned(given)


def _check_network(config: StudyConfig, model: ModelConfig, job: Job, name: str) -> None:
    """Refuse another architecture or kind of task."""
    remedy = "Start from a training of this network, or give this study that one"
    if job.task.network != config.task.network:
        raise ConfigError(
            f"starts.{name}: study {job.study} trained a network for {job.task.network}, and this study is one of "
            f"{config.task.network}",
            file=config.starts[name].run, remedy=remedy,
        )  # fmt: skip
    theirs, own = ((network.name, network.params) for network in (job.model, model))
    if theirs != own:
        raise ConfigError(
            f"starts.{name}: study {job.study} trained {_in_words(job.model)}, and this one {_in_words(model)}",
            file=config.starts[name].run, remedy=remedy,
        )  # fmt: skip


def _in_words(model: ModelConfig) -> str:
    return f"{model.name} {json.dumps(model.params, sort_keys=True)}" if model.params else model.name


def _check_tensors(config: StudyConfig, strategy: StrategyConfig, model: ModelConfig) -> None:
    """Build the network once, as its trainings will, so that what does not fit is said before any work."""
    import torch

    from stainda.instances import task_for
    from stainda.strategies import build
    from stainda.strategies.detector import Detector, Standard

    parts = build(strategy)
    plain = Standard.of([0.5] * parts.view.channels, [0.5] * parts.view.channels)
    with torch.random.fork_rng(devices=[]):
        Detector.build(parts, model, task_for(config, strategy), plain)


def _part(config: StudyConfig, job: Job, start: StartConfig) -> WeightsPart:
    """What is taken: the last layer means something only for the classes it was trained for."""
    if start.part == "encoder":
        return "encoder"
    same = job.task.classes == config.task.classes and job.task.instances == config.task.instances
    return "network" if same else "body"


def _pretraining(folder: Path, job: Job) -> PretrainingConfig | None:
    """The mean and standard deviation that images were standardised by; ``None`` where they are not of colours."""
    from stainda.strategies import build

    try:
        state = load_json(VIEW.inside(folder))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"this training did not end ({error})", file=folder, remedy="Run its study to its end: 'stainda run'"
        ) from error
    if not build(job.strategy).view.is_colour:
        return None
    licence = job.model.pretraining.licence if job.model.pretraining is not None and job.model.weights else ""
    return PretrainingConfig(
        title=f"{job.strategy.name} of study {job.study}", mean=state["mean"], std=state["std"], licence=licence
    )
