"""Trainings in which not all parameters learn: what moves, what is kept, and that prediction gives the same."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from blob_cohort import make_data, make_job
from safetensors.torch import load_file

from stainda.config import ModelConfig, load_strategy
from stainda.errors import ConfigError
from stainda.strategies import build
from stainda.strategies.detector import Detector
from stainda.training import loop, read_result, resolve_start, train_on
from stainda.training.machine import RATE
from stainda.training.preparation import Preparation

MODES = ("head", {"mode": "head", "adapter": 4}, {"mode": "last_n", "blocks": 1}, {"mode": "lora", "rank": 2})
INSIDE = ("encoder.", "bottleneck.")


def _job(train, strategy="source_only", **training):
    return make_job(load_strategy(strategy).model_dump(), train=train, **training)


def _learns(key, train):
    mode = train if isinstance(train, str) else train["mode"]
    behind = not key.startswith(INSIDE) or ".adapter." in key
    return behind or (mode == "last_n" and key.startswith("bottleneck.")) or (mode == "lora" and key.endswith("weight"))


@pytest.mark.parametrize("train", MODES, ids=str)
@pytest.mark.parametrize("strategy", ["source_only", "adabn", "reestimated"])
def test_frozen_layers_are_the_same_after_training_and_at_prediction(train, strategy, tmp_path):
    job = _job(train, strategy)
    start = Preparation(job, build(job.strategy), make_data(job, per_slide=4)).detector.network.state_dict()
    train_on(job, make_data(job, per_slide=4), tmp_path)
    for file in ("model.safetensors", "last.safetensors"):
        kept = load_file(tmp_path / file)
        assert not any("parametrizations" in key for key in kept)
        for key, value in kept.items():
            before = start.get(key, start.get(key.replace(".weight", ".parametrizations.weight.original")))
            if not _learns(key, train):
                assert torch.equal(value, before), key  # running statistics among them
    moved = {key for key, value in kept.items() if key in start and not torch.equal(value, start[key])}
    assert moved
    saved = load_file(tmp_path / "last_statistics.safetensors")
    names = {key.rpartition("|")[2].rpartition(".")[0] for key in saved}
    mode = train if isinstance(train, str) else train["mode"]
    still = ("encoder.",) if mode == "last_n" else INSIDE
    assert not any(name.startswith(still) for name in names), "no statistics per domain of what is frozen"
    if strategy == "adabn":
        assert names, "and those of the rest are there"
    result = read_result(tmp_path)
    assert 0 < result.n_trained < result.n_parameters


@pytest.mark.parametrize("train", MODES, ids=str)
def test_a_loaded_detector_gives_what_the_training_judged(train, tmp_path, monkeypatch):
    seen = {}
    judged = loop.validate

    def keep(detector, data, origins, indices, **more):
        found = judged(detector, data, origins, indices, **more)
        statistics = detector.statistics.get("PAS@A")
        seen["last"] = detector.probabilities(data.images(np.arange(4)), ["a"] * 4, statistics)
        return found

    monkeypatch.setattr(loop, "validate", keep)
    job = _job(train, "adabn")
    train_on(job, make_data(job, per_slide=4), tmp_path)
    detector = Detector.load(tmp_path, json.loads((tmp_path / "settings.json").read_text()), "best")
    images = make_data(job, per_slide=4).images(np.arange(4))
    again = detector.probabilities(images, ["a"] * 4, detector.statistics["PAS@A"])
    torch.testing.assert_close(again, seen["last"])  # the best checkpoint is validated last


def test_a_frozen_encoder_is_as_in_evaluation_while_the_rest_trains():
    job = _job("head", "adabn")
    made = Preparation(job, build(job.strategy), make_data(job, per_slide=4))
    network = made.detector.network
    network.train()
    assert network.training and network.head.training and network.decoder.training
    assert not network.encoder.training and not network.bottleneck.training
    assert set(made.by_domain._start), "the decoder's batch statistics are kept per domain"
    learning = [name for name, one in network.named_parameters() if one.requires_grad]
    assert learning and not any(name.startswith(INSIDE) for name in learning)
    assert sum(len(group["params"]) for group in made.optimiser.param_groups) == len(learning)


@pytest.mark.parametrize("settings", [{"train": "lora", "averaging": 0.9}, {"train": "head"}], ids=str)
def test_an_interrupted_training_ends_in_the_same_bytes(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "EVERY_SECONDS", 0.0)

    class Cut(Exception):
        pass

    def stop(epoch, score):
        if epoch == 2:
            raise Cut

    job = make_job(load_strategy("source_only").model_dump(), epochs=3, steps_per_epoch=2, **settings)
    train_on(job, make_data(job, per_slide=4), tmp_path / "whole")
    with pytest.raises(Cut):
        train_on(job, make_data(job, per_slide=4), tmp_path / "cut", on_epoch=stop)
    train_on(job, make_data(job, per_slide=4), tmp_path / "cut")
    assert "goes on after epoch 1" in (tmp_path / "cut" / "log.txt").read_text()
    for file in ("model.safetensors", "last.safetensors", "statistics.safetensors"):
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file


def test_an_alignment_of_what_cannot_move_is_refused():
    job = _job("head", "dann")
    with pytest.raises(ConfigError, match="before which nothing learns") as raised:
        Preparation(job, build(job.strategy), make_data(job, per_slide=4))
    assert "layer to decoder" in raised.value.remedy
    for train in ({"mode": "head", "adapter": 4}, "lora", "all"):
        job = _job(train, "dann")
        Preparation(job, build(job.strategy), make_data(job, per_slide=4))


@pytest.mark.parametrize("strategy", ["swad", "mean_teacher", "mcd", "vat", "irm", "adda", "gvb", "tent", "mixstyle"])
def test_strategies_with_networks_of_their_own_train_beside_low_rank_changes(strategy, tmp_path):
    sources = ("PAS@A", "JONES@A") if strategy == "irm" else ("PAS@A",)
    job = make_job(load_strategy(strategy).model_dump(), train="lora", epochs=1, steps_per_epoch=2, sources=sources)
    train_on(job, make_data(job, per_slide=4), tmp_path)
    Detector.load(tmp_path, json.loads((tmp_path / "settings.json").read_text()), "last")


def test_the_optimiser_has_a_rate_for_every_block_of_the_encoder():
    job = make_job(layer_decay=0.5)
    groups = Preparation(job, build(job.strategy), make_data(job, per_slide=4)).optimiser.param_groups
    network = Preparation(job, build(job.strategy), make_data(job, per_slide=4)).detector.network
    sizes = {group[RATE]: sum(one.numel() for one in group["params"]) for group in groups}
    wanted = {0.5: network.bottleneck, 0.25: network.encoder[1], 0.125: network.encoder[0]}
    for factor, module in wanted.items():
        assert sizes[factor] == sum(parameter.numel() for parameter in module.parameters())
    assert sizes[1.0] == sum(one.numel() for one in (*network.decoder.parameters(), *network.head.parameters()))


def test_names_of_trainings_that_use_none_of_it_stay():
    assert make_job().hash == "10b823b1ee79", "as before there was training.train, or ALGORITHM was raised"
    assert make_job(train="all", layer_decay=None, start="weights", compile=False).hash == make_job().hash
    others = [make_job(train=one).hash for one in ("all", *MODES, "last_n")] + [make_job(layer_decay=0.9).hash]
    assert len(set(others)) == len(others)


def test_a_random_start_is_the_training_of_a_model_without_weights(tmp_path):
    file = tmp_path / "own.safetensors"
    file.write_bytes(b"something")
    plain = ModelConfig(name="unet", params={"depth": 3, "width": 8})
    model = plain.model_copy(update={"weights": file})
    given, random = make_job(), make_job(start="random")
    assert resolve_start(model, given.training) is model
    changed = type(random)(**{**vars(random), "model": resolve_start(model, random.training)})
    assert changed.model == plain and changed.hash == given.hash
    assert type(given)(**{**vars(given), "model": model}).hash != given.hash
