"""Slides that cannot be read cost the study themselves, not the study; slides that change under it are noticed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from stainda.cohort import Cohort, Roles, Section, check_annotated
from stainda.cohort.roles import check_patients
from stainda.config import StudyConfig
from stainda.errors import DECODER, UNREADABLE, ConfigError, SlideError, StaindaError
from stainda.files import fingerprint, stable_hash
from stainda.run_directory.tables import SLIDES
from stainda.study.looking import decoders, look, sample, take_as_sound

MOST = 0.5
"""Share of the slides from which on it is no longer single slides that are bad, but their folder."""

_PASSING = ("took longer", "SIGKILL")
"""Of reasons that may be gone when the same file is read again."""


class LostSlidesError(StaindaError):
    """Slides that a study counted on cannot be read.

    Attributes:
        reasons: why, by slide.
    """

    def __init__(self, cohort: Cohort, reasons: Mapping[str, str]) -> None:
        listed = "; ".join(sentence.rstrip(".") for sentence in sentences(cohort, reasons))
        super().__init__(
            f"{len(reasons)} of {len(cohort)} slides cannot be read: {listed}",
            file=cohort.source,
            remedy="Mend or remove these rows of the manifest, or set on_bad_slide: leave_out",
        )
        self.reasons = dict(reasons)


def bad_slides(config: StudyConfig, cohort: Cohort, lost: Mapping[str, str]) -> dict[str, str]:
    """Slides that the study goes on without, and why, in the order of the manifest.

    Args:
        cohort: all sections of the manifest.
        lost: those that this call has already found to be unreadable.

    Raises:
        LostSlidesError: they are most of all slides, or ``on_bad_slide`` is ``stop``.
    """
    reasons = {section.slide: lost[section.slide] for section in cohort if section.slide in lost}
    if config.phantom is None:  # the slides of a phantom are made
        for section in cohort:
            if section.slide not in reasons and (reason := look(section).unreadable or sample(section)):
                reasons[section.slide] = str(reason)
    ordered = {section.slide: reasons[section.slide] for section in cohort if section.slide in reasons}
    if ordered and config.on_bad_slide == "stop":
        raise LostSlidesError(cohort, ordered)
    if len(ordered) > MOST * len(cohort):
        error = LostSlidesError(cohort, ordered)
        error.remedy = "Look whether their folder is there; name another with --data FOLDER"
        raise error
    return ordered


def recall(cohort: Cohort, root: Path) -> dict[str, str]:
    """What an earlier call learned about slides whose content and decoders are the same: none is looked at twice.

    Returns:
        Slides that ended the process which decodes them, and why. Where it took too long or was killed, that may have
        been the machine: such slides are looked at again, and so are those that are damaged otherwise, at no cost.
    """
    if not SLIDES.at(root).is_file():
        return {}
    before = {row["slide"]: row for row in SLIDES.rows(root)}
    now, lost = decoders(), {}
    for section in cohort:
        row = before.get(section.slide)
        if row is None or row.get("decoders") != now or row["hash"] != content_of(section.path):
            continue
        if row["state"] == "used":
            take_as_sound(section.path)
        elif DECODER in (reason := row["reason"]) and not any(text in reason for text in _PASSING):
            lost[section.slide] = reason
    return lost


def sentences(cohort: Cohort, reasons: Mapping[str, str]) -> list[str]:
    """One for each bad slide: its row of the manifest, its name, why."""
    return [f"row {section.row} ({section.slide}): {reasons[section.slide]}" for section in _of(cohort, reasons)]


def without(cohort: Cohort, slides: Iterable[str]) -> Cohort:
    """The other sections. Splits are drawn before: those of the other patients stay as they are."""
    bad = set(slides)
    return replace(cohort, sections=tuple(section for section in cohort if section.slide not in bad)) if bad else cohort


def check_remaining(whole: Cohort, roles: Roles, reasons: Mapping[str, str], annotated: bool) -> None:
    """Refuse a study that the slides which are left cannot answer.

    Args:
        whole: all sections, with their splits; roles: as they are with all of them.
        annotated: whether annotations are needed.

    Raises:
        ConfigError: a role or a domain has nobody left; the message names the bad slides.
    """
    if not reasons:
        return
    rest = without(whole, reasons)
    try:
        check_patients(rest, roles)
        if annotated:
            check_annotated(rest, roles)
    except ConfigError as error:
        raise ConfigError(
            f"without the slides that cannot be read, {error.message}; they are {'; '.join(sentences(whole, reasons))}",
            file=error.file,
            remedy="Mend these slides: what is left cannot answer the study",
        ) from error


def write_slides(cohort: Cohort, reasons: Mapping[str, str], root: Path) -> None:
    """Write ``slide_files.csv``: what every slide was when the study began, and which are left out.

    Args:
        cohort: all sections of the manifest.
    """
    rows, read_by = [], decoders()
    for section in cohort:
        size, changed = _stamp(section.path) or (None, None)
        reason = reasons.get(section.slide, "")
        rows.append(
            {
                "slide": section.slide, "row": section.row, "domain": cohort.domain(section),
                "state": "left out" if reason else "used", "reason": reason,
                "bytes": size, "changed": changed, "hash": content_of(section.path), "decoders": read_by,
            }
        )  # fmt: skip
    SLIDES.write(root, rows)


def read_left_out(root: Path) -> dict[str, str]:
    """The slides that a run goes on without, and why; empty for a run that is not begun."""
    if not SLIDES.at(root).is_file():
        return {}
    return {row["slide"]: row["reason"] for row in SLIDES.rows(root) if row["state"] == "left out"}


def since_earlier(cohort: Cohort, reasons: Mapping[str, str], root: Path) -> list[str]:
    """What is other than in the ``slide_files.csv`` of an earlier call: slides with other pixels, left out, back again.

    Trainings and scores are named by what they were made from, so what depends on such a slide is made anew.
    """
    if not SLIDES.at(root).is_file():
        return []
    before = {row["slide"]: row for row in SLIDES.rows(root)}
    left_out, back, changed = [], [], []
    for section in cohort:
        row = before.get(section.slide)
        if row is None:
            continue
        was_used = row["state"] == "used"
        if section.slide in reasons:
            left_out += [section.slide] if was_used else []
        elif not was_used:
            back.append(section.slide)
        elif _stamp(section.path) != _stamp_of(row) and content_of(section.path) != row["hash"]:
            changed.append(section.slide)
    ways = (
        (left_out, "used by the call before, left out now"),
        (back, "left out by the call before, used again"),
        (changed, "changed since the call before"),
    )
    return [f"{', '.join(slides)}: {what}; what depends on it is made anew" for slides, what in ways if slides]


def check_unchanged(cohort: Cohort, root: Path) -> None:
    """Refuse to go on where slides are no longer what they were when this call began.

    A slide whose size and time are the same is taken for unchanged; else its content decides.

    Raises:
        LostSlidesError: a slide is gone, or cannot be read any more.
        SlideError: the pixels of a slide are others now.
    """
    if not SLIDES.at(root).is_file():
        return
    before = {row["slide"]: row for row in SLIDES.rows(root)}
    lost: dict[str, str] = {}
    changed: list[Section] = []
    for section in cohort:
        row = before.get(section.slide)
        if row is None or _stamp(section.path) == _stamp_of(row) or content_of(section.path) == row["hash"]:
            continue
        if reason := look(section).unreadable:
            lost[section.slide] = reason
        else:
            changed.append(section)
    if lost:
        raise LostSlidesError(cohort, lost)
    if changed:
        listed = ", ".join(f"row {section.row} ({section.slide})" for section in changed)
        raise SlideError(
            f"{len(changed)} slides changed while the study ran: {listed}; what was made from them before would be "
            "mixed with what is made from them now",
            file=changed[0].path,
            remedy="Run the same command again: what depends on them is made anew",
        )


def lost_in(sections: Iterable[Section], texts: Iterable[str]) -> dict[str, str]:
    """Slides that a stage or a training could not read, from the messages of their errors."""
    reasons: dict[str, str] = {}
    inside = list(sections)
    for text in texts:
        for section in inside:
            for start in (f"{section.path}: {UNREADABLE}", f"{section.path}: {DECODER}"):
                if start in text:
                    rest = text[text.index(start) :].partition("; ")[0]
                    reasons.setdefault(section.slide, rest)
    return reasons


def _of(cohort: Cohort, slides: Iterable[str]) -> list[Section]:
    names = set(slides)
    return [section for section in cohort if section.slide in names]


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns


def _stamp_of(row: Mapping[str, str]) -> tuple[int, int] | None:
    return (int(row["bytes"]), int(row["changed"])) if row["bytes"] else None


def content_of(path: Path) -> str:
    """Hash of a slide's file, as ``slide_files.csv`` has it; empty where it cannot be read."""
    known = fingerprint(path)
    return "" if known is None else stable_hash(known, 16)
