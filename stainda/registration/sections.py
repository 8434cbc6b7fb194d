"""Sections of a block for registration: opened, checked, and reduced to a working image.

VALIS replaces a file it cannot read by the one it read before, and "registers" blank glass (facts measured on
valis-wsi 1.2.0). So every section is opened and judged here first; only working images go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from stainda.arrays import Array
from stainda.cohort.types import Section
from stainda.errors import StaindaError
from stainda.registration import gates
from stainda.slides import TissueMask, open_slide, tissue_mask, without_unscanned

# Working image and non-rigid step, times the rigid step's size: on rat_kidney 768 px give the same landmark error as
# 1024 (4.96 and 4.95 px on average) in half the time.
WORKING = 1.5
MARGIN = 0.04  # of the tissue's box, added on every side, so that the outline of the tissue is inside the image


@dataclass(frozen=True, eq=False)
class SectionImage:
    """One section at working scale.

    Attributes:
        pixels: uint8 RGB (h, w, 3).
        tissue: bool (h, w), where there is tissue.
        matrix: float64 (3, 3), level-0 pixels (the first pixel reaches from 0 to 1) -> indices of working pixels (the
            centre of the first is 0), ``mirrored`` included.
        size: (width, height) of the slide, level-0 pixels.
        mpp: micrometres per level-0 pixel, where known.
        mirrored: the working image is the slide turned over (left and right exchanged).
    """

    slide: str
    pixels: Array
    tissue: Array
    matrix: Array
    size: tuple[int, int]
    mpp: float | None
    mirrored: bool = False

    @property
    def downsample(self) -> float:
        """Level-0 pixels per working pixel."""
        return float(1 / np.sqrt(abs(np.linalg.det(self.matrix[:2, :2]))))

    def turned_over(self) -> SectionImage:
        """The same section mirrored left to right."""
        width = self.pixels.shape[1]
        flip = np.array([[-1.0, 0, width - 1], [0, 1, 0], [0, 0, 1]])
        return SectionImage(
            self.slide,
            np.ascontiguousarray(self.pixels[:, ::-1]),
            np.ascontiguousarray(self.tissue[:, ::-1]),
            flip @ self.matrix,
            self.size,
            self.mpp,
            not self.mirrored,
        )

    def laid_on(self, other: SectionImage, matrix: Array) -> SectionImage:
        """The section resampled onto the working image of another one; ``matrix`` (3, 3) takes its working pixels
        there. What falls outside is lost, what is not covered is white."""
        shape = other.pixels.shape[:2]
        y, x = np.mgrid[: shape[0], : shape[1]]
        back = np.linalg.inv(matrix)
        where = [back[i, 0] * x + back[i, 1] * y + back[i, 2] for i in (1, 0)]
        layers = [ndimage.map_coordinates(part, where, order=1, cval=255) for part in self.pixels.transpose(2, 0, 1)]
        tissue = ndimage.map_coordinates(self.tissue.astype(np.uint8), where, order=0, cval=0) > 0
        return SectionImage(
            self.slide, np.stack(layers, axis=2), tissue, matrix @ self.matrix, self.size, self.mpp, self.mirrored
        )


@dataclass(frozen=True)
class Refusal:
    """A section that cannot take part, and why."""

    slide: str
    reason: str


def open_section(slide: str, path: str | Path, mpp: float | None, max_dim: int) -> SectionImage | Refusal:
    """Open a slide and reduce it to a working image of at most ``max_dim`` pixels around its tissue.

    A slide that cannot be opened, is blank or shows too little tissue is a :class:`Refusal` with the reason.
    """
    try:
        with open_slide(path, mpp) as handle:
            tissue_found = tissue_mask(handle)
            reason = gates.refuse_blank(tissue_found.mask, handle.thumbnail(256)[0])
            if reason:
                return Refusal(slide, reason)
            x, y, width, height = _working_box(tissue_found, handle.size)
            downsample = max(1.0, max(width, height) / max_dim)
            columns, rows = max(1, int(width / downsample)), max(1, int(height / downsample))
            pixels = without_unscanned(handle.read_scaled(x, y, columns, rows, downsample))
            matrix = np.diag([1 / downsample, 1 / downsample, 1.0])
            matrix[:2, 2] = -x / downsample - 0.5, -y / downsample - 0.5  # the centre of pixel 0 is at 0.5
            tissue = _mask_on(tissue_found, matrix, pixels.shape[:2])
            return SectionImage(slide, pixels, tissue, matrix, handle.size, handle.mpp)
    except StaindaError as error:
        return Refusal(slide, f"cannot be opened: {error.message}")


def working_dim(max_dim: int, nonrigid_dim: int | None = None) -> int:
    """Longest side of a working image for a rigid step at ``max_dim`` and a non-rigid one at ``nonrigid_dim``."""
    return max(max_dim, nonrigid_dim or int(WORKING * max_dim))


def rigid_downsample(image: SectionImage, max_dim: int) -> float:
    """Level-0 pixels per pixel of the image the rigid step works on."""
    return image.downsample * max(1.0, max(image.pixels.shape[:2]) / max_dim)


def open_sections(sections: tuple[Section, ...], max_dim: int) -> dict[str, SectionImage | Refusal]:
    """Every section of a block by its name, in order."""
    return {row.slide: open_section(row.slide, row.path, row.mpp, max_dim) for row in sections}


def _working_box(tissue: TissueMask, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """(x, y, width, height) in level-0 pixels: the tissue's box with a margin where that is less than half the slide,
    else all of the slide."""
    rows, columns = np.nonzero(tissue.mask.any(1))[0], np.nonzero(tissue.mask.any(0))[0]
    x0, x1 = columns[0] * tissue.downsample, (columns[-1] + 1) * tissue.downsample
    y0, y1 = rows[0] * tissue.downsample, (rows[-1] + 1) * tissue.downsample
    dx, dy = MARGIN * (x1 - x0), MARGIN * (y1 - y0)
    x0, y0 = max(0.0, np.floor(x0 - dx)), max(0.0, np.floor(y0 - dy))
    x1, y1 = min(float(size[0]), np.ceil(x1 + dx)), min(float(size[1]), np.ceil(y1 + dy))
    if (x1 - x0) * (y1 - y0) > 0.5 * size[0] * size[1]:
        return 0.0, 0.0, float(size[0]), float(size[1])
    return x0, y0, x1 - x0, y1 - y0


def _mask_on(tissue: TissueMask, matrix: Array, shape: tuple[int, ...]) -> Array:
    """The tissue mask sampled at the pixels of a working image."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    back = np.linalg.inv(matrix)
    x = (columns * back[0, 0] + back[0, 2]) / tissue.downsample
    y = (rows * back[1, 1] + back[1, 2]) / tissue.downsample
    height, width = tissue.mask.shape
    return tissue.mask[np.clip(y.astype(int), 0, height - 1), np.clip(x.astype(int), 0, width - 1)]


def section_from_job(row: dict[str, Any]) -> Section:
    """A manifest row as it crosses to the worker process: plain JSON values."""
    paths = {key: Path(row[key]) if row[key] else None for key in ("annotations", "landmarks")}
    return Section(**{**row, **paths, "path": Path(row["path"])})
