"""Studies whose task is of instances or points, from slides to page: objects apart, records, GeoJSON of points."""

from __future__ import annotations

import csv
import json

import numpy as np
import pandas as pd
import pytest
import shapely
from PIL import Image

from stainda.annotations import read_shapes
from stainda.evaluation import read_records
from stainda.microenvironment.cells import score_cells
from stainda.run_directory import microenvironment_tables as tables
from stainda.study import run_study
from stainda.study.microenvironment import measure
from stainda.study.predicting import predict_slides

SIZE, MPP = 256, 1.0
STUDY = """
study: touching
title: Touching
question: Are they apart?
manifest: {manifest}
registration: {{method: identity}}
recipe: small
task: {task}
model: {{name: unet, params: {{depth: 3, width: 6}}}}
patches: {{mpp: 1.0, size: 48, grid: true, stride: 48}}
protocol: {{sources: [HE@A], targets: [IHC@A], seeds: 1, split: [0.5, 0.25, 0.25]}}
search: {{trials: 1}}
evaluation: {{resamples: 100, point_um: 4}}
workers: 1
training: {{epochs: 3, steps_per_epoch: 20, batch_size: 8, learning_rate: 1.0e-2, object_share: }}
strategies: [source_only]
"""
TASKS = {
    "instances": "{kind: instances, name: cells, classes: [nucleus], instances: star, min_object_um2: 8}",
    "points": "{kind: points, name: cells, classes: [nucleus], sigma_um: 2}",
}


def write_slide(folder, name, colours, seed, as_points):
    """Pairs of discs that touch, lighter at their rims; outlines or points as annotations."""
    rng, (y, x) = np.random.default_rng(seed), np.mgrid[:SIZE, :SIZE]
    tissue, own = (np.array(colour, float) for colour in colours)
    image, features, number = np.full((SIZE, SIZE, 3), 245.0), [], 0
    image[8:-8, 8:-8] = tissue
    image += rng.normal(0, 4, image.shape)
    for row in range(24, SIZE - 20, 28):
        for column in range(24, SIZE - 20, 28):
            turn, radius = rng.uniform(0, np.pi), rng.uniform(5, 6)
            for side in (-1, 1):
                cx, cy = column + side * radius * 0.95 * np.cos(turn), row + side * radius * 0.95 * np.sin(turn)
                away = np.hypot(x - cx, y - cy) / radius
                image[away <= 1] = (own + 70 * away[..., None] ** 2)[away <= 1]
                around = np.linspace(0, 2 * np.pi, 33)
                ring = np.stack([cx + 0.5 + radius * np.cos(around), cy + 0.5 + radius * np.sin(around)], 1).round(2)
                ring[-1] = ring[0]
                geometry = {"type": "Polygon", "coordinates": [ring.tolist()]}
                if as_points:
                    geometry = {"type": "Point", "coordinates": [cx + 0.5, cy + 0.5]}
                number += 1
                features.append({
                    "type": "Feature", "id": f"00000000-0000-4000-8000-{seed:06d}{number:06d}", "geometry": geometry,
                    "properties": {"objectType": "annotation", "classification": {"name": "nucleus"}},
                })  # fmt: skip
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"{name}.png")
    (folder / f"{name}.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return number


def write_cohort(folder, as_points):
    folder.mkdir()
    rows, colours = [], {"HE": ((226, 190, 214), (110, 50, 120)), "IHC": ((222, 214, 220), (120, 80, 60))}
    for patient in range(4):
        for place, (stain, pair) in enumerate(colours.items()):
            name = f"P{patient}_{stain}"
            write_slide(folder, name, pair, 10 * patient + place, as_points)
            rows.append({
                "slide": name, "patient": f"P{patient}", "block": f"P{patient}", "section": place + 1, "stain": stain,
                "centre": "A", "scanner": "", "path": f"{name}.png", "annotations": f"{name}.geojson", "landmarks": "",
                "mpp": MPP, "split": "",
            })  # fmt: skip
    with (folder / "manifest.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder / "manifest.csv"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("touching"), {}
    for kind, task in TASKS.items():
        manifest = write_cohort(folder / kind, as_points=kind == "points")
        study = folder / f"{kind}.yaml"
        study.write_text(STUDY.format(manifest=manifest, task=task))
        made[kind] = run_study(study, folder / f"run_{kind}")
    return made


def of_source(run):
    """Scores on the source's own test slide or, where none is tested, on its validation slide, by measure."""
    records = read_records(next(iter((run / "jobs").glob("*/records.parquet"))))
    rows = records[(records["stain"] == "HE") & (records["checkpoint"] == "best")]
    return rows.groupby("measure")["value"].mean()


def test_touching_objects_are_scored_as_objects_of_their_own(runs):
    value = of_source(runs["instances"])
    assert {"aji", "panoptic_quality", "detection_quality", "segmentation_quality", "merged_objects"} <= set(
        value.index
    )
    assert value["dice"] > 0.85 and value["merged_objects"] < 0.3 and value["object_f1"] > 0.7


def test_points_are_matched_by_distance_and_written_as_points(runs):
    value = of_source(runs["points"])
    assert value["object_f1"] > 0.8 and "aji" not in value.index
    written = [json.loads(path.read_text()) for path in (runs["points"] / "jobs").glob("*/predictions/*.geojson")]
    kinds = {feature["geometry"]["type"] for collection in written for feature in collection["features"]}
    assert kinds == {"Point"}


@pytest.mark.parametrize("kind", TASKS)
def test_the_page_says_what_was_looked_for_and_shows_the_measures(runs, kind):
    page = (runs[kind] / "report" / "index.html").read_text()
    assert f"({kind}, scored as pixels and as objects)" in page
    tables = "".join(path.read_text() for path in (runs[kind] / "report" / "tables").glob("*.csv"))
    wanted = {"instances": ("AJI", "Merged objects", "Segmentation quality (PQ)"), "points": ("froc_1", "Object F1")}[
        kind
    ]
    missing = [name for name in wanted if name not in page and name not in tables]
    assert missing == []
    assert ("Merged objects by strategy and domain" in page) == (kind == "instances")


@pytest.mark.parametrize("kind", TASKS)
def test_the_answer_speaks_of_objects_where_they_are_to_be_kept_apart(runs, kind):
    title, other = {"instances": ("AJI", "Dice"), "points": ("Dice", "AJI")}[kind]
    answer = (runs[kind] / "report" / "answer.txt").read_text(encoding="utf-8")
    assert f"{title} " in answer and f"{other} " not in answer
    page = (runs[kind] / "report" / "index.html").read_text()
    assert page.index(f"{title} by strategy") < page.find(f"{other} by strategy") % len(page)


def test_a_new_slide_gives_points_that_qupath_opens(runs, tmp_path):
    write_slide(tmp_path, "new", ((226, 190, 214), (110, 50, 120)), 77, as_points=True)
    result = predict_slides(runs["points"], [tmp_path / "new.png"], tmp_path / "out", mpp=MPP)
    result.check()
    collection = json.loads((tmp_path / "out" / "new.geojson").read_text())
    assert {feature["geometry"]["type"] for feature in collection["features"]} == {"Point"}
    table = pd.read_csv(tmp_path / "out" / "objects" / "new.csv")
    assert len(table) == len(collection["features"]) > 50 and table["area_um2"].isna().all()


@pytest.mark.parametrize("kind", TASKS)
def test_detections_of_a_trained_task_are_the_cells_of_the_micro_environment(runs, kind, tmp_path):
    """Cells of a trained task of points (or instances) are counted about structures outlined by hand."""
    manifest = write_cohort(tmp_path / "cohort", as_points=True)  # HE is what the network was trained on
    (tmp_path / "outlines").mkdir()
    ring = [[60, 60], [190, 60], [190, 190], [60, 190], [60, 60]]
    feature = {
        "type": "Feature", "id": "00000000-0000-4000-8000-000000000001",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "annotation", "classification": {"name": "glomerulus"}},
    }  # fmt: skip
    for patient in range(4):
        path = tmp_path / "outlines" / f"P{patient}_HE.geojson"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    root = measure(manifest, tmp_path / "run", {
        "stains": ["HE"], "outlines": ["files"], "outline_files": str(tmp_path / "outlines"), "cells": "network",
        "cell_run": str(runs[kind]), "cell_classes": ["nucleus"], "rings_um": [30], "simulations": 19, "resamples": 100,
    })  # fmt: skip
    zones = tables.ZONES.read(root / "microenvironment").set_index(["slide", "zone"])
    for patient in range(4):
        slide = f"P{patient}_HE"
        truth = shapely.get_coordinates(read_shapes(tmp_path / "cohort" / f"{slide}.geojson").geometry.values)
        cells = shapely.get_coordinates(
            read_shapes(root / "microenvironment/cells" / f"{slide}.geojson").geometry.values
        )
        assert score_cells(truth, cells, 4.0).f1 > 0.8
        inside = ((truth > 60) & (truth < 190)).all(axis=1).sum()
        assert zones.loc[(slide, "inside"), "cells"] == pytest.approx(inside, rel=0.2)
    assert "detections of a trained network" in (root / "microenvironment" / "methods.txt").read_text()
