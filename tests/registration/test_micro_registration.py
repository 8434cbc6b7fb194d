"""Micro-registration brings outlines nearer where sections share structures, and leaves them where they do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
from scipy import ndimage
from test_registration_cohort import block, placed_block

from stainda.annotations import make_shapes
from stainda.cohort import Cohort
from stainda.config import PropagationConfig
from stainda.registration import propagate
from stainda.registration.evidence import LocalEvidence
from stainda.registration.micro import ACROSS, FIRST, micro_register, pixels_across
from stainda.registration.neighbourhood import DensityPyramid, Neighbourhood
from stainda.registration.sections import SectionImage
from stainda.registration.transforms import Between, Transform

SIDE = 600
WIDTH = 32.0  # of an object, pixels
OFF = np.array([5.0, -4.0])  # by how much the registration is off everywhere


def texture(seed: int) -> np.ndarray:
    """Optical densities of tissue with structures of several sizes."""
    noise = np.random.default_rng(seed).normal(size=(SIDE, SIDE))
    layers = [ndimage.gaussian_filter(noise, scale) * scale for scale in (2, 4, 8)]
    return np.clip(0.35 + 0.25 * np.sum(layers, axis=0), 0.05, 1.5)


def section(name: str, density: np.ndarray) -> SectionImage:
    pixels = np.repeat((255 * 10**-density)[:, :, None], 3, axis=2).round().astype(np.uint8)
    to_indices = np.eye(3)
    to_indices[:2, 2] = -0.5
    return SectionImage(name, pixels, np.ones((SIDE, SIDE), bool), to_indices, (SIDE, SIDE), 1.0)


def bend(xy: np.ndarray) -> np.ndarray:
    """The true map from the source to the target: a shift that changes by some pixels over the section."""
    wave = np.stack([np.sin(xy[:, 1] / 90), np.cos(xy[:, 0] / 110)], axis=1)
    return xy + 1.5 * wave


def pair(seed: int, related: bool = True) -> tuple[tuple[DensityPyramid, DensityPyramid], Between]:
    """A source, a target in another contrast that shows it bent, and a registration that is off by ``OFF``."""
    own = texture(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    there = np.stack([columns.ravel(), rows.ravel()], axis=1) + 0.5
    back = there
    for _ in range(20):  # the inverse of ``bend``, by its fixed point
        back = back - (bend(back) - there)
    at = back[:, 1] - 0.5, back[:, 0] - 0.5
    shown = ndimage.map_coordinates(own if related else texture(seed + 1), at, order=1, mode="nearest")
    noise = ndimage.gaussian_filter(np.random.default_rng(seed + 2).normal(size=(SIDE, SIDE)), 1.5)
    target = np.clip(0.1 + 1.4 * shown.reshape(SIDE, SIDE) ** 2 + 0.1 * noise, 0.02, 2)
    off = np.eye(3)
    off[:2, 2] = OFF
    size = (SIDE, SIDE)
    between = Between(Transform.affine("s", size, "t", size, off), Transform.identity("t", size))
    return (DensityPyramid(section("s", own)), DensityPyramid(section("t", target))), between


def outlines(number: int) -> np.ndarray:
    rows, columns = np.unravel_index(np.arange(number), (8, 8))
    centres = np.stack([columns, rows], axis=1) * 60.0 + 90
    return shapely.buffer(shapely.points(centres), WIDTH / 2)


def errors(own: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Mean distances of the points of outlines from where they truly lie (n,), pixels."""
    apart = [
        np.linalg.norm(bend(shapely.get_coordinates(a)) - shapely.get_coordinates(b), axis=1).mean()
        for a, b in zip(own, there, strict=True)
    ]
    return np.array(apart)


def placed(own: np.ndarray) -> np.ndarray:
    return shapely.transform(own, lambda xy: xy + OFF)


@pytest.mark.parametrize("seed", [1, 2])
def test_outlines_come_to_their_places(seed) -> None:
    densities, between = pair(seed)
    own = outlines(20)
    aligned = micro_register(densities, between, placed(own))
    before, after = errors(own, placed(own)), errors(own, aligned.outlines)
    assert before.min() > 4 and np.median(after) < 1 and (after < before).mean() >= 0.9
    # what the table says is how far they were moved
    kept = aligned.shift > 0
    assert kept.mean() >= 0.9 and aligned.gain[kept].min() > 0
    steps = [shapely.get_coordinates(b).mean(0) - shapely.get_coordinates(a).mean(0)
             for a, b in zip(placed(own), aligned.outlines, strict=True)]  # fmt: skip
    assert np.allclose(aligned.moved, steps)
    # the evidence is of the place an outline was moved to
    moved = LocalEvidence.of(densities, between, shapely.bounds(aligned.outlines), aligned.moved)
    stayed = LocalEvidence.of(densities, between, shapely.bounds(placed(own)))
    assert np.median(moved.structure) > np.median(stayed.structure) + 1
    assert np.median(moved.offset) * WIDTH < 2 < np.median(stayed.offset) * WIDTH


def test_between_sections_without_common_structures_nothing_is_moved() -> None:
    densities, between = pair(3, related=False)
    where = placed(outlines(60))
    aligned = micro_register(densities, between, where)
    assert (aligned.outlines == where).all() and not aligned.moved.any()
    assert np.isfinite(aligned.gain).sum() == FIRST, "a part of the objects decides that the rest need not be tried"
    assert np.nanmax(aligned.shift) == 0


def test_few_objects_each_have_to_be_supported_alone() -> None:
    densities, between = pair(4)
    own = outlines(3)
    aligned = micro_register(densities, between, placed(own))
    assert (errors(own, aligned.outlines) < 1.5).sum() >= 2
    unrelated, between = pair(5, related=False)
    assert (micro_register(unrelated, between, placed(own)).moved == 0).all()


def test_what_is_no_area_stays() -> None:
    densities, between = pair(6)
    shapes = np.array(
        [shapely.Point(200, 200), shapely.Polygon(), shapely.LineString([(0, 0), (50, 50)]), None], object
    )
    aligned = micro_register(densities, between, shapes)
    assert list(aligned.outlines) == list(shapes) and np.isnan(aligned.gain).all() and np.isnan(aligned.shift).all()


def test_a_point_without_a_place_has_no_image() -> None:
    """Between pieces of tissue that were registered one by one a transform gives NaN."""
    density, _ = pair(7)[0]
    values, shown = density.at(np.array([[100.0, 100.0], [np.nan, np.nan]]), 1.0)
    assert shown.tolist() == [True, False] and np.isfinite(values).all() and values[1] == 0


def test_a_window_shows_the_source_as_it_is_placed() -> None:
    densities, between = pair(8)
    around = Neighbourhood.of(densities, between, np.array([300.0, 280.0]), 64.0, 64)
    points = np.array([[300.0, 280.0], [310.0, 270.0]])
    column, row = around.samples(points).T
    in_source = densities[0].at(points - OFF, 1.0)[0]
    assert ndimage.map_coordinates(around.source, (row, column), order=1) == pytest.approx(in_source, abs=0.05)
    assert ndimage.map_coordinates(around.target, (row, column), order=1) == pytest.approx(
        densities[1].at(points, 1.0)[0], abs=0.05
    )


def test_objects_are_measured_in_pixels_of_the_view() -> None:
    image = section("s", texture(9))  # 600 pixels, seen on a view of 512
    assert pixels_across(np.array([60.0, 30.0, 90.0]), image) == pytest.approx(60 * 512 / 600)
    assert pixels_across(np.array([]), image) == float("inf") > ACROSS


@pytest.mark.parametrize(("micro", "tried"), [(True, True), (False, False), ("auto", True)])
def test_the_table_says_what_was_moved(tmp_path: Path, micro, tried) -> None:
    """Sections of 400 pixels lie on a view of 512: an object of 12 pixels is small, so ``auto`` tries it."""
    sections = block(tmp_path, 2)
    registration = placed_block(tmp_path, sections, {})
    shapes = {"b1": make_shapes([shapely.box(150, 100, 162, 112)], "g", id=["a"])}
    propagate(Cohort(sections), shapes, registration, PropagationConfig(micro=micro), ["b1"], tmp_path)
    row = pd.read_csv(tmp_path / "annotations/propagation.csv").iloc[0]
    assert np.isfinite(row["micro_px"]) == tried and np.isfinite(row["micro_gain"]) == tried


def test_large_objects_are_left_to_the_registration(tmp_path: Path) -> None:
    sections = block(tmp_path, 2)
    registration = placed_block(tmp_path, sections, {})
    shapes = {"b1": make_shapes([shapely.box(150, 100, 200, 150)], "g", id=["a"])}
    propagate(Cohort(sections), shapes, registration, PropagationConfig(), ["b1"], tmp_path)
    assert pd.read_csv(tmp_path / "annotations/propagation.csv")["micro_px"].isna().all()
