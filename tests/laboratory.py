"""A folder of slides as a laboratory keeps it: a folder for each centre, its own names, outlines of QuPath next to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

STAINS = ("PAS", "SR")
MPP = 2.0


def make_laboratory(
    folder: Path,
    patients: int = 4,
    *,
    stains: Sequence[str] = STAINS,
    outlined: Sequence[str] | None = None,
    class_name: str = "Glomerulus",
    ending: str = ".tif",
    drawn: bool = False,
    mpp: bool = True,
) -> Path:
    """Make ``Centre A/2021-014_B1_03_PAS.tif`` and its like; patients are of the two centres in turn.

    Every patient gives one block ``B1``, of which sections 3, 4, ... are stained in turn. Outlines lie next to them
    as QuPath exports them (``2021-014_B1_03_PAS.geojson``).

    Args:
        folder: where the folders of the centres are made.
        outlined: stains whose slides have outlines; default: all of them.
        class_name: of the outlined objects.
        ending: of the slides; ``.ome.tif`` renames them, ``.png`` needs ``drawn``.
        drawn: flat pictures in a moment each, with tissue and discs but nothing to register; else sections of the
            phantom (512 pixels, about half a second each).
        mpp: whether the files tell their pixel size (drawn ones never do).

    Returns:
        ``folder``.
    """
    outlined = tuple(stains) if outlined is None else outlined
    folder.mkdir(parents=True, exist_ok=True)
    made = _drawn(folder / "made", patients, stains) if drawn else _phantom(folder / "made", patients, stains)
    for patient, stain, slide, shapes in made:
        centre = folder / f"Centre {'AB'[patient % 2]}"
        centre.mkdir(exist_ok=True)
        name = f"2021-{14 + patient:03d}_B1_{3 + list(stains).index(stain):02d}_{stain}"
        if mpp or drawn:
            slide.rename(centre / f"{name}{ending}")
        else:
            Image.open(slide).convert("RGB").save(centre / f"{name}{ending}", format="TIFF")
        if stain in outlined:
            (centre / f"{name}.geojson").write_text(json.dumps(_as_qupath(shapes, class_name)), encoding="utf-8")
    shutil.rmtree(folder / "made")
    return folder


def _phantom(place: Path, patients: int, stains: Sequence[str]) -> list[tuple[int, str, Path, list[list]]]:
    from stainda.config import PhantomConfig
    from stainda.phantom import make_cohort

    config = PhantomConfig(
        patients=patients, stains=tuple(stains), centres=("A", "B"), size=512, mpp=MPP, difficulty=0.5, seed=3
    )
    make_cohort(config, place)
    found = []
    for file in sorted((place / "annotations").glob("*.geojson")):
        features = json.loads(file.read_text(encoding="utf-8"))["features"]
        rings = [feature["geometry"]["coordinates"] for feature in features if feature["geometry"]["type"] == "Polygon"]
        patient = int(file.stem[1:3]) - 1
        found.append((patient, file.stem.rsplit("_", 1)[1], place / "slides" / f"{file.stem}.tif", rings))
    return found


def _drawn(place: Path, patients: int, stains: Sequence[str]) -> list[tuple[int, str, Path, list[list]]]:
    size, turn = 256, np.linspace(0, 2 * np.pi, 33)
    yy, xx = np.mgrid[:size, :size]
    place.mkdir()
    found = []
    for patient in range(patients):
        rng = np.random.default_rng(patient)
        centres = np.array([(64, 64), (64, 190), (190, 64)]) + rng.integers(-12, 13, (3, 2))
        for number, stain in enumerate(stains):
            image = np.full((size, size, 3), 245.0)
            image[16:-16, 16:-16] = (226, 190 - 20 * number, 214 - 40 * number)
            rings = []
            for cy, cx in centres:
                image[np.hypot(yy - cy, xx - cx) < 25] = (150, 60, 130 - 40 * number)
                ring = np.stack([cx + 25 * np.cos(turn), cy + 25 * np.sin(turn)], -1).round(2)
                ring[-1] = ring[0]
                rings.append([ring.tolist()])
            image += rng.normal(0, 4, image.shape)
            slide = place / f"P{patient}_{stain}.png"
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(slide)
            found.append((patient, stain, slide, rings))
    return found


def _as_qupath(shapes: list[list], class_name: str) -> dict:
    """A feature collection with the members that QuPath 0.5 writes."""
    return {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "id": f"00000000-0000-4000-8000-{number:012d}",
                "geometry": {"type": "Polygon", "coordinates": rings},
                "properties": {
                    "objectType": "annotation",
                    "classification": {"name": class_name, "color": [200, 0, 0]},
                    "isLocked": False,
                },
            }
            for number, rings in enumerate(shapes)
        ],
    }
