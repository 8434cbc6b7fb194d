"""Writing the manifest, annotations and landmarks of a public data set into a folder of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from stainda.cohort import Section, write_manifest
from stainda.cohort.table import absolute
from stainda.datasets.entry import FoundSlide, Notes
from stainda.datasets.registry import public_dataset
from stainda.errors import AnnotationError, ManifestError, SlideError, StaindaError
from stainda.files import write_csv
from stainda.names import file_name
from stainda.progress import SILENT, Progress
from stainda.randomness import seed_for

if TYPE_CHECKING:
    from stainda.slides import Slide

NOTE_COLUMNS = ("slide", "kind", "what")
_VALIDATION_SHARE = 0.2


@dataclass(frozen=True)
class Made:
    """What was written.

    Attributes:
        manifest: the manifest's file; ``notes_file`` lies next to it.
        sections: its rows.
        annotated, shapes, landmarks: slides with annotations, their shapes, slides with landmarks.
        notes: rows of :data:`NOTE_COLUMNS`: what was guessed, is missing, was left out or mended.
    """

    manifest: Path
    notes_file: Path
    sections: tuple[Section, ...]
    annotated: int
    shapes: int
    landmarks: int
    notes: tuple[tuple[str, str, str], ...]


def make_public_manifest(
    name: str, folder: str | Path, out: str | Path, mpp: float | None = None, progress: Progress = SILENT
) -> Made:
    """Turn a downloaded public data set into ``manifest.csv``, ``annotations/``, ``landmarks/`` and ``notes.csv``.

    Slides stay where they are; the manifest names them by absolute paths. A slide or annotation that cannot be read is
    left out and reported, so that a partial download can be used.

    Args:
        name: of a data set in :data:`stainda.datasets.DATASETS`.
        folder: what was downloaded and unpacked; nothing is written into it.
        out: the folder to write to, outside ``folder``.
        mpp: micrometres per pixel of slides of which neither file nor publication tells it.

    Raises:
        ManifestError: an unknown data set; no such folder; nothing of the data set in it, or not one slide that opens;
            or ``out`` lies inside ``folder``.
    """
    dataset = public_dataset(name)
    folder, out = Path(folder), Path(out)
    if not folder.is_dir():
        raise ManifestError("there is no such folder", file=folder, remedy="Name the folder of the downloaded data")
    if out.resolve().is_relative_to(folder.resolve()):
        raise ManifestError(
            "the output would lie inside the downloaded data, which stays as it is", file=out,
            remedy="Choose another folder with --out",
        )  # fmt: skip
    notes = Notes()
    notes.tell("layout", f"checked against {dataset.checked}")
    slides_found = dataset.find(folder, notes)
    _unique(slides_found)
    sections, counts = [], Counter[str]()
    with progress.task(f"{dataset.title}: slides", len(slides_found)) as task:
        for slide in slides_found:
            section = _written(slide, out, mpp, notes, counts)
            if section is not None:
                sections.append(section)
            task.advance()
    if not sections:
        first = next((f"{slide}: {what}" for slide, kind, what in notes.rows if kind == "left out"), "")
        raise ManifestError(f"none of {len(slides_found)} slides can be read ({first})", file=folder)
    if counts["no mpp"]:
        unknown = f"{counts['no mpp']} slides"
        notes.tell("missing", f"the pixel size of {unknown}: fill in the column mpp, or give --mpp")
    sections = _settled(sections, name, notes)
    manifest = write_manifest(sections, out / "manifest.csv")
    notes_file = write_csv(
        out / "notes.csv", (dict(zip(NOTE_COLUMNS, row, strict=True)) for row in notes.rows), NOTE_COLUMNS
    )
    return Made(
        manifest, notes_file, tuple(sections), counts["annotated"], counts["shapes"], counts["landmarks"],
        tuple(notes.rows),
    )  # fmt: skip


def _unique(slides_found: Sequence[FoundSlide]) -> None:
    names = Counter(section.slide.casefold() for section in slides_found)
    twice = next((section for section in slides_found if names[section.slide.casefold()] > 1), None)
    if twice is not None:
        raise ManifestError(
            f"the slide {twice.slide!r} is there {names[twice.slide.casefold()]} times",
            file=twice.path,
            remedy="Give the folder of one copy of the data",
        )


def _written(section: FoundSlide, out: Path, mpp: float | None, notes: Notes, counts: Counter[str]) -> Section | None:
    """The section of one slide, with its annotations and landmarks written; ``None`` where the slide does not open."""
    from stainda.annotations import write_landmarks
    from stainda.slides import open_slide

    annotations = landmarks = None
    try:
        with open_slide(section.path, mpp=section.mpp) as slide:
            known = slide.mpp is not None
            if section.shapes is not None:
                annotations = _annotations(section, slide, out, notes, counts)
    except SlideError as error:
        notes.tell("left out", f"the slide cannot be read: {_reason(error)}", section.slide)
        return None
    if section.landmarks is not None:
        try:
            landmarks = write_landmarks(section.landmarks(), out / "landmarks" / f"{file_name(section.slide)}.csv")
            counts["landmarks"] += 1
        except AnnotationError as error:
            notes.tell("left out", f"its landmarks cannot be read: {_reason(error)}", section.slide)
    size = section.mpp if known else mpp
    counts["no mpp"] += not known and mpp is None
    return Section(
        section.slide, section.patient, section.block, section.section, section.stain, section.centre,
        absolute(section.path),
        section.scanner, annotations, landmarks, size, section.split,
    )  # fmt: skip


def _annotations(section: FoundSlide, slide: Slide, out: Path, notes: Notes, counts: Counter[str]) -> Path | None:
    from stainda.annotations import repair, write_geojson

    assert section.shapes is not None
    try:
        shapes, problems = section.shapes(slide)
    except AnnotationError as error:
        notes.tell("left out", f"its annotations cannot be read: {_reason(error)}", section.slide)
        return None
    shapes, rows = repair(shapes, slide.size)
    reasons = Counter((row["action"], row["reason"].split("; it is now")[0]) for row in problems + rows)
    for (action, reason), count in reasons.items():
        notes.tell("mended", f"{count} shapes {action}: {reason}", section.slide)
    counts["annotated"] += 1
    counts["shapes"] += len(shapes)
    return write_geojson(shapes, out / "annotations" / f"{file_name(section.slide)}.geojson")


def _reason(error: StaindaError) -> str:
    """What an error says, with the name of its file in place of the path."""
    file = None if error.file is None else Path(error.file).name
    return str(StaindaError(error.message, file=file, row=error.row, remedy=error.remedy))


def _settled(sections: list[Section], name: str, notes: Notes) -> list[Section]:
    """Published splits where they can be used: train and test are there, and validation, drawn where none is published.

    A study needs all three. A download that holds only one of the published splits gets none, so that stainda draws
    them by patient.
    """
    splits = {section.split for section in sections if section.split is not None}
    if not splits or {"train", "val", "test"} <= splits:
        return sections
    if not {"train", "test"} <= splits:
        notes.tell(
            "guessed",
            f"split: only the published split {', '.join(sorted(splits))} is here, so the column is empty and splits "
            "are drawn by patient",
        )
        return [replace(section, split=None) for section in sections]
    drawn: set[str] = set()
    train = [section for section in sections if section.split == "train"]
    for centre in dict.fromkeys(section.centre for section in train):
        patients = sorted(
            {section.patient for section in train if section.centre == centre},
            key=lambda key: seed_for(0, "validation", name, key),
        )
        if len(patients) > 1:
            drawn.update(patients[: max(1, round(_VALIDATION_SHARE * len(patients)))])
    notes.tell(
        "guessed",
        f"split: no validation split is published or here; {len(drawn)} of {len({slide.patient for slide in train})} "
        "training patients were drawn for it, within each centre",
    )
    return [
        replace(section, split="val") if section.split == "train" and section.patient in drawn else section
        for section in sections
    ]
