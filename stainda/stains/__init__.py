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
    from stainda.stains.colour import density_tensor, greyscale, lab_from_rgb, rgb_from_lab, separate_tensor
    from stainda.stains.compression import JpegLoss
    from stainda.stains.deconvolution import HED_MATRIX, combine, completed, intensity, optical_density, separate
    from stainda.stains.elastic import Elastic
    from stainda.stains.fits import MacenkoFit, ReinhardStatistics
    from stainda.stains.histograms import HistogramFit
    from stainda.stains.normalisation import ColourNormaliser
    from stainda.stains.spectra import FourierMix
    from stainda.stains.table import DYES, STAINS, stain
    from stainda.stains.vahadane import VahadaneFit
    from stainda.stains.virtual_templates import RandStainNA, TemplateStatistics

_HOMES = {
    "augmentation": (
        "Augmentation", "BlurNoise", "ChannelShuffle", "ColourJitter", "Geometry", "HedJitter", "Sequential",
    ),
    "colour": ("density_tensor", "greyscale", "lab_from_rgb", "rgb_from_lab", "separate_tensor"),
    "compression": ("JpegLoss",),
    "deconvolution": ("HED_MATRIX", "combine", "completed", "intensity", "optical_density", "separate"),
    "elastic": ("Elastic",),
    "fits": ("MacenkoFit", "ReinhardStatistics"),
    "histograms": ("HistogramFit",),
    "normalisation": ("ColourNormaliser",),
    "spectra": ("FourierMix",),
    "table": ("DYES", "STAINS", "stain"),
    "vahadane": ("VahadaneFit",),
    "virtual_templates": ("RandStainNA", "TemplateStatistics"),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Augmentation", "BlurNoise", "ChannelShuffle", "ColourJitter", "ColourNormaliser", "DYES", "Elastic", "FourierMix",
    "Geometry", "HED_MATRIX", "HedJitter", "HistogramFit", "JpegLoss", "MacenkoFit", "RandStainNA",
    "ReinhardStatistics", "STAINS", "Sequential", "TemplateStatistics", "VahadaneFit", "combine", "completed",
    "density_tensor", "greyscale", "intensity", "lab_from_rgb", "optical_density", "rgb_from_lab", "separate",
    "separate_tensor", "stain",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
