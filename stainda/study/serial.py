"""Which sections of training patients are paired, and the maps registration has between them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stainda.cohort import Cohort, Roles, Section
from stainda.errors import StaindaError
from stainda.files import stable_hash
from stainda.progress import Progress
from stainda.run_directory.tables import QUALITY

if TYPE_CHECKING:
    from stainda.patches.serial import SectionLink, Which
    from stainda.registration.results import BlockResult
    from stainda.run_directory.folder import RunFolder

MOST_APART = 2
"""Sections further from each other than this are not paired: what they show has changed."""


def section_links(
    cohort: Cohort, roles: Roles, registration: Path, split: Literal["train", "val"] = "train"
) -> list[SectionLink]:
    """Links between registered sections of each block of a training patient, the source's section first.

    Targets are linked only where the protocol shows them. In a study of a single patient, whose source slides also
    serve validation, a link ends in a target's section.

    Args:
        split: of the patients; of those of ``val`` there may be no link.

    Raises:
        StaindaError: there is none of training patients.
    """
    from stainda.patches.serial import SectionLink
    from stainda.registration.results import load_block
    from stainda.registration.transforms import Between

    links: list[SectionLink] = []
    shown = {"source": True, "target": roles.visible == "targets", "unused": False}
    for block, sections in cohort.where(splits=[split]).blocks().items():
        block_result = load_block(registration, block)
        placed = [
            section
            for section in sections
            if section.slide in block_result.transforms and shown[roles.role(cohort.domain(section))]
            and (split == "train" or section.split == "val")
        ]  # fmt: skip
        for number, first in enumerate(placed):
            for second in placed[number + 1 :]:
                apart = abs(second.section - first.section)
                if apart > MOST_APART:
                    continue
                one, two = _ordered(first, second, cohort, roles)
                if one.split == "all" and roles.role(cohort.domain(two)) == "source":
                    continue
                between = Between(block_result.transforms[one.slide], block_result.transforms[two.slide])
                links.append(
                    SectionLink(
                        one.slide, two.slide, between.to_frame, between.from_frame, _error(block_result, one, two),
                        max(1, apart), stable_hash([block_result.settings, one.slide, two.slide]),
                    )
                )  # fmt: skip
    if not links and split == "train":
        raise StaindaError(
            "no two sections of a training patient are registered to each other and may both be seen in training",
            file=QUALITY.inside(registration),
            remedy="Leave out strategies of serial consistency, or check the registration and protocol.visible",
        )
    return links


PER_LINK = 64
"""Pairs of two sections for training without labels, at most: it needs more of them than a strategy with a task."""


def cut_pairs(which: Which, cohort: Cohort, roles: Roles, folder: RunFolder, seed: int, progress: Progress) -> None:
    """Cut the pairs of one kind for a run directory's patch store.

    Raises:
        StaindaError: no two sections of training patients are registered to each other; validation patients may have
            none.
    """
    from stainda.patches import PatchStore
    from stainda.patches.serial import VALIDATION, build_serial

    links = section_links(cohort, roles, folder.registration, "val" if which == VALIDATION else "train")
    more = {} if which == "serial" else {"per_link": PER_LINK}
    build_serial(PatchStore.open(folder.patches), cohort, roles, links, seed, progress=progress, which=which, **more)


def _ordered(first: Section, second: Section, cohort: Cohort, roles: Roles) -> tuple[Section, Section]:
    backwards = roles.role(cohort.domain(first)) == "target" and roles.role(cohort.domain(second)) == "source"
    return (second, first) if backwards else (first, second)


def _error(block_result: BlockResult, one: Section, two: Section) -> float | None:
    """Error of going from one section to the other, from the landmark errors of each to the reference."""
    rows: dict[str, Mapping[str, Any]] = {str(row["source"]): row for row in block_result.rows}
    total = 0.0
    for slide in (one.slide, two.slide):
        if slide == block_result.reference:
            continue
        row = rows.get(slide, {})
        value = row.get("tre_nonrigid_px" if row.get("status") == "registered" else "tre_rigid_px")
        if value is None or not math.isfinite(float(value)):
            return None
        total += float(value) ** 2
    return math.sqrt(total)
