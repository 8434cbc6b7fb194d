"""Augment parts: random changes of training patches (the changes themselves are those of ``stainda.stains``)."""

from stainda.strategies.augment import base, colour, fourier, geometry, image_quality, mixstyle, randstainna

__all__ = ["base", "colour", "fourier", "geometry", "image_quality", "mixstyle", "randstainna"]
