"""A tiny cohort made in a second: tissue with round objects whose colour depends on the stain, as PNG slides."""

from __future__ import annotations

import csv
import json
import uuid
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

SIZE, MPP = 384, 2.0
COLOURS = {"PAS": ((226, 190, 214), (150, 60, 130)), "SR": ((238, 214, 170), (190, 70, 60))}


def make_blob_cohort(
    folder: Path, patients: int = 5, stains: tuple[str, ...] = ("PAS", "SR"), centre: str = "A", first: int = 0
) -> Path:
    """Write slides, annotations and ``manifest.csv``; sections of a block hold the same objects at the same place.

    Patients are numbered from ``first``; each number is another person.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    yy, xx = np.mgrid[:SIZE, :SIZE]
    for patient in range(first, first + patients):
        rng = np.random.default_rng(patient)
        centres = np.array([(96, 96), (96, 288), (288, 96), (288, 288)]) + rng.integers(-24, 25, (4, 2))
        radii = rng.uniform(18, 28, 4)
        for number, stain in enumerate(stains):
            tissue, blob = (np.array(colour, float) for colour in COLOURS[stain])
            image = np.full((SIZE, SIZE, 3), 245.0)
            image[20:-20, 20:-20] = tissue
            image += rng.normal(0, 6, image.shape)
            for (cy, cx), radius in zip(centres, radii, strict=True):
                image[np.hypot(yy - cy, xx - cx) < radius] = blob
            slide = f"P{patient}_{stain}"
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"{slide}.png")
            features = [
                _feature(patient, index, cx, cy, r)
                for index, ((cy, cx), r) in enumerate(zip(centres, radii, strict=True))
            ]
            (folder / f"{slide}.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
            rows.append(
                {
                    "slide": slide, "patient": f"P{patient}", "block": f"P{patient}", "section": number + 1,
                    "stain": stain, "centre": centre, "scanner": "", "path": f"{slide}.png",
                    "annotations": f"{slide}.geojson",
                    "landmarks": "", "mpp": MPP, "split": "",
                }
            )  # fmt: skip
    return write_rows(rows, folder / "manifest.csv")


def make_tiff_cohort(folder: Path) -> Path:
    """The blob cohort as tiled TIFFs of two levels: the patients P0 to P4 train (2), validate and are tested (2)."""
    manifest = make_blob_cohort(folder)
    with manifest.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        path = folder / row["path"]
        image = np.asarray(Image.open(path))
        row["path"] = f"{row['slide']}.tif"
        with tifffile.TiffWriter(folder / row["path"]) as writer:
            writer.write(image, tile=(64, 64), photometric="rgb", compression="zlib")
            writer.write(image[::4, ::4], tile=(64, 64), photometric="rgb", compression="zlib", subfiletype=1)
        path.unlink()
        row["split"] = ["train", "train", "val", "test", "test"][int(row["patient"][1:])]
    return write_rows(rows, manifest)


def write_rows(rows: list[dict], path: Path) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def _feature(patient: int, index: int, cx: float, cy: float, radius: float) -> dict:
    turn = np.linspace(0, 2 * np.pi, 33)
    ring = np.stack([cx + 0.5 + radius * np.cos(turn), cy + 0.5 + radius * np.sin(turn)], -1).round(2)
    ring[-1] = ring[0]
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{patient}/{index}")),
        "geometry": {"type": "Polygon", "coordinates": [ring.tolist()]},
        "properties": {"objectType": "annotation", "classification": {"name": "glomerulus", "color": [200, 0, 0]}},
    }


STUDY = """
study: blobs
title: Blobs
question: Does it work?
manifest: {manifest}
registration: {{method: identity}}
task: glomeruli_segmentation
model: {{name: unet, params: {{depth: 2, width: 4}}}}
patches: {{mpp: 4.0, size: 32}}
protocol: {{sources: [PAS@A], seeds: 2, split: [0.4, 0.2, 0.4]}}
search: {{trials: 2}}
training:
  epochs: 2
  steps_per_epoch: 4
  batch_size: 8
  learning_rate: {{default: 5.0e-3, low: 1.0e-3, high: 1.0e-2, log: true}}
strategies: [source_only, adabn, dann, propagated_labels, oracle]
"""


QUICK_STUDY = """manifest: {manifest}
registration: {{method: identity}}
task: glomeruli_segmentation
model: {{name: unet, params: {{depth: 2, width: 4}}}}
patches: {{mpp: 4.0, size: 32, min_per_slide: 12}}
protocol: {{sources: [PAS@A], seeds: 1, split: [0.4, 0.2, 0.4]}}
search: {{trials: 1}}
evaluation: {{resamples: 100}}
training: {{epochs: 1, steps_per_epoch: 2, batch_size: 4}}
"""
"""What a study of a blob cohort needs apart from its name and strategies; for :func:`write_study`."""


def write_study(manifest: Path, path: Path, text: str = STUDY) -> Path:
    path.write_text(text.format(manifest=manifest))
    return path
