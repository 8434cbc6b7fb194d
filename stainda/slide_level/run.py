"""The whole stage: bags of all slides, trainings from the labels of source patients, scores of every domain."""

from __future__ import annotations

import shutil
from pathlib import Path

from stainda.cohort import Cohort, Roles, Section
from stainda.config import StudyConfig
from stainda.config.slide_level import SlideLevelConfig
from stainda.errors import ConfigError
from stainda.files import fingerprint, load_json, stable_hash, write_json, write_text
from stainda.models import start_of
from stainda.pool import OpenPool
from stainda.progress import SILENT, Progress
from stainda.run_directory.slide_level_tables import (
    ATTENTION,
    SLIDE_INPUTS,
    SLIDE_LEFT_OUT,
    SLIDE_METHODS,
    SLIDE_SCORES,
    SLIDE_SUMMARY,
    SLIDE_TRAININGS,
)
from stainda.slide_level.bags import Bag, FeatureScale
from stainda.slide_level.encoding import Encoding
from stainda.slide_level.labels import TeachingLabels, check_labels, label_of, teaching_labels
from stainda.slide_level.maps import write_maps
from stainda.slide_level.methods import methods_text
from stainda.slide_level.scoring import Row, Scoring
from stainda.slide_level.trainings import Trainings
from stainda.training.feature_cache import caches_of_run
from stainda.training.machine import choose_device

ALGORITHM = 4
"""Raised when the same input gives other numbers; what is there is then made again."""


def score_slides(
    config: StudyConfig,
    cohort: Cohort,
    roles: Roles,
    root: Path,
    *,
    shared: Path | None = None,
    pool: OpenPool | None = None,
    progress: Progress = SILENT,
) -> Path:
    """Learn the labels of slides in the source domains, and score them in every domain.

    Writes the folder ``slide_level`` of the run directory ``root``. Nothing is done where all it depends on is as it
    was.

    Args:
        cohort: with splits.
        shared: run directory whose features are read and filled, of a rotation that of the whole study.
        pool: of workers that encode the slides; default: here.

    Returns:
        The folder.

    Raises:
        ConfigError: labels that are not there or cannot teach, or an aggregator that is not installed.
        SlideError: a slide cannot be read.
    """
    settings = config.slide_level
    assert settings is not None
    folder = SLIDE_INPUTS.at(root).parent
    key = _key(config, settings, cohort, roles)
    if _read_key(root) == key:
        return folder
    SLIDE_INPUTS.at(root).unlink(missing_ok=True)
    shutil.rmtree(ATTENTION.at(root, slide="", aggregator="").parent, ignore_errors=True)
    check_labels(cohort, settings)
    labels = teaching_labels(cohort, roles, settings)
    device = choose_device(config.training)
    bags, left_out = _bags(config, cohort, roles, labels, caches=caches_of_run(shared or root), pool=pool,
                           progress=progress)  # fmt: skip
    scale = _scale(config, settings, cohort, roles, bags)
    label = label_of(settings)
    tested = [row for row in cohort.where(splits=["test"]) if row.slide in bags and label(row)]
    trainings = Trainings(
        settings, root, bags, labels, scale,
        tested=[section.slide for section in tested] if settings.maps else [], device=device,
    )  # fmt: skip
    answers = trainings.make([config.seed + k for k in range(config.protocol.seeds)], progress)
    scoring = Scoring(settings, cohort, roles, {slide: len(bag) for slide, bag in bags.items()}, config.evaluation)
    SLIDE_SCORES.write(folder, scoring.slide_rows(answers))
    SLIDE_SUMMARY.write(folder, scoring.summary_rows(answers, config.seed))
    SLIDE_TRAININGS.write(folder, scoring.training_rows(answers))
    SLIDE_LEFT_OUT.write(folder, left_out)
    for section in tested if settings.maps else ():
        write_maps(bags[section.slide], section.path, answers, root)
    write_text(SLIDE_METHODS.at(root), methods_text(config, settings, [len(bag) for bag in bags.values()]) + "\n")
    write_json(SLIDE_INPUTS.at(root), {"key": key})
    return folder


def _bags(
    config: StudyConfig, cohort: Cohort, roles: Roles, labels: TeachingLabels, *, caches: Path, pool: OpenPool | None,
    progress: Progress,
) -> tuple[dict[str, Bag], list[Row]]:  # fmt: skip
    """Bags of the slides that teach, validate or are scored (and, unlabelled, show what a target looks like)."""
    assert config.slide_level is not None
    wanted, left_out = _wanted(config.slide_level, cohort, roles)
    teachers = tuple(section for section in wanted if section.slide in labels.positive["train"])
    encoding = Encoding(config.slide_level, caches, teachers, config.training)
    made: dict[str, Bag | None] = {}
    with progress.task("Encoding slides", total=len(wanted)) as task:
        for slide, bag in encoding.bags([(section, cohort.domain(section)) for section in wanted], pool):
            made[slide] = bag
            task.advance(1, slide)
    bags = {section.slide: bag for section in wanted if (bag := made[section.slide]) is not None}
    left_out += [
        {"slide": section.slide, "reason": "no patch on tissue"} for section in wanted if section.slide not in bags
    ]
    for split, taught in labels.positive.items():
        if not any(slide in bags for slide in taught):
            raise ConfigError(
                f"no {split} slide of the source has a patch on tissue",
                file=cohort.source, remedy="Check slide_level.patches: size, mpp and min_tissue",
            )  # fmt: skip
    return bags, left_out


def _wanted(settings: SlideLevelConfig, cohort: Cohort, roles: Roles) -> tuple[list[Section], list[Row]]:
    """Slides to be encoded, and those that are not, with reasons."""
    label, wanted, left_out = label_of(settings), list[Section](), list[Row]()
    for section in cohort:
        role = roles.role(cohort.domain(section))
        if role == "unused":
            reason = "its domain neither teaches nor is tested"
        elif settings.stains and section.stain not in settings.stains:
            reason = f"stained {section.stain}, which slide_level.stains does not name"
        elif role == "target" and section.split != "test" and settings.training.standardise == "source":
            reason = "of a target, and its patient is not tested"
        elif not label(section) and not (role == "target" and section.split == "train"):
            reason = f"no label in column {settings.label!r}"
        else:
            wanted.append(section)
            continue
        left_out.append({"slide": section.slide, "reason": reason})
    return wanted, left_out


def _scale(
    config: StudyConfig, settings: SlideLevelConfig, cohort: Cohort, roles: Roles, bags: dict[str, Bag]
) -> FeatureScale:
    """Mean and spread of features, of training patients: of the source, or of each domain from images alone.

    Raises:
        ConfigError: the protocol hides the targets, or one has no slide of a training patient.
    """
    each = settings.training.standardise == "domain"
    if each and config.protocol.visible == "nothing":
        raise ConfigError(
            "slide_level.training.standardise: domain looks at unlabelled slides of targets, and protocol.visible is "
            "nothing",
            remedy="Take standardise: source, or visible: targets",
        )
    domains = (*roles.sources, *(roles.targets if each else ()))
    seen = [bags[row.slide] for row in cohort.where(domains=domains, splits=["train"]) if row.slide in bags]
    if each and (missing := [name for name in domains if all(bag.domain != name for bag in seen)]):
        raise ConfigError(
            f"slide_level.training.standardise: domain needs slides of training patients in {missing[0]!r}",
            remedy="Take standardise: source, or other shares in protocol.split",
        )
    return FeatureScale.fit(seen, cohort.domains, each=each)


def _key(config: StudyConfig, settings: SlideLevelConfig, cohort: Cohort, roles: Roles) -> str:
    """Hash of everything the scores depend on."""
    rows = [
        [section.slide, section.patient, section.split, cohort.domain(section), section.mpp,
         section.cell(settings.label), fingerprint(section.path)]
        for section in cohort
    ]  # fmt: skip
    return stable_hash(
        [ALGORITHM, settings.model_dump(mode="json"), vars(roles), rows, config.seed, config.protocol.seeds,
         config.evaluation.resamples, config.evaluation.level, start_of(settings.encoder)],
        32,
    )  # fmt: skip


def _read_key(root: Path) -> str:
    try:
        return str(load_json(SLIDE_INPUTS.at(root))["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""  # not there, or not whole: made again
