"""Stored propagation results of each block, reused by a later call with the same input."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stainda.cohort.types import Section
from stainda.config import PropagationConfig
from stainda.files import fingerprint, link_or_copy, load_json, stable_hash, write_json
from stainda.names import file_name
from stainda.registration.calibration import TABLE
from stainda.run_directory.contents import PROPAGATED_BLOCK

if TYPE_CHECKING:
    import geopandas as gpd

ALGORITHM = 3
"""Raised when propagation gives another result for the same input; blocks are then propagated again."""
FORMAT = "stainda propagated block"
KINDS = ("propagated", "ignored")


@dataclass(frozen=True)
class PropagatedBlock:
    """Attributes:
    rows: of propagation.csv. agreements: of agreement.csv.
    files: names of the GeoJSON files written under each of :data:`KINDS`, one per target that was reached.
    """

    rows: list[Mapping[str, Any]]
    agreements: list[Mapping[str, Any]]
    files: list[str]


class PropagatedBlocks:
    """The folder ``annotations/blocks`` of a run.

    The files there are as propagation wrote them: a review changes those under ``propagated`` afterwards.
    """

    def __init__(self, annotations: Path) -> None:
        self._annotations, self._folder = annotations, annotations / "blocks"

    def take(self, block: str, key: str) -> PropagatedBlock | None:
        """Put a block's files back in their place; ``None`` where there are none for this key."""
        folder = self._folder / file_name(block)
        try:
            head = load_json(PROPAGATED_BLOCK.inside(folder))
        except (OSError, ValueError):
            return None
        if not isinstance(head, dict) or (head.get("format"), head.get("key")) != (FORMAT, key):
            return None
        kept = PropagatedBlock(head["rows"], head["agreements"], head["files"])
        wanted = [(kind, name) for kind in KINDS for name in kept.files]
        if not all((folder / kind / name).is_file() for kind, name in wanted):
            return None
        for kind, name in wanted:
            link_or_copy(folder / kind / name, self._annotations / kind / name)
        return kept

    def keep(self, block: str, key: str, propagated: PropagatedBlock) -> None:
        """Remember a block whose files have just been written; ``block.json``, which says so, comes last."""
        folder = self._folder / file_name(block)
        if folder.exists():
            shutil.rmtree(folder)
        for kind in KINDS:
            for name in propagated.files:
                link_or_copy(self._annotations / kind / name, folder / kind / name)
        head = {"rows": propagated.rows, "agreements": propagated.agreements, "files": propagated.files}
        write_json(PROPAGATED_BLOCK.inside(folder), {"format": FORMAT, "key": key, **head})

    def forget_others(self, blocks: Iterable[str]) -> None:
        """Remove what is kept of blocks that are no longer propagated."""
        names = {file_name(block) for block in blocks}
        for folder in self._folder.glob("*/"):
            if folder.name not in names:
                shutil.rmtree(folder)


def block_key(
    registration: Path,
    block: str,
    sections: Sequence[Section],
    sources: Iterable[str],
    own_shapes: Mapping[str, gpd.GeoDataFrame],
    config: PropagationConfig,
) -> str:
    """Hash of everything that the propagation of a block depends on.

    Args:
        registration: the folder ``registration`` of the run. sources: the slides whose shapes are propagated.
    """
    rows = [
        [section.slide, section.section, section.mpp, section.path.name, fingerprint(section.path)]
        for section in sections
    ]
    shapes = {section.slide: _content(own_shapes[section.slide]) for section in sections if section.slide in own_shapes}
    placed = [[path.name, fingerprint(path)] for path in sorted((registration / file_name(block)).iterdir())]
    settings = [ALGORITHM, fingerprint(TABLE), config.model_dump(mode="json")]
    return stable_hash([settings, placed, rows, sorted(sources), shapes], 32)


def _content(shapes: gpd.GeoDataFrame) -> str:
    """Hash of shapes: outlines to the bit, and every other column."""
    digest = hashlib.sha256()
    for outline in shapes.geometry.to_wkb():
        digest.update(b"-" if outline is None else outline)
    table = shapes.drop(columns=shapes.geometry.name)
    digest.update(json.dumps(table.to_dict("list"), sort_keys=True, default=str).encode())
    return digest.hexdigest()
