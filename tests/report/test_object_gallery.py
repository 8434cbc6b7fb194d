"""The same object across the stains: what the page says of it, from the files of the run alone."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import jinja2
import pandas as pd
import pytest
import shapely
from make_run import _centres, make_run, object_gallery

from stainda.report import load_run, make_report
from stainda.report.object_gallery import make_object_gallery
from stainda.report.plotting import view
from stainda.report.sections import TEMPLATES
from stainda.report.writer import Absent

SMALL = dict(
    test_patients=2, stains=("PAS", "SR", "CD68"), centres=("A",), strategies=("source_only", "dann", "oracle"),
    failed_job=False, seeds=1, trials=1, evidence=False,
)  # fmt: skip
ABSENT = "This run has no pictures of objects across the stains"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("gallery") / "run", **SMALL)
    object_gallery(run)
    return run


@pytest.fixture
def run(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


def shown_in(folder):
    return make_object_gallery(load_run(folder), view(folder).analysis)


def page_of(folder, monkeypatch) -> str:
    """The whole page without its figures, which take long."""
    monkeypatch.setattr("stainda.report.writer.Writer.figure", lambda *_: Absent("a figure", "not drawn here"))
    return make_report(folder).read_text(encoding="utf-8")


def section_of(folder) -> str:
    """The section of the page alone."""
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template("object_gallery.html.j2").module.gallery_of_objects(shown_in(folder))


def iou_of_discs(distance: float, radius: float) -> float:
    """Of two discs of one radius whose centres lie so far apart."""
    lens = 2 * radius**2 * math.acos(distance / 2 / radius) - distance / 2 * math.sqrt(4 * radius**2 - distance**2)
    return lens / (2 * math.pi * radius**2 - lens)


def test_worst_comes_first_with_a_row_per_section_and_a_column_per_strategy(made):
    shown = shown_in(made)
    assert [object_.title.split(":")[0] for object_ in shown.objects] == ["Failure 1", "The median case"]
    first = shown.objects[0]
    assert first.strategies == ("Source only", "DANN", "Oracle (target labels)")
    assert [row.slide for row in first.rows] == ["P04_PAS", "P04_SR", "P04_CD68"]
    assert all(len(row.cells) == 3 and row.image for row in first.rows[:2])
    assert first.rows[2].image == "" and "only 6 matches" in first.rows[2].reason
    assert "Missed in 4 of 4 attempts (two strategies on two sections)" in first.words
    assert "36 objects" in shown.rule and "2, one training each" in shown.rule


def test_fate_and_overlap_are_those_of_the_outlines(made):
    shown = shown_in(made)
    worst, typical = shown.objects
    fates = {(row.slide, cell.title): cell for row in worst.rows for cell in row.cells}
    assert fates["P04_SR", "Source only"].fate == "missed"  # 5 of 12 discs are found there, and this is the last
    assert fates["P04_SR", "Source only"].text.startswith("missed")
    radius = _centres({"patient": "P04"})[0][2]
    for cell in typical.rows[1].cells:  # predictions lie 4 px right of and 2 px below the truth
        assert cell.fate == "hit" and cell.iou == pytest.approx(iou_of_discs(math.hypot(4, 2), radius), abs=0.01)
        assert cell.text.startswith(f"hit, IoU {cell.iou:.2f}")


def test_outlines_lie_where_the_photograph_shows_the_object(made):
    one = shown_in(made).objects[1]
    radius = _centres({"patient": "P04"})[0][2] * one.size / 160
    middle = [one.size / 2] * 2
    paths = one.rows[0].truth.replace("Z", "").split("M")[1:]
    outlines = [shapely.Polygon([point.split() for point in path.split("L")]) for path in paths]
    nearest = min(outlines, key=lambda outline: outline.centroid.distance(shapely.Point(middle)))
    assert shapely.get_coordinates(nearest.centroid)[0] == pytest.approx(middle, abs=0.7)
    left, top, right, bottom = nearest.bounds
    assert (right - left, bottom - top) == pytest.approx([2 * radius] * 2, rel=0.03)
    assert one.bar == pytest.approx(one.size * 20 / 80) and one.bar_text == "20 µm"  # 160 px of 0.5 µm


def test_page_files_beside_it_and_what_they_hold(run, monkeypatch):
    page = page_of(run, monkeypatch)
    section = page[page.index('id="object-gallery"') : page.index('id="examples"')]
    assert section.index("Failure 1") < section.index("The median case")
    assert section.count("data:image/jpeg") == 4 and 'href="http' not in section
    assert "no two of its sections could be registered" in section and "Not shown" in section
    table = pd.read_csv(run / "report" / "figures" / "object_gallery.csv", keep_default_na=False)
    assert len(table) == 2 * (2 * 3 + 1)  # two objects: two sections by three strategies, and a refused one
    missed = table[(table["place"] == 1) & (table["strategy"] == "source_only") & (table["slide"] == "P04_SR")]
    assert missed["fate"].tolist() == ["missed"] and missed["job"].iloc[0].startswith("source")
    for number in (1, 2):
        svg = (run / "report" / "figures" / f"object_gallery_{number}.svg").read_text(encoding="utf-8")
        root = ElementTree.fromstring(svg)
        assert all(not key.get("href", "").startswith("http") for key in root.iter())


def test_neither_torch_nor_valis_nor_slides_are_needed(made):
    code = (
        "import sys\n"
        "from stainda.report import load_run\n"
        "from stainda.report.plotting import view\n"
        "from stainda.report.object_gallery import make_object_gallery\n"
        "shown = make_object_gallery(load_run(sys.argv[1]), view(sys.argv[1]).analysis)\n"
        "heavy = {'torch', 'valis', 'openslide', 'pyvips', 'tifffile'}\n"
        "print(len(shown.objects), sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(made)], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[-2] == "2 []"


def test_a_run_without_the_pictures_says_so(run):
    shutil.rmtree(run / "object_gallery")
    assert section_of(run).count(ABSENT) == 1


def test_blocks_of_single_sections_are_told(run):
    cohort = pd.read_csv(run / "cohort.csv")
    cohort["block"] = cohort["slide"]
    cohort.to_csv(run / "cohort.csv", index=False)
    shutil.rmtree(run / "object_gallery")
    assert "holds a single section" in section_of(run)


def test_without_truth_in_two_sections_the_reason_of_the_study_is_passed_on(run):
    table = run / "object_gallery" / "gallery.csv"
    table.write_text(table.read_text().splitlines()[0] + "\n")
    reason = "no annotated object of a scored section is seen in two registered sections"
    (run / "object_gallery" / "left_out.csv").write_text(f"block,slide,reason\n,,{reason}\n")
    shown = shown_in(run)
    assert not shown.objects and shown.absent and shown.skipped == (reason,)


def test_pictures_of_an_earlier_registration_are_not_shown_under_new_outlines(run):
    head = run / "registration" / "P04" / "block.json"
    head.write_text(head.read_text().replace("5e771265", "0ther000"))
    shown = shown_in(run)
    assert not shown.objects and "registered anew" in shown.skipped[0]


def test_a_picture_outside_the_run_or_gone_is_not_embedded(run):
    (run / "object_gallery" / "1__P04_SR.jpg").unlink()
    table = run / "object_gallery" / "gallery.csv"
    table.write_text(table.read_text().replace("object_gallery/1__P04_PAS.jpg", "../../secret.jpg"))
    (run.parent.parent / "secret.jpg").write_bytes((run / "object_gallery" / "2__P04_SR.jpg").read_bytes())
    rows = shown_in(run).objects[0].rows
    assert not any(row.image for row in rows) and "missing" in rows[1].reason


def test_hostile_names_stay_text(run):
    table = run / "object_gallery" / "gallery.csv"
    table.write_text(table.read_text().replace("only 6 matches, 15 are needed", "<script>alert(1)</script>"))
    page = section_of(run)
    assert "<script>" not in page and "&lt;script&gt;alert(1)" in page


def test_what_is_not_pictured_stands_in_the_csv_of_every_strategy(made, monkeypatch):
    every = shown_in(made)
    monkeypatch.setattr("stainda.report.gallery.MOST_STRATEGIES", 2)
    few = shown_in(made)
    assert few.objects[0].strategies == ("Source only", "Oracle (target labels)")
    assert few.frame["strategy"].nunique() == 3
    assert few.frame.equals(every.frame)


def test_the_gallery_of_an_earlier_run_directory_is_read_where_it_lies(run):
    now = shown_in(run)
    assert len(now.objects) == 2
    (run / "object_gallery").rename(run / "through")
    table = (run / "through" / "gallery.csv").rename(run / "through" / "through.csv")
    text = table.read_text(encoding="utf-8").replace("scored_sections", "asked").replace("object_gallery/", "through/")
    table.write_text(text, encoding="utf-8")
    assert shown_in(run).frame.equals(now.frame) and len(shown_in(run).objects) == 2
