"""Cells by the classical detector and from files, and their scores."""

import json

import numpy as np
import pytest
from made_sections import MPP, cells_at, write_section

from stainda.config.microenvironment import CellDetectionConfig
from stainda.errors import AnnotationError
from stainda.microenvironment.cells import detect_cells, read_cells, score_cells
from stainda.slides import open_slide


def test_brown_spots_are_found_where_they_are_with_their_size(tmp_path):
    truth = cells_at(np.random.default_rng(0))
    write_section(tmp_path / "s.tif", truth, np.random.default_rng(0))
    with open_slide(tmp_path / "s.tif") as slide:
        found = detect_cells(slide, CellDetectionConfig())
    score = score_cells(truth * MPP, found.xy * MPP, 5.0)
    assert score.f1 > 0.97 and score.distance_um < 1.0
    assert np.median(found.area_um2) == pytest.approx(np.pi * 4.5**2, rel=0.25)
    whole = len(truth) * np.pi * 4.5**2
    assert found.positive.sum() * found.grid_um**2 == pytest.approx(whole, rel=0.25)


def test_a_section_without_stain_has_no_cell(tmp_path):
    write_section(tmp_path / "s.tif", np.zeros((0, 2)), np.random.default_rng(0))
    with open_slide(tmp_path / "s.tif") as slide:
        assert len(detect_cells(slide, CellDetectionConfig())) == 0


def test_points_are_matched_one_to_one_within_the_distance():
    truth = np.array([[0.0, 0.0], [10.0, 0.0], [50.0, 0.0]])
    found = np.array([[1.0, 0.0], [4.0, 0.0], [90.0, 0.0]])
    score = score_cells(truth, found, 6.0)
    assert (score.hits, score.missed, score.false) == (2, 1, 1)  # nearest first would find one
    assert score.f1 == pytest.approx(2 * 2 / 6)
    assert score_cells(truth, np.zeros((0, 2)), 6.0).recall == 0


def feature(kind, coordinates, name):
    return {
        "type": "Feature", "properties": {"objectType": "detection", "classification": {"name": name}},
        "geometry": {"type": kind, "coordinates": coordinates},
    }  # fmt: skip


def test_cells_are_read_from_geojson_and_csv_as_points_or_outlines(tmp_path):
    square = [[[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]]
    features = [
        feature("Point", [3, 4], "macrophage"), feature("Polygon", square, "macrophage"),
        feature("Point", [9, 9], "T cell"), feature("MultiPoint", [[1, 1], [2, 2]], "macrophage"),
    ]  # fmt: skip
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    found = read_cells(tmp_path / "a.geojson", ("macrophage",))
    assert sorted(map(tuple, found.xy.tolist())) == [(1, 1), (2, 2), (3, 4), (5, 5)]
    assert found.left_out == {"of another class": 1}
    (tmp_path / "b.csv").write_text("x,y,class,score\n3,4,macrophage,0.5\n5,6,macrophage,0.9\n")
    assert read_cells(tmp_path / "b.csv").score.tolist() == [0.5, 0.9]
    with pytest.raises(AnnotationError, match="macrophages"):
        read_cells(tmp_path / "b.csv", ("macrophages",))
