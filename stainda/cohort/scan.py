"""A folder of slides with telling names, as the first draft of a manifest."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stainda.cohort.table import absolute
from stainda.cohort.types import Section
from stainda.errors import ManifestError, did_you_mean

_FIELDS = ("slide", "patient", "block", "section", "stain", "centre", "scanner")


@dataclass(frozen=True)
class Scan:
    """Sections found, in the order of blocks and sections, and the files passed over, each with the reason."""

    sections: tuple[Section, ...]
    skipped: tuple[tuple[Path, str], ...]
    notes: tuple[str, ...] = ()


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
    Annotations (the first file that ``annotations`` finds) and landmarks (``NAME_landmarks.csv`` beside the slide, or
    ``landmarks/NAME.csv``) are taken along. Where the pattern has no block, the patient is the block; where it has no
    section, the files of a block are numbered by name, and a note says so.

    Args:
        annotations: from a slide's path to the files of annotations that belong to it, the best first; ``None``:
            ``NAME.geojson`` beside the slide or in ``annotations/``.
        fixed: values of fields that the names do not tell, for example ``centre="A"``.

    Raises:
        ManifestError: no such folder, an unknown or missing field, or no file that matches.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ManifestError("there is no such folder", file=folder, remedy="Name the folder of the slides")
    expression, fields = _expression(pattern, fixed)
    found: list[tuple[Path, dict[str, str]]] = []
    skipped: list[tuple[Path, str]] = []
    suffix = Path(pattern).suffix.lower()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix() if "/" in pattern else path.name
        match = expression.fullmatch(name)
        if match:
            found.append((path, {**fixed, **{key: value.strip() for key, value in match.groupdict().items()}}))
        elif path.suffix.lower() == suffix:
            skipped.append((path, f"its name does not follow {pattern}"))
    if not found:
        why = f"for example {skipped[0][0].name!r} does not" if skipped else f"there is no {suffix or 'such'} file"
        raise ManifestError(f"no file follows {pattern!r}; {why}", file=folder, remedy="Mend the pattern")
    outlines = {path: (_geojson if annotations is None else annotations)(path) for path, _ in found}
    taken = {one for files in outlines.values() for one in files}  # a mask may follow the pattern of the slides
    found = [(path, values) for path, values in found if path not in taken]
    stems = Counter(path.stem for path, _ in found)
    sections = []
    notes = []
    for path, values in found:
        unique = path.stem if stems[path.stem] == 1 else "_".join(path.relative_to(folder).with_suffix("").parts)
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
    return Scan(
        tuple(sorted(sections, key=lambda one: (one.centre, one.block, one.section))), tuple(skipped), tuple(notes)
    )


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
    name = f"{path.stem}.geojson"
    folders = (path.parent, path.parent / "annotations", path.parent.parent / "annotations")
    return [folder / name for folder in folders if (folder / name).is_file()]


def _section(path: Path, values: dict[str, str], slide: str, annotations: Sequence[Path]) -> Section:
    folder, stem = path.parent, path.stem
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
    for one in sections:
        count[one.block] += 1
        numbered.append(replace(one, section=count[one.block]))
    return numbered
