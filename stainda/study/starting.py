"""A first study written: the manifest, the table of classes, the study file, and what it cannot answer."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stainda.cohort import (
    resolve_roles,
    write_manifest,
)
from stainda.config import TaskConfig, available, load_study
from stainda.config.load import build_study, load_piece, parse_yaml
from stainda.errors import ConfigError, StaindaError
from stainda.files import write_csv, write_text
from stainda.study.answerable import Finding, check_study, examine, sizes_in_um
from stainda.study.listing import FIRST
from stainda.study.proposing import UNTESTED, Start

_NICE = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
_THEN = "Then add the slides to the manifest, and write train, val and test into its column split"
_SMALLER = 10
"""The median object drawn has this many times the area of the smallest that is reported: 2000 µm² of a glomerulus."""
_AREA_PX = 2000.0
_ACROSS = 40
"""Pixels that the median object is wide at the scale that is proposed."""


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
    if present := [file for file in files if file.exists()]:
        raise ConfigError(
            f"{', '.join(file.name for file in present)} is there already and is not overwritten",
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
    if start.lacking:  # no draw of the splits could pass, so only slides and classes are looked at next to that
        findings = [Finding("stops", start.lacking, _THEN), *examine(config, start.cohort, ())]
    else:
        findings = check_study(config)
    return Written(files[0], files[1], files[2], tuple(findings))


def study_name(folder: str | Path) -> str:
    """A name for a study, from that of its folder."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(folder).absolute().name).strip("._-")
    return plain or "study"


def _task_of(start: Start) -> tuple[str, tuple[str, ...]]:
    """The YAML of the task, and its classes."""
    tasks = available("tasks")
    if start.task in tasks:
        piece = load_piece("tasks", start.task)
        return _in_pixels(start, piece), tuple(map(str, piece.get("classes", ("glomerulus",))))
    return f"{{name: {study_name(start.task)}, classes: [{_quoted(start.task)}]}}", (start.task,)


def _in_pixels(start: Start, piece: Mapping[str, Any]) -> str:
    """The name of a task; written out with sizes in pixels where slides do not tell their pixel size."""
    task = TaskConfig.model_validate(piece)
    if not start.unknown_mpp or not sizes_in_um(task):
        return start.task
    areas = [area for facts in start.drawn.values() for some in facts.areas.values() for area in some if area > 0]
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
    for name in sorted({name for facts in start.drawn.values() for name in facts.counts if name}):
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
    left = [title for title in FIRST if title not in strategies]
    values: dict[str, Any] = {
        "name": name, "folder": start.folder, "task": task, "scale": _scale(start),
        "sources": ", ".join(map(_quoted, start.sources)), "targets": _targets(start),
        "lacking": f"\n# THIS STUDY CANNOT RUN YET: {start.lacking}." if start.lacking else "",
        "strategies": "\n".join(f"  - {strategy}" for strategy in strategies),
        "left": f"  # not for this cohort: {', '.join(left)}\n" if left else "",
    }  # fmt: skip
    return _STUDY.format(**values)


def _targets(start: Start) -> str:
    """The YAML of the targets; those named that can be tested, where others cannot."""
    if not start.untested:
        return f"[rest]  # {', '.join(start.targets)}"
    left = ", ".join(start.untested)
    return f"[{', '.join(map(_quoted, start.targets))}]  # EDIT: without {left}: {UNTESTED}"


def _scale(start: Start) -> str:
    """The lines of the working scale: physical where all slides tell their pixel size."""
    widths_px, widths_um = [], []
    for facts in start.drawn.values():
        for values in facts.areas.values():
            width = [2 * (area / 3.14159) ** 0.5 for area in values if area > 0]
            widths_px += width
            widths_um += [px * facts.mpp for px in width] if facts.mpp is not None else []
    if start.unknown_mpp:
        across = statistics.median(widths_px) / _ACROSS if widths_px else 8.0
        return (
            "  # EDIT: some slides do not tell their pixel size. Better: fill the column mpp of the manifest, and\n"
            "  # put mpp: (micrometres per pixel) here instead of downsample:\n"
            f"  downsample: {_nice(across):g}"
        )
    known = [facts.mpp for facts in start.drawn.values() if facts.mpp is not None]
    wanted = statistics.median(widths_um) / _ACROSS if widths_um else 4.0
    return f"  mpp: {max(_nice(wanted), max(known, default=0)):g}  # micrometres per pixel that the network sees"


def _nice(value: float) -> float:
    return min(
        _NICE,
        key=lambda round_number: (
            abs(round_number / value - 1) if value > round_number else abs(value / round_number - 1)
        ),
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


_STUDY = """\
# Written by `stainda init` for {folder}.
# Lines marked EDIT need your eye; all settings: docs/concepts/protocol.md, docs/concepts/tasks.md.{lacking}
study: {name}
title: {name}  # EDIT: as the report is to be headed
question: Which training strategy works in the other stains and centres?  # EDIT

manifest: manifest.csv  # EDIT: check stain, centre, patient and split of every row
classes: classes.csv  # EDIT: what your classes become: a class of the task, ignore, or drop

task: {task}
recipe: strong  # EDIT: network and training of all strategies; small: minutes on a CPU, to see that all works

patches:
{scale}

protocol:
  sources: [{sources}]  # EDIT: the domains whose annotations may be learned from
  targets: {targets}
  visible: targets  # unlabelled images of the targets may be seen in training; nothing: they may not
  seeds: 2
  # patients are split in the column split of the manifest

search:
  trials: 2

strategies:  # more: stainda list strategies
{strategies}
{left}"""
