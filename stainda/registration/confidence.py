"""How sure it is that a propagated object lies where it should: an estimate from what is known around it.

The confidence is the product of five factors between 0 and 1. Each is a plain reading of one measurement; together they
order objects from sure to doubtful. They are not probabilities yet: calibration against known truth comes later.

- *structure*: do the two sections show the same structure around the object? The mean agreement of gradient directions
  (``similarity.py``) in a window twice as wide as the object, in standard deviations above what shifted images give at
  the same place; the logistic function of it around 1.
- *deformation*: ``exp(-|ln a|)`` of the local area change ``a`` relative to the whole section's: a strong local
  stretching is seldom true.
- *round trip*: ``exp(-d / r)``, with ``d`` the forward-backward distance and ``r`` a tenth of the object's diameter.
- *tissue*: the share of the object on tissue of the target.
- *distance*: 0.98 for each section between the two: a glomerulus of 150 µm ends after some fifty sections of 3 µm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from stainda.registration.sections import SectionImage
from stainda.registration.similarity import FrameView, agreement_maps, compared_area
from stainda.registration.transforms import Between

PER_SECTION = 0.98
WINDOW = 2.0  # width of the window of comparison, in widths of the object
MIN_WINDOW = 16  # view pixels, so that a point and a small object have surroundings too
CHANCE_FLOOR = 0.02  # least standard deviation of chance, so that a flat neighbourhood proves nothing


@dataclass(frozen=True, eq=False)
class LocalEvidence:
    """Summed tables of the agreement of two sections on the target's view; asked for boxes on the target."""

    tables: np.ndarray
    counts: np.ndarray
    to_view: np.ndarray
    downsample: float

    @classmethod
    def of(cls, source: SectionImage, target: SectionImage, between: Between) -> LocalEvidence:
        view = FrameView.of(target)
        brought = view.bring(source, between)
        where = compared_area(view, brought)
        maps = agreement_maps(view.density, brought.density, where)
        origin = view.points[0]
        return cls(_integral(maps), _integral(where[None].astype(np.float64))[0], origin, view.downsample)

    def above_chance(self, boxes: np.ndarray) -> np.ndarray:
        """Agreement around each box (n, 4: x0, y0, x1, y1 in level-0 pixels of the target), in standard deviations of
        chance (n,); 0 where there is nothing to compare."""
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2
        half = np.maximum((boxes[:, 2:] - boxes[:, :2]) / 2 * WINDOW, MIN_WINDOW / 2 * self.downsample)
        height, width = self.counts.shape[0] - 1, self.counts.shape[1] - 1
        low = np.floor((centre - half - self.to_view) / self.downsample).astype(int)
        high = np.ceil((centre + half - self.to_view) / self.downsample).astype(int)
        x0, x1 = np.clip(low[:, 0], 0, width), np.clip(high[:, 0], 0, width)
        y0, y1 = np.clip(low[:, 1], 0, height), np.clip(high[:, 1], 0, height)
        counts = self.counts[y1, x1] - self.counts[y0, x1] - self.counts[y1, x0] + self.counts[y0, x0]
        sums = self.tables[:, y1, x1] - self.tables[:, y0, x1] - self.tables[:, y1, x0] + self.tables[:, y0, x0]
        means = sums / np.maximum(counts, 1)
        chance = means[1:]
        above = (means[0] - chance.mean(axis=0)) / np.maximum(chance.std(axis=0), CHANCE_FLOOR)
        return np.where(counts > 0, above, 0.0)


def confidences(
    above_chance: np.ndarray,
    area_change: np.ndarray,
    round_trip: np.ndarray,
    diameter: np.ndarray,
    tissue: np.ndarray,
    sections_apart: int,
) -> np.ndarray:
    """The product of the five factors, (n,) between 0 and 1.

    Args:
        above_chance: of :meth:`LocalEvidence.above_chance`.
        area_change: local area change relative to the section's; 0 or less is a fold and gives confidence 0.
        round_trip, diameter: level-0 pixels of the source. tissue: 0..1.
        sections_apart: 1 for neighbours.
    """
    structure = expit(above_chance - 1)
    stretch = np.where(area_change > 0, np.abs(np.log(np.maximum(area_change, 1e-9))), np.inf)
    trip = np.exp(-round_trip / np.maximum(0.1 * diameter, 1.0))
    return structure * np.exp(-stretch) * trip * np.clip(tissue, 0, 1) * PER_SECTION ** max(1, sections_apart)


def _integral(maps: np.ndarray) -> np.ndarray:
    """Summed-area tables (k, h + 1, w + 1) of maps (k, h, w)."""
    return np.pad(maps.astype(np.float64).cumsum(axis=1).cumsum(axis=2), ((0, 0), (1, 0), (1, 0)))
