"""Maps of cells per square of tissue, and indices of how clustered the cells are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from scipy.spatial import cKDTree

from stainda.microenvironment.groups import false_discovery
from stainda.microenvironment.rates import MM2
from stainda.microenvironment.window import CountingWindow
from stainda.run_directory.microenvironment_tables import CLUSTERING
from stainda.slides.value_image import write_value_image

Floats = npt.NDArray[np.float64]
LEAST_TISSUE = 0.5
"""Share of a square that must be tissue, for the indices."""
PERMUTATIONS = 199


@dataclass(frozen=True, eq=False)
class DensityMap:
    """Squares of ``side`` micrometres from the corner of the slide.

    Attributes:
        cells: (rows, columns). tissue: (rows, columns) share of each square that is tissue.
    """

    cells: Floats
    tissue: Floats
    side: float

    @property
    def density(self) -> Floats:
        """Cells per mm² of tissue; ``nan`` without tissue."""
        area = self.tissue * self.side**2
        return np.divide(self.cells * MM2, area, out=np.full(self.cells.shape, np.nan), where=area > 0)

    @property
    def counted(self) -> npt.NDArray[np.bool_]:
        return self.tissue >= LEAST_TISSUE


def density_map(xy: Floats, window: CountingWindow, size_um: tuple[float, float], side: float) -> DensityMap:
    """Cells (n, 2), micrometres, by square of a slide of ``size_um`` (width, height)."""
    columns, rows = (max(1, int(np.ceil(length / side))) for length in size_um)
    at = np.floor(xy / side).astype(int)
    inside = (at >= 0).all(axis=1) & (at[:, 0] < columns) & (at[:, 1] < rows)
    cells = np.bincount(at[inside, 1] * columns + at[inside, 0], minlength=rows * columns).reshape(rows, columns)
    gx, gy = np.meshgrid(np.arange(columns) * side, np.arange(rows) * side)
    squares = shapely.box(gx.ravel(), gy.ravel(), gx.ravel() + side, gy.ravel() + side)
    shapely.prepare(window.shape)
    share = np.zeros(len(squares))
    whole = shapely.contains_properly(window.shape, squares)
    share[whole] = 1.0
    rest = np.flatnonzero(~whole & shapely.intersects(window.shape, squares))
    share[rest] = shapely.area(shapely.intersection(squares[rest], window.shape)) / side**2
    return DensityMap(cells.astype(float), share.reshape(rows, columns), side)


def write_map_image(density_map: DensityMap, path: str | Path) -> Path:
    """Write cells per mm² as OME-TIFF, float32; glass is 0."""
    return write_value_image(density_map.density, density_map.side, "cells per mm2 of tissue", path)


def clustering(xy: Floats, window: CountingWindow, density_map: DensityMap, rng: np.random.Generator) -> dict[str, Any]:
    """Indices of clustering, ``nan`` where there are too few cells or squares.

    Clark and Evans 1954 (with Donnelly's correction of the edge), Morisita 1959, Moran 1950 over squares that share an
    edge or a corner, Getis and Ord 1992 (G*, one-sided, Benjamini-Hochberg).
    """
    used = density_map.counted
    values, counts = density_map.density[used], density_map.cells[used]
    result: dict[str, Any] = {"cells": len(xy), "squares": int(used.sum())}
    result |= dict.fromkeys(CLUSTERING.names[CLUSTERING.names.index("clark_evans") :], float("nan"))
    if len(xy) > 2 and window.area > 0:
        away = cKDTree(xy).query(xy, k=2)[0][:, 1].mean()
        edge = float(window.shape.length)
        expected = 0.5 * np.sqrt(window.area / len(xy)) + (0.0514 + 0.041 / np.sqrt(len(xy))) * edge / len(xy)
        result["clark_evans"] = float(away / expected)
    total = counts.sum()
    if total > 1 and len(counts) > 1:
        result["morisita"] = float(len(counts) * (counts * (counts - 1)).sum() / (total * (total - 1)))
    if len(values) > 8 and values.std() > 0:
        result |= _neighbourly(density_map, values, rng)
    return result


def _neighbourly(density_map: DensityMap, values: Floats, rng: np.random.Generator) -> dict[str, float]:
    """Moran's I with its permutation p, and the share of hot spots."""
    rows, columns = np.nonzero(density_map.counted)
    places = np.column_stack([columns, rows])
    near = cKDTree(places).query_pairs(1.5, output_type="ndarray")
    if not len(near):
        return {}
    order = np.array([values, *(rng.permutation(values) for _ in range(PERMUTATIONS))])
    z = order - values.mean()
    moran = (z[:, near[:, 0]] * z[:, near[:, 1]]).mean(axis=1) / values.var()
    p = float((moran >= moran[0]).sum() / len(moran))
    n = len(values)
    around, weight = values.copy(), np.ones(n)
    for a, b in ((0, 1), (1, 0)):
        around += np.bincount(near[:, a], values[near[:, b]], minlength=n)
        weight += np.bincount(near[:, a], minlength=n)
    spread = values.std() * np.sqrt(np.maximum(n * weight - weight**2, 1e-12) / (n - 1))
    from scipy.special import ndtr

    hot = false_discovery(1 - ndtr((around - values.mean() * weight) / spread))
    return {"moran": float(moran[0]), "moran_p": p, "hot_share": float((hot < 0.05).mean())}
