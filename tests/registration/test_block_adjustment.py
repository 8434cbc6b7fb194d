"""Sections of a block moved together: comparisons to parts of a pixel, no drift, contradictions named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from test_deformation import other_stain, tissue
from test_propagation_doubts import PLACE
from test_registration_attempts import section
from test_registration_cohort import block, placed_block

from stainda.annotations import make_shapes
from stainda.cohort import Cohort
from stainda.config import PropagationConfig
from stainda.registration import gates, load_block, propagate
from stainda.registration.adjustment import adjust
from stainda.registration.affine import apply_affine
from stainda.registration.assessment import Assessment
from stainda.registration.block_adjustment import adjust_block, corrected
from stainda.registration.outcomes import Outcomes
from stainda.registration.pair_evidence import PairEvidence, PlacedSection, compare_pair
from stainda.registration.results import REGISTERED
from stainda.registration.sections import SectionImage
from stainda.registration.transforms import Transform

SHAPE = (512, 512)
UM = 2.5  # per view pixel of the synthetic block


def small_affine(rng: np.random.Generator, amount: float, half: float = 256.0) -> np.ndarray:
    """An affine map near the identity that moves the points of a view by about ``amount`` pixels."""
    matrix = np.eye(3)
    linear = rng.normal(0, amount / 2, (2, 2)) / half
    matrix[:2, :2] += linear
    matrix[:2, 2] = rng.normal(0, amount / 1.5, 2) - linear @ np.full(2, half)
    return matrix


def patch_points() -> np.ndarray:
    x, y = np.meshgrid(np.linspace(60, 450, 10), np.linspace(60, 450, 10))
    return np.stack([x.ravel(), y.ravel()], axis=1)


def evidence(moving: int, fixed: int, drift: list[np.ndarray], noise: float, rng: np.random.Generator) -> PairEvidence:
    """What a comparison finds between two sections whose places are off by ``drift``, with an error of its own."""
    points = patch_points()
    # section i shows at the view's point u what belongs to inverse(drift_i)(u)
    exact = apply_affine(drift[moving] @ np.linalg.inv(drift[fixed]), points)
    exact = apply_affine(small_affine(rng, noise), exact) + rng.normal(0, 0.4, points.shape)
    held = np.arange(len(points)) % 4 == 1
    weights = np.broadcast_to(np.eye(2), (len(points), 2, 2))
    return PairEvidence(f"s{moving:02d}", f"s{fixed:02d}", points, exact - points, weights, held, 20.0)


def long_block(count: int = 50, step: float = 0.9) -> tuple[list[np.ndarray], list[PairEvidence], int]:
    """Places of sections of which each was laid on the one before it, and comparisons one and two apart.

    The errors of the comparisons are those measured on 16 rendered sections: 0.06 view pixels one apart, 0.2 two apart.
    """
    rng, reference = np.random.default_rng(5), count // 2
    drift = [np.eye(3)] * count
    for index in range(reference + 1, count):
        drift[index] = drift[index - 1] @ small_affine(rng, step)
    for index in range(reference - 1, -1, -1):
        drift[index] = drift[index + 1] @ small_affine(rng, step)
    pairs = [
        evidence(index, index + apart, drift, noise, rng)
        for apart, noise in ((1, 0.06), (2, 0.2))
        for index in range(count - apart)
    ]
    return drift, pairs, reference


def errors_um(drift: list[np.ndarray], corrections: dict[str, np.ndarray]) -> np.ndarray:
    """Median distance of each section from its true place, micrometres."""
    points = patch_points()
    out = []
    for index, off in enumerate(drift):
        matrix = corrections.get(f"s{index:02d}", np.eye(3))
        shown = apply_affine(np.linalg.inv(off) @ matrix, points)  # of the section that is at ``points`` afterwards
        out.append(float(np.median(np.linalg.norm(shown - points, axis=1))) * UM)
    return np.array(out)


def test_fifty_sections_do_not_drift() -> None:
    """Errors of single steps add up to more than 12 µm; adjusted together, the largest of 50 is below 6."""
    drift, pairs, reference = long_block()
    before = errors_um(drift, {})
    assert before.max() > 12
    adjusted = adjust(pairs, f"s{reference:02d}", SHAPE)
    after = errors_um(drift, dict(adjusted.corrections))
    assert after.max() <= 6 and np.median(after) < np.median(before) / 3
    assert f"s{reference:02d}" not in adjusted.corrections and after[reference] == 0
    assert not adjusted.kept and not any(cycle.contradicts for cycle in adjusted.cycles)


def test_a_comparison_that_contradicts_the_others_is_named_and_moves_nobody() -> None:
    drift, pairs, _ = long_block(12)
    good = errors_um(drift, dict(adjust(pairs, "s06", SHAPE).corrections))
    wrong = next(k for k, pair in enumerate(pairs) if (pair.moving, pair.fixed) == ("s03", "s04"))
    pairs[wrong] = replace(pairs[wrong], shifts=pairs[wrong].shifts + np.array([25.0, -10.0]))
    adjusted = adjust(pairs, "s06", SHAPE)
    named = [cycle for cycle in adjusted.cycles if cycle.contradicts]
    assert [(cycle.moving, cycle.fixed) for cycle in named] == [("s03", "s04")]
    assert named[0].distance == pytest.approx(np.hypot(25, 10), rel=0.1)
    bad = errors_um(drift, dict(adjusted.corrections))
    assert np.abs(bad - good).max() < 1.0, "by way of s02 and s05 the two sections are where they were"


def test_a_section_stays_where_held_back_patches_would_agree_worse() -> None:
    _, pairs, _ = long_block(8)
    rng = np.random.default_rng(1)
    for k, pair in enumerate(pairs):
        if "s00" in (pair.moving, pair.fixed):  # patches that are fitted say one thing, those held back another
            shifts = np.where(pair.held[:, None], rng.normal(0, 0.2, pair.shifts.shape), (3.0, 3.0))
            pairs[k] = replace(pair, shifts=shifts)
    adjusted = adjust(pairs, "s04", SHAPE)
    assert set(adjusted.kept) == {"s00"} and "held-back" in adjusted.kept["s00"]
    assert set(adjusted.corrections) == {"s01", "s02", "s03", "s05", "s06", "s07"}


def test_a_correction_that_tissue_cannot_have_is_refused() -> None:
    _, pairs, _ = long_block(4)
    swollen = np.diag([1.4, 1.0, 1.0])
    for k, pair in enumerate(pairs):
        if pair.moving == "s00":
            pairs[k] = replace(pair, shifts=apply_affine(swollen, pair.points) - pair.points)
    adjusted = adjust(pairs, "s02", SHAPE)
    assert "stretches" in adjusted.kept["s00"] and "s00" not in adjusted.corrections


def densities(amount: float) -> tuple[PlacedSection, PlacedSection, np.ndarray]:
    """Two stains of one tissue, the first moved by a known affine map."""
    matrix = small_affine(np.random.default_rng(4), amount, 128.0)
    moving, fixed = section("a", other_stain(moved_tissue(matrix))), section("b", tissue(1))
    return placed_section(moving), placed_section(fixed), matrix


def placed_section(image: SectionImage) -> PlacedSection:
    return PlacedSection(image.slide, density_of(image), ndimage.binary_erosion(image.tissue, iterations=6))


def density_of(image: SectionImage) -> np.ndarray:
    from stainda.registration.similarity import optical_density

    return optical_density(image.pixels)


def moved_tissue(matrix: np.ndarray, seed: int = 1) -> np.ndarray:
    """The tissue as it lies after ``matrix``: at ``matrix @ u`` it shows what was at ``u``."""
    pixels, back = tissue(seed), np.linalg.inv(matrix)
    y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
    where = [back[i, 0] * x + back[i, 1] * y + back[i, 2] for i in (1, 0)]
    layers = [
        ndimage.map_coordinates(part.astype(float), where, order=3, cval=243) for part in pixels.transpose(2, 0, 1)
    ]
    return np.clip(np.stack(layers, axis=2), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("amount", [0.3, 2.0])
def test_a_comparison_finds_a_known_shift_to_a_tenth_of_a_pixel(amount) -> None:
    moving, fixed, matrix = densities(amount)
    found = compare_pair(moving, fixed)
    assert found is not None and found.significance > gates.MIN_SIGNIFICANCE and 0.15 < found.held.mean() < 0.35
    rest = found.shifts - (apply_affine(matrix, found.points) - found.points)
    weight = found.weights.sum(axis=0)
    mean = np.linalg.solve(weight, np.einsum("kab,kb->a", found.weights, rest))
    assert np.abs(mean).max() < 0.1
    assert np.median(np.linalg.norm(rest, axis=1)) < 0.5


def test_sections_with_nothing_in_common_are_not_compared() -> None:
    _, fixed, _ = densities(0.3)
    other = section("c", tissue(77))
    found = compare_pair(placed_section(other), fixed)
    assert found is None or found.significance < gates.MIN_SIGNIFICANCE
    assert compare_pair(replace(fixed, compared=np.zeros_like(fixed.compared)), fixed) is None


def placed_outcomes(count: int) -> tuple[dict[str, SectionImage], Outcomes, list[np.ndarray]]:
    """Sections of one tissue, alternately stained, each placed with an error that adds up from the first."""
    rng = np.random.default_rng(6)
    moves = [np.eye(3), *(small_affine(rng, 4.0, 128.0) for _ in range(count - 1))]
    pixels = [moved_tissue(matrix) for matrix in moves]
    images = {
        f"s{k:02d}": section(f"s{k:02d}", other_stain(layer) if k % 2 else layer) for k, layer in enumerate(pixels)
    }
    outcomes = Outcomes(images["s00"], 256)
    off = np.eye(3)
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])  # pixel centres to level-0 pixels
    truths = [half @ np.linalg.inv(matrix) @ np.linalg.inv(half) for matrix in moves]
    for k, (slide, image) in enumerate(images.items()):
        if k:
            off = off @ small_affine(rng, 1.5, 128.0)
            transform = Transform.affine(slide, image.size, "s00", image.size, off @ truths[k])
            outcomes.assessments[slide] = Assessment(REGISTERED, "", transform, {"model": "rigid"})
    return images, outcomes, truths


def placement_errors(outcomes: Outcomes, truths: list[np.ndarray]) -> list[float]:
    points = np.random.default_rng(2).uniform(70, 190, (300, 2))
    return [
        float(
            np.median(
                np.linalg.norm(outcomes.transforms()[slide].to_frame(points) - apply_affine(truth, points), axis=1)
            )
        )
        for slide, truth in zip(sorted(outcomes.transforms()), truths, strict=True)
    ]


def test_placed_sections_are_moved_to_where_they_belong() -> None:
    images, outcomes, truths = placed_outcomes(5)
    before = placement_errors(outcomes, truths)
    adjusted = adjust_block(images, outcomes)
    after = placement_errors(outcomes, truths)
    assert max(before) > 1.5 and max(after) < 0.4 and after[0] == 0
    assert len(adjusted.cycles) == 4 + 3
    measures = outcomes.assessments["s04"].measures
    assert measures["adjusted_px"] == pytest.approx(before[4], rel=0.5) and measures["model"] == "rigid"


def test_two_sections_are_left_alone() -> None:
    images, outcomes, _ = placed_outcomes(2)
    before = outcomes.assessments["s01"].transform
    assert not adjust_block(images, outcomes).cycles
    assert outcomes.assessments["s01"].transform is before


def test_a_correction_keeps_the_deformation_and_its_unsure_places() -> None:
    _, outcomes, _ = placed_outcomes(2)
    field = np.zeros((2, 20, 20), np.float32)
    field[0] += 0.5
    unsure = np.zeros((20, 20), np.float32)
    unsure[:, :10] = 1
    lattice = np.diag([1 / 13, 1 / 13, 1.0])
    bent = Transform(
        "s01", "s00", (256, 256), (256, 256), lattice, np.linalg.inv(lattice), -field, field, unsure=unsure
    )
    matrix = small_affine(np.random.default_rng(9), 5.0, 128.0)
    after = corrected(outcomes.view, bent, matrix)
    view = np.random.default_rng(3).uniform(40, 200, (50, 2))
    level0 = apply_affine(outcomes.view.matrix, view)
    shown = apply_affine(outcomes.view.matrix, apply_affine(matrix, view))
    assert np.allclose(after.from_frame(level0), bent.from_frame(shown), atol=1e-6)
    assert np.allclose(after.doubt(level0), bent.doubt(shown), atol=1e-6)
    assert after.round_trip(level0).max() < 1e-3


def test_pairs_whose_comparison_is_contradicted_are_propagated_with_less_confidence(tmp_path: Path) -> None:
    confidence = {}
    for name, contradicts in (("trusted", False), ("contradicted", True)):
        folder = tmp_path / name
        folder.mkdir()
        sections = block(folder, 2)
        registration = placed_block(folder, sections, {})
        head = registration / "b" / "block.json"
        row = {"moving": "b1", "fixed": "b2", "distance": 20.0, "significance": 9.0, "contradicts": contradicts}
        head.write_text(json.dumps({**json.loads(head.read_text()), "comparisons": [row]}))
        assert load_block(registration, "b").contradicted == ({frozenset(("b1", "b2"))} if contradicts else frozenset())
        shapes = {"b1": make_shapes([PLACE], "g", id=["a"])}
        propagate(Cohort(sections), shapes, registration, PropagationConfig(), ["b1"], folder)
        confidence[name] = pd.read_csv(folder / "annotations/propagation.csv").iloc[0]
    trusted, contradicted = confidence["trusted"], confidence["contradicted"]
    assert contradicted["confidence"] == pytest.approx(0.3 * trusted["confidence"], rel=0.01)
    assert contradicted["label"] == "ignored" and "unsure of this place" in contradicted["reason"]


def shifted_section(pixels: float) -> tuple[PlacedSection, PlacedSection]:
    """Two stains of one tissue, the first moved to the right."""
    matrix = np.array([[1.0, 0, pixels], [0, 1, 0], [0, 0, 1]])
    moving, fixed = section("a", other_stain(moved_tissue(matrix))), section("b", tissue(1))
    return placed_section(moving), placed_section(fixed)


def test_a_comparison_bridges_a_wrong_step_of_a_block(monkeypatch) -> None:
    """Thirteen pixels of a small view are beyond the reach of the fine filters."""
    pair = shifted_section(13.0)
    found = compare_pair(*pair)
    assert found is not None and np.median(found.shifts, axis=0) == pytest.approx([13.0, 0.0], abs=0.2)
    monkeypatch.setattr("stainda.registration.pair_evidence.FIRST", (3.0, 4))
    assert compare_pair(*pair) is None


def test_comparisons_that_hardly_stand_out_do_not_outvote_one_that_does() -> None:
    """All sections up to s03 are off by 8 pixels; three faint comparisons across the gap say that they are not."""
    drift, pairs, _ = long_block(10, step=0.0)
    off = np.array([[1.0, 0, 8.0], [0, 1, 0], [0, 0, 1]])
    drift[:4] = [off] * 4
    rng, across = np.random.default_rng(1), [(3, 4), (2, 4), (3, 5), (1, 4)]
    kept = [pair for pair in pairs if (pair.moving <= "s03") == (pair.fixed <= "s03")]
    for moving, fixed in across:
        pair = evidence(moving, fixed, drift, 0.1, rng)
        wrong = (moving, fixed) != (3, 5)
        shifts = rng.normal(0, 0.4, pair.shifts.shape) if wrong else pair.shifts
        kept.append(replace(pair, shifts=shifts, significance=7.0 if wrong else 25.0))
    adjusted = adjust(kept, "s07", SHAPE)
    assert errors_um(drift, dict(adjusted.corrections)).max() < 1.0
    sure = [replace(pair, significance=25.0) for pair in kept]
    assert errors_um(drift, dict(adjust(sure, "s07", SHAPE).corrections)).max() > 10, "all alike, the three prevail"


def test_a_section_of_which_held_back_patches_say_nothing_does_not_hold_its_side() -> None:
    """Sections up to s04 are off by 8 pixels together: what s02 says of its neighbours is the same before and after,
    but for noise, and it goes with them."""
    drift, pairs, _ = long_block(10, step=0.0)
    off = np.array([[1.0, 0, 8.0], [0, 1, 0], [0, 0, 1]])
    drift[:5] = [off] * 5
    rng = np.random.default_rng(3)
    pairs = [evidence(int(pair.moving[1:]), int(pair.fixed[1:]), drift, 0.2, rng) for pair in pairs]
    adjusted = adjust(pairs, "s07", SHAPE)
    assert not adjusted.kept and errors_um(drift, dict(adjusted.corrections)).max() < 2.0
