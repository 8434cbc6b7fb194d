"""stainda's own deformation: known fields are found across stains, nothing folds, and doubt stays local."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from test_registration_attempts import section

from stainda.registration import gates
from stainda.registration.affine import apply_affine
from stainda.registration.assessment import assess_proposal
from stainda.registration.damping import Damped, Disagreement, damped, damped_mean, share_kept
from stainda.registration.deformation import LEVELS, SOFT, STIFF, exponential, velocity
from stainda.registration.fields import jacobian
from stainda.registration.held_back import Gain, HeldBack
from stainda.registration.proposals import Proposal
from stainda.registration.refinement import (
    OwnDeformation,
    SectionOnView,
    as_transform,
    refine,
    robust_affine,
    shifted,
    unseen_agreement,
)
from stainda.registration.results import REFUSED, REGISTERED
from stainda.registration.sections import SectionImage
from stainda.registration.similarity import Brought, FrameView, agreement, compared_area, optical_density
from stainda.registration.transforms import Between, Transform

SIDE = 256


def tissue(seed: int, side: int = SIDE) -> np.ndarray:
    """RGB tissue with lumens, nuclei and a coarse texture, in a nearly round outline on white glass."""
    rng = np.random.default_rng(seed)
    coarse, fine = (ndimage.gaussian_filter(rng.normal(size=(side, side)), s) for s in (7, 2.5))
    y, x = (np.mgrid[:side, :side] - side / 2) / side
    inside = np.hypot(x, 1.1 * y) + 0.02 * np.sin(5 * np.arctan2(y, x)) < 0.42
    density = 0.3 + 0.08 * coarse / coarse.std() + 0.05 * fine / fine.std()
    density[coarse > 1.4 * coarse.std()] = 0.03
    colours = np.array([0.7, 1.0, 0.6])
    return np.clip(255 * 10 ** -(np.where(inside, density, 0.02)[..., None] * colours), 0, 255).astype(np.uint8)


def other_stain(pixels: np.ndarray) -> np.ndarray:
    """Another colour, another contrast, and sensor noise of its own."""
    density = optical_density(pixels) ** 1.5
    noisy = density + np.random.default_rng(8).normal(0, 0.01, density.shape)
    return np.clip(255 * 10 ** -(noisy[..., None] * (0.5, 0.9, 1.6)), 0, 255).astype(np.uint8)


def known_field(amount: float, side: int = SIDE) -> np.ndarray:
    rng = np.random.default_rng(3)
    field = np.stack([ndimage.gaussian_filter(rng.normal(size=(side, side)), 0.13 * side) for _ in range(2)])
    return field * amount / np.hypot(*field).mean()


def pair(amount: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Density of the fixed and of the moving section, the tissue of the fixed one, and the displacement between."""
    moving, field = tissue(1), known_field(amount)
    fixed = np.stack([shifted(layer.astype(float), field) for layer in moving.transpose(2, 0, 1)], axis=2)
    density = optical_density(fixed)
    return density, optical_density(other_stain(moving)), ndimage.gaussian_filter(density, 3) > 0.08, field


def test_a_known_field_is_found_across_stains() -> None:
    """A field of 6 pixels (2.3 % of the picture) to a median of less than 1 pixel, 90 % to less than 2.5."""
    fixed, moving, where, truth = pair(6.0)
    found = exponential(velocity(fixed, moving, where, np.ones_like(where)))
    inner = ndimage.binary_erosion(where, iterations=5)
    before, after = np.hypot(*truth)[inner], np.hypot(*(found - truth))[inner]
    assert np.median(before) > 3
    assert np.median(after) < 1.0 and np.percentile(after, 90) < 2.5


def test_there_and_back_is_the_same_place_and_nothing_folds() -> None:
    fixed, moving, where, _ = pair(6.0)
    field = velocity(fixed, moving, where, np.ones_like(where))
    forth, back = exponential(field), exponential(-field)
    both = back + np.stack([shifted(layer, back) for layer in forth])
    inner = ndimage.binary_erosion(np.ones_like(where), iterations=12)
    assert np.hypot(*both)[inner].max() < 0.3
    assert jacobian(forth).min() > 0.1 and jacobian(back).min() > 0.1


@pytest.mark.parametrize("stiffness", [SOFT, STIFF])
def test_nothing_folds_even_between_pictures_that_have_nothing_in_common(stiffness) -> None:
    rng = np.random.default_rng(0)
    fixed, moving = (ndimage.gaussian_filter(rng.normal(size=(96, 160)), 1.5) for _ in range(2))
    everywhere = np.ones(fixed.shape, bool)
    field = velocity(fixed, moving, everywhere, everywhere, stiffness=stiffness)
    assert jacobian(exponential(field)).min() > 0 and jacobian(exponential(-field)).min() > 0


def test_the_same_twice_and_no_deformation_of_a_section_onto_itself() -> None:
    fixed, moving, where, _ = pair(6.0)
    first, second = (velocity(fixed, moving, where, where, levels=LEVELS[:2]) for _ in range(2))
    assert np.array_equal(first, second)
    assert np.abs(velocity(fixed, fixed, where, np.ones_like(where))).max() < 0.5


def test_what_is_not_compared_follows_what_is() -> None:
    """Half of the picture may give no evidence: whatever lies there changes nothing."""
    fixed, moving, where, _ = pair(6.0)
    left = np.zeros_like(where)
    left[:, : SIDE // 2 - 40] = True
    other = fixed.copy()
    other[:, SIDE // 2 + 40 :] = np.random.default_rng(1).uniform(0, 0.5, other[:, SIDE // 2 + 40 :].shape)
    levels = LEVELS[1:]  # in the coarsest one the gradient filter reaches from one half to the other
    first, second = (velocity(one, moving, where & left, where, levels=levels) for one in (fixed, other))
    assert np.abs(first - second)[:, :, : SIDE // 2 - 40].max() < 0.1


# --- damping ------------------------------------------------------------------------------------------------------


def view_of(pixels: np.ndarray) -> tuple[FrameView, SectionImage]:
    image = section("f", pixels)
    return FrameView.of(image), image


def brought(pixels: np.ndarray) -> Brought:
    density = optical_density(pixels)
    return Brought(density, ndimage.gaussian_filter(density, 3) > 0.08, np.ones(density.shape, bool))


def test_the_share_kept_falls_smoothly_to_nothing() -> None:
    doubt = np.zeros((200, 200), bool)
    doubt[90:110, 90:110] = True
    kept = share_kept(doubt)
    assert kept[doubt].max() < 1e-6 and kept[:30].min() > 0.999 and kept[:, 170:].min() > 0.999
    assert np.abs(np.diff(kept, axis=0)).max() <= 0.051
    assert (share_kept(np.zeros_like(doubt)) == 1).all()


def test_a_fold_is_damped_where_it_is_and_the_rest_is_kept() -> None:
    """A right deformation that turns one place over, too widely to be smoothed away."""
    moving, truth = tissue(1), known_field(4.0)
    fixed = np.stack([shifted(layer.astype(float), truth) for layer in moving.transpose(2, 0, 1)], axis=2)
    view, _ = view_of(fixed.astype(np.uint8))
    y, x = np.mgrid[:SIDE, :SIDE]
    fold = -1.5 * (x - 150) * np.exp(-((x - 150) ** 2 + (y - 128) ** 2) / (2 * 15**2))
    broken = truth + np.stack([fold, np.zeros_like(fold)])
    assert jacobian(broken).min() < 0
    calm = damped(view, brought(moving), broken)
    assert calm is not None
    assert jacobian(calm.displacement).min() >= gates.LOCAL_AREA_CHANGE[0]
    assert calm.unsure[128, 150] > 0.95 and np.abs(calm.displacement[:, 128, 150]).max() < 0.2
    far = np.hypot(x - 150, y - 128) > 95
    assert calm.unsure[far & view.tissue].max() < 0.05
    assert np.abs((calm.displacement - broken)[:, far]).max() < 0.2


def test_two_deformations_are_averaged_and_their_dissent_is_doubt() -> None:
    pixels = tissue(1)
    view, _ = view_of(pixels)
    here = brought(pixels)
    first, second = (np.zeros((2, SIDE, SIDE)) for _ in range(2))
    first[0], second[0] = 0.4, -0.2
    calm = damped_mean(view, here, Disagreement.of(view, here, first, second))
    assert calm is not None and calm.displacement[0] == pytest.approx(0.1, abs=0.01)
    inner = ndimage.binary_erosion(view.tissue, iterations=20)
    assert calm.unsure[inner].max() < 0.05
    y, x = np.mgrid[:SIDE, :SIDE]
    bump = np.exp(-((x - 100) ** 2 + (y - 128) ** 2) / (2 * 25**2))
    apart = gates.MAX_DISSENT * SIDE * 2
    monotone = np.full((SIDE, SIDE, 3), 200, np.uint8)  # nothing that could tell which is right
    view, _ = view_of(monotone)
    shift = np.stack([bump, bump]) * apart
    calm = damped_mean(view, brought(monotone), Disagreement.of(view, brought(monotone), shift, -shift))
    assert calm is not None and calm.unsure[128, 100] == pytest.approx(1) and calm.unsure[20, 230] < 0.05


def test_deformations_that_differ_beyond_the_tissue_raise_no_doubt_in_it() -> None:
    """Without tissue both are continued as they happen to be."""
    pixels = tissue(1)
    view, _ = view_of(pixels)
    y, x = np.mgrid[:SIDE, :SIDE]
    corner = np.exp(-((x - 240) ** 2 + (y - 240) ** 2) / (2 * 25**2)) * gates.MAX_DISSENT * SIDE * 2
    here, shift = brought(pixels), np.stack([corner, corner])
    calm = damped_mean(view, here, Disagreement.of(view, here, shift, np.zeros_like(shift)))
    assert calm is not None and calm.unsure[view.tissue].max() < 0.05


def test_held_back_parts_tell_the_right_one_of_two_deformations() -> None:
    moving, truth = tissue(1), known_field(5.0)
    fixed = np.stack([shifted(layer.astype(float), truth) for layer in moving.transpose(2, 0, 1)], axis=2)
    view, _ = view_of(fixed.astype(np.uint8))
    place = SectionOnView(view, brought(other_stain(moving)), view.tissue, HeldBack.of(view.density.shape))
    part = np.zeros((SIDE, SIDE), bool)
    part[80:180, 60:160] = True
    wrong = truth + np.array([5.0, -5.0])[:, None, None] * ndimage.gaussian_filter(part.astype(float), 12)
    own = OwnDeformation.fit(place)
    assert own.choice(place, wrong, part) == "own"
    assert replace(own, displacement=wrong).choice(place, truth, part) == "VALIS"
    assert own.choice(place, own.displacement, part) is None
    assert own.choice(place, wrong, np.zeros_like(part)) is None


@pytest.mark.parametrize("direction", [1, -1])
def test_a_wrong_deformation_takes_none_of_a_right_one_with_it(direction: int) -> None:
    """VALIS's field is off by 11 pixels at one place: stainda's own is kept there, and around it."""
    moving, truth = tissue(1), known_field(8.0)
    fixed = np.stack([shifted(layer.astype(float), truth) for layer in moving.transpose(2, 0, 1)], axis=2)
    view, frame = view_of(fixed.astype(np.uint8))
    image = section("m", other_stain(moving))
    rigid = Transform.affine("m", image.size, "f", frame.size, np.eye(3))
    y, x = np.mgrid[:SIDE, :SIDE]
    bump = direction * np.exp(-((x - 150) ** 2 + (y - 128) ** 2) / (2 * 30**2))
    valis = as_transform(view, rigid, Damped(truth + np.stack([9 * bump, 6 * bump]), np.zeros((SIDE, SIDE))))
    refined = dict(refine(view, image, rigid, valis).bent)
    points = np.random.default_rng(0).uniform(70, 186, (400, 2)) + 0.5
    there = points + np.stack([ndimage.map_coordinates(part, (points - 0.5).T[::-1], order=1) for part in truth], 1)
    errors = {name: np.linalg.norm(way.to_frame(there) - points, axis=1) for name, way in refined.items()}
    assert np.percentile(errors["own and VALIS"], 90) < 1 < 2 < np.percentile(errors["VALIS"], 90)
    assert refined["own and VALIS"].doubt(points).max() < 0.05


def test_tissue_that_the_other_section_lacks_is_unsure() -> None:
    pixels = tissue(1)
    torn = pixels.copy()
    torn[100:150, 110:250] = 245  # open to the outside, as a tear is: no lumen
    view, _ = view_of(pixels)
    calm = damped(view, brought(torn), np.zeros((2, SIDE, SIDE)))
    assert calm is not None and calm.unsure[125, 150] > 0.9 and calm.unsure[125, 60] < 0.05


# --- affine by evidence -------------------------------------------------------------------------------------------


def test_held_back_squares_are_a_quarter_and_apart() -> None:
    held = HeldBack.of((300, 420))
    assert held.seen.mean() == pytest.approx(0.75, abs=0.04)
    means = held.means(np.full((300, 420), 0.3), np.ones((300, 420), bool))
    assert np.nanmin(means) == pytest.approx(0.3) and np.isfinite(means).sum() > 20
    assert not Gain.of(np.zeros(5), np.ones(5)).supported, "five squares are too few"
    gains = np.array([0.1, 0.12, 0.08, 0.11, 0.09, 0.1])
    assert Gain.of(np.zeros(6), gains).supported and Gain.of(gains, np.zeros(6)).contradicted


def test_a_robust_affine_fit_is_not_pulled_by_a_part_that_moved_by_itself() -> None:
    source = np.random.default_rng(0).uniform(0, 300, (400, 2))
    matrix = np.array([[1.03, 0.01, 4], [-0.02, 0.97, -2], [0, 0, 1]])
    target = apply_affine(matrix, source)
    target[source[:, 0] < 60] += 30
    assert np.abs(robust_affine(source, target) - matrix).max() < 0.01


def placed(matrix: np.ndarray) -> tuple[FrameView, SectionImage, Transform]:
    """A section that lies under ``matrix`` (frame to section), taken for lying as it is."""
    fixed = tissue(1)
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    inverse = np.linalg.inv(matrix)
    where = [inverse[i, 0] * x + inverse[i, 1] * y + inverse[i, 2] for i in (1, 0)]
    layers = [ndimage.map_coordinates(layer, where, order=1, cval=245) for layer in fixed.transpose(2, 0, 1)]
    moving = section("m", other_stain(np.stack(layers, axis=2)))
    view, _ = view_of(fixed)
    return view, moving, Transform.affine("m", moving.size, "f", (SIDE, SIDE), np.eye(3))


def test_affine_is_taken_where_held_back_parts_support_it() -> None:
    middle = SIDE / 2
    matrix = np.array([[1.06, 0.0, -0.06 * middle], [0.0, 0.97, 0.03 * middle], [0, 0, 1]])
    view, moving, rigid = placed(matrix)
    found = refine(view, moving, rigid, None, nonrigid=False)
    assert found.affine and "held-back" in found.reason
    points = np.random.default_rng(0).uniform(50, 206, (200, 2))
    error = np.linalg.norm(found.base.to_frame(apply_affine(matrix, points)) - points, axis=1)
    assert np.linalg.norm(apply_affine(matrix, points) - points, axis=1).max() > 3 and np.median(error) < 0.6
    assert refine(view, moving, rigid, None, "valis", nonrigid=False).base is rigid


def test_a_section_that_lies_right_stays_where_it_is() -> None:
    view, moving, rigid = placed(np.eye(3))
    found = refine(view, moving, rigid, None, nonrigid=False)
    assert not found.affine and found.base is rigid and "not supported" in found.reason


def test_a_stretch_no_knife_makes_is_refused_with_its_reason() -> None:
    assert "in one direction" in str(gates.refuse_affine(np.diag([1.1, 0.95, 1])))
    assert "scale" in str(gates.refuse_affine(np.diag([1.2, 1.2, 1])))
    assert gates.refuse_affine(np.diag([1.04, 0.97, 1])) is None


def test_own_deformation_is_proposed_where_a_section_is_bent_and_not_where_it_is_not() -> None:
    fixed, field = tissue(1), known_field(5.0)
    bent = np.stack([shifted(layer.astype(float), field) for layer in fixed.transpose(2, 0, 1)], axis=2)
    view, frame = view_of(bent.astype(np.uint8))
    moving = section("m", other_stain(fixed))
    rigid = Transform.affine("m", moving.size, "f", frame.size, np.eye(3))
    found = refine(view, moving, rigid, None, "own")
    assert [name for name, _ in found.bent] == ["own"]
    transform = found.bent[0][1]
    assert transform.unsure is not None and transform.unsure.mean() < 0.3
    points = np.random.default_rng(0).uniform(70, 186, (300, 2)) + 0.5
    there = points + np.stack([ndimage.map_coordinates(part, (points - 0.5).T[::-1], order=1) for part in field], 1)
    error = np.linalg.norm(transform.to_frame(there) - points, axis=1)
    assert np.median(error) < 1.0 and np.median(np.linalg.norm(there - points, axis=1)) > 2.5
    assert np.abs(transform.round_trip(points)).max() < 0.05
    assert refine(*placed(np.eye(3)), None, "own").bent == ()


def stretched(amount: float, other: bool = False) -> tuple[FrameView, SectionImage, Transform]:
    """A section bent by ``amount`` pixels (or another section altogether), taken for lying as it is."""
    fixed, field = tissue(1), known_field(amount)
    bent = np.stack([shifted(layer.astype(float), field) for layer in fixed.transpose(2, 0, 1)], axis=2)
    view, frame = view_of(bent.astype(np.uint8))
    moving = section("m", other_stain(tissue(2) if other else fixed))
    return view, moving, Transform.affine("m", moving.size, "f", frame.size, np.eye(3))


def test_stretched_tissue_coincides_where_the_deformation_has_not_seen_it() -> None:
    """Bent by 16 pixels (6 % of the picture) a section is not enough like itself to prove where it lies; parts that a
    deformation was not fitted to tell it from another one."""
    view, moving, rigid = stretched(16.0)
    before = view.bring(moving, rigid)
    rigidly = agreement(view.structures, before.structures, compared_area(view, before))
    assert rigidly.significance < gates.MIN_SIGNIFICANCE
    unseen = unseen_agreement(SectionOnView.of(view, moving, rigid))
    assert gates.refuse_unseen(unseen.significance, unseen.local) is None, unseen
    foreign = unseen_agreement(SectionOnView.of(*stretched(16.0, other=True)))
    assert gates.refuse_unseen(foreign.significance, foreign.local) is not None and foreign.significance < 7, foreign


def test_a_place_that_was_searched_for_is_proven_where_the_deformation_has_not_seen_it(monkeypatch) -> None:
    """Its rigid agreement is less than what a search over all rotations finds by chance."""
    view, moving, rigid = stretched(12.0)
    before = view.bring(moving, rigid)
    rigidly = agreement(view.structures, before.structures, compared_area(view, before)).significance
    assert gates.MIN_SIGNIFICANCE < rigidly < gates.MIN_SIGNIFICANCE_SEARCHED
    searched = Proposal(moving, rigid, None, 20, "searched", independent=False, searched=True)
    frame = section("f", tissue(1))
    assessed = assess_proposal(view, frame, searched, 512, deformations="own")
    assert assessed.status == REGISTERED and assessed.measures["significance_unseen"] > gates.MIN_SIGNIFICANCE_UNSEEN
    points = np.random.default_rng(0).uniform(70, 186, (300, 2)) + 0.5
    field = known_field(12.0)
    there = points + np.stack([ndimage.map_coordinates(part, (points - 0.5).T[::-1], order=1) for part in field], 1)
    assert assessed.transform is not None
    assert np.median(np.linalg.norm(assessed.transform.to_frame(there) - points, axis=1)) < 1.0
    rigid_only = assess_proposal(view, frame, searched, 512, deformations="own", nonrigid=False)
    assert rigid_only.status == REFUSED and "at least 12" in rigid_only.reason
    monkeypatch.setattr(gates, "MAX_UNSURE_UNPROVEN", assessed.measures["unsure"] - 0.01)
    doubtful = assess_proposal(view, frame, searched, 512, deformations="own")
    assert doubtful.status == REFUSED and "after a deformation alone" in doubtful.reason, "once 56 µm off in silence"


# --- unsure places of a transform ---------------------------------------------------------------------------------


def bent_transform(unsure: np.ndarray | None) -> Transform:
    zero = np.zeros((2, 20, 30), np.float32)
    grid = np.diag([10.0, 10.0, 1.0])
    return Transform("m", "f", (300, 200), (300, 200), np.linalg.inv(grid), grid, zero, zero, {}, unsure)


def test_unsure_places_are_stored_and_older_transforms_have_none(tmp_path) -> None:
    unsure = np.zeros((20, 30), np.float32)
    unsure[:, 15:] = 1
    bent_transform(unsure).save(tmp_path / "new")
    read = Transform.load(tmp_path / "new")
    places = np.array([[50.0, 100.0], [250.0, 100.0], [900.0, 100.0]])
    assert read.doubt(places) == pytest.approx([0, 1, 1])
    assert Between(read, Transform.identity("f", (300, 200))).doubt(places) == pytest.approx([0, 1, 1])
    assert read.rigid.doubt(places) == pytest.approx([0, 0, 0])
    bent_transform(None).save(tmp_path / "old")
    with np.load(tmp_path / "old.npz", allow_pickle=False) as stored:
        assert set(stored.files) == {"pre", "post", "forward", "backward"}, "as earlier versions wrote it"
    assert Transform.load(tmp_path / "old").doubt(places) == pytest.approx([0, 0, 0])
    with pytest.raises(ValueError, match="lattice"):
        replace(bent_transform(None), unsure=np.zeros((3, 3)))
