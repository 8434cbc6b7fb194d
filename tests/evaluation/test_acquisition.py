"""Choices of regions to annotate, on numbers whose answer is known."""

import numpy as np
import pytest

from stainda.evaluation.acquisition import best, disagreement, entropy, k_centre

ALONE = np.eye(5, dtype=bool)


def test_entropy_of_sure_and_unsure_patches():
    shares = np.stack([np.full((1, 2, 2), value) for value in (0.0, 0.5, 1.0)])
    assert entropy(shares) == pytest.approx([0, np.log(2), 0], abs=1e-9)
    assert entropy(np.array([[1 / 3, 1 / 3]])) == pytest.approx([np.log(3)])


def test_disagreement_counts_places_by_their_certainty():
    one, two = np.zeros((2, 1, 2, 2)), np.zeros((2, 1, 2, 2))
    two[:, :, 0] = 1.0
    certainty = np.ones((2, 2, 2))
    certainty[1, 0] = 0.5
    assert disagreement(one, two, certainty) == pytest.approx([0.5, 1 / 3])
    assert disagreement(one, two, 0 * certainty) == pytest.approx([0, 0])


def test_the_highest_are_taken_and_no_neighbours():
    near = ALONE.copy()
    near[1, 2] = near[2, 1] = True
    assert best(np.array([0.1, 0.9, 0.8, 0.7, 0.2]), 3, near) == [1, 3, 4]
    assert best(np.array([0.1, 0.9, 0.8, 0.7, 0.2]), 9, near) == [1, 3, 4, 0]


def test_the_centres_lie_far_from_what_is_covered():
    """Three groups on a line; one of them is annotated: one of each of the other two is taken."""
    points = np.array([[0.0], [0.1], [5.0], [5.1], [9.0]])
    assert k_centre(points, 2, np.array([[0.05]]), ALONE) == [4, 2]
    assert k_centre(points, 3, None, ALONE)[0] == 2  # nearest to the mean
    near = ALONE.copy()
    near[4, 3] = near[3, 4] = True
    assert k_centre(points, 3, np.array([[0.05]]), near) == [4, 2, 0]
