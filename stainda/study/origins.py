"""Whether the annotations and landmarks of a cohort count from where they are thought to count."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stainda.cohort import Section
from stainda.errors import AnnotationError, SlideError


def check_origins(sections: Iterable[Section]) -> tuple[list[tuple[int | None, str, str]], list[str]]:
    """Look at the annotations and landmarks of slides whose scanned part begins elsewhere than the slide.

    All other slides are opened and left alone: there, every origin is the same.

    Returns:
        Faults (row, what is wrong, what to do), and a sentence for each slide that could not be looked into, and for
        each file that fits somewhat better from the other origin.
    """
    faults: list[tuple[int | None, str, str]] = []
    notes: list[str] = []
    for section in sections:
        if not section.path.is_file() or not (section.annotation_files or section.landmarks):
            continue
        try:
            _look(section, faults, notes)
        except SlideError as error:
            notes.append(f"row {section.row} ({section.slide}): where its annotations lie was not checked: {error}")
    return faults, notes


def _look(section: Section, faults: list[tuple[int | None, str, str]], notes: list[str]) -> None:
    from stainda.annotations import bounds_of, check_landmarks, load_records
    from stainda.slides import open_slide

    with open_slide(section.path, mpp=section.mpp) as slide:
        if bounds_of(slide) is None:
            return
        for path in section.annotation_files:
            try:
                told = load_records(path, slide=slide, origin=section.annotation_origin)[1]
            except AnnotationError as error:
                faults.append(_fault(section, error))
                continue
            doubts = (row["reason"] for row in told if row["action"] == "kept" and not row["id"])
            notes += [f"row {section.row} ({section.slide}): {path.name}: {doubt}" for doubt in doubts]
        if section.landmarks is not None:
            try:
                check_landmarks(section.landmarks, slide)
            except AnnotationError as error:
                faults.append(_fault(section, error))


def _fault(section: Section, error: Any) -> tuple[int | None, str, str]:
    return section.row, f"{section.slide}: {error.file}: {error.message}", error.remedy or ""
