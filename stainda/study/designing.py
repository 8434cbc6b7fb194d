"""Who teaches, who is tested and how patients are split in a first study, so that it can run where it can at all."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from stainda.cohort import Cohort, Roles, Split, assign_splits, check_annotated, resolve_roles
from stainda.config import ProtocolConfig
from stainda.errors import ConfigError, ManifestError

_SHARES = ((0.5, 0.2, 0.3), (0.4, 0.2, 0.4), (0.34, 0.33, 0.33), (0.25, 0.25, 0.5))
_SEEDS = 20
_SPLITS: tuple[Split, ...] = ("train", "val", "test")
_FEW = 6
"""Patients up to which every split is tried: 3^6 = 729."""
LEAST_PATIENTS = 3


@dataclass(frozen=True)
class Design:
    """The roles of a first study.

    Attributes:
        cohort: every patient in a split, where the roles could be filled.
        sources: of the protocol.
        targets: the domains that are tested.
        untested: domains that could be targets but for want of a patient to test; the study then names its targets.
        lacking: why the cohort cannot be split, and what is needed; empty where it was.
    """

    cohort: Cohort
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    untested: tuple[str, ...] = ()
    lacking: str = ""


def design(cohort: Cohort, wanted: Sequence[str] = ()) -> Design:
    """The sources, targets and splits for which every role is filled.

    All other domains are targets where each can have a test patient; else those that can. Where no split fills the
    roles, :attr:`Design.lacking` says what the cohort needs.

    Args:
        wanted: the sources, where a person has chosen them.

    Raises:
        ConfigError: a source that is not there.
        ManifestError: no slide is annotated.
    """
    if cohort.single_patient:
        cohort = replace(cohort, sections=tuple(replace(section, split="all") for section in cohort))
    choices = [tuple(wanted)] if wanted else _source_choices(cohort)
    for sources in choices:
        best = _split(cohort, sources)
        if best is not None:
            return Design(best[0], sources, best[1].targets)
    if narrow := [candidate for sources in choices if (candidate := _narrowed(cohort, sources)) is not None]:
        return max(narrow, key=lambda candidate: len(candidate.targets))
    roles = resolve_roles(cohort, ProtocolConfig(sources=choices[0]), patients=False)
    other = "; or other sources" if wanted else ""
    return Design(cohort, choices[0], roles.targets, lacking=_lacking(cohort, roles) + other)


def _lacking(cohort: Cohort, roles: Roles) -> str:
    """Why no split of the patients fills every role, and what would."""
    people = cohort.patients
    teaching = {section.patient for section in cohort.where(domains=roles.sources) if section.annotations}
    tested = {section.patient for section in cohort.where(domains=roles.targets) if section.annotations}
    sources, targets = ", ".join(roles.sources), " or ".join(roles.targets)
    needed = []
    if len(people) < LEAST_PATIENTS:
        needed.append(_count(LEAST_PATIENTS - len(people), "more patient"))
    if len(teaching) < 2:
        needed.append(f"annotated sections in {sources} of {_count(2 - len(teaching), 'more patient')}")
    if not tested:
        needed.append(f"an annotated section in {targets} of a patient who is tested")
    if not needed:
        needed.append(f"an annotated section in {targets} of a patient next to those of training and validation")
    return (
        f"this cohort cannot be split: it has {_count(len(people), 'patient')}, {len(teaching)} of them annotated in "
        f"the source ({sources}) and {len(tested)} in a target. A study takes three at least: one to train on and "
        "another to validate on, annotated in the source, and a third to test on, annotated in a target. "
        f"Needed: {'; '.join(needed)}"
    )


def _source_choices(cohort: Cohort) -> list[tuple[str, ...]]:
    """Single domains and whole stains, those with most annotated patients first."""
    people: dict[str, set[str]] = {name: set() for name in cohort.domains}
    by_stain: dict[str, set[str]] = {}
    for section in cohort:
        if section.annotations is not None:
            people[cohort.domain(section)].add(section.patient)
            by_stain.setdefault(section.stain, set()).add(section.patient)
    if not by_stain:
        raise ManifestError(
            "no slide is annotated, so nothing can be learned",
            file=cohort.source,
            remedy="Put annotations next to the slides under their names (SLIDE.geojson next to SLIDE.svs)",
        )
    choices: list[tuple[str, ...]] = []
    for stain in sorted(by_stain, key=lambda name: -len(by_stain[name])):
        single = [name for name in cohort.domains if name.split("@")[0] == stain and people[name]]
        choices += [(name,) for name in sorted(single, key=lambda name: -len(people[name]))]
        choices.append((f"{stain}@*",))
    return [choice for choice in choices if set(cohort.matching(choice)) < set(cohort.domains)] or choices[:1]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _split(cohort: Cohort, sources: tuple[str, ...]) -> tuple[Cohort, Roles] | None:
    """The first draw of splits that fills every role, or the one of several with most scored targets."""
    protocol = ProtocolConfig(sources=sources)
    best: tuple[int, Cohort, Roles] | None = None
    for split in _drawn_splits(cohort):
        try:
            roles = resolve_roles(split, protocol)
            check_annotated(split, roles)
        except ConfigError:
            continue
        shown = len(split.where(domains=roles.targets, splits=["train"])) > 0
        worth = 2 * len(_scored(split, roles.targets)) + shown
        if best is None or worth > best[0]:
            best = worth, split, roles
        if worth == 2 * len(roles.targets) + 1:
            return split, roles
    return None if best is None else best[1:]


def _narrowed(cohort: Cohort, sources: tuple[str, ...]) -> Design | None:
    """The draw that can score most targets, the others left out of the study's targets."""
    best: Design | None = None
    for split in _drawn_splits(cohort):
        others = resolve_roles(split, ProtocolConfig(sources=sources), patients=False).targets
        tested = _scored(split, others)
        if not tested or (best is not None and len(tested) <= len(best.targets)):
            continue
        try:
            roles = resolve_roles(split, ProtocolConfig(sources=sources, targets=tested))
            check_annotated(split, roles)
        except ConfigError:
            continue
        best = Design(split, sources, roles.targets, tuple(name for name in others if name not in roles.targets))
    return best


def _scored(cohort: Cohort, domains: Sequence[str]) -> tuple[str, ...]:
    """Domains with an annotated section of a test patient."""
    return tuple(
        name
        for name in domains
        if any(section.annotations for section in cohort.where(domains=[name], splits=["test"]))
    )


def _drawn_splits(cohort: Cohort) -> Iterator[Cohort]:
    """Splits of all patients: balanced draws, and every possible one where the patients are few."""
    if cohort.single_patient:
        yield cohort
        return
    for shares in _SHARES:
        for within in ("centre", "cohort"):
            for seed in range(1, _SEEDS + 1):
                yield assign_splits(cohort, shares, seed, within)
    patients = cohort.patients
    if len(patients) > _FEW:
        return
    for dealt in itertools.product(_SPLITS, repeat=len(patients)):
        split = dict(zip(patients, dealt, strict=True))
        yield replace(cohort, sections=tuple(replace(section, split=split[section.patient]) for section in cohort))
