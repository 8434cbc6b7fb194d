"""A slide as a bag: patches on a grid over its tissue, and the vector that a frozen encoder gives for each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stainda.arrays import Array
from stainda.cohort import Section
from stainda.config.slide_level import SlideLevelConfig
from stainda.files import fingerprint, stable_hash
from stainda.patches.pixels import WorkingPixels, sample_tissue_pixels, working_downsample
from stainda.patches.planning import PatchSite, on_grid
from stainda.randomness import generator_for
from stainda.slides import Slide, TissueMask, open_slide, tissue_mask
from stainda.training.feature_cache import CachedView, FeatureCache, open_cache
from stainda.training.frozen_encoder import FrozenEncoder

ENCODER_SEED = 1
"""Of the weights of an encoder that no file gives: the same in every rotation, so that they share features."""


@dataclass(frozen=True, eq=False)
class Bag:
    """The patches of one slide.

    Attributes:
        corners: (n, 2) upper left corners, level-0 pixels. extent: of a patch, and step: from one to the next, level-0
            pixels. mpp: of level 0, where it is known. key: of the features.
    """

    slide: str
    domain: str
    corners: Array
    extent: float
    step: float
    size: tuple[int, int]
    mpp: float | None
    key: str
    cache: FeatureCache

    def __len__(self) -> int:
        return len(self.corners)

    def features(self, device: torch.device) -> Tensor:
        """float32 (n, d)."""
        rows = np.arange(len(self))
        return self.cache.read(rows, np.zeros_like(rows), device).features[0]


class BagMaker:
    """Makes bags of slides with one encoder.

    Args:
        caches: folder of the caches of features.
        standard: slides whose tissue the images are standardised by, where the encoder's own numbers are not known:
            training slides of the source.
    """

    def __init__(self, config: SlideLevelConfig, caches: Path, standard: Iterable[Section], device: str) -> None:
        self._config, self._caches, self._standard, self._device = config, caches, list(standard), device

    def make(self, section: Section, domain: str) -> Bag | None:
        """The bag of a slide, its features computed where they are not there; ``None`` without a patch on tissue.

        Raises:
            SlideError: the slide cannot be read, or its pixel size is needed and not known.
            TrainingError: the features are larger than ``slide_level.limit_gb``.
        """
        patches = self._config.patches
        with open_slide(section.path, mpp=section.mpp) as slide:
            downsample = working_downsample(slide, patches, section.slide)
            site = PatchSite(tissue_of(slide), patches.size, downsample, (0, 0, *slide.size), patches.min_tissue)
            stride = patches.stride or patches.size
            corners = self._chosen(on_grid(site, stride), section)
            if not len(corners):
                return None
            about: dict[str, Any] = {
                "slide": fingerprint(section.path), "corners": stable_hash(corners.round(3).tolist()),
                "size": patches.size, "downsample": downsample, "encoder": list(self.encoder.about),
            }  # fmt: skip
            draw = _Reader(slide, downsample, corners, patches.size, self.encoder).draw
            cache = open_cache(self._caches, about, np.arange(len(corners)), 1, draw, self._config.limit_gb)
            return Bag(
                section.slide, domain, corners, site.extent, stride * downsample, slide.size, slide.mpp,
                stable_hash(about), cache,
            )  # fmt: skip

    @cached_property
    def encoder(self) -> FrozenEncoder:
        """Built once, for the first slide."""
        return FrozenEncoder.build(self._config.encoder, self._colours, ENCODER_SEED, device=self._device)

    def _colours(self) -> Array:
        colours = []
        for section in self._standard:
            with open_slide(section.path, mpp=section.mpp) as slide:
                downsample = working_downsample(slide, self._config.patches, section.slide)
                colours.append(sample_tissue_pixels(slide, tissue_of(slide), downsample, section.slide))
        return np.concatenate(colours)

    def _chosen(self, corners: Array, section: Section) -> Array:
        most = self._config.patches.most
        if most is None or len(corners) <= most:
            return corners
        return corners[np.sort(generator_for(0, "patches of a slide", section.slide).permutation(len(corners))[:most])]


def tissue_of(slide: Slide) -> TissueMask:
    """The tissue of a slide, as patches for training take it."""
    return tissue_mask(slide, 512 if max(slide.size) <= 8192 else 1024)


@dataclass(frozen=True, eq=False)
class _Reader:
    """Reads patches of a slide and has them encoded; pixels are read at the first patch."""

    slide: Slide
    downsample: float
    corners: Array
    size: int
    encoder: FrozenEncoder

    def draw(self, indices: Array, _generator: torch.Generator) -> CachedView:
        images = np.stack([self._pixels.square(float(x), float(y), self.size) for x, y in self.corners[indices]])
        return CachedView([self.encoder.vectors(images)])

    @cached_property
    def _pixels(self) -> WorkingPixels:
        return WorkingPixels(self.slide, self.downsample)


@dataclass(frozen=True, eq=False)
class FeatureScale:
    """Mean and spread of features by domain, float32 (d,); every slide counts the same.

    Attributes:
        fitted: keys of the bags that the scale of each domain comes from, sorted.
    """

    of: dict[str, tuple[Tensor, Tensor]]
    fitted: dict[str, list[str]]

    @classmethod
    def fit(cls, bags: Iterable[Bag], domains: Iterable[str], *, each: bool) -> FeatureScale:
        """Of bags of training patients: one scale for all domains, or ``each`` domain's own."""
        cpu, by_domain = torch.device("cpu"), dict[str, list[Bag]]()
        for bag in bags:
            by_domain.setdefault(bag.domain if each else "", []).append(bag)
        fitted = {}
        for name, members in by_domain.items():
            moments = [
                (features.mean(0), features.square().mean(0)) for bag in members for features in [bag.features(cpu)]
            ]
            mean, square = (torch.stack(parts).mean(0) for parts in zip(*moments, strict=True))
            fitted[name] = mean, (square - mean.square()).clamp(min=0).sqrt().clamp(min=1e-6)
        of = {domain: domain if each else "" for domain in domains}
        return cls(
            {domain: fitted[name] for domain, name in of.items()},
            {domain: sorted(bag.key for bag in by_domain[name]) for domain, name in of.items()},
        )

    def apply(self, bag: Bag, device: torch.device) -> Tensor:
        mean, spread = (values.to(device) for values in self.of[bag.domain])
        return (bag.features(device) - mean) / spread
