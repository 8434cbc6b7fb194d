"""Fields of view lie where there is something to see."""

from __future__ import annotations

import numpy as np
import pandas as pd
import shapely
from patch_cohort import CONFIG, write_cohort
from PIL import Image

from stainda.annotations import make_shapes
from stainda.patches import write_fields


def test_fields_hold_most_annotations_or_tissue(tmp_path):
    cohort = write_cohort(tmp_path, patients=(("p1", "train"),))
    crowd = [shapely.box(x, 300, x + 20, 330) for x in (300, 330, 360)]
    shapes = {"p1_PAS": make_shapes([shapely.box(50, 50, 80, 80), *crowd], "glomerulus")}
    table = pd.read_csv(write_fields(cohort, CONFIG, shapes, tmp_path / "fields", size=80))
    assert list(table.columns) == ["slide", "x", "y", "width", "height", "downsample"]
    row = table.set_index("slide").loc["p1_PAS"]
    field = shapely.box(row.x, row.y, row.x + row.width * row.downsample, row.y + row.height * row.downsample)
    assert all(field.contains(one) for one in crowd) and row.downsample == 2.0
    for name, row in table.set_index("slide").iterrows():
        image = np.asarray(Image.open(tmp_path / "fields" / f"{name}.jpg"))
        assert image.shape == (row.height, row.width, 3) == (80, 80, 3) and (image.min(-1) < 240).mean() > 0.9


def test_a_small_slide_is_shown_whole_and_nothing_is_done_twice(tmp_path):
    cohort = write_cohort(tmp_path, patients=(("p1", "train"),))
    table = pd.read_csv(write_fields(cohort, CONFIG, {}, tmp_path / "fields"))
    assert set(table["width"]) == {240} and set(table["x"]) == {0.0}
    before = (tmp_path / "fields" / "p1_PAS.jpg").stat().st_mtime_ns
    write_fields(cohort, CONFIG, {}, tmp_path / "fields")
    assert (tmp_path / "fields" / "p1_PAS.jpg").stat().st_mtime_ns == before
    write_fields(cohort, CONFIG, {}, tmp_path / "fields", size=100)
    assert Image.open(tmp_path / "fields" / "p1_PAS.jpg").size == (100, 100)
