"""Splits by patient: given by the manifest or drawn within each centre; a leak between splits is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from stainda.cohort.types import Cohort, Section, Split
from stainda.errors import ConfigError, LeakError
from stainda.files import fingerprint, whole_hash
from stainda.names import is_file
from stainda.randomness import seed_for

ONE_PATIENT_REMEDY = (
    "Add patients, or write 'all' in the column split of every row: the one patient then serves for training, "
    "validation and test, and the report says that this is no cohort"
)


@dataclass(frozen=True)
class Leak:
    """A leak between two splits: the later row, the shared item, and the remedy."""

    row: int | None
    message: str
    remedy: str


Within = Literal["centre", "cohort"]


def assign_splits(cohort: Cohort, shares: Sequence[float], seed: int, within: Within = "centre") -> Cohort:
    """Give every patient one split, within each centre, so that each centre has the shares requested.

    A patient whose rows name a split keeps it, and counts towards the shares; the others follow in an order drawn from
    the seed and their own name, so the result does not depend on the process. It depends on the order of the rows only
    where a patient is seen at two centres: they belong to that of their first row. Numbers are rounded by largest
    remainder, and a split with a share gets at least one patient of each centre that has enough of them.

    Args:
        shares: of train, val and test; they add up to 1.
        within: ``cohort`` keeps the shares over all patients together, for centres of one or two patients.

    Raises:
        LeakError: the splits given contradict each other.
        ConfigError: there is a single patient and no split given.
    """
    check_no_leak(cohort)
    given: dict[str, Split] = {section.patient: section.split for section in cohort if section.split is not None}
    centre_of = _centres(cohort, within)
    if len(centre_of) == 1 and not given:
        raise ConfigError(
            f"the manifest holds one patient ({cohort.patients[0]}), who cannot be split into train, val and test",
            file=cohort.source,
            remedy=ONE_PATIENT_REMEDY,
        )
    chosen = dict(given)
    for centre in dict.fromkeys(centre_of.values()):
        patients = [patient for patient, where in centre_of.items() if where == centre]
        free = sorted(
            (patient for patient in patients if patient not in given),
            key=lambda patient: seed_for(seed, "split", centre, patient),
        )
        held = [sum(given.get(patient) == split for patient in patients) for split in ("train", "val", "test")]
        for patient, split in zip(free, _fill(len(free), held, shares), strict=True):
            chosen[patient] = split
    return replace(cohort, sections=tuple(replace(section, split=chosen[section.patient]) for section in cohort))


def assign_folds(
    cohort: Cohort, folds: int, shares: Sequence[float], seed: int, within: Within = "centre"
) -> list[Cohort]:
    """The cohort ``folds`` times: every patient is in ``test`` once, the others in train and val.

    Within each centre patients are dealt to the folds in an order drawn from the seed and their names, each centre
    beginning with another fold, so that folds of a cohort are about equally large.

    Args:
        shares: of train, val and test; train and val keep their proportion among those not tested.
        within: ``cohort`` deals over all centres together.

    Raises:
        ConfigError: splits are given by the manifest, or a centre has fewer patients than there are folds.
    """
    if (given := next((section for section in cohort if section.split is not None), None)) is not None:
        raise ConfigError(
            f"the manifest puts patient {given.patient!r} into {given.split!r}, and folds test every patient once",
            file=cohort.source,
            row=given.row,
            remedy="Empty the column split, or leave out protocol.folds",
        )
    centre_of = _centres(cohort, within)
    fold_of: dict[str, int] = {}
    drawn: dict[str, list[str]] = {}
    for number, centre in enumerate(dict.fromkeys(centre_of.values())):
        patients = [patient for patient, where in centre_of.items() if where == centre]
        if len(patients) < folds:
            where = f"centre {centre!r}" if centre else "the cohort"
            raise ConfigError(
                f"{where} has {len(patients)} patients, fewer than the {folds} folds, so that some folds would test "
                "nobody there",
                file=cohort.source,
                remedy=f"Set protocol.folds to {len(patients)} or less, or split_within to cohort"
                if len(patients) > 1 and centre
                else "Take fewer folds, or split_within: cohort",
            )
        drawn[centre] = sorted(patients, key=lambda patient: seed_for(seed, "fold", centre, patient))
        fold_of |= {patient: (index + number) % folds for index, patient in enumerate(drawn[centre])}
    drawn_folds = []
    for fold in range(folds):
        chosen: dict[str, Split] = {patient: "test" for patient, its in fold_of.items() if its == fold}
        for patients in drawn.values():
            rest = [patient for patient in patients if fold_of[patient] != fold]
            rest = rest[fold % max(len(rest), 1) :] + rest[: fold % max(len(rest), 1)]  # others validate in each fold
            for patient, split in zip(rest, _fill(len(rest), (0, 0, 0), _without_test(shares)), strict=True):
                chosen[patient] = split
        drawn_folds.append(
            replace(cohort, sections=tuple(replace(section, split=chosen[section.patient]) for section in cohort))
        )
    return drawn_folds


def _without_test(shares: Sequence[float]) -> tuple[float, float, float]:
    total = shares[0] + shares[1]
    return (shares[0] / total, shares[1] / total, 0.0) if total else (1.0, 0.0, 0.0)


def _centres(cohort: Cohort, within: Within) -> dict[str, str]:
    """The centre of every patient (the first, where there are several); the same for all within the cohort."""
    centre_of: dict[str, str] = {}
    for section in cohort:
        centre_of.setdefault(section.patient, section.centre if within == "centre" else "")
    return centre_of


def _fill(n_free: int, held: Sequence[int], shares: Sequence[float]) -> list[Split]:
    """The splits of ``n_free`` patients next to those already ``held``, as (train…, val…, test…)."""
    total = n_free + sum(held)
    wanted = [share * total for share in shares]
    counts = list(held)
    for _ in range(n_free):
        # first whoever has none yet, in the order train, test, val of need; then the largest shortfall
        empty = [i for i in (0, 2, 1) if counts[i] == 0 and shares[i] > 0]
        shortfall = [wanted[i] - counts[i] for i in range(3)]
        counts[empty[0] if empty else max(range(3), key=lambda i: (shortfall[i], -i))] += 1
    names: tuple[Split, ...] = ("train", "val", "test")
    return [name for name, count, before in zip(names, counts, held, strict=True) for _ in range(count - before)]


def check_no_leak(cohort: Cohort) -> None:
    """Refuse a cohort in which a patient, or a slide file, is in two splits.

    ``all`` passes only where the cohort has a single patient, all of whose rows say so.

    Raises:
        LeakError: every leak, with its rows.
    """
    leaks = find_leaks(cohort.sections)
    if len(leaks) == 1:
        raise LeakError(leaks[0].message, file=cohort.source, row=leaks[0].row, remedy=leaks[0].remedy)
    if leaks:
        listed = "\n".join(
            f"  {'' if leak.row is None else f'row {leak.row}: '}{leak.message}. {leak.remedy}" for leak in leaks
        )
        raise LeakError(f"{len(leaks)} leaks\n{listed}", file=cohort.source)


def find_leaks(sections: Iterable[Section]) -> list[Leak]:
    """Patients in two splits, the split ``all`` next to another patient, and one slide file in two splits."""
    sections = list(sections)
    leaks: list[Leak] = []
    first: dict[str, Section] = {}
    for section in sections:
        if section.split is None or not section.patient:
            continue
        other = first.setdefault(section.patient, section)
        if other.split != section.split:
            at = "" if other.row is None else f" in row {other.row}"
            leaks.append(
                Leak(
                    section.row,
                    f"patient {section.patient!r} is in {section.split!r} and{at} in {other.split!r}",
                    "A patient is in one split: correct the column split",
                )
            )
    patients = {slide.patient for slide in sections if slide.patient}
    marked = [slide for slide in sections if slide.split == "all"]
    if marked and len(patients) > 1:
        leaks.append(
            Leak(
                marked[0].row,
                f"the split 'all' ({marked[0].slide!r}) is for a study of one patient; here are {len(patients)}",
                "Write train, val or test, or leave the column empty to have patients split at random",
            )
        )
    leaks += _shared_files(sections)
    return leaks


def _shared_files(sections: Sequence[Section]) -> list[Leak]:
    """One slide file, or byte-identical copies of it, under rows of different splits or patients' splits."""
    leaks = []
    for group in _same_content([section for section in sections if section.path != Path()]):
        first = group[0]
        for other in group[1:]:
            if first.split is not None and other.split is not None and other.split != first.split:
                at = "" if first.row is None else f" (row {first.row})"
                what = "the same file as" if other.path == first.path else "a copy of the file of"
                leaks.append(
                    Leak(
                        other.row,
                        f"slide {other.slide!r} ({other.split}) is {what} slide {first.slide!r}{at} ({first.split})",
                        "A slide is in one split: remove one row or correct its path",
                    )
                )
    return leaks


def _same_content(sections: Sequence[Section]) -> list[list[Section]]:
    """Groups of sections that share a slide file: by its resolved path, or as copies.

    Copies have one fingerprint. So may others (uncompressed slides of one size with white borders): whole files are
    compared where it matters, within a group of several splits.
    """
    sizes: dict[Path, int] = {}
    for section in sections:
        resolved = section.path.resolve()
        sizes[resolved] = resolved.stat().st_size if is_file(resolved) else 0
    counts = Counter(size for size in sizes.values() if size)

    def alike(section: Section) -> object:
        resolved = section.path.resolve()
        content = fingerprint(resolved) if counts[sizes[resolved]] > 1 else None
        return resolved if content is None else tuple(content)

    groups = []
    for group in _grouped(sections, alike):
        several = len({section.split for section in group if section.split is not None}) > 1
        files = {section.path.resolve() for section in group}
        groups += _grouped(group, _content) if several and len(files) > 1 else [group]
    return [group for group in groups if len(group) > 1]


def _grouped(sections: Sequence[Section], key: Callable[[Section], object]) -> list[list[Section]]:
    by_key: dict[object, list[Section]] = {}
    for section in sections:
        by_key.setdefault(key(section), []).append(section)
    return list(by_key.values())


def _content(section: Section) -> str:
    return whole_hash(section.path.resolve())
