"""Heads trained on features of a frozen encoder that were computed once."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from blob_cohort import make_data, make_job
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import nn

from stainda.config import ModelConfig, PartConfig, TaskConfig, TrainingConfig, available, load_piece, load_strategy
from stainda.errors import ConfigError, TrainingError
from stainda.files import stable_hash
from stainda.models import build_model
from stainda.models.cnn import Cnn
from stainda.strategies import build
from stainda.strategies.align.base import Batch, Site, Step
from stainda.strategies.detector import Detector
from stainda.training import feature_cache, train_on
from stainda.training.feature_cache import features_folder
from stainda.training.preparation import Preparation

CLASSES = TaskConfig(kind="classification", classes=("glomerulus",), centre=0.25, covered=0.3, clear=0.2)
CNN = ModelConfig(name="cnn", params={"depth": 3, "width": 8})
TRAIN = {"mode": "head", "adapter": 4}
SAMPLE = (
    "source_only",
    "dann",
    "mmd",
    "coral",
    "mean_teacher",
    "serial_consistency",
    "mixstyle",
    "learncolour",
    "adda",
)


def _job(strategy="source_only", cache=None, task=None, train="head", **more):
    config = strategy if isinstance(strategy, dict) else load_strategy(strategy).model_dump()
    job = make_job(config, train=train, cache=cache, **more)
    return job if task is None else replace(job, task=task, model=CNN)


def _changed(folder):
    return {key: value for key, value in load_file(folder / "last.safetensors").items() if key.startswith(BEHIND)}


BEHIND = ("head.", "decoder.", "pooled.", "handed.")


LINEAR = ModelConfig(
    name="linear",
    params={
        "encoder": "vit_tiny_patch16_224",
        "options": {"dynamic_img_size": True, "depth": 2, "embed_dim": 24, "num_heads": 2},
    },
)


def test_a_linear_decoder_learns_the_same_from_kept_tokens(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_cache, "_kind", lambda features: "float32")
    plain = {"name": "plain", "augment": [], "norm": {"name": "shared"}, "align": {"name": "none"}}
    ends = []
    for name, cache in (("images", None), ("features", {"views": 1})):
        job = replace(_job(plain, cache, None, {"mode": "head"}, epochs=2, steps_per_epoch=3), model=LINEAR)
        train_on(job, make_data(job, per_slide=6), tmp_path / name)
        ends.append(load_file(tmp_path / name / "last.safetensors"))
    assert ends[0].keys() == ends[1].keys() and "head.weight" in ends[0]
    for key, value in ends[0].items():
        torch.testing.assert_close(ends[1][key], value, atol=1e-4, rtol=1e-3)
    files = list((tmp_path / "features").rglob("features_*.npy"))
    assert files and all(np.load(file).shape[1] == 24 for file in files), "one map of tokens"


@pytest.mark.parametrize("task", [CLASSES, None], ids=["classification", "segmentation"])
def test_the_same_steps_from_features_and_from_images_end_in_the_same_weights(task, tmp_path, monkeypatch):
    """Without augmentation there is one view, which is what the encoder sees in every step of the other training."""
    monkeypatch.setattr(feature_cache, "_kind", lambda features: "float32")  # else maps are rounded to float16
    plain = {"name": "plain", "augment": [], "norm": {"name": "shared"}, "align": {"name": "mmd", "layer": "decoder"}}
    for name, cache in (("images", None), ("features", {"views": 1})):
        job = _job(plain, cache, task, TRAIN, epochs=2, steps_per_epoch=3)
        train_on(job, make_data(job, per_slide=6), tmp_path / name)
    images, features = _changed(tmp_path / "images"), _changed(tmp_path / "features")
    start = _changed_at_start(task)
    assert any((images[key] - start[key]).abs().max() > 1e-3 for key in start), "something was learned"
    for key, value in images.items():
        torch.testing.assert_close(features[key], value, atol=1e-4, rtol=1e-3)
    told = [json.loads((tmp_path / name / "result.json").read_text())["score"] for name in ("images", "features")]
    assert told[0] == pytest.approx(told[1], abs=1e-3)


def _changed_at_start(task):
    from stainda.training.preparation import Preparation

    job = _job("source_only", None, task, TRAIN)
    network = Preparation(job, build(job.strategy), make_data(job, per_slide=6)).detector.network
    return {key: value for key, value in network.named_parameters() if key.startswith(BEHIND)}


def test_the_encoder_runs_once_for_every_patch_and_view_and_later_trainings_read(tmp_path, monkeypatch):
    seen = []
    encode = Cnn.encode

    def count(self, images):
        seen.append(len(images))
        return encode(self, images)

    monkeypatch.setattr(Cnn, "encode", count)
    # the encoder is random, and a cache is of one start: the same seed, another learning rate
    first, second = (_job("source_only", {"views": 3}, CLASSES, learning_rate=rate) for rate in (1e-3, 1e-2))
    data = make_data(first, per_slide=8)
    train_on(first, data, tmp_path / "jobs" / "a")
    patches = json.loads((tmp_path / "jobs" / "a" / "result.json").read_text())["patches"]
    assert sum(seen) == 3 * patches["labelled"] + patches["validation"]
    assert features_folder(tmp_path / "jobs" / "a") == tmp_path / "features"
    caches = sorted(path.name for path in (tmp_path / "features").iterdir())
    assert len(caches) == 2 and not any("." in name for name in caches)
    seen.clear()
    train_on(second, data, tmp_path / "jobs" / "b")
    assert not seen, "nothing goes through the encoder again"
    assert sorted(path.name for path in (tmp_path / "features").iterdir()) == caches
    settings = json.loads((tmp_path / "jobs" / "b" / "settings.json").read_text())
    Detector.load(tmp_path / "jobs" / "b", settings).probabilities(data.images(np.arange(2)), ["a"] * 2)
    other = replace(second, seed=7)  # another random encoder
    train_on(other, data, tmp_path / "jobs" / "c")
    assert len(list((tmp_path / "features").iterdir())) == 4


def test_features_of_another_precision_are_kept_apart(tmp_path):
    """What one training computed in bf16 is not what a training in fp32 would have; auto is what it comes to."""
    names = {}
    for precision in ("fp32", "auto", "bf16"):
        job = _job(cache={"views": 1}, precision=precision, device="cpu")
        made = Preparation(job, build(job.strategy), make_data(job, per_slide=4), features=tmp_path)
        about = made.passes._about("labelled")
        assert about.get("precision") == (None if precision != "bf16" else "bf16"), "those in fp32 keep their names"
        names[precision] = stable_hash(about)
    assert names["fp32"] == names["auto"] != names["bf16"]


def test_views_differ_and_are_what_the_encoder_gives(tmp_path):
    from stainda.training.preparation import Preparation

    job = _job("colour_jitter", {"views": 4}, CLASSES)
    made = Preparation(job, build(job.strategy), make_data(job, per_slide=8), features=tmp_path)
    index = made.chosen.train[:1]
    cache = made.passes._cache("labelled")
    views = [cache.read(index, np.array([view]), torch.device("cpu")).features[0].flatten() for view in range(4)]
    assert all(not torch.allclose(views[0], other) for other in views[1:])
    kept = made.passes._cache("validation").read(made.chosen.validation[:5], np.zeros(5, int), torch.device("cpu"))
    network = made.detector.network.eval()
    with torch.no_grad():
        wanted = network(made.passes.plain(made.chosen.validation[:5]))
        torch.testing.assert_close(network.answer(kept.features), wanted)


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=() if name in SAMPLE else pytest.mark.slow) for name in sorted(available("strategies"))
])  # fmt: skip
def test_every_strategy_learns_from_features_or_is_refused_before_the_first_step(name, tmp_path):
    config = load_strategy(name)
    strategy = build(config)
    if "classification" not in strategy.tasks:
        return
    if strategy.align.tapped == "bottleneck":
        config = config.with_values({"align.layer": "decoder"})
    if strategy.align.grouping == "domain":
        config = config.with_values({"align.groups": "patient"})
    train = {"mode": "head", "adapter": 4}
    job = _job(config.model_dump(), {"views": 2}, CLASSES, train, epochs=1, steps_per_epoch=2)
    data = make_data(job, per_slide=8)
    try:
        result = train_on(job, data, tmp_path)
    except ConfigError as error:
        assert not (tmp_path / "training.csv").exists() and error.remedy
        assert strategy.align.needs_pixels or strategy.align.needs_pairs or name in ("mixstyle", "learncolour"), error
        return
    assert result.steps == 2 and not strategy.align.needs_pixels


def test_too_large_a_cache_is_refused_and_leaves_nothing(tmp_path):
    job = _job("source_only", {"views": 2, "limit_gb": 1e-6}, CLASSES)
    with pytest.raises(TrainingError, match=r"would take .* GB, more than training.cache.limit_gb"):
        train_on(job, make_data(job, per_slide=8), tmp_path)
    assert not list((tmp_path / "features").iterdir())


def test_a_cache_is_for_frozen_encoders_and_its_limit_is_no_part_of_the_name():
    for train in ("all", "lora", "last_n"):
        with pytest.raises(ValidationError, match="cache keeps what a frozen encoder gives"):
            TrainingConfig(train=train, cache={"views": 2})
    one, two = (make_job(train="head", cache={"views": 2, "limit_gb": size}) for size in (1, 30))
    assert one.hash == two.hash
    assert len({make_job(train="head", cache=cache).hash for cache in (None, {"views": 1}, {"views": 2})}) == 3


@pytest.mark.parametrize(
    ("name", "task", "changes"),
    [
        ("unet_small", "segmentation", {}), ("cnn_small", "classification", {}), ("resnet18", "classification", {}),
        ("resnet18", "segmentation", {}), ("resnet18", "segmentation", {"decoder": "fpn"}),
        ("segformer_b0", "segmentation", {}), ("vit_small", "segmentation", {}),
        ("vit_small", "segmentation", {"decoder_options": {"readout": "cat"}}),
        ("resnet18", "segmentation", {"decoder": "deeplabv3plus"}),
    ],
)  # fmt: skip
def test_answering_what_was_encoded_is_the_forward_pass(name, task, changes):
    config = ModelConfig.model_validate({**load_piece("models", name), "weights": None})
    options = {"dynamic_img_size": True} if name == "vit_small" else {}
    inner = {
        **config.params,
        **changes,
        **({"options": {**config.params.get("options", {}), **options}} if options else {}),
    }
    network = build_model(config.model_copy(update={"params": inner}), 3, 2, task)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(network.eval().answer(network.encode(images)), network(images))


# -- adaptation on features -----------------------------------------------------------------------------------------


class _Head(nn.Module):
    """An adapter and a linear layer, as they stand behind a frozen encoder."""

    def __init__(self, channels):
        super().__init__()
        from stainda.models.fine_tuning import Adapter

        self.adapter, self.last = Adapter(channels, 16), nn.Linear(channels, 2)

    def forward(self, features):
        adapted = self.adapter(features)
        return adapted, self.last(adapted)


def _features(generator, labels, foreign, problem):
    """Eight features of two classes.

    ``mark``: the first tells the class everywhere (93 % at best); the second is a mark that goes with the class at the
    source alone, and has another mean and spread elsewhere. ``shift``: the first tells it, and the foreign domain is
    moved along the first four.
    """
    sign, rows = 2.0 * labels - 1.0, torch.randn(len(labels), 8, generator=generator)
    if problem == "shift":
        rows[:, 0] = 2.0 * sign + 0.5 * rows[:, 0]
        return rows + foreign * torch.tensor([2.0, 1.5, -1.5, 1.0, 0.0, 0.0, 0.0, 0.0])
    rows[:, 0] += 1.5 * sign
    rows[:, 1] = 3.0 + 3.0 * rows[:, 1] if foreign else 2.0 * sign + 0.5 * rows[:, 1]
    return rows


def _accuracy_on_target(align, seed, problem, steps=200):
    """Of an adapter and a head that learn from the source's labels, with or without a loss on unlabelled features."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    head = _Head(8)
    part = None if align is None else build(load_strategy("source_only").model_copy(update={"align": align})).align
    modules = nn.ModuleDict() if part is None else nn.ModuleDict(part.modules(Site(8, n_domains=2, n_classes=2)))
    groups = [{"params": [*head.parameters()]}, {"params": [*modules.parameters()], "lr": 2e-2}]
    optimiser = torch.optim.Adam(groups if part is not None and len(modules) else groups[:1], lr=5e-3)
    for index in range(steps):
        labels, hidden = (torch.randint(0, 2, (32,), generator=generator) for _ in range(2))
        batches = []
        for domain, truth in enumerate((labels, hidden)):
            rows = _features(generator, truth, bool(domain), problem)
            features, logits = head(rows)
            batches.append(Batch(rows, torch.full((32,), domain), features, logits, None if domain else labels))
        loss = nn.functional.cross_entropy(batches[0].logits, labels)
        if part is not None:
            step = Step(*batches, progress=index / steps, modules=modules, network=head, index=index,
                        generator=generator)  # fmt: skip
            loss = loss + sum(part.losses(step).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    truth = torch.randint(0, 2, (2000,), generator=generator)
    with torch.no_grad():
        return float((head(_features(generator, truth, True, problem))[1].argmax(1) == truth).float().mean())


DANN = {"weight": 2.0, "schedule": "constant", "discriminator_norm": "spectral"}
"""Chosen after trials on seeds 0 to 2, of which most other settings failed one. The test takes seeds that had no part
in the choice: on 100 to 111 every training gained, DANN 16 to 27 points, MMD 16 to 27, CORAL 10 to 22. That the loss
can act on features is what is tested, not how well it does."""


@pytest.mark.parametrize(
    ("name", "settings", "problem"),
    [("dann", DANN, "shift"), ("mmd", {"weight": 1.0}, "mark"), ("coral", {}, "mark")],
)
def test_alignment_of_adapted_features_wins_back_what_a_shift_costs(name, settings, problem):
    align = PartConfig(name=name, params={"layer": "decoder", **settings})
    pairs = [
        (_accuracy_on_target(None, seed, problem), _accuracy_on_target(align, seed, problem))
        for seed in (100, 101, 102)
    ]
    assert all(aligned > without + 0.05 for without, aligned in pairs), pairs
