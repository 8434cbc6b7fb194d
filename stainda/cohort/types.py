"""Cohort and section: the sections of the blocks of patients, each in a domain."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stainda.notebook import summary_html

if TYPE_CHECKING:
    import pandas as pd

ANNOTATOR_SEPARATOR = ";"
"""Between the files of several annotators in one cell of a manifest."""

FRAME_COLUMNS = (
    "slide", "patient", "block", "section", "stain", "centre", "domain", "scanner", "path", "annotations", "landmarks",
    "mpp", "split", "annotation_origin", "group",
)  # fmt: skip
"""Columns of :meth:`Cohort.to_frame`."""

Split = Literal["train", "val", "test", "all"]
Origin = Literal["auto", "level0", "bounds"]


@dataclass(frozen=True)
class Section:
    """One row of the manifest: one stained section, scanned as one slide.

    ``path``, ``annotations`` and ``landmarks`` are absolute. ``mpp`` is the manifest's override in micrometres per
    level-0 pixel, ``None`` where the slide file is to be asked. ``row`` is the manifest's row (the header is row 1).
    ``more_annotations`` are those of further annotators of the same slide, absolute too.
    ``annotation_origin`` says where their coordinates begin: at the corner of the slide (``level0``) or of its scanned
    part (``bounds``); ``auto``: as the programs of their format count.
    ``group`` is the patient's, for comparing groups of patients; empty where there are none.
    ``further`` are the columns that are no part of a manifest, by name, for example a label of the slide.
    The split ``all`` is only for a study of a single patient, who then serves for training, validation and test.
    """

    slide: str
    patient: str
    block: str
    section: int
    stain: str
    centre: str
    path: Path
    scanner: str = ""
    annotations: Path | None = None
    landmarks: Path | None = None
    mpp: float | None = None
    split: Split | None = None
    row: int | None = None
    more_annotations: tuple[Path, ...] = ()
    annotation_origin: Origin = "auto"
    group: str = ""
    further: tuple[tuple[str, str], ...] = ()

    @property
    def annotation_files(self) -> tuple[Path, ...]:
        """The files of all annotators; none, one or several."""
        return () if self.annotations is None else (self.annotations, *self.more_annotations)

    def cell(self, column: str) -> str | None:
        """The text of any column of the manifest; ``None`` where the manifest has no such column."""
        if column in self.__dataclass_fields__:
            value = getattr(self, column)
            return "" if value is None else str(value)
        return dict(self.further).get(column)

    def domain(self, keys: Sequence[str] = ("stain", "centre")) -> str:
        """The name of the domain of this section: its keys joined by ``@``, for example ``PAS@A``."""
        return "@".join(str(getattr(self, key)) for key in keys)


@dataclass(frozen=True)
class Cohort:
    """All sections of a manifest, in its order.

    ``source`` is the manifest's file; ``warnings`` is what was odd in it but no fault, one sentence each.

    Example:
        >>> cohort = st.read_manifest("mine.csv")
        >>> cohort
        Cohort(mine.csv: 10 sections, 5 blocks, 5 patients, domains PAS@A, SR@A)
        >>> [section.slide for section in cohort.where(domains=["SR@A"])][:2]
        ['P0_SR', 'P1_SR']
    """

    sections: tuple[Section, ...]
    domain_keys: tuple[str, ...] = ("stain", "centre")
    source: Path | None = None
    warnings: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Section]:
        return iter(self.sections)

    def __len__(self) -> int:
        return len(self.sections)

    def section(self, slide: str) -> Section:
        """The section of this slide name; KeyError where there is none."""
        for section in self.sections:
            if section.slide == slide:
                return section
        raise KeyError(slide)

    def domain(self, section: Section) -> str:
        return section.domain(self.domain_keys)

    @property
    def domains(self) -> tuple[str, ...]:
        """Domain names in the order they first appear."""
        return tuple(dict.fromkeys(self.domain(section) for section in self.sections))

    @property
    def patients(self) -> tuple[str, ...]:
        """Patients in the order they first appear."""
        return tuple(dict.fromkeys(section.patient for section in self.sections))

    @property
    def single_patient(self) -> bool:
        """One patient is no cohort: there is no split by patient, and no interval over patients."""
        return len(self.patients) == 1

    def blocks(self) -> dict[str, tuple[Section, ...]]:
        """Sections by block, each block in the order of the cut."""
        blocks: dict[str, list[Section]] = {}
        for section in self.sections:
            blocks.setdefault(section.block, []).append(section)
        return {block: tuple(sorted(rows, key=lambda row: row.section)) for block, rows in blocks.items()}

    def to_frame(self) -> pd.DataFrame:
        """The cohort as a table: one row per section, in the order of the manifest.

        Returns:
            The manifest's columns with absolute paths as text, and ``domain`` behind ``centre``. Text that the manifest
            leaves empty is ``""``; an empty ``mpp`` (micrometres per level-0 pixel) is NaN. Several annotators' files
            stand in one cell, separated by ``;``.

        Example:
            >>> table = st.read_manifest("mine.csv").to_frame()
            >>> table[["slide", "stain", "domain"]].head(2)
                slide stain domain
            0  P0_PAS   PAS  PAS@A
            1   P0_SR    SR   SR@A
        """
        import pandas as pd

        rows = [
            {
                "slide": section.slide, "patient": section.patient, "block": section.block, "section": section.section,
                "stain": section.stain, "centre": section.centre, "domain": self.domain(section),
                "scanner": section.scanner,
                "path": str(section.path), "annotations": ANNOTATOR_SEPARATOR.join(map(str, section.annotation_files)),
                "landmarks": "" if section.landmarks is None else str(section.landmarks),
                "mpp": float("nan") if section.mpp is None else section.mpp, "split": section.split or "",
                "annotation_origin": section.annotation_origin, "group": section.group,
            }
            for section in self.sections
        ]  # fmt: skip
        return pd.DataFrame(rows, columns=list(FRAME_COLUMNS))

    def __repr__(self) -> str:
        place = "" if self.source is None else f"{self.source.name}: "
        return f"Cohort({place}{self._counts()}, domains {', '.join(self.domains) or 'none'})"

    def _repr_html_(self) -> str:
        rows = []
        for name in self.domains:
            inside = self.where(domains=[name])
            annotated = sum(section.annotations is not None for section in inside)
            patients = len(inside.patients)
            rows.append({"domain": name, "patients": patients, "sections": len(inside), "annotated": annotated})
        facts = {"manifest": self.source, "holds": self._counts(), "notes": "; ".join(self.warnings)}
        return summary_html("Cohort", facts, rows)

    def _counts(self) -> str:
        counts = {"section": len(self), "block": len(self.blocks()), "patient": len(self.patients)}
        return ", ".join(f"{number} {noun}{'s' * (number != 1)}" for noun, number in counts.items())

    def where(self, *, domains: Iterable[str] | None = None, splits: Iterable[str] | None = None) -> Cohort:
        """The sections in these domains and splits (``None``: any); one marked ``all`` is in every split."""
        wanted = None if domains is None else set(domains)
        allowed = None if splits is None else {*splits, "all"}
        kept = tuple(
            row
            for row in self.sections
            if (wanted is None or self.domain(row) in wanted) and (allowed is None or row.split in allowed)
        )
        return replace(self, sections=kept)

    def matching(self, patterns: Iterable[str]) -> tuple[str, ...]:
        """Domain names that match any of the shell-style patterns (``PAS@*``), in cohort order."""
        patterns = tuple(patterns)
        return tuple(name for name in self.domains if any(fnmatch.fnmatchcase(name, p) for p in patterns))
