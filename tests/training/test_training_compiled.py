"""``training.compile``: the training stays the same, a pass that cannot be compiled says so, and nothing else knows."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from blob_cohort import make_data, make_job
from safetensors.torch import load_file
from test_training_instances import job_of
from torch._dynamo.utils import counters
from touching_cohort import touching_data

from stainda.config import load_strategy
from stainda.errors import ConfigError, TrainingError
from stainda.progress import SILENT
from stainda.strategies import build
from stainda.strategies.capture import changing
from stainda.strategies.detector import Detector
from stainda.training import compiled, compiling, loop, train_on
from stainda.training.log import TrainingLog
from stainda.training.machine import torch_for
from stainda.training.metering import Clock, Meter
from stainda.training.preparation import Preparation

NAMES = (
    "source_only", "dann", "adabn", "groupnorm", "serial_dann", "feature_mask_adversarial", "sagnet", "vat", "irm",
    "learncolour",
)  # fmt: skip
"""Plain; a layer read and a pass that ends there; statistics per domain; several layers; a layer changed for one pass;
a pass of the part's own; a gradient that is differentiated; a hook of the view."""

MEASURED = 2


@pytest.fixture(autouse=True)
def _fresh(request, monkeypatch):
    """Graphs of torch's compiler are run by its automatic differentiation alone, which takes no C++ compiler."""
    if "slow" not in request.keywords:
        monkeypatch.setattr(compiled, "BACKEND", "aot_eager")
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


def _job(name="source_only", **settings):
    settings = {"epochs": 1, "steps_per_epoch": 14, "batch_size": 8, "optimiser": "sgd", "averaging": None, **settings}
    given = name if isinstance(name, dict) else load_strategy(name).model_dump()
    return make_job(given, sources=("PAS@A", "JONES@A"), **settings)


def _steps(job, folder, data=None, count=4):
    """What the network and the part's own ones hold after a few steps, and the record of the measured one."""
    data = make_data(job, per_slide=4) if data is None else data
    with torch_for(job.training), Meter() as meter:
        prepared = Preparation(job, build(job.strategy), data)
        training = loop.TrainingLoop(prepared, TrainingLog(folder), Clock(meter), SILENT, None)
        training._measured = frozenset([MEASURED])
        prepared.detector.network.train()
        prepared.modules.train()
        torch.manual_seed(3)
        for index in range(count):
            training._step(index, 14)
        values = {**prepared.detector.network.state_dict(), **prepared.modules.state_dict()}
        if prepared.by_domain is not None:
            values |= {f"{domain}{key}": value for domain, kept in prepared.by_domain.kept.items()
                       for key, value in kept.items()}  # fmt: skip
        return {key: value.clone() for key, value in values.items()}, training._log._effect


def _compiled(job):
    return replace(job, training=job.training.model_copy(update={"compile": True}))


def _graphs():
    return counters["stats"]["unique_graphs"]


@pytest.mark.parametrize("name", NAMES)
def test_steps_are_those_without_compiling(name, tmp_path):
    job = _job(name)
    plain, effects = _steps(job, tmp_path)
    assert not _graphs()
    values, also = _steps(_compiled(job), tmp_path)
    assert 1 <= _graphs() <= 6 and list(values) == list(plain)
    for key, value in plain.items():
        torch.testing.assert_close(values[key], value, rtol=1e-4, atol=5e-6, msg=lambda text, key=key: f"{key}: {text}")
    ratios = [[row["gradient_ratio"] for row in rows] for rows in (effects, also)]
    assert ratios[0] == pytest.approx(ratios[1], rel=1e-3) and bool(ratios[0]) == bool(ratios[1])


def test_layers_of_which_objects_are_made_are_read_from_compiled_passes(tmp_path):
    job = job_of("distance", optimiser="sgd")
    plain, _ = _steps(job, tmp_path, touching_data(job, count=16))
    values, _ = _steps(_compiled(job), tmp_path, touching_data(job, count=16))
    assert _graphs() == 1
    for key, value in plain.items():
        torch.testing.assert_close(values[key], value, rtol=1e-4, atol=5e-6)


def test_a_layer_that_is_changed_for_one_pass_is_changed_and_a_pass_that_ends_early_leaves_the_rest_alone():
    job = _compiled(_job("dann"))
    made = Preparation(job, build(job.strategy), make_data(job, per_slide=4))
    network = made.detector.network.train()
    images = made.passes.plain(made.chosen.train[:4])
    before = made.forward(images)
    with changing(network, "bottleneck", torch.zeros_like):
        changed = made.forward(images)
    assert not torch.allclose(changed, before, atol=1e-3)
    assert _graphs() == 1 and torch.allclose(made.forward(images), before, atol=1e-5)
    kept = {name: value.clone() for name, value in network.named_buffers()}
    features = made.passes._running.until(images)
    moved = {name for name, value in network.named_buffers() if not torch.equal(value, kept[name])}
    assert _graphs() == 2 and features.shape[:2] == (4, 32)
    assert moved and all(name.startswith(("encoder.", "bottleneck.")) for name in moved)


def test_batches_of_other_sizes_validation_and_scores_compile_nothing_more(tmp_path):
    job = _compiled(_job(epochs=2, steps_per_epoch=2))
    train_on(job, make_data(job, per_slide=5), tmp_path)
    assert _graphs() == 1, "validation, in batches of all sizes, runs the network as it is"
    counters.clear()
    made = Preparation(job, build(job.strategy), make_data(job, per_slide=4))
    images = made.passes.plain(made.chosen.train[:8])
    for count in (8, 5, 3, 7, 6, 4):
        made.forward(images[:count])
    assert _graphs() == 2, "of one size, then of any"


def test_checkpoints_know_nothing_of_it(tmp_path):
    job = _job("adabn", averaging=0.9, epochs=2, steps_per_epoch=3)
    for name, one in (("plain", job), ("compiled", _compiled(job))):
        train_on(one, make_data(one, per_slide=4), tmp_path / name)
    assert _graphs()
    detectors = []
    for file in ("model.safetensors", "last.safetensors"):
        plain, other = (load_file(tmp_path / name / file) for name in ("plain", "compiled"))
        assert list(plain) == list(other)
        for key, value in plain.items():
            torch.testing.assert_close(other[key], value, rtol=1e-3, atol=1e-4)
    for name in ("plain", "compiled"):
        settings = json.loads((tmp_path / name / "settings.json").read_text())
        detectors.append(Detector.load(tmp_path / name, settings, "last"))
    images = make_data(job, per_slide=4).images([0, 1, 2])
    one, two = (each.probabilities(images, ["a"] * 3, each.statistics["PAS@A"]) for each in detectors)
    torch.testing.assert_close(one, two, rtol=1e-2, atol=1e-3)


def test_an_interrupted_training_ends_as_if_nothing_had_happened(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "EVERY_SECONDS", 0.0)
    job = _compiled(_job("adabn", averaging=0.9, epochs=3, steps_per_epoch=2))

    def cut(epoch, score):
        if epoch == 3:
            raise KeyboardInterrupt

    train_on(job, make_data(job, per_slide=4), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_on(job, make_data(job, per_slide=4), tmp_path / "cut", on_epoch=cut)
    train_on(job, make_data(job, per_slide=4), tmp_path / "cut")
    assert "goes on after epoch 2" in (tmp_path / "cut" / "log.txt").read_text()
    for file in ("model.safetensors", "last.safetensors", "last_statistics.safetensors"):
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file


def test_the_name_of_a_training_says_so():
    assert _job(compile=False).hash == _job().hash != _job(compile=True).hash


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("mixstyle", {}, "draws inside the network"),
        ("mldg", {}, "align mldg differentiates a gradient"),
        ("source_only", {"devices": 2}, r"training\.devices is 2"),
        ("source_only", {"train": "head", "cache": {"views": 2}}, r"training\.cache"),
        ("source_only", {}, "network cnn_handcrafted measures images outside torch"),
    ],
)
def test_what_cannot_be_compiled_is_refused(name, settings, reason):
    job = _job(name, compile=True, **settings)
    network = "cnn_handcrafted" if reason.startswith("network") else "unet"
    with pytest.raises(ConfigError, match=rf"training\.compile is true, and .*{reason}") as error:
        compiling.refuse_what_cannot_be_compiled(job.training, build(job.strategy), network)
    assert f"strategy {name}" in str(error.value) and "training.compile to false" in str(error.value)
    compiling.refuse_what_cannot_be_compiled(_job(name, **settings).training, build(job.strategy), network)


def test_a_missing_compiler_is_named_before_the_first_step(tmp_path, monkeypatch):
    job = _job(compile=True)
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    with pytest.raises(ConfigError, match=r"no C\+\+ compiler \(no-such-compiler\)") as error:
        Preparation(job, build(job.strategy), make_data(job, per_slide=4))
    assert "variable CXX" in str(error.value)
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"no C\+\+ compiler"):
        compiling.refuse_without_compiler("cpu")
    with pytest.raises(ConfigError, match=r"no C compiler \(gcc or clang or cc\)"):
        compiling.refuse_without_compiler("cuda")
    monkeypatch.setenv("CC", str(_program(tmp_path / "cc")))
    monkeypatch.setattr(compiling.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="Triton"):
        compiling.refuse_without_compiler("cuda")


def _program(path):
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_a_network_that_cannot_be_compiled_ends_the_training_with_the_reason(tmp_path):
    job = _compiled(_job())
    with torch_for(job.training), Meter() as meter:
        made = Preparation(job, build(job.strategy), make_data(job, per_slide=4))
        network = made.detector.network
        answer = network.answer
        network.answer = lambda maps: answer(maps) if maps[0].mean() > 0 else -answer(maps)  # it depends on the images
        training = loop.TrainingLoop(made, TrainingLog(tmp_path), Clock(meter), SILENT, None)
        with pytest.raises(TrainingError, match=r"torch\.compile failed: \w+ .*ata-dependent") as error:
            training.take_steps()
    assert "Set training.compile to false" in str(error.value)


@pytest.mark.slow
def test_with_the_compiler_itself_steps_are_the_same_and_the_same_each_time(tmp_path):
    job = _job("dann")
    plain, _ = _steps(job, tmp_path)
    first, effects = _steps(_compiled(job), tmp_path)
    torch.compiler.reset()
    again, _ = _steps(_compiled(job), tmp_path)
    assert effects, "a step whose graph is walked three times"
    for key, value in plain.items():
        torch.testing.assert_close(first[key], value, rtol=1e-3, atol=1e-4, msg=lambda text, key=key: f"{key}: {text}")
        assert torch.equal(first[key], again[key]), key
