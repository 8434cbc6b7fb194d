"""Registration results on disk: one folder per block, and ``quality.csv``; writing and reading.

``registration/<block>/block.json`` is written last and says that the block is finished; next to it lie one transform
per section (``<slide>.json`` and ``.npz``), and for a refused section a ``<slide>.json`` with the reason and no arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stainda.errors import RegistrationError
from stainda.files import load_json, write_json
from stainda.names import file_name, joined_name
from stainda.registration.transforms import FORMAT, VERSION, Transform
from stainda.run_directory.contents import BLOCK
from stainda.run_directory.tables import QUALITY

BLOCK_FORMAT = "stainda-block"
REGISTERED, RIGID_ONLY, REFUSED = "registered", "rigid_only", "refused"

QUALITY_COLUMNS = QUALITY.names


def overlay_name(block: str, source: str, target: str) -> str:
    return f"{joined_name(block, source, target)}.jpg"


def write_refusal(folder: Path, slide: str, frame: str | None, reason: str) -> Path:
    """Say in the place of a transform why there is none; a transform of an earlier run is removed."""
    (folder / f"{file_name(slide)}.npz").unlink(missing_ok=True)
    return write_json(
        folder / f"{file_name(slide)}.json",
        {"format": FORMAT, "version": VERSION, "slide": slide, "frame": frame, "status": REFUSED, "reason": reason},
    )


@dataclass(frozen=True)
class BlockResult:
    """A finished block.

    Attributes:
        block, settings: its name, and the hash of everything its result depends on.
        reference: the section whose level-0 pixels are the frame; ``None`` if every section was refused.
        transforms: slide -> transform into the frame, the reference's being the identity.
        refused: slide -> reason. Such a section has no transform; nothing may be propagated from or to it.
        rows: the block's rows of quality.csv.
        contradicted: pairs of sections whose direct comparison the block's other comparisons contradict.
    """

    block: str
    settings: str
    reference: str | None
    transforms: Mapping[str, Transform]
    refused: Mapping[str, str]
    rows: tuple[dict[str, Any], ...]
    contradicted: frozenset[frozenset[str]] = frozenset()


def block_file(registration: Path, block: str) -> Path:
    return BLOCK.inside(registration / file_name(block))


def read_head(registration: Path, block: str) -> dict[str, Any] | None:
    """What ``block.json`` says, or ``None`` where the block is not finished."""
    return _head(block_file(registration, block))


def _head(path: Path) -> dict[str, Any] | None:
    try:
        head = load_json(path)
    except (OSError, ValueError):
        return None
    return head if isinstance(head, dict) and head.get("format") == BLOCK_FORMAT else None


def finished_blocks(registration: str | Path) -> tuple[str, ...]:
    """Names of the blocks that are registered in the folder ``registration`` of a run, sorted."""
    heads = (_head(path) for path in Path(registration).glob(f"*/{BLOCK.name}"))
    return tuple(sorted(str(head["block"]) for head in heads if head is not None))


def load_block(registration: str | Path, block: str) -> BlockResult:
    """The transforms of a registered block, of the folder ``registration`` of a run.

    Raises:
        RegistrationError: the block was not registered, or a transform of it cannot be read.
    """
    registration = Path(registration)
    head = read_head(registration, block)
    if head is None:
        raise RegistrationError(
            f"block {block} is not registered",
            file=block_file(registration, block),
            remedy="Run stainda register first",
        )
    folder = registration / file_name(block)
    return BlockResult(
        block=head["block"],
        settings=head["settings"],
        reference=head["reference"],
        transforms={slide: Transform.load(folder / file_name(slide)) for slide in head["placed"]},
        refused=dict(head["refused"]),
        rows=tuple(head["rows"]),
        contradicted=frozenset(
            frozenset((row["moving"], row["fixed"])) for row in head.get("comparisons", ()) if row["contradicts"]
        ),
    )
