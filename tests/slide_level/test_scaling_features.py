"""Features are scaled by training slides of the source, or of each domain, every slide counting the same."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from stainda.slide_level.bags import FeatureScale

CPU = torch.device("cpu")


def _bag(domain, offset, number, seed):
    vectors = torch.randn(number, 3, generator=torch.Generator().manual_seed(seed)) * 2 + offset
    return SimpleNamespace(domain=domain, features=lambda device: vectors)


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
