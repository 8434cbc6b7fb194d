"""Cells, structures and maps as files that QuPath opens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import shapely

from stainda.annotations import bounds_of_file, make_shapes, write_geojson
from stainda.microenvironment.density_maps import DensityMap, write_map_image
from stainda.microenvironment.measure import SectionMeasures
from stainda.microenvironment.rates import density
from stainda.microenvironment.section import SectionData
from stainda.run_directory.microenvironment_tables import CELLS, MAP, MAP_IMAGE, OUTLINES

CELL_CLASS = "cell"


def write_cells(measures: SectionMeasures, root: Path) -> Path:
    """The cells on tissue as points, with the distance to the nearest structure and which it is."""
    data, cells = measures.data, measures.data.cells
    kept = np.flatnonzero(data.kept)
    identity = data.structures.identity
    properties = []
    for row, index in enumerate(kept):
        measurements = {"area_um2": cells.area_um2[index], "optical_density": cells.density[index]}
        if np.isfinite(measures.distance[row]):
            measurements["distance_um"] = measures.distance[row]
        numbers = {name: round(float(value), 3) for name, value in measurements.items() if np.isfinite(value)}
        near = {"nearest": str(identity[measures.which[row]])} if measures.which[row] >= 0 else {}
        properties.append({"objectType": "detection", "measurements": numbers, "metadata": near})
    ids = [f"{data.section.slide}/cell-{index + 1}" for index in kept]
    shapes = make_shapes(
        shapely.points(cells.xy[kept]), CELL_CLASS, id=ids, score=cells.score[kept].tolist(), properties=properties
    )
    path = CELLS.at(root, slide=data.section.slide)
    return write_geojson(shapes, path, "detection", 2, bounds_of_file(data.section.path))


def write_structures(measures: SectionMeasures, root: Path) -> Path:
    """The structures with cells and density of every zone as measurements."""
    data, each, zones = measures.data, measures.each, measures.zones
    rates = density(each.counts, each.areas)
    properties = []
    for k in range(len(data.structures)):
        numbers: dict[str, float] = {"error_um": float(data.structures.error_um[k])}
        for z, name in enumerate(zones.names):
            numbers[f"{name} cells"] = float(each.counts[k, z])
            numbers[f"{name} per mm2"] = float(rates[k, z])
            numbers[f"{name} low"], numbers[f"{name} high"] = float(each.low[k, z]), float(each.high[k, z])
        kept = {name: round(value, 3) for name, value in numbers.items() if np.isfinite(value)}
        metadata = {"identity": str(data.structures.identity[k])}
        properties.append({"objectType": "annotation", "measurements": kept, "metadata": metadata})
    outlines = shapely.transform(data.structures.outlines, lambda xy: xy / data.mpp)
    shapes = make_shapes(
        outlines, list(data.structures.classes), id=list(data.structures.ids),
        name=list(data.structures.identity), confidence=data.structures.confidence.tolist(),
        source_slide=list(data.structures.sources), properties=properties,
    )  # fmt: skip
    path = OUTLINES.at(root, slide=data.section.slide)
    return write_geojson(shapes, path, "annotation", 2, bounds_of_file(data.section.path))


def write_map(data: SectionData, squares: DensityMap, root: Path) -> None:
    """The density map as squares for QuPath, and as an image."""
    rows, columns = np.nonzero(squares.tissue > 0)
    side = squares.side / data.mpp
    boxes = shapely.box(columns * side, rows * side, (columns + 1) * side, (rows + 1) * side)
    rates = squares.density
    properties = [
        {
            "objectType": "tile",
            "measurements": {
                "cells": float(squares.cells[row, column]), "per_mm2": round(float(rates[row, column]), 3),
                "tissue_share": round(float(squares.tissue[row, column]), 4),
            },
        }
        for row, column in zip(rows, columns, strict=True)
    ]  # fmt: skip
    slide = data.section.slide
    ids = [f"{slide}/square-{row}-{column}" for row, column in zip(rows, columns, strict=True)]
    shapes = make_shapes(list(boxes), "density map", id=ids, properties=properties)
    write_geojson(shapes, MAP.at(root, slide=slide), "annotation", 2, bounds_of_file(data.section.path))
    write_map_image(squares, MAP_IMAGE.at(root, slide=slide))
