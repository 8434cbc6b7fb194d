"""Histogram matching: red, green and blue of a slide's tissue given the template's distributions.

``level -> Q_template(F_slide(level))`` per channel, F the share of tissue pixels up to a level and Q its inverse,
linear between levels (Gonzalez & Woods, Digital Image Processing, 3.3.2; as ``skimage.exposure.match_histograms``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from stainda.stains.fits import FEWEST_PIXELS, checked


@dataclass(frozen=True)
class HistogramFit:
    """How many tissue pixels have each level: ``counts`` is (3, 256). ``fallback`` says why it cannot be used."""

    counts: tuple[tuple[int, ...], ...]
    n_pixels: int
    fallback: str = ""

    @classmethod
    def fit(cls, pixels: NDArray[np.uint8]) -> HistogramFit:
        """Fit to tissue pixels, uint8 (n, 3)."""
        pixels = checked(pixels)
        counts = tuple(tuple(np.bincount(channel, minlength=256).tolist()) for channel in pixels.T)
        reason = ""
        if len(pixels) < FEWEST_PIXELS:
            reason = f"{len(pixels)} tissue pixels, at least {FEWEST_PIXELS} are needed"
        elif all(max(channel) == len(pixels) for channel in counts):
            reason = "tissue of a single colour"
        return cls(counts, len(pixels), reason)


def level_map(fit: HistogramFit, template: HistogramFit) -> NDArray[np.float64]:
    """What each level 0..255 of each channel becomes, (3, 256).

    Levels that no tissue pixel has are interpolated between those that have one, and towards black and white at the
    ends: glass, which no fit has seen, stays white.
    """
    out = np.empty((3, 256))
    for channel, (own, aim) in enumerate(zip(fit.counts, template.counts, strict=True)):
        source, wanted = np.asarray(own), np.asarray(aim)
        at = np.flatnonzero(wanted)
        matched = np.interp(np.cumsum(source) / source.sum(), np.cumsum(wanted[at]) / wanted.sum(), at)
        levels = np.flatnonzero(source)
        values = matched[levels]
        if levels[0] > 0:
            levels, values = np.r_[0, levels], np.r_[0, values]
        if levels[-1] < 255:
            levels, values = np.r_[levels, 255], np.r_[values, 255]
        out[channel] = np.interp(np.arange(256), levels, values)
    return out


def apply_levels(images: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Each channel sent through its map, linear between levels: images [N, 3, H, W] in 0..1, maps [N, 3, 256]."""
    position = (images.clamp(0.0, 1.0) * 255).flatten(2)
    low = position.floor().clamp(max=254).long()
    share = position - low
    values = maps.gather(2, low) * (1 - share) + maps.gather(2, low + 1) * share
    return (values / 255).reshape(images.shape)
