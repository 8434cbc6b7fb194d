"""Cells, stained area and grades by compartment: annotated or predicted areas, their core and their margin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from stainda.config.microenvironment import MicroenvironmentConfig
from stainda.microenvironment.rates import MM2, poisson_interval
from stainda.microenvironment.section import SectionData
from stainda.microenvironment.table_values import Row, known

Floats = npt.NDArray[np.float64]
WHOLE = "tissue"


@dataclass(frozen=True)
class CompartmentCount:
    """Of one part (``all``, ``core``, ``margin``) of a compartment on one section.

    Attributes:
        outline: the place its outlines are from; of the whole tissue ``""``.
        positive: share of it that is stained, ``nan`` where pixels were not looked at.
        h_score: see :func:`h_score`.
    """

    compartment: str
    part: str
    outline: str
    cells: int
    area_um2: float
    positive: float
    h_score: float

    @property
    def measure(self) -> str:
        """Its name in patients.csv."""
        return self.compartment if self.part == "all" else f"{self.compartment}, {self.part}"


def stained_squares(data: SectionData) -> tuple[Floats, Floats] | None:
    """Middles (n, 2) of the squares that were looked at and lie on tissue, micrometres, and their stained shares."""
    if data.cells.positive is None:
        return None
    rows, columns = data.cells.positive.shape
    gx, gy = np.meshgrid((np.arange(columns) + 0.5) * data.cells.grid_um, (np.arange(rows) + 0.5) * data.cells.grid_um)
    places = np.column_stack([gx.ravel(), gy.ravel()])
    inside = data.window.contains(places)
    return places[inside], data.cells.positive.ravel()[inside].astype(float)


def count_compartments(data: SectionData, config: MicroenvironmentConfig) -> tuple[CompartmentCount, ...]:
    """The whole tissue, every compartment, and its core and margin (``margin_um`` on either side of its border)."""
    window, squares = data.window.shape, stained_squares(data)
    counted = [_counted(data, config, squares, (WHOLE, "all", ""), window)]
    for name, compartment in data.compartments.items():
        parts = {"all": shapely.intersection(compartment.shape, window)}
        if config.margin_um:
            border = shapely.buffer(shapely.boundary(compartment.shape), config.margin_um)
            parts["core"] = shapely.difference(parts["all"], border)
            parts["margin"] = shapely.intersection(border, window)
        counted += [
            _counted(data, config, squares, (name, part, compartment.outline), area) for part, area in parts.items()
        ]
    return tuple(counted)


def _counted(
    data: SectionData,
    config: MicroenvironmentConfig,
    squares: tuple[Floats, Floats] | None,
    name: tuple[str, str, str],
    area: BaseGeometry,
) -> CompartmentCount:
    shapely.prepare(area)
    inside = np.asarray(shapely.intersects_xy(area, data.xy[:, 0], data.xy[:, 1]), bool)
    share = float("nan")
    if squares is not None:
        covered = np.asarray(shapely.contains_xy(area, squares[0][:, 0], squares[0][:, 1]), bool)
        share = float(squares[1][covered].mean()) if covered.any() else float("nan")
    grades = h_score(data.cells.density[data.kept][inside], config.detection.grades)
    return CompartmentCount(*name, int(inside.sum()), float(area.area), share, grades)


def compartment_rows(counted: Sequence[CompartmentCount], level: float) -> list[Row]:
    """Rows of compartments.csv of one section."""
    rows: list[Row] = []
    for count in counted:
        density, low, high = count_rate(count.cells, count.area_um2, level)
        rows.append({
            "compartment": count.compartment, "part": count.part, "outline": count.outline, "cells": count.cells,
            "area_mm2": known(count.area_um2 / MM2, 5), "density": known(density, 5), "low": known(low, 5),
            "high": known(high, 5), "positive_share": known(count.positive, 5), "h_score": known(count.h_score, 5),
        })  # fmt: skip
    return rows


def pooled_compartments(sections: Sequence[Sequence[CompartmentCount]], level: float) -> dict[str, tuple[float, ...]]:
    """Density of every compartment and part over sections, with its Poisson interval, by measure."""
    sums: dict[str, list[float]] = {}
    for section in sections:
        for count in section:
            if count.compartment != WHOLE:
                total = sums.setdefault(count.measure, [0.0, 0.0])
                total[0] += count.cells
                total[1] += count.area_um2
    return {measure: count_rate(cells, area, level) for measure, (cells, area) in sums.items()}


def count_rate(count: float, area_um2: float, level: float) -> tuple[float, float, float]:
    """Cells per mm² with the exact Poisson interval; ``nan`` without area."""
    low, high = poisson_interval(np.array([count]), np.array([area_um2]), level)
    return (count * MM2 / area_um2 if area_um2 > 0 else float("nan"), float(low[0]), float(high[0]))


def h_score(density: Floats, grades: tuple[float, float]) -> float:
    """``100 (share of 1+ cells + 2 share of 2+ + 3 share of 3+)`` of detected cells, by their mean optical density.

    100 to 300, since cells without stain are not detected; ``nan`` where densities are not known.
    """
    measured = density[np.isfinite(density)]
    if not len(measured):
        return float("nan")
    return float(100 * (1 + np.searchsorted(np.asarray(grades), measured, side="right")).mean())
