"""Batches: balanced, domain by domain where statistics are, each patch in its turn."""

import numpy as np
import pytest

from stainda.config import TaskConfig
from stainda.errors import TrainingError
from stainda.training.batches import EpochSampler, LabelledBatches, UnlabelledBatches
from stainda.training.rare_classes import RareClasses
from stainda.training.tasks import Sorted, class_weights, need_answers

DOMAINS = ["a"] * 40 + ["b"] * 20
HAS = np.arange(60) % 10 == 0  # one patch in ten shows an object


def _labelled(one_domain, seed=0, has=HAS, size=8):
    return LabelledBatches(np.arange(60), DOMAINS, has, size, one_domain, np.random.default_rng(seed))


def test_a_deck_deals_every_card_before_any_again():
    deck = EpochSampler(np.arange(7), np.random.default_rng(0))
    dealt = [card for _ in range(7) for card in deck.deal(3)]
    for start in range(0, 21, 7):
        assert sorted(dealt[start : start + 7]) == list(range(7))


@pytest.mark.parametrize("one_domain", [True, False])
def test_half_of_a_batch_shows_objects_and_domains_take_turns(one_domain):
    batches = _labelled(one_domain)
    drawn = [batches.draw() for _ in range(20)]
    assert all(len(batch) == 8 and HAS[batch].sum() == 4 for batch in drawn)
    domains = [{DOMAINS[index] for index in batch} for batch in drawn]
    assert all(len(found) == (1 if one_domain else 2) for found in domains)
    counts = np.bincount([DOMAINS[index] == "b" for batch in drawn for index in batch])
    assert counts.tolist() == [80, 80], "a domain with fewer patches is seen as often"


def test_a_batch_is_made_of_what_there_is():
    for has in (np.ones(60, bool), np.zeros(60, bool)):
        assert len(_labelled(False, has=has).draw()) == 8
    with pytest.raises(TrainingError, match="none of the 60 source training patches shows glomerulus"):
        need_answers(Sorted(np.arange(60), np.zeros((60, 2))), 60, "source training", TaskConfig())


def test_patches_that_stand_in_for_empty_ones_are_not_drawn_as_objects():
    """Dense tissue: 30 patches about objects, 2 free of objects at the rim of one slide, 28 anywhere in their stead."""
    places = np.array([[60, 40]] * 30 + [[100, 0]] * 2 + [[80, 20]] * 28)
    patches = Sorted(np.arange(60), places, np.arange(60) >= 32)
    assert patches.has_object.sum() == 58 and patches.drawn_as_object.sum() == 30
    batches = LabelledBatches(patches.indices, ["a"] * 60, patches.drawn_as_object, 8, False, np.random.default_rng(0))
    drawn = np.concatenate([batches.draw() for _ in range(15)])
    assert np.bincount(drawn, minlength=60).tolist() == [2] * 60, "no patch of the rim comes more often than others"
    assert patches.shares[1].tolist() == pytest.approx([(2 * 100 + 28 * 80) / 3000, 28 * 20 / 3000])


@pytest.mark.parametrize(("share", "shown"), [(0.125, 1), (1.0, 8), (0.0, 0)])
def test_the_share_of_objects_is_a_setting(share, shown):
    batches = LabelledBatches(np.arange(60), ["a"] * 60, HAS, 8, False, np.random.default_rng(0), object_share=share)
    assert [int(HAS[batches.draw()].sum()) for _ in range(5)] == [shown] * 5
    as_they_come = LabelledBatches(
        np.arange(60), ["a"] * 60, HAS, 60, False, np.random.default_rng(0), object_share=None
    )
    assert sorted(as_they_come.draw().tolist()) == list(range(60))


def test_many_domains_share_a_small_batch_and_still_show_objects():
    domains = [f"d{index % 8}" for index in range(160)]
    has = (np.arange(160) // 8) % 2 == 0
    batches = LabelledBatches(np.arange(160), domains, has, 8, False, np.random.default_rng(0))
    shown = [has[batches.draw()].sum() for _ in range(10)]
    assert shown == [4] * 10


@pytest.mark.parametrize("share", [0.125, 0.5])
@pytest.mark.parametrize("rare", [False, True])
def test_what_one_domain_lacks_is_not_made_up_by_another(share, rare):
    """Three domains without an empty patch, two with both kinds, one without an object."""
    domains = [f"d{index // 20}" for index in range(120)]
    has = np.array([True] * 60 + ([True] * 10 + [False] * 10) * 2 + [False] * 20)
    batches = LabelledBatches(
        np.arange(120), domains, has, 8, False, np.random.default_rng(0), object_share=share,
        rare=RareClasses(has[:, None], np.array([1.0])) if rare else None,
    )  # fmt: skip
    drawn = [batches.draw() for _ in range(300)]
    assert {len(batch) for batch in drawn} == {8}
    every = np.concatenate(drawn)
    both = every[(every >= 60) & (every < 100)]
    assert has[both].mean() == pytest.approx(share, abs=0.005), "though a batch has two or three of them"
    assert has[every[every < 60]].all() and not has[every[every >= 100]].any()


def test_one_patch_of_each_of_several_targets_leaves_the_source_as_it_was():
    has = np.array([True] * 20 + [False] * 20 + [True] * 3)
    batches = LabelledBatches(
        np.arange(43), ["s"] * 40 + ["t", "u", "v"], has, 8, False, np.random.default_rng(0)
    )  # fmt: skip
    drawn = [batches.draw() for _ in range(200)]
    assert {len(batch) for batch in drawn} == {8}
    source = np.concatenate(drawn)
    assert has[source[source < 40]].mean() == pytest.approx(0.5, abs=0.02)


def test_batches_depend_on_the_seed_alone():
    first, again, other = (_labelled(False, seed) for seed in (1, 1, 2))
    draws = [[batches.draw().tolist() for _ in range(5)] for batches in (first, again, other)]
    assert draws[0] == draws[1] != draws[2]


def test_unlabelled_batches_turn_through_the_target_domains():
    batches = UnlabelledBatches(np.arange(60), DOMAINS, 8, True, np.random.default_rng(0))
    turns = [{DOMAINS[index] for index in batches.draw()} for _ in range(10)]
    assert all(len(turn) == 1 for turn in turns) and turns.count({"a"}) == 5
    assert {DOMAINS[index] for index in batches.draw_from("b")} == {"b"}


PLACES = np.array([[90, 10, 0]] * 36 + [[95, 0, 5]] * 4 + [[100, 0, 0]] * 20)  # one object in ten is of the rare class


def test_rare_classes_come_as_often_as_the_equation_says():
    rare = RareClasses.of(PLACES, 0.05)
    frequency = np.array([360, 20]) / 6000
    expected = np.exp((1 - frequency) / 0.05)
    np.testing.assert_allclose(rare.chances, expected / expected.sum())
    assert RareClasses.of(PLACES, 1e-6).chances.tolist() == [0, 1]
    assert RareClasses.of(PLACES, 1e9).chances[0] == pytest.approx(0.5)
    absent = RareClasses.of(np.array([[9, 1, 0]] * 3), 0.01)
    assert absent.chances.tolist() == [1, 0], "a class that no patch shows is not drawn"


def test_batches_draw_rare_classes_more_often_and_weights_know_of_it():
    patches, rare = Sorted(np.arange(60), PLACES), RareClasses.of(PLACES, 0.05)
    batches = LabelledBatches(
        np.arange(60), ["a"] * 40 + ["a"] * 20, patches.has_object, 10, False, np.random.default_rng(0), rare=rare
    )
    drawn = np.concatenate([batches.draw() for _ in range(400)])
    shown = rare.shows[drawn]
    assert shown.any(1).mean() == pytest.approx(0.5), "the share of objects is as it was"
    assert shown[:, 1].mean() / 0.5 == pytest.approx(rare.chances[1], abs=0.03) and rare.chances[1] > 0.7
    assert set(drawn[shown[:, 1]].tolist()) == {36, 37, 38, 39}
    task = TaskConfig(classes=("a", "b"), class_weights="balanced")
    weights = class_weights(task, patches, 0.5, rare).numpy()
    met = (PLACES[drawn] / 100).mean(0)
    np.testing.assert_allclose(weights * met, (weights * met).mean(), rtol=0.1)


def test_a_domain_without_a_rare_class_gives_what_it_has():
    domains = ["a"] * 36 + ["b"] * 24
    rare = RareClasses.of(PLACES, 0.01)
    has = PLACES[:, 1:].any(1)
    batches = LabelledBatches(np.arange(60), domains, has, 8, True, np.random.default_rng(0), rare=rare)
    assert len(batches.draw_from("a")) == 8 and rare.shows[batches.draw_from("a"), 0].all()
    assert rare.shows[batches.draw_from("b"), 1].sum() == 4
