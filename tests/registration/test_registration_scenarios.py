"""The benchmark of registration tells right from wrong: its truth survives every edit, its judge knows every ending."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from stainda.phantom.maps import random_map
from stainda.registration import BlockResult, Transform
from stainda.slides import open_slide

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from registration_cases import Case, PiecedSheet, Sheet, StretchedSheet, around, spoiled
from registration_families import all_cases
from registration_scenarios import CORRECT, MARKED, REFUSED, WRONG, judge, moved, slide_name, summary

SPOT = np.array([[70.0, 41.0]])


def sheet(seed: int = 0) -> Sheet:
    """A dark spot at SPOT on grey tissue."""
    pixels = np.full((120, 150, 3), 200, np.uint8)
    y, x = np.mgrid[:120, :150] + 0.5
    pixels[np.hypot(x - SPOT[0, 0], y - SPOT[0, 1]) < 5] = 20
    rng = np.random.default_rng(seed)
    return Sheet(pixels, np.ones((120, 150), bool), np.eye(3), random_map(rng, 150, 1.0, 0.0), "t", "PAS", 1.0)


def spot(found: Sheet) -> np.ndarray:
    dark = np.clip(110 - found.pixels.mean(axis=2), 0, None)
    y, x = ndimage.center_of_mass(dark)
    return np.array([[x + 0.5, y + 0.5]])


@pytest.mark.parametrize(
    "edit",
    [
        lambda s: s.mirrored(),
        lambda s: s.turned(90),
        lambda s: s.turned(217.3),
        lambda s: s.mirrored().turned(31).magnified(1.7),
        lambda s: s.magnified(0.5),
        lambda s: s.on_glass(2, 3, 0.3, 0.9),
        lambda s: s.only(0.2, 0.1, 0.9, 0.9),
        lambda s: s.exposed(0.8, 10, 1.2).compressed(80).blurred(0.7),
    ],
)
def test_the_truth_survives_every_edit(edit) -> None:
    original = sheet()
    edited = edit(original)
    assert np.linalg.norm(edited.to_frame(spot(edited)) - original.to_frame(SPOT)) < 0.8 * edited.mpp
    assert np.allclose(edited.from_frame(edited.to_frame(SPOT)), SPOT, atol=1e-4)
    assert edited.shows(spot(edited)).all()


def result(case: Case, matrix: np.ndarray | None, refused: dict[str, str] | None = None) -> BlockResult:
    first, second = slide_name(case, 0), slide_name(case, 1)
    placed = {first: Transform.identity(first, case.sheets[0].size)}
    if matrix is not None:
        placed[second] = Transform.affine(second, case.sheets[1].size, first, case.sheets[0].size, matrix)
    return BlockResult("b", "x", first, placed, refused or {}, ())


def shift(x: float) -> np.ndarray:
    return np.array([[1.0, 0, x], [0, 1, 0], [0, 0, 1]])


def test_every_ending_is_called_by_its_name() -> None:
    case = Case("c", "f", (sheet(), sheet()))
    second = slide_name(case, 1)
    assert judge(case, result(case, shift(0))).verdict == CORRECT
    off = judge(case, result(case, shift(20)))
    assert off.verdict == CORRECT and off.median_um == pytest.approx(20, rel=0.05)
    assert judge(case, result(case, shift(40))).verdict == WRONG
    assert judge(case, result(case, None, {second: "blank"})).verdict == REFUSED
    assert judge(case, result(case, None, {second: " "})).verdict == WRONG, "a refusal without a reason"
    other = Case("c", "f", (sheet(), replace(sheet(), tissue="other")), registrable=False)
    assert judge(other, result(other, shift(0))).verdict == WRONG
    assert judge(other, result(other, None, {second: "why"})).verdict == REFUSED
    bad = Case("c", "f", (sheet(), spoiled(sheet(), "garbage")))
    assert judge(bad, result(bad, None, {second: "cannot be opened"})).verdict == CORRECT
    outcomes = [judge(case, result(case, shift(0))), judge(other, result(other, shift(0)))]
    counts = summary(outcomes)
    assert (counts["cases"], counts["registrable"], counts["correct"], counts["silently_wrong"]) == (2, 1, 1, 1)


def test_a_deformation_that_is_right_only_in_the_middle_is_wrong() -> None:
    case = Case("c", "f", (sheet(), sheet()))
    stretched = np.array([[2.2, 0, -90], [0, 1, 0], [0, 0, 1]])
    found = judge(case, result(case, stretched))
    assert found.verdict == WRONG and found.p90_um > 50


@pytest.mark.parametrize(("from_x", "verdict"), [(90.0, MARKED), (290.0, WRONG), (10.0, WRONG)])
def test_what_is_wrong_only_where_the_transform_is_unsure_is_marked(from_x, verdict) -> None:
    """Right up to x = 90; unsure from ``from_x`` of the frame on: all that is wrong, too little, or nearly all."""
    case = Case("c", "f", (sheet(), sheet()))
    found = result(case, shift(0))
    name = slide_name(case, 1)

    class Unsure:
        pieces = None

        def to_frame(self, xy):
            return xy + np.stack([3.0 * np.clip(xy[:, 0] - 90, 0, None), np.zeros(len(xy))], axis=1)

        def doubt(self, frame_xy):
            return np.where(frame_xy[:, 0] >= from_x, 1.0, 0.0)

    found.transforms[name] = Unsure()
    assert judge(case, found).verdict == verdict


def test_there_are_over_sixty_cases_of_different_names() -> None:
    names = [maker.name for maker in all_cases(1)]
    assert len(names) >= 60 and len(set(names)) == len(names)


@pytest.mark.parametrize("states", [True, False])
def test_a_case_is_written_as_a_slide_with_or_without_its_mpp(tmp_path, states) -> None:
    made = sheet() if states else sheet().silent_on_mpp()
    made.write(tmp_path / "s.tif")
    with open_slide(tmp_path / "s.tif") as slide:
        assert slide.size == made.size
        assert slide.mpp == (pytest.approx(1.0, rel=1e-3) if states else None)


def test_the_truth_of_pieces_is_that_of_each_piece() -> None:
    """Two halves are laid down elsewhere; the spot is found in its half, and the glass between has no place."""
    original = sheet()
    moves = around((40, 60), 7, (3, 5)), around((110, 60), -12, (-25, 10))
    pieces = PiecedSheet.of(original, ((0.0, 0.0, 0.55, 1.0), (0.6, 0.0, 1.0, 1.0)), moves, (190, 150))
    assert np.linalg.norm(pieces.to_frame(spot(pieces)) - original.to_frame(SPOT)) < 0.8
    assert set(np.unique(pieces.labels)) == {0, 1, 2}
    assert np.isnan(pieces.to_frame(np.array([[185.0, 145.0]]))).all()


def test_the_truth_of_a_stretched_section_is_exact_and_bends_it() -> None:
    original = sheet()
    middles, angles = np.array([[60.0, 45.0], [110.0, 70.0]]), np.array([0.4, 2.0])
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    stretched = StretchedSheet.of(original, middles, directions, np.array([-0.4, 0.4]), 20.0)
    assert np.linalg.norm(stretched.to_frame(spot(stretched)) - original.to_frame(SPOT)) < 0.8
    assert np.linalg.norm(spot(stretched) - SPOT) > 2
    assert np.allclose(stretched.from_frame(stretched.to_frame(SPOT)), SPOT, atol=1e-4)


def test_how_sections_are_kept_is_counted_over_registrable_cases() -> None:
    case = Case("c", "f", (sheet(), sheet()))
    first = replace(judge(case, result(case, shift(0))), kept=("rigid_only",))
    second, hopeless = replace(first, kept=("registered",)), replace(first, registrable=False)
    assert moved([first, first, hopeless], [second, first, hopeless]).split() == [
        "rigid_only", "->", "registered", "1", "rigid_only", "->", "rigid_only", "1",
    ]  # fmt: skip
