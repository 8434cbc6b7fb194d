"""Training reaches what its label rule gives, and nothing else."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from patch_cohort import CONFIG, ROLES, TASK, own_shapes, propagated_shapes, write_cohort

from stainda.cohort import Roles
from stainda.errors import ConfigError, LeakError
from stainda.patches import TrainingData, build_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    cohort = write_cohort(folder)
    shapes = {"own": own_shapes(cohort), "propagated": propagated_shapes(cohort)}
    return build_store(cohort, ROLES, CONFIG, TASK, shapes, folder / "patches", seed=1)


def kinds(store, indices):
    return set(store.table.iloc[indices][["kind", "split", "domain"]].itertuples(index=False, name=None))


@pytest.mark.parametrize(
    ("rule", "extra"), [("source", None), ("propagated", "propagated"), ("all", "oracle")], ids=lambda v: str(v)
)
def test_each_rule_gives_its_labels(store, rule, extra):
    data = TrainingData(store, ROLES, rule)
    expected = {("labelled", "train", "PAS@A")} | ({(extra, "train", "SR@A")} if extra else set())
    assert kinds(store, data.labelled("train")) == expected
    assert kinds(store, data.labelled("val")) == {("labelled", "val", "PAS@A")}  # always
    assert kinds(store, data.unlabelled()) == {("unlabelled", "train", "SR@A")}
    rows = data.labelled("train")
    assert data.images(rows).shape == (len(rows), 32, 32, 3)
    assert (data.labels(rows) != 255).all() and set(np.unique(data.labels(rows))) == {0, 1, 2}
    for index in rows[-2:]:
        stored = store.labels("propagated" if store.table["kind"][index] == "propagated" else "own")[index]
        assert (data.labels([index])[0] == stored).all()


@pytest.mark.parametrize(
    ("rule", "visible"), [pair for pair in itertools.product(("source", "propagated", "all"), ("targets", "nothing"))]
)
def test_nothing_else_can_be_reached(store, rule, visible):
    """Every row is requested, one by one: only those of the rule answer."""
    if (rule, visible) == ("propagated", "nothing"):
        with pytest.raises(ConfigError, match="propagated labels"):
            TrainingData(store, ROLES, rule, visible)
        return
    data = TrainingData(store, ROLES, rule, visible)
    may_learn = {
        "labelled",
        *({"propagated"} if rule == "propagated" else set()),
        *({"oracle"} if rule == "all" else set()),
    }
    may_look = may_learn | ({"unlabelled"} if visible == "targets" else set())
    own = store.table["domain"].isin(ROLES.sources)
    for index, kind in enumerate(store.table["kind"]):
        for ask, allowed in ((data.labels, may_learn), (data.target_labels, may_learn), (data.images, may_look)):
            if kind in allowed or (own[index] and ask == data.images):  # a source's images hide nothing
                ask([index])
            else:
                with pytest.raises(LeakError):
                    ask([index])
    assert (len(data.unlabelled()) == 0) == (visible == "nothing")
    assert ("p1_SR" in data.tissue_pixels) == (visible == "targets" or rule == "all") and "p1_PAS" in data.tissue_pixels
    assert not {"n_objects", "px_glomerulus", "around", "x"} & set(data.table.columns)


def test_a_domain_that_became_a_target_keeps_its_labels_to_itself(store):
    """A store cut for PAS -> SR, read with the roles reversed: PAS labels are now hidden."""
    data = TrainingData(store, Roles(("SR@A",), ("PAS@A",)))
    pas = np.flatnonzero(store.table["domain"] == "PAS@A")
    assert len(data.labelled("train")) == 0
    with pytest.raises(LeakError, match="may not be seen"):
        data.labels(pas[:1])
    other = TrainingData(store, Roles(("PAS@A",), ("CD68@A",)))
    with pytest.raises(LeakError, match="neither source nor target"):
        other.images(np.flatnonzero(store.table["domain"] == "SR@A")[:1])


def test_unknown_words_name_the_nearest(store):
    with pytest.raises(ConfigError, match="Did you mean 'propagated'"):
        TrainingData(store, ROLES, "propagate")


def test_source_and_target_patches_that_are_compared_are_drawn_by_one_rule(store):
    """Equally many per slide, on tissue at random, without labels, of training patients."""
    data = TrainingData(store, ROLES)
    rows = store.table.iloc[np.concatenate([data.source_unlabelled(), data.unlabelled()])]
    assert set(rows["domain"]) == {"PAS@A", "SR@A"} and set(rows["split"]) == {"train"}
    assert set(rows["around"]) == {"tissue"} and rows.groupby("slide").size().nunique() == 1
    assert (store.labels("own")[data.source_unlabelled()] == 255).all()
    with pytest.raises(LeakError):
        data.labels(data.source_unlabelled()[:1])
    assert not set(data.source_unlabelled()) & set(data.labelled("train"))
