"""Annotators: names, reliability of each, and agreement between them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stainda.annotations import votes
from stainda.annotations.ballots import Ballot
from stainda.annotations.guarded import read_csv
from stainda.errors import AnnotationError
from stainda.names import stem
from stainda.objects.assignment import assign
from stainda.objects.overlap import iou_pairs
from stainda.run_directory.tables import ANNOTATOR_AGREEMENT, ANNOTATORS

if TYPE_CHECKING:
    import geopandas as gpd

ANNOTATOR_COLUMNS = ANNOTATORS.without("slide")
PAIR_COLUMNS = ANNOTATOR_AGREEMENT.without("slide")
HIT = 0.5  # intersection over union from which an outline counts as the same object in the tables


def annotator_row(ballot: Ballot, index: int, fused: gpd.GeoDataFrame) -> dict[str, Any]:
    """How one annotator stands to the fused shapes of a class: a row of :data:`ANNOTATOR_COLUMNS`.

    ``sensitivity`` and ``specificity`` are STAPLE's estimates, or under the other rules those against the fused area,
    in the field around the objects; ``precision`` and ``dice`` are areas against the fused area; objects hit each other
    one to one, from an intersection over union of :data:`HIT`. An annotator's own vote is part of what he is held
    against: with few annotators all numbers flatter.
    """
    mine = ballot.owners == index
    spoke = ballot.patterns[:, index] != votes.SILENT
    drew, truly = (ballot.patterns[:, index] == votes.YES), ballot.won & spoke
    area = ballot.amounts[drew].sum()
    hits = count_hits(ballot.geometries[mine], np.asarray(fused.geometry.values, object))
    return {
        "class": ballot.cls,
        "annotator": ballot.names[index],
        "objects": int(mine.sum()),
        "area_px": round(float(area), 1),
        "sensitivity": _cell(ballot.sensitivity[index]),
        "specificity": _cell(ballot.specificity[index]),
        "precision": _cell(ballot.amounts[drew & truly].sum() / area if area > 0 else np.nan),
        "dice": _cell(votes.dice(drew, truly, ballot.amounts)),
        "object_recall": _cell(hits / len(fused) if len(fused) else np.nan),
        "object_precision": _cell(hits / mine.sum() if mine.any() else np.nan),
        "weight": _cell(ballot.weights[index]),
    }


def pair_rows(ballot: Ballot) -> list[dict[str, Any]]:
    """How far annotators agree on a class: a row of :data:`PAIR_COLUMNS` per pair, then one for all of them."""
    rows: list[dict[str, Any]] = []
    for first, second in votes.pairs(len(ballot.names)):
        spoke = (ballot.patterns[:, [first, second]] != votes.SILENT).all(axis=1)
        a, b = (spoke & (ballot.patterns[:, index] == votes.YES) for index in (first, second))
        mine, theirs = (ballot.geometries[ballot.owners == index] for index in (first, second))
        total = len(mine) + len(theirs)
        rows.append(
            {
                "class": ballot.cls,
                "first": ballot.names[first],
                "second": ballot.names[second],
                "dice": _cell(votes.dice(a, b, ballot.amounts)),
                "cohen_kappa": _cell(votes.cohen_kappa(ballot.patterns, ballot.amounts, first, second)),
                "object_f1": _cell(2 * count_hits(mine, theirs) / total if total else np.nan),
            }
        )
    kappa = votes.fleiss_kappa(ballot.patterns, ballot.amounts)
    rows.append({"class": ballot.cls, "first": "all", "second": "all", "fleiss_kappa": _cell(kappa)})
    return rows


def count_hits(first: NDArray[np.object_], second: NDArray[np.object_]) -> int:
    """How many areas of the first find one of the second of their own, from :data:`HIT` on."""
    i, j, iou = iou_pairs(first, second)
    may = iou >= HIT
    return len(assign(i[may], j[may], iou[may], most_pairs=True))


def annotator_names(paths: Sequence[str | Path]) -> list[str]:
    """A name for each file: the part of the file names, or of the folders, in which they differ.

    ``S1_alice.geojson, S1_bob.xml`` are *alice* and *bob*, and so are ``alice/S1.xml, bob/S1.xml``.

    Raises:
        AnnotationError: the same file twice.
    """
    files = [Path(path) for path in paths]
    full = [path.resolve() for path in files]
    if twice := [path for index, path in enumerate(full) if path in full[:index]]:
        raise AnnotationError("the same file is named twice, as if it were two annotators", file=twice[0])
    stems = [stem(path) for path in files]
    if len(set(stems)) < len(stems):
        parents = [path.parent.name for path in full]
        names = parents if len(set(parents)) == len(parents) else [str(path) for path in files]
    else:
        names = _differing(stems)
    return names


def _differing(stems: list[str]) -> list[str]:
    """Names without the words at the beginning and the end that all share; one of which nothing is left stays whole."""
    words = [_words(stem) for stem in stems]
    rest = _without_common_start(words)
    rest = [text[::-1] for text in _without_common_start([text[::-1] for text in rest])]
    short = ["".join(text).strip("-_. ") or stem for text, stem in zip(rest, stems, strict=True)]
    return short if len(set(short)) == len(short) else stems


def _without_common_start(words: list[list[str]]) -> list[list[str]]:
    least = min(map(len, words))
    same = next((n for n in range(least) if len({word[n] for word in words}) > 1), least)
    return [word[same:] for word in words]


def _words(stem: str) -> list[str]:
    return [word for word in re.split(r"([-_. ]+)", stem) if word]


def read_reliability(path: str | Path) -> dict[str, float]:
    """Reliabilities by annotator, from a CSV with the columns ``annotator, reliability``; or ``annotator, training,
    qualification``: the accuracies (0…1) on two sets with known truth, weighed as Grote et al. did.

    Raises:
        AnnotationError: other columns, or something that is no number within 0…1.
    """
    path = Path(path)
    header, *rows = read_csv(path)
    columns = [cell.strip().lower() for cell in header]
    if columns not in (["annotator", "reliability"], ["annotator", "training", "qualification"]):
        raise AnnotationError(
            f"the columns are {', '.join(map(repr, header))}",
            file=path,
            row=1,
            remedy="Write annotator,reliability or annotator,training,qualification",
        )
    reliability: dict[str, float] = {}
    for number, row in enumerate(rows, start=2):
        try:
            values = [float(cell) for cell in row[1:]]
        except ValueError:
            values = []
        if len(row) != len(columns) or len(values) != len(columns) - 1 or not all(0 <= value <= 1 for value in values):
            raise AnnotationError(f"{row} is not an annotator and numbers from 0 to 1", file=path, row=number)
        name = row[0].strip()
        if name in reliability:
            raise AnnotationError(f"the annotator {name!r} is there twice", file=path, row=number)
        reliability[name] = values[0] if len(values) == 1 else votes.reliability(*values)
    return reliability


def _cell(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
