"""Which parameters learn, and with which rates; low-rank changes and adapters."""

from __future__ import annotations

import copy

import pytest
import torch
from pydantic import ValidationError

from stainda.config import ModelConfig, TrainConfig, load_piece
from stainda.errors import ConfigError
from stainda.models import (
    build_model,
    choose_parameters,
    merge_low_rank,
    merged_state,
    parameter_counts,
    rate_factors,
)
from stainda.models.depth import block_of_parameters, encoder_blocks
from stainda.models.low_rank import LowRank

CLASSIFIERS = ("efficientnet_lite0", "resnet18", "vit_small", "swin_tiny", "convnext_tiny")
NETWORKS = [
    ("unet_small", "segmentation"), ("cnn_small", "classification"), ("efficientnet_lite0", "segmentation"),
    ("segformer_b0", "segmentation"), ("timm_resnet18", "classification"),
]  # fmt: skip
MODES = ("head", {"mode": "head", "adapter": 8}, {"mode": "last_n", "blocks": 1}, "lora")


def _network(name, task, seed=0):
    torch.manual_seed(seed)
    return build_model(ModelConfig.model_validate({**load_piece("models", name), "weights": None}), 3, 2, task)


def _chosen(name, task, train):
    network = _network(name, task)
    choose_parameters(network, TrainConfig.model_validate(train))
    return network


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_blocks_are_those_that_timm_counts(name):
    """A second implementation: the groups that timm's own networks declare for layer-wise rates."""
    from timm.models import group_parameters

    with torch.device("meta"):
        network = _network(name, "classification")
    theirs = group_parameters(network.net, network.net.group_matcher(coarse=False), reverse=True)
    mine = block_of_parameters(network)
    assert len(encoder_blocks(network)) == max(theirs.values())  # they count the head as one more
    compared = {key for key in theirs if f"net.{key}" in mine and "head." not in key}
    assert len(compared) > 20
    assert {key: mine[f"net.{key}"] for key in compared} == {key: theirs[key] for key in compared}


def test_rates_fall_towards_the_stem():
    network = _network("vit_small", "classification")
    factors = rate_factors(network, 0.75)
    assert factors["net.patch_embed.proj.weight"] == pytest.approx(0.75**13)
    assert factors["net.cls_token"] == pytest.approx(0.75**13)
    assert factors["net.blocks.0.attn.qkv.weight"] == pytest.approx(0.75**12)
    assert factors["net.blocks.11.mlp.fc1.weight"] == factors["net.norm.weight"] == pytest.approx(0.75)
    assert "net.head.weight" not in factors, "the last layer has the whole rate"


def test_stages_of_mit_are_in_the_order_of_the_forward_pass():
    blocks = encoder_blocks(_network("segformer_b0", "segmentation"))
    assert blocks[0] == ("net.encoder.patch_embed1",)
    assert blocks[3] == ("net.encoder.norm1", "net.encoder.patch_embed2", "net.encoder.block2.0")
    assert blocks[-1][-1] == "net.encoder.norm4"


@pytest.mark.parametrize("train", MODES, ids=str)
@pytest.mark.parametrize(("name", "task"), NETWORKS)
def test_only_what_is_chosen_learns_and_the_network_starts_the_same(name, task, train):
    before, network = _network(name, task).eval(), _chosen(name, task, train)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(images), before(images))
    learning = {key for key, value in network.named_parameters() if value.requires_grad}
    inside = {key for key in learning if network.in_encoder(key)}
    mode = train if isinstance(train, str) else train["mode"]
    behind = {key for key, _ in network.named_parameters() if not network.in_encoder(key)}
    assert behind <= learning and behind, "what follows the encoder always learns"
    if mode == "head":
        assert not inside
    elif mode == "lora":
        assert inside and all(".parametrizations.weight.0." in key for key in inside)
    else:
        last = len(encoder_blocks(before)) - 1
        assert inside == {key for key, block in block_of_parameters(before).items() if block == last}
    # steps move what learns and nothing else: neither weights nor batch statistics of the rest
    kept = {key: value.clone() for key, value in network.state_dict().items()}
    optimiser = torch.optim.SGD([parameter for parameter in network.parameters() if parameter.requires_grad], lr=0.1)
    network.train()
    for _ in range(2):
        optimiser.zero_grad()
        network(images).square().mean().backward()
        optimiser.step()
    moved = {key for key, value in network.state_dict().items() if not torch.equal(value, kept[key])}
    assert moved
    assert all(key in learning or not _is_frozen(network, key, inside) for key in moved), moved


def _is_frozen(network, key, inside):
    """Whether a buffer lies in a module of the encoder in which nothing learns."""
    module = key.rpartition(".")[0]
    return network.in_encoder(key) and not any(name.startswith(f"{module}.") for name in inside)


@pytest.mark.parametrize(("name", "task"), NETWORKS)
def test_merging_gives_the_plain_network_that_computes_the_same(name, task):
    network = _chosen(name, task, {"mode": "lora", "rank": 2})
    with torch.no_grad():
        for key, value in network.named_parameters():
            if key.endswith(".b"):
                value.normal_()
    images, copied = torch.rand(2, 3, 64, 64), copy.deepcopy(network)
    with torch.no_grad():
        wanted = network.eval()(images)
        assert not torch.allclose(wanted, _network(name, task).eval()(images), atol=1e-4), "the changes count"
        torch.testing.assert_close(copied.eval()(images), wanted)
        state = merged_state(network)
        merge_low_rank(network)
        torch.testing.assert_close(network(images), wanted)
    assert state.keys() == network.state_dict().keys() and not any("parametrizations" in key for key in state)
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in state.items())
    plain = _network(name, task)
    assert [n for n in plain.load_state_dict(state, strict=False)[0] if "num_batches_tracked" not in n] == []


def test_a_change_is_what_the_paper_says():
    weight = torch.randn(6, 4, 3, 3)
    change = LowRank(weight, rank=2, alpha=8)
    assert torch.equal(change(weight), weight), "B is zero at the start"
    with torch.no_grad():
        change.b.normal_()
    difference = (change(weight) - weight).flatten(1)
    torch.testing.assert_close(difference, 4 * change.b @ change.a)  # alpha / rank = 4
    assert torch.linalg.matrix_rank(difference) == 2
    assert LowRank(torch.randn(3, 9), rank=8, alpha=8).a.shape == (3, 9), "no more than the weight's own rank"


def test_counts_by_hand():
    network = _network("cnn_small", "classification")
    total = sum(parameter.numel() for parameter in network.parameters())
    assert str(parameter_counts(network)) == f"{total:,} of {total:,} parameters learn"
    choose_parameters(network, TrainConfig(mode="head"))
    head = 64 * 2 + 2
    assert (parameter_counts(network).trained, parameter_counts(network).total) == (head, total)
    network = _chosen("cnn_small", "classification", {"mode": "head", "adapter": 5})
    added = 64 * 5 + 5 + 5 * 64 + 64
    assert (parameter_counts(network).trained, parameter_counts(network).total) == (head + added, total + added)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("lastn", "last_n"),
        ({"mode": "head", "blocks": 2}, "setting of mode last_n"),
        ({"mode": "all", "rank": 4}, "setting of mode lora"),
        ({"mode": "lora", "rnk": 4}, "rnk"),
        ({"mode": "last_n", "blocks": 0}, "greater than or equal to 1"),
    ],
)
def test_a_wrong_form_is_answered_with_the_right_one(given, told):
    with pytest.raises(ValidationError, match=told):
        TrainConfig.model_validate(given)


def test_written_short_and_long_are_the_same():
    assert TrainConfig.model_validate("lora") == TrainConfig(mode="lora", rank=8, alpha=16)
    again = TrainConfig.model_validate(TrainConfig.model_validate("last_n").model_dump())
    assert again == TrainConfig(mode="last_n", blocks=2)


def test_more_blocks_than_there_are_is_refused():
    with pytest.raises(ConfigError, match="has 4 blocks"):
        _chosen("unet_small", "segmentation", {"mode": "last_n", "blocks": 5})
