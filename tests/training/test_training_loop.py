"""The loop: every strategy takes its steps, sees nothing it may not, and gives the same bytes twice."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from blob_cohort import make_data, make_job
from safetensors.torch import load_file

from stainda.config import available, load_strategy
from stainda.errors import LeakError, TrainingError
from stainda.strategies import build
from stainda.strategies.detector import Detector
from stainda.strategies.norm.statistics import load_statistics
from stainda.training import TrainingResult, read_result, train_on
from stainda.training.chosen_patches import choose_patches

TARGETS = ("SR@A", "JONES@A")


def _job(name="source_only", targets=TARGETS, **more):
    return make_job(load_strategy(name).model_dump(), targets=targets, **more)


class Watched:
    """A data layer that keeps what was asked of it."""

    def __init__(self, data):
        self._data, self.images_of, self.labels_of = data, set(), set()

    def __getattr__(self, name):
        return getattr(self._data, name)

    def images(self, indices, windows=None):
        self.images_of |= set(np.asarray(indices).tolist())
        return self._data.images(indices, windows)

    def labels(self, indices, windows=None):
        self.labels_of |= set(np.asarray(indices).tolist())
        return self._data.labels(indices, windows)


SEGMENTS = [name for name in sorted(available("strategies")) if "segmentation" in build(load_strategy(name)).tasks]
"""The others: tests/training/test_classification_training.py."""


@pytest.mark.parametrize("name", SEGMENTS)
def test_every_strategy_trains_and_reads_only_what_it_may(name, tmp_path):
    job = _job(name, epochs=1, steps_per_epoch=2)
    if build(job.strategy).align.grouping == "domain":  # there is one source here; its patients are groups too
        job = replace(job, strategy=job.strategy.with_values({"align.groups": "patient"}))
    data = Watched(make_data(job, per_slide=4))
    result = train_on(job, data, tmp_path)
    assert isinstance(result, TrainingResult) and result.steps == 2 and np.isfinite(result.score)
    assert read_result(tmp_path) == result
    strategy, table = build(job.strategy), data.table
    kinds = set(table.loc[sorted(data.labels_of), "kind"])
    beside = {"propagated": {"propagated"}, "all": {"oracle"}, "few_shot": {"oracle"}}
    assert kinds == {"labelled"} | beside.get(strategy.labels.rule, set())
    seen = set(table.loc[sorted(data.images_of), "domain"])
    uses_targets = strategy.align.needs_targets or strategy.labels.uses_targets or strategy.norm.by_domain
    uses_targets |= any(part.needs_targets for part in strategy.augment)
    assert seen == ({"PAS@A", *TARGETS} if uses_targets else {"PAS@A"})
    Detector.load(tmp_path, json.loads((tmp_path / "settings.json").read_text()))


def test_target_labels_cannot_be_read_at_all():
    data = make_data(_job("dann"))
    for index in data.unlabelled()[:1], np.flatnonzero(data.table["kind"] == "oracle")[:1]:
        with pytest.raises(LeakError):
            data.labels(index)


def test_labels_of_the_targets_change_nothing(tmp_path):
    """The proof by experiment: with every target label turned around, the trained bytes are the same."""
    files = []
    for turned in (False, True):
        job = _job("dann", epochs=1, steps_per_epoch=2)
        data = make_data(job, per_slide=4)
        if turned:
            target = (data.table["domain"] != "PAS@A").to_numpy()
            data.store._own[target] = 1 - data.store._own[target]
        folder = tmp_path / str(turned)
        train_on(job, data, folder)
        files.append((folder / "model.safetensors").read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize("name", ["source_only", "dann"])
def test_the_same_job_gives_the_same_bytes(name, tmp_path):
    written = []
    for run, seed in enumerate((1, 1, 2)):
        job = _job(name, seed=seed, epochs=2, steps_per_epoch=2)
        torch.manual_seed(run)  # what else draws in this process does not matter
        train_on(job, make_data(job, per_slide=4), tmp_path / str(run))
        written.append((tmp_path / str(run) / "model.safetensors").read_bytes())
    assert written[0] == written[1] != written[2]


def test_training_leaves_torch_as_it_was(tmp_path):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    job = _job(epochs=1, steps_per_epoch=1, threads=2)
    train_on(job, make_data(job, per_slide=4), tmp_path)
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads


def test_strategies_with_one_seed_start_from_the_same_network_and_source_batches(tmp_path):
    """A term of weight 0 next to the loss leaves the weights of AdaBN, which trains as source only does."""
    weights = {}
    for name, strategy in {
        "adabn": {"norm": "per_domain"},
        "dann0": {"norm": "per_domain", "align": {"name": "dann", "weight": 0.0}},
        "source": {"norm": "shared"},
        "dann": {"norm": "per_domain", "align": {"name": "dann", "weight": 0.5, "schedule": "constant"}},
        "warm": {"norm": "per_domain", "align": {"name": "dann", "weight": 0.9, "schedule": "warm_up"}},
    }.items():
        job = make_job(strategy, epochs=1, steps_per_epoch=4)
        train_on(job, make_data(job, per_slide=4), tmp_path / name)
        weights[name] = load_file(tmp_path / name / "last.safetensors")
    for key, value in weights["adabn"].items():
        if "running" not in key and "tracked" not in key:
            assert torch.equal(value, weights["dann0"][key]) and torch.equal(value, weights["source"][key]), key
    convolution = next(key for key, value in weights["adabn"].items() if value.dim() == 4)
    for name in ("dann", "warm"):  # also while the weight is below 1: the integer trap
        assert not torch.equal(weights[name][convolution], weights["adabn"][convolution])


def test_statistics_are_kept_for_each_domain_that_was_seen(tmp_path):
    for visible, domains in (("targets", {"PAS@A", *TARGETS}), ("nothing", {"PAS@A"})):
        job = _job("adabn", visible=visible, epochs=1, steps_per_epoch=2)
        train_on(job, make_data(job, per_slide=4), tmp_path / visible)
        found = load_statistics(tmp_path / visible / "statistics.safetensors")
        assert set(found) == domains
    first = next(iter(found["PAS@A"]))
    kept = load_statistics(tmp_path / "targets" / "statistics.safetensors")
    assert not torch.allclose(kept["PAS@A"][first], kept["SR@A"][first], atol=1e-3)
    assert "per domain" in read_result(tmp_path / "targets").norm


def test_each_checkpoint_has_the_statistics_of_its_own_weights(tmp_path):
    job = _job("adabn", epochs=2, steps_per_epoch=4)
    train_on(job, make_data(job, per_slide=4), tmp_path)
    settings = json.loads((tmp_path / "settings.json").read_text())
    best, last = (Detector.load(tmp_path, settings, name) for name in ("best", "last"))
    assert set(best.statistics) == set(last.statistics) == {"PAS@A", *TARGETS}
    deep = list(best.statistics["SR@A"])[-1]
    same_weights = (tmp_path / "model.safetensors").read_bytes() == (tmp_path / "last.safetensors").read_bytes()
    assert same_weights or not torch.equal(best.statistics["SR@A"][deep], last.statistics["SR@A"][deep])


def test_every_epoch_is_a_row_and_a_score_told(tmp_path):
    told = []
    job = _job("mmd", epochs=3, steps_per_epoch=2)
    result = train_on(job, make_data(job, per_slide=4), tmp_path, on_epoch=lambda *pair: told.append(pair))
    rows = list(csv.DictReader((tmp_path / "training.csv").open()))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3] == [epoch for epoch, _ in told]
    assert [int(row["step"]) for row in rows] == [2, 4, 6]
    assert {"loss_task", "loss_mmd", "val_dice", "seconds"} <= set(rows[0])
    scores = [score for _, score in told]
    assert result.best_epoch == 1 + int(np.argmax(scores))


def test_patience_stops_training_that_does_not_get_better(tmp_path):
    job = _job(epochs=60, steps_per_epoch=1, learning_rate=1e-12, patience=2)  # running statistics settle first
    result = train_on(job, make_data(job, per_slide=4), tmp_path)
    assert result.epochs < 60 and "no better score" in (tmp_path / "log.txt").read_text()


def test_a_pruned_trial_ends_without_a_result(tmp_path):
    class Pruned(Exception):
        pass

    def prune(epoch, score):
        raise Pruned

    job = _job()
    with pytest.raises(Pruned):
        train_on(job, make_data(job, per_slide=4), tmp_path, on_epoch=prune)
    assert read_result(tmp_path) is None and (tmp_path / "training.csv").exists()


def test_a_loss_that_is_not_a_number_ends_the_job_with_its_step_and_term(tmp_path):
    job = _job(epochs=4, steps_per_epoch=4, learning_rate=1e30, optimiser="sgd")
    with pytest.raises(TrainingError, match=r"step \d+: the loss term 'task' is not a number") as caught:
        train_on(job, make_data(job, per_slide=4), tmp_path)
    assert "learning_rate" in str(caught.value) and read_result(tmp_path) is None
    assert "not a number" in (tmp_path / "log.txt").read_text()


def test_a_source_without_objects_is_refused(tmp_path):
    job = _job()
    data = make_data(job, per_slide=4)
    data.store._own[:] = 0
    with pytest.raises(TrainingError, match="none of the 12 source training patches shows glomerulus"):
        train_on(job, data, tmp_path)


@pytest.mark.parametrize("loss", ["cross_entropy", "dice", "focal"])
@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_losses_and_networks_combine(loss, norm, tmp_path):
    params = {"depth": 3, "width": 4, "norm": norm}
    job = _job("adabn", model=params, loss=loss, epochs=1, steps_per_epoch=2)
    result = train_on(job, make_data(job, per_slide=4), tmp_path)
    assert ("no batch normalisation" in result.norm) == (norm != "batch")


def test_a_network_without_padding_learns_from_the_middle_of_its_patches(tmp_path):
    params = {"depth": 2, "width": 4, "padding": "valid"}
    job = _job("dann", model=params, epochs=1, steps_per_epoch=2)
    assert train_on(job, make_data(job, per_slide=4), tmp_path).steps == 2


def test_fewer_patches_validate_each_epoch_and_all_of_them_at_the_end(tmp_path):
    chosen = {}
    for count in (None, 10, 8):
        job = _job(validation_patches=count)
        chosen[count] = choose_patches(job, build(job.strategy), make_data(job))
    assert [len(chosen[count].validation_each_epoch) for count in (10, 8)] == [10, 8]
    every = set(chosen[None].validation_each_epoch.tolist())
    assert set(chosen[8].validation_each_epoch.tolist()) < set(chosen[10].validation_each_epoch.tolist()) < every
    assert all((one.validation == chosen[None].validation).all() for one in chosen.values())
    names = {_job(validation_patches=count).hash for count in (None, 10, 8)}
    assert len(names) == 3 and _job().hash in names
    watched, job = Watched(make_data(_job())), _job(validation_patches=8)
    train_on(job, watched, tmp_path)
    assert set(chosen[None].validation.tolist()) <= watched.images_of, "thresholds are fixed on all"
