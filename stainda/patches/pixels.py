"""Pixels of a slide at the working scale, and samples of its tissue."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stainda.config import PatchConfig
from stainda.config.slide_level import SlidePatchesConfig
from stainda.randomness import generator_for
from stainda.slides import Slide, TissueMask

TISSUE_PIXELS = 4096
_WHOLE = 16_000_000  # a slide of fewer working pixels is read once, in one piece
_SPOT = 32  # side of the spots that tissue is sampled from on larger slides
_SPOTS = 64


def working_downsample(slide: Slide, config: PatchConfig | SlidePatchesConfig, name: str) -> float:
    """Level-0 pixels per pixel the network sees.

    Raises:
        SlideError: the configuration asks for micrometres per pixel and the slide's are not known.
    """
    if config.downsample is not None:
        return float(config.downsample)
    assert config.mpp is not None
    return config.mpp / slide.require_mpp(f"to cut patches of {config.mpp:g} µm per pixel from slide {name}")


class WorkingPixels:
    """Squares of a slide at one scale; a slide that fits into memory at that scale is read once.

    Args:
        slide: open slide.
        downsample: level-0 pixels per working pixel.
    """

    def __init__(self, slide: Slide, downsample: float) -> None:
        self._slide, self._downsample = slide, downsample
        width, height = (max(1, int(np.ceil(side / downsample - 1e-6))) for side in slide.size)
        self._image = slide.read_scaled(0, 0, width, height, downsample) if width * height <= _WHOLE else None

    def square(self, x: float, y: float, size: int) -> NDArray[np.uint8]:
        """uint8 (size, size, 3) from the level-0 point (x, y), a whole number of working pixels; white outside."""
        if self._image is None:
            return self._slide.read_scaled(x, y, size, size, self._downsample)
        column, row = round(x / self._downsample), round(y / self._downsample)
        part = self._image[max(row, 0) : max(row + size, 0), max(column, 0) : max(column + size, 0)]
        if part.shape[:2] == (size, size):
            return part
        out = np.full((size, size, 3), 255, np.uint8)
        top, left = max(-row, 0), max(-column, 0)
        out[top : top + part.shape[0], left : left + part.shape[1]] = part
        return out


def sample_tissue_pixels(
    slide: Slide, tissue: TissueMask, downsample: float, name: str, seed: int = 0, pixels: WorkingPixels | None = None
) -> NDArray[np.uint8]:
    """Colours of a slide's tissue at the working scale: uint8 (n <= 4096, 3), drawn from all over it.

    What colour normalisation is fitted to. Deterministic in the slide's name and the seed. Empty where there is no
    tissue.
    """
    generator = generator_for(seed, "tissue pixels", name)
    rows, columns = np.nonzero(tissue.mask)
    if len(rows) == 0:
        return np.zeros((0, 3), np.uint8)
    pixels = pixels or WorkingPixels(slide, downsample)
    pick = generator.integers(len(rows), size=_SPOTS)
    centres = (np.stack([columns[pick], rows[pick]], 1) + generator.random((_SPOTS, 2))) * tissue.downsample
    offsets = (np.stack(np.meshgrid(np.arange(_SPOT), np.arange(_SPOT)), -1) + 0.5) * downsample
    result = []
    for centre in centres:
        x, y = np.round((centre / downsample) - _SPOT / 2) * downsample
        spot = pixels.square(x, y, _SPOT).reshape(-1, 3)
        result.append(spot[tissue.contains(np.add(offsets, (x, y)).reshape(-1, 2))])
    colours = np.concatenate(result)
    order = generator.permutation(len(colours))[:TISSUE_PIXELS]
    return np.ascontiguousarray(colours[np.sort(order)])
