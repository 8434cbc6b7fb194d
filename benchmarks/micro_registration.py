"""How far propagated outlines lie from their true places, with and without micro-registration, on large sections.

    python benchmarks/micro_registration.py --seed 4021
    python benchmarks/micro_registration.py --patients 2 --side-mm 6 --csv FILE

Synthetic blocks of three stains are drawn and registered with the default settings. A view pixel of a section of 6 mm
is 12 µm. Every ``--every``-th outline of the first section and the second is propagated to the later ones, and its
points are compared with where the true map puts them; what has changed in the tissue from section to section is not
part of that. CPU seconds are those of the propagation of a pair of sections.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import shapely

from stainda.annotations import read_shapes
from stainda.cohort import read_manifest
from stainda.config import PhantomConfig, PropagationConfig, RegistrationConfig
from stainda.phantom import make_cohort, true_map
from stainda.registration import load_block, register_cohort
from stainda.registration.propagated_shapes import PropagatedShapes
from stainda.registration.propagator import Propagator
from stainda.registration.transforms import Transform


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=1)
    parser.add_argument("--side-mm", type=float, default=6.144, help="width of a section, of pixels of 1 µm")
    parser.add_argument("--seed", type=int, default=4021)
    parser.add_argument("--every", type=int, default=4, help="of so many outlines one is propagated")
    parser.add_argument("--csv", type=Path, help="write the table here")
    parser.add_argument("--out", type=Path, help="keep blocks and registrations here; default: a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        config = PhantomConfig(
            patients=options.patients, centres=("A",), stains=("PAS", "CD68", "SR"), seed=options.seed, mpp=1.0,
            size=round(1000 * options.side_mm),
        )  # fmt: skip
        manifest = make_cohort(config, folder / "phantom")
        register_cohort(read_manifest(manifest), RegistrationConfig(), folder)
        rows = pd.DataFrame(measured(manifest, folder, options.every))
    print(rows.to_string(index=False))
    if options.csv:
        rows.to_csv(options.csv, index=False)


def measured(manifest: Path, folder: Path, every: int) -> Iterator[dict[str, Any]]:
    """A row for each pair of sections and setting."""
    for block, sections in read_manifest(manifest).blocks().items():
        result = load_block(folder / "registration", block)
        truth = {row.slide: true_map(manifest.parent / "truth" / f"{row.slide}.npz") for row in sections}
        shapes = {
            row.slide: read_shapes(row.annotations).iloc[::every] for row in sections if row.annotations is not None
        }
        for micro in (False, True):
            propagator = Propagator(result, sections, PropagationConfig(micro=micro))
            propagator.prepare(shapes, sections)
            for source, target in combinations(sections, 2):
                if propagator.obstacle(source, target):
                    continue
                propagator.ground(source), propagator.ground(target)
                started = time.process_time()
                propagated = propagator.propagate(shapes[source.slide], source, target)
                seconds = time.process_time() - started
                errors = errors_px(propagated, truth[source.slide], truth[target.slide])
                moved = propagated.measured["micro_px"]
                yield {
                    "block": block, "from": source.stain, "to": target.stain, "micro": micro, "outlines": len(errors),
                    "moved": round(float((moved > 0).mean()), 2), "median_um": round(float(np.median(errors)), 2),
                    "p90_um": round(float(np.percentile(errors, 90)), 2), "most_um": round(float(errors.max()), 2),
                    "cpu_s": round(seconds, 1),
                }  # fmt: skip


def errors_px(propagated: PropagatedShapes, source: Transform, target: Transform) -> np.ndarray:
    """Mean distance of each outline's points from their true places (n,), level-0 pixels, which are 1 µm."""
    apart = []
    for drawn, placed in zip(propagated.shapes.geometry, propagated.warped.geometry, strict=True):
        true = target.from_frame(source.to_frame(shapely.get_coordinates(drawn)))
        there = shapely.get_coordinates(placed)
        if len(there) == len(true):  # else it was repaired
            apart.append(np.linalg.norm(there - true, axis=1).mean())
    return np.array(apart)


if __name__ == "__main__":
    main()
