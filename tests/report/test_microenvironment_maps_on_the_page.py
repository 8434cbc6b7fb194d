"""Maps of cells and structures lie where they are on the thumbnail, also where files count from the scanned part."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import shapely
from PIL import Image

from stainda.annotations import make_shapes, write_geojson
from stainda.report import microenvironment_figures
from stainda.report.microenvironment import _maps
from stainda.run_directory import microenvironment_tables as tables
from stainda.run_directory.contents import THUMBNAIL

RATES = {"inside per mm2": 5.0, "0-25 per mm2": 80.0, "25-50 per mm2": 7.0}


@pytest.mark.parametrize("bounds", [None, (4000, 6000, 9000, 9000)], ids=["slide", "scanned part"])
def test_cells_and_structures_lie_where_they_are_on_the_slide(tmp_path, monkeypatch, bounds):
    small, large = shapely.box(4500, 6500, 4510, 6510), shapely.box(5000, 7000, 5100, 7100)
    structures = make_shapes(
        [large, shapely.MultiPolygon([small, large])], "glomerulus", id=["a", "b"],
        properties=[{"objectType": "annotation", "measurements": RATES}, {"objectType": "annotation"}],
    )  # fmt: skip
    cells = make_shapes(shapely.points([[5050.0, 7120.0], [5001.0, 6990.0]]), "cell", id=["c", "d"])
    for shapes, file in ((structures, tables.OUTLINES), (cells, tables.CELLS)):
        path = file.at(tmp_path, slide="S")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_geojson(shapes, path, "annotation", 2, bounds)
    thumbnail = THUMBNAIL.at(tmp_path, slide="S")
    thumbnail.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (90, 90)).save(thumbnail)
    drawn = []
    monkeypatch.setattr(microenvironment_figures, "on_section", lambda *given: drawn.append(given[2:]) or "figure")
    monkeypatch.setattr("stainda.report.microenvironment._draw", lambda write, plot, name: name)
    run = SimpleNamespace(folder=tmp_path, cohort=pd.DataFrame({"slide": ["S"], "width": [9000], "height": [9000]}))
    rows = pd.DataFrame({"slide": ["S"], "stain": ["CD68"], "density": [80.0]})
    assert _maps(run, "CD68", rows, None) == ["microenvironment_map_S"]
    ((rings, rates, points),) = drawn
    for ring in rings:  # of several parts the largest
        assert (ring.min(axis=0).tolist(), ring.max(axis=0).tolist()) == ([5000, 7000], [5100, 7100])
    assert rates[0] == 80 and np.isnan(rates[1])
    assert sorted(points.tolist()) == [[5001, 6990], [5050, 7120]]
