"""Maps to objects against known truth: touching discs are split, discs lie at peaks, cells where the slide has them."""

from __future__ import annotations

import numpy as np
import pytest

from stainda.config import TaskConfig
from stainda.errors import SlideError
from stainda.prediction.objects import ProbabilityMap, find_candidates, find_objects
from stainda.prediction.peaks import disc_peaks
from stainda.prediction.regions import ArrayRegion, tissue_pixels
from stainda.prediction.windows import Window, map_size, slide_window
from stainda.study.scoring import resized


def _discs(centres, radius, size=200):
    y, x = np.mgrid[:size, :size] + 0.5
    return np.max([((x - cx) ** 2 + (y - cy) ** 2 < radius**2) for cx, cy in centres], axis=0).astype(np.float32)


def _centres(shapes):
    return sorted((one.centroid.x, one.centroid.y) for one in shapes.geometry)


def test_touching_objects_are_split_only_where_asked_and_small_ones_left_out():
    array = np.maximum(_discs([(60, 60), (92, 60), (150, 150)], 18), _discs([(20, 180)], 3))[None] * 0.8
    found = ProbabilityMap(array, 2.0, 10.0, 20.0, ("nucleus",))
    joined = find_objects(found, TaskConfig(classes=("nucleus",), min_object_px=200), (0.5,), None)
    assert len(joined) == 2
    split = find_objects(found, TaskConfig(classes=("nucleus",), min_object_px=200, split_touching=True), (0.5,), None)
    expected = [(10 + 2 * x, 20 + 2 * y) for x, y in ((60, 60), (92, 60), (150, 150))]
    np.testing.assert_allclose(_centres(split), expected, atol=3)
    assert float(split.geometry.area.sum()) == pytest.approx(float(joined.geometry.area.sum()), rel=1e-3)
    assert len(find_objects(found, TaskConfig(classes=("nucleus",)), (0.5,), None)) == 3


def test_two_discs_that_touch_lie_at_their_peaks():
    """Nine tenths of a diameter apart both stay; at half a diameter the less probable goes."""
    task = TaskConfig(kind="classification", classes=("a",), objects="peaks", object_px=40)
    for apart, count in ((36, 2), (20, 1)):
        array = np.maximum(_discs([(60, 60)], 10) * 0.95, _discs([(60 + apart / 2, 60)], 10) * 0.9)[None]
        shapes = find_objects(ProbabilityMap(array, 2.0, 0.0, 0.0, ("a",)), task, (0.5,), None)
        if count == 2:
            np.testing.assert_allclose(_centres(shapes), [(120, 120), (156, 120)], atol=2)
        assert len(shapes) == (2 if apart == 36 else 1)
        assert np.allclose(shapes.geometry.area, np.pi * 20**2, rtol=0.02)
        assert shapes["score"].between(0.5, 1).all()


def test_peaks_below_the_threshold_and_specks_are_no_objects():
    shares = np.maximum(_discs([(60, 60)], 10) * 0.4, _discs([(140, 140)], 10) * 0.9)
    shares[20, 180] = 1.0  # a speck
    centres, scores = disc_peaks(shares, 20, 0.5)
    np.testing.assert_allclose(centres, [[140, 140]], atol=1)
    assert scores[0] == pytest.approx(0.9, abs=0.05)
    assert disc_peaks(np.zeros((30, 30)), 20, 0.0)[0].shape == (0, 2)


def test_a_size_in_micrometres_is_that_of_the_cells():
    """Cells of 8 pixels of 0.5 µm: a disc of 40 µm is 80 pixels of the slide at 0.5 µm, 40 at 1 µm."""
    task = TaskConfig(kind="classification", classes=("a",), objects="peaks", object_um=40)
    array = _discs([(10, 10)], 5, 20)[None]
    fixed = find_objects(ProbabilityMap(array, 8.0, 0, 0, ("a",), cell=8), task, (0.5,), 0.5)
    known = find_objects(ProbabilityMap(array, 4.0, 0, 0, ("a",), mpp=1.0, cell=8), task, (0.5,), None)
    assert fixed.geometry.iloc[0].bounds[2] - fixed.geometry.iloc[0].bounds[0] == pytest.approx(80)
    assert known.geometry.iloc[0].bounds[2] - known.geometry.iloc[0].bounds[0] == pytest.approx(40)
    with pytest.raises(SlideError, match=r"objects of 40.0 µm.*object_px"):
        find_objects(ProbabilityMap(array, 8.0, 0, 0, ("a",), cell=8), task, (0.5,), None)


def test_outlines_of_cells_are_drawn_between_their_centres():
    """A disc of radius 40 seen by cells of 8 pixels: as large, and where it is, to a fraction of a cell."""
    pixels = _discs([(100, 90)], 40)
    cells = pixels.reshape(25, 8, 25, 8).mean((1, 3))[None]
    found = ProbabilityMap(cells, 8.0, 5.0, 7.0, ("a",), cell=8)
    shapes = find_objects(found, TaskConfig(kind="classification", classes=("a",)), (0.5,), None)
    assert len(shapes) == 1
    np.testing.assert_allclose(_centres(shapes), [(105, 97)], atol=1)
    assert float(shapes.geometry.area.iloc[0]) == pytest.approx(np.pi * 1600, rel=0.05)


@pytest.mark.parametrize(("size", "cell"), [(16, 4), (12, 12), (16, 6)])
def test_the_window_lies_about_the_middle_of_its_cell_and_only_tissue_is_asked_about(size, cell):
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (50, 70, 3)).astype(np.uint8)
    tissue = np.zeros((50, 70), bool)
    tissue[10:40, 20:69] = True
    tissue[:, 44:50] = False
    region = ArrayRegion(image, tissue)
    shape = map_size(region, cell)
    assert shape == (-(-50 // cell), -(-70 // cell))
    asked = []

    def answer(windows):
        asked.append(len(windows))
        assert windows.shape[1:] == (size, size, 3) and len(windows) <= 3
        middle = windows[:, size // 2, size // 2].astype(np.float32)
        return np.stack([middle.sum(1), middle[:, 0]], 1)

    out = np.full((2, *shape), -1, np.float32)
    slide_window(answer, region, out, Window(size, cell, 3), "one")
    padded = np.full((50 + 2 * cell, 70 + 2 * cell, 3), 255, np.uint8)
    padded[:50, :70] = image
    for row in range(shape[0]):
        for column in range(shape[1]):
            there = tissue[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell].any()
            at = row * cell - (size - cell) // 2 + size // 2, column * cell - (size - cell) // 2 + size // 2
            expected = float(padded[at].astype(float).sum()) if there else -1
            assert out[0, row, column] == expected
            assert abs(at[0] - (row + 0.5) * cell) <= 0.5 and abs(at[1] - (column + 0.5) * cell) <= 0.5
    assert sum(asked) == int((out[0] >= 0).sum())


def test_candidates_are_the_objects_and_fainter_ones_beside_them():
    array = np.zeros((1, 60, 60), np.float32)
    array[0, 5:15, 5:15], array[0, 3:17, 3:17] = 0, 0.3
    array[0, 5:15, 5:15] = 0.9
    array[0, 40:50, 40:50], array[0, 40:50, 5:15], array[0, 20:25, 50:55] = 0.2, 0.07, 0.02
    found = ProbabilityMap(array, 2.0, 0.0, 0.0, ("a",))
    task = TaskConfig(classes=("a",))
    objects = find_objects(found, task, (0.5,), None)
    every = find_candidates(objects, found, task, (0.5,), None)
    assert len(objects) == 1 and every["score"].tolist() == pytest.approx([0.9, 0.2, 0.07], abs=1e-6)
    assert every.geometry.iloc[0].equals(objects.geometry.iloc[0]), "an object keeps the outline it has in use"
    low = find_objects(found, task, (0.05,), None)
    assert len(find_candidates(low, found, task, (0.05,), None)) == len(low) == 3, "nothing is looked for below"


def test_tissue_of_a_region_is_that_of_its_pixels():
    mask = np.zeros((4, 6), bool)
    mask[1, 2:5] = True
    assert np.array_equal(tissue_pixels(ArrayRegion(np.zeros((4, 6, 3), np.uint8), mask)), mask)
    assert resized(mask, 2, 3).tolist() == [[False, True, False], [False, False, False]]
