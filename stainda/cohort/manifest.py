"""The manifest, one row per slide: reading, with all faults reported at once, and writing."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from stainda.cohort.splits import find_leaks
from stainda.cohort.table import absolute, read_table
from stainda.cohort.types import ANNOTATOR_SEPARATOR, Cohort, Origin, Section, Split
from stainda.errors import LeakError, ManifestError, did_you_mean
from stainda.files import write_csv
from stainda.links import FOLLOW, follows_links, leads_outside
from stainda.names import existing, is_file, is_there, same_name
from stainda.run_directory.tables import MANIFEST

COLUMNS = MANIFEST.names
REQUIRED = ("slide", "patient", "block", "section", "stain", "centre", "path")
SPLITS: tuple[str, ...] = get_args(Split)
ORIGINS: tuple[str, ...] = get_args(Origin)

# slides and blocks name files; the others name domains, which protocols match with * ? [ ] and join with @
_NOT_IN_FILE_NAMES = re.compile(r'[/\\:*?"<>|\x00-\x1f]|^[.~]|[. ]$')
_UNIQUE = "Slide names are unique"
_NUMBER = "Number the sections of a block in the order of the cut"
_NOT_IN_DOMAINS = re.compile(r"[@*?\[\]\x00-\x1f]")


@dataclass(frozen=True)
class Fault:
    """One thing wrong in a manifest: the row (the header is row 1; ``None``: the whole file) and what to do."""

    row: int | None
    message: str
    remedy: str
    leak: bool = False

    def __str__(self) -> str:
        place = "" if self.row is None else f"row {self.row}: "
        return f"{place}{self.message}. {self.remedy}"


@dataclass
class ManifestReport:
    """Result of reading a manifest: its sections, faults and warnings."""

    path: Path
    sections: list[Section] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def fault(self, row: int | None, message: str, remedy: str) -> None:
        self.faults.append(Fault(row, message, remedy))

    def error(self) -> ManifestError | LeakError:
        """All faults as one error; a LeakError where nothing else is wrong."""
        kind = LeakError if all(fault.leak for fault in self.faults) else ManifestError
        ordered = sorted(self.faults, key=lambda fault: (fault.row is not None, fault.row or 0))
        if len(ordered) == 1:
            only = ordered[0]
            return kind(only.message, file=self.path, row=only.row, remedy=only.remedy)
        return kind(f"{len(ordered)} faults\n" + "\n".join(f"  {fault}" for fault in ordered), file=self.path)


def read_manifest(
    path: str | Path,
    data: str | Path | None = None,
    domain_keys: Sequence[str] = ("stain", "centre"),
    check_files: bool = True,
    absent_slides: bool = False,
) -> Cohort:
    """Read a manifest.

    Args:
        path: the CSV file, UTF-8 and comma-separated, with the columns of :data:`COLUMNS`.
        data: the folder that relative paths start from; default: the manifest's own folder. Where a file is not
            there, the manifest's own folder is tried as well.
        domain_keys: the columns that together name a domain.
        check_files: whether slides, annotations and landmarks must exist.
        absent_slides: slides alone need not.

    Raises:
        ManifestError: the manifest has faults; all of them, each with its row and remedy.
        LeakError: the only faults are patients or files in two splits.
    """
    report = inspect_manifest(path, data, domain_keys, check_files, absent_slides)
    if report.faults:
        raise report.error()
    return Cohort(tuple(report.sections), tuple(domain_keys), Path(path), tuple(report.warnings))


def inspect_manifest(
    path: str | Path,
    data: str | Path | None = None,
    domain_keys: Sequence[str] = ("stain", "centre"),
    check_files: bool = True,
    absent_slides: bool = False,
) -> ManifestReport:
    """Everything that is wrong or odd in a manifest, without raising for what its rows hold.

    Raises:
        ManifestError: the file is not there or is no comma-separated text, so that there are no rows to speak of.
    """
    path = Path(path)
    report = ManifestReport(path)
    table = read_table(path)
    missing = [name for name in REQUIRED if name not in table.columns]
    unknown = [name for name in table.columns if name not in COLUMNS]
    for name in missing:
        near = difflib.get_close_matches(name, unknown, n=1)
        remedy = f"Did you mean {near[0]!r}? Rename it" if near else "Add it"
        report.fault(None, f"the column {name!r} is missing", f"{remedy} (columns: {', '.join(COLUMNS)})")
    if unknown:
        report.warnings.append(
            f"columns that stainda does not know: {', '.join(unknown)}; only slide_level.label of a study may name one"
        )
    if not table.rows:
        report.fault(None, "the manifest has a header but no slide", "Write one row per slide")
    for row, count in table.ragged:
        report.fault(
            row, f"{count} cells where the header has {len(table.columns)}", "Put values with commas in quotes"
        )
    folder = path.parent if data is None else Path(data)
    if check_files and not folder.is_dir():
        report.fault(None, f"the data folder {folder} does not exist", "Give the right folder with --data")
        check_files = False
    required = {*REQUIRED, *(key for key in domain_keys if key in COLUMNS)} & set(table.columns)
    for row, cells in table.rows:
        for name in COLUMNS:
            if name in required and not cells.get(name):
                report.fault(row, f"{name!r} is empty", "Fill it in")
        _check_names(report, row, cells, domain_keys)
        needed = {"annotations", "landmarks"} | ({"path"} if not absent_slides else set()) if check_files else set()
        section = _section(report, row, cells, (folder, path.parent), needed)
        report.sections.append(section)
    _check_across(report)
    return report


def _check_names(report: ManifestReport, row: int, cells: Mapping[str, str], domain_keys: Sequence[str]) -> None:
    for name in ("slide", "block"):
        value = cells.get(name, "")
        if _NOT_IN_FILE_NAMES.search(value):
            report.fault(row, f"the {name} {value!r} cannot name a file", "Use letters, digits, '_', '-' and '.'")
    for name in dict.fromkeys(("stain", "centre", "scanner", *domain_keys)):
        value = cells.get(name, "")
        if _NOT_IN_DOMAINS.search(value):
            report.fault(row, f"the {name} {value!r} contains one of @ * ? [ ]", "They mean something in a domain name")


def _section(
    report: ManifestReport, row: int, cells: Mapping[str, str], folders: Sequence[Path], needed: Collection[str]
) -> Section:
    def file(column: str, text: str | None = None) -> Path | None:
        text = cells.get(column, "") if text is None else text
        if not text:
            return None
        path = _locate(text, folders)
        if column in needed and not is_file(path):
            what = "a folder" if is_there(path) else "missing"
            report.fault(row, f"the file in {column!r} is {what}: {path}", "Correct it, or give --data FOLDER")
        elif (target := _linked_away(text, path, folders)) is not None:
            where = f"the file in {column!r} lies behind a link that leads out of the data folder: {path} is {target}"
            report.fault(row, where, f"Write {target} itself, or set {FOLLOW}=1 if you made the link")
        return path

    texts = _annotators(cells.get("annotations", ""), folders)
    drawn = [path for text in texts if (path := file("annotations", text)) is not None]
    if len(set(drawn)) < len(drawn):
        report.fault(row, "a file is named twice in 'annotations'", "Name each annotator's file once, separated by ;")
    return Section(
        slide=cells.get("slide", ""),
        patient=cells.get("patient", ""),
        block=cells.get("block", ""),
        section=_number(report, row, cells.get("section", "")),
        stain=cells.get("stain", ""),
        centre=cells.get("centre", ""),
        path=file("path") or Path(),
        scanner=cells.get("scanner", ""),
        annotations=drawn[0] if drawn else None,
        more_annotations=tuple(drawn[1:]),
        landmarks=file("landmarks"),
        mpp=_mpp(report, row, cells.get("mpp", "")),
        split=_split(report, row, cells.get("split", "")),
        annotation_origin=_origin(report, row, cells.get("annotation_origin", "")),
        group=cells.get("group", ""),
        row=row,
        further=tuple((name, text) for name, text in cells.items() if name not in COLUMNS),
    )


def _locate(text: str, folders: Sequence[Path]) -> Path:
    spellings = [text, text.replace("\\", "/")] if "\\" in text else [text]
    candidates = [folder / spelling for spelling in spellings for folder in folders]
    located = next(
        (found_path for candidate in candidates if is_file(found_path := existing(candidate))), candidates[0]
    )
    return absolute(located)


def _linked_away(text: str, path: Path, folders: Sequence[Path]) -> Path | None:
    """Where the file of a relative path really lies, if a link below the data folder leads out of it."""
    if follows_links() or Path(text).is_absolute():
        return None
    return next((target for folder in folders if (target := leads_outside(path, folder)) is not None), None)


def _annotators(text: str, folders: Sequence[Path]) -> list[str]:
    """The files of a cell: several annotators' are separated by ``;``, unless a file is really named so."""
    if ANNOTATOR_SEPARATOR not in text or is_file(_locate(text, folders)):
        return [text]
    return [part.strip() for part in text.split(ANNOTATOR_SEPARATOR) if part.strip()]


def _number(report: ManifestReport, row: int, text: str) -> int:
    try:
        value = float(text) if text else 0.0
        if value == int(value) and value >= 0:
            return int(value)
    except (ValueError, OverflowError):
        pass
    report.fault(row, f"the section {text!r} is no whole number", _NUMBER)
    return -1


def _mpp(report: ManifestReport, row: int, text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        remedy = "Use a decimal point" if "," in text else "Write micrometres per pixel, or leave it empty"
        report.fault(row, f"mpp {text!r} is not a positive number", remedy)
        return None
    if not 0.05 <= value <= 20:
        report.warnings.append(f"row {row}: mpp {value:g} is unusual (micrometres per level-0 pixel, 0.25 at 40x)")
    return value


def _split(report: ManifestReport, row: int, text: str) -> Split | None:
    word = text.lower()
    if word and word not in SPLITS:
        report.fault(row, f"unknown split {text!r}", did_you_mean(word, SPLITS))
        return None
    return word or None  # type: ignore[return-value]


def _origin(report: ManifestReport, row: int, text: str) -> Origin:
    word = text.lower() or "auto"
    if word not in ORIGINS:
        report.fault(row, f"unknown annotation_origin {text!r}", did_you_mean(word, ORIGINS))
        return "auto"
    return word  # type: ignore[return-value]


def _check_across(report: ManifestReport) -> None:
    """Faults that concern several rows: each is reported at the later row and names the earlier one."""
    slides: dict[str, Section] = {}
    patients: dict[str, Section] = {}
    centres: dict[str, Section] = {}
    numbers: dict[tuple[str, int], Section] = {}
    spellings: dict[tuple[str, str], tuple[str, int | None]] = {}
    files: dict[Path, Section] = {}
    for section in report.sections:
        if section.slide:
            other = slides.setdefault(same_name(section.slide), section)
            if other is not section:
                how = "" if other.slide == section.slide else f" ({other.slide!r} but for case or Unicode form)"
                report.fault(section.row, f"the slide {section.slide!r} is already in row {other.row}{how}", _UNIQUE)
        if section.block:
            other = patients.setdefault(section.block, section)
            if other.patient != section.patient and section.patient and other.patient:
                report.fault(
                    section.row,
                    f"block {section.block!r} is of patient {section.patient!r}, "
                    f"but in row {other.row} of {other.patient!r}",
                    "A block is of one patient: name blocks apart, for example by patient",
                )
            if section.section >= 0:
                other = numbers.setdefault((section.block, section.section), section)
                if other is not section:
                    report.fault(
                        section.row,
                        f"section {section.section} of block {section.block!r} is already in row {other.row}",
                        _NUMBER,
                    )
        for name in ("patient", "block", "stain", "centre", "scanner", "group"):
            value = getattr(section, name)
            seen, where = spellings.setdefault((name, same_name(value)), (value, section.row))
            if value != seen:
                report.fault(section.row, f"the {name} {value!r} is {seen!r} in row {where}", "Write it one way")
        other = centres.setdefault(section.patient, section)
        if section.patient and other.group != section.group:
            report.fault(
                section.row,
                f"patient {section.patient!r} is in group {section.group!r}, but in row {other.row} in {other.group!r}",
                "A patient is in one group: write it in all rows, or in none",
            )
        if section.patient and other.centre != section.centre:
            report.warnings.append(
                f"row {section.row}: patient {section.patient!r} is of centre {section.centre!r}, but in "
                f"row {other.row} of {other.centre!r}; if these are two people, name them apart"
            )
        if section.path != Path():
            other = files.setdefault(section.path, section)
            if other is not section:
                report.warnings.append(f"row {section.row}: the same slide file as row {other.row}: {section.path}")
    for leak in find_leaks(report.sections):
        report.faults.append(Fault(leak.row, leak.message, leak.remedy, leak=True))


def write_manifest(rows: Cohort | Iterable[Section | Mapping[str, Any]], path: str | Path) -> Path:
    """Write a manifest; paths below its folder are written relative to it, others absolute, all with ``/``."""
    path = Path(path)
    folder = absolute(path).parent

    def cell(value: object) -> Any:
        if not isinstance(value, Path):
            return value
        full = absolute(value)
        return (full.relative_to(folder) if full.is_relative_to(folder) else full).as_posix()

    def cells(row: Section | Mapping[str, Any]) -> dict[str, Any]:
        values = row if isinstance(row, Mapping) else vars(row)
        written = {name: cell(values.get(name)) for name in COLUMNS}
        if written["annotation_origin"] == "auto":
            written["annotation_origin"] = None
        if annotators := values.get("more_annotations"):
            written["annotations"] = ANNOTATOR_SEPARATOR.join([str(written["annotations"]), *map(cell, annotators)])
        return {**written, **dict(values.get("further", ()))}

    written = [cells(row) for row in rows]
    further = tuple(dict.fromkeys(name for row in written for name in row if name not in COLUMNS))
    columns = (*(COLUMNS if any(row["group"] for row in written) else MANIFEST.without("group")), *further)
    return write_csv(path, ({name: row.get(name, "") for name in columns} for row in written), columns)
