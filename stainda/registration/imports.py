"""``registration.method: import``: transforms from other programs, with the same checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from stainda.cohort.types import Cohort, Section
from stainda.config import RegistrationConfig
from stainda.errors import ConfigError, StaindaError, did_you_mean
from stainda.files import fingerprint
from stainda.registration.exchange.importing import Ends
from stainda.registration.exchange.table import Pair, imported, read_import_table
from stainda.registration.outcomes import BlockNotes
from stainda.registration.sections import SectionImage
from stainda.registration.transforms import Transform
from stainda.slides import open_slide


def check_imports(cohort: Cohort, config: RegistrationConfig) -> None:
    """Read the table once, before anything is registered.

    Raises:
        ConfigError: it cannot be read, names slides that the cohort lacks, or joins sections of two blocks.
    """
    block = {row.slide: row.block for row in cohort}
    for pair in _table(config):
        for name in (pair.slide, pair.frame):
            if name not in block:
                raise ConfigError(
                    f"no slide {name!r} in the cohort", file=config.imports, remedy=did_you_mean(name, block)
                )
        if block[pair.slide] != block[pair.frame]:
            raise ConfigError(f"{pair.slide} and {pair.frame} are not of one block", file=config.imports)


def imports_state(config: RegistrationConfig, sections: Iterable[Section]) -> list[list[Any]]:
    """What tells that an import of these sections has changed: the rows, and the content of their files."""
    names = {row.slide for row in sections}
    state: list[list[Any]] = []
    for pair in _table(config):
        if pair.slide not in names:
            continue
        files = [pair.what.file, *([pair.what.landmarks] if pair.what.landmarks else [])]
        files += sorted(pair.what.file.glob("data/*")) if pair.what.file.is_dir() else []
        settings = {key: value for key, value in vars(pair.what).items() if key not in ("file", "landmarks")}
        stamps = [[file.name, *(fingerprint(file) or ())] if file.is_file() else file.name for file in files]
        state.append([pair.slide, pair.frame, settings, stamps])
    return state


def named_frame(config: RegistrationConfig, names: Iterable[str]) -> str | None:
    """The section that most rows of the table have as their frame, among ``names`` (of equals the first)."""
    known = list(names)
    counts = Counter(pair.frame for pair in _table(config) if pair.slide in known and pair.frame in known)
    return max(counts, key=lambda name: (counts[name], -known.index(name))) if counts else None


def imported_transforms(
    sections: Iterable[Section],
    config: RegistrationConfig,
    images: Mapping[str, SectionImage],
    reference: str,
    notes: BlockNotes,
) -> dict[str, Transform]:
    """The transform of every usable section other than the reference; where there is none, ``notes`` says why."""
    pairs, ends = _table(config), {}
    for row in sections:
        if row.slide in images:
            with open_slide(row.path, row.mpp) as slide:
                ends[row.slide] = Ends(
                    row.slide, "", slide.size, (0, 0), slide.mpp, path=row.path, bounds=_bounds(slide.bounds)
                )
    usable = tuple(pair for pair in pairs if pair.slide in ends and pair.frame in ends)
    transforms: dict[str, Transform] = {}
    for name in images:
        if name != reference:
            try:
                transforms[name] = imported(usable, name, reference, ends)
            except StaindaError as error:
                notes.add(name, str(error))
    return transforms


def as_shown(image: SectionImage, transform: Transform) -> SectionImage:
    """The working image turned over where the import turns the section over: whoever made it said so."""
    import numpy as np

    mirrors = bool(np.linalg.det(transform.matrix[:2, :2]) < 0)
    return image.turned_over() if mirrors != image.mirrored else replace(image)


def _bounds(bounds: tuple[int, ...]) -> tuple[int, int, int, int]:
    x, y, width, height = (int(side) for side in bounds)
    return x, y, width, height


def _table(config: RegistrationConfig) -> tuple[Pair, ...]:
    if config.imports is None:
        raise ConfigError("registration.method is import, but registration.imports names no table")
    return read_import_table(Path(config.imports))
