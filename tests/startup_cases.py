"""The commands that answer at once, on files made in a moment, and the heavy packages each of them may import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from small_cohorts import STUDY, make_blob_cohort, write_study

ROOT = Path(__file__).parents[1]

HEAVY = (
    "torch", "torchvision", "timm", "pytorch_adapt", "valis", "optuna", "statsmodels", "sklearn", "skimage",
    "matplotlib", "geopandas", "pandas", "pyarrow", "pyproj", "scipy", "shapely", "pycocotools", "zarr", "tifffile",
    "imagecodecs", "openslide", "pyvips", "PIL", "numpy", "pydantic", "jinja2",
)  # fmt: skip
"""Packages whose import costs a twentieth of a second or more."""


@dataclass(frozen=True)
class Command:
    """A command line in the folder of :func:`make_files`.

    Attributes:
        words: behind ``stainda``.
        may: packages of :data:`HEAVY` that it may import.
        ends: its exit status.
    """

    words: str
    may: str = ""
    ends: int = 0


STUDY_READ = "pydantic"  # typer itself imports it for every command with an argument
ARRAYS = f"{STUDY_READ} numpy"
SHAPES = f"{ARRAYS} shapely"
SLIDES = f"{SHAPES} PIL openslide"
POINTS = f"{SHAPES} pandas pyarrow"
TABLES = f"{POINTS} geopandas pyproj"

COMMANDS = (
    Command("", ends=2),
    Command("--help"),
    Command("--version"),
    Command("annotations check --help", STUDY_READ),
    Command("transform import --help", STUDY_READ),
    Command("predict --help", STUDY_READ),
    Command("annotations check shapes.geojson", SHAPES),
    Command("annotations check shapes.csv", SHAPES),
    Command("annotations check absent.geojson", SHAPES, 2),
    Command("annotations check broken.geojson", SHAPES, 2),
    Command("annotations convert shapes.geojson shapes.xml --to asap", TABLES),
    Command("annotations convert shapes.geojson shapes.json --to labelme", TABLES),
    Command("manifest check cohort/manifest.csv", SLIDES),  # opens the slides
    Command("manifest check faulty.csv", SLIDES, 2),
    Command("manifest scan cohort --pattern {patient}_{stain}.png --centre A --out scanned.csv", SHAPES),
    Command("manifest make --list", SHAPES),
    Command("list strategies", ARRAYS),
    Command("list models", STUDY_READ),
    Command("list tasks", STUDY_READ),
    Command("list stains", ARRAYS),
    Command("list parts", ARRAYS),
    Command("list data", SHAPES),
    Command("weights list", STUDY_READ),
    Command("weights list uni", STUDY_READ),
    Command("weights list unni", STUDY_READ, 2),
    Command("weights convert --help", STUDY_READ),
    Command("plan study.yaml", SLIDES),  # reads the annotations, opens the slides
    Command("manifest check study.yaml", SLIDES),
    Command("plan absent.yaml", ARRAYS, 2),
    Command("plan study.yaml training.epoch=2", ARRAYS, 2),
    Command("run study.yaml strategies=[no_such]", ARRAYS, 2),
    Command("run absent.yaml", ARRAYS, 2),
    Command("register absent.csv --out runs/x", ARRAYS, 2),
    Command("propagate cohort/manifest.csv --out runs/absent", ARRAYS, 2),
    Command("report runs/absent", ARRAYS, 2),
    Command("plot runs/absent", ARRAYS, 2),
    Command("compare runs/absent runs/other --out compared", ARRAYS, 2),
    Command("plot --list", STUDY_READ),
    Command("predict runs/absent/jobs/0 cohort/P0_PAS.png", SHAPES, 2),
    Command("review runs/absent", ARRAYS, 2),
    Command("doctor", f"{STUDY_READ} PIL openslide pyvips"),  # their libraries are often missing, and quick to import
    Command("transform info shift.json", SHAPES),
    Command("transform info absent.json", SHAPES, 2),
    Command("transform points shift.json points.csv moved.csv", POINTS),
    Command("transform shapes shift.json shapes.geojson moved.geojson", f"{TABLES} PIL"),
)
"""What they may import is at the same time what keeps them within 2 processor seconds, ``--help`` within 0.7."""

SLOWER = (
    Command("plan study.yaml --time", " ".join(HEAVY)),
    Command("doctor --imports", " ".join(HEAVY)),
)
"""Commands that import what they are about; timed by benchmarks/startup.py only."""


def make_files(folder: Path) -> None:
    """Three shapes, a broken file, a cohort with a faulty copy of its manifest, a study of it, and a transform."""
    manifest = make_blob_cohort(folder / "cohort")
    text = manifest.read_text().replace("P0_SR,P0", "P0_SR,P1", 1)
    (folder / "faulty.csv").write_text(text)
    own_network = "model: {{name: unet, params: {{depth: 2, width: 4}}}}"
    write_study(manifest.resolve(), folder / "study.yaml", STUDY.replace(own_network, "model: unet_small"))
    rings = [[[x, x], [x + 40, x], [x + 40, x + 40], [x, x]] for x in (10, 110, 210)]
    features = [
        {
            "type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"objectType": "annotation", "classification": {"name": "glomerulus"}},
        }
        for ring in rings
    ]  # fmt: skip
    (folder / "shapes.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    (folder / "broken.geojson").write_text('{"type": "FeatureCollection", "features": [')
    (folder / "shapes.csv").write_text("id,class,x,y\n1,glomerulus,10,10\n2,glomerulus,50,80\n")
    (folder / "points.csv").write_text("id,x,y\n1,10,10\n2,50,80\n")
    _make_transform(folder / "shift.json")


def _make_transform(path: Path) -> None:
    from stainda.registration.transforms import Transform

    matrix = np.array([[1.0, 0.0, 5.0], [0.0, 1.0, -3.0], [0.0, 0.0, 1.0]])
    Transform.affine("P0_PAS", (384, 384), "P0_SR", (384, 384), matrix).save(path)


def imported(words: str, folder: Path) -> tuple[int, set[str], str]:
    """Exit status of a command, the packages of :data:`HEAVY` that it imported, and what it printed."""
    out = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "stainda", *words.split()],
        cwd=folder, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = [line for line in out.stderr.splitlines() if line.startswith("import time:")]
    names = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines}
    said = "\n".join(line for line in out.stderr.splitlines() if not line.startswith("import time:"))
    return out.returncode, names & set(HEAVY), out.stdout + said


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
