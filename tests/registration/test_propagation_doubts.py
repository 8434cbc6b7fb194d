"""What is not known of a target is reported and never taken for background; nothing is lost; nothing leaks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
from PIL import Image
from scipy import ndimage
from test_registration_cohort import block, placed_block, shift

from stainda.annotations import make_shapes, read_shapes
from stainda.cohort import Cohort
from stainda.config import PropagationConfig
from stainda.registration import propagate
from stainda.registration.calibration import Logistic, load_models
from stainda.registration.confidence import FEATURES, placed
from stainda.registration.training_shapes import training_shapes
from stainda.registration.transforms import Transform

PLACE = shapely.box(150, 100, 190, 140)
PLAIN = PropagationConfig()


def propagated(tmp_path: Path, matrices=None, shapes=None, config=PLAIN, sections=None, sources=("b1",)):
    sections = sections or block(tmp_path, 2)
    registration = placed_block(tmp_path, sections, matrices or {})
    shapes = {"b1": make_shapes([PLACE], "g", id=["a"])} if shapes is None else shapes
    propagate(Cohort(sections), shapes, registration, config, sources, tmp_path)
    return pd.read_csv(tmp_path / "annotations/propagation.csv")


def ignored_area(tmp_path: Path, slide: str = "b2", config=PLAIN) -> shapely.Geometry:
    shapes = training_shapes(tmp_path, [slide], config.min_confidence)[slide]
    return shapely.union_all(shapes.geometry[shapes["class"] == "Ignore*"].to_numpy())


def test_an_object_put_on_other_structures_is_less_sure_than_one_put_right(tmp_path) -> None:
    strict = PropagationConfig(min_confidence=0.9)
    folders = {name: _made(tmp_path / name) for name in ("right", "wrong")}
    right = propagated(folders["right"], {}, config=strict)
    wrong = propagated(folders["wrong"], {"b2": shift(-30, 20)}, config=strict)
    assert right["confidence"][0] > 0.9 and wrong["confidence"][0] < 0.8
    assert right["label"][0] == "object" and wrong["label"][0] == "ignored" and wrong["status"][0] == "ignored"
    assert "confidence" in wrong["reason"][0] or "ended" in wrong["reason"][0]
    # the outline stays to be looked at, and training ignores more than the outline: it may lie next to it
    shown = read_shapes(tmp_path / "wrong/annotations/propagated/b2.geojson")
    assert shown["class"].tolist() == ["g"] and shown["confidence"][0] < 0.8
    assert ignored_area(tmp_path / "wrong", config=strict).area > 1.5 * shown.geometry[0].area


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def test_dropped_objects_are_ignored_where_they_may_be(tmp_path) -> None:
    rows = propagated(tmp_path, config=PropagationConfig(min_area_ratio=1.5))
    assert rows["status"].tolist() == ["dropped"] and rows["label"].tolist() == ["ignored"]
    assert "area ratio" in rows["reason"][0]
    assert ignored_area(tmp_path).contains(PLACE)
    assert len(read_shapes(tmp_path / "annotations/propagated/b2.geojson")) == 0


def test_tissue_that_no_source_shows_is_not_background(tmp_path) -> None:
    """Half of the source's tissue is missing; objects in that half of the target cannot be known."""
    sections = block(tmp_path, 2)
    picture = np.asarray(Image.open(sections[0].path)).copy()
    picture[:, 220:] = 250
    Image.fromarray(picture).save(sections[0].path)
    propagated(tmp_path, sections=sections)
    unknown = ignored_area(tmp_path)
    assert unknown.contains(shapely.box(240, 100, 330, 200)), "tissue of the target beyond the cut"
    assert not unknown.intersects(shapely.box(60, 120, 200, 180)), "what both show is known"


def test_a_refused_target_is_no_section_without_objects(tmp_path) -> None:
    rows = propagated(tmp_path, {"b2": None})
    assert rows["status"].tolist() == ["dropped"] and rows["label"].tolist() == ["nothing"]
    assert training_shapes(tmp_path, ["b1", "b2"], 0.5) == {}


def test_ignored_areas_of_a_source_are_ignored_on_the_target_whatever_is_propagated(tmp_path) -> None:
    shapes = {"b1": make_shapes([PLACE, shapely.box(210, 150, 240, 180)], ["g", "Ignore*"], id=["a", "i"])}
    rows = propagated(tmp_path, shapes=shapes, config=PropagationConfig(classes=("g",))).set_index("id")
    assert rows["label"].to_dict() == {"a": "object", "i": "ignored"}
    assert ignored_area(tmp_path).contains(shapely.box(212, 152, 238, 178))


def test_doubts_about_one_object_never_cover_a_sure_one(tmp_path) -> None:
    shapes = {"b1": make_shapes([PLACE, shapely.box(185, 100, 215, 140)], ["g", "h"], id=["a", "b"])}
    config = PropagationConfig(min_tissue=0.0)
    propagated(tmp_path, shapes=shapes, config=config)
    path = tmp_path / "annotations/propagated/b2.geojson"
    objects = read_shapes(path)
    from stainda.annotations import write_geojson

    wide = make_shapes([shapely.box(100, 50, 260, 200)], "Ignore*", properties=[{"metadata": {"of": "z"}}])
    write_geojson(wide, tmp_path / "annotations/ignored/b2.geojson")
    assert ignored_area(tmp_path).intersection(shapely.union_all(objects.geometry.to_numpy())).area < 1


def test_annotations_of_a_target_change_nothing_that_is_trained_on(tmp_path) -> None:
    """Three sections, one source; own annotations of both targets, then others, then none: the same files."""
    source = make_shapes([PLACE, shapely.box(220, 100, 250, 130)], "g", id=["a", "b"])
    elsewhere = make_shapes([shapely.box(120, 180, 160, 200)], "g", id=["x"])
    files = []
    for name, own in (("none", {}), ("some", {"b2": elsewhere, "b3": source})):
        folder = _made(tmp_path / name)
        propagated(folder, {"b3": shift(3, 1)}, {"b1": source, **own}, sections=block(folder, 3))
        kinds = ("propagated/b2.geojson", "propagated/b3.geojson", "ignored/b2.geojson", "propagation.csv")
        files.append([(folder / "annotations" / kind).read_bytes() for kind in kinds])
    assert files[0] == files[1]


def test_a_section_that_shows_the_place_without_the_object_speaks_against_it(tmp_path) -> None:
    shapes = {"b1": make_shapes([PLACE], "g", id=["a"]), "b3": make_shapes([], "g")}
    rows = propagated(tmp_path, shapes=shapes, sections=block(tmp_path, 3), sources=("b1", "b3")).set_index("target")
    assert rows["against"]["b2"] == "b3"
    alone = propagated(_made(tmp_path / "alone"), sections=block(tmp_path / "alone", 3)).set_index("target")
    assert rows["exists"]["b2"] < alone["exists"]["b2"]


@pytest.mark.parametrize("between", ["majority", "staple", "nearest"])
def test_other_ways_to_make_one_outline_of_several(tmp_path, between) -> None:
    places = {"b1": PLACE, "b3": shapely.box(154, 100, 194, 140), "b4": shapely.box(158, 100, 198, 140)}
    shapes = {name: make_shapes([place], "g", id=[name]) for name, place in places.items()}
    config = PropagationConfig(between=between)
    propagated(tmp_path, shapes=shapes, config=config, sections=block(tmp_path, 4), sources=tuple(places))
    found = read_shapes(tmp_path / "annotations/propagated/b2.geojson")
    left = 150 if between == "nearest" else 154  # two of three cover from there
    assert len(found) == 1 and found.geometry[0].bounds[0] == pytest.approx(left, abs=0.6)


def test_the_fit_recovers_a_known_model_and_its_table_gives_it_back() -> None:
    generator = np.random.default_rng(0)
    measured = {"a": generator.normal(3, 2, 40_000), "b": generator.uniform(-1, 1, 40_000)}
    logit = 0.8 * measured["a"] - 1.5 * measured["b"] - 2
    truth = generator.random(40_000) < 1 / (1 + np.exp(-logit))
    model = Logistic.fit(measured, truth, ridge=1e-3)
    assert model.weight / model.scale == pytest.approx([0.8, -1.5], abs=0.06)
    again = Logistic.from_table(model.as_table())
    assert again(measured) == pytest.approx(model(measured), abs=1e-3)
    assert model({"a": np.array([np.nan]), "b": np.array([np.inf])})[0] == pytest.approx(
        1 / (1 + np.exp(-model.intercept))
    )


def test_the_shipped_table_reads_the_features_and_points_the_way_they_do() -> None:
    models = load_models()
    assert set(models["right"].features) == set(FEATURES)
    middle = {name: np.full(2, c) for name, c in zip(FEATURES, models["right"].centre, strict=True)}
    for name, better in (("typical", 1), ("gap", -1), ("ended", -1)):
        change = np.array([-1.0, 1.0]) * better
        low, high = models["right"]({**middle, name: middle[name] + change})
        assert high > low, name


def test_folds_and_glass_only_lower_a_confidence() -> None:
    found = placed(np.array([1.0, -0.2, 1.0, 1.0]), np.array([0.0, 0.0, 0.15, 0.0]), np.array([1.0, 1.0, 1.0, 0.6]))
    assert found == pytest.approx([1, 0, np.exp(-1), 0.6])
    one = np.ones(2)
    assert placed(one, 0 * one, one, np.array([0.5, 1.0])) == pytest.approx([0.65, 0.3])


def test_objects_where_the_registration_is_unsure_get_a_low_confidence(tmp_path) -> None:
    """Two objects on two equal sections; where one lies the deformation was damped."""
    sections = block(tmp_path, 2)
    folder = placed_block(tmp_path, sections, {}) / "b"
    grid, zero = np.diag([10.0, 10.0, 1.0]), np.zeros((2, 30, 40), np.float32)
    unsure = np.zeros((30, 40), np.float32)
    unsure[:, 20:] = 1
    Transform("b2", "b1", (400, 300), (400, 300), np.linalg.inv(grid), grid, zero, zero, {}, unsure).save(folder / "b2")
    shapes = {"b1": make_shapes([PLACE, shapely.box(230, 120, 270, 160)], "g", id=["sure", "unsure"])}
    propagate(Cohort(sections), shapes, folder.parent, PLAIN, ("b1",), tmp_path)
    rows = pd.read_csv(tmp_path / "annotations/propagation.csv").set_index("id")
    assert rows["label"].to_dict() == {"sure": "object", "unsure": "ignored"}
    assert rows["confidence"]["unsure"] <= 0.3 < rows["confidence"]["sure"]
    assert "unsure of this place" in rows["reason"]["unsure"]


def test_an_object_looks_like_its_kind_or_like_any_place(tmp_path) -> None:
    """Twelve bright discs in noise, and two places taken for discs that are not."""
    from stainda.registration.content import typicality
    from stainda.registration.sections import SectionImage

    generator = np.random.default_rng(4)
    pixels = 140 + 25 * ndimage.gaussian_filter(generator.normal(size=(600, 600)), 1.5) / 0.19
    centres = [(x, y) for x in (100, 250, 400, 520) for y in (100, 300, 500)]
    y, x = np.mgrid[:600, :600]
    for cx, cy in centres:
        pixels[np.hypot(x - cx, y - cy) < 25] += 60
    image = np.repeat(np.clip(pixels, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    section = SectionImage("s", image, np.ones((600, 600), bool), np.eye(3), (600, 600), None)
    shapes = [shapely.Point(cx, cy).buffer(25) for cx, cy in [*centres, (175, 200), (330, 400)]]
    score = typicality(section, np.array(shapes, dtype=object), "s")
    assert (score[:12] > 2).all() and (score[12:] < -2).all()
    assert np.isnan(typicality(section, np.array(shapes[:3], dtype=object), "s")).all()
