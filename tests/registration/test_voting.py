"""Outlines by a vote of the sections: who votes, what won, and what is said of it."""

from __future__ import annotations

import pandas as pd
import pytest
import shapely
from test_registration_cohort import block, placed_block

from stainda.annotations import empty_shapes, make_shapes, read_shapes
from stainda.cohort import Cohort
from stainda.config import PropagationConfig
from stainda.registration import propagate
from stainda.registration.propagated_shapes import PropagatedObject
from stainda.registration.propagator import Propagator
from stainda.registration.results import load_block
from stainda.registration.voting import voted

BOX = shapely.box(0, 0, 10, 10)
EVERYWHERE = shapely.box(-100, -100, 100, 100)


@pytest.mark.parametrize("method", ["majority", "staple"])
def test_a_section_that_does_not_show_the_place_has_no_vote(method) -> None:
    own = PropagatedObject("g", ((0, 0),), BOX, "propagated from A", (), (0.0,))
    tables = [make_shapes([BOX], "g"), empty_shapes()]
    (alone,) = voted(tables, ["A", "B"], [EVERYWHERE, shapely.box(50, 0, 100, 100)], [own], method)
    assert not alone.outvoted and alone.geometry.equals(BOX) and alone.how.endswith("of 1 section")
    (against,) = voted(tables, ["A", "B"], [EVERYWHERE, EVERYWHERE], [own], "majority")
    assert against.outvoted


def test_where_a_section_ends_within_an_object_the_others_decide() -> None:
    """B shows the left half and draws its lower part; C draws nothing anywhere: two of three are lost on the left."""
    own = PropagatedObject("g", ((0, 0), (1, 0)), BOX, "propagated from A", (), (0.0, 0.5))
    tables = [make_shapes([BOX], "g"), make_shapes([shapely.box(0, 0, 5, 6)], "g")]
    (found,) = voted(tables, ["A", "B"], [EVERYWHERE, shapely.box(-100, -100, 5, 100)], [own], "majority")
    assert shapely.area(found.geometry ^ (shapely.box(0, 0, 5, 6) | shapely.box(5, 0, 10, 10))) < 1e-6


def test_what_won_is_clipped_and_compared_with_what_every_section_said(tmp_path) -> None:
    """Of three outlines shifted by 4 each, two cover from the second's left edge to its right edge."""
    y0, y1 = 20, 80  # across the upper border of the tissue, an ellipse
    places = {name: shapely.box(x, y0, x + 40, y1) for name, x in (("b1", 170), ("b3", 174), ("b4", 178))}
    shapes = {name: make_shapes([place], "g", id=[name]) for name, place in places.items()}
    sections, registration = block(tmp_path, 4), placed_block(tmp_path, block(tmp_path, 4), {})
    config = PropagationConfig(between="majority", micro=False, min_confidence=0.0)
    propagate(Cohort(sections), shapes, registration, config, list(places), tmp_path)
    rows = pd.read_csv(tmp_path / "annotations/propagation.csv")
    rows = rows[rows["target"] == "b2"].set_index("id")
    assert rows["dissent"].to_dict() == pytest.approx({"b1": 0.1, "b3": 0.0, "b4": 0.1}, abs=1e-3)
    assert "clipped to the tissue" in rows["reason"]["b1"]
    (found,) = read_shapes(tmp_path / "annotations/propagated/b2.geojson").geometry
    tissue = Propagator(load_block(registration, "b"), sections, config).ground(sections[1]).tissue
    assert shapely.area(found ^ (places["b3"] & tissue)) < 1
