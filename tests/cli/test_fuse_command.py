"""``stainda annotations fuse``, as a user types it."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import shapely
from PIL import Image
from typer.testing import CliRunner

from stainda.annotations import make_shapes, read_shapes, write_geojson
from stainda.annotations.annotators import annotator_names
from stainda.annotations.formats import write_annotations
from stainda.cli.app import app
from stainda.errors import AnnotationError


def disc(x, y, radius=30):
    return shapely.Point(x, y).buffer(radius)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    alice = make_shapes([disc(100, 100), disc(300, 100), disc(500, 100, 20)], "glomerulus")
    bob = make_shapes([disc(105, 100), disc(300, 104, 28)], "glomerulus")
    carol = make_shapes([disc(100, 103, 31), disc(359, 100), disc(700, 100, 20)], "Glom")
    write_geojson(alice, tmp_path / "S1_alice.geojson")
    write_annotations(bob, tmp_path / "S1_bob.xml", "asap")
    write_annotations(carol, tmp_path / "S1_carol.json", "coco")
    write_geojson(make_shapes([disc(90_000, 90_000)], "glomerulus"), tmp_path / "S2_dave.geojson")
    write_geojson(make_shapes([], ""), tmp_path / "empty.geojson")
    (tmp_path / "map.csv").write_text("from,to\nGlom,glomerulus\n")
    (tmp_path / "rel.csv").write_text("annotator,training,qualification\nalice,1,1\nbob,0.4,0.2\ncarol,0.3,0.2\n")
    Image.fromarray(np.full((300, 800, 3), 230, np.uint8)).save(tmp_path / "slide.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    result = CliRunner().invoke(app, ["annotations", "fuse", *map(str, arguments)], env={"COLUMNS": "200"})
    return result, " ".join(result.output.split())


FILES = ("S1_alice.geojson", "S1_bob.xml", "S1_carol.json", "--classes", "map.csv")


@pytest.mark.parametrize("method", ["majority", "staple", "weighted"])
def test_three_files_of_three_formats_become_one(folder, method):
    result, said = run(*FILES, "--method", method, "--slide", "slide.png", "--out", "out/S1.geojson")
    assert result.exit_code == 0, said
    fused, dissent = read_shapes("out/S1.geojson"), read_shapes("out/S1_dissent.geojson")
    assert fused["class"].tolist() == ["glomerulus"] * 2
    assert sorted(fused.centroid.x.round(-1)) == [100, 300]
    assert sorted(row["metadata"]["drawn_by"] for row in dissent["properties"]) == ["alice", "carol", "carol"]
    with Path("out/S1_annotators.csv").open(newline="") as stream:
        rows = {row["annotator"]: row for row in csv.DictReader(stream)}
    assert list(rows) == ["alice", "bob", "carol"]
    assert float(rows["carol"]["sensitivity"]) < float(rows["bob"]["sensitivity"])
    assert rows["carol"]["object_recall"] == "0.5" and rows["bob"]["object_precision"] == "1.0"
    assert (folder / "out/S1_agreement.csv").read_text().startswith("class,first,second,dice")
    for words in ("glomerulus 2 3", "alice", "fleiss kappa", "written: out/S1_dissent.geojson"):
        assert words in said


def test_reliabilities_decide(folder):
    result, said = run(*FILES, "--method", "weighted", "--reliability", "rel.csv")
    assert result.exit_code == 0, said
    assert len(read_shapes("fused.geojson")) == 3, "alice alone outweighs the two others"


def test_unknown_classes_and_points_are_told(folder):
    write_geojson(make_shapes([shapely.Point(100, 100)], "glomerulus"), folder / "S1_points.geojson")
    _, said = run("S1_alice.geojson", "S1_points.geojson", "S1_carol.json", "--classes", "map.csv")
    assert "left out: 1 shapes of glomerulus by points: points have no area" in said
    (folder / "map.csv").write_text("from,to\nglomerulus,glomerulus\n")
    _, said = run(*FILES)
    unbroken = said.replace(" ", "")  # a narrow screen breaks lines within a word
    assert "notinthetableofclasses(perhaps'glomerulus'ismeant)" in unbroken


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("S1_alice.geojson",), "at least two"),
        (("S1_alice.geojson", "./S1_alice.geojson"), "same file is named twice"),
        (("S1_alice.geojson", "S2_dave.geojson"), "another slide.*--apart"),
        (("S2_dave.geojson", "S1_alice.geojson", "--slide", "slide.png"), "S2_dave.*outside the slide.*another slide"),
        (("empty.geojson", "S2_dave.geojson", "--slide", "slide.png"), "outside the slide"),
        (("S1_alice.geojson", "nothing.xml"), "no such file"),
        (("S1_alice.geojson", "S1_bob.xml", "--method", "stapel"), "Did you mean 'staple'"),
        (("S1_alice.geojson", "S1_bob.xml", "--out", "x.xml"), "x.xml.*GeoJSON"),
        (("S1_alice.geojson", "S1_bob.xml", "--resolution", "0"), "number of pixels above 0"),
        (("S1_alice.geojson", "S1_bob.xml", "--method", "weighted", "--reliability", "map.csv"), "annotator,rel"),
        (("S1_alice.geojson", "empty.geojson", "--method", "weighted", "--reliability", "rel.csv"), "'empty'|'S1_"),
    ],
)  # fmt: skip
def test_wrong_use_is_one_clear_error(folder, arguments, reason):
    result, _ = run(*arguments)
    assert isinstance(result.exception, AnnotationError)  # which the command line prints without a traceback
    assert re.search(reason, str(result.exception)), str(result.exception)
    assert not (folder / "fused.geojson").exists()


def test_far_away_files_are_taken_when_one_insists(folder):
    result, said = run("S1_alice.geojson", "S2_dave.geojson", "--apart")
    assert result.exit_code == 0, said
    assert len(read_shapes("fused_dissent.geojson")) == 4


def test_nothing_but_empty_files_is_an_error(folder):
    write_geojson(make_shapes([], ""), folder / "void.geojson")
    result, _ = run("empty.geojson", "void.geojson")
    assert "none of the 2 annotators drew an area" in str(result.exception)


def test_help_has_examples(folder):
    result, said = run("--help")
    assert result.exit_code == 0
    assert "stainda annotations fuse" in said and "Examples" in said


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["S1_alice.geojson", "S1_bob.xml"], ["alice", "bob"]),
        (["alice/S1.xml", "bob/S1.xml"], ["alice", "bob"]),
        (["alice_S1.xml", "bob_S1.xml"], ["alice", "bob"]),
        (["S1-r1-a.xml", "S1-r2-a.xml"], ["r1", "r2"]),
        (["S1.xml", "S1_second.xml"], ["S1", "second"]),
    ],
)
def test_annotators_are_named_by_what_differs(paths, names):
    assert annotator_names(paths) == names
