"""A first study from a folder of slides: what is there, who can teach, who is tested, and what cannot be answered."""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stainda.cohort import (
    Cohort,
    Guess,
    Scan,
    find_sections,
    guess_pattern,
    resolve_roles,
    write_manifest,
)
from stainda.config import TaskConfig, available, load_study
from stainda.config.load import build_study, load_piece, parse_yaml
from stainda.errors import ConfigError, ManifestError, StaindaError, did_you_mean
from stainda.files import write_csv, write_text
from stainda.study.answerable import Drawn, Finding, check_study, examine, look, sizes_in_um
from stainda.study.designing import design
from stainda.study.listing import FIRST

_STAINS = (
    "AZAN", "AFOG", "EVG", "VG", "MT", "MTC", "TRI", "TRICHROME", "MASSON", "MAS", "GOLDNER", "LADEWIG", "SAB", "PASD",
    "PASM", "PAMS", "CONGO", "KI67", "SMA", "ASMA", "C4D", "C3", "C1Q", "IGA", "IGG", "IGM", "WT1", "COL1", "COL3",
    "PODOCIN", "NEPHRIN", "SYNAPTOPODIN", "CK7", "PAX8", "FIBRONECTIN", "VIMENTIN", "P53", "ER", "PR", "HER2", "SV40",
)  # fmt: skip
_NICE = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
_UNTESTED = "not tested, since no patient is left for it beside those of training and validation"
_THEN = "Then add the slides to the manifest, and write train, val and test into its column split"
_SMALLER = 10
"""The median object drawn has this many times the area of the smallest that is reported: 2000 µm² of a glomerulus."""
_AREA_PX = 2000.0
_ACROSS = 40
"""Pixels that the median object is wide at the scale that is proposed."""


@dataclass(frozen=True)
class Start:
    """What was found and what is proposed.

    Attributes:
        pattern: of the names, and whether it was guessed.
        cohort: every patient in a split, where the roles could be filled.
        drawn: pixel size and annotations by slide.
        task: a name of ``configs/tasks``, or a class.
        sources: of the protocol.
        untested: domains that are no targets only because no patient is left to be tested there.
        lacking: why the cohort cannot be split, and what is needed; empty where every role is filled.
    """

    folder: Path
    pattern: str
    guessed: bool
    cohort: Cohort
    drawn: Mapping[str, Drawn]
    task: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    untested: tuple[str, ...]
    lacking: str
    notes: tuple[str, ...]

    @property
    def feasible(self) -> bool:
        """Whether every role has the patients and annotations it needs."""
        return not self.lacking

    @property
    def unknown_mpp(self) -> tuple[str, ...]:
        return tuple(slide for slide, one in self.drawn.items() if one.mpp is None)

    def domains(self) -> list[tuple[str, str, int, int, int, str]]:
        """Of every domain: name, role, patients, slides, annotated patients, and the shapes of each class."""
        rows, teaching = [], self.cohort.matching(self.sources)
        for name in self.cohort.domains:
            inside = self.cohort.where(domains=[name])
            shapes = sum((Counter(self.drawn[one.slide].counts) for one in inside), Counter[str]())
            role = "source" if name in teaching else "target" if name in self.targets else "not tested"
            annotated = {one.patient for one in inside if one.annotations}
            drawn = ", ".join(f"{cls or '(no class)'} {count}" for cls, count in shapes.most_common())
            rows.append((name, role, len(inside.patients), len(inside), len(annotated), drawn))
        return rows


def stain_names() -> tuple[str, ...]:
    """Names that columns of file names are held against."""
    from stainda.stains.table import STAINS

    known = [name for one in STAINS.values() for name in (one.name, *one.aliases)]
    return (*known, *_STAINS, *(f"CD{number}" for number in range(1, 372)))


def scan(
    folder: str | Path, pattern: str | None = None, fixed: Mapping[str, str] | None = None, one_centre: bool = False
) -> tuple[Scan, str, Guess | None]:
    """:func:`~stainda.cohort.find_sections` with annotations of every format, the pattern guessed where none is given.

    Args:
        fixed: values of fields that the names do not tell, for example ``{"centre": "A"}``.
        one_centre: the folders are no centres, although they look like it.

    Returns:
        What was found, the pattern, and the guess where there was one.

    Raises:
        ManifestError: nothing follows the pattern, or all slides are given one centre and lie in folders of several.
    """
    from stainda.annotations.formats import annotation_finder

    fixed, guess = dict(fixed or {}), None
    if pattern is None:
        guess = guess_pattern(folder, stain_names())
        pattern = guess.pattern
        for name in fixed:  # what is given goes before what is guessed
            if name != "centre" or one_centre:
                pattern = pattern.replace(f"{{{name}}}", "*")
        if "{centre}" in pattern and "centre" in fixed:
            pattern = pattern.removeprefix("{centre}/") if pattern.startswith("{centre}/") else pattern
    found = find_sections(folder, pattern, annotation_finder(), **fixed)
    if found.centre_folders and not one_centre:
        right = "{centre}/" + "*/" * (_depth(found, folder) - 1) + pattern.rsplit("/", 1)[-1]
        raise ManifestError(
            f"centre {fixed['centre']!r} was given for all slides, and they lie in folders that look like centres: "
            f"{', '.join(map(repr, found.centre_folders))}",
            file=folder,
            remedy=f"Take the centre from the folder: --pattern '{right}' without --centre; or say --one-centre",
        )
    return found, pattern, guess


def _depth(found: Scan, folder: str | Path) -> int:
    inside = found.sections[0].path.relative_to(Path(folder).absolute())
    return len(inside.parts) - 1


def propose(
    folder: str | Path,
    pattern: str | None = None,
    sources: Sequence[str] = (),
    task: str | None = None,
    fixed: Mapping[str, str] | None = None,
) -> Start:
    """Look at a folder and propose a study.

    Args:
        sources: domains that teach (``PAS@*`` is allowed); default: those with most annotated patients that leave a
            patient for every role.
        task: a name of ``configs/tasks`` or a class; default: by the classes that are drawn.

    Raises:
        StaindaError: no pattern, no slide, or a source or task that is not there.
    """
    fixed = dict(fixed or {})
    notes: list[str] = []
    guess = guess_pattern(folder, stain_names()) if pattern is None else None
    told = pattern if guess is None else guess.pattern
    if "{centre}" not in str(told) and "centre" not in fixed:
        fixed["centre"] = "A"
        notes.append("neither names nor folders tell a centre: all slides were taken as of one, 'A' (--centre)")
    found, pattern, _ = scan(folder, told, fixed)
    cohort = Cohort(found.sections)
    drawn = {one.slide: look(one) for one in cohort}
    notes += [*found.notes, *(f"passed over: {path.name}: {reason}" for path, reason in found.skipped)]
    notes += [f"cannot be used: {one.slide}: {drawn[one.slide].fault}" for one in cohort if drawn[one.slide].fault]
    task = task or _task(drawn)
    plan = design(cohort, tuple(sources))
    if plan.untested:
        notes.append(f"{', '.join(plan.untested)}: {_UNTESTED}. Add a patient there, and set targets: [rest]")
    start = Start(
        Path(folder), pattern, guess is not None, plan.cohort, drawn, task, plan.sources, plan.targets, plan.untested,
        plan.lacking, tuple(notes),
    )  # fmt: skip
    _task_of(start)
    return start


def _task(drawn: Mapping[str, Drawn]) -> str:
    """The task of the class that is drawn most, by name where stainda has one for it."""
    from stainda.annotations import IGNORE_CLASSES, class_key

    counts = sum((Counter(one.counts) for one in drawn.values()), Counter[str]())
    tasks: dict[str, str] = {}
    for name in sorted(available("tasks"), key=lambda one: "segmentation" not in one):
        for cls in load_piece("tasks", name).get("classes", ()):
            tasks.setdefault(class_key(str(cls)), name)
    order = [name for name, _ in counts.most_common() if name and name not in IGNORE_CLASSES]
    known = [tasks[class_key(name)] for name in order if class_key(name) in tasks]
    return known[0] if known else order[0] if order else "glomeruli_segmentation"


@dataclass(frozen=True)
class Written:
    """The files of a start, and what the study cannot answer."""

    manifest: Path
    classes: Path
    study: Path
    findings: tuple[Finding, ...]


def start_files(out: str | Path, name: str) -> tuple[Path, Path, Path]:
    """Where the manifest, the classes and the study are written.

    Raises:
        ConfigError: one of the files is there already, or the name is none for a study.
    """
    out = Path(out)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ConfigError(f"{name!r} cannot name a study", remedy="Use letters, digits, '_', '-' and '.'")
    files = out / "manifest.csv", out / "classes.csv", out / f"{name}.yaml"
    if there := [file for file in files if file.exists()]:
        raise ConfigError(
            f"{', '.join(file.name for file in there)} is there already and is not overwritten",
            file=out,
            remedy="Give another folder with --out, or move it away",
        )
    return files


def write_start(start: Start, out: str | Path, name: str) -> Written:
    """Write ``manifest.csv``, ``classes.csv`` and ``NAME.yaml`` into a folder; nothing is overwritten.

    Raises:
        ConfigError: one of the files is there already, or the name is none for a study.
    """
    files = start_files(out, name)
    task, classes = _task_of(start)
    write_manifest(start.cohort, files[0])
    _write_classes(start, classes, files[1])
    draft = _study_text(start, name, task, FIRST)
    fitting = _fitting(start, draft, files[2])
    write_text(files[2], _study_text(start, name, task, fitting))
    config = load_study(files[2])
    if start.lacking:  # no draw of the splits could pass, so only slides and classes are looked at beside that
        findings = [Finding("stops", start.lacking, _THEN), *examine(config, start.cohort, ())]
    else:
        findings = check_study(config)
    return Written(files[0], files[1], files[2], tuple(findings))


def study_name(folder: str | Path) -> str:
    """A name for a study, from that of its folder."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(folder).absolute().name).strip("._-")
    return plain or "study"


def _task_of(start: Start) -> tuple[str, tuple[str, ...]]:
    """The YAML of the task, and its classes.

    Raises:
        ConfigError: neither a task nor a class that is drawn.
    """
    tasks = available("tasks")
    if start.task in tasks:
        piece = load_piece("tasks", start.task)
        return _in_pixels(start, piece), tuple(map(str, piece.get("classes", ("glomerulus",))))
    drawn = {name for one in start.drawn.values() for name in one.counts}
    if start.task not in drawn:
        raise ConfigError(
            f"{start.task!r} is neither a task nor a class that is drawn",
            remedy=did_you_mean(start.task, [*tasks, *drawn]),
        )
    return f"{{name: {study_name(start.task)}, classes: [{_quoted(start.task)}]}}", (start.task,)


def _in_pixels(start: Start, piece: Mapping[str, Any]) -> str:
    """The name of a task; written out with sizes in pixels where slides do not tell their pixel size."""
    task = TaskConfig.model_validate(piece)
    if not start.unknown_mpp or not sizes_in_um(task):
        return start.task
    areas = [area for one in start.drawn.values() for some in one.areas.values() for area in some if area > 0]
    area = statistics.median(areas) if areas else _AREA_PX
    if task.objects == "peaks":
        sizes: dict[str, Any] = {"object_um": None, "object_px": round(2 * (area / math.pi) ** 0.5)}
    else:
        sizes = {"min_object_um2": None, "min_object_px": round(area / _SMALLER)}
    written = {name: value for name, value in {**piece, **sizes}.items() if name != "description"}
    flow = yaml.safe_dump(written, default_flow_style=True, sort_keys=False, width=10_000).strip()
    return f"{flow}  # EDIT: sizes in pixels, since some slides do not tell their pixel size"


def _write_classes(start: Start, classes: Sequence[str], path: Path) -> None:
    """Every class that is drawn, and what it becomes: one of the task, or ``drop``."""
    from stainda.annotations import IGNORE, ClassMap

    table = ClassMap.of({}, classes)
    rows = []
    for name in sorted({name for one in start.drawn.values() for name in one.counts if name}):
        new, fate = table.becomes(name)
        becomes = "drop" if fate == "unknown" else "ignore" if new == IGNORE else new
        rows.append({"from": name, "to": becomes})
    write_csv(path, rows, ("from", "to"))


def _fitting(start: Start, text: str, path: Path) -> tuple[str, ...]:
    """The strategies of a draft that mean something for this cohort; all, where no role is filled yet."""
    from stainda.study.checks import check_data

    if not start.feasible:
        return FIRST
    config = build_study(parse_yaml(text, path), path)
    roles = resolve_roles(start.cohort, config.protocol)
    fitting = []
    for strategy in config.strategies:
        try:
            check_data(config.model_copy(update={"strategies": (strategy,)}), start.cohort, roles)
            fitting.append(strategy.name)
        except StaindaError:  # the study names those that fit; `stainda list strategies` all
            continue
    return tuple(fitting) or ("source_only",)


def _study_text(start: Start, name: str, task: str, strategies: Sequence[str]) -> str:
    left = [one for one in FIRST if one not in strategies]
    values: dict[str, Any] = {
        "name": name, "folder": start.folder, "task": task, "scale": _scale(start),
        "sources": ", ".join(map(_quoted, start.sources)), "targets": _targets(start),
        "lacking": f"\n# THIS STUDY CANNOT RUN YET: {start.lacking}." if start.lacking else "",
        "strategies": "\n".join(f"  - {one}" for one in strategies),
        "left": f"  # not for this cohort: {', '.join(left)}\n" if left else "",
    }  # fmt: skip
    return _STUDY.format(**values)


def _targets(start: Start) -> str:
    """The YAML of the targets; those named that can be tested, where others cannot."""
    if not start.untested:
        return f"[rest]  # {', '.join(start.targets)}"
    left = ", ".join(start.untested)
    return f"[{', '.join(map(_quoted, start.targets))}]  # EDIT: without {left}: {_UNTESTED}"


def _scale(start: Start) -> str:
    """The lines of the working scale: physical where all slides tell their pixel size."""
    widths_px, widths_um = [], []
    for one in start.drawn.values():
        for values in one.areas.values():
            width = [2 * (area / 3.14159) ** 0.5 for area in values if area > 0]
            widths_px += width
            widths_um += [px * one.mpp for px in width] if one.mpp is not None else []
    if start.unknown_mpp:
        across = statistics.median(widths_px) / _ACROSS if widths_px else 8.0
        return (
            "  # EDIT: some slides do not tell their pixel size. Better: fill the column mpp of the manifest, and\n"
            "  # put mpp: (micrometres per pixel) here instead of downsample:\n"
            f"  downsample: {_nice(across):g}"
        )
    known = [one.mpp for one in start.drawn.values() if one.mpp is not None]
    wanted = statistics.median(widths_um) / _ACROSS if widths_um else 4.0
    return f"  mpp: {max(_nice(wanted), max(known, default=0)):g}  # micrometres per pixel that the network sees"


def _nice(value: float) -> float:
    return min(_NICE, key=lambda one: abs(one / value - 1) if value > one else abs(value / one - 1))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


_STUDY = """\
# Written by `stainda init` for {folder}.
# Lines marked EDIT need your eye; all settings: docs/protocol.md, docs/tasks.md.{lacking}
study: {name}
title: {name}  # EDIT: as the report is to be headed
question: Which training strategy works in the other stains and centres?  # EDIT

manifest: manifest.csv  # EDIT: check stain, centre, patient and split of every row
classes: classes.csv  # EDIT: what your classes become: a class of the task, ignore, or drop

task: {task}
model: unet_small

patches:
{scale}
  size: 128  # pixels

protocol:
  sources: [{sources}]  # EDIT: the domains whose annotations may be learned from
  targets: {targets}
  visible: targets  # unlabelled images of the targets may be seen in training; nothing: they may not
  seeds: 2
  # patients are split in the column split of the manifest

search:
  trials: 2

training:  # EDIT: few steps, to see that all works; then 5 to 10 times as many
  epochs: 4
  steps_per_epoch: 20
  batch_size: 8
  learning_rate: {{default: 4.0e-3, low: 1.0e-3, high: 1.0e-2, log: true}}

strategies:  # more: stainda list strategies
{strategies}
{left}"""
