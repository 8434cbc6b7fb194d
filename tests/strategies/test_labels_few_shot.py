"""A few annotations of targets: exactly those, by the seed, and no others."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "training"))
from blob_cohort import BlobStore, make_data, make_job

from stainda.cohort import Roles
from stainda.config import PatchConfig, ProtocolConfig, StudyConfig, load_strategy
from stainda.errors import ConfigError, LeakError
from stainda.patches import TrainingData
from stainda.patches.few_shot import FewShot
from stainda.strategies import build, check

ROLES = Roles(("PAS@A",), ("SR@A", "JONES@A"))


@pytest.fixture(scope="module")
def store():
    return BlobStore(ROLES.sources, ROLES.targets, per_slide=6)


def _seen(store, **few):
    return TrainingData(store, ROLES, "few_shot", few_shot=FewShot(**few))


def _of_targets(data):
    table, rows = data.table, data.labelled("train")
    return rows[table["domain"].iloc[rows].isin(ROLES.targets).to_numpy(bool)]


@pytest.mark.parametrize("k", [1, 5, 18])
def test_exactly_k_patches_of_every_target_domain(store, k):
    data = _seen(store, k=k, unit="patches", seed=1)
    rows = data.table.iloc[_of_targets(data)]
    assert rows["domain"].value_counts().to_dict() == {"SR@A": k, "JONES@A": k}
    assert set(rows["kind"]) == {"oracle"} and set(rows["split"]) == {"train"}
    source = set(TrainingData(store, ROLES).labelled("train"))
    assert set(data.labelled("train")) == source | set(_of_targets(data))
    assert set(data.table["domain"].iloc[data.labelled("val")]) == {"PAS@A"}


def test_all_patches_of_k_patients_the_same_ones_in_every_domain(store):
    data = _seen(store, k=2, unit="patients", seed=1)
    rows = data.table.iloc[_of_targets(data)]
    by_domain = rows.groupby("domain")["patient"].agg(lambda one: tuple(sorted(set(one))))
    assert len(set(by_domain)) == 1 and len(by_domain.iloc[0]) == 2
    assert len(rows) == 2 * 2 * 6


def test_the_seed_chooses_and_what_is_on_the_patches_does_not(store):
    first, again, other = (_of_targets(_seen(store, k=4, unit="patches", seed=seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    blind = BlobStore(ROLES.sources, ROLES.targets, per_slide=6, seed=9)  # other patches and labels, the same table
    blind.table["around"], blind.table["n_objects"] = "object", 3
    assert np.array_equal(first, _of_targets(_seen(blind, k=4, unit="patches", seed=1)))


def test_other_target_labels_are_refused(store):
    data = _seen(store, k=3, unit="patches", seed=1)
    mine = _of_targets(data)
    assert data.labels(mine).max() <= 1 and data.images(mine).dtype == np.uint8
    oracle = np.flatnonzero((data.table["kind"] == "oracle").to_numpy(bool))
    others = np.setdiff1d(oracle, mine)
    for row in others:
        with pytest.raises(LeakError):
            data.labels(row)
        with pytest.raises(LeakError):
            data.images(row)
    for kind in ("unlabelled", "propagated"):
        some = np.flatnonzero((data.table["kind"] == kind).to_numpy(bool))[:1]
        with pytest.raises(LeakError):
            data.labels(some)


def test_without_enough_annotations_or_visible_targets_it_is_refused(store):
    with pytest.raises(ConfigError, match=r"ask for 19 patches of target SR@A.*18 annotated patches.*18 at most"):
        _seen(store, k=19, unit="patches", seed=1)
    with pytest.raises(ConfigError, match="3 annotated patients"):
        _seen(store, k=4, unit="patients", seed=1)
    with pytest.raises(ConfigError, match="few_shot labels lie on target slides"):
        TrainingData(store, ROLES, "few_shot", "nothing", few_shot=FewShot(1, "patches", 1))
    with pytest.raises(ConfigError, match="go together"):
        TrainingData(store, ROLES, "few_shot")
    config = load_strategy("few_shot")
    protocol = ProtocolConfig(sources=("PAS@A",), visible="nothing")
    study = StudyConfig(
        study="s", phantom={}, patches=PatchConfig(downsample=1), strategies=(config,), protocol=protocol
    )
    with pytest.raises(ConfigError, match="few-shot labels lie on target images"):
        check(build(config), study)


def test_it_is_told_from_methods_without_target_labels():
    few, plain, ceiling = (build(load_strategy(name)) for name in ("few_shot", "source_only", "oracle"))
    assert few.may_see_target_truth and ceiling.may_see_target_truth and not plain.may_see_target_truth
    assert few.labels.statement == "annotations of the source, and of 8 patches of every target domain"


def test_training_draws_by_its_own_seed():
    seen = []
    for seed in (1, 2):
        job = make_job({"labels": {"name": "few_shot", "k": 2}}, seed=seed)
        data = make_data(job, per_slide=4)
        table, rows = data.table, data.labelled("train")
        seen.append(tuple(rows[(table["domain"].iloc[rows] == "SR@A").to_numpy(bool)]))
    assert [len(one) for one in seen] == [2, 2] and seen[0] != seen[1]
