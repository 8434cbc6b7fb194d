"""F1 of the classical cell detector on rendered CD68 sections of seeds that its settings were not chosen on.

    python benchmarks/microenvironment_cells.py [seeds, default 201 to 208; how touching cells are split was decided on
    61 to 68]

Each seed is drawn twice: with the law's cells, and with three times as many, of which many touch.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from microenvironment_blocks import LATER_SEEDS, LAW
from microenvironment_end_to_end import points_of

from stainda.cohort import read_manifest
from stainda.config import PhantomConfig
from stainda.config.microenvironment import CellDetectionConfig
from stainda.microenvironment.cells import detect_cells, score_cells
from stainda.names import file_name
from stainda.phantom import make_cohort
from stainda.slides import open_slide

WITHIN_UM = 7.0


def main() -> None:
    seeds = tuple(map(int, sys.argv[1:])) or LATER_SEEDS
    for factor in (1.0, 3.0):
        total = sum(_score(seed, factor) for seed in seeds)
        hits, missed, false = total
        print(f"{factor:g} times the law, {int(hits + missed)} cells: F1 {2 * hits / (2 * hits + missed + false):.3f}, "
              f"precision {hits / (hits + false):.3f}, recall {hits / (hits + missed):.3f}, found over true "
              f"{(hits + false) / (hits + missed):.3f}")  # fmt: skip


def _score(seed: int, factor: float) -> np.ndarray:
    """Cells found, missed and false on one section."""
    law = {
        **LAW, "inside": LAW["inside"] * factor, "beyond": LAW["beyond"] * factor,
        "ring_rates": tuple(rate * factor for rate in LAW["ring_rates"]),
    }  # fmt: skip
    config = PhantomConfig(
        macrophage_law=law, mpp=0.75, size=1024, patients=1, stains=("CD68",), centres=("AB"[seed % 2],), seed=seed
    )
    with tempfile.TemporaryDirectory() as folder:
        section = read_manifest(make_cohort(config, folder, workers=1)).sections[0]
        with open_slide(section.path, mpp=section.mpp) as slide:
            mpp = slide.require_mpp("to compare")
            found = detect_cells(slide, CellDetectionConfig()).xy * mpp
        truth = points_of(Path(folder) / "macrophages" / f"{file_name(section.slide)}.geojson", mpp)
    score = score_cells(truth, found, WITHIN_UM)
    print(f"seed {seed}, {factor:g} times: {len(truth)} cells, F1 {score.f1:.3f}, distance {score.distance_um:.1f} um")
    return np.array([score.hits, score.missed, score.false], float)


if __name__ == "__main__":
    main()
