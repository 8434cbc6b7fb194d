"""Tiles put together give the image again, whatever the sizes."""

import numpy as np
import pytest

from stainda.prediction.regions import ArrayRegion, SlideRegion, sample_tissue
from stainda.prediction.tiling import LARGEST, OVERLAP, SMALLEST, Blend, TilePlan, cheapest_plan
from stainda.slides import TissueMask


def _through(plan, image):
    """The image cut into tiles and blended again, results of a 'network' that returns the middle of its input."""
    out = np.full((1, plan.height, plan.width), np.nan, np.float32)
    blend, rows = Blend(plan, out), plan.rows
    padded = np.pad(image, plan.margin + plan.tile)
    for row, top in enumerate(rows):
        for left in plan.columns:
            y, x = top + plan.margin + plan.tile, left + plan.margin + plan.tile
            blend.add(left, padded[None, y : y + plan.result, x : x + plan.result])
        blend.next_row(rows[row + 1] if row + 1 < len(rows) else None)
    return out[0]


@pytest.mark.parametrize("size", [(10, 10), (32, 32), (33, 90), (100, 61), (57, 128)])
@pytest.mark.parametrize(("tile", "margin", "overlap"), [(32, 0, 8), (32, 4, 0), (40, 6, 14), (32, 0, 16)])
def test_blended_tiles_are_the_image(size, tile, margin, overlap):
    image = np.random.default_rng(0).random(size).astype(np.float32)
    plan = TilePlan(*size, tile, margin, overlap)
    np.testing.assert_allclose(_through(plan, image), image, atol=1e-6)


def test_there_is_no_seam_between_tiles_that_disagree():
    plan = TilePlan(32, 56, 32, 0, 8)
    out = np.zeros((1, 32, 56), np.float32)
    blend = Blend(plan, out)
    for value, left in enumerate(plan.columns):
        blend.add(left, np.full((1, 32, 32), value, np.float32))
    blend.next_row(None)
    assert np.abs(np.diff(out[0, 16])).max() < 0.2 and out.min() == 0 and out.max() == 1


def test_where_no_tile_was_read_nothing_is_claimed():
    plan = TilePlan(64, 64, 32, 0, 8)
    out = np.zeros((1, 64, 64), np.float32)
    blend = Blend(plan, out)
    blend.add(0, np.ones((1, 32, 32), np.float32))
    for top in (*plan.rows[1:], None):
        blend.next_row(top)
    assert (out[0, :32, :32] == 1).all() and out[0, 32:].max() == 0 == out[0, :, 32:].max()


def test_an_overlap_as_large_as_a_tile_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        TilePlan(64, 64, 32, 0, 32)


def test_tissue_is_sampled_from_tissue():
    image = np.full((200, 300, 3), 255, np.uint8)
    tissue = np.zeros((200, 300), bool)
    tissue[50:150, 60:200] = True
    image[tissue] = (120, 60, 90)
    sample = sample_tissue(ArrayRegion(image, tissue), 40, 0.5, np.random.default_rng(0))
    assert len(sample.tiles) > 4 and sample.tiles.shape[1:] == (40, 40, 3)
    assert (sample.pixels == (120, 60, 90)).all() and len(sample.pixels) > 1000
    assert ((sample.tiles < 255).all(-1).mean((1, 2)) >= 0.5).all()


def test_a_region_smaller_than_a_tile_is_laid_on_white():
    region = ArrayRegion(np.zeros((10, 12, 3), np.uint8))
    patch = region.read(-2, -3, 20, 20)
    assert patch.shape == (20, 20, 3) and (patch[3:13, 2:14] == 0).all() and patch[:3].min() == 255
    assert region.tissue_share(np.array([[0, 0, 12, 10], [-12, 0, 12, 10]])).tolist() == [1.0, 0.5]
    with pytest.raises(ValueError, match="uint8 RGB"):
        ArrayRegion(np.zeros((10, 12), np.uint8))


def test_tissue_is_that_of_the_slide_and_no_more():
    """A mask of 8 pixels of the slide each: of a slide of 1023 × 517 its last pixels show 7 and 5."""

    class Slide:
        size = (1023, 517)

    region = SlideRegion(Slide(), TissueMask(np.ones((65, 128), bool), 8.0, (1023, 517)), 3.0)
    assert region.tissue_area == 1023 * 517 and region.extent == (1023, 517)
    assert (region.width, region.height) == (341, 173)


def test_results_are_written_a_few_rows_at_a_time(monkeypatch):
    image = np.random.default_rng(0).random((100, 61)).astype(np.float32)
    plan = TilePlan(100, 61, 32, 4, 6)
    whole = _through(plan, image)
    monkeypatch.setattr("stainda.prediction.tiling.BLENDED_VALUES", 3 * 61)
    np.testing.assert_array_equal(_through(plan, image), whole)


def shown_pixels(plan, region):
    return plan.shown(region) * plan.tile**2


@pytest.mark.parametrize("size", [(200, 150), (260, 260), (1000, 1000), (2048, 2048), (3000, 700)])
@pytest.mark.parametrize("stride", [4, 32])
def test_tiles_are_of_the_size_that_shows_the_fewest_pixels(size, stride):
    region = ArrayRegion(np.zeros((*size, 3), np.uint8))
    sides = lambda pixels: -(-pixels // stride) * stride  # noqa: E731
    plan = cheapest_plan(region, sides, 0)
    smallest = cheapest_plan(region, sides, 0, SMALLEST)
    assert smallest.tile == sides(min(SMALLEST, max(size))) and smallest.overlap == min(OVERLAP, smallest.tile // 2)
    assert plan.tile % stride == 0 and plan.tile <= sides(LARGEST)
    assert shown_pixels(plan, region) <= shown_pixels(smallest, region)
    if min(size) > SMALLEST:
        assert shown_pixels(plan, region) < 0.8 * shown_pixels(smallest, region)
    if size == (2048, 2048):
        assert shown_pixels(plan, region) < 1.2 * size[0] * size[1] < 0.75 * shown_pixels(smallest, region)


def test_small_pieces_of_tissue_are_seen_through_small_tiles():
    tissue = np.zeros((2048, 2048), bool)
    tissue[::512, ::512] = True
    image = np.zeros((2048, 2048, 3), np.uint8)
    few, all_ = (cheapest_plan(ArrayRegion(image, mask), int, 0) for mask in (tissue, None))
    assert few.tile == SMALLEST < all_.tile


def test_a_margin_is_added_to_every_tile():
    region = ArrayRegion(np.zeros((900, 900, 3), np.uint8))
    plan = cheapest_plan(region, lambda pixels: -(-pixels // 4) * 4, 20)
    assert plan.margin == 20 and plan.result >= plan.tile - 40 and plan.rows[-1] + plan.result >= 900
