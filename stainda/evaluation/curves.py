"""Probabilities against the truth, independent of a threshold: ROC, precision-recall, calibration.

Pixels are counted in bins of their probability; the curves follow from the counts, exactly as for probabilities rounded
to the bins. Counts of several slides are added, so a curve of a patient or a domain needs no pixel again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stainda.arrays import Array
from stainda.errors import StaindaError

BINS = 1000
"""Bins of the curves: probabilities are distinguished to 0.001."""

CALIBRATION_BINS = 20
"""Bins of the reliability diagram and of the expected calibration error; stored with every job."""


@dataclass(frozen=True)
class ProbabilityCounts:
    """Pixels by probability, arrays (bins,), bin ``i`` covering ``[i / bins, (i + 1) / bins)`` (the last one closed).

    Attributes:
        positive, negative: int64, pixels that are, and are not, of the class.
        total: float64, sum of the probabilities in the bin.
    """

    positive: npt.NDArray[np.int64]
    negative: npt.NDArray[np.int64]
    total: npt.NDArray[np.float64]

    @classmethod
    def of(cls, probabilities: Array, truth: Array, bins: int = BINS) -> ProbabilityCounts:
        """Count pixels.

        Args:
            probabilities: float in 0..1, any shape.
            truth: bool of the same shape; leave ignored pixels out of both.

        Raises:
            StaindaError: shapes differ, or a probability is not in 0..1.
        """
        values, labels = np.asarray(probabilities, float).ravel(), np.asarray(truth, bool).ravel()
        if values.shape != labels.shape:
            raise StaindaError(f"{values.size} probabilities and {labels.size} labels cannot be compared")
        if values.size and not (values.min() >= -1e-6 and values.max() <= 1 + 1e-6):  # a softmax may round to 1.0000001
            raise StaindaError("a probability is not between 0 and 1", remedy="Was softmax or sigmoid applied?")
        values = np.clip(values, 0.0, 1.0)
        # 0.29 * 100 is 28.999999999999996 in floating point; the hair puts it into the bin that starts there
        place = np.minimum((values * bins + 1e-9).astype(np.int64), bins - 1)
        return cls(
            np.bincount(place[labels], minlength=bins).astype(np.int64),
            np.bincount(place[~labels], minlength=bins).astype(np.int64),
            np.bincount(place, values, minlength=bins).astype(np.float64),
        )

    def __add__(self, other: ProbabilityCounts) -> ProbabilityCounts:
        return ProbabilityCounts(
            self.positive + other.positive, self.negative + other.negative, self.total + other.total
        )

    def merged(self, bins: int) -> ProbabilityCounts:
        """The same in fewer bins, of which the present number must be a multiple."""
        return ProbabilityCounts(
            self.positive.reshape(bins, -1).sum(axis=1),
            self.negative.reshape(bins, -1).sum(axis=1),
            self.total.reshape(bins, -1).sum(axis=1),
        )

    @property
    def auroc(self) -> float:
        """Area under the ROC curve: the chance that a pixel of the class is above another, ties counting half."""
        positive, negative = self.positive.sum(), self.negative.sum()
        if positive == 0 or negative == 0:
            return float("nan")
        below = np.cumsum(self.negative) - self.negative
        return float((self.positive * (below + 0.5 * self.negative)).sum() / (positive * negative))

    @property
    def average_precision(self) -> float:
        """Area under the precision-recall curve as a sum of steps, ``Σ (R_k - R_(k-1)) P_k``, without interpolation."""
        if self.positive.sum() == 0:
            return float("nan")
        hits, false = np.cumsum(self.positive[::-1]), np.cumsum(self.negative[::-1])
        result = hits + false
        share = np.divide(hits, result, out=np.zeros(len(result)), where=result > 0)
        return float((self.positive[::-1] * share).sum() / self.positive.sum())

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: mean |share of the class - mean probability| over bins, weighted by their pixels.

        Naeini et al. 2015, for the probability of the class itself, in :data:`CALIBRATION_BINS` bins of equal width.
        """
        counts = self.merged(CALIBRATION_BINS) if len(self.positive) > CALIBRATION_BINS else self
        pixels = counts.positive + counts.negative
        if pixels.sum() == 0:
            return float("nan")
        return float(np.abs(counts.positive - counts.total).sum() / pixels.sum())

    def reliability(self) -> tuple[Array, Array, Array]:
        """Mean probability, share of the class, and number of pixels of each bin; ``nan`` in empty ones."""
        pixels = self.positive + self.negative
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.total / pixels, self.positive / pixels, pixels
