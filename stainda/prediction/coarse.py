"""Coarse to fine: a first detector at a low magnification says where a second one is to look.

Gecer et al. 2018, *Detection and classification of cancer in whole slide breast histopathology images using deep
convolutional networks* (doi 10.1016/j.patcog.2018.07.022), find salient regions at low magnifications first. Here the
first detector is any trained job at its own scale.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stainda.arrays import Array
from stainda.prediction.regions import SlideRegion
from stainda.progress import SILENT, Progress

if TYPE_CHECKING:
    from stainda.prediction.predictor import Predictor
    from stainda.slides import Slide, TissueMask


class SalientRegion(SlideRegion):
    """A whole slide of which the network is shown salient tissue alone; colours and statistics come from all tissue.

    Attributes:
        salient: where to look.
    """

    def __init__(self, slide: Slide, tissue: TissueMask, downsample: float, salient: TissueMask, note: str) -> None:
        super().__init__(slide, tissue, downsample)
        self.salient, self.note = salient, note

    def seen_share(self, boxes: Array) -> Array:
        of_tissue = self.tissue_share(boxes)
        return np.where(of_tissue > 0, self.salient.share(np.asarray(boxes) * self.downsample), 0.0)


@dataclass(frozen=True)
class CoarseDetector:
    """The first of two detectors.

    Attributes:
        predictor: a trained job, of a lower magnification than the second as a rule.
        share: a place is salient where the probability of any class reaches this share of the class's threshold. Less
            shows the second detector more.
    """

    predictor: Predictor
    share: float = 0.3

    def region(
        self, fine: Predictor, slide: Slide, domain: str | None, name: str, progress: Progress = SILENT
    ) -> SlideRegion:
        """The slide at the scale of the second detector, with what the first one found salient.

        Salient places are widened by half a patch of the second detector. A slide without tissue has nothing to show.

        Raises:
            SlideError: no pixel size where one is needed.
        """
        from stainda.slides import TissueMask, tissue_mask

        started = time.perf_counter()
        tissue, downsample = tissue_mask(slide), fine.downsample_of(slide.mpp, slide.path)
        if not tissue.mask.any():
            return SlideRegion(slide, tissue, downsample)
        coarse = self.predictor.probabilities_region(
            self.predictor.region(slide), domain, name, slide.mpp, progress
        )  # fmt: skip
        limits = np.asarray(self.predictor.threshold)[:, None, None] * self.share
        reach = fine.patches.size * downsample / 2 / coarse.downsample
        salient = TissueMask(widened((coarse.array >= limits).any(axis=0), reach), coarse.downsample, slide.size)
        looked = share_of_tissue(tissue, salient)
        seconds = time.perf_counter() - started
        note = (
            f"looked at {100 * looked:.0f} % of the tissue, where the coarse detector ({self.predictor.name}, "
            f"{seconds:.1f} s) reached {self.share:g} of its threshold"
        )
        return SalientRegion(slide, tissue, downsample, salient, note)


def widened(mask: Array, reach: float) -> Array:
    """A mask and all pixels at most ``reach`` pixels from it, bool ``(h, w)``."""
    from scipy.ndimage import distance_transform_edt

    if not mask.any():
        return mask
    return np.asarray(distance_transform_edt(~mask) <= math.ceil(reach))


def share_of_tissue(tissue: TissueMask, salient: TissueMask) -> float:
    """How much of the tissue is salient, 0 to 1, by the middles of the tissue's pixels."""
    rows, columns = np.nonzero(tissue.mask)
    middles = (np.stack([columns, rows], 1) + 0.5) * tissue.downsample
    return float(salient.contains(middles).mean()) if len(middles) else 0.0
