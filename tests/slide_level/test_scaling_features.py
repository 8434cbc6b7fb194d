"""Features are scaled by training slides of the source, or of each domain, every slide counting the same."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from stainda.config.slide_level import SlideLevelConfig
from stainda.progress import SILENT
from stainda.slide_level.bags import FeatureScale
from stainda.slide_level.labels import TeachingLabels
from stainda.slide_level.trainings import Trainings

CPU = torch.device("cpu")


def _bag(domain, offset, number, seed):
    vectors = torch.randn(number, 3, generator=torch.Generator().manual_seed(seed)) * 2 + offset
    return SimpleNamespace(domain=domain, key=f"{domain}{seed}", features=lambda device: vectors)


def test_a_large_slide_does_not_outweigh_a_small_one():
    scale = FeatureScale.fit([_bag("A", 0.0, 5000, 1), _bag("A", 10.0, 50, 2)], ["A"], each=False)
    mean, spread = scale.of["A"]
    assert mean.tolist() == pytest.approx([5.0] * 3, abs=0.6)
    assert spread.tolist() == pytest.approx([29**0.5] * 3, rel=0.1), "within slides 2, between them 5"


def test_each_domain_has_its_own_scale_where_that_is_wanted():
    bags = [_bag("A", 0.0, 2000, 1), _bag("B", 7.0, 2000, 2)]
    own = FeatureScale.fit(bags, ["A", "B"], each=True)
    for bag in bags:
        scaled = own.apply(bag, CPU)
        assert scaled.mean(0).abs().max() < 1e-3 and (scaled.std(0) - 1).abs().max() < 1e-2
    shared = FeatureScale.fit(bags[:1], ["A", "B"], each=False)
    assert shared.apply(bags[1], CPU).mean() == pytest.approx(3.5, abs=0.2), "what a scanner moves stays"


def _keys(standardise, tmp_path):
    """Keys of a training with one target slide, then the other, in split train."""
    config = SlideLevelConfig.model_validate(
        {"positive": ["x"], "encoder": {"name": "cnn"}, "patches": {"size": 64, "downsample": 1}, "maps": False,
         "training": {"standardise": standardise, "epochs": 1, "hidden": 4}}
    )  # fmt: skip
    bags = {f"{domain}{k}": _bag(domain, 5.0 * k, 10, k) for domain in "AB" for k in (1, 2)}
    labels = TeachingLabels({"train": {"A1": True, "A2": False}, "val": {"A1": True}})
    each = standardise == "domain"
    made = []
    for target in ("B1", "B2"):
        seen = [bags["A1"], bags["A2"], *([bags[target]] if each else [])]
        scale = FeatureScale.fit(seen, ["A", "B"], each=each)
        trainings = Trainings(config, tmp_path, bags, labels, scale, tested=[], device="cpu")
        made.append(trainings.make([1], SILENT)[0])
    return made


def test_other_target_slides_to_scale_by_are_another_training(tmp_path):
    """A patient of a target alone moves from train to test: nothing is taught otherwise, and all features are."""
    first, second = _keys("domain", tmp_path)
    assert first.job != second.job and first.log_odds["B1"] != second.log_odds["B1"]
    kept, again = _keys("source", tmp_path)
    assert kept.job == again.job, "targets are not looked at"
