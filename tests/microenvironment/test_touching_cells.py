"""Touching cells are parted at their necks, long ones stay whole, and dark spots in a cell do not take it away."""

import numpy as np
import pytest

from stainda.config.microenvironment import CellDetectionConfig
from stainda.microenvironment.cells import stained_spots
from stainda.microenvironment.touching_cells import parts_of

MPP = 0.75
SETTINGS = CellDetectionConfig()


def mask_of(*ellipses):
    """Ellipses (x, y, half length, half width, angle), micrometres, on 60 x 60."""
    y, x = (np.mgrid[:80, :80] + 0.5) * MPP
    mask = np.zeros((80, 80), bool)
    for cx, cy, a, b, angle in ellipses:
        u = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
        v = -(x - cx) * np.sin(angle) + (y - cy) * np.cos(angle)
        mask |= (u / a) ** 2 + (v / b) ** 2 <= 1
    return mask


def number_of(*ellipses):
    labels = parts_of(mask_of(*ellipses), MPP, SETTINGS.separation_um, SETTINGS.neck_um)
    assert (labels > 0).sum() == mask_of(*ellipses).sum() and len(np.unique(labels)) == labels.max() + 1
    return labels.max()


@pytest.mark.parametrize("angle", [0.0, 0.6, 1.2])
def test_a_long_cell_is_one_and_cells_side_by_side_are_several(angle):
    way = np.array([np.cos(angle), np.sin(angle)])
    assert number_of((30, 30, 10, 3.5, angle)) == 1
    assert number_of((30, 30, 6, 6, 0)) == 1
    two = [(*(30 + side * 7.8 * way), 5, 4, angle + np.pi / 2) for side in (-0.5, 0.5)]
    assert number_of(*two) == 2
    row = [(*(30 + side * 9 * way), 5, 5, 0) for side in (-1, 0, 1)]
    assert number_of(*row) == 3


def test_a_wider_neck_is_a_matter_of_the_setting():
    pair = mask_of((26, 30, 6, 6, 0), (33, 30, 6, 6, 0))
    assert [parts_of(pair, MPP, 2.0, neck).max() for neck in (0.2, 3.0)] == [2, 1]


def test_nothing_stained_is_no_cell():
    assert parts_of(np.zeros((9, 9), bool), MPP, 2.0, 1.0).max() == 0


def image_of(density):
    """Brown of that optical density on white, uint8."""
    dab = np.array([0.27, 0.57, 0.78])
    return np.clip(255 * 10 ** (-density[..., None] * dab / np.linalg.norm(dab)), 0, 255).astype(np.uint8)


def test_a_dark_granule_does_not_take_its_cell_away():
    """A cell that is stained at its rim, with a granule that is three times as dark."""
    rim = mask_of((30, 30, 7, 5, 0)) & ~mask_of((30, 30, 4.5, 2.5, 0))
    density = 0.55 * rim
    assert len(stained_spots(image_of(density), MPP, SETTINGS)[0]) == 1
    density[38:40, 31:34] = 1.8
    spots, _, _ = stained_spots(image_of(density), MPP, SETTINGS)
    assert len(spots) == 1 and np.hypot(*(spots[0, :2] * MPP - 30)) < 3
    # the faint blur of a dark cell is not its area
    dark = stained_spots(image_of(1.8 * mask_of((30, 30, 5, 5, 0))), MPP, SETTINGS)[0]
    assert dark[0, 2] == pytest.approx(np.pi * 25, rel=0.2)
