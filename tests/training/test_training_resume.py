"""A training that was cut off goes on and ends in the same bytes."""

import json

import numpy as np
import pytest
import torch
from blob_cohort import make_data, make_job

from stainda.config import load_strategy
from stainda.training import loop, read_result, train_on
from stainda.training.resume import REST, TENSORS

FILES = ("model.safetensors", "last.safetensors", "statistics.safetensors", "last_statistics.safetensors", "view.json")


class Cut(Exception):
    """The power fails."""


def _job(name, **more):
    return make_job(load_strategy(name).model_dump(), epochs=4, steps_per_epoch=2, **more)


def _cut_after(epochs):
    def stop(epoch, score):
        if epoch == epochs + 1:  # the epoch after the one that was kept
            raise Cut

    return stop


@pytest.mark.parametrize(
    ("name", "settings"),
    [("source_only", {}), ("source_only", {"averaging": 0.9}), ("serial_dann", {}), ("mean_teacher", {}), ("swad", {})],
)
def test_an_interrupted_training_ends_as_if_nothing_had_happened(name, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "EVERY_SECONDS", 0.0)
    job = _job(name, **settings)
    train_on(job, make_data(job, per_slide=4, margin=12), tmp_path / "whole")
    assert not (tmp_path / "whole" / REST).exists(), "nothing is left behind"
    with pytest.raises(Cut):
        train_on(job, make_data(job, per_slide=4, margin=12), tmp_path / "cut", on_epoch=_cut_after(2))
    assert json.loads((tmp_path / "cut" / REST).read_text())["epoch"] == 2 and read_result(tmp_path / "cut") is None
    torch.manual_seed(99)
    told = []
    train_on(job, make_data(job, per_slide=4, margin=12), tmp_path / "cut", on_epoch=lambda *pair: told.append(pair))
    assert [epoch for epoch, _ in told] == [1, 2, 3, 4], "a pruner hears of the epochs before, too"
    assert "goes on after epoch 2" in (tmp_path / "cut" / "log.txt").read_text()
    for file in FILES:
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file
    whole, cut = (read_result(tmp_path / folder) for folder in ("whole", "cut"))
    for field in ("score", "thresholds", "last_thresholds", "best_epoch", "epochs", "steps"):
        assert getattr(whole, field) == getattr(cut, field), field
    assert not (tmp_path / "cut" / TENSORS).exists()


def test_a_state_of_another_job_or_a_damaged_one_is_not_taken_up(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "EVERY_SECONDS", 0.0)
    job = _job("source_only")
    with pytest.raises(Cut):
        train_on(job, make_data(job, per_slide=4), tmp_path, on_epoch=_cut_after(2))
    blob = bytearray((tmp_path / TENSORS).read_bytes())
    blob[-1] ^= 1
    (tmp_path / TENSORS).write_bytes(bytes(blob))
    told = []
    with pytest.raises(Cut):
        train_on(job, make_data(job, per_slide=4), tmp_path, on_epoch=lambda *pair: told.append(pair) or _stop(pair))
    assert told[0][0] == 1 and "goes on" not in (tmp_path / "log.txt").read_text()
    other = _job("source_only", seed=7)
    train_on(other, make_data(other, per_slide=4), tmp_path)
    assert "goes on" not in (tmp_path / "log.txt").read_text()
    train_on(other, make_data(other, per_slide=4), tmp_path / "alone")
    assert (tmp_path / "last.safetensors").read_bytes() == (tmp_path / "alone" / "last.safetensors").read_bytes()


def _stop(pair):
    if pair[0] == 2:
        raise Cut


def test_short_trainings_write_no_state(tmp_path):
    job = _job("source_only")
    seen = []
    train_on(job, make_data(job, per_slide=4), tmp_path, on_epoch=lambda *_: seen.append((tmp_path / REST).exists()))
    assert not np.any(seen)
