"""Colour: the table of stains, optical density and deconvolution, normalisation, augmentation.

Importing this package imports neither torch nor anything heavy; the first use of a name imports its module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stainda.stains.augmentation import (
        Augmentation,
        BlurNoise,
        ChannelShuffle,
        ColourJitter,
        Geometry,
        HedJitter,
        Sequential,
    )
    from stainda.stains.colour import greyscale, lab_from_rgb, rgb_from_lab, separate_tensor
    from stainda.stains.deconvolution import HED_MATRIX, combine, completed, intensity, optical_density, separate
    from stainda.stains.normalisation import ColourNormaliser, MacenkoFit, ReinhardStatistics
    from stainda.stains.table import DYES, STAINS, stain

_HOMES = {
    "augmentation": (
        "Augmentation", "BlurNoise", "ChannelShuffle", "ColourJitter", "Geometry", "HedJitter", "Sequential",
    ),
    "colour": ("greyscale", "lab_from_rgb", "rgb_from_lab", "separate_tensor"),
    "deconvolution": ("HED_MATRIX", "combine", "completed", "intensity", "optical_density", "separate"),
    "normalisation": ("ColourNormaliser", "MacenkoFit", "ReinhardStatistics"),
    "table": ("DYES", "STAINS", "stain"),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Augmentation", "BlurNoise", "ChannelShuffle", "ColourJitter", "ColourNormaliser", "DYES", "Geometry",
    "HED_MATRIX", "HedJitter", "MacenkoFit", "ReinhardStatistics", "STAINS", "Sequential", "combine", "completed",
    "greyscale", "intensity", "lab_from_rgb", "optical_density", "rgb_from_lab", "separate", "separate_tensor", "stain",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
