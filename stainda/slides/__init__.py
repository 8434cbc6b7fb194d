"""Whole slides: one way to open and read them, and where on them tissue lies."""

from stainda.slides.opening import open_slide
from stainda.slides.slide import Level, Slide
from stainda.slides.tissue import TissueMask, mask_tissue, tissue_mask, without_unscanned

__all__ = ["Level", "Slide", "TissueMask", "mask_tissue", "open_slide", "tissue_mask", "without_unscanned"]
