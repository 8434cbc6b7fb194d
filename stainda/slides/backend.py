"""Interface of a file reader, and the pixel size it reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from stainda.arrays import Array


@dataclass(frozen=True)
class PixelSize:
    """Micrometres per level-0 pixel (``None``: not known) and where that comes from, or why it is not known."""

    mpp: float | None
    origin: str


class Backend(Protocol):
    """What a file format must offer to be a slide."""

    name: str
    sizes: tuple[tuple[int, int], ...]
    pixel_size: PixelSize
    bounds: tuple[int, int, int, int] | None
    notes: tuple[str, ...]

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Array:
        """RGB uint8 (height, width, 3) of a region within the level, in pixels of that level."""
        ...

    def close(self) -> None: ...
