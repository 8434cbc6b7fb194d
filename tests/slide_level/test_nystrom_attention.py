"""Nyström attention against softmax attention, and its convolution of values against a sum by hand."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("torchmil", reason="the extra 'bags'")

from torchmil.nn.attention import NystromAttention

from stainda.slide_level.aggregators import BagNetwork
from stainda.slide_level.nystrom import KERNEL, ResidualNystrom

WIDTH, HEADS, TOKENS = 8, 2, 12


def attention_of(landmarks: int, iterations: int = 6) -> ResidualNystrom:
    torch.manual_seed(0)
    plain = NystromAttention(WIDTH, WIDTH, WIDTH, HEADS, n_landmarks=landmarks, pinv_iterations=iterations)
    torch.nn.init.normal_(plain.qkv_nn.weight, std=1.0)  # attention that chooses: a flat one has no inverse
    return ResidualNystrom(plain).double().eval()


def by_hand(module: ResidualNystrom, tokens: torch.Tensor, convolved: bool = True) -> torch.Tensor:
    """Softmax attention, plus values weighted by the kernel of their head, token by token."""
    weights = [part.double() for part in module.attention.qkv_nn.weight.chunk(3)]
    parts = []
    for head in range(HEADS):
        rows = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
        query, key, value = (tokens[0] @ weight[rows].T for weight in weights)
        part = torch.softmax(query @ key.T / (WIDTH // HEADS) ** 0.5, 1) @ value
        kernel = module.values.weight[head, 0, :, 0]
        for at in range(len(value)):
            for other in range(len(value)):
                if convolved and abs(other - at) <= KERNEL // 2:
                    part[at] = part[at] + kernel[other - at + KERNEL // 2] * value[other]
        parts.append(part)
    return module.mixed(torch.cat(parts, 1))[None]


@torch.no_grad()
def test_with_a_landmark_for_each_token_it_comes_to_softmax_attention_with_convolved_values():
    tokens = torch.randn(1, TOKENS, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    exact = by_hand(attention_of(TOKENS), tokens)
    apart = [float((attention_of(TOKENS, steps)(tokens) - exact).abs().max()) for steps in (2, 6, 12, 40)]
    assert apart == sorted(apart, reverse=True) and apart[-1] < 1e-8
    without = by_hand(attention_of(TOKENS), tokens, convolved=False)
    assert float((without - exact).abs().max()) > 0.05
    assert float((attention_of(3, 40)(tokens) - exact).abs().max()) > 0.05, "fewer landmarks are an approximation"


@torch.no_grad()
@pytest.mark.parametrize("tokens", [5, 40])
def test_tokens_that_are_no_multiple_of_the_landmarks_get_the_convolution_of_their_own_values(tokens):
    module = attention_of(7)
    seen = torch.randn(1, tokens, WIDTH, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    out, attended = module(seen, return_att=True)
    assert out.shape == seen.shape and attended.shape == (1, HEADS, tokens, tokens)
    value = module.attention.qkv_nn(seen).chunk(3, dim=-1)[2].unflatten(2, (HEADS, -1))
    rows = torch.einsum("bhij,bjhd->bihd", attended, value).flatten(2)
    kernel = module.values.weight[:, 0, :, 0]
    spread = torch.stack([
        sum(
            (kernel[:, at - row + KERNEL // 2, None] * value[0, at] for at in range(tokens) if abs(at - row) <= 16),
            start=torch.zeros(HEADS, WIDTH // HEADS, dtype=torch.float64),
        )
        for row in range(tokens)
    ]).flatten(1)  # fmt: skip
    assert torch.allclose(out, module.mixed(rows + spread), atol=1e-9)


def test_every_layer_of_transmil_has_it():
    layers = BagNetwork("transmil", WIDTH, 16, 0.0).body.layers
    assert len(layers) == 2 and all(layer.att_module.values.kernel_size == (KERNEL, 1) for layer in layers)
