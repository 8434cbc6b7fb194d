"""Reuse of blocks that another run has registered: copied or linked into this run directory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stainda.cohort.types import Cohort
from stainda.config import RegistrationConfig
from stainda.errors import ConfigError
from stainda.files import ASIDE, link_or_copy, load_json, write_json
from stainda.names import file_name
from stainda.registration.jobs import BlockJob, block_jobs
from stainda.registration.results import read_head
from stainda.run_directory.contents import BLOCK, REGISTRATION_INPUTS

INPUTS = REGISTRATION_INPUTS.name
"""Of every block: the hash of what its result depends on, all of that in plain words, and the run it was taken from."""

_FIELDS = ("slide", "section", "stain", "mpp", "file", "landmarks")
_MOST = 3  # differing blocks that are named


@dataclass(frozen=True)
class Standing:
    """Blocks that are finished, reusable or missing before registration starts.

    Attributes:
        here: blocks finished in this run. taken: blocks that another run has, with the same slides and settings.
        missing: blocks that will be registered.
    """

    here: tuple[str, ...]
    taken: tuple[str, ...]
    missing: tuple[str, ...]
    other: Path | None = None

    @property
    def sentence(self) -> str:
        count = len(self.here) + len(self.taken) + len(self.missing)
        parts = [f"{len(self.taken)} of {count} blocks from {self.other}"] if self.other is not None else []
        parts += [f"{len(self.here)} of {count} blocks done before"] if self.here else []
        parts += [f"{len(self.missing)} of {count} blocks to register"] if self.missing or not parts else []
        return f"registration: {', '.join(parts)}"


def registration_standing(cohort: Cohort, config: RegistrationConfig, out: str | Path) -> Standing:
    """What of a cohort's registration is there already, in the run directory ``out`` or in ``registration.from``.

    Raises:
        ConfigError: ``registration.from`` cannot be used.
    """
    return standing(block_jobs(cohort, config, Path(out) / "registration"), config.from_run)


def standing(jobs: Sequence[BlockJob], other: Path | None) -> Standing:
    """Which blocks are finished here, which can be taken from ``other``, and which are to be registered.

    Raises:
        ConfigError: ``other`` has no registration, or has blocks of these names made of other slides or settings.
    """
    finished = [job for job in jobs if is_finished(job.out, job.block, job.settings)]
    rest = [job for job in jobs if job not in finished]
    if other is None:
        return Standing(_names(finished), (), _names(rest))
    folder = other / "registration"
    if not folder.is_dir():
        raise ConfigError(
            "registration.from names a folder without registration",
            file=other,
            remedy="Name the run directory of a study that is registered, or leave registration.from out",
        )
    taken = [job for job in rest if is_finished(folder, job.block, job.settings)]
    missing = [job for job in rest if job not in taken]
    known = _read_inputs(folder)
    differing = [
        f"block {job.block}: {_difference(known.get(job.block, {}).get('made_of'), job.made_of)}"
        for job in missing
        if read_head(folder, job.block) is not None
    ]
    if differing:
        more = f"; and {len(differing) - _MOST} more" if len(differing) > _MOST else ""
        raise ConfigError(
            f"registration.from cannot be used: {'; '.join(differing[:_MOST])}{more}",
            file=other,
            remedy="Use the same slides and registration settings as there, or leave registration.from out",
        )
    return Standing(_names(finished), _names(taken), _names(missing), other)


def take(job: BlockJob, other: Path) -> None:
    """Have the files of a finished block of another run here too; ``block.json``, which says so, comes last."""
    source, name = other / "registration", file_name(job.block)
    files = [path for path in (source / name).iterdir() if path.is_file() and ASIDE not in path.name]
    for path in sorted(files, key=lambda path: path.name == BLOCK.name):
        if path.name == BLOCK.name:
            for row in (read_head(source, job.block) or {}).get("rows", ()):
                if row.get("overlay") and (source / row["overlay"]).is_file():
                    link_or_copy(source / row["overlay"], job.out / row["overlay"])
        link_or_copy(path, job.out / name / path.name)


def write_inputs(folder: Path, jobs: Iterable[BlockJob], status: Standing) -> None:
    """Write :data:`INPUTS`, where it has changed."""
    before = _read_inputs(folder)
    inputs = {}
    for job in jobs:
        known = before.get(job.block, {})
        source = str(status.other) if job.block in status.taken else None
        if job.block in status.here and known.get("settings") == job.settings:
            source = known.get("from")
        inputs[job.block] = {"settings": job.settings, "made_of": job.made_of, "from": source}
    if json.loads(json.dumps(inputs, default=str)) != before:
        write_json(folder / INPUTS, inputs)


def is_finished(folder: Path, block: str, settings: str) -> bool:
    head = read_head(folder, block)
    return head is not None and head.get("settings") == settings


def _names(jobs: Iterable[BlockJob]) -> tuple[str, ...]:
    return tuple(job.block for job in jobs)


def _read_inputs(folder: Path) -> dict[str, Any]:
    """Empty for runs of earlier versions, which did not write it."""
    path = folder / INPUTS
    return dict(load_json(path)) if path.is_file() else {}


def _difference(other: Mapping[str, Any] | None, own: Mapping[str, Any]) -> str:
    """In words: settings, sections, and what of the sections."""
    if other is None:
        return "it was made of other slides, landmarks or settings (that run does not say which)"
    own = json.loads(json.dumps(own, default=str))  # as it comes back from a file
    reasons = []
    if other.get("algorithm") != own["algorithm"]:
        reasons.append("it was made by another version of the registration")
    settings = {**other.get("config", {})}
    for key, value in own["config"].items():
        if settings.get(key) != value:
            reasons.append(f"registration.{key} is {settings.get(key)} there and {value} here")
    rows = [{row[0]: row for row in state["sections"]} for state in (other, own)]
    for slide in sorted({*rows[0], *rows[1]}):
        if slide not in rows[0] or slide not in rows[1]:
            reasons.append(f"section {slide} is {'not here' if slide in rows[0] else 'not there'}")
            continue
        for name, old, new in zip(_FIELDS, rows[0][slide], rows[1][slide], strict=True):
            if old != new:
                verb = "differ" if name in ("file", "landmarks") else f"is {old} there and {new} here"
                reasons.append(f"{name} of {slide} {verb}")
    if other.get("imports") != own.get("imports"):
        reasons.append("the imported transforms differ")
    return ", ".join(reasons) or "the order of its sections differs"
