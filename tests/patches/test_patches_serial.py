"""Pairs of serial sections: each pixel of one patch is found where its tissue lies on the other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from patch_cohort import CONFIG, ROLES, TASK, own_shapes, propagated_shapes, slide_image, write_cohort

from stainda.cohort import Roles
from stainda.errors import LeakError
from stainda.patches import TrainingData, build_store
from stainda.patches.serial import SectionLink, SerialPairs, build_serial, refine

TURN = np.deg2rad(12)
MATRIX = 0.97 * np.array([[np.cos(TURN), -np.sin(TURN)], [np.sin(TURN), np.cos(TURN)]])
MOVE = np.array([41.0, -30.0])


def there(xy):
    return xy @ MATRIX.T + MOVE


def back(xy):
    return (xy - MOVE) @ np.linalg.inv(MATRIX).T


def link(one="p1_PAS", two="p1_SR", error=4.0, apart=1, key="a", back=back):
    return SectionLink(one, two, there, back, error, apart, key)


@pytest.fixture
def made(tmp_path):
    cohort = write_cohort(tmp_path)
    shapes = {"own": own_shapes(cohort), "propagated": propagated_shapes(cohort)}
    return cohort, build_store(cohort, ROLES, CONFIG, TASK, shapes, tmp_path / "patches", seed=1)


def test_every_pixel_is_found_where_registration_says(made):
    """Red tells x and green tells y of a slide: read through the grid, they are where the map takes the pixel."""
    cohort, store = made
    pairs = build_serial(store, cohort, ROLES, [link()], seed=1)
    assert len(pairs) >= 8 and set(pairs.kinds) == {"PAS@A|SR@A"}
    found = pairs.read(np.arange(len(pairs)))
    two = torch.from_numpy(found.two).permute(0, 3, 1, 2).float()
    seen = torch.nn.functional.grid_sample(two, torch.from_numpy(found.grid), align_corners=False).numpy()
    centres = (np.stack(np.meshgrid(np.arange(32), np.arange(32)), -1) + 0.5) * 2.0
    for number, (index, row) in enumerate(pairs.table.iterrows()):
        first = store.table.iloc[row["one"]]
        assert (found.one[number] == store.images[row["one"]]).all() and first["kind"] == "labelled"
        own = centres + first[["x", "y"]].to_numpy(float)
        expected = 60 + (there(own.reshape(-1, 2)) - 0.5).reshape(32, 32, 2) / 4
        sure = (found.certainty[number] > 0.5) & (np.abs(found.grid[number]) < 0.9).all(-1) & (seen[number, 2] < 112)
        assert sure.mean() > 0.15, index
        apart = np.abs(np.moveaxis(seen[number, :2], 0, -1) - expected)[sure]
        assert apart.max() < 1.2, "levels of 4 level-0 pixels, that is 2 pixels of the patch, rounded down"
        assert np.abs(apart.mean() - 0.375) < 0.15, "the rounding of the picture itself, and nothing next to it"


def test_certainty_is_that_of_round_trip_distance_and_tissue(made):
    cohort, store = made
    plain = build_serial(store, cohort, ROLES, [link()], seed=1)
    inner = plain._arrays["certainty"].max(axis=(1, 2))
    np.testing.assert_allclose(inner, 1.0, atol=1e-4)
    assert (np.asarray(plain.table["radius"]) == 2.0).all(), "4 level-0 pixels are 2 of the patch"
    biased = build_serial(
        store, cohort, ROLES, [link(key="b", apart=3, back=lambda xy: back(xy) + np.array([3.0, 0.0]))], seed=1
    )
    np.testing.assert_allclose(biased._arrays["certainty"].max(axis=(1, 2)), np.exp(-1.5 / 2.0) * 0.98**2, rtol=1e-3)
    image = slide_image()
    for _, row in plain.table.iterrows():
        first = store.table.iloc[row["one"]]
        nodes = np.stack(np.meshgrid(*[np.linspace(0, 32, 17) * 2] * 2), -1) + first[["x", "y"]].to_numpy(float)
        at = np.floor(there(nodes.reshape(-1, 2))).astype(int)
        inside = ((at >= 0) & (at < 480)).all(1)
        glass = ~inside
        glass[inside] = image[at[inside, 1], at[inside, 0], 2] == 255
        far = glass.reshape(17, 17) & (np.abs(at - 240).max(1) > 214).reshape(17, 17)
        assert (plain._arrays["certainty"][row.name][far] == 0).all(), "nothing is sure on glass"


def test_a_fold_or_a_place_outside_is_not_sure(made):
    cohort, store = made

    def folded(xy):
        moved = there(xy)
        return moved + np.stack([60 * np.sin(xy[:, 0] / 12), np.zeros(len(xy))], 1)

    one = SectionLink("p1_PAS", "p1_SR", folded, back, 400.0, 1, "f")
    pairs = build_serial(store, cohort, ROLES, [one], seed=1)
    if len(pairs):
        assert (pairs._arrays["certainty"] == 0).mean() > 0.3


def test_pairs_are_used_again_until_something_changes(made):
    cohort, store = made
    first = build_serial(store, cohort, ROLES, [link()], seed=1)
    file = store.folder / "serial" / "images.npy"
    stamp = file.stat().st_mtime_ns
    assert build_serial(store, cohort, ROLES, [link()], seed=1).key == first.key
    assert file.stat().st_mtime_ns == stamp
    assert build_serial(store, cohort, ROLES, [link(key="other registration")], seed=1).key != first.key
    again = build_serial(store, cohort, ROLES, [link()], seed=1)
    assert again.key == first.key and (again.table == first.table).all(axis=None)


def test_nothing_hidden_is_paired_or_shown(made):
    cohort, store = made
    for slides in (("p2_PAS", "p2_SR"), ("p1_PAS", "p3_SR")):
        with pytest.raises(LeakError, match="not of a training patient"):
            build_serial(store, cohort, ROLES, [link(*slides)], seed=1)
    pairs = build_serial(store, cohort, ROLES, [link(), link("p1_SR", "p1_PAS", key="c")], seed=1)
    kinds = set(store.table["kind"].iloc[pairs.table["one"]])
    assert kinds == {"labelled", "unlabelled"}, "patches cut around a target's annotations, or carried ones, never"
    assert len(TrainingData(store, ROLES).serial) == len(pairs)
    assert len(TrainingData(store, ROLES, visible="nothing").serial) == 0
    elsewhere = Roles(("PAS@A",), ("CD68@A",))
    assert len(TrainingData(store, elsewhere).serial) == 0
    assert SerialPairs.open(store).within(["PAS@A", "SR@A"]).key == pairs.key


def test_refining_is_exact_for_what_is_linear():
    line, turn = np.linspace(0, 40, 17), np.array([[2.0, 1], [0, 3]])
    nodes = np.stack(np.meshgrid(line, line), -1)[None] @ turn
    centres = np.stack(np.meshgrid(np.arange(40), np.arange(40)), -1)[None] + 0.5
    np.testing.assert_allclose(refine(nodes, 40), centres @ turn, rtol=1e-5)
