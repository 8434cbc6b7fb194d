"""Scores of one slide, CPU seconds, and its pixel scores beside scikit-learn's and scipy's.

    python benchmarks/speed_scoring.py

A map of 2048 x 2048 pixels with about 150 objects, a tenth of them missed and as many false: every pixel, probability,
outline and object measure of a slide. scikit-learn sorts all pixels for the area under the ROC curve and the average
precision, where stainda counts them by probability.
"""

from __future__ import annotations

import cProfile
import pstats
from dataclasses import dataclass

import numpy as np
import shapely
from side_by_side import arguments, cpu_seconds, measured, ratio, show, take_turns

SIDE = 2048


@dataclass(frozen=True)
class Slide:
    """Probabilities float32 (1, h, w), labels uint8 (h, w), and the shapes of both."""

    probabilities: np.ndarray
    truth: np.ndarray
    found: object
    there: object


def main() -> None:
    parser = arguments(__doc__, rounds=3)
    parser.add_argument("--profile", action="store_true", help="print where the time goes, and end")
    given = parser.parse_args()
    from sklearn.metrics import average_precision_score, roc_auc_score

    from stainda.evaluation import score_slide
    from stainda.evaluation.curves import ProbabilityCounts

    slide = _slide()

    def everything() -> list:
        return score_slide(
            slide.probabilities, slide.truth, ["glomerulus"], slide.found, slide.there, um_per_px=2.0, threshold=0.5,
        )  # fmt: skip

    if given.profile:
        profile = cProfile.Profile()
        profile.runcall(everything)
        pstats.Stats(profile).sort_stats("cumulative").print_stats(25)
        return
    values = []
    for _ in range(given.rounds + 1):
        begun = cpu_seconds()
        everything()
        values.append(cpu_seconds() - begun)
    pixels, positive = slide.probabilities[0].ravel(), slide.truth.ravel() == 1

    def ours(number: int) -> float:
        counts = ProbabilityCounts.of(pixels, positive)
        assert 0 <= counts.auroc <= 1 and 0 <= counts.average_precision <= 1
        return 1.0

    def theirs(number: int) -> float:
        roc_auc_score(positive, pixels)
        average_precision_score(positive, pixels)
        return 1.0

    rates = take_turns({"stainda": ours, "scikit-learn": theirs}, given.rounds)
    lines = [
        measured(f"scoring a slide, {SIDE} px, 150 objects", "all measures", values[1:], "CPU s"),
        ratio("AUROC and AUPRC of a slide", rates, "stainda", "scikit-learn", unit="slides/CPU s"),
    ]
    show(lines, given, "scikit-learn", "shapely", "scipy")


def _slide() -> Slide:
    from stainda.annotations import make_shapes

    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    truth, shares = np.zeros((SIDE, SIDE), np.uint8), rng.beta(1, 12, (SIDE, SIDE)).astype(np.float32)
    there, found = [], []
    for cx, cy in rng.uniform(60, SIDE - 60, (165, 2)):
        radius, kind = rng.uniform(18, 40), rng.random()
        box = np.s_[int(cy - 60) : int(cy + 60), int(cx - 60) : int(cx + 60)]
        if kind > 0.1:
            truth[box][(x[box] - cx) ** 2 + (y[box] - cy) ** 2 < radius**2] = 1
            there.append(shapely.Point(cx, cy).buffer(radius))
        if kind < 0.9:
            moved = (cx + rng.normal(0, 3), cy + rng.normal(0, 3))
            inside = (x[box] - moved[0]) ** 2 + (y[box] - moved[1]) ** 2 < radius**2
            shares[box][inside] = rng.beta(8, 2, int(inside.sum()))
            found.append(shapely.Point(*moved).buffer(radius))
    known = make_shapes(found, "glomerulus", score=rng.uniform(0.5, 1, len(found)).tolist())
    return Slide(shares[None], truth, known, make_shapes(there, "glomerulus"))


if __name__ == "__main__":
    main()
