"""Answers of several annotators in one number per pixel, and what labels they make."""

import numpy as np
import pytest

from stainda.annotations.votes import staple
from stainda.errors import ConfigError
from stainda.patches.crowd import UNKNOWN, Crowd, CrowdLabels, answers_by_code, encode, most_annotators


@pytest.mark.parametrize(("n_classes", "count"), [(1, 10), (2, 7), (3, 6), (4, 6)])
def test_every_answer_is_read_as_it_was_written(n_classes, count):
    assert most_annotators(n_classes) == count
    answers = np.random.default_rng(0).integers(-1, n_classes + 1, (count, 9, 11))
    answers = np.where(answers < 0, UNKNOWN, answers).astype(np.uint8)
    codes = encode(answers, n_classes)
    assert codes.dtype == np.uint16 and codes.min() > 255
    np.testing.assert_array_equal(np.moveaxis(answers_by_code(count, n_classes)[codes], -1, 0), answers)
    assert (answers_by_code(count, n_classes)[UNKNOWN] == UNKNOWN).all(), "outside of a slide nobody says anything"
    with pytest.raises(ConfigError, match=f"{count + 1} annotators of {n_classes} classes"):
        encode(np.zeros((count + 1, 2, 2), np.uint8), n_classes)


def _labels(method, answers, n_classes=1, **crowd):
    names = [f"a{index}" for index in range(len(answers))]
    codes = encode(np.asarray(answers, np.uint8), n_classes)
    made = CrowdLabels(Crowd(method, **crowd), names, n_classes, [codes])
    return made, made.fused(codes, np.full(codes.shape, 7, np.uint8))


def test_majority_ties_silence_and_classes():
    silent = UNKNOWN
    answers = [[[1, 1, 0, 1, silent, 2]], [[1, 0, 0, 0, silent, 2]], [[1, 1, 0, silent, silent, 1]]]
    assert _labels("majority", answers, 2)[1].tolist() == [[1, 1, 0, UNKNOWN, 7, 2]]


def test_who_is_reliable_decides():
    answers = [[[1, 0]], [[0, 1]], [[0, 0]]]
    given = (("a0", 0.9), ("a1", 0.2), ("a2", 0.3))
    assert _labels("weighted", answers, reliability=given)[1].tolist() == [[1, 0]]
    with pytest.raises(ConfigError, match="'a2' has no reliability"):
        _labels("weighted", answers, reliability=given[:2])


def test_pixels_of_all_patches_are_weighed_by_one_staple():
    generator = np.random.default_rng(1)
    truth = generator.random((40, 40)) < 0.2
    rates = ((0.95, 0.99), (0.6, 0.9), (0.5, 0.8))
    answers = [np.where(truth, generator.random((40, 40)) < p, generator.random((40, 40)) > q) for p, q in rates]
    _, labels = _labels("staple", np.stack(answers))
    votes = np.stack(answers).reshape(3, -1).T.astype(np.int8)  # a second way: every pixel a pattern of its own
    expected = staple(votes, np.ones(len(votes))).probability.reshape(40, 40) > 0.5
    np.testing.assert_array_equal(labels == 1, expected)
    majority = _labels("majority", np.stack(answers))[1]
    assert (labels != truth).mean() < 0.5 * (majority != truth).mean()


def test_annotators_are_drawn_by_the_seed_a_few_within_more():
    answers = np.zeros((7, 4, 4), np.uint8)
    drawn = [set(_labels("majority", answers, count=count, seed=3)[0].names) for count in (2, 4, 7)]
    assert drawn[0] < drawn[1] < drawn[2] and [len(names) for names in drawn] == [2, 4, 7]
    assert len({_labels("majority", answers, count=3, seed=seed)[0].names for seed in range(8)}) > 3
    with pytest.raises(ConfigError, match="8 annotators are to teach, and the training slides of the sources have 7"):
        _labels("majority", answers, count=8)
