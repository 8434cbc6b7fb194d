"""Ring densities of a whole run on a synthetic cohort against the truth, step by step.

    stainda run studies/microenvironment.yaml --out RUN ...
    python benchmarks/microenvironment_end_to_end.py RUN [docs/results/microenvironment_end_to_end.csv]

Zones are those by the nearest structure, on the sections that the run measured, in the tissue that it found. Each row
replaces one more thing of the truth by what the run has: the outlines by those drawn in PAS and propagated, or by those
that the trained detector found in PAS and propagated; the cells by those of the detector. ``over_truth`` is against
true outlines and true cells of the same sections, so that the chance of the cells is not in it; ``over_law`` is against
what the law expects in the true zones, attraction of single glomeruli included.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import shapely

from stainda.annotations import read_shapes
from stainda.cohort import read_manifest
from stainda.files import write_csv
from stainda.microenvironment.cells import score_cells
from stainda.microenvironment.rates import MM2
from stainda.microenvironment.section import ignored_of, tissue_window
from stainda.microenvironment.zones import Zones, near_pairs, nearest, pooled_areas, pooled_counts
from stainda.names import file_name
from stainda.objects.overlap import iou_pairs
from stainda.run_directory import microenvironment_tables as tables
from stainda.run_directory.contents import PROPAGATED
from stainda.run_directory.folder import read_study
from stainda.slides import open_slide

WITHIN_UM = 7.0
COLUMNS = ("outlines", "cells", "zone", "counted", "area_mm2", "per_mm2", "over_truth", "over_law")


def outlines_of(path: Path, mpp: float, least: float = 0.0) -> np.ndarray:
    """Glomeruli, micrometres; propagated ones only from a confidence of ``least``."""
    if not path.is_file():
        return np.zeros(0, object)
    shapes = read_shapes(path)
    shapes = shapes[(shapes["class"] == "glomerulus") & ~(shapes["confidence"] < least)]
    return shapely.transform(np.asarray(shapes.geometry.values, object), lambda xy: xy * mpp)


def points_of(path: Path, mpp: float) -> np.ndarray:
    return shapely.get_coordinates(np.asarray(read_shapes(path).geometry.values, object)).reshape(-1, 2) * mpp


def main() -> None:
    root = Path(sys.argv[1])
    study = read_study(root)
    assert study.microenvironment is not None
    settings = study.microenvironment
    zones = Zones.of_rings(settings.rings_um)
    truth, folder = root / "phantom", root / "microenvironment"
    law = pd.read_csv(truth / "law.csv").pivot_table(index="slide", columns="zone", values="per_mm2")
    measured = tables.STRUCTURES.read(folder)["slide"].unique()
    sums: dict[tuple[str, str], list[np.ndarray]] = {}
    expected = np.zeros(len(zones) + 1)
    hits = np.zeros(3)
    found_glomeruli = np.zeros(3)
    for section in read_manifest(truth / "manifest.csv"):
        if section.slide not in measured:
            continue
        name = f"{file_name(section.slide)}.geojson"
        with open_slide(section.path, mpp=section.mpp) as slide:
            mpp = slide.require_mpp("to compare")
            ignored = ignored_of(read_shapes(truth / "annotations" / name))
            window = tissue_window(slide, mpp, ignored, settings.min_hole_um2)
        outlines = {
            "true": outlines_of(truth / "annotations" / name, mpp),
            "drawn in PAS, propagated": outlines_of(
                PROPAGATED.at(root, slide=section.slide), mpp, settings.min_confidence
            ),
            "detected in PAS, propagated": outlines_of(
                tables.DETECTED_PROPAGATED.at(root, slide=section.slide), mpp, settings.min_confidence
            ),
        }
        cells = {
            "true": points_of(truth / "macrophages" / name, mpp),
            "detected": points_of(tables.CELLS.at(root, slide=section.slide), mpp),
        }
        cells = {key: xy[window.contains(xy)] for key, xy in cells.items()}
        score = score_cells(cells["true"], cells["detected"], WITHIN_UM)
        hits += score.hits, score.missed, score.false
        found_glomeruli += agreement(outlines["true"], outlines["detected in PAS, propagated"])
        for key, shapes in outlines.items():
            area = pooled_areas(shapes, zones, window.shape)
            for kind, xy in cells.items():
                distance, _ = nearest(near_pairs(shapes, xy, zones.reach), len(xy))
                counts = pooled_counts(np.where(distance > zones.reach, np.inf, distance), zones)
                total = sums.setdefault((key, kind), [np.zeros(len(zones) + 1), np.zeros(len(zones) + 1)])
                total[0] += counts
                total[1] += area
        area = pooled_areas(outlines["true"], zones, window.shape)
        factor = attraction(truth, section.block, section.slide, outlines["true"], zones, window.shape)
        expected += law.loc[section.slide, [*zones.names, "beyond"]].to_numpy(float) * factor * area / MM2
    report(sums, expected, zones, hits, found_glomeruli)


def attraction(
    truth: Path, block: str, slide: str, outlines: np.ndarray, zones: Zones, tissue: shapely.Geometry
) -> np.ndarray:
    """Mean factor of the law on each zone: glomeruli that attract count by the area of their own zones."""
    table = pd.read_csv(truth / "attraction.csv")
    mine = table[table["block"] == block]
    shapes = read_shapes(truth / "annotations" / f"{file_name(slide)}.geojson")
    names = shapes.loc[shapes["class"] == "glomerulus", "name"].tolist()
    factor_of = dict(zip(mine["name"], mine["attraction"], strict=True))
    factors = np.array([factor_of.get(name, 1.0) for name in names])
    own = np.array([pooled_areas(outlines[k : k + 1], zones, tissue)[:-1] for k in range(len(outlines))])
    found = np.ones(len(zones) + 1)
    if len(own):
        found[:-1] = (own * factors[:, None]).sum(axis=0) / own.sum(axis=0)
    return found


def agreement(true: np.ndarray, found: np.ndarray) -> tuple[int, int, int]:
    """Found, missed and false glomeruli, at an overlap (IoU) above one half."""
    matched = int((iou_pairs(true, found)[2] > 0.5).sum())  # above one half there is one partner at most
    return matched, len(true) - matched, len(found) - matched


def report(sums: dict, expected: np.ndarray, zones: Zones, hits: np.ndarray, glomeruli: np.ndarray) -> None:
    reference = sums["true", "true"]
    base = reference[0] / reference[1]
    of_law = expected / reference[1]
    rows = []
    print("zones:", *zones.names, "beyond")
    for (outlines, cells), (counts, area) in sums.items():
        if not area[:-1].sum():
            continue
        rate = counts / area
        print(f"{outlines:28s} {cells:9s} over truth", np.round(rate / base, 3), "over law", np.round(rate / of_law, 3))
        rows += [
            {"outlines": outlines, "cells": cells, "zone": name, "counted": int(counts[z]),
             "area_mm2": round(area[z] / MM2, 4), "per_mm2": round(rate[z] * MM2, 2),
             "over_truth": round(rate[z] / base[z], 4), "over_law": round(rate[z] / of_law[z], 4)}
            for z, name in enumerate((*zones.names, "beyond"))
        ]  # fmt: skip
    for what, (hit, missed, false) in (("cells", hits), ("glomeruli", glomeruli)):
        print(f"{what}: F1 {2 * hit / (2 * hit + missed + false):.3f}, recall {hit / (hit + missed):.3f}, "
              f"precision {hit / max(hit + false, 1):.3f}")  # fmt: skip
    if len(sys.argv) > 2:
        write_csv(sys.argv[2], rows, COLUMNS)


if __name__ == "__main__":
    main()
