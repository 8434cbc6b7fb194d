"""Repair tells what it does; landmarks are read as they come."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from stainda.annotations import REPAIR_COLUMNS, join_shapes, make_shapes, read_landmarks, repair, write_landmarks
from stainda.errors import AnnotationError

BOX = shapely.box(10, 10, 20, 20)


def test_good_shapes_pass_untouched():
    shapes = make_shapes([BOX, shapely.Point(1, 2), shapely.box(0, 0, 100, 50)], ["a", "b", "a"], name=["x", "y", "z"])
    repaired, rows = repair(shapes, size=(100, 50))
    assert rows == []
    assert repaired.equals(shapes)


@pytest.mark.parametrize(
    ("geometry", "action", "reason", "area"),
    [
        (shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)]), "mended", "invalid (self-intersection", 50),
        (shapely.Polygon([(0, 0), (10, 0), (10, 10), (5, 10), (5, 15), (5, 10), (0, 10)]), "mended", "invalid", 100),
        (shapely.Polygon([(0, 0), (10, 0), (5, 0)]), "dropped", "no area", None),
        (shapely.Polygon(), "dropped", "no geometry", None),
        (None, "dropped", "no geometry", None),
        (shapely.Point(np.nan, 3), "dropped", "no numbers", None),
        (shapely.box(-10, -10, 5, 5), "mended", "clipped", 25),
        (shapely.box(200, 200, 210, 210), "dropped", "outside the slide", None),
        (shapely.box(100, 0, 110, 10), "dropped", "outside the slide", None),
        (shapely.Point(150, 10), "dropped", "outside the slide", None),
        (shapely.Point(100, 50), None, None, 0),
    ],
)
def test_what_cannot_be_used_is_mended_or_dropped_and_told(geometry, action, reason, area):
    shapes = make_shapes([geometry, BOX], "a", id=["one", "two"])
    repaired, rows = repair(shapes, size=(100, 50))
    if action is None:
        assert rows == []
    else:
        assert [(row["id"], row["class"], row["action"]) for row in rows] == [("one", "a", action)]
        assert reason in rows[0]["reason"]
        assert tuple(rows[0]) == REPAIR_COLUMNS
    assert repaired["id"].tolist() == (["two"] if area is None else ["one", "two"])
    assert repaired.geometry.is_valid.all()
    if area is not None:
        assert repaired.geometry[0].area == pytest.approx(area)


def test_duplicates_go_and_a_second_use_of_an_id_is_renamed():
    shapes = make_shapes(
        [BOX, shapely.Polygon(list(BOX.exterior.coords)[::-1]), BOX, shapely.box(0, 0, 1, 1)],
        ["a", "a", "b", "a"],
        id=["i"] * 4,
    )
    repaired, rows = repair(shapes)
    assert repaired["class"].tolist() == ["a", "b", "a"]
    assert repaired["id"].nunique() == 3
    assert repaired["id"][0] == "i"
    assert [row["action"] for row in rows] == ["dropped", "mended", "mended"]


def test_tables_are_joined_in_order():
    joined = join_shapes([make_shapes([BOX], "a"), make_shapes([], "x"), make_shapes([BOX, BOX], "b")])
    assert joined["class"].tolist() == ["a", "b", "b"]
    assert joined.index.tolist() == [0, 1, 2]
    assert len(join_shapes([])) == 0


def test_columns_of_the_wrong_name_or_length_are_refused():
    with pytest.raises(ValueError, match="no column colour"):
        make_shapes([BOX], "a", colour="red")
    with pytest.raises(ValueError, match="2 values for 1"):
        make_shapes([BOX], "a", name=["x", "y"])


def test_the_same_shapes_get_the_same_ids_and_no_two_the_same():
    one = make_shapes([BOX, BOX, shapely.Point(0, 0)], "a")
    assert one["id"].nunique() == 3
    assert one["id"].tolist() == make_shapes([BOX, BOX, shapely.Point(0, 0)], "a")["id"].tolist()


@pytest.mark.parametrize(
    "text",
    [
        "id,x,y\n1,2.5,3\nA,4,5e1\n",
        ",X,Y\n1,2.5,3\nA,4,50\n",
        "x;y;name\n2.5;3;1\n4;50;A\n\n",
        "\ufeffID,X,Y\n1,2.5,3\nA,4,50",
    ],
)
def test_landmarks_are_read_in_each_of_their_spellings(text, tmp_path):
    (tmp_path / "l.csv").write_text(text, encoding="utf-8")
    found = read_landmarks(tmp_path / "l.csv")
    assert found.to_dict("list") == {"id": ["1", "A"], "x": [2.5, 4.0], "y": [3.0, 50.0]}


def test_landmarks_that_cannot_be_used_are_all_named(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("id,x,y\n1,2,3\n1,4,5\n2,nan,1\n3,a,1\n4,1\n")
    with pytest.raises(AnnotationError) as caught:
        read_landmarks(path)
    for said in ("row 3: the id '1' is used twice", "row 4: x or y is no number", "row 5", "row 6"):
        assert said in str(caught.value)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(AnnotationError, match="not x and y"):
        read_landmarks(path)


def test_landmarks_survive_the_way_out_and_in(tmp_path, real_data):
    found = read_landmarks(real_data / "rat_kidney" / "HE_landmarks.csv")
    assert len(found) == 71
    assert found.iloc[0].to_dict() == {"id": "1", "x": 63.0, "y": 309.0}
    assert read_landmarks(write_landmarks(found, tmp_path / "l.csv")).equals(found)
    other = read_landmarks(real_data / "rat_kidney" / "PanCK_landmarks.csv")
    assert len(found.merge(other, on="id")) == 69
