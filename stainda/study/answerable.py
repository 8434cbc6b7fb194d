"""What a study can and cannot answer with the sections, patients and annotations it has; said before any work."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stainda.cohort import Cohort, Rotation, Section
from stainda.config import StudyConfig, TaskConfig
from stainda.errors import ConfigError, StaindaError, did_you_mean
from stainda.models import random_start
from stainda.study.bad_slides import bad_slides, sentences, without
from stainda.study.leaving_out import source_patients
from stainda.study.looking import Drawn, look

FEW_PATIENTS = 6
"""Test patients below which no paired test reaches p < 0.05 (2 / 2^5 = 0.06) and intervals are too narrow."""

DIAMETERS_UM: Mapping[str, tuple[float, float]] = {"glomerulus": (50, 400), "nucleus": (2, 40)}
"""Median diameters outside of which the pixel size is doubted."""


@dataclass(frozen=True)
class Finding:
    """One thing about a study: it ``stops`` it, or is a ``note``; a message, and what to do where something can be."""

    kind: Literal["stops", "note"]
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.message}. {self.remedy}" if self.remedy else self.message


def refuse_unanswerable(config: StudyConfig, rotations: Sequence[Rotation]) -> list[str]:
    """Refuse a study that would stop later, and say what it cannot answer.

    Raises:
        ConfigError: everything that stops it.
    """
    findings = examine(config, rotations[0].cohort, rotations)
    stops = [finding for finding in findings if finding.kind == "stops"]
    if stops:
        listed = stops[0].message if len(stops) == 1 else "\n".join(("", *(f"  {stop}" for stop in stops)))
        remedy = stops[0].remedy if len(stops) == 1 else None
        raise ConfigError(
            listed if len(stops) == 1 else f"{len(stops)} things stop this study{listed}",
            file=rotations[0].cohort.source,
            remedy=remedy or None,
        )
    return [str(finding) for finding in findings]


def check_study(config: StudyConfig) -> list[Finding]:
    """Everything that stops a study or that it cannot answer, at once.

    Raises:
        StaindaError: the manifest itself has faults.
    """
    from stainda.run_directory.folder import RunFolder
    from stainda.study.checks import manifest_of, plan_rotations, planned_cohort

    manifest = manifest_of(config, RunFolder(Path("runs") / config.study))
    cohort = planned_cohort(config, manifest)
    try:
        bad = bad_slides(config, cohort, {})
        notes = [Finding("note", f"left out: {said}") for said in sentences(cohort, bad)]
        cohort = without(cohort, bad)
        return [*examine(config, cohort, plan_rotations(config, manifest)), *notes]
    except StaindaError as error:
        first = Finding("stops", error.message, error.remedy or "")
    return [first, *examine(config, cohort, ())]


def examine(config: StudyConfig, cohort: Cohort, rotations: Sequence[Rotation]) -> list[Finding]:
    """What stops a study, then what it cannot answer.

    Args:
        rotations: of the study; none where they could not be made, so that only slides and classes are looked at.
    """
    drawn = {section.slide: look(section) for section in cohort} if config.phantom is None else {}
    findings = [*_alone(cohort)]
    if drawn:
        findings += _faults(config, cohort, drawn)
    if drawn and config.strategies:
        findings += _classes(config, cohort, rotations, drawn)
        findings += _sizes(config, cohort, drawn)
    if rotations and config.strategies:
        findings += _unscored(rotations)
        findings += _patients(rotations)
        findings += [] if config.protocol.refit else _teachers(rotations)
    findings += [Finding("note", said) for model, _ in config.networks() if (said := random_start(model))]
    unique = dict.fromkeys(findings)
    return sorted(unique, key=lambda slide: slide.kind == "note")


def _alone(cohort: Cohort) -> list[Finding]:
    alone = [name for name, sections in cohort.blocks().items() if len(sections) == 1]
    if not alone:
        return []
    which = "all blocks have" if len(alone) == len(cohort.blocks()) else f"{len(alone)} blocks have"
    return [
        Finding(
            "note",
            f"{which} a single section ({_few(alone)}): nothing can be registered or propagated there",
            "Sections of one piece of tissue have the same name in the column block",
        )
    ]


def _faults(config: StudyConfig, cohort: Cohort, drawn: Mapping[str, Drawn]) -> list[Finding]:
    broken = [section for section in cohort if drawn[section.slide].fault]
    findings = [
        Finding("stops", f"row {section.row} ({section.slide}) cannot be used: {drawn[section.slide].fault}")
        for section in broken
    ]
    unknown = [
        section.slide for section in cohort if drawn[section.slide].mpp is None and not drawn[section.slide].fault
    ]
    if unknown and config.patches.mpp is not None:
        findings.append(
            Finding(
                "stops",
                f"the pixel size of {len(unknown)} slides is not known ({_few(unknown)}), and patches are cut at "
                f"{config.patches.mpp} µm per pixel",
                "Write micrometres per pixel into the column mpp of the manifest, or set patches.downsample instead of "
                "patches.mpp",
            )
        )
    elif unknown and (sizes := sizes_in_um(config.task)):
        setting, instead = sizes
        findings.append(
            Finding(
                "stops",
                f"the pixel size of {len(unknown)} slides is not known ({_few(unknown)}), and task.{setting} is in "
                "micrometres",
                f"Write micrometres per pixel into the column mpp of the manifest, or set task.{instead} in place of "
                f"task.{setting}",
            )
        )
    return findings


def sizes_in_um(task: TaskConfig) -> tuple[str, str] | None:
    """The setting of a task that needs the pixel size of every slide, and the one in pixels; ``None`` if none does."""
    if task.kind == "classification" and task.objects == "peaks":
        return ("object_um", "object_px") if task.object_px is None else None
    if task.kind == "points":
        return ("sigma_um", "sigma_px") if task.sigma_px is None else None
    return ("min_object_um2", "min_object_px") if task.min_object_um2 is not None else None


def _classes(
    config: StudyConfig, cohort: Cohort, rotations: Sequence[Rotation], drawn: Mapping[str, Drawn]
) -> list[Finding]:
    from stainda.annotations import matched_classes, unknown_classes
    from stainda.study.annotating import class_map

    table = class_map(config)
    rows = []
    named: dict[str, Counter[str]] = {}
    for section in cohort:
        named[section.slide] = Counter()
        for name, count in drawn[section.slide].counts.items():
            becomes, fate = table.becomes(name, section.centre, drawn[section.slide].format)
            named[section.slide][becomes] += count
            nearest = table.nearest(name) if fate == "unknown" else ""
            rows.append({"class": name, "becomes": becomes, "what": fate, "shapes": count, "nearest": nearest})
    findings = []
    if matched := matched_classes(rows):
        findings.append(Finding("note", f"classes matched by spelling: {', '.join(matched)}"))
    if unknown := unknown_classes(rows):
        refused = config.unknown_classes == "error"
        kind: Literal["stops", "note"] = "stops" if refused else "note"
        what = "which 'unknown_classes: error' refuses" if refused else "which count as background"
        findings.append(
            Finding(
                kind,
                f"classes that neither the task nor 'classes' names, {what}: {', '.join(unknown)}",
                "Name under 'classes' what they are: a class of the task, 'ignore' or 'drop'",
            )
        )
    for turn in rotations:
        where = f"rotation {turn.name!r}: " if len(rotations) > 1 else ""
        findings += [
            Finding(object_.kind, where + object_.message, object_.remedy) for object_ in _objects(config, turn, named)
        ]
    if not rotations:
        counts_by_class = Counter(name for counts in named.values() for name in counts.elements())
        findings += [
            _no_class(name, counts_by_class, "section") for name in config.task.classes if not counts_by_class[name]
        ]
    return findings


def _objects(config: StudyConfig, turn: Rotation, named: Mapping[str, Counter[str]]) -> list[Finding]:
    """What of the task's classes is drawn where one rotation needs it."""

    def drawn_in(sections: Iterable[Section]) -> Counter[str]:
        return sum((named[section.slide] for section in sections if section.annotations is not None), Counter[str]())

    sources = drawn_in(turn.cohort.where(domains=turn.roles.sources))
    missing = [name for name in config.task.classes if not sources[name]]
    findings = [_no_class(name, sources, "source section") for name in missing]
    splits: tuple[tuple[Literal["train", "val"], str], ...] = (("train", "learn from"), ("val", "choose settings by"))
    for split, purpose in splits:
        inside = turn.cohort.where(domains=turn.roles.sources, splits=[split])
        for name in config.task.classes:
            if name not in missing and not drawn_in(inside)[name]:
                findings.append(
                    Finding(
                        "stops",
                        f"no {split} section of the source domains ({', '.join(turn.roles.sources)}) has a {name!r} to "
                        f"{purpose} (patients {', '.join(inside.patients)})",
                        f"Put a patient with annotated objects into {split!r} in the column split of the manifest",
                    )
                )
    tested = turn.roles.targets or turn.roles.sources
    for name in config.task.classes:
        if name not in missing and not drawn_in(turn.cohort.where(domains=tested, splits=["test"]))[name]:
            findings.append(
                Finding(
                    "note",
                    f"no test section of {', '.join(tested)} has a {name!r}: nothing can be scored for it",
                    "Annotate test sections of the targets; they are never shown to the training",
                )
            )
    return findings


def _no_class(name: str, counts_by_class: Counter[str], where: str) -> Finding:
    return Finding(
        "stops",
        f"no {where} has a shape of class {name!r}; drawn are "
        f"{', '.join(f'{other!r} ({count})' for other, count in counts_by_class.most_common()) or 'none'}",
        f"{did_you_mean(name, counts_by_class)}. Write classes: {{YOUR_NAME: {name}}} into the study, "
        "or set task.classes",
    )


def _sizes(config: StudyConfig, cohort: Cohort, drawn: Mapping[str, Drawn]) -> list[Finding]:
    """Pixel sizes at which the objects would be far too large or too small."""
    from stainda.annotations import class_key
    from stainda.study.annotating import class_map

    table = class_map(config)
    findings = []
    for name in config.task.classes:
        limits = DIAMETERS_UM.get(class_key(name))
        if limits is None:
            continue
        odd: dict[str, float] = {}
        for section in cohort:
            seen = drawn[section.slide]
            areas = [
                area
                for drawn_name, values in seen.areas.items()
                if table.becomes(drawn_name, section.centre, seen.format)[0] == name
                for area in values
                if area > 0
            ]
            if areas and seen.mpp is not None:
                diameter = 2 * math.sqrt(statistics.median(areas) / math.pi) * seen.mpp
                if not limits[0] <= diameter <= limits[1]:
                    odd[section.slide] = diameter
        if odd:
            slide, diameter = next(iter(odd.items()))
            findings.append(
                Finding(
                    "note",
                    f"the pixel size may be wrong: the median {name} is {diameter:.3g} µm wide on {slide}"
                    f"{f' and out of range on {len(odd) - 1} more slides' if len(odd) > 1 else ''} "
                    f"(expected {limits[0]:g} to {limits[1]:g} µm)",
                    "Correct the column mpp of the manifest (micrometres per pixel, about 0.25 at 40x, 0.5 at 20x)",
                )
            )
    return findings


def _unscored(rotations: Sequence[Rotation]) -> list[Finding]:
    """Domains that are tested in no rotation, since none of their test sections is annotated."""
    wanted: dict[str, None] = {}
    scored: set[str] = set()
    for turn in rotations:
        for name in turn.roles.targets or turn.roles.sources:
            wanted[name] = None
            if any(section.annotations for section in turn.cohort.where(domains=[name], splits=["test"])):
                scored.add(name)
    missing = [name for name in wanted if name not in scored]
    if not missing:
        return []
    return [
        Finding(
            "note",
            f"no score for {', '.join(missing)}: no test section there is annotated",
            "Annotate a few sections of test patients there; they are never shown to the training",
        )
    ]


def _patients(rotations: Sequence[Rotation]) -> list[Finding]:
    """What the number of patients forbids."""
    tested: set[str] = set()
    validated = math.inf
    for turn in rotations:
        domains = turn.roles.targets or turn.roles.sources
        tested |= {
            section.patient for section in turn.cohort.where(domains=domains, splits=["test"]) if section.annotations
        }
        inside = turn.cohort.where(domains=turn.roles.sources, splits=["val"])
        validated = min(validated, len({section.patient for section in inside if section.annotations}))
    findings = []
    count = len(tested)
    if count == 1:
        findings.append(
            Finding("note", "one scored test patient: means without any interval or test", _MORE.format(FEW_PATIENTS))
        )
    elif 1 < count < FEW_PATIENTS:
        findings.append(
            Finding(
                "note",
                f"{count} scored test patients: intervals are too narrow, and no difference between strategies can be "
                f"shown (the smallest possible p is {2 / 2**count:.2g})",
                _MORE.format(FEW_PATIENTS),
            )
        )
    if validated == 1 and not rotations[0].cohort.single_patient:
        findings.append(Finding("note", "one validation patient: settings and thresholds rest on this patient alone"))
    return findings


def _teachers(rotations: Sequence[Rotation]) -> list[Finding]:
    """That validation patients could teach too, where few others do."""
    fewest = min(len(source_patients(rotation.cohort, rotation.roles, "train")) for rotation in rotations)
    validate = any(source_patients(rotation.cohort, rotation.roles, "val") for rotation in rotations)
    if rotations[0].cohort.single_patient or fewest >= FEW_PATIENTS or not validate:
        return []
    return [
        Finding(
            "note",
            f"{fewest} patient{'s' * (fewest != 1)} of the source teach{'es' * (fewest == 1)}: with so few, keeping "
            "others to validate can cost more than it gains",
            "Set protocol.refit to true: chosen settings are then trained again from all patients of the source",
        )
    ]


_MORE = "For p < 0.05 take at least {} test patients with annotated target sections"


def _few(words: Sequence[str], most: int = 3) -> str:
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")
