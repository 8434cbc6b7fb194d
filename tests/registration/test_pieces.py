"""Pieces of tissue that moved independently: found, paired, placed one by one, with honest gaps between them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import shapely
from PIL import Image
from test_deformation import other_stain, tissue
from test_propagation_doubts import PLAIN
from test_registration_attempts import section
from typer.testing import CliRunner

from stainda.annotations import make_shapes, read_landmarks, read_shapes, write_geojson, write_landmarks
from stainda.cohort import Cohort
from stainda.cohort.types import Section
from stainda.config import RegistrationConfig
from stainda.errors import RegistrationError
from stainda.files import write_json
from stainda.registration import Transform, gates, propagate
from stainda.registration.affine import apply_affine
from stainda.registration.assessment import Assessment
from stainda.registration.exchange.itk_field import write_field
from stainda.registration.outcomes import Outcomes
from stainda.registration.piece_detection import find_pieces, piece_images, with_margin
from stainda.registration.pieces import PieceMap, Pieces
from stainda.registration.piecewise import PairedPiece, out_of_place, pair_pieces, register_pieces
from stainda.registration.proposals import Proposal
from stainda.registration.results import BLOCK_FORMAT, REFUSED, REGISTERED, RIGID_ONLY
from stainda.registration.sections import SectionImage
from stainda.registration.similarity import FrameView
from stainda.registration.transforms import Between
from stainda.slides import open_slide

SIDE = 192  # of a piece
GLASS = 243
PLACES = ((40, 30), (300, 60), (560, 20))  # corners (x, y) of the pieces of the reference
MOVED = ((330, 90), (30, 40), (590, 50))  # of the same in the section: the first two have changed places
SIZE = (790, 290)


def laid(pixels: list[np.ndarray], corners: tuple[tuple[int, int], ...]) -> np.ndarray:
    glass = np.full((SIZE[1], SIZE[0], 3), GLASS, np.uint8)
    for piece, (x, y) in zip(pixels, corners, strict=False):
        glass[y : y + SIDE, x : x + SIDE] = piece
    return glass


def pair(lost: int | None = None) -> tuple[SectionImage, SectionImage]:
    """The section and the reference; piece ``lost`` (from 0) is not on the section."""
    pieces = [tissue(seed, SIDE) for seed in (1, 2, 3)]
    moved = [np.full_like(piece, GLASS) if k == lost else other_stain(piece) for k, piece in enumerate(pieces)]
    return section("moving", laid(moved, MOVED)), section("fixed", laid(pieces, PLACES))


def shift(dx: float, dy: float) -> np.ndarray:
    return np.array([[1.0, 0, dx], [0, 1, dy], [0, 0, 1]])


def step(number: int) -> np.ndarray:
    """From the section to the reference, of piece ``number`` (from 0)."""
    return np.subtract(PLACES[number], MOVED[number]).astype(float)


def known(lost: int | None = None) -> Transform:
    """The true transform, with pieces."""
    moving, fixed = pair(lost)
    kept = [k for k in range(3) if k != lost]
    labels = [np.zeros(image.tissue.shape, np.uint8) for image in (moving, fixed)]
    for number, k in enumerate(kept, 1):
        for label, (x, y) in zip(labels, (MOVED[k], PLACES[k]), strict=True):
            label[y - 10 : y + SIDE + 10, x - 10 : x + SIDE + 10] = number
    if lost is not None:
        x, y = PLACES[lost]
        labels[1][y : y + SIDE, x : x + SIDE] = 3
    transforms = tuple(Transform.affine("moving", SIZE, "fixed", SIZE, shift(*step(k))) for k in kept)
    pieces = Pieces(PieceMap(labels[0], moving.matrix), PieceMap(labels[1], fixed.matrix), transforms)
    return Transform("moving", "fixed", SIZE, SIZE, transforms[0].pre, transforms[0].post, pieces=pieces)


def test_pieces_are_found_from_left_to_right_and_crumbs_are_none() -> None:
    moving, fixed = pair()
    fixed.tissue[5:10, 262:267] = True  # a crumb between two pieces
    numbers = find_pieces(fixed)
    assert int(numbers.max()) == 3
    for k, (x, y) in enumerate(PLACES, 1):
        assert numbers[y + SIDE // 2, x + SIDE // 2] == k
    around = with_margin(numbers)
    assert around[PLACES[0][1] + SIDE // 2, PLACES[0][0] + 5] == 1 and around[-1, 265] == 0
    images = list(piece_images(moving, find_pieces(moving)))
    assert len(images) == 3
    first = images[0]  # of the section, that is the reference's second
    inside = np.array([[MOVED[1][0] + 96.5, MOVED[1][1] + 96.5]])
    column, row = np.round(apply_affine(first.matrix, inside)[0]).astype(int)
    assert (first.pixels[row, column] == moving.pixels[MOVED[1][1] + 96, MOVED[1][0] + 96]).all()
    assert not find_pieces(section("blank", np.full((50, 60, 3), 255, np.uint8))).any()


def test_pieces_are_paired_by_what_they_show() -> None:
    pytest.importorskip("cv2")
    moving, fixed = pair()
    images = [list(piece_images(image, find_pieces(image))) for image in (moving, fixed)]
    found = pair_pieces(*images, 256)
    assert [(one.moving, one.fixed) for one in found] == [(2, 1), (1, 2), (3, 3)]
    for one in found:
        if one.matrix is not None:
            place = np.array(PLACES[one.fixed - 1]) + 96.0
            assert np.abs(apply_affine(one.matrix, (place - step(one.fixed - 1))[None]) - place).max() < 3


def registered(mine: SectionImage, theirs: SectionImage, config: RegistrationConfig, notes):
    """Stands in for VALIS: the true shift of the piece whose middle the image shows."""
    rows, columns = np.nonzero(mine.tissue)
    middle = apply_affine(np.linalg.inv(mine.matrix), np.array([[columns.mean(), rows.mean()]]))[0]
    k = int(np.argmin([np.linalg.norm(middle - np.array(corner) - SIDE / 2) for corner in MOVED]))
    placed = Transform.affine("moving", SIZE, "fixed", SIZE, shift(*step(k)))
    yield Proposal(mine, placed, None, 30, "test"), Assessment(RIGID_ONLY, "", placed, {"model": "rigid"})


def outcomes_of(moving: SectionImage, fixed: SectionImage, matrix: np.ndarray | None) -> Outcomes:
    outcomes = Outcomes(fixed, 512)
    if matrix is None:
        outcomes.assessments["moving"] = Assessment(REFUSED, "structures do not coincide", None, {})
    else:
        whole = Transform.affine("moving", SIZE, "fixed", SIZE, matrix)
        outcomes.assessments["moving"] = Assessment(REGISTERED, "", whole, {"agreement_rigid": 0.1})
    return outcomes


@pytest.mark.parametrize("before", [None, shift(*step(2))])
def test_a_section_of_moved_pieces_is_registered_piece_by_piece(before) -> None:
    pytest.importorskip("cv2")
    moving, fixed = pair()
    outcomes = outcomes_of(moving, fixed, before)
    images = {"moving": moving, "fixed": fixed}
    register_pieces(images, outcomes, RegistrationConfig(), lambda slide, factor: images[slide], registered)
    kept = outcomes.assessments["moving"]
    assert kept.status == RIGID_ONLY and kept.transform is not None and kept.transform.pieces is not None
    assert kept.measures["pieces"] == 3 and kept.reason.startswith("registered piece by piece: 3 of 3")
    for k in range(3):
        points = np.array(MOVED[k]) + np.random.default_rng(k).uniform(40, 150, (50, 2))
        assert np.allclose(kept.transform.to_frame(points), points + step(k))
        assert np.allclose(kept.transform.from_frame(points + step(k)), points)
    assert np.isnan(kept.transform.to_frame(np.array([[271.0, 280.0]]))).all(), "glass between the pieces"


def test_a_whole_that_leaves_the_place_of_a_piece_empty_is_not_preferred() -> None:
    """It fits where it lies, and the pieces are compared with it where they lie."""
    pytest.importorskip("cv2")
    moving, fixed = pair(lost=2)
    outcomes = outcomes_of(moving, fixed, shift(*step(0)))
    images = {"moving": moving, "fixed": fixed}
    register_pieces(images, outcomes, RegistrationConfig(), lambda slide, factor: images[slide], registered)
    kept = outcomes.assessments["moving"]
    assert kept.transform is not None and kept.measures.get("pieces") == 2
    points = np.array(MOVED[1]) + np.random.default_rng(1).uniform(40, 150, (50, 2))
    assert np.allclose(kept.transform.to_frame(points), points + step(1))


def test_a_section_that_fits_as_a_whole_is_left_alone() -> None:
    pytest.importorskip("cv2")
    _, fixed = pair()
    moving = section("moving", fixed.pixels)
    outcomes = outcomes_of(moving, fixed, np.eye(3))
    before = outcomes.assessments["moving"]
    images = {"moving": moving, "fixed": fixed}
    register_pieces(images, outcomes, RegistrationConfig(), lambda slide, factor: images[slide], registered)
    assert outcomes.assessments["moving"] is before and not outcomes.attempts


def test_a_piece_that_no_attempt_places_has_no_place() -> None:
    pytest.importorskip("cv2")
    moving, fixed = pair()
    outcomes = outcomes_of(moving, fixed, None)
    images = {"moving": moving, "fixed": fixed}

    def mostly(mine, theirs, config, notes):
        for proposal, assessment in registered(mine, theirs, config, notes):
            lost = np.allclose(assessment.transform.matrix, shift(*step(1)))
            yield proposal, Assessment(REFUSED, "too few matches: 3", None, {}) if lost else assessment

    register_pieces(images, outcomes, RegistrationConfig(), lambda slide, factor: images[slide], mostly)
    kept = outcomes.assessments["moving"]
    assert kept.transform is not None and kept.measures["pieces"] == 2 and "2 of 3" in kept.reason
    inside = np.array([MOVED[1]]) + 96.0
    assert np.isnan(kept.transform.to_frame(inside)).all()
    assert kept.transform.pieces is not None and "without a partner" in kept.transform.pieces.nowhere(inside)


def test_a_transform_with_pieces_is_stored_and_read_again(tmp_path) -> None:
    one = known(lost=0)
    head = one.save(tmp_path / "moving")
    again = Transform.load(head)
    points = np.random.default_rng(0).uniform(0, 1, (500, 2)) * SIZE
    assert np.array_equal(one.to_frame(points), again.to_frame(points), equal_nan=True)
    assert np.array_equal(one.from_frame(points), again.from_frame(points), equal_nan=True)
    assert again.torn and Between(again, again).torn and again.inverse.torn and again.grain() == one.grain()
    assert '"version": 2' in head.read_text(), "a reader that knows no pieces must not read it"
    assert again.doubt(points).max() == 1.0


def test_the_warped_picture_shows_every_piece_in_its_place(tmp_path) -> None:
    moving, fixed = pair()
    path = tmp_path / "moving.png"
    Image.fromarray(moving.pixels).save(path)
    with open_slide(path) as slide:
        picture = known().image(slide)
    inside = fixed.tissue
    grey, expected = picture.mean(axis=2), laid([other_stain(tissue(k, SIDE)) for k in (1, 2, 3)], PLACES).mean(axis=2)
    assert np.abs(grey - expected)[inside].mean() < 2
    assert (picture[280, 270] == 255).all()


def test_a_displacement_field_of_pieces_is_refused(tmp_path) -> None:
    with pytest.raises(RegistrationError, match="pieces of tissue"):
        write_field(known(), tmp_path / "field.nii.gz")


def registered_block(
    folder: Path, transform: Transform, pixels: tuple[np.ndarray, np.ndarray]
) -> tuple[Path, list[Section]]:
    sections = []
    for number, (name, layer) in enumerate(zip(("fixed", "moving"), pixels, strict=True), 1):
        Image.fromarray(layer).save(folder / f"{name}.png")
        sections.append(Section(name, "p", "b", number, name, "A", folder / f"{name}.png", mpp=2.0))
    block = folder / "registration" / "b"
    block.mkdir(parents=True)
    transform.save(block / "moving")
    Transform.identity("fixed", SIZE).save(block / "fixed")
    head = {"format": BLOCK_FORMAT, "version": 1, "block": "b", "settings": "x", "reference": "fixed"}
    write_json(block / "block.json", head | {"placed": ["fixed", "moving"], "refused": {}, "rows": []})
    return folder / "registration", sections


def test_annotations_are_propagated_with_their_piece_and_those_without_a_place_are_reported(tmp_path) -> None:
    moving, fixed = pair(lost=0)
    registration, sections = registered_block(tmp_path, known(lost=0), (fixed.pixels, moving.pixels))
    boxes = {k: shapely.box(*(np.array(PLACES[k]) + 80), *(np.array(PLACES[k]) + 110)) for k in range(3)}
    shapes = make_shapes([*boxes.values(), shapely.box(240, 270, 275, 285)], "g", id=["a", "b", "c", "gap"])
    propagate(Cohort(tuple(sections)), {"fixed": shapes}, registration, PLAIN, ["fixed"], tmp_path)
    rows = pd.read_csv(tmp_path / "annotations/propagation.csv").set_index("id")
    assert rows.loc["b", "status"] == "kept" and rows.loc["c", "status"] == "kept"
    assert rows.loc["a", "status"] == rows.loc["gap", "status"] == "dropped"
    assert "no piece of tissue that belongs to it" in rows.loc["a", "reason"]
    placed = read_shapes(tmp_path / "annotations/propagated/moving.geojson")
    middles = {tuple(np.round([shape.centroid.x, shape.centroid.y])) for shape in placed.geometry}
    assert middles == {tuple(np.array(MOVED[k]) + 95.0) for k in (1, 2)}
    # and the other way: what lies in the gap of the section itself
    back = make_shapes([shapely.box(255, 200, 290, 230)], "g", id=["lost"])
    propagate(Cohort(tuple(sections)), {"moving": back}, registration, PLAIN, ["moving"], tmp_path)
    row = pd.read_csv(tmp_path / "annotations/propagation.csv").iloc[0]
    assert row["status"] == "dropped" and row["reason"] == "lies between two tissue pieces in moving"


def in_pieces(area, corners, steps) -> shapely.Geometry:
    """The parts of an area within the pieces (10 pixels wider), each moved by its step."""
    parts = []
    for (x, y), (dx, dy) in zip(corners, steps, strict=True):
        part = area & shapely.box(x - 10, y - 10, x + SIDE + 10, y + SIDE + 10)
        parts.append(shapely.transform(part, lambda xy, d=(dx, dy): xy + d))
    return shapely.union_all(parts)


@pytest.fixture
def around() -> shapely.Geometry:
    """A region of the section, drawn with many points around all three pieces."""
    boxes = [shapely.box(x + 1, y + 1, x + SIDE - 1, y + SIDE - 1) for x, y in MOVED]
    return shapely.convex_hull(shapely.union_all(boxes)).segmentize(20)


@pytest.mark.parametrize("back", [False, True])
def test_an_area_over_several_pieces_is_moved_piece_by_piece(back, around) -> None:
    moves = [step(k) for k in range(3)]
    expected = in_pieces(around, MOVED, moves)
    one = known()
    if back:  # the map from the reference to the section, of an area of the reference
        around = shapely.convex_hull(expected)
        expected = in_pieces(around, PLACES, [-move for move in moves])
        one = one.inverse
    inside = shapely.box(*(np.array(MOVED[1]) + 50), *(np.array(MOVED[1]) + 60))
    shapes = make_shapes([around, shapely.LineString(around.exterior), shapely.box(265, 200, 275, 230), inside], "g")
    moved = one.shapes(shapes)
    assert shapely.area(moved.geometry[0] ^ expected) < 1e-6 * expected.area
    assert moved.geometry[1].is_empty, "a line has no area to be cut"
    assert moved.geometry[3].equals(shapely.transform(inside, lambda xy: one.to_frame(xy)))
    assert moved.attrs["cut"] == 1 and moved.attrs["nowhere"] == 2


@pytest.mark.parametrize(("cls", "status"), [("tumour", "kept"), ("Ignore*", "kept"), ("tumour", "dropped")])
def test_a_region_around_all_pieces_is_no_background(cls, status, around, tmp_path) -> None:
    from stainda.annotations import PixelGrid, rasterise
    from stainda.registration.training_shapes import training_shapes

    moving, fixed = pair()
    registration, sections = registered_block(tmp_path, known(), (fixed.pixels, moving.pixels))
    limits = {"min_tissue": 0.95 if status == "dropped" else 0.1, "min_confidence": 0.1}
    config = PLAIN.model_copy(update=limits)
    shapes = make_shapes([around], cls, id=["r"])
    propagate(Cohort(tuple(sections)), {"moving": shapes}, registration, config, ["moving"], tmp_path)
    row = pd.read_csv(tmp_path / "annotations/propagation.csv").iloc[0]
    assert row["status"] == status
    assert row["label"] == ("object" if (cls, status) == ("tumour", "kept") else "ignored")
    assert row["area_ratio"] == pytest.approx(1, abs=0.01), "of what has a place"
    for_training = training_shapes(tmp_path, ["fixed"], 0.1)["fixed"]
    ignored = for_training[for_training["class"] == "Ignore*"]
    labels = rasterise(for_training, ["tumour"], PixelGrid(0, 0, *SIZE, 1), ignored)
    wanted = 1 if row["label"] == "object" else 255
    assert (labels[fixed.tissue] == wanted).mean() > 0.98
    if wanted == 1:
        assert "of it lies in pieces of tissue" in row["reason"] and row["confidence"] > 0.3


def test_the_commands_leave_out_what_has_no_place_and_say_so(tmp_path) -> None:
    from stainda.cli.transforms import app

    known(lost=0).save(tmp_path / "moving")
    points = pd.DataFrame({"id": ["in", "gap"], "x": [MOVED[1][0] + 96.0, 271.0], "y": [MOVED[1][1] + 96.0, 280.0]})
    write_landmarks(points, tmp_path / "in.csv")
    paths = [str(tmp_path / name) for name in ("moving.json", "in.csv", "out.csv")]
    result = CliRunner().invoke(app, ["points", *paths])
    assert result.exit_code == 0 and "1 points left out" in result.output
    there = read_landmarks(tmp_path / "out.csv")
    assert list(there["id"]) == ["in"] and np.allclose(there[["x", "y"]], np.array(PLACES[1]) + 96.0)
    boxes = [shapely.box(*(np.array(MOVED[1]) + 80), *(np.array(MOVED[1]) + 90)), shapely.box(255, 200, 290, 230)]
    write_geojson(make_shapes(boxes, "g"), tmp_path / "in.geojson")
    paths = [str(tmp_path / name) for name in ("moving.json", "in.geojson", "out.geojson")]
    result = CliRunner().invoke(app, ["shapes", *paths])
    assert result.exit_code == 0 and "1 shapes left out" in result.output
    assert len(read_shapes(tmp_path / "out.geojson")) == 1
    result = CliRunner().invoke(app, ["info", paths[0]])
    assert result.exit_code == 0 and "piece 2" in result.output


def test_a_whole_of_several_pieces_is_not_taken_for_stretched(monkeypatch) -> None:
    """Pieces that moved on their own look like one stretched section: the rule for these is not applied to them."""
    asked = []

    def assess(view, frame, proposal, max_dim, **settings):
        asked.append(settings["stretched"])
        return Assessment(REFUSED, "", None, {})

    monkeypatch.setattr("stainda.registration.outcomes.assess_proposal", assess)
    three, two = pair(lost=1)[::-1]
    one = section("one", laid([tissue(1, SIDE)], PLACES))
    for frame, moving in ((three, two), (one, two), (three, one)):
        Outcomes(frame, 512, deformations="both").assess(SimpleNamespace(image=moving))
    assert asked == [False, True, True]


def test_a_piece_whose_ends_lie_elsewhere_is_out_of_place() -> None:
    """A deformation of the whole may bring the middle of a piece to its place and turn its ends away."""
    moving, fixed = pair()
    numbers, view = find_pieces(fixed), FrameView.of(fixed)
    right = [PairedPiece(k, k, shift(*step(k - 1))) for k in (1,)]
    whole = Transform.affine("moving", SIZE, "fixed", SIZE, shift(*step(0)))
    assert not out_of_place(view, moving, whole, right, numbers)
    middle = np.array(PLACES[0]) + SIDE / 2
    turn = np.array([[0.8, -0.2, 0], [0.2, 0.8, 0], [0, 0, 1.0]])  # about the middle of the piece
    turned = shift(*middle) @ turn @ shift(*-middle) @ shift(*step(0))
    bent = Transform.affine("moving", SIZE, "fixed", SIZE, turned)
    points = middle + np.random.default_rng(0).uniform(-SIDE / 2, SIDE / 2, (500, 2))
    away = np.linalg.norm(apply_affine(right[0].matrix, bent.from_frame(points)) - points, axis=1)
    assert np.percentile(away, 90) > gates.OWN_WAY * SIZE[0] > 0
    assert out_of_place(view, moving, bent, right, numbers)
