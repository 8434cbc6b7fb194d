"""What can be refused before any work: a strategy, a search or a propagation that means nothing for these sections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from stainda.cohort import Cohort, Roles, Rotation, Section, is_annotated, read_manifest, rotations
from stainda.config import StrategyConfig, StudyConfig
from stainda.errors import ConfigError, StaindaError, did_you_mean
from stainda.names import file_name
from stainda.run_directory.contents import PHANTOM_MANIFEST
from stainda.run_directory.folder import RunFolder
from stainda.study.other_runs import check_starts
from stainda.study.pruning import WILCOXON_PATIENTS
from stainda.study.setting_paths import value_at


def manifest_of(config: StudyConfig, folder: RunFolder) -> Path:
    """The manifest of a study's cohort; that of a phantom is there once it is made."""
    if config.phantom is None:
        assert config.manifest is not None
        return config.manifest
    return PHANTOM_MANIFEST.at(folder.root)


def planned_cohort(config: StudyConfig, manifest: Path) -> Cohort:
    """The sections of a study; those of a phantom that is not made yet follow from its settings."""
    if config.phantom is None or manifest.is_file():
        return read_manifest(manifest, config.data, config.domain, absent_slides=True)
    from stainda.phantom.section import plan_sections

    folder = manifest.parent
    sections = tuple(
        Section(
            section.slide, section.patient, section.block, section.number, section.stain, section.centre.name,
            folder / "slides" / f"{file_name(section.slide)}.tif", section.centre.scanner,
            folder / "annotations" / f"{file_name(section.slide)}.geojson", group=section.group,
        )
        for section in plan_sections(config.phantom)
    )  # fmt: skip
    return Cohort(sections, config.domain, manifest)


def teaches(config: StudyConfig) -> Callable[[Section], bool]:
    """Whether a section has what the study learns from: annotations, or in a study without strategies a label."""
    if config.strategies or config.slide_level is None:
        return is_annotated
    from stainda.slide_level.labels import label_of

    label = label_of(config.slide_level)
    return lambda section: bool(label(section))


def check_slide_level(config: StudyConfig, cohort: Cohort, roles: Roles | None = None) -> None:
    """Refuse labels of slides that are not there or cannot teach, and aggregators that are not installed.

    Args:
        roles: of a rotation, whose splits are known.

    Raises:
        ConfigError: the first fault.
    """
    if config.slide_level is not None:
        from stainda.slide_level.labels import check_labels, teaching_labels
        from stainda.slide_level.torchmil_here import check_torchmil

        check_torchmil(config.slide_level.aggregators)
        check_labels(cohort, config.slide_level)
        if roles is not None:
            teaching_labels(cohort, roles, config.slide_level)


def plan_rotations(
    config: StudyConfig, manifest: Path, lost: Mapping[str, str] = MappingProxyType({})
) -> tuple[Rotation, ...]:
    """The rotations of a study, every strategy checked against each; one for a study that does not rotate.

    Slides that cannot be read are not in their cohorts; splits and roles are those of all slides.

    Args:
        lost: slides already known to be unreadable, and why.

    Raises:
        StaindaError: what does not fit, where, and what would.
    """
    from stainda.study.bad_slides import bad_slides, check_remaining, without

    check_defaults(config)
    cohort = planned_cohort(config, manifest)
    bad = bad_slides(config, cohort, lost)
    check_slide_level(config, without(cohort, bad))
    every = rotations(cohort, config.protocol, config.seed, teaches(config))
    result = tuple(replace(rotation, cohort=without(rotation.cohort, bad)) for rotation in every)
    for whole, rotation in zip(every, result, strict=True):
        try:
            check_remaining(whole.cohort, whole.roles, bad, bool(config.strategies))
            check_data(config, rotation.cohort, rotation.roles)
            check_slide_level(config, rotation.cohort, rotation.roles)
        except StaindaError as error:
            if not config.protocol.rotates:
                raise
            raise type(error)(
                f"rotation {rotation.name!r}: {error.message}", file=error.file, row=error.row, remedy=error.remedy
            ) from error
    return result


def check_defaults(config: StudyConfig) -> None:
    """Refuse strategies whose own value of a searched setting lies outside its search range: it is the first trial.

    Raises:
        ConfigError: strategy, setting, value and range of the first.
    """
    for strategy in config.strategies:
        for path, values in config.searched(strategy).items():
            value = value_at(config, strategy, path)
            if not values.contains(value):
                raise ConfigError(
                    f"{path} is {value!r}, which its search range ({values}) does not contain",
                    file=f"strategy {strategy.name}",
                    remedy="Widen the range, or take a default from it",
                )


def check_data(config: StudyConfig, cohort: Cohort, roles: Roles) -> None:
    """Refuse strategies, searches and propagation for which these sections, in these roles, lack what they need.

    Raises:
        ConfigError: the first fault, with the strategies of the study that do fit.
    """
    from stainda.strategies import build, check_cohort
    from stainda.training import resolve_training
    from stainda.training.compiling import refuse_what_cannot_be_compiled
    from stainda.training.sharing import refuse_what_cannot_be_shared

    wrong: list[ConfigError] = []
    fits = []
    for strategy in config.strategies:
        try:
            check_cohort(build(strategy), cohort, roles)
            _check_strategy(strategy, cohort, roles)
            training = resolve_training(config.training, strategy)
            refuse_what_cannot_be_shared(training, build(strategy))
            refuse_what_cannot_be_compiled(training, build(strategy), config.model_of(strategy).name)
            fits.append(strategy.name)
        except ConfigError as error:
            wrong.append(error)
    if wrong:
        messages = "; ".join(dict.fromkeys(f"{error.file}: {error.message}" for error in wrong))
        remedies = "; ".join(dict.fromkeys(error.remedy for error in wrong if error.remedy))
        rest = f". Of the strategies of this study, {', '.join(fits)} fit" if fits else ""
        raise ConfigError(messages, remedy=f"{remedies}{rest}")
    if not config.strategies:
        return
    check_compiler(config)
    check_starts(config, cohort, roles)
    check_propagation(config, cohort, roles)
    _check_search(config, cohort, roles)


def check_compiler(config: StudyConfig) -> None:
    """Refuse trainings to be compiled where there is no compiler; on a cluster each of its machines does so itself.

    Raises:
        ConfigError: what is missing.
    """
    from stainda.study.environment import gpu_names
    from stainda.training import resolve_training
    from stainda.training.compiling import refuse_without_compiler

    trainings = [resolve_training(config.training, strategy) for strategy in config.strategies]
    compiled = [training for training in trainings if training.compile]
    if not compiled or config.engine.name != "local":
        return
    here = "cuda" if any(training.device != "cpu" for training in compiled) and gpu_names() else "cpu"
    for device in dict.fromkeys("cpu" if training.device == "cpu" else here for training in compiled):
        refuse_without_compiler(device)


def check_propagation(config: StudyConfig, cohort: Cohort, roles: Roles) -> None:
    """Refuse stains to propagate from that are not the sources'."""
    stains = {section.stain for section in cohort.where(domains=roles.sources)}
    for stain in config.propagation.sources:
        if stain not in stains:
            raise ConfigError(
                f"propagation.sources names {stain!r}, which no section of the source domains is stained with; "
                "annotations of targets are for scoring and the ceiling only",
                remedy=did_you_mean(stain, stains),
            )


def _check_strategy(strategy: StrategyConfig, cohort: Cohort, roles: Roles) -> None:
    from stainda.strategies import build

    where, built = f"strategy {strategy.name}", build(strategy)
    shown = cohort.where(domains=roles.targets, splits=["train"])
    if built.align.needs_targets and not len(shown):
        why = (
            "no target section belongs to a training patient"
            if roles.targets
            else "every domain teaches, so there is no target"
        )
        raise ConfigError(
            f"align {strategy.align.name!r} needs unlabelled images of targets, and {why}",
            file=where,
            remedy="Take strategies that align nothing (source_only, colour_jitter, greyscale, ...)",
        )
    if strategy.labels.name == "all" and not any(section.annotations for section in shown):
        raise ConfigError(
            "labels 'all' would add nothing: no target section of a training patient is annotated",
            file=where,
            remedy="Leave this strategy out",
        )
    if strategy.labels.name == "propagated":
        taught = {section.block for section in cohort.where(domains=roles.sources) if section.annotations is not None}
        if not any(section.block in taught for section in shown):
            raise ConfigError(
                "labels 'propagated' have nowhere to go: no target section of a training patient lies in a block with "
                "an annotated source section",
                file=where,
                remedy="Leave this strategy out",
            )


def _check_search(config: StudyConfig, cohort: Cohort, roles: Roles) -> None:
    validated = [
        section for section in cohort.where(domains=roles.sources, splits=["val"]) if section.annotations is not None
    ]  # fmt: skip
    patients = {section.patient for section in validated}
    objective, pruner = config.search.objective, config.search.pruner
    if "worst_source_domain" in objective and len({cohort.domain(section) for section in validated}) < 2:
        raise ConfigError(
            "search.objective worst_source_domain needs two source domains with validation patients, and there is one",
            remedy="Take worst_source_patient" if len(patients) > 1 else "Take source_validation alone",
        )
    if "worst_source_patient" in objective and len(patients) < 2:
        raise ConfigError(
            "search.objective worst_source_patient needs two validation patients, and there is one",
            remedy="Take source_validation alone, or more patients for val in protocol.split",
        )
    if pruner == "wilcoxon" and len(patients) < WILCOXON_PATIENTS:
        raise ConfigError(
            f"search.pruner wilcoxon compares validation patients, of which there are {len(patients)}; with fewer than "
            f"{WILCOXON_PATIENTS} it can never end a trial",
            remedy="Take pruner: median, or more patients for val in protocol.split",
        )
