"""A block is propagated again when anything its result depends on has changed, and only then."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from PIL import Image
from test_registration_cohort import block, placed_block, shift

from stainda.annotations import make_shapes, read_shapes, write_geojson
from stainda.cohort import Cohort
from stainda.config import PropagationConfig
from stainda.registration import propagate, propagation

PLACE = shapely.box(150, 100, 190, 140)
PLAIN = PropagationConfig()
RESULTS = ("propagation.csv", "agreement.csv", "propagated/b2.geojson", "ignored/b2.geojson")


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Propagates a block of two sections; returns how many blocks were really propagated."""
    sections = block(tmp_path, 2)
    placed_block(tmp_path, sections, {})
    count = []
    propagate_block = propagation.propagate_block
    monkeypatch.setattr(propagation, "propagate_block", lambda *given: count.append(1) or propagate_block(*given))

    def propagated(shapes=None, config=PLAIN, sources=("b1",)):
        own = {name: make_shapes([PLACE], "g", id=["a"]) for name in ("b1", "b2")} | (shapes or {})
        count.clear()
        propagate(Cohort(sections), own, tmp_path / "registration", config, sources, tmp_path)
        return len(count)

    return propagated


def files(root: Path) -> list[bytes]:
    return [(root / "annotations" / name).read_bytes() for name in RESULTS]


def test_the_second_call_takes_what_the_first_has_made(call, tmp_path):
    assert call() == 1
    first = files(tmp_path)
    assert call() == 0
    assert files(tmp_path) == first


def test_what_a_review_changed_is_put_back(call, tmp_path):
    call()
    before, path = files(tmp_path), tmp_path / "annotations/propagated/b2.geojson"
    write_geojson(read_shapes(path).iloc[:0], path)
    (tmp_path / "annotations/propagation.csv").write_text("changed")
    assert call() == 0 and files(tmp_path) == before


@pytest.mark.parametrize("lost", ["propagated/b2.geojson", "block.json"])
def test_a_block_that_is_kept_in_part_is_propagated_again(call, tmp_path, lost):
    call()
    (tmp_path / "annotations/blocks/b" / lost).unlink()
    assert call() == 1


def test_everything_the_result_depends_on_counts(call, tmp_path):
    call()
    moved = {"b1": make_shapes([shapely.box(150, 100, 190, 141)], "g", id=["a"])}
    assert call(moved) == 1, "an outline of the source"
    assert call({"b1": make_shapes([PLACE], "h", id=["a"])}) == 1, "its class"
    assert call() == 1
    assert call({"b2": make_shapes([shapely.box(0, 0, 9, 9)], "g", id=["a"])}) == 1, "the target's own, for agreement"
    assert call(config=PropagationConfig(min_confidence=0.9)) == 1, "a setting"
    assert call(sources=("b2",)) == 1, "which sections teach"
    call()
    placed_block(tmp_path, block(tmp_path, 2), {"b2": shift(5, 0)})
    assert call() == 1, "the registration"
    call()
    path = next(path for path in tmp_path.iterdir() if path.stem == "b2")
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    assert call() == 1, "the pixels of a section"


def test_a_block_that_no_section_teaches_any_more_leaves_nothing(call, tmp_path):
    call()
    assert call(sources=()) == 0
    assert not list((tmp_path / "annotations").rglob("*.geojson"))
