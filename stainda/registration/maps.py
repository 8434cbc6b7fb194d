"""Point maps: warping of points, shapes and pixels, inversion and composition of maps.

A map leads from the level-0 pixels of a section (``slide``) to those of a ``frame``; the frame may be another section.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stainda.arrays import Array
from stainda.errors import RegistrationError
from stainda.registration.shapes_in_pieces import MapStep

if TYPE_CHECKING:
    import geopandas as gpd

    from stainda.slides import Slide


class PointMap(ABC):
    """A map from one section to a frame, both ways; coordinates are level-0 pixels, float64 (n, 2), x right, y down.

    Attributes:
        slide, frame: names of both.
        size, frame_size: (width, height) of both, level-0 pixels.
    """

    slide: str
    frame: str
    size: tuple[int, int]
    frame_size: tuple[int, int]

    @abstractmethod
    def to_frame(self, xy: Array) -> Array:
        """Frame coordinates (n, 2) of level-0 pixels ``xy`` (n, 2) of the section; NaN stays NaN."""

    @abstractmethod
    def from_frame(self, xy: Array) -> Array:
        """Level-0 pixels (n, 2) of the section at frame coordinates ``xy`` (n, 2); NaN stays NaN."""

    def grain(self) -> float:
        """Over how many level-0 pixels the map can be taken for affine; infinite where it is."""
        return 1.0

    @property
    def torn(self) -> bool:
        """Whether pieces of tissue have maps of their own, so that points between them have no place (NaN)."""
        return False

    def steps(self, back: bool = False) -> tuple[MapStep, ...]:
        """The map as steps, each with the pieces of tissue that have a map of their own; ``back``: of the inverse."""
        return (MapStep((self.from_frame if back else self.to_frame,)),)

    def points(self, xy: Array) -> Array:
        """The same as :meth:`to_frame`."""
        return self.to_frame(xy)

    def shapes(self, shapes: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
        """Shapes of the section in the frame, see :func:`stainda.registration.map_shapes`."""
        from stainda.registration.moved_shapes import move_shapes

        return move_shapes(shapes, self.to_frame, self.steps())

    def image(
        self,
        slide: Slide,
        region: tuple[float, float, float, float] | None = None,
        *,
        level: int | None = None,
        downsample: float | None = None,
    ) -> Array:
        """Pixels of the section as they lie in the frame, RGB uint8 (height, width, 3); white where there is no slide.

        Args:
            slide: the open section.
            region: (x, y, width, height) in level-0 pixels of the frame; all of it by default.
            level, downsample: the resolution, as a level of ``slide`` or as frame pixels per output pixel; level 0 by
                default. Only what the region shows is read, piece by piece.

        Raises:
            RegistrationError: both of ``level`` and ``downsample``, or more pixels than are held in memory.
            SlideError: the slide cannot be read.
        """
        from stainda.registration.warping import warped_region

        if level is not None and downsample is not None:
            raise RegistrationError("give level or downsample, not both")
        if level is not None:
            if not 0 <= level < len(slide.levels):
                raise RegistrationError(f"there is no level {level}; levels are 0 to {len(slide.levels) - 1}")
            downsample = slide.levels[level].downsample
        return warped_region(self, slide, region or (0, 0, *self.frame_size), downsample or 1.0)

    @property
    def inverse(self) -> PointMap:
        """From the frame to the section."""
        return Inverse(self)

    def compose(self, following: PointMap) -> PointMap:
        """First this map, then ``following``, whose section must be this map's frame."""
        return Chain(self, following)

    def round_trip(self, xy: Array) -> Array:
        """Distance (n,) in level-0 pixels of the section between ``xy`` and where it ends after going to the frame and
        back."""
        return np.linalg.norm(self.from_frame(self.to_frame(xy)) - as_points(xy), axis=1)

    def area_change(self, xy: Array) -> Array:
        """Local area in the frame per area in the section (n,) at level-0 pixels ``xy`` (n, 2) of the section."""
        grain = self.grain()
        step = 0.5 * (max(1.0, grain) if math.isfinite(grain) else 1.0)
        points, right, down = as_points(xy), np.array([step, 0.0]), np.array([0.0, step])
        across = self.to_frame(points + right) - self.to_frame(points - right)
        along = self.to_frame(points + down) - self.to_frame(points - down)
        return (across[:, 0] * along[:, 1] - across[:, 1] * along[:, 0]) / (4 * step * step)


@dataclass(frozen=True, eq=False)
class Inverse(PointMap):
    """Inverse of another map."""

    of: PointMap

    @property
    def slide(self) -> str:  # type: ignore[override]
        return self.of.frame

    @property
    def frame(self) -> str:  # type: ignore[override]
        return self.of.slide

    @property
    def size(self) -> tuple[int, int]:  # type: ignore[override]
        return self.of.frame_size

    @property
    def frame_size(self) -> tuple[int, int]:  # type: ignore[override]
        return self.of.size

    @property
    def torn(self) -> bool:
        return self.of.torn

    def to_frame(self, xy: Array) -> Array:
        return self.of.from_frame(xy)

    def from_frame(self, xy: Array) -> Array:
        return self.of.to_frame(xy)

    def grain(self) -> float:
        return self.of.grain()

    def steps(self, back: bool = False) -> tuple[MapStep, ...]:
        return self.of.steps(not back)

    @property
    def inverse(self) -> PointMap:
        return self.of


@dataclass(frozen=True, eq=False)
class Chain(PointMap):
    """Composition of maps.

    Raises:
        RegistrationError: the first does not end where the second starts.
    """

    first: PointMap
    second: PointMap

    def __post_init__(self) -> None:
        if self.first.frame != self.second.slide:
            raise RegistrationError(
                f"the first map ends at {self.first.frame}, the second starts at {self.second.slide}",
                remedy="Compose maps that meet at one section",
            )

    @property
    def slide(self) -> str:  # type: ignore[override]
        return self.first.slide

    @property
    def frame(self) -> str:  # type: ignore[override]
        return self.second.frame

    @property
    def size(self) -> tuple[int, int]:  # type: ignore[override]
        return self.first.size

    @property
    def frame_size(self) -> tuple[int, int]:  # type: ignore[override]
        return self.second.frame_size

    @property
    def torn(self) -> bool:
        return self.first.torn or self.second.torn

    def to_frame(self, xy: Array) -> Array:
        return self.second.to_frame(self.first.to_frame(xy))

    def from_frame(self, xy: Array) -> Array:
        return self.first.from_frame(self.second.from_frame(xy))

    def grain(self) -> float:
        return min(self.first.grain(), self.second.grain())

    def steps(self, back: bool = False) -> tuple[MapStep, ...]:
        if back:
            return self.second.steps(True) + self.first.steps(True)
        return self.first.steps() + self.second.steps()


def compose(*maps: PointMap) -> PointMap:
    """All ``maps``, the first of them first."""
    whole = maps[0]
    for following in maps[1:]:
        whole = whole.compose(following)
    return whole


def as_points(xy: Array) -> Array:
    """float64 (n, 2), also for an empty list."""
    points = np.asarray(xy, dtype=np.float64)
    return points.reshape(0, 2) if points.size == 0 else points.reshape(-1, 2)
