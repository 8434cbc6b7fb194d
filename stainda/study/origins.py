"""Whether the slides of a cohort can be read, and whether its shapes and landmarks count from where they should."""

from __future__ import annotations

from collections.abc import Iterable

from stainda.cohort import Section
from stainda.errors import AnnotationError, SlideError, StaindaError
from stainda.study.looking import sample


def check_origins(sections: Iterable[Section]) -> tuple[list[tuple[int | None, str, str]], list[str]]:
    """Open every slide, and look at annotations and landmarks where its scanned part begins elsewhere than the slide.

    On all other slides every origin is the same.

    Returns:
        Faults (row, what is wrong, what to do), of slides that cannot be read too; and a sentence for each file that
        fits somewhat better from the other origin.
    """
    faults: list[tuple[int | None, str, str]] = []
    notes: list[str] = []
    for section in sections:
        if not section.path.is_file():  # reported by the manifest's own check
            continue
        try:
            _look(section, faults, notes)
            if error := sample(section):
                faults.append(_fault(section, error))
        except SlideError as unreadable:
            faults.append(_fault(section, unreadable))
    return faults, notes


def _look(section: Section, faults: list[tuple[int | None, str, str]], notes: list[str]) -> None:
    from stainda.annotations import bounds_of, check_landmarks, load_records
    from stainda.slides import open_slide

    with open_slide(section.path, mpp=section.mpp) as slide:
        if bounds_of(slide) is None:
            return
        for path in section.annotation_files:
            try:
                load_rows = load_records(path, slide=slide, origin=section.annotation_origin)[1]
            except AnnotationError as error:
                faults.append(_fault(section, error))
                continue
            doubts = (row["reason"] for row in load_rows if row["action"] == "kept" and not row["id"])
            notes += [f"row {section.row} ({section.slide}): {path.name}: {doubt}" for doubt in doubts]
        if section.landmarks is not None:
            try:
                check_landmarks(section.landmarks, slide)
            except AnnotationError as error:
                faults.append(_fault(section, error))


def _fault(section: Section, error: StaindaError) -> tuple[int | None, str, str]:
    return section.row, f"{section.slide}: {error.file}: {error.message}", error.remedy or ""
