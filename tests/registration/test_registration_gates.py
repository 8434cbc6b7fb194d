"""The gates let a right placement pass and give the reason for every wrong one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from stainda.registration import Transform, gates
from stainda.registration.sections import SectionImage
from stainda.registration.similarity import FrameView, agreement, compared_area, tissue_overlap

GOOD = gates.Placement(100, 1.0, 1.0, 12.0, 0.0, False, 0.9, 9.0)
SMOOTH = gates.Deformation(0.0, 0.8, 1.2, 0.01, 0.1, 0.2)


def test_a_good_placement_passes() -> None:
    assert gates.refuse_placement(GOOD) is None and gates.refuse_structures(GOOD) is None
    assert gates.refuse_placement(replace(GOOD, rotation_degrees=180.0)) is None
    assert gates.refuse_deformation(SMOOTH) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_matches": 5}, "too few matches"),
        ({"scale": 1.6}, "implausible scale"),
        ({"scale": 4.0, "expected_scale": None}, "implausible scale"),
        ({"shear": 0.5}, "shear"),
        ({"turned": True}, "turns the section over"),
        ({"tissue_overlap": 0.1}, "hardly overlap"),
        ({"spread": 0.02}, "all matches lie in one place"),
        ({"canvas": 40.0}, "far apart"),
    ],
)
def test_each_fault_of_a_placement_is_named(change, words) -> None:
    assert words in str(gates.refuse_placement(replace(GOOD, **change)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"significance": 2.0}, "do not coincide"),
        ({"n_matches": 12, "significance": 4.5}, "do not coincide"),
        ({"local": 0.15}, "only 15% of the section is in place"),
    ],
)
def test_structures_that_do_not_bear_a_placement_out_are_named(change, words) -> None:
    assert words in str(gates.refuse_structures(replace(GOOD, **change)))


def test_stretched_tissue_must_coincide_where_a_deformation_has_not_seen_it() -> None:
    assert gates.refuse_unseen(15.0, 0.5) is None
    assert "not seen: 7.0 (at least 10)" in str(gates.refuse_unseen(7.0, 0.5))
    assert "20% of the parts" in str(gates.refuse_unseen(15.0, 0.2))


def test_a_deformation_that_alone_proves_a_placement_may_be_in_doubt_on_little_of_the_tissue() -> None:
    assert gates.refuse_doubtful(0.06) is None
    assert "in doubt on 50% of the tissue (at most 20%)" in str(gates.refuse_doubtful(0.498))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scale": 1.6, "mpp": (0.25, 0.5)}, "section 0.25, reference 0.5 µm per pixel. One of them is probably wrong"),
        ({"scale": 4.24, "expected_scale": None, "mpp": (None, 0.5)}, "4.24 times that of equal magnification"),
        ({"scale": 4.24, "expected_scale": None, "mpp": (None, 0.5)}, "The pixel size of the section is not known"),
        ({"scale": 4.24, "expected_scale": None, "mpp": (0.5, None)}, "The pixel size of the reference is not known"),
        ({"scale": 4.24, "expected_scale": None}, "The pixel size of both sections is not known"),
    ],
)
def test_an_implausible_scale_names_the_pixel_size_and_its_column(change, words) -> None:
    reason = str(gates.refuse_placement(replace(GOOD, **change)))
    assert words in reason and reason.endswith("the manifest's column mpp")


def test_a_section_laid_by_ourselves_must_prove_itself_by_its_structures() -> None:
    assert gates.refuse_unproven(independent=True, significance=4.5) is None
    assert "laid on the reference first" in str(gates.refuse_unproven(independent=False, significance=4.5))
    assert gates.refuse_unproven(independent=False, significance=6.5) is None
    assert "at least 12" in str(gates.refuse_unproven(independent=False, significance=6.5, searched=True))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"folded_share": 0.01}, "folds"),
        ({"area_change_p99": 4.0}, "changes areas"),
        ({"round_trip_p99": 2.0}, "not invertible"),
        ({"round_trip_p99": float("nan")}, "not invertible"),
        ({"agreement_nonrigid": 0.09}, "does not raise"),
    ],
)
def test_each_fault_of_a_deformation_is_named(change, words) -> None:
    assert words in str(gates.refuse_deformation(replace(SMOOTH, **change)))


def test_five_bad_matches_never_turn_a_section_over() -> None:
    assert gates.turned_over(6, 68)
    assert not gates.turned_over(70, 200)
    assert not gates.turned_over(2, 6)


@pytest.mark.parametrize("mirrored", [False, True])
def test_decompose_finds_what_was_composed(mirrored) -> None:
    turn = np.radians(30)
    matrix = np.eye(3)
    matrix[:2, :2] = 1.5 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    if mirrored:
        matrix = matrix @ np.diag([-1.0, 1, 1])
    scale, rotation, shear, mirrors = gates.decompose(matrix)
    assert scale == pytest.approx(1.5) and rotation == pytest.approx(30) and shear == pytest.approx(0, abs=1e-9)
    assert mirrors is mirrored
    assert gates.decompose(np.diag([2.0, 1.0, 1.0]))[2] == pytest.approx(np.log(2))


def tissue(seed: int, shape: tuple[int, int] = (360, 480)) -> np.ndarray:
    """Something like tissue: textured inside an ellipse, white outside."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 4)
    y, x = np.mgrid[: shape[0], : shape[1]]
    inside = ((y - shape[0] / 2) / (0.42 * shape[0])) ** 2 + ((x - shape[1] / 2) / (0.42 * shape[1])) ** 2 < 1
    grey = np.where(inside, 170 + 40 * noise / noise.std(), 245)
    return np.repeat(np.clip(grey, 20, 255)[..., None], 3, axis=2).astype(np.uint8)


def section(name: str, pixels: np.ndarray) -> SectionImage:
    height, width = pixels.shape[:2]
    matrix = np.eye(3)
    matrix[:2, 2] = -0.5
    return SectionImage(name, pixels, pixels.mean(axis=2) < 235, matrix, (width, height), None)


def significance(view: FrameView, image: SectionImage, transform: Transform) -> float:
    brought = view.bring(image, transform)
    return agreement(view.structures, brought.structures, compared_area(view, brought)).significance


def local(view: FrameView, image: SectionImage, transform: Transform) -> float:
    brought = view.bring(image, transform)
    return agreement(view.structures, brought.structures, compared_area(view, brought)).local


def test_a_section_half_of_which_is_elsewhere_is_in_place_by_half() -> None:
    pixels = tissue(1)
    torn = pixels.copy()
    torn[:, 240:] = np.roll(pixels, 45, axis=0)[:, 240:]
    view = FrameView.of(section("ref", pixels))
    found = local(view, section("m", torn), Transform.identity("m", (480, 360), "ref"))
    assert 0.35 < found < 0.7


def test_only_the_right_place_stands_above_chance() -> None:
    reference = section("ref", tissue(1))
    other_stain = (255 - (255 - tissue(1).astype(float)) * (0.4, 0.8, 0.6)).astype(np.uint8)
    noisy = np.clip(other_stain + np.random.default_rng(5).normal(0, 6, other_stain.shape), 0, 255).astype(np.uint8)
    moving, unrelated = section("m", noisy), section("u", tissue(2))
    view = FrameView.of(reference)
    size = reference.size
    same = Transform.identity("m", size, "ref")
    assert local(view, moving, same) > 0.95 > 2 * gates.MIN_LOCAL > local(view, unrelated, same)
    assert significance(view, moving, same) > 2 * gates.MIN_SIGNIFICANCE
    assert tissue_overlap(view, view.bring(moving, same)) > 0.95
    wrong = {
        "mirrored": np.array([[-1.0, 0, size[0]], [0, 1, 0], [0, 0, 1]]),
        "turned": np.array([[-1.0, 0, size[0]], [0, -1, size[1]], [0, 0, 1]]),
        "shifted": np.array([[1.0, 0, 40], [0, 1, 25], [0, 0, 1]]),
    }
    for matrix in wrong.values():
        assert significance(view, moving, Transform.affine("m", size, "ref", size, matrix)) < gates.MIN_SIGNIFICANCE
    assert significance(view, unrelated, Transform.identity("u", size, "ref")) < gates.MIN_SIGNIFICANCE


def test_blank_glass_is_refused_and_tissue_is_not() -> None:
    glass = np.clip(np.random.default_rng(0).normal(245, 3, (200, 200, 3)), 0, 255).astype(np.uint8)
    assert "blank" in str(gates.refuse_blank(np.ones((200, 200), bool), glass))
    assert "no tissue" in str(gates.refuse_blank(np.zeros((360, 480), bool), tissue(1)))
    assert gates.refuse_blank(tissue(1).mean(axis=2) < 235, tissue(1)) is None


def test_a_deformation_that_is_in_doubt_nearly_everywhere_is_not_kept() -> None:
    good = gates.Deformation(0.0, 0.9, 1.1, 0.1, 0.2, 0.3, unsure=0.2)
    assert gates.refuse_deformation(good) is None
    assert "in doubt on 80%" in str(gates.refuse_deformation(replace(good, unsure=0.8)))
