"""Roles of domains: which are sources and which are targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stainda.cohort.splits import ONE_PATIENT_REMEDY
from stainda.cohort.types import Cohort
from stainda.config import ProtocolConfig
from stainda.errors import ConfigError, did_you_mean

_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Roles:
    """The domains of a protocol by role, in cohort order; no domain is both source and target.

    ``visible`` says whether unlabelled images of the targets may be seen in training; ``domain_keys`` are the manifest
    columns that name a domain.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    domain_keys: tuple[str, ...] = ("stain", "centre")
    visible: Literal["targets", "nothing"] = "targets"

    def role(self, domain: str) -> Literal["source", "target", "unused"]:
        if domain in self.sources:
            return "source"
        return "target" if domain in self.targets else "unused"


def resolve_roles(cohort: Cohort, protocol: ProtocolConfig, patients: bool = True) -> Roles:
    """Find the domains that a protocol's patterns name, and check that each has the patients its role needs.

    For the schemes ``one_to_all`` and ``pooled`` (which has no target); the others are turned into several of the
    first by :func:`~stainda.cohort.rotations.rotations`.

    A pattern of targets may match sources as well, which are then left out; a source named outright as target is a
    fault. Splits must have been assigned; a section marked ``all`` (a study of one patient) is in every split.

    Args:
        patients: ``False`` leaves patients unchecked (splits need not have been assigned).

    Raises:
        ConfigError: a pattern that matches no domain; no target; or no source patient in train or val, or a target
            without a test patient. What is missing is listed at once.
    """
    for pattern in (*protocol.sources, *protocol.targets):
        if pattern != "rest" and not cohort.matching([pattern]):
            raise ConfigError(
                f"no section of the cohort is in the domain {pattern!r}",
                file=cohort.source,
                remedy=did_you_mean(pattern, cohort.domains),
            )
    if "rest" in protocol.sources:
        raise ConfigError("'rest' names the targets, not the sources", remedy="Name the source domains")
    if protocol.scheme not in ("one_to_all", "pooled"):
        raise ConfigError(
            f"scheme {protocol.scheme} has other sources in each rotation", remedy="Ask for its rotations"
        )
    pooled = protocol.scheme == "pooled"
    sources = cohort.matching(protocol.sources or ("*",))
    if both := [name for name in protocol.targets if name in sources]:
        raise ConfigError(f"the domain {both[0]!r} is source and target", remedy="Take it out of one of the two")
    named = cohort.domains if "rest" in protocol.targets else cohort.matching(protocol.targets)
    targets = () if pooled else tuple(name for name in named if name not in sources)
    if not targets and not pooled:
        raise ConfigError(
            f"no domain is left to test on; all of {', '.join(cohort.domains)} are sources",
            file=cohort.source,
            remedy="Name fewer sources, or add slides of another stain or centre to the manifest",
        )
    roles = Roles(sources, targets, cohort.domain_keys, protocol.visible)
    if patients:
        check_patients(cohort, roles)
    return roles


def check_annotated(cohort: Cohort, roles: Roles) -> None:
    """Refuse a cohort in which training or validation on the sources would have no annotation, or no target is scored.

    Raises:
        ConfigError: what has no annotation file, listed at once.
    """
    missing = [
        f"no {split} section of the source domains ({', '.join(roles.sources)}) has annotations"
        for split in ("train", "val")
        if not any(section.annotations for section in cohort.where(domains=roles.sources, splits=[split]))
    ]
    kind, tested = ("target", roles.targets) if roles.targets else ("source", roles.sources)
    if not any(section.annotations for section in cohort.where(domains=tested, splits=["test"])):
        missing.append(f"no test section of the {kind} domains ({', '.join(tested)}) has annotations to score against")
    if missing:
        raise ConfigError(
            "; ".join(missing),
            file=cohort.source,
            remedy="Needed at least: an annotated source section of a patient in train, one of a patient in val, and "
            "one of the domains to be scored of a patient in test. Name annotation files in the manifest, "
            "or move patients in its column split",
        )


def check_patients(cohort: Cohort, roles: Roles) -> None:
    """Refuse roles for which a split has no patient; splits must have been assigned.

    Raises:
        ConfigError: what is missing, listed at once.
    """
    unassigned = [section for section in cohort if section.split is None]
    if unassigned:
        remedy = ONE_PATIENT_REMEDY if cohort.single_patient else "Assign splits first (assign_splits)"
        raise ConfigError(
            f"slide {unassigned[0].slide!r} has no split", file=cohort.source, row=unassigned[0].row, remedy=remedy
        )
    missing = [
        f"no patient of the source domains ({', '.join(roles.sources)}) is in {split!r}"
        for split in ("train", "val")
        if not len(cohort.where(domains=roles.sources, splits=[split]))
    ]
    missing += [
        f"no patient of the {'target' if roles.targets else 'source'} domain {name!r} is in 'test'"
        for name in roles.targets or roles.sources
        if not len(cohort.where(domains=[name], splits=["test"]))
    ]
    if missing:
        remedy = (
            ONE_PATIENT_REMEDY
            if cohort.single_patient
            else f"Needed at least: a patient of the source domains in train and another in val, and in every target "
            f"domain a patient in test. Patients here: {_counted(cohort)}. Write train, val and test into the column "
            "split of the manifest, set protocol.split_within: cohort, narrow protocol.targets, or add patients"
        )
        raise ConfigError("; ".join(missing), file=cohort.source, remedy=remedy)


def _counted(cohort: Cohort) -> str:
    """How many patients each domain has in each split."""
    parts = []
    for name in cohort.domains:
        counts = [f"{len(cohort.where(domains=[name], splits=[split]).patients)} {split}" for split in _SPLITS]
        parts.append(f"{name} {', '.join(counts)}")
    return "; ".join(parts)
