"""Attention lies where the patches lie, as squares and as an image with the size of a square."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from stainda.slide_level.bags import Bag
from stainda.slide_level.maps import grid_of, write_maps


@pytest.fixture
def bag():
    """Patches of 100 pixels on a slide of 350 x 220 whose last column and row are moved to the rim."""
    corners = np.array([[0, 0], [100, 0], [250, 0], [100, 120]], float)
    return Bag("S", "PAS@A", corners, 100.0, 100.0, (350, 220), 0.5, "key", cache=None)  # type: ignore[arg-type]


def test_patches_stand_in_their_square(bag):
    image = grid_of(bag, np.array([1.0, 2.0, 3.0, 4.0]))
    assert image.shape == (3, 4)
    assert image[0, 0] == 1 and image[0, 1] == 2 and image[1, 1] == 4 and np.isnan(image[1, 0])
    assert np.nansum(image) == 10, "no patch covers another"


def test_the_files_hold_the_mean_of_the_trainings_and_the_pixel_size(bag, tmp_path):
    first, second = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.2, 0.1, 0.4, 0.3])
    answers = [SimpleNamespace(aggregator="attention", evidence={"S": values}) for values in (first, second)]
    answers.append(SimpleNamespace(aggregator="mean", evidence={}))
    write_maps(bag, tmp_path / "S.png", answers, tmp_path)
    written = json.loads((tmp_path / "slide_level" / "attention" / "S_attention.geojson").read_text())
    features = written["features"] if isinstance(written, dict) else written
    assert [feature["properties"]["measurements"]["attention"] for feature in features] == [0.3, 0.2, 0.3, 0.2]
    assert features[2]["geometry"]["coordinates"][0][0] in ([250, 0], [350, 0], [350, 100], [250, 100])
    with tifffile.TiffFile(tmp_path / "slide_level" / "attention" / "S_attention.ome.tiff") as tif:
        assert 'PhysicalSizeX="50.0"' in tif.ome_metadata and np.isclose(tif.asarray().sum(), 1.0)


def test_a_slide_without_pixel_size_has_squares_and_no_image(bag, tmp_path):
    answers = [SimpleNamespace(aggregator="max", evidence={"S": np.full(4, 0.5)})]
    write_maps(replace(bag, mpp=None), tmp_path / "S.png", answers, tmp_path)
    names = sorted(path.name for path in (tmp_path / "slide_level" / "attention").iterdir())
    assert names == ["S_max.geojson"]
