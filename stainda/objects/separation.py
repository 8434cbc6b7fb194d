"""How objects that touch were separated: how many were merged into one, and how many divided into several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely

from stainda.objects.overlap import polygons

MOSTLY = 0.5
"""Share of an object that lies in another from which it belongs to it."""


@dataclass(frozen=True)
class SeparationCounts:
    """Shares of annotated objects, in 0..1; ``nan`` where there are none.

    Attributes:
        merged: those of which more than half lies in a detection that holds more than half of another one, too.
        divided: those in which more than half of two or more detections lies.
    """

    merged: float
    divided: float


def separation_counts(truth: Any, predicted: Any) -> SeparationCounts:
    """Merged and divided objects of one class.

    Args:
        truth, predicted: shapes or polygons, level-0 pixels.
    """
    annotated, detected = polygons(truth), polygons(predicted)
    if not len(annotated):
        return SeparationCounts(float("nan"), float("nan"))
    rows, columns = shapely.STRtree(detected).query(annotated, predicate="intersects") if len(detected) else ([], [])
    rows, columns = np.asarray(rows, int), np.asarray(columns, int)
    common = shapely.area(shapely.intersection(annotated[rows], detected[columns]))
    swallowed = common > MOSTLY * shapely.area(annotated)[rows]
    inside = np.bincount(columns[swallowed], minlength=len(detected))
    merged = np.unique(rows[swallowed][inside[columns[swallowed]] > 1])
    pieces = np.bincount(rows[common > MOSTLY * shapely.area(detected)[columns]], minlength=len(annotated))
    return SeparationCounts(len(merged) / len(annotated), float((pieces > 1).mean()))
