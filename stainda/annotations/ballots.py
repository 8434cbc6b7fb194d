"""Votes of the annotators about one class, and the area covered by each combination of votes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from stainda.annotations import votes

FIELD = 0.5  # places about an object that count as seen empty: half its width and height on each side


@dataclass(frozen=True, eq=False)
class Ballot:
    """The votes about one class.

    Attributes:
        cls, names: the class, and the annotators.
        geometries, owners, groups: (n,) all outlines, who drew each, and the object each means.
        patterns: int8 (m, k) what each annotator says, and amounts (m,) the area of which they say so.
        won: (m,) whether the pattern is object.
        weights, sensitivity, specificity: (k,); the latter two estimated (STAPLE) or against what won.
    """

    cls: str
    names: tuple[str, ...]
    geometries: NDArray[np.object_]
    owners: NDArray[np.int64]
    groups: NDArray[np.int64]
    patterns: NDArray[np.int8]
    amounts: NDArray[np.float64]
    won: NDArray[np.bool_]
    weights: NDArray[np.float64]
    sensitivity: NDArray[np.float64]
    specificity: NDArray[np.float64]


def empty_field(
    geometries: NDArray[np.object_],
    cluster: NDArray[np.int64],
    silences: Sequence[BaseGeometry],
    size: tuple[int, int] | None,
    faces: NDArray[np.object_],
) -> float:
    """Area of the field that nobody drew in: widened boxes about what hangs together, without where someone is silent.

    Args:
        geometries: (n,) all outlines of a class; cluster: (n,) which of them hang together.
        silences: where each annotator says nothing.
        size: of the slide, level-0 pixels.
        faces: what the outlines cut each other into.
    """
    bounds = shapely.bounds(geometries)
    boxes = np.stack([np.full(cluster.max() + 1, value) for value in (np.inf, np.inf, -np.inf, -np.inf)], axis=1)
    np.minimum.at(boxes[:, :2], cluster, bounds[:, :2])
    np.maximum.at(boxes[:, 2:], cluster, bounds[:, 2:])
    wider = FIELD * (boxes[:, 2:] - boxes[:, :2])
    seen = shapely.union_all(shapely.box(*np.concatenate([boxes[:, :2] - wider, boxes[:, 2:] + wider], axis=1).T))
    if size is not None:
        seen = shapely.intersection(seen, shapely.box(0, 0, *size))
    silent = shapely.union_all(np.array(silences, dtype=object)) if silences else shapely.Polygon()
    if silent.is_empty:
        return max(0.0, float(seen.area - shapely.area(faces).sum()))
    return float(shapely.difference(seen, shapely.union_all([silent, *geometries])).area)


def rates_against(
    patterns: NDArray[np.int8], amounts: NDArray[np.float64], won: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sensitivity and specificity (k,) of each annotator against what won, over the places of which he spoke."""

    def rate(vote: int, places: NDArray[np.bool_]) -> NDArray[np.float64]:
        spoke = ((patterns != votes.SILENT) & places[:, None]).T @ amounts
        votes_cast = ((patterns == vote) & places[:, None]).T @ amounts
        return np.divide(votes_cast, spoke, out=np.full(len(votes_cast), np.nan), where=spoke > 0)

    return rate(votes.YES, won), rate(votes.NO, ~won)
