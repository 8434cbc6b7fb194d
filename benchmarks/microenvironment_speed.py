"""CPU seconds and memory of counting a million cells about a thousand structures.

python benchmarks/microenvironment_speed.py
"""

from __future__ import annotations

import time

import numpy as np
import shapely

from stainda.memory import peak_mib
from stainda.microenvironment.raster_fields import RasterField
from stainda.microenvironment.rates import poisson_interval
from stainda.microenvironment.section import window_of
from stainda.microenvironment.zones import (
    Zones,
    areas,
    counts,
    near_pairs,
    nearest,
    pooled_areas,
    pooled_counts,
)

SIDE_UM = 22_000.0
SIMULATIONS = 20
ZONES = Zones.of_rings((25, 50, 100))


def scene(cells: int, structures: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, shapely.Geometry]:
    """Cells (n, 2), wavy outlines of 64 corners that do not meet, and tissue with 400 holes."""
    rng = np.random.default_rng(seed)
    across = int(np.ceil(np.sqrt(structures)))
    pitch = SIDE_UM / across
    grid = np.stack(np.meshgrid(np.arange(across), np.arange(across)), -1).reshape(-1, 2)[:structures]
    centres = (grid + 0.5) * pitch + rng.uniform(-0.2, 0.2, (structures, 2)) * pitch
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    radius = rng.uniform(60, 100, (structures, 1)) * (1 + 0.08 * np.sin(3 * angle + rng.uniform(0, 6, (structures, 1))))
    rings = centres[:, None] + radius[..., None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    holes = shapely.buffer(shapely.points(rng.uniform(0, SIDE_UM, (400, 2))), 60.0)
    tissue = shapely.difference(shapely.box(0, 0, SIDE_UM, SIDE_UM), shapely.union_all(holes))
    return rng.uniform(0, SIDE_UM, (cells, 2)), shapely.polygons(rings), tissue


def main() -> None:
    points, outlines, tissue = scene(1_000_000, 1000)
    before = peak_mib()
    started = time.process_time()
    pairs = near_pairs(outlines, points, ZONES.reach)
    each = counts(pairs, ZONES, len(outlines))
    area = areas(outlines, ZONES, tissue)
    poisson_interval(each, area)
    distance, _ = nearest(pairs, len(points))
    pooled_counts(distance, ZONES)
    pooled_areas(outlines, ZONES, tissue)
    seconds = time.process_time() - started
    peak = peak_mib()
    rate = each.sum(axis=0) / area.sum(axis=0) * 1e6
    print(f"{len(points)} cells, {len(outlines)} structures, {len(pairs.point)} pairs within {ZONES.reach:g} um")
    print(f"CPU seconds {seconds:.1f}; peak memory {peak:.0f} MiB (before {before:.0f})")
    print("cells per mm2 by zone", np.round(rate, 1), "of", round(1e6 / SIDE_UM**2 * 1e6, 1))
    simulated(points, outlines, tissue)


def simulated(points: np.ndarray, outlines: np.ndarray, tissue: shapely.Geometry) -> None:
    """CPU seconds of the curves about structures with their simulations, on the raster of a section so large."""
    rng, steps = np.random.default_rng(0), np.arange(15.0, 301.0, 15.0)
    started = time.process_time()
    window = window_of(tissue)
    centres = shapely.get_coordinates(shapely.centroid(outlines))
    fields = (RasterField.of_zones(outlines, Zones.of_rings(tuple(steps[:10].tolist())), window),
              RasterField.about_centres(centres, steps, window))  # fmt: skip
    print(f"raster of {window.step:.0f} um: made in {time.process_time() - started:.1f} CPU seconds")
    for null in ("shift", "csr"):
        started = time.process_time()
        for field in fields:
            field.observed(points)
            field.simulated(null, points, SIMULATIONS, rng)  # type: ignore[arg-type]
        print(f"{SIMULATIONS} simulations of {null}: {time.process_time() - started:.1f} CPU seconds")
    print(f"peak memory {peak_mib():.0f} MiB")


if __name__ == "__main__":
    main()
