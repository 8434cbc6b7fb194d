"""``stainda annotations``: convert and check, as a user types them."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from PIL import Image
from typer.testing import CliRunner

from stainda.annotations import make_shapes, write_geojson
from stainda.annotations.formats import read_annotations
from stainda.cli.app import app
from stainda.errors import AnnotationError


@pytest.fixture
def folder(tmp_path):
    ring = shapely.Polygon(shapely.box(10, 10, 60, 60).exterior, [shapely.box(20, 20, 30, 30).exterior])
    shapes = make_shapes([ring, shapely.box(190, 10, 250, 40)], ["gl", "vessel"], name="one")
    write_geojson(shapes, tmp_path / "in.geojson")
    Image.fromarray(np.full((150, 200, 3), 230, np.uint8)).save(tmp_path / "slide.png")
    (tmp_path / "map.csv").write_text("from,to\ngl,glomerulus\nvessel,vessel\n")
    return tmp_path


def run(*arguments):
    result = CliRunner().invoke(app, ["annotations", *map(str, arguments)], env={"COLUMNS": "200"})
    return result, " ".join(result.output.split())


def test_convert_writes_tells_counts_repairs_and_losses(folder):
    result, said = run("convert", folder / "in.geojson", folder / "out.xml", "--to", "asap",
                       "--slide", folder / "slide.png", "--classes", folder / "map.csv")  # fmt: skip
    assert result.exit_code == 0, said
    for words in ("QuPath GeoJSON, 2 shapes", "glomerulus 1 0 0 2400", "clipped to the slide",
                  "lost: the holes of 1 shapes are filled", "written:"):  # fmt: skip
        assert words in said
    back = read_annotations(folder / "out.xml", "asap")
    assert sorted(back["class"]) == ["glomerulus", "vessel"]
    assert back.total_bounds[2] == 200


def test_there_and_back_through_a_format_that_needs_the_slide(folder):
    slide = ("--slide", folder / "slide.png")
    assert run("convert", folder / "in.geojson", folder / "a.json", "--to", "sectra", *slide)[0].exit_code == 0
    result, said = run("convert", folder / "a.json", folder / "b.geojson", *slide)
    assert result.exit_code == 0
    assert "Sectra" in said and "lost" not in said
    assert read_annotations(folder / "b.geojson").area.tolist() == pytest.approx([2500, 300])


def test_check_tells_what_would_be_mended(folder):
    result, said = run("check", folder / "in.geojson", "--slide", folder / "slide.png")
    assert result.exit_code == 0
    assert "clipped to the slide" in said
    assert "clipped" not in run("check", folder / "in.geojson")[1]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("convert", "in.geojson", "out.json"), "does not tell one format"),
        (("convert", "in.geojson", "out.json", "--to", "coko"), "Did you mean 'coco'"),
        (("convert", "in.geojson", "out.json", "--to", "sectra"), "slide's size is needed"),
        (("check", "nothing.xml"), "no such file"),
        (("check", "slide.png", "--from", "asap"), "not valid XML"),
    ],
)
def test_wrong_use_is_one_clear_error(folder, monkeypatch, arguments, reason):
    monkeypatch.chdir(folder)
    result, _ = run(*arguments)
    assert isinstance(result.exception, AnnotationError)  # which the command line prints without a traceback
    assert reason in str(result.exception)


@pytest.mark.parametrize("command", ["convert", "check"])
def test_help_has_an_example(command):
    result, said = run(command, "--help")
    assert result.exit_code == 0
    assert f"stainda annotations {command}" in said and "Example" in said
