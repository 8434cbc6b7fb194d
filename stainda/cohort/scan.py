"""Scan of a folder of slides whose names follow a pattern, as a first draft of a manifest."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stainda import names
from stainda.cohort.guessing import SIDE_FOLDERS, SLIDE_ENDINGS, look_like_centres
from stainda.cohort.table import absolute
from stainda.cohort.types import Section
from stainda.errors import ManifestError, did_you_mean

_FIELDS = ("slide", "patient", "block", "section", "stain", "centre", "scanner")


@dataclass(frozen=True)
class Scan:
    """Result of scanning a folder.

    Attributes:
        sections: in the order of blocks and sections.
        skipped: files passed over, each with the reason.
        notes: what was decided that the names do not tell.
        centre_folders: folders that look like centres while all slides were given one centre.
    """

    sections: tuple[Section, ...]
    skipped: tuple[tuple[Path, str], ...]
    notes: tuple[str, ...] = ()
    centre_folders: tuple[str, ...] = ()


def scan_folder(folder: str | Path, pattern: str, **fixed: str) -> list[Section]:
    """The sections of :func:`find_sections`, without what was passed over."""
    return list(find_sections(folder, pattern, None, **fixed).sections)


def find_sections(
    folder: str | Path, pattern: str, annotations: Callable[[Path], Sequence[Path]] | None = None, **fixed: str
) -> Scan:
    """Find slides whose names follow a pattern such as ``{patient}_{block}_{section}_{stain}.svs``.

    A field never contains the character that follows it in the pattern, so ``P_01_B1_2_PAS.svs`` does not match the
    pattern above instead of being cut at the wrong place. ``section`` is digits; ``*`` stands for anything. A pattern
    with ``/`` is held against the path below ``folder``, one without against the file name in any sub-folder.
    Annotations (the first file that ``annotations`` finds) and landmarks (``NAME_landmarks.csv`` next to the slide, or
    ``landmarks/NAME.csv``) are taken along. Where the pattern has no block, the patient is the block; where it has no
    section, the files of a block are numbered by name. A block that several patients have (``B1``) is named by patient
    (``P1_B1``), and a patient whose sections two centres number alike by centre. Notes say so. ``.*`` at the end stands
    for any ending of slides.

    Args:
        annotations: from a slide's path to the files of annotations that belong to it, the best first; ``None``:
            ``NAME.geojson`` next to the slide or in ``annotations/``.
        fixed: values of fields that the names do not tell, for example ``centre="A"``.

    Raises:
        ManifestError: no such folder, an unknown or missing field, or no file that matches.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ManifestError("there is no such folder", file=folder, remedy="Name the folder of the slides")
    expression, fields = _expression(pattern, fixed)
    matching: list[tuple[Path, dict[str, str]]] = []
    skipped: list[tuple[Path, str]] = []
    suffix = names.ending(pattern)
    wanted = SLIDE_ENDINGS if suffix == ".*" else (suffix,)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        inside = path.relative_to(folder)
        match = expression.fullmatch(inside.as_posix() if "/" in pattern else path.name)
        if match and "/" not in pattern and _beside(inside):
            continue
        if match and (suffix != ".*" or names.ending(path) in wanted):
            matching.append((path, {**fixed, **{key: value.strip() for key, value in match.groupdict().items()}}))
        elif names.ending(path) in wanted and not _beside(inside):
            skipped.append((path, f"its name does not follow {pattern}"))
    if not matching:
        why = f"for example {skipped[0][0].name!r} does not" if skipped else f"there is no {suffix or 'such'} file"
        raise ManifestError(f"no file follows {pattern!r}; {why}", file=folder, remedy="Adjust the pattern")
    outlines = {path: (_geojson if annotations is None else annotations)(path) for path, _ in matching}
    taken = {file for files in outlines.values() for file in files}  # a mask may follow the pattern of the slides
    matching = [(path, values) for path, values in matching if path not in taken]
    stems = Counter(names.same_name(names.stem(path)) for path, _ in matching)
    sections = []
    notes = []
    for path, values in matching:
        unique = names.stem(path)
        if stems[names.same_name(unique)] > 1:
            unique = "_".join((*path.relative_to(folder).parts[:-1], unique))
        outlined = outlines[path]
        if len(outlined) > 1:
            others = ", ".join(other.name for other in outlined[1:])
            notes.append(f"{path.name}: {outlined[0].name} was taken as its annotations, not {others}")
        sections.append(_section(path, values, values.get("slide", unique), outlined))
    if "block" not in fields and "block" not in fixed:
        notes.append("the names tell no block: all slides of a patient were taken as one block")
    if "section" not in fields and "section" not in fixed:
        notes.append("the names tell no section: each block was numbered by file name; check the order")
        sections = _numbered(sections)
    sections = _patients_apart(sections, notes)
    sections = _blocks_apart(sections, notes)
    ordered = tuple(sorted(sections, key=lambda section: (section.centre, section.block, section.section)))
    suspected = _centre_folders(folder, ordered) if "centre" in fixed else ()
    return Scan(ordered, tuple(skipped), tuple(notes), suspected)


def _beside(inside: Path) -> bool:
    return any(part.casefold() in SIDE_FOLDERS for part in inside.parts[:-1])


def _patients_apart(sections: list[Section], notes: list[str]) -> list[Section]:
    """Patients of one name at two centres are two people where both have a section of the same block and number."""
    seen: dict[tuple[str, str, int], str] = {}
    two: set[str] = set()
    for section in sections:
        centre = seen.setdefault((section.patient, section.block, section.section), section.centre)
        if centre != section.centre:
            two.add(section.patient)
    if not two:
        return sections
    notes.append(
        f"patients were named by centre ({_joined(sections[0].centre, sections[0].patient)}), since "
        f"{', '.join(sorted(two)[:3])} would be one patient of two centres, with the same sections"
    )
    return [
        replace(
            slide,
            patient=_joined(slide.centre, slide.patient),
            block=_joined(slide.centre, slide.block) if slide.block == slide.patient else slide.block,
        )
        for slide in sections
    ]


def _blocks_apart(sections: list[Section], notes: list[str]) -> list[Section]:
    """Blocks named by patient, where laboratories count them anew for every patient."""
    patients: dict[str, set[str]] = {}
    for section in sections:
        patients.setdefault(names.same_name(section.block), set()).add(section.patient)
    shared = [block for block, people in patients.items() if len(people) > 1]
    if not shared:
        return sections
    named = next(slide for slide in sections if names.same_name(slide.block) == shared[0])
    notes.append(
        f"blocks were named by patient ({_joined(named.patient, named.block)}), since {named.block!r} alone is a block "
        f"of {len(patients[shared[0]])} patients"
    )
    return [replace(slide, block=_joined(slide.patient, slide.block)) for slide in sections]


def _joined(first: str, second: str) -> str:
    return f"{first}_{second}"


def _centre_folders(folder: Path, sections: Sequence[Section]) -> tuple[str, ...]:
    """The top folders, where they look like centres."""
    patients: dict[str, set[str]] = {}
    for section in sections:
        inside = section.path.relative_to(absolute(folder)).parts[:-1]
        patients.setdefault(inside[0] if inside else "", set()).add(section.patient)
    return tuple(patients) if len(patients) > 1 and look_like_centres(patients) else ()


def _expression(pattern: str, fixed: dict[str, str]) -> tuple[re.Pattern[str], list[str]]:
    for name in fixed:
        if name not in _FIELDS or name == "slide":
            raise ManifestError(f"unknown field {name!r}", remedy=did_you_mean(name, _FIELDS))
    parts = re.split(r"(\{[^{}]*\}|\*)", pattern)
    text, fields = "", []
    for index, part in enumerate(parts):
        if part == "*":
            text += "[^/]*"
        elif part.startswith("{"):
            name = part[1:-1]
            if name not in _FIELDS:
                raise ManifestError(
                    f"unknown field {part} in the pattern {pattern!r}", remedy=did_you_mean(name, _FIELDS)
                )
            after = "".join(parts[index + 1 : index + 2])[:1]
            if name in fields:
                text += f"(?P={name})"
            elif name == "section":
                text += r"(?P<section>\d+)"
            else:
                text += f"(?P<{name}>[^/{re.escape(after)}]+)"
            fields.append(name)
        else:
            text += re.escape(part)
    if missing := [name for name in ("patient", "stain", "centre") if name not in fields and name not in fixed]:
        raise ManifestError(
            f"the pattern {pattern!r} does not tell: {', '.join(missing)}",
            remedy=f"Put it into the pattern, or give it for all slides, for example --{missing[0]} NAME",
        )
    return re.compile(text, re.IGNORECASE), fields


def _geojson(path: Path) -> list[Path]:
    folders = (path.parent, path.parent / "annotations", path.parent.parent / "annotations")
    files = [folder / f"{stem}.geojson" for folder in folders for stem in dict.fromkeys((names.stem(path), path.stem))]
    return [file for file in files if file.is_file()]


def _section(path: Path, values: dict[str, str], slide: str, annotations: Sequence[Path]) -> Section:
    folder, stem = path.parent, names.stem(path)
    landmarks = (
        folder / f"{stem}_landmarks.csv",
        folder / "landmarks" / f"{stem}.csv",
        folder.parent / "landmarks" / f"{stem}.csv",
    )
    return Section(
        slide=slide,
        patient=values["patient"],
        block=values.get("block", values["patient"]),
        section=int(values.get("section", 0)),
        stain=values["stain"],
        centre=values["centre"],
        scanner=values.get("scanner", ""),
        path=absolute(path),
        annotations=absolute(annotations[0]) if annotations else None,
        landmarks=next((absolute(file) for file in landmarks if file.is_file()), None),
    )


def _numbered(sections: list[Section]) -> list[Section]:
    count: Counter[str] = Counter()
    numbered = []
    for section in sections:
        count[section.block] += 1
        numbered.append(replace(section, section=count[section.block]))
    return numbered
