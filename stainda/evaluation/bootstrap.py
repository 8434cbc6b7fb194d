r"""Patient-clustered bootstrap from stored scores, vectorised.

Patients are drawn with replacement, with everything that belongs to them; slides and pixels of one patient are never
treated as independent. A resample is a row of weights (how often each patient was drawn), so that all means of all
resamples are one matrix product: ``(W @ S) / (W @ defined)`` for weights W (resamples, patients) and scores S
(patients, columns). All columns share the weights, so differences between strategies stay paired.

Intervals
    ``percentile``: the quantiles of the resampled means (Efron 1979). Too narrow for few patients: 95 % of 6 patients
    covers about 88 %.
    ``expanded`` (default): the same quantiles taken further out, at :math:`\Phi(-\sqrt{n/(n-1)}\,t_{\alpha/2,n-1})`,
    which undoes the narrowness of the plain percentile interval for small n (Hesterberg, What Teachers Should Know
    About the Bootstrap, Am. Stat. 2015).
    ``bca``: bias-corrected and accelerated (Efron 1987), acceleration from the jackknife over patients.

Seeds are averaged within a patient before (see ``scores``): an interval says how the score would vary with other
patients, given this many trainings; it does not contain the variation between trainings. ``nested_interval`` draws
slides within the drawn patients too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from stainda.arrays import Array
from stainda.errors import StaindaError

Method = Literal["percentile", "expanded", "bca"]
FEW_PATIENTS = 6
"""Below this many patients no interval of a mean is given, but the range of the patients (``crossed``)."""


@dataclass(frozen=True)
class Intervals:
    """Means of k columns with intervals. Arrays (k,); ``low`` and ``high`` are ``nan`` where ``note`` says why."""

    mean: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    n: npt.NDArray[np.int64]
    notes: tuple[str, ...]


def resampling_weights(
    n: int, resamples: int, generator: np.random.Generator, strata: Sequence[Any] | None = None
) -> npt.NDArray[np.float64]:
    """How often each of n patients is drawn, float (resamples, n); every row sums to n.

    With ``strata`` (n,) patients are drawn within each stratum, whose size then stays what it is.
    """
    if strata is None:
        return generator.multinomial(n, np.full(n, 1 / n), size=resamples).astype(float)
    names = np.asarray(strata)
    weights = np.zeros((resamples, n))
    for name in dict.fromkeys(names.tolist()):
        inside = np.flatnonzero(names == name)
        weights[:, inside] = resampling_weights(len(inside), resamples, generator)
    return weights


def weighted_means(scores: Array, weights: Array) -> npt.NDArray[np.float64]:
    """Means of the defined scores (n, k) under weights (r, n): float (r, k), ``nan`` where none was drawn."""
    defined = np.isfinite(scores)
    if defined.all():
        return (weights @ scores) / weights.sum(axis=1, keepdims=True)
    total, count = weights @ np.where(defined, scores, 0.0), weights @ defined.astype(float)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def intervals(
    scores: Array,
    generator: np.random.Generator,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    method: Method = "expanded",
    strata: Sequence[Any] | None = None,
) -> Intervals:
    """Bootstrap intervals of the mean over patients, of every column.

    Args:
        scores: float (n_patients, k); ``nan`` where a patient has no score.
        strata: see :func:`resampling_weights`.

    Returns:
        ``n`` counts the patients with a score. With fewer than two there is no interval, and the note says so.
    """
    scores = np.atleast_2d(np.asarray(scores, float))
    n = np.isfinite(scores).sum(axis=0)
    mean = weighted_means(scores, np.ones((1, len(scores))))[0] if len(scores) else np.full(scores.shape[1], np.nan)
    low, high = np.full(scores.shape[1], np.nan), np.full(scores.shape[1], np.nan)
    # Columns that are defined for the same patients share their resamples, and a patient without a score is not drawn.
    patterns: dict[bytes, list[int]] = {}
    defined = np.isfinite(scores)
    for column in range(scores.shape[1]):
        patterns.setdefault(defined[:, column].tobytes(), []).append(column)
    seed = int(generator.integers(2**63))
    for columns in patterns.values():
        rows = defined[:, columns[0]]
        if rows.sum() < 2:
            continue
        inside = scores[rows][:, columns]
        groups = None if strata is None else np.asarray(strata)[rows]
        weights = resampling_weights(len(inside), resamples, np.random.default_rng(seed), groups)
        low[columns], high[columns] = quantile_interval(weighted_means(inside, weights), inside, level, method)
    notes = tuple(sample_note(int(count)) for count in n)
    return Intervals(mean, low, high, n.astype(np.int64), notes)


def sample_note(n: int) -> str:
    """What a number of patients forbids to say."""
    if n == 0:
        return "no patient with a score"
    if n == 1:
        return "one patient: no interval"
    return f"only {n} patients: the interval is too narrow" if n < FEW_PATIENTS else ""


def quantile_interval(resampled: Array, scores: Array, level: float, method: Method) -> tuple[Array, Array]:
    """Interval ends (k,) from resampled means (r, k) of ``scores`` (n, k)."""
    n = len(scores)
    tail = (1 - level) / 2
    if method == "expanded":
        tail = float(special.ndtr(-np.sqrt(n / (n - 1)) * special.stdtrit(n - 1, 1 - tail)))
    if method in ("percentile", "expanded"):
        low, high = np.quantile(resampled, [tail, 1 - tail], axis=0)
        return low, high
    if method != "bca":
        raise StaindaError(f"unknown interval {method!r}", remedy="Known: percentile, expanded, bca")
    below, above = _bca_levels(resampled, scores, tail)
    ordered = np.sort(resampled, axis=0)
    return _column_quantiles(ordered, below), _column_quantiles(ordered, above)


def percentile_interval(resampled: Array, level: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Ends (k,) of the plain percentile interval of resampled values (r, k); what is ``nan`` is left out.

    Both ends are ``nan`` where a column has no value at all.
    """
    tail = (1 - level) / 2
    defined = np.isfinite(resampled).any(axis=0)
    ends = np.full((2, resampled.shape[1]), np.nan)
    ends[:, defined] = np.nanquantile(resampled[:, defined], [tail, 1 - tail], axis=0)
    return ends[0], ends[1]


def _bca_levels(resampled: Array, scores: Array, tail: float) -> tuple[Array, Array]:
    estimate = scores.mean(axis=0)
    # half of the ties, as scipy does: a constant column has no bias
    share = ((resampled < estimate).sum(axis=0) + 0.5 * (resampled == estimate).sum(axis=0)) / len(resampled)
    bias = special.ndtri(np.clip(share, 0.5 / len(resampled), 1 - 0.5 / len(resampled)))
    jackknife = (scores.sum(axis=0) - scores) / (len(scores) - 1)
    gap = jackknife.mean(axis=0) - jackknife
    spread = (gap**2).sum(axis=0)
    acceleration = np.divide((gap**3).sum(axis=0), 6 * spread**1.5, out=np.zeros_like(spread), where=spread > 0)
    ends = []
    for z in (special.ndtri(tail), special.ndtri(1 - tail)):
        ends.append(special.ndtr(bias + (bias + z) / (1 - acceleration * (bias + z))))
    return ends[0], ends[1]


def _column_quantiles(ordered: Array, levels: Array) -> npt.NDArray[np.float64]:
    """Quantile of each sorted column (r, k) at its own level (k,), interpolated linearly as numpy does."""
    place = levels * (len(ordered) - 1)
    lower = np.floor(place).astype(int)
    upper = np.minimum(lower + 1, len(ordered) - 1)
    columns = np.arange(ordered.shape[1])
    return ordered[lower, columns] + (place - lower) * (ordered[upper, columns] - ordered[lower, columns])


def nested_interval(
    counts: Sequence[Array],
    formula: Any,
    generator: np.random.Generator,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    method: Literal["percentile", "expanded"] = "expanded",
) -> tuple[float, float, float]:
    """Mean and interval when patients have several slides: patients are drawn, then slides within every drawn patient.

    Args:
        counts: per patient, float (n_slides, 3): tp, fp, fn of each slide.
        formula: a measure of counts (``metrics.dice``).

    Returns:
        Mean over patients of the formula of their summed counts, and the ends (``nan`` for one patient).
    """
    n = len(counts)
    point = np.array([float(formula(*np.sum(slides, axis=0))) for slides in counts])
    mean = float(np.mean(point[np.isfinite(point)])) if np.isfinite(point).any() else float("nan")
    if n < 2:
        return mean, float("nan"), float("nan")
    n_slides = np.array([len(slides) for slides in counts])
    table = np.zeros((n, n_slides.max(), 3))
    for index, patient_slides in enumerate(counts):
        table[index, : len(patient_slides)] = patient_slides
    drawn = generator.integers(n, size=(resamples, n))
    # every occurrence of a patient draws its own slides
    slides = np.floor(generator.random((resamples, n, table.shape[1])) * n_slides[drawn][..., None]).astype(int)
    used = np.arange(table.shape[1]) < n_slides[drawn][..., None]
    sums = np.einsum("rpsc,rps->rpc", table[drawn[..., None], slides], used.astype(float))
    values = np.asarray(formula(sums[..., 0], sums[..., 1], sums[..., 2]))
    defined = np.isfinite(values)
    total, count = np.where(defined, values, 0).sum(axis=1), defined.sum(axis=1)
    means = (total[count > 0] / count[count > 0])[:, None]
    low, high = quantile_interval(means, point[:, None], level, method)
    return mean, float(low[0]), float(high[0])
