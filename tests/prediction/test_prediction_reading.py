"""Reading ahead gives the tiles, the order and the errors of reading when asked."""

from __future__ import annotations

import re
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from stainda.prediction.reading import read_ahead
from stainda.prediction.regions import ArrayRegion
from stainda.prediction.scratch import give_back, scratch
from stainda.prediction.tiling import Blend, TilePlan, blend_tiles
from stainda.prediction.windows import Window, map_size, slide_window


def test_the_next_is_read_before_the_last_is_worked_on():
    begun = threading.Event()

    def read(place: int) -> int:
        if place == 1:
            begun.set()
        return place * place

    seen = []
    for place, pixels in read_ahead(range(4), read):
        if place == 0:
            assert begun.wait(10)  # the second is read while the first is in work
        seen.append((place, pixels))
    assert seen == [(0, 0), (1, 1), (2, 4), (3, 9)]
    assert list(read_ahead([], read)) == []


def test_an_error_comes_at_its_place_and_reading_stops():
    asked = []

    def read(place: int) -> int:
        asked.append(place)
        if place == 2:
            raise ValueError("damaged")
        return place

    seen = []
    with pytest.raises(ValueError, match="damaged"):
        for place, _ in read_ahead(range(100), read):
            seen.append(place)
    assert seen == [0, 1] and len(asked) <= 4


def region(height: int, width: int) -> ArrayRegion:
    rng = np.random.default_rng(0)
    tissue = np.zeros((height, width), bool)
    tissue[: height // 3, : width // 2] = True  # rows and columns of tiles without any
    tissue[-20:, -30:] = True
    return ArrayRegion(rng.integers(0, 256, (height, width, 3), np.uint8), tissue)


def answer(tiles: np.ndarray) -> np.ndarray:
    """Two classes, of the middle of each tile; not the same for batches of another size."""
    middle = tiles[:, 4:-4, 4:-4].astype(np.float32) / 255
    return np.stack([middle[..., 0], middle[..., 1] * len(tiles)], 1)


@pytest.mark.parametrize("size", [(90, 130), (33, 200), (20, 20)])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_map_is_that_of_one_tile_after_the_other(size, batch):
    plan, place = TilePlan(*size, tile=40, margin=4, overlap=8), region(*size)
    expected, found = (np.full((2, *size), -1, np.float32) for _ in range(2))
    blend, rows = Blend(plan, expected), plan.rows
    for row, top in enumerate(rows):
        boxes = np.asarray([(left, top, left + plan.result, top + plan.result) for left in plan.columns])
        lefts = [left for left, share in zip(plan.columns, place.tissue_share(boxes), strict=True) if share > 0]
        for start in range(0, len(lefts), batch):
            some = lefts[start : start + batch]
            tiles = np.stack([place.read(left - 4, top - 4, 40, 40) for left in some])
            for left, result in zip(some, answer(tiles), strict=True):
                blend.add(left, result)
        blend.next_row(rows[row + 1] if row + 1 < len(rows) else None)
    blend_tiles(answer, place, plan, found, batch=batch, name="slide")
    assert np.array_equal(found, expected)
    assert (found == -1).any() == (size != (20, 20)) and (found != -1).any()


def test_cells_are_those_of_one_window_after_the_other():
    place, window = region(90, 130), Window(size=24, cell=8, batch=5)
    found = np.full((1, *map_size(place, 8)), -1, np.float32)
    expected = found.copy()
    rows, columns = found.shape[1:]
    for row in range(rows):
        for column in range(columns):
            box = (column * 8, row * 8, column * 8 + 8, row * 8 + 8)
            if place.tissue_share(np.asarray([box]))[0] > 0:
                expected[0, row, column] = place.read(column * 8 - 8, row * 8 - 8, 24, 24).mean() / 255
    slide_window(lambda seen: seen.mean((1, 2, 3), keepdims=False)[:, None] / 255, place, found, window, "slide")
    assert np.allclose(found, expected, atol=1e-6)
    assert (found == -1).any()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_map_in_a_file_is_the_same_and_leaves_memory(monkeypatch):
    monkeypatch.setattr("stainda.prediction.scratch.FILED_BYTES", 1 << 20)
    filed, held = scratch((1, 1024, 1024), np.float32), np.zeros((1, 1024, 1024), np.float32)
    assert isinstance(filed, np.memmap) and not isinstance(scratch((1, 8, 8), np.float32), np.memmap)
    place, plan = region(1024, 1024), TilePlan(1024, 1024, tile=40, margin=4, overlap=8)
    for out in (filed, held):
        blend_tiles(lambda tiles: answer(tiles)[:, :1], place, plan, out, batch=16, name="slide")
    before = resident_of_files()
    assert np.array_equal(filed, held)
    grown = resident_of_files() - before
    give_back(filed)
    assert grown > 3 << 20 and resident_of_files() - before < 1 << 20
    assert np.array_equal(filed, held)


def resident_of_files() -> int:
    """Bytes of files that lie in this process's memory."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return sum(int(value) << 10 for value in re.findall(r"Rss(?:File|Shmem):\s+(\d+) kB", text))
