"""F1 of the classical cell detector on rendered CD68 sections of seeds that its thresholds were not chosen on.

python benchmarks/microenvironment_cells.py [seeds, default 101 to 105]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from microenvironment_blocks import LAW, NEW_SEEDS
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
    seeds = tuple(map(int, sys.argv[1:])) or NEW_SEEDS
    total = np.zeros(3)
    for number, seed in enumerate(seeds):
        config = PhantomConfig(
            macrophage_law=LAW,
            mpp=0.75,
            size=1024,
            patients=1,
            stains=("CD68",),
            centres=("AB"[number % 2],),
            seed=seed,
        )
        with tempfile.TemporaryDirectory() as folder:
            cohort = read_manifest(make_cohort(config, folder, workers=1))
            section = cohort.sections[0]
            with open_slide(section.path, mpp=section.mpp) as slide:
                mpp = slide.require_mpp("to compare")
                found = detect_cells(slide, CellDetectionConfig()).xy * mpp
            truth = points_of(Path(folder) / "macrophages" / f"{file_name(section.slide)}.geojson", mpp)
        score = score_cells(truth, found, WITHIN_UM)
        total += score.hits, score.missed, score.false
        print(f"seed {seed}, centre {section.centre}: {len(truth)} cells, F1 {score.f1:.3f}, precision "
              f"{score.precision:.3f}, recall {score.recall:.3f}, distance {score.distance_um:.1f} um")  # fmt: skip
    hits, missed, false = total
    print(f"all: F1 {2 * hits / (2 * hits + missed + false):.3f}, precision {hits / (hits + false):.3f}, recall "
          f"{hits / (hits + missed):.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
