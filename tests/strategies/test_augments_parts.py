"""Augmentation as parts: strengths by name, what is learned from which patches, MixStyle inside the network."""

import copy
import sys
from pathlib import Path

import pytest
import torch

from stainda.config import ModelConfig, StrategyConfig, load_strategy
from stainda.errors import ConfigError
from stainda.models import build_model
from stainda.strategies import PARTS, build
from stainda.strategies.augment.colour import ColourJitterAugment, HedAugment
from stainda.strategies.augment.fourier import FourierAugment
from stainda.strategies.augment.mixstyle import MixStyleAugment, mix_styles

sys.path.append(str(Path(__file__).parents[1] / "training"))
from blob_cohort import make_data, make_job

from stainda.strategies.norm.statistics import estimate_statistics
from stainda.training import train_on
from stainda.training.batches import PatchMetadata
from stainda.training.fitting import fit_augments


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def _moved(part, images):
    return (part(images, torch.zeros(len(images), 8, 8).long(), seeded(1))[0] - images).abs().mean()


def test_light_and_strong_go_by_their_names():
    images = (torch.rand(1, 3, 8, 8, generator=seeded()) * 0.6 + 0.2).expand(64, -1, -1, -1).contiguous()
    light, strong, any_hue = (
        ColourJitterAugment(strength=word, hue=hue)
        for word, hue in (("light", None), ("strong", None), ("strong", 0.5))
    )
    assert _moved(light, images) < _moved(strong, images) < _moved(any_hue, images)
    assert _moved(HedAugment(sigma=0.05), images) < _moved(HedAugment(sigma=0.2), images)
    pinned = HedAugment(sigma=0.25, shift=0.0)(torch.ones(4, 3, 2, 2), torch.zeros(4, 2, 2).long(), seeded(1))[0]
    torch.testing.assert_close(pinned, torch.ones_like(pinned))  # white has nothing to scale, and nothing is added
    for name, parts in {"hed_light": 0.05, "hed_augmentation": 0.2, "hed_strong": 0.35}.items():
        assert build(load_strategy(name)).augment[1].sigma == parts


@pytest.mark.parametrize("bad", [{"name": "jpeg", "low": 80, "high": 20}, {"name": "hed", "sigma": -1}])
def test_impossible_strengths_are_refused(bad):
    with pytest.raises(ConfigError):
        build(StrategyConfig(name="mine", augment=(bad,)))


@pytest.mark.parametrize("name", ["randstainna", "fourier"])
def test_what_has_to_be_learned_first_says_so(name):
    with pytest.raises(ConfigError, match="before it is fitted"):
        PARTS["augment"][name]()(torch.rand(2, 3, 8, 8), torch.zeros(2, 8, 8).long(), seeded())


def _recorded(strategy, visible="targets"):
    """Domains of the patches that fitting the augmentations of a strategy read."""
    job = make_job(strategy, visible=visible)
    data = make_data(job, per_slide=4)
    train, shown = data.labelled("train"), data.unlabelled()
    origins = PatchMetadata(data, torch.cat([torch.as_tensor(train), torch.as_tensor(shown)]).long().numpy())
    read, images = [], data.images
    data.images = lambda indices: (read.extend(data.table["domain"].iloc[indices]), images(indices))[1]
    fit_augments(build(job.strategy), data, origins, train, shown, seed=3)
    return set(read)


def test_random_templates_come_from_training_domains_only_and_amplitudes_from_where_they_are_said_to():
    assert _recorded({"augment": ["randstainna"]}) == {"PAS@A"}
    assert _recorded({"augment": ["fourier"]}) == {"SR@A"}
    assert _recorded({"augment": [{"name": "fourier", "amplitude": "batch"}]}, visible="nothing") == set()
    assert _recorded({"augment": ["geometry", "jpeg"]}) == set()


def test_amplitudes_of_targets_bring_the_targets_colours():
    part = FourierAugment(beta=0.0, p=1.0)
    part.learn(lambda: torch.zeros(1, 3, 8, 8), lambda: torch.full((4, 3, 8, 8), 0.6))
    images = torch.rand(32, 3, 8, 8, generator=seeded()) * 0.2 + 0.1
    out = part(images, torch.zeros(32, 8, 8).long(), seeded(1))[0].mean((2, 3))
    assert (out >= images.mean((2, 3)) - 1e-3).all() and out.max() > 0.5
    assert part.needs_targets and not FourierAugment(amplitude="batch").needs_targets


def test_styles_are_mixed_as_by_hand():
    features = torch.randn(3, 2, 4, 5, generator=seeded(1)) * 3 + 1
    share, order = torch.tensor([0.25, 1.0, 0.0]), torch.tensor([1, 0, 0])
    out = mix_styles(features, share, order)
    mean, spread = features.mean((2, 3)), features.std((2, 3))
    for one in range(3):
        aim = share[one] * mean[one] + (1 - share[one]) * mean[order[one]]
        wide = share[one] * spread[one] + (1 - share[one]) * spread[order[one]]
        torch.testing.assert_close(out[one].mean((1, 2)), aim, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(out[one].std((1, 2)), wide, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(out[1], features[1], atol=1e-4, rtol=1e-4)  # a share of 1 keeps the patch
    pair = torch.stack([out[2, 0].flatten(), features[2, 0].flatten()])
    assert torch.corrcoef(pair)[0, 1] > 0.9999  # structure stays


def _network(part, seed=0):
    torch.manual_seed(seed)
    network = build_model(ModelConfig(name="unet", params={"depth": 3, "width": 4}), 3, 2)
    part.prepare(network)
    return network


def test_mixstyle_acts_in_training_only_and_copies_keep_to_themselves():
    part, images = MixStyleAugment(p=1.0), torch.randn(4, 3, 16, 16, generator=seeded(2))
    mixed, plain = _network(part), _network(MixStyleAugment(p=0.0))
    torch.testing.assert_close(mixed.eval()(images), plain.eval()(images))
    teacher = copy.deepcopy(mixed).eval()
    mixed.train(), plain.train()
    torch.manual_seed(1)
    assert not torch.allclose(mixed(images), plain(images), atol=1e-3)
    torch.testing.assert_close(teacher(images), copy.deepcopy(teacher)(images))  # its network is not training
    found, expected = (estimate_statistics(one, [images]) for one in (mixed.eval(), plain.eval()))
    first = next(iter(found))
    torch.testing.assert_close(found[first], expected[first])
    last = list(found)[-1]
    mixed_stats = estimate_statistics(mixed, [images])[last]
    torch.testing.assert_close(found[last], mixed_stats)  # nothing is drawn while statistics are estimated


def test_mixstyle_names_the_layers_there_are():
    with pytest.raises(ConfigError, match=r"no layer 'botleneck'. Did you mean 'bottleneck'"):
        _network(MixStyleAugment(layers=("botleneck",)))


STRATEGIES = (
    "optical_density", "haematoxylin", "dyes", "residual_channels", "vahadane", "histogram_matching", "learncolour",
    "colour_jitter_light", "colour_jitter_strong", "hed_light", "hed_strong", "randstainna", "channel_swap", "fda",
    "fda_batch", "mixstyle", "degradation", "elastic", "lampert_augmentation", "groupnorm", "reestimated", "tent",
    "tta", "few_shot", "few_shot_patient", "cross_stain_agreement", "greyscale_hed", "haematoxylin_hed", "reinhard_hed",
    "reinhard_reestimated", "colour_everything", "colour_everything_adabn",
)  # fmt: skip


QUICK = ("residual_channels", "learncolour", "fda", "mixstyle", "few_shot_patient", "colour_everything_adabn")
"""Trained for two steps on every run of the tests; the others when the slow ones are run too."""


@pytest.mark.parametrize(
    "name",
    [strategy if strategy in QUICK else pytest.param(strategy, marks=pytest.mark.slow) for strategy in STRATEGIES],
)
def test_two_steps_of_a_training(name, tmp_path):
    import json

    config = load_strategy(name)
    job = make_job(config.model_dump(), epochs=1, steps_per_epoch=2, batch_size=4, model={"depth": 2, "width": 4})
    train_on(job, make_data(job, per_slide=4), tmp_path)
    assert json.loads((tmp_path / "result.json").read_text())["steps"] == 2
    assert "nan" not in (tmp_path / "training.csv").read_text()
