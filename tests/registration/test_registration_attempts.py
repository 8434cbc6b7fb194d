"""The attempts to place a section: their order, what ends them, and the search that needs no key points."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from stainda.config import RegistrationConfig
from stainda.registration import attempts, gates
from stainda.registration.affine import apply_affine
from stainda.registration.attempts import RegistrationAttempts, spread
from stainda.registration.outcomes import BlockNotes
from stainda.registration.search import SearchResult, TriedRotation
from stainda.registration.sections import SectionImage


def tissue(seed: int, size: int = 300) -> np.ndarray:
    """Textured tissue in a nearly round outline, white outside."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(size, size)), 5)
    y, x = (np.mgrid[:size, :size] - size / 2) / size
    grey = np.where(np.hypot(x, 1.05 * y) < 0.38, 165 + 40 * noise / noise.std(), 245)
    return np.repeat(np.clip(grey, 20, 250)[..., None], 3, axis=2).astype(np.uint8)


def section(name: str, pixels: np.ndarray, mpp: float | None = None) -> SectionImage:
    matrix = np.eye(3)
    matrix[:2, 2] = -0.5
    found = ndimage.binary_fill_holes(pixels.mean(axis=2) < 240)
    return SectionImage(name, pixels, found, matrix, (pixels.shape[1], pixels.shape[0]), mpp)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 217])
@pytest.mark.parametrize("mpp", [(None, None), (1.0, 0.5)])
def test_the_search_finds_any_turn_and_mirror(mirrored, degrees, mpp) -> None:
    pytest.importorskip("cv2")
    from stainda.registration.search import search

    pixels = tissue(1)
    other_stain = (255 - (255 - pixels.astype(float)) * (0.9, 0.5, 0.6)).astype(np.uint8)
    turn, scale = np.radians(degrees), 2.0 if mpp[0] else 1.0
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    if mirrored:
        linear = linear @ np.diag([-1.0, 1.0])
    side = round(300 * scale)
    there = np.eye(3)  # from the fixed section's pixels to the moving one's
    there[:2, :2] = linear
    there[:2, 2] = (side - 1) / 2 - linear @ np.array([149.5, 149.5])
    back = np.linalg.inv(there)
    y, x = np.mgrid[:side, :side]
    where = [back[i, 0] * x + back[i, 1] * y + back[i, 2] for i in (1, 0)]
    layers = [ndimage.map_coordinates(layer, where, order=1, cval=245) for layer in other_stain.transpose(2, 0, 1)]
    moving = section("m", np.stack(layers, axis=2), mpp[1])
    frame = section("f", pixels, mpp[0])
    found = search(moving, frame)
    assert found is not None and found.best.mirrored is mirrored and found.peak > 1.5 * gates.MIN_PEAK
    points = np.random.default_rng(0).uniform(90, 210, (200, 2))
    level_0 = apply_affine(np.linalg.inv(moving.matrix), apply_affine(there, points))
    put = apply_affine(found.best.matrix, apply_affine(found.best.image.matrix, level_0))
    assert np.median(np.linalg.norm(put - points, axis=1)) < 8, "near enough for VALIS to seek matches nearby"


def test_the_search_is_not_sure_of_other_tissue() -> None:
    pytest.importorskip("cv2")
    from stainda.registration.search import search

    found = search(section("m", tissue(2)), section("f", tissue(1)))
    assert found is None or found.peak < 1.5 * gates.MIN_PEAK


@pytest.mark.parametrize("other", [False, True])
def test_of_several_turns_a_deformation_bears_the_right_one_out(other) -> None:
    """The section is turned by 90 degrees and bent by 14 pixels; of other tissue no turn reaches the bar by much."""
    pytest.importorskip("cv2")
    from test_deformation import known_field, other_stain

    from stainda.registration.refinement import shifted
    from stainda.registration.search import search, search_stretched

    bent = [shifted(layer.astype(float), known_field(14.0, 300)) for layer in tissue(1).transpose(2, 0, 1)]
    moving = section("m", other_stain(np.rot90(tissue(2) if other else np.stack(bent, axis=2)).copy()), 1.0)
    frame = section("f", tissue(1), 1.0)
    found = search(moving, frame)
    assert found is not None and len(found.turns) == 144
    some = [turn for turn in found.turns if turn.degrees in (90, 180)] + list(found.turns[:4])
    best = search_stretched(some, frame)
    if other:
        assert best is None or best[1] < gates.MIN_SIGNIFICANCE_UNSEEN
    else:
        assert best is not None and best[1] > 2 * gates.MIN_PEAK_STRETCHED
        assert abs(best[0].degrees - 90) <= 5 and not best[0].mirrored


def test_spread_is_that_of_the_tissue_or_of_one_place() -> None:
    image = section("m", tissue(1))
    rows, columns = np.nonzero(image.tissue)
    everywhere = np.stack([columns, rows], axis=1)[::50].astype(float)
    assert spread(everywhere, image.tissue.shape, image) == pytest.approx(1, abs=0.02)
    assert spread(everywhere / 2, (150, 150), image) == pytest.approx(1, abs=0.02), "pixels of a smaller image"
    assert spread(everywhere / 10 + 100, image.tissue.shape, image) == pytest.approx(0.01, abs=0.001)
    assert spread(everywhere * (1, 0), image.tissue.shape, image) == pytest.approx(0, abs=1e-6)
    assert spread(np.zeros((2, 2)), image.tissue.shape, image) == 0


class Matches:
    """A prematch that knows of nothing."""

    def upside_down(self, reference: str) -> dict[str, tuple[int, int]]:
        return {}

    def way(self, slide: str, reference: str) -> tuple[np.ndarray, list[str], int]:
        return np.eye(3), [slide, "between", reference], gates.MIN_WAY


def attempted(
    monkeypatch, cached: bool, placed_after: str = "", stretched: float = 0.0
) -> tuple[list[str], BlockNotes]:
    """Names of the attempts made for section b of a block a, b, c of which c is placed from the start."""
    images = {name: section(name, tissue(1)) for name in "abc"}
    notes = BlockNotes()
    made: list[str] = []

    def attempt(self, images, config, name, in_place=False, searched=False):
        assert searched is ("turned by" in name)
        made.append(f"{name} [{config.detector}, {config.processing}{', in place' if in_place else ''}]")
        return iter(())

    monkeypatch.setattr(RegistrationAttempts, "_attempt", attempt)
    monkeypatch.setattr(attempts, "disk_lightglue_cached", lambda: cached)
    turned = SearchResult((TriedRotation(images["b"], True, np.eye(3), 90.0, 1.0),), 9.0)
    monkeypatch.setattr(attempts, "search", lambda image, frame: turned)
    bent = TriedRotation(images["b"], False, np.eye(3), 35.0, 0.5)
    monkeypatch.setattr(attempts, "search_stretched", lambda turns, frame: (bent, stretched) if not turns else None)

    def placed(slide: str) -> bool:
        return slide == "c" or any(name.startswith(placed_after) for name in made if placed_after)

    outcomes = SimpleNamespace(notes=notes, placed=placed, would_refuse=lambda proposal: False)
    registration = RegistrationAttempts(images, "a", RegistrationConfig(), Matches(), outcomes)
    assert list(registration.proposals()) == []
    return made, notes


def test_every_attempt_is_made_in_order_until_one_passes(monkeypatch) -> None:
    made, _ = attempted(monkeypatch, cached=True)
    assert made == [
        "all sections together [kaze_extended, optical_density]",
        "alone with the reference [kaze_extended, optical_density]",
        "laid on the reference first, by way of between [kaze_extended, optical_density, in place]",
        "alone, DISK and LightGlue [disk_lightglue, optical_density]",
        "alone, haematoxylin [kaze_extended, haematoxylin]",
        "laid on the reference first, turned by 90 degrees and mirrored [kaze_extended, optical_density, in place]",
    ]
    assert len(attempted(monkeypatch, cached=False)[0]) == 5
    bent, _ = attempted(monkeypatch, cached=True, stretched=gates.MIN_PEAK_STRETCHED)
    last = "laid on the reference first, turned by 35 degrees, as a deformation shows"
    assert bent[:-1] == made and bent[-1] == f"{last} [kaze_extended, optical_density, in place]"
    assert len(attempted(monkeypatch, True, "laid on the reference first, turned", 9.0)[0]) == 6, "tried no further"
    assert len(attempted(monkeypatch, cached=True, placed_after="alone with")[0]) == 2
    assert len(attempted(monkeypatch, cached=True, placed_after="all")[0]) == 1


def test_the_reference_is_chosen_by_neighbours_not_by_all_pairs(monkeypatch) -> None:
    from stainda.registration.prematch import NEIGHBOURS, Match, Prematch

    images = {f"s{index:02d}": section(f"s{index:02d}", tissue(1, 60)) for index in range(50)}
    asked: set[frozenset[str]] = set()

    def match(self: Prematch, first: str, second: str, mirrored: bool = False) -> Match:
        asked.add(frozenset((first, second)))
        return Match(100 if "s30" in (first, second) else 40, None)

    monkeypatch.setattr(Prematch, "match", match)
    assert Prematch(images, 64).best_connected() == "s30"
    assert len(asked) <= 50 * NEIGHBOURS
    assert Prematch(dict(list(images.items())[:5]), 64).best_connected() == "s02", "of equals the middle one"
