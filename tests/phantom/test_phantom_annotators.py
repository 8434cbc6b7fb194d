"""Simulated annotators draw the true outlines as badly as their quality says."""

import numpy as np
import pandas as pd
import pytest
import shapely

from stainda.annotations import read_shapes
from stainda.config import PhantomConfig
from stainda.errors import ConfigError
from stainda.phantom import make_cohort

ANNOTATORS = {
    "exact": {},
    "blind": {"missed": 1.0},
    "half": {"missed": 0.5},
    "wide": {"grown_um": 9.0},
    "shaky": {"shift_um": 6.0},
    "eager": {"invented": 1.0},
}
MPP = 1.5


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Outlines of the truth and of each annotator on four sections, level-0 pixels, by slide."""
    config = PhantomConfig(
        patients=4,
        stains=["PAS"],
        centres=["A", "B"],
        size=640,
        mpp=MPP,
        annotators=ANNOTATORS,
        annotated_at=["A"],
        seed=3,
    )
    manifest = make_cohort(config, tmp_path_factory.mktemp("annotators"))
    rows = pd.read_csv(manifest, keep_default_na=False).set_index("slide")
    root = manifest.parent / "annotations"
    files = {name: {path.stem: path for path in (root / name).glob("*.geojson")} for name in ANNOTATORS}
    truth = {slide: root / f"{slide}.geojson" for slide in files["exact"]}
    read = {
        name: {slide: _glomeruli(path) for slide, path in of.items()} for name, of in {"truth": truth, **files}.items()
    }
    return rows, read


def _glomeruli(path):
    shapes = read_shapes(path)
    return np.asarray(shapes.geometry.values[shapes["class"] == "glomerulus"], object)


def _all(drawn, name):
    return np.concatenate(list(drawn[1][name].values()))


def test_annotators_draw_at_their_centre_and_the_manifest_names_their_files(drawn):
    rows, read = drawn
    at_a = rows.index[rows["centre"] == "A"]
    assert set(read["exact"]) == set(at_a) and len(at_a) == 2
    assert (rows.loc[at_a, "annotations"].str.count(";") == len(ANNOTATORS) - 1).all()
    assert not rows.loc[rows["centre"] == "B", "annotations"].str.contains(";").any()


def test_an_exact_annotator_draws_the_truth_and_a_blind_one_nothing(drawn):
    for one, other in zip(_all(drawn, "truth"), _all(drawn, "exact"), strict=True):
        assert one.symmetric_difference(other).area < 0.01 * one.area
    assert len(_all(drawn, "blind")) == 0


def test_outlines_are_missed_widened_and_moved_by_what_the_quality_says(drawn):
    truth, half = _all(drawn, "truth"), _all(drawn, "half")
    assert abs(len(half) / len(truth) - 0.5) < 3 * np.sqrt(0.25 / len(truth))
    wide = _all(drawn, "wide")
    grown = (shapely.area(wide) - shapely.area(truth)) / shapely.length(truth)
    assert np.median(grown) * MPP == pytest.approx(9, rel=0.2)
    moved = shapely.get_coordinates(shapely.centroid(_all(drawn, "shaky"))) - shapely.get_coordinates(
        shapely.centroid(truth)
    )
    assert moved.std() * MPP == pytest.approx(6, rel=0.35)


def test_invented_objects_lie_where_none_is(drawn):
    _, read = drawn
    number = 0
    for slide, truth in read["truth"].items():
        kept = shapely.union_all(truth)
        invented = [outline for outline in read["eager"][slide] if outline.intersection(kept).area < 0.5 * outline.area]
        assert not any(outline.intersects(kept) for outline in invented)
        number += len(invented)
    expected = len(_all(drawn, "truth"))
    assert 0 < number < expected + 3 * np.sqrt(expected)


def test_a_single_annotator_is_refused():
    with pytest.raises((ConfigError, ValueError), match="annotators are two or more"):
        PhantomConfig(annotators={"alone": {}})
