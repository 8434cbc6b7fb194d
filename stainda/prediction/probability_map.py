"""What a network says of a region of a slide: a probability per class and pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from stainda.arrays import Array

_FINER, _LARGEST = 4, 2**27


@dataclass(frozen=True)
class ProbabilityMap:
    """Probability of each class over a region of a slide.

    Attributes:
        array: float32, ``(classes, h, w)``; 0 where there is no tissue. Where it would exceed 1 GiB: float16. From
            256 MiB on it lies in a temporary file.
        downsample: level-0 pixels per pixel.
        x, y: level-0 position of the corner of the first pixel.
        classes: names along the first axis.
        notes: how batch statistics and colours of this slide were obtained.
        mpp: micrometres per level-0 pixel, where known.
        cell: pixels the network sees per pixel of the map: 1, more where a window slid from cell to cell.
        maps: of the head of a task of instances, float ``(channels, h, w)``; ``None`` for other tasks.
        extent: width and height of what the map shows, level-0 pixels: the last pixels may reach beyond the slide.
            ``None``: all of the pixels.
    """

    array: Array
    downsample: float
    x: float
    y: float
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    mpp: float | None = None
    cell: float = 1.0
    extent: tuple[float, float] | None = None
    maps: Array | None = None

    def finer(self) -> ProbabilityMap:
        """A map of cells in quarters of cells (in larger parts where that would exceed half a GiB), linearly between
        their centres; a map of pixels as it is."""
        factor = int(min(_FINER, self.cell, (_LARGEST / max(self.array.size, 1)) ** 0.5))
        if factor <= 1:
            return self
        from scipy.ndimage import zoom

        array = zoom(self.array.astype(np.float32), (1, factor, factor), order=1, mode="nearest", grid_mode=True)
        width, height = (math.ceil(side * factor / self.downsample - 1e-6) for side in self.shown)
        step, cell = self.downsample / factor, self.cell / factor
        return replace(self, array=array[:, :height, :width], downsample=step, cell=cell)

    @property
    def shown(self) -> tuple[float, float]:
        """Width and height of what the map shows, level-0 pixels."""
        height, width = self.array.shape[1:]
        return self.extent or (width * self.downsample, height * self.downsample)

    def nodes(self) -> tuple[Array, Array]:
        """Level-0 x ``(w + 2,)`` and y ``(h + 2,)`` of the middles of pixels, with the map's edges before and after.

        The last pixels count as far as they lie within :attr:`shown`.
        """
        height, width = self.array.shape[1:]
        across, down = self.shown
        return _nodes(self.x, width, self.downsample, across), _nodes(self.y, height, self.downsample, down)


def _nodes(start: float, count: int, step: float, length: float) -> Array:
    edges = np.minimum(np.arange(count + 1) * step, length)
    return start + np.concatenate([edges[:1], (edges[:-1] + edges[1:]) / 2, edges[-1:]])
