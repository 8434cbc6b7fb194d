"""Examples of cells that are points: hits by distance, drawn as rings."""

import shutil

import pandas as pd
import pytest
from make_run import make_run
from shapely.geometry import Point

from stainda.annotations import make_shapes, write_geojson
from stainda.evaluation import analyse, one_rotation
from stainda.names import file_name
from stainda.report.gallery import POINT_RADIUS, make_gallery
from stainda.report.loading import load_run
from stainda.report.summary_text import hit_words


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two annotated points in view of every slide; one detection 9 µm off, one that is false."""
    folder = make_run(tmp_path_factory.mktemp("runs") / "run", strategies=("source_only", "oracle"), evidence=False)
    loaded = load_run(folder)
    cls = loaded.study.task.classes[0]
    places = loaded.fields.set_index("slide")
    for row in loaded.cohort.to_dict("records"):
        name, mpp = file_name(row["slide"]), float(row["mpp"])
        x, y = places.loc[row["slide"], "x"] + 30, places.loc[row["slide"], "y"] + 30
        truth = make_shapes([Point(x, y), Point(x + 60, y)], cls, id=["a", "b"])
        write_geojson(truth, folder / "annotations" / "own" / f"{name}.geojson")
        detected = make_shapes([Point(x, y + 9 / mpp), Point(x, y + 60)], cls, id=["c", "d"])
        for job in loaded.jobs.values():
            if (job.folder / "predictions" / f"{name}.geojson").is_file():
                write_geojson(detected, job.folder / "predictions" / f"{name}.geojson")
    return load_run(folder)


def counts(run):
    analysis = analyse([one_rotation(run.records, run.study, run.trials)], run.study)
    panels = [panel for field in make_gallery(run, analysis).fields for panel in field.panels]
    assert panels
    return {panel.text for panel in panels}, panels


def test_points_are_hit_by_distance_and_drawn(run):
    texts, panels = counts(run)
    assert texts == {"1 hit, 1 missed, 1 false"}
    for fate in ("truth", "hit", "missed", "false"):
        assert panels[0].paths[fate].count("M") == 1
    corners = [float(part.split()[0]) for part in panels[0].paths["hit"].strip("MZ").split("L")]
    assert max(corners) - min(corners) == pytest.approx(2 * POINT_RADIUS, abs=1)


def test_without_a_pixel_size_annotated_points_count_neither_way(run, tmp_path):
    shutil.copytree(run.folder, tmp_path / "run")
    pd.read_csv(tmp_path / "run" / "cohort.csv").assign(mpp="").to_csv(tmp_path / "run" / "cohort.csv", index=False)
    texts, _ = counts(load_run(tmp_path / "run"))
    assert texts == {"0 hit, 0 missed, 2 false"}, "as in the scores: they count neither way"


def test_detections_in_an_ignored_region_count_neither_way(run, tmp_path):
    """As in the scores; the pictures once called them false."""
    folder = shutil.copytree(run.folder, tmp_path / "run")
    cls = run.study.task.classes[0]
    places = run.fields.set_index("slide")
    for slide in run.cohort["slide"]:
        x, y = places.loc[slide, "x"] + 30, places.loc[slide, "y"] + 30
        truth = make_shapes(
            [Point(x, y), Point(x + 60, y), Point(x, y + 60).buffer(8)], [cls, cls, "Ignore*"], id=["a", "b", "i"]
        )
        write_geojson(truth, folder / "annotations" / "own" / f"{file_name(slide)}.geojson")
    texts, _ = counts(load_run(folder))
    assert texts == {"1 hit, 1 missed, 0 false"}


def test_points_are_said_to_be_hit_by_distance(run):
    study = run.study.model_copy(update={"task": run.study.task.model_copy(update={"kind": "points"})})
    assert hit_words(study) == "centres at most 10 µm away" and hit_words(study, 0.75) == "centres at most 5 µm away"
    assert hit_words(run.study) == "an IoU of at least 0.5"
    assert study.evaluation.model_copy(update={"iou": 0.7}).overlap("points") == 0.5
