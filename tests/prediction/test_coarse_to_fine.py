"""Coarse to fine: the second detector sees salient tissue alone, and finds there what it finds without the first."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from blob_cohort import COLOURS, make_data, make_job

from stainda.annotations import read_shapes
from stainda.errors import StaindaError
from stainda.objects.matching import match_objects
from stainda.prediction import CoarseDetector, load_predictor, predict_slide
from stainda.prediction.coarse import SalientRegion, share_of_tissue, widened
from stainda.slides import TissueMask, open_slide
from stainda.study.predicting import predict_slides
from stainda.training import train_on

SIDE, CENTRES = 1500, [(100, 120), (160, 260), (1340, 1380)]


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jobs") / "plain"
    made = make_job({}, epochs=4, steps_per_epoch=12, targets=("SR@A",))
    train_on(made, make_data(made), folder)
    settings = json.loads((folder / "settings.json").read_text())
    settings["task"]["min_object_px"] = 60
    (folder / "settings.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    """Much tissue, and three discs in two of its corners."""
    tissue, own, _ = (np.asarray(colour) for colour in COLOURS["PAS@A"])
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    image = np.ones((SIDE, SIDE, 3))
    image[15:-15, 15:-15] = tissue
    for cx, cy in CENTRES:
        image[(x - cx) ** 2 + (y - cy) ** 2 < 81] = own
    image += np.random.default_rng(0).normal(0, 0.02, image.shape)
    path = tmp_path_factory.mktemp("slides") / "one.png"
    Image.fromarray((image.clip(0, 1) * 255).astype(np.uint8)).save(path)
    return path


def _pixels_seen(predictor, monkeypatch):
    seen, answers = [], predictor.detector.answers
    monkeypatch.setattr(
        predictor.detector, "answers", lambda batch, *rest: (seen.append(batch[..., 0].size), answers(batch, *rest))[1]
    )
    return seen


def test_the_second_detector_sees_less_and_finds_the_same(job, slide, tmp_path, monkeypatch):
    fine = load_predictor(job)
    seen = _pixels_seen(fine, monkeypatch)
    whole = predict_slide(fine, slide, tmp_path / "whole", mpp=0.5)
    of_whole = sum(seen)
    seen.clear()
    narrow = predict_slide(fine, slide, tmp_path / "narrow", mpp=0.5, coarse=CoarseDetector(load_predictor(job), 0.9))
    assert 0 < sum(seen) < 0.6 * of_whole, narrow.notes
    first, second = read_shapes(whole.file), read_shapes(narrow.file)
    assert len(first) >= 3 and match_objects(first, second, 0.8).hits == len(first) == len(second)
    assert narrow.tissue_area == pytest.approx(whole.tissue_area), "objects are counted per mm² of all tissue"
    assert narrow.notes[0].startswith("looked at ") and narrow.notes[1:] == whole.notes


def test_a_first_detector_that_sees_nothing_costs_the_objects(job, slide, tmp_path, monkeypatch):
    blind = load_predictor(job)
    monkeypatch.setattr(blind, "thresholds", dict.fromkeys(blind.thresholds, 1e9))
    result = predict_slide(job, slide, tmp_path, mpp=0.5, coarse=CoarseDetector(blind))
    assert result.n_objects == 0 and "looked at 0 %" in result.notes[0]


def test_the_command_names_both_and_predicts_again_where_the_first_changes(job, slide, tmp_path):
    out, notes = tmp_path / "out", []
    options = {"mpp": 0.5, "coarse": job, "on_choice": lambda choice, lines: notes.extend(lines)}
    done = predict_slides(job, [slide], out, **options)
    assert [result.status for result in done.results] == ["predicted"]
    assert any("where to look" in note for note in notes)
    assert "looked at" in pd.read_csv(out / "slides.csv").loc[0, "notes"]
    assert predict_slides(job, [slide], out, **options).results[0].status == "kept"
    assert predict_slides(job, [slide], out, coarse_share=0.5, **options).results[0].status == "predicted"
    assert predict_slides(job, [slide], out, mpp=0.5).results[0].status == "predicted"
    with pytest.raises(StaindaError, match="coarse_share must be above 0"):
        predict_slides(job, [slide], out, coarse_share=0.0, **options)


def test_what_is_salient_is_widened_by_a_distance():
    mask = np.zeros((41, 41), bool)
    mask[20, 20] = True
    wide = widened(mask, 7.2)
    assert wide.sum() == pytest.approx(np.pi * 8**2, rel=0.06) and wide[20, 28] and not wide[20, 29]
    assert not widened(np.zeros((5, 5), bool), 3).any()


def test_a_box_is_seen_where_it_is_both_tissue_and_salient(slide):
    tissue = TissueMask(np.array([[True, True], [False, False]]), 750.0, (SIDE, SIDE))
    salient = TissueMask(np.array([[True, False], [True, False]]), 750.0, (SIDE, SIDE))
    with open_slide(slide, mpp=0.5) as opened:
        region = SalientRegion(opened, tissue, 3.0, salient, "")
        boxes = np.array([[0, 0, 100, 100], [300, 0, 400, 100], [0, 300, 100, 400]])
        np.testing.assert_array_equal(region.seen_share(boxes) > 0, [True, False, False])
        np.testing.assert_array_equal(region.tissue_share(boxes) > 0, [True, True, False])
    assert share_of_tissue(tissue, salient) == 0.5
