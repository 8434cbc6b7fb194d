"""Rotations of a protocol: source domains, target domains and patient splits of each rotation."""

from __future__ import annotations

import fnmatch
import glob
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from stainda.cohort.roles import Roles, check_annotated, resolve_roles
from stainda.cohort.splits import assign_folds, assign_splits, check_no_leak
from stainda.cohort.types import Cohort, Section, Split
from stainda.config import ProtocolConfig
from stainda.errors import ConfigError, StaindaError, did_you_mean

ALL_FOLDS = "all folds"
"""What the folds of a study with one set of sources are called together."""


@dataclass(frozen=True)
class Rotation:
    """One rotation of a protocol.

    Attributes:
        name: unique in its study: ``PAS@A``, ``without_B``, ``fold_2``, ``PAS@A.fold_2``.
        group: the same for the folds of one set of sources and targets; the name itself where there are no folds.
        protocol: of this rotation alone: a plain one, its sources and targets named one by one.
        cohort: all sections, with the splits of this turn.
        roles: of this turn.
    """

    name: str
    group: str
    protocol: ProtocolConfig
    cohort: Cohort
    roles: Roles

    def patients(self, split: Split) -> tuple[str, ...]:
        """Patients of one split who have a section in a source or target domain."""
        used = (*self.roles.sources, *self.roles.targets)
        return self.cohort.where(domains=used, splits=[split]).patients


@dataclass(frozen=True)
class _Turn:
    """Sources and targets of one turn, folds left aside.

    Attributes:
        group: name of the turn.
        left_out: every domain of the centre or stain that is left out, tested or not; empty in other schemes.
    """

    group: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    left_out: frozenset[str] = frozenset()


def is_annotated(section: Section) -> bool:
    """Whether a section has annotations: it can teach a task of objects."""
    return section.annotations is not None


def rotations(
    cohort: Cohort, protocol: ProtocolConfig, seed: int, teaches: Callable[[Section], bool] = is_annotated
) -> tuple[Rotation, ...]:
    """Every turn of a protocol, in the order of the cohort, each checked as a study of its own would be.

    A protocol that does not rotate gives one, named after its scheme. Domains without any section that teaches are only
    ever targets. In ``all_pairs`` a source without a target has no turn (:func:`sources_left_out`).

    Args:
        teaches: whether a section has what is learned from: annotations, or in a study of labels of slides a label.

    Raises:
        ConfigError: a pattern matches nothing, or a rotation lacks patients or annotations; the message names the turn.
        LeakError: a patient or a slide file would be in two splits.
    """
    result = []
    for turn in _turns(cohort, protocol, teaches):
        pooled = protocol.scheme == "pooled"
        plain = protocol.model_copy(
            update={
                "scheme": "pooled" if pooled else "one_to_all",
                "sources": tuple(map(glob.escape, turn.sources)),
                "targets": ("rest",) if pooled else tuple(map(glob.escape, turn.targets)),
                "leave_out": ("*",), "left_out_patients": "split", "folds": None,
            }
        )  # fmt: skip
        for fold, split in _split_cohorts(cohort, protocol, turn.left_out, seed):
            name = f"{'' if turn.group == ALL_FOLDS else turn.group + '.'}fold_{fold}" if fold else turn.group
            try:
                check_no_leak(split)
                roles = resolve_roles(split, plain)
                if teaches is is_annotated:
                    check_annotated(split, roles)
            except StaindaError as error:
                if not protocol.rotates:
                    raise
                raise type(error)(
                    f"rotation {name!r}: {error.message}", file=error.file, row=error.row, remedy=error.remedy
                ) from error
            result.append(Rotation(name, turn.group, plain, split, roles))
    return tuple(result)


def sources_left_out(
    cohort: Cohort, protocol: ProtocolConfig, teaches: Callable[[Section], bool] = is_annotated
) -> dict[str, str]:
    """Domains that have no turn in ``all_pairs``, in cohort order, and why."""
    if protocol.scheme != "all_pairs":
        return {}
    mute, tested = _cannot_teach(cohort, teaches), _tested(cohort, protocol)
    reasons = {}
    for name in cohort.domains:
        if name in mute:
            reasons[name] = "none of its sections is annotated"
        elif name in cohort.matching(protocol.sources or ("*",)) and not set(tested) - {name}:
            reasons[name] = "protocol.targets names no other domain to test it on"
    return reasons


def _cannot_teach(cohort: Cohort, teaches: Callable[[Section], bool]) -> tuple[str, ...]:
    """Domains of which no section is annotated, or has what else ``teaches``."""
    teaching = {cohort.domain(section) for section in cohort if teaches(section)}
    return tuple(name for name in cohort.domains if name not in teaching)


def _tested(cohort: Cohort, protocol: ProtocolConfig) -> tuple[str, ...]:
    return cohort.domains if "rest" in protocol.targets else cohort.matching(protocol.targets)


def _turns(cohort: Cohort, protocol: ProtocolConfig, teaches: Callable[[Section], bool]) -> Iterator[_Turn]:
    """Every turn, folds left aside."""
    mute = set(_cannot_teach(cohort, teaches))
    _check_patterns(cohort.domains, (*protocol.sources, *protocol.targets), "domain", cohort)
    may_teach = tuple(name for name in cohort.matching(protocol.sources or ("*",)) if name not in mute)
    if not may_teach:
        raise ConfigError(
            "no domain that may teach has annotations"
            if teaches is is_annotated
            else "no domain that may teach has a label",
            file=cohort.source,
            remedy="Annotate slides of a source domain, or label them",
        )
    tested = _tested(cohort, protocol)
    if protocol.scheme in ("one_to_all", "pooled"):
        group = protocol.scheme if protocol.folds is None else ALL_FOLDS
        if protocol.scheme == "pooled":
            yield _Turn(group, may_teach, ())
            return
        roles = resolve_roles(_unsplit(cohort), protocol, patients=False)
        yield _Turn(group, roles.sources, roles.targets)
        return
    if protocol.scheme == "all_pairs":
        turns = [_Turn(name, (name,), tuple(other for other in tested if other != name)) for name in may_teach]
        if not any(turn.targets for turn in turns):
            raise ConfigError(
                f"protocol.targets leaves no domain to test for any source ({', '.join(may_teach)})",
                file=cohort.source,
                remedy="Widen protocol.targets or sources",
            )
        yield from (turn for turn in turns if turn.targets)
        return
    key = {"leave_one_centre_out": "centre", "leave_one_stain_out": "stain"}[protocol.scheme]
    if key not in cohort.domain_keys:
        raise ConfigError(
            f"scheme {protocol.scheme} needs domains that differ by {key}; they are distinguished by "
            f"{', '.join(cohort.domain_keys)}",
            remedy=f"Add {key} to 'domain' of the study",
        )
    place = cohort.domain_keys.index(key)
    value_of = {cohort.domain(section): section.domain(cohort.domain_keys[place : place + 1]) for section in cohort}
    values = tuple(dict.fromkeys(value_of.values()))
    if len(values) < 2:
        raise ConfigError(
            f"scheme {protocol.scheme} leaves one {key} out, and the cohort has only {values[0]!r}",
            file=cohort.source,
            remedy="Take another scheme",
        )
    _check_patterns(values, protocol.leave_out, key, cohort)
    for value in values:
        if not any(fnmatch.fnmatchcase(value, pattern) for pattern in protocol.leave_out):
            continue
        sources = tuple(name for name in may_teach if value_of[name] != value)
        targets = tuple(name for name in tested if value_of[name] == value)
        if not sources or not targets:
            raise ConfigError(
                f"without {key} {value!r} no domain is left to {'teach' if not sources else 'be tested'}",
                file=cohort.source,
                remedy="Widen protocol.sources or targets, or leave this one out of protocol.leave_out",
            )
        left_out = frozenset(name for name in cohort.domains if value_of[name] == value)
        yield _Turn(f"without_{value}", sources, targets, left_out)


def _split_cohorts(
    cohort: Cohort, protocol: ProtocolConfig, left_out: frozenset[str], seed: int
) -> Iterator[tuple[int | None, Cohort]]:
    """The cohort with its splits: once, or once for every fold (numbered from 1)."""
    within = protocol.split_within
    if protocol.folds is not None:
        yield from enumerate(assign_folds(cohort, protocol.folds, protocol.split, seed, within), 1)
        return
    if protocol.left_out_patients == "split":
        yield None, assign_splits(cohort, protocol.split, seed, within)
        return
    # patients seen in left-out domains only are tested; the shares are those of the others
    outside = {section.patient for section in cohort if cohort.domain(section) not in left_out}
    held: dict[str, Split] = {patient: "test" for patient in cohort.patients if patient not in outside}
    kept = replace(cohort, sections=tuple(section for section in cohort if section.patient not in held))
    given = {split.patient: split.split for split in assign_splits(kept, protocol.split, seed, within)}
    yield None, with_splits(cohort, {**given, **held})


def with_splits(cohort: Cohort, splits: Mapping[str, Split | None]) -> Cohort:
    """The cohort with the split of every patient."""
    return replace(cohort, sections=tuple(replace(section, split=splits[section.patient]) for section in cohort))


def _unsplit(cohort: Cohort) -> Cohort:
    return replace(cohort, sections=tuple(replace(section, split=None) for section in cohort))


def _check_patterns(names: Iterable[str], patterns: Iterable[str], what: str, cohort: Cohort) -> None:
    names = tuple(names)
    for pattern in patterns:
        if pattern not in ("rest", "*") and not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            raise ConfigError(
                f"no section of the cohort is in the {what} {pattern!r}",
                file=cohort.source,
                remedy=did_you_mean(pattern, names),
            )
