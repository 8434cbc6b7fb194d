"""What training reads of a store in one look-up is what the rules say row by row."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from stainda.cohort import Roles
from stainda.errors import LeakError
from stainda.patches import TrainingData

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from made_store import SOURCE, TARGET, make_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = make_store(tmp_path_factory.mktemp("store"), size=16, margin=4, patches=96)
    kinds = np.asarray(["unlabelled", "propagated", "oracle"])
    of_target = made.table["domain"] == TARGET
    made.table.loc[of_target, "kind"] = kinds[np.arange(int(of_target.sum())) % 3]
    made.table.loc[made.table.index % 12 == 0, "domain"] = "JONES@B"
    return made


def may_be_seen(row, rule: str, visible: str, without: str) -> bool:
    """The rules, of one patch."""
    if row["patient"] == without or row["domain"] not in (SOURCE, TARGET):
        return False
    if row["kind"] == "oracle":
        return rule == "all"
    if row["kind"] == "propagated" and rule != "propagated":
        return False
    return row["domain"] == SOURCE or visible == "targets"


@pytest.mark.parametrize("rule", ["source", "propagated", "all"])
@pytest.mark.parametrize("visible", ["targets", "nothing"])
@pytest.mark.parametrize("without", ["", "Ptrain1"])
def test_every_row_is_given_or_refused_by_the_rules(store, rule, visible, without):
    if rule == "propagated" and visible == "nothing":
        pytest.skip("refused by the configuration")
    data = TrainingData(store, Roles((SOURCE,), (TARGET,)), labels=rule, visible=visible, without=without)
    learned = set(np.concatenate([data.labelled("train"), data.labelled("val")]).tolist())
    regions = {"own": store.regions("own"), "propagated": store.regions("propagated")}
    for index, row in enumerate(store.table.to_dict("records")):
        if not may_be_seen(row, rule, visible, without):
            with pytest.raises(LeakError):
                data.images([index])
            continue
        assert np.array_equal(data.images([index])[0], store.images[index])
        if index not in learned:
            with pytest.raises(LeakError):
                data.labels([index])
            continue
        kind = "propagated" if row["kind"] == "propagated" else "own"
        assert np.array_equal(data.labels([index])[0], regions[kind][index, 4:20, 4:20])


def test_own_and_propagated_labels_of_one_batch_stay_apart(store):
    own, propagated = store.regions("own"), store.regions("propagated")
    data = TrainingData(store, Roles((SOURCE,), (TARGET,)), labels="propagated")
    rows = np.random.default_rng(0).permutation(data.labelled())
    by_rule = np.where((store.table["kind"].to_numpy() == "propagated")[rows, None, None], propagated[rows], own[rows])
    assert np.array_equal(data.labels(rows), by_rule[:, 4:20, 4:20])
    windows = np.tile([2, 1, 16], (len(rows), 1))
    assert np.array_equal(data.labels(rows, windows), by_rule[:, 1:17, 2:18])


def test_pixels_do_not_travel_with_it(store):
    data = TrainingData(store, Roles((SOURCE,), (TARGET,)))
    before = len(pickle.dumps(data))
    data.images(data.labelled()), data.labels(data.labelled())
    assert len(pickle.dumps(data)) < before + 2000
