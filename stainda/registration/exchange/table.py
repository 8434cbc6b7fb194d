"""Table of imported transforms, and the transforms of a block read from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stainda.annotations.guarded import read_csv
from stainda.errors import AnnotationError, ConfigError, RegistrationError, did_you_mean
from stainda.registration.exchange.importing import Ends, Import, import_transform
from stainda.registration.maps import PointMap, compose
from stainda.registration.transforms import Transform, from_pull

COLUMNS = (
    "slide", "frame", "file", "kind", "direction", "units", "downsample", "frame_downsample", "origin", "landmarks",
    "smoothing",
)  # fmt: skip
CHAIN_SIDE = 1024  # lattice points along the longer side of the frame on which a chain of transforms is kept


@dataclass(frozen=True)
class Pair:
    """One row: ``what`` takes ``slide`` into ``frame``."""

    slide: str
    frame: str
    what: Import


def read_import_table(path: Path) -> tuple[Pair, ...]:
    """Read a CSV with the columns ``slide, frame, file`` and, where needed, ``kind, direction, units, downsample,
    frame_downsample, origin, landmarks, smoothing``; files are relative to the table.

    ``frame`` may be any section of the block: chains (one section onto the next) are followed to the reference.

    Raises:
        ConfigError: a column or cell is missing, unknown or no number; a section is named twice; all faults at once.
    """
    try:
        header, *rows = read_csv(Path(path), 50_000_000)
    except AnnotationError as error:
        raise ConfigError(error.message, file=path, remedy="registration.imports names a CSV table") from error
    names = [cell.strip().lower() for cell in header]
    unknown = [name for name in names if name not in COLUMNS]
    missing = [name for name in COLUMNS[:3] if name not in names]
    if unknown or missing:
        raise ConfigError(
            f"columns unknown: {unknown or 'none'}; missing: {missing or 'none'}", file=path, row=1,
            remedy=did_you_mean(unknown[0], COLUMNS) if unknown else f"Columns: {', '.join(COLUMNS)}",
        )  # fmt: skip
    pairs: list[Pair] = []
    faults: list[str] = []
    for number, row in enumerate(rows, start=2):
        cells = {name: cell.strip() for name, cell in zip(names, row, strict=False) if cell.strip()}
        try:
            pairs.append(_pair(cells, Path(path).resolve().parent))
        except (KeyError, ValueError) as error:
            faults.append(f"row {number}: {'no ' if isinstance(error, KeyError) else ''}{str(error).strip(chr(39))}")
    twice = sorted({pair.slide for pair in pairs if sum(pair.slide == other.slide for other in pairs) > 1})
    faults += [f"{slide} has more than one row" for slide in twice]
    if faults:
        raise ConfigError("; ".join(faults[:20]), file=path, remedy="Correct these rows")
    return tuple(pairs)


def _pair(cells: Mapping[str, str], folder: Path) -> Pair:
    from typing import get_args

    from stainda.registration.exchange.importing import Kind
    from stainda.registration.exchange.spaces import Direction, Origin, Units

    words = {
        "kind": get_args(Kind),
        "direction": get_args(Direction),
        "units": get_args(Units),
        "origin": get_args(Origin),
    }
    for key, known in words.items():
        if key in cells and cells[key] not in known:
            raise ValueError(f"{key} {cells[key]!r}: {did_you_mean(cells[key], known)}")
    numbers = {}
    for key in ("downsample", "frame_downsample", "smoothing"):
        if key in cells:
            try:
                numbers[key] = float(cells[key])
            except ValueError:
                raise ValueError(f"{key} {cells[key]!r} is no number") from None
    what = Import(
        file=folder / cells["file"],
        landmarks=folder / cells["landmarks"] if "landmarks" in cells else None,
        **{key: cells[key] for key in words if key in cells},  # type: ignore[arg-type]
        **numbers,  # type: ignore[arg-type]
    )
    return Pair(cells["slide"], cells["frame"], what)


def imported(pairs: tuple[Pair, ...], slide: str, reference: str, ends: Mapping[str, Ends]) -> Transform:
    """The transform of one section into the reference's frame, through as many rows as that takes.

    Args:
        ends: every usable section of the block by name, as the section of an :class:`Ends` (its frame is filled in).

    Raises:
        RegistrationError: no row leads from the section to the reference, or a file on the way cannot be used.
    """
    way = _way(pairs, slide, reference)
    steps: list[PointMap] = []
    for pair, backwards in way:
        slide_end, frame_end = ends[pair.slide], ends[pair.frame]
        both = Ends(
            pair.slide, pair.frame, slide_end.size, frame_end.size, slide_end.mpp, frame_end.mpp,
            slide_end.path, frame_end.path, slide_end.bounds, frame_end.bounds,
        )  # fmt: skip
        step = import_transform(pair.what, both)
        if len(way) == 1 and not backwards:
            return step
        steps.append(step.inverse if backwards else step)
    whole = compose(*steps)
    about = {"kind": "imported chain", "way": [pair.what.file.name for pair, _ in way]}
    size, frame_size = ends[slide].size, ends[reference].size
    if np.isinf(whole.grain()):
        corners = np.array([[0, 0], [size[0], 0], [0, size[1]]], float)
        moved = whole.to_frame(corners)
        linear = np.column_stack([(moved[1] - moved[0]) / size[0], (moved[2] - moved[0]) / size[1], moved[0]])
        return Transform.affine(slide, size, reference, frame_size, np.vstack([linear, [0, 0, 1]]), about)
    spacing = max(1.0, whole.grain(), max(frame_size) / CHAIN_SIDE)
    return from_pull(slide, reference, size, frame_size, whole.from_frame, spacing, about=about)


def _way(pairs: tuple[Pair, ...], slide: str, reference: str) -> list[tuple[Pair, bool]]:
    """The shortest way from a section to the reference: rows, and whether each is gone backwards."""
    ways: dict[str, list[tuple[Pair, bool]]] = {slide: []}
    front = [slide]
    while front and reference not in ways:
        following = []
        for at in front:
            for pair in pairs:
                for start, end, backwards in ((pair.slide, pair.frame, False), (pair.frame, pair.slide, True)):
                    if start == at and end not in ways:
                        ways[end] = [*ways[at], (pair, backwards)]
                        following.append(end)
        front = following
    if reference not in ways:
        raise RegistrationError(
            f"no transform leads from {slide} to {reference}", remedy="Add a row for it to registration.imports"
        )
    return ways[reference]
