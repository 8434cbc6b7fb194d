"""Small sections made by script: discs of tissue colour are structures, brown spots are cells, at known places."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import tifffile

MPP = 1.0
SIDE = 900
STRUCTURES = ((220, 250, 60), (560, 260, 70), (300, 640, 65), (640, 640, 55), (450, 450, 50))
"""x, y and radius of the structures of every section, pixels."""
TISSUE, DISC, BROWN = (222, 200, 214), (200, 176, 196), (120, 72, 40)


def cells_at(rng: np.random.Generator, number: int = 120, around: float = 0.6) -> np.ndarray:
    """Places of cells (n, 2), at least 14 pixels apart; a share lies within 30 pixels of a structure's outline."""
    places: list[np.ndarray] = []
    while len(places) < number:
        if rng.random() < around:
            x, y, radius = STRUCTURES[rng.integers(len(STRUCTURES))]
            angle, away = rng.uniform(0, 2 * np.pi), radius + rng.uniform(2, 28)
            spot = np.array([x + away * np.cos(angle), y + away * np.sin(angle)])
        else:
            spot = rng.uniform(90, SIDE - 90, 2)
        if all(np.linalg.norm(spot - other) > 14 for other in places):
            places.append(spot)
    return np.array(places)


def write_section(path: Path, cells: np.ndarray, rng: np.random.Generator) -> None:
    image = np.full((SIDE, SIDE, 3), 245, np.uint8)
    image[60 : SIDE - 60, 60 : SIDE - 60] = TISSUE
    y, x = np.mgrid[:SIDE, :SIDE]
    for cx, cy, radius in STRUCTURES:
        image[np.hypot(x - cx, y - cy) < radius] = DISC
    for cx, cy in cells:
        top, left = int(cy) - 6, int(cx) - 6
        part = image[top : top + 13, left : left + 13]
        gy, gx = np.mgrid[top : top + part.shape[0], left : left + part.shape[1]]
        part[np.hypot(gx + 0.5 - cx, gy + 0.5 - cy) < 4.5] = BROWN
    noisy = image.astype(int) + rng.integers(-4, 5, image.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(
        path, np.clip(noisy, 0, 255).astype(np.uint8), resolution=(1e4 / MPP, 1e4 / MPP), resolutionunit="CENTIMETER"
    )


def write_outlines(path: Path) -> None:
    angle = np.linspace(0, 2 * np.pi, 61)
    features = [
        {"type": "Feature", "id": f"00000000-0000-4000-8000-00000000000{k}",
         "properties": {"objectType": "annotation", "classification": {"name": "glomerulus"}},
         "geometry": {"type": "Polygon", "coordinates": [
             np.column_stack([x + r * np.cos(angle), y + r * np.sin(angle)]).round(2).tolist()]}}
        for k, (x, y, r) in enumerate(STRUCTURES)
    ]  # fmt: skip
    for one in features:
        ring = one["geometry"]["coordinates"][0]
        ring[-1] = ring[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def make_cohort_files(
    folder: Path, patients: int = 2, annotated: tuple[str, ...] = ("PAS", "CD68"), groups: bool = True
) -> tuple[Path, dict[str, np.ndarray]]:
    """A manifest of blocks of a PAS and a CD68 section that lie on each other, and the cells of each CD68 section."""
    truth: dict[str, np.ndarray] = {}
    rows = []
    for number in range(patients):
        rng = np.random.default_rng(number)
        for section, stain in enumerate(("PAS", "CD68"), start=1):
            slide = f"P{number}_{stain}"
            cells = cells_at(rng, 120 if number % 2 == 0 else 170) if stain == "CD68" else np.zeros((0, 2))
            write_section(folder / "slides" / f"{slide}.tif", cells, rng)
            if stain in annotated:
                write_outlines(folder / "annotations" / f"{slide}.geojson")
            truth[slide] = cells
            rows.append({
                "slide": slide, "patient": f"P{number}", "block": f"B{number}", "section": section, "stain": stain,
                "centre": "A", "path": f"slides/{slide}.tif",
                "annotations": f"annotations/{slide}.geojson" if stain in annotated else "",
                "group": ("stable", "rejection")[number % 2] if groups else "",
            })  # fmt: skip
    path = folder / "manifest.csv"
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path, truth
