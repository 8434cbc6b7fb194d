"""The table of a study of slides: attention on squares whose truth is known."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from shapely.geometry import box, mapping

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from slides_summary import COLUMNS, interval, shares, summary

from stainda.report.slide_level_figures import COLOURS, MARKERS
from stainda.slide_level.aggregators import SUMMARIES


def feature(shape, **measurements):
    return {"type": "Feature", "geometry": mapping(shape), "properties": {"measurements": measurements}}


def write(path, features):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def forty_squares(path, first):
    """Forty squares of 10 pixels in a row; those from ``first`` on have most attention."""
    return write(path, [feature(box(10 * k, 0, 10 * k + 10, 10), rank=(k - first) % 40 / 39) for k in range(40)])


def truth(path):
    """A sclerotic glomerulus over squares 0 to 3 and a twentieth of square 4, and another one over the rest."""
    return write(path, [feature(box(0, 0, 40.5, 10), sclerotic=1), feature(box(50, 0, 400, 10), sclerotic=0)])


def test_the_share_of_the_patches_with_most_attention_that_show_the_truth(tmp_path):
    outlines = truth(tmp_path / "truth.geojson")
    # the two highest of forty: the last two before 'first'
    assert shares(forty_squares(tmp_path / "a.geojson", 2), outlines) == (1.0, 4 / 40)
    assert shares(forty_squares(tmp_path / "b.geojson", 5), outlines) == (0.5, 4 / 40), "a twentieth is not shown"
    assert shares(forty_squares(tmp_path / "c.geojson", 20), outlines) == (0.0, 4 / 40)


def test_intervals_contain_the_mean_and_few_slides_have_none():
    low, high = interval([0.5, 0.6, 0.7, 0.4, 0.5, 0.6], "x")
    assert low < 0.55 < high and (low, high) == interval([0.5, 0.6, 0.7, 0.4, 0.5, 0.6], "x")
    assert np.isnan(interval([0.5] * 5, "x")).all()


def test_the_table_of_a_run(tmp_path):
    rotation = tmp_path / "rotations" / "without_B"
    rows = [
        {"rotation": "without_B", "aggregator": name, "domain": "PAS@B", "measure": measure, "mean": value, "low": 0.1,
         "high": 0.9, "sd_trainings": 0.0, "difference": None, "difference_low": None, "difference_high": None,
         "positive": 6, "negative": 6, "trainings": 3}
        for name, value in (("mean", 0.6), ("attention", 0.8))
        for measure in ("auroc", "average_precision", "balanced_accuracy")
    ]  # fmt: skip
    (rotation / "slide_level").mkdir(parents=True)
    (tmp_path / "slide_level").mkdir()
    pd.DataFrame(rows).to_csv(tmp_path / "slide_level" / "summary.csv", index=False)
    slides = [f"P{number}" for number in range(7)]
    scores = [{"slide": slide, "domain": "PAS@B", "split": "test", "positive": slide != "P6"} for slide in slides]
    pd.DataFrame(scores).to_csv(rotation / "slide_level" / "scores.csv", index=False)
    for number, slide in enumerate(slides):
        first = 2 if number < 3 else 20
        forty_squares(rotation / "slide_level" / "attention" / f"{slide}_attention.geojson", first)
        truth(tmp_path / "phantom" / "annotations" / f"{slide}.geojson")
    table = summary(tmp_path).set_index("aggregator")
    assert list(table.reset_index().columns) == list(COLUMNS)
    assert table.loc["attention", "attended"] == pytest.approx(0.5), "of the six with the label, three"
    assert table.loc["attention", "of_all_patches"] == pytest.approx(0.1) and np.isnan(table.loc["mean", "attended"])
    assert 0 < table.loc["attention", "attended_low"] < 0.5 < table.loc["attention", "attended_high"] <= 1
    assert table.loc["attention", "auroc"] == table.loc["attention", "average_precision"] == 0.8


def test_every_aggregator_has_a_look_of_its_own_on_the_page():
    assert len(set(COLOURS)) >= len(SUMMARIES) and len(set(MARKERS)) >= len(SUMMARIES)
