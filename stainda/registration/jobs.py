"""Blocks to register, and the inputs that each result depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stainda.cohort.types import Cohort, Section
from stainda.config import RegistrationConfig
from stainda.files import fingerprint, stable_hash

ALGORITHM = 11  # raised when the same settings give another result; finished blocks are then done again


@dataclass(frozen=True)
class BlockJob:
    """Everything that is needed to register one block. ``out`` is the folder ``registration``, ``made_of`` all that the
    result depends on, ``settings`` its hash."""

    block: str
    sections: tuple[Section, ...]
    config: RegistrationConfig
    out: Path
    settings: str
    made_of: Mapping[str, Any] = field(default_factory=dict)

    @property
    def needs_valis(self) -> bool:
        return self.config.method == "valis" and len(self.sections) > 1


def block_jobs(cohort: Cohort, config: RegistrationConfig, folder: Path) -> list[BlockJob]:
    """The blocks of a cohort; ``folder`` is the folder ``registration`` of the run."""
    jobs = []
    for block, sections in cohort.blocks().items():
        made_of = block_inputs(sections, config)
        jobs.append(BlockJob(block, sections, config, folder, stable_hash(made_of), made_of))
    return jobs


def block_settings(sections: tuple[Section, ...], config: RegistrationConfig) -> str:
    """Hash of everything the result of a block depends on; a changed slide file changes it."""
    return stable_hash(block_inputs(sections, config))


def block_inputs(sections: tuple[Section, ...], config: RegistrationConfig) -> dict[str, Any]:
    """Everything the result of a block depends on."""
    imported: dict[str, Any] = {}
    if config.method == "import":
        from stainda.registration.imports import imports_state

        imported = {"imports": imports_state(config, sections)}
    return {
        "algorithm": ALGORITHM,
        "config": config.model_dump(mode="json", exclude={"imports", "from_run"}),
        "sections": [
            [row.slide, row.section, row.stain, row.mpp, _stamp(row.path), _stamp(row.landmarks)] for row in sections
        ],
        **imported,
    }


def _stamp(path: Path | None) -> list[Any] | None:
    """What tells a changed file wherever it lies: name and fingerprint. A missing file has its name only."""
    return None if path is None else [path.name, *(fingerprint(path) or ())]
