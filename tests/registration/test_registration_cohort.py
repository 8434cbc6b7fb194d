"""Blocks are registered, resumed and refused as a user relies on; shapes propagated with every object accounted for."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
from PIL import Image
from scipy import ndimage

from stainda.annotations import make_shapes, read_shapes
from stainda.cohort import Cohort, Section
from stainda.config import PropagationConfig, RegistrationConfig
from stainda.errors import ConfigError, MissingDependencyError, RegistrationError
from stainda.files import write_json
from stainda.registration import QUALITY_COLUMNS, Transform, load_block, propagate, register_cohort
from stainda.registration.isolation import isolated
from stainda.registration.results import BLOCK_FORMAT, file_name, write_refusal

SAME = RegistrationConfig(method="identity", max_dim=256)


def paint(path: Path, seed: int = 1, size: tuple[int, int] = (400, 300)) -> Path:
    """A section: textured tissue in an ellipse on white glass."""
    width, height = size
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(height, width)), 3)
    y, x = np.mgrid[:height, :width]
    inside = ((y - height / 2) / (0.4 * height)) ** 2 + ((x - width / 2) / (0.4 * width)) ** 2 < 1
    density = np.where(inside, 0.35 + 0.1 * noise / noise.std(), 0.01)[..., None] * (0.5, 1.0, 0.7)
    Image.fromarray((255 * 10 ** -np.clip(density, 0, 2)).astype(np.uint8)).save(path)
    return path


def block(folder: Path, count: int = 3, name: str = "b") -> tuple[Section, ...]:
    return tuple(
        Section(f"{name}{i}", "p", name, i, f"S{i}", "A", paint(folder / f"{name}{i}.png"), mpp=0.5)
        for i in range(1, count + 1)
    )


def test_aligned_sections_need_no_valis(tmp_path) -> None:
    quality = register_cohort(Cohort(block(tmp_path)), SAME, tmp_path / "run")
    assert list(quality["status"]) == ["registered", "registered"]
    assert list(pd.read_csv(tmp_path / "run/registration/quality.csv").columns) == list(QUALITY_COLUMNS)
    result = load_block(tmp_path / "run/registration", "b")
    assert result.reference == "b1" and set(result.transforms) == {"b1", "b2", "b3"}
    for row in quality.itertuples():
        picture = tmp_path / "run/registration" / row.overlay
        assert picture.stat().st_size < 150_000 and picture.name == f"b__{row.source}__b1.jpg"


def test_aligned_sections_of_other_pixel_sizes_are_scaled(tmp_path) -> None:
    first, second = block(tmp_path, count=2)
    sections = (replace(first, mpp=0.25), replace(second, mpp=0.5))
    register_cohort(Cohort(sections), SAME, tmp_path / "run")
    result = load_block(tmp_path / "run" / "registration", "b")
    here, there = (result.transforms[section.slide] for section in sections)
    found = there.from_frame(here.to_frame(np.array([[100.0, 60.0]])))
    assert np.allclose(found, [[50.0, 30.0]]), "100 px of 0.25 µm are 50 px of 0.5 µm"


def test_a_section_alone_in_its_block_says_why_it_has_the_identity(tmp_path) -> None:
    quality = register_cohort(Cohort(block(tmp_path, 1)), RegistrationConfig(), tmp_path / "run")
    assert quality["status"].tolist() == ["registered"] and "only section" in quality["reason"][0]


def test_a_bad_section_is_refused_with_its_reason_and_takes_no_other_down(tmp_path) -> None:
    good, blank, garbage = block(tmp_path)
    noise = np.random.default_rng(0).normal(245, 3, (300, 400, 3))
    Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8)).save(blank.path)
    garbage.path.write_bytes(b"no image at all")
    missing = replace(good, slide="b4", section=4, path=tmp_path / "nowhere.png")
    fine = replace(good, slide="b5", section=5)
    quality = register_cohort(Cohort((good, blank, garbage, missing, fine)), SAME, tmp_path / "run").set_index("source")
    assert quality["status"].to_dict() == {"b2": "refused", "b3": "refused", "b4": "refused", "b5": "registered"}
    assert "blank" in quality["reason"]["b2"] and "cannot be opened" in quality["reason"]["b3"]
    with pytest.raises(RegistrationError, match="refused"):
        Transform.load(tmp_path / "run/registration/b/b2")
    assert "b2" not in load_block(tmp_path / "run/registration", "b").transforms


def test_a_finished_block_is_done_again_only_when_something_changed(tmp_path) -> None:
    sections = block(tmp_path)
    head = tmp_path / "run/registration/b/block.json"

    def stamp(config: RegistrationConfig = SAME) -> int:
        register_cohort(Cohort(sections), config, tmp_path / "run")
        return head.stat().st_mtime_ns

    first = stamp()
    assert stamp() == first
    assert (second := stamp(SAME.model_copy(update={"max_dim": 200}))) > first
    paint(sections[1].path, seed=9)
    os.utime(sections[1].path, ns=(1, 1))
    assert stamp(SAME.model_copy(update={"max_dim": 200})) > second


def test_a_reference_is_chosen_by_slide_or_stain_and_a_typo_is_answered(tmp_path) -> None:
    cohort = Cohort(block(tmp_path))
    for wanted in ("b2", "S2"):
        register_cohort(cohort, SAME.model_copy(update={"reference": wanted}), tmp_path / wanted)
        assert load_block(tmp_path / wanted / "registration", "b").reference == "b2"
    with pytest.raises(ConfigError, match="Did you mean 'S2'"):
        register_cohort(cohort, SAME.model_copy(update={"reference": "S22"}), tmp_path / "run")


def test_without_valis_the_message_says_what_to_install(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("stainda.registration.valis_import.valis_installed", lambda: False)
    with pytest.raises(MissingDependencyError, match=r"stainda\[registration\]"):
        register_cohort(Cohort(block(tmp_path)), RegistrationConfig(), tmp_path / "run")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _refuse() -> None:
    raise RegistrationError("gave up", remedy="Do this")


def test_what_happens_in_a_child_stays_there() -> None:
    assert isolated(sum, [1, 2], seconds=20, what="it") == 3
    with pytest.raises(RegistrationError, match="SIGKILL"):
        isolated(_die, seconds=20, what="it")
    with pytest.raises(RegistrationError, match="longer than"):
        isolated(time.sleep, 60, seconds=0.3, what="it")
    with pytest.raises(RegistrationError, match="gave up"):
        isolated(_refuse, seconds=20, what="it")


def placed_block(tmp_path: Path, sections: tuple[Section, ...], matrices: dict[str, np.ndarray | None]) -> Path:
    """A registration folder as ``register_cohort`` leaves it, with known transforms; ``None`` is a refused section."""
    folder = tmp_path / "registration" / file_name("b")
    reference, size = sections[0].slide, (400, 300)
    refused = {}
    for row in sections:
        matrix = matrices.get(row.slide, np.eye(3))
        if matrix is None:
            refused[row.slide] = "blank"
            write_refusal(folder, row.slide, reference, "blank")
        else:
            Transform.affine(row.slide, size, reference, size, matrix).save(folder / row.slide)
    placed = [row.slide for row in sections if row.slide not in refused]
    head = {"format": BLOCK_FORMAT, "version": 1, "block": "b", "settings": "x", "reference": reference}
    write_json(folder / "block.json", head | {"placed": placed, "refused": refused, "rows": []})
    return tmp_path / "registration"


def shift(x: float, y: float) -> np.ndarray:
    return np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]])


def test_every_object_and_target_is_accounted_for(tmp_path) -> None:
    sections = block(tmp_path, 4)
    # points of b2 lie 10 px right of those of b1; b4 was refused
    registration = placed_block(tmp_path, sections, {"b2": shift(-10, 0), "b3": np.eye(3), "b4": None})
    shapes = make_shapes(
        [
            shapely.Point(200, 150).buffer(20).difference(shapely.Point(200, 150).buffer(5)),
            shapely.box(2, 2, 20, 20),  # on glass
            shapely.box(380, 100, 399, 120).buffer(0),  # leaves the slide in b2
            shapely.Point(180, 140),
        ],
        ["g", "g", "g", "cell"],
        id=["a", "b", "c", "d"],
        properties=[{"k": 1}, {}, {}, {}],
    )
    # the pictures are not shifted, so nothing is sure here, and micro-registration would move the objects back
    config = PropagationConfig(min_confidence=0, micro=False)
    propagate(Cohort(sections), {"b1": shapes}, registration, config, ["b1"], tmp_path)
    rows = pd.read_csv(tmp_path / "annotations/propagation.csv")
    assert len(rows) == 4 * 3
    status = rows.set_index(["target", "id"])["status"]
    assert status["b2"].to_dict() == {"a": "kept", "b": "dropped", "c": "dropped", "d": "kept"}
    refused = rows[rows["target"] == "b4"]
    assert (refused["status"] == "dropped").all() and refused["reason"].str.contains("refused.*blank").all()
    assert not (tmp_path / "annotations/propagated/b4.geojson").exists()
    found = read_shapes(tmp_path / "annotations/propagated/b2.geojson").set_index("id")
    assert found.geometry["a"].centroid.distance(shapely.Point(210, 150)) < 0.01
    assert len(found.geometry["a"].interiors) == 1
    assert found["source_slide"]["a"] == "b1" and 0 < found["confidence"]["a"] <= 1
    kept = rows[(rows["target"] == "b2") & (rows["id"] == "a")].iloc[0]
    assert kept["area_ratio"] == pytest.approx(1, abs=1e-3)


def test_area_ratio_and_confidence_drop_what_they_should(tmp_path) -> None:
    sections = block(tmp_path, 2)
    registration = placed_block(tmp_path, sections, {})
    shapes = make_shapes([shapely.Point(200, 150).buffer(20)], "g", id=["a"])

    def reason(config: PropagationConfig) -> str:
        propagate(Cohort(sections), {"b1": shapes}, registration, config, ["b1"], tmp_path)
        return str(pd.read_csv(tmp_path / "annotations/propagation.csv")["reason"][0])

    assert "area ratio" in reason(PropagationConfig(min_area_ratio=1.5, max_area_ratio=2))
    assert "confidence" in reason(PropagationConfig(min_confidence=0.999))
    assert reason(PropagationConfig()) == "nan"


def test_shapes_are_clipped_to_the_tissue_but_lumens_are_not_lost(tmp_path) -> None:
    sections = block(tmp_path, 2)
    picture = np.asarray(Image.open(sections[1].path)).copy()
    picture[130:170, 180:220] = 250  # a lumen
    Image.fromarray(picture).save(sections[1].path)
    registration = placed_block(tmp_path, sections, {})
    shapes = make_shapes([shapely.box(185, 135, 215, 165), shapely.box(20, 130, 120, 170)], "g", id=["in", "edge"])
    propagate(Cohort(sections), {"b1": shapes}, registration, PropagationConfig(), ["b1"], tmp_path)
    found = read_shapes(tmp_path / "annotations/propagated/b2.geojson").set_index("id")
    assert found.geometry["in"].area == pytest.approx(900, rel=1e-3)
    assert 0.5 * 4000 < found.geometry["edge"].area < 0.95 * 4000
    rows = pd.read_csv(tmp_path / "annotations/propagation.csv").set_index("id")
    assert "clipped" in rows["reason"]["edge"]


def test_a_targets_own_annotations_score_and_change_nothing_else(tmp_path) -> None:
    sections = block(tmp_path, 2)
    registration = placed_block(tmp_path, sections, {})
    source = make_shapes([shapely.box(150, 100, 190, 140), shapely.box(220, 100, 250, 130)], "g", id=["a", "b"])
    own = make_shapes([shapely.box(160, 100, 200, 140), shapely.box(150, 190, 170, 210)], "g", id=["x", "y"])
    config = PropagationConfig()
    propagate(Cohort(sections), {"b1": source}, registration, config, ["b1"], tmp_path / "without")
    propagate(Cohort(sections), {"b1": source, "b2": own}, registration, config, ["b1"], tmp_path / "with")
    for name in ("propagated/b2.geojson", "propagation.csv"):
        assert (tmp_path / "with/annotations" / name).read_bytes() == (
            tmp_path / "without/annotations" / name
        ).read_bytes()
    rows = pd.read_csv(tmp_path / "with/annotations/agreement.csv").set_index("id")
    assert rows["dice"].to_dict() == {"a": 0.75, "b": 0.0, "y": 0.0}
    assert rows["centroid_distance_px"]["a"] == pytest.approx(10)
    assert rows["found"].to_dict() == {"a": "both", "b": "propagated only", "y": "own only"}


def test_all_sources_of_a_target_become_one_object(tmp_path) -> None:
    sections = block(tmp_path, 4)
    registration = placed_block(tmp_path, sections, {})
    places = {"b1": shapely.box(150, 100, 190, 140), "b4": shapely.box(159, 100, 199, 140)}
    shapes = {name: make_shapes([place], "g", id=[name]) for name, place in places.items()}
    propagate(Cohort(sections), shapes, registration, PropagationConfig(), ["b1", "b4"], tmp_path)
    rows = pd.read_csv(tmp_path / "annotations/propagation.csv").set_index(["target", "source"])
    assert len(rows) == 6, "each object and each other section"
    assert (rows["status"] == "kept").all()
    assert rows["object"]["b2"].to_dict() == {"b1": "b1", "b4": "b1"} and rows["object"]["b3"]["b1"] == "b4"
    assert rows["reason"]["b2"]["b4"] == "joined with b1 of b1"
    assert (rows["outline"][["b2", "b3"]] == "interpolated between b1 and b4").all()
    for target, left in (("b1", 159), ("b2", 153), ("b3", 156), ("b4", 150)):
        found = read_shapes(tmp_path / f"annotations/propagated/{target}.geojson")
        assert len(found) == 1 and found.geometry[0].bounds == pytest.approx((left, 100, left + 40, 140), abs=0.6)
    dissent = rows["dissent"]["b2"]  # Dice of two squares of 40 that lie 3 and 6 apart
    assert dissent.to_dict() == pytest.approx({"b1": 3 / 40, "b4": 6 / 40}, abs=0.02)
