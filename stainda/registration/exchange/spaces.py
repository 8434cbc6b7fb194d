"""Coordinate spaces of imported files and their conversion to level-0 pixels; nothing is guessed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from stainda.arrays import Array
from stainda.errors import RegistrationError, did_you_mean

Units = Literal["px", "um", "mm"]
Direction = Literal["push", "pull"]
Origin = Literal["corner", "centre"]


@dataclass(frozen=True)
class Space:
    """The coordinates of one picture in a file made elsewhere.

    Attributes:
        units: what a coordinate counts: pixels of the picture that was registered, micrometres or millimetres.
        downsample: level-0 pixels per pixel of that picture.
        mpp: micrometres per level-0 pixel; needed unless ``units`` is ``px``.
        origin: where 0 lies: at the ``corner`` of the first pixel (QuPath, OpenSlide, stainda) or in its ``centre``
            (ITK, elastix, NumPy indices).
    """

    units: Units
    downsample: float = 1.0
    mpp: float | None = None
    origin: Origin = "corner"

    def __post_init__(self) -> None:
        for word, known, what in ((self.units, Units, "units"), (self.origin, Origin, "origin")):
            if word not in get_args(known):
                raise RegistrationError(f"{what} {word!r} are not known", remedy=did_you_mean(word, get_args(known)))
        if not (np.isfinite(self.downsample) and self.downsample > 0):
            raise RegistrationError(f"downsample must be a positive number, not {self.downsample}")
        if self.units != "px" and not (self.mpp and np.isfinite(self.mpp) and self.mpp > 0):
            raise RegistrationError(
                f"coordinates in {self.units} need the pixel size",
                remedy="Give the micrometres per level-0 pixel of both sections (the manifest's column mpp)",
            )

    @property
    def unit_pixels(self) -> float:
        """Level-0 pixels in one unit."""
        if self.units == "px":
            return self.downsample
        return (1.0 if self.units == "um" else 1000.0) / float(self.mpp or 0)

    @property
    def to_level0(self) -> Array:
        """Matrix (3, 3) from the file's coordinates to level-0 pixels."""
        shift = 0.5 * self.downsample if self.origin == "centre" else 0.0
        return np.array([[self.unit_pixels, 0, shift], [0, self.unit_pixels, shift], [0, 0, 1.0]])
