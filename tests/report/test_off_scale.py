"""What lies beyond an axis is drawn at its border with the value, and the caption says so."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from stainda.report import off_scale

LIMITS = (0.0, 1.0)


def _drawn(mean: float, low: float, high: float):
    place = Figure().subplots()
    place.set_xlim(*LIMITS)
    row = pd.Series({"mean": mean, "low": low, "high": high})
    off_scale.draw_interval(place, row, 0, "#000000", "o", LIMITS)
    heads = {line.get_marker(): float(line.get_xdata()[0]) for line in place.lines if line.get_gid() == off_scale.GID}
    texts = [text.get_text() for text in place.findobj(Text) if text.get_gid() == off_scale.GID]
    return place, heads, texts


def test_a_mean_beyond_the_axis_stands_at_the_border_with_its_value():
    place, heads, texts = _drawn(2.31, 1.9, 2.6)
    assert heads == {">": 1.0} and texts == ["2.31"]
    assert all(0 <= x <= 1 for line in place.lines for x in line.get_xdata())


@pytest.mark.parametrize(
    ("row", "heads", "texts"),
    [
        ((0.5, 0.2, 1.4), {">": 1.0}, ["1.40"]),
        ((0.5, -0.3, 0.8), {"<": 0.0}, ["−0.30"]),
        ((0.5, -0.3, 1.4), {"<": 0.0, ">": 1.0}, ["−0.30", "1.40"]),
        ((-0.4, -0.8, 0.2), {"<": 0.0}, ["−0.40"]),
        ((0.5, 0.2, 0.8), {}, []),
        ((np.nan, np.nan, np.nan), {}, []),
    ],
)
def test_each_end_beyond_the_axis_has_an_arrowhead_and_what_is_inside_has_none(row, heads, texts):
    _, found, words = _drawn(*row)
    assert found == heads and words == texts


def test_the_caption_counts_what_goes_beyond():
    rows = pd.DataFrame({"mean": [0.5, 1.2, np.nan], "low": [0.1, 1.1, np.nan], "high": [0.9, 1.3, np.nan]})
    assert off_scale.count_beyond(rows, LIMITS) == 1
    assert off_scale.count_beyond(rows.assign(high=[1.5, 1.3, np.nan]), LIMITS) == 2
    assert off_scale.words(0) == "" and off_scale.words(2).startswith(" 2 marks")
