"""Small runs to review: the blob cohort, registered by identity, or with one section turned and mirrored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from small_cohorts import SIZE, STUDY, make_blob_cohort, write_study

from stainda.registration import Transform
from stainda.study import run_study

PATCHES = STUDY.replace(
    "strategies: [source_only, adabn, dann, propagated_labels, oracle]", "strategies: [source_only]"
).replace("split: [0.4, 0.2, 0.4]", "split: [0.34, 0.33, 0.33]")


def make_run(folder: Path, until: str = "propagate", patients: int = 3) -> tuple[Path, Path]:
    """A run of the blob cohort up to a stage; returns the study file and the run directory."""
    study = write_study(make_blob_cohort(folder / "data", patients), folder / "study.yaml", PATCHES)
    return study, run_study(study, folder / "run", until=until)  # type: ignore[arg-type]


def turn_section(data: Path, slide: str, degrees: float, mirrored: bool) -> np.ndarray:
    """Turn (and mirror) a slide about its centre in its file; returns the map (3, 3) from its new pixels to the old."""
    centre, angle = SIZE / 2, np.deg2rad(degrees)
    to_centre, back = np.eye(3), np.eye(3)
    to_centre[:2, 2], back[:2, 2] = -centre, centre
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    matrix = back @ turn @ np.diag([-1.0 if mirrored else 1.0, 1, 1]) @ to_centre
    # Pillow samples the old picture at matrix · (x + ½, y + ½) for each new pixel
    path = data / f"{slide}.png"
    with Image.open(path) as image:
        image.transform(
            image.size, Image.Transform.AFFINE, matrix[:2].ravel().tolist(), Image.Resampling.BILINEAR,
            fillcolor=(245, 245, 245),
        ).save(path)  # fmt: skip
    return matrix


def make_turned_run(folder: Path, degrees: float = 35, mirrored: bool = True) -> Path:
    """A run whose section P0_SR lies turned and mirrored on the glass, with the transform that says so."""
    manifest = make_blob_cohort(folder / "data", 3)
    matrix = turn_section(folder / "data", "P0_SR", degrees, mirrored)
    study = write_study(manifest, folder / "study.yaml", PATCHES)
    run = run_study(study, folder / "run", until="register")
    place = run / "registration" / "P0"
    size = (SIZE, SIZE)
    reference = Transform.load(place / "P0_SR").frame
    if reference == "P0_SR":
        Transform.affine("P0_PAS", size, "P0_SR", size, np.linalg.inv(matrix)).save(place / "P0_PAS")
    else:
        Transform.affine("P0_SR", size, "P0_PAS", size, matrix).save(place / "P0_SR")
    return run_study(study, folder / "run", until="propagate")
