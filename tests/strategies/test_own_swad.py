"""SWAD's average against the mean of the weights it should hold, by brute force."""

import numpy as np
import pytest
import torch
from own_steps import site
from torch import nn

from stainda.strategies.align.support.buffers import Copy
from stainda.strategies.align.support.weight_average import valley
from stainda.strategies.align.swad import Swad, fitted


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([5, 4, 3, 2, 1], (None, None)),  # still falling
        ([5, 1, 2, 3, 1], (1, None)),
        ([5, 1, 1.1, 1.2, 9, 9, 1, 1], (1, 4)),  # two in a row above the limit
        ([5, 1, 1.1, 1.2, 9, 1, 9, 1], (1, None)),
        ([1, 1, 1, 1], (0, None)),
    ],
)
def test_the_valley_begins_at_a_minimum_and_ends_where_losses_stay_high(losses, expected):
    assert valley(losses, patience=3, tolerance=2, ratio=1.5) == expected


@pytest.mark.parametrize("seed", range(6))
def test_the_average_is_the_mean_of_all_weights_between_start_and_end(seed):
    generator = np.random.default_rng(seed)
    patience, tolerance, ratio = (int(generator.integers(1, 4)) for _ in range(2)), None, 1.2
    patience, tolerance = patience
    losses = (0.3 + 0.25 * generator.random(9) + np.linspace(0.3, 0, 9) * (seed % 2)).tolist()
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    part = Swad(patience=patience, tolerance=tolerance, ratio=ratio)
    modules = nn.ModuleDict(part.modules(site(network=network, steps=27, per_epoch=3)))

    class Given:
        pass

    seen = []
    for loss in losses:
        for _ in range(3):
            with torch.no_grad():
                for value in network.parameters():
                    value.copy_(torch.from_numpy(generator.normal(size=value.shape)))
            given = Given()
            given.modules, given.network = modules, network
            part.after_step(given)
            seen.append({name: value.detach().clone() for name, value in network.named_parameters()})
        part.after_epoch(modules, network, 1.0 - loss)
    start, end = valley(losses, *fitted(patience, tolerance, 9), ratio)
    chosen = seen[3 * start : None if end is None else 3 * end] if start is not None else seen[-3:]
    got = part.final_weights(modules)
    assert set(got) == set(dict(network.named_parameters()))
    for name, value in got.items():
        torch.testing.assert_close(value, torch.stack([one[name] for one in chosen]).mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(part.final_weights(modules)["0.weight"], got["0.weight"])  # asking twice changes nothing


def test_a_copy_follows_as_an_exponential_mean_and_no_gradient_reaches_it():
    network = nn.Linear(2, 1, bias=False)
    copy = Copy(network)
    expected = network.weight.detach().clone()
    for turn in range(5):
        with torch.no_grad():
            network.weight += turn
        copy.follow(network, 0.9)
        expected = 0.9 * expected + 0.1 * network.weight.detach()
    torch.testing.assert_close(copy.weights()["weight"], expected)
    copy(torch.ones(1, 2))
    assert not any(parameter.requires_grad for parameter in copy.parameters())


def test_the_limit_is_the_ratio_times_the_mean_of_the_first_losses():
    # the mean of the first three is 1.2: the limit 1.32; neither the first loss (1.1) nor the last (1.32 * 1.2) sets it
    losses = [1.0, 1.4, 1.2, 1.31, 1.31, 1.33, 1.33]
    assert valley(losses, patience=3, tolerance=2, ratio=1.1) == (0, 5)
    exact = [1.0, 1.5, 1.25, 2.5, 2.5, 2.6, 2.6]  # the limit is 2.5: a loss at it is not above it
    assert valley(exact, patience=3, tolerance=2, ratio=2.0) == (0, 5)
    assert valley(losses, patience=3, tolerance=3, ratio=1.1) == (0, None)


@pytest.mark.parametrize("given", [(3, 3), (1, 6), (5, 2), (3, 6)])
@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 6, 10, 20, 60])
def test_a_valley_can_end_within_a_training_of_any_length(given, epochs):
    patience, tolerance = fitted(*given, epochs)
    assert 1 <= patience <= given[0] and 1 <= tolerance <= given[1]
    if epochs >= 2:
        losses = [0.1] * patience + [0.9] * (epochs - patience)
        assert valley(losses, patience, tolerance, 1.2) == (0, patience), "a training that overfits at once"
    if epochs >= 2 * sum(given):
        assert (patience, tolerance) == given


def test_a_short_training_that_overfits_keeps_its_good_epochs_alone():
    """Four epochs, as in studies/quickstart.yaml; with three and three as given the average never ended."""
    network = nn.Linear(1, 1, bias=False)
    part = Swad()
    modules = nn.ModuleDict(part.modules(site(network=network, steps=4, per_epoch=1)))
    for epoch, loss in enumerate((0.2, 0.9, 0.9, 0.9)):
        with torch.no_grad():
            network.weight.fill_(float(epoch))
        modules["valley"].add(network)
        part.after_epoch(modules, network, 1.0 - loss)
    assert float(part.final_weights(modules)["weight"]) == 0.0
