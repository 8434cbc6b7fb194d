"""A first study proposed from a folder of slides: what is there, who can teach, and who is tested."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stainda.cohort import (
    Cohort,
    Guess,
    Scan,
    find_sections,
    guess_pattern,
)
from stainda.config import available
from stainda.config.load import load_piece
from stainda.errors import ConfigError, ManifestError, did_you_mean
from stainda.study.designing import design
from stainda.study.looking import Drawn, look

_STAINS = (
    "AZAN", "AFOG", "EVG", "VG", "MT", "MTC", "TRI", "TRICHROME", "MASSON", "MAS", "GOLDNER", "LADEWIG", "SAB", "PASD",
    "PASM", "PAMS", "CONGO", "KI67", "SMA", "ASMA", "C4D", "C3", "C1Q", "IGA", "IGG", "IGM", "WT1", "COL1", "COL3",
    "PODOCIN", "NEPHRIN", "SYNAPTOPODIN", "CK7", "PAX8", "FIBRONECTIN", "VIMENTIN", "P53", "ER", "PR", "HER2", "SV40",
)  # fmt: skip
UNTESTED = "not tested, since no patient is left for it next to those of training and validation"


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
        return tuple(slide for slide, facts in self.drawn.items() if facts.mpp is None)

    def domains(self) -> list[tuple[str, str, int, int, int, str]]:
        """Of every domain: name, role, patients, slides, annotated patients, and the shapes of each class."""
        rows, teaching = [], self.cohort.matching(self.sources)
        for name in self.cohort.domains:
            inside = self.cohort.where(domains=[name])
            shapes = sum((Counter(self.drawn[section.slide].counts) for section in inside), Counter[str]())
            role = "source" if name in teaching else "target" if name in self.targets else "not tested"
            annotated = {slide.patient for slide in inside if slide.annotations}
            drawn = ", ".join(f"{cls or '(no class)'} {count}" for cls, count in shapes.most_common())
            rows.append((name, role, len(inside.patients), len(inside), len(annotated), drawn))
        return rows


def stain_names() -> tuple[str, ...]:
    """Names that columns of file names are held against."""
    from stainda.stains.table import STAINS

    known = [name for stain in STAINS.values() for name in (stain.name, *stain.aliases)]
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
    sections = find_sections(folder, pattern, annotation_finder(), **fixed)
    if sections.centre_folders and not one_centre:
        right = "{centre}/" + "*/" * (_depth(sections, folder) - 1) + pattern.rsplit("/", 1)[-1]
        raise ManifestError(
            f"centre {fixed['centre']!r} was given for all slides, and they lie in folders that look like centres: "
            f"{', '.join(map(repr, sections.centre_folders))}",
            file=folder,
            remedy=f"Take the centre from the folder: --pattern '{right}' without --centre; or say --one-centre",
        )
    return sections, pattern, guess


def _depth(result: Scan, folder: str | Path) -> int:
    inside = result.sections[0].path.relative_to(Path(folder).absolute())
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
    pattern_of_names = pattern if guess is None else guess.pattern
    if "{centre}" not in str(pattern_of_names) and "centre" not in fixed:
        fixed["centre"] = "A"
        notes.append("neither names nor folders tell a centre: all slides were taken as of one, 'A' (--centre)")
    scanned, pattern, _ = scan(folder, pattern_of_names, fixed)
    cohort = Cohort(scanned.sections)
    drawn = {section.slide: look(section) for section in cohort}
    notes += [*scanned.notes, *(f"passed over: {path.name}: {reason}" for path, reason in scanned.skipped)]
    notes += [
        f"cannot be used: {section.slide}: {drawn[section.slide].fault}"
        for section in cohort
        if drawn[section.slide].fault
    ]
    task = task or _task(drawn)
    plan = design(cohort, tuple(sources))
    if plan.untested:
        notes.append(f"{', '.join(plan.untested)}: {UNTESTED}. Add a patient there, and set targets: [rest]")
    start = Start(
        Path(folder), pattern, guess is not None, plan.cohort, drawn, task, plan.sources, plan.targets, plan.untested,
        plan.lacking, tuple(notes),
    )  # fmt: skip
    _check_task(start)
    return start


def _task(drawn: Mapping[str, Drawn]) -> str:
    """The task of the class that is drawn most, by name where stainda has one for it."""
    from stainda.annotations import IGNORE_CLASSES, class_key

    counts = sum((Counter(facts.counts) for facts in drawn.values()), Counter[str]())
    tasks: dict[str, str] = {}
    for name in sorted(available("tasks"), key=lambda task: "segmentation" not in task):
        for cls in load_piece("tasks", name).get("classes", ()):
            tasks.setdefault(class_key(str(cls)), name)
    order = [name for name, _ in counts.most_common() if name and name not in IGNORE_CLASSES]
    known = [tasks[class_key(name)] for name in order if class_key(name) in tasks]
    return known[0] if known else order[0] if order else "glomeruli_segmentation"


def _check_task(start: Start) -> None:
    """Refuse what is neither a task nor a class that is drawn."""
    tasks = available("tasks")
    drawn = {name for facts in start.drawn.values() for name in facts.counts}
    if start.task not in tasks and start.task not in drawn:
        raise ConfigError(
            f"{start.task!r} is neither a task nor a class that is drawn",
            remedy=did_you_mean(start.task, [*tasks, *drawn]),
        )
