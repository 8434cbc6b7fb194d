"""The true map: invertible to far below a pixel, and what its file says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stainda.errors import SlideError
from stainda.phantom import true_map
from stainda.phantom.maps import MAX_STRAIN, random_map

SIZE, MPP = 2048, 0.5


@pytest.mark.parametrize("difficulty", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("mirrored", [False, True])
def test_going_to_the_frame_and_back_is_the_identity(difficulty: float, mirrored: bool) -> None:
    rng = np.random.default_rng(4)
    section = random_map(rng, SIZE, MPP, 3.0, difficulty=difficulty, mirrored=mirrored)
    points = rng.uniform(-200, SIZE + 200, (500, 2))
    np.testing.assert_allclose(section.from_frame(section.to_frame(points)), points, atol=1e-4)
    assert section.strain <= MAX_STRAIN + 1e-9
    assert section.mirrored is mirrored


def test_the_jacobian_is_the_derivative_and_never_folds() -> None:
    rng = np.random.default_rng(5)
    section = random_map(rng, SIZE, MPP, 0.0, difficulty=3.0)
    points = rng.uniform(0, SIZE, (50, 2))
    jacobian = section.jacobian(points)
    for axis in range(2):
        step = np.zeros(2)
        step[axis] = 1e-3
        difference = (section.to_frame(points + step) - section.to_frame(points - step)) / 2e-3
        np.testing.assert_allclose(jacobian[:, :, axis], difference, atol=1e-6)
    assert np.linalg.det(jacobian).min() > 0


def test_sections_are_really_turned_shifted_and_bent() -> None:
    maps = [random_map(np.random.default_rng(seed), SIZE, MPP, 0.0) for seed in range(8)]
    grid = np.stack(np.meshgrid(*[np.linspace(200, 1800, 9)] * 2), axis=-1).reshape(-1, 2)
    moved = [np.median(np.linalg.norm(m.from_frame(maps[0].to_frame(grid)) - grid, axis=1)) for m in maps[1:]]
    assert min(moved) > 10  # pixels: something to register
    bent = []
    for section in maps:
        frame = section.to_frame(grid)
        affine = np.linalg.lstsq(np.column_stack([grid, np.ones(len(grid))]), frame, rcond=None)[0]
        bent.append(np.linalg.norm(frame - np.column_stack([grid, np.ones(len(grid))]) @ affine, axis=1).mean())
    assert 1.0 < np.mean(bent) < 10.0  # micrometres beyond an affine map


def test_a_map_survives_its_file(tmp_path: Path) -> None:
    section = random_map(np.random.default_rng(1), SIZE, MPP, 6.0, artefacts=("tear", "pen"))
    section.save(tmp_path / "one.npz", size=np.array(SIZE))
    again = true_map(tmp_path / "one.npz")
    points = np.array([[10.0, 20.0], [1999.5, 3.25]])
    np.testing.assert_array_equal(again.to_frame(points), section.to_frame(points))
    assert (again.mpp, again.z, again.artefacts) == (MPP, 6.0, ("tear", "pen"))


def test_a_file_that_is_no_truth_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", something=np.zeros(3))
    for path in (tmp_path / "other.npz", tmp_path / "missing.npz"):
        with pytest.raises(SlideError, match="not a truth file"):
            true_map(path)
