"""CPU seconds and memory of counting a million cells about a thousand structures.

python benchmarks/microenvironment_speed.py
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import shapely

from stainda.cohort.types import Section
from stainda.config.microenvironment import MicroenvironmentConfig
from stainda.memory import peak_mib
from stainda.microenvironment.cells import Cells
from stainda.microenvironment.measure import measure_section
from stainda.microenvironment.rates import poisson_interval
from stainda.microenvironment.section import SectionData, Structures, window_of
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
    for error_um in (0.0, 5.0):
        whole_section(points, outlines, tissue, error_um)


def whole_section(points: np.ndarray, outlines: np.ndarray, tissue: shapely.Geometry, error_um: float) -> None:
    """CPU seconds of everything that is measured on one section, default settings: 199 shifts, 40 displacements.

    Args:
        error_um: of the place of every structure; 0 where outlines were drawn on the section itself.
    """
    number, none = len(points), np.full(len(points), np.nan)
    many, empty = len(outlines), np.full(len(outlines), "", object)
    window = window_of(tissue)
    kept = window.contains(points)
    cells = Cells(points, none, none, none, None, {})
    structures = Structures(
        outlines, np.arange(many).astype(str).astype(object), empty, empty, empty, np.full(many, np.nan),
        np.full(many, error_um),
    )  # fmt: skip
    section = Section("S1", "P1", "B1", 1, "CD68", "A", Path("none"))
    size = (int(SIDE_UM), int(SIDE_UM))
    data = SectionData(
        section, 1.0, size, cells, kept, points[kept], np.zeros((0, 2)), structures, window, {}, (), "own"
    )
    started = time.process_time()
    measured = measure_section(data, MicroenvironmentConfig(), np.random.default_rng(0))
    seconds = time.process_time() - started
    curves = ", ".join(f"{curve.family} {len(curve.simulated.found)} simulations" for curve in measured.curves)
    print(f"a whole section of {number} cells, error {error_um:g} um: {seconds:.1f} CPU seconds ({curves}); "
          f"peak memory {peak_mib():.0f} MiB")  # fmt: skip


if __name__ == "__main__":
    main()
