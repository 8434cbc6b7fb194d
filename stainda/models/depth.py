"""The blocks of an encoder in the order in which an image passes through them.

A block is what repeats: a layer of a transformer, a residual block of a convolutional network. Single layers between
blocks (the halving of a map) belong to the block that follows, those after the last block to it; all before the first
block is the stem.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import nn

from stainda.models.base import Network

_BEFORE = re.compile(r"^(patch_embed|stem|conv_stem|downsample|pos_|norm|ln_|conv_head|fc_norm|head|pre_)")
"""Names of modules that hold several layers and are no block."""

_INNER = ("blocks", "layers")
"""Names under which the blocks of a stage are kept."""


def encoder_blocks(network: Network) -> list[tuple[str, ...]]:
    """Module and parameter paths of the stem, then of every block.

    Each path is that of a module, or of a parameter that lies in no block's module (a class token).
    """
    blocks: list[list[str]] = [[]]
    waiting: list[str] = []
    for path, name, module in _units(network):
        if _is_block(name, module):
            blocks.append([*waiting, path])
            waiting = []
        elif len(blocks) == 1:
            blocks[0].append(path)
        else:
            waiting.append(path)
    blocks[-1] += waiting
    return [tuple(paths) for paths in blocks]


def block_of_parameters(network: Network) -> dict[str, int]:
    """For every parameter of the encoder by name, the number of its block: 0 for the stem, then 1, 2, …"""
    number = {path: index for index, paths in enumerate(encoder_blocks(network)) for path in paths}
    blocks: dict[str, int] = {}
    for name, _ in network.named_parameters():
        if not network.in_encoder(name):
            continue
        parts = name.split(".")
        paths = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
        blocks[name] = next((number[path] for path in paths if path in number), 0)
    return blocks


def rate_factors(network: Network, decay: float) -> dict[str, float]:
    """Learning rates of the encoder's parameters by name, as factors on that of all others.

    ``decay ** (n + 1 - k)`` in block k of n: that of the layer behind the encoder is 1, and the stem's the lowest.

    Reference: Clark et al. 2020, ELECTRA, arXiv 2003.10555; Bao et al. 2021, BEiT, arXiv 2106.08254.
    """
    n = len(encoder_blocks(network)) - 1
    return {name: decay ** (n + 1 - block) for name, block in block_of_parameters(network).items()}


def _units(network: Network) -> Iterator[tuple[str, str, nn.Module]]:
    """Paths, own names and modules of which the encoder is made, in order."""
    for prefix in network.encoder_names:
        root = prefix.rstrip(".")
        module = network.get_submodule(root)
        if isinstance(module, nn.Sequential) and not _holds_blocks(root, module):
            yield root, root, module
        else:
            yield from _opened(root, module, network)


def _opened(path: str, module: nn.Module, network: Network) -> Iterator[tuple[str, str, nn.Module]]:
    for name, child in _children(module):
        inner = f"{path}.{name}"
        if not network.in_encoder(f"{inner}."):
            continue
        if _holds_blocks(name, child):
            yield from _opened(inner, child, network)
        elif any(True for _ in child.parameters()) or any(True for _ in child.buffers()):
            yield inner, name, child


def _children(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """In the order of the forward pass, which is not that of registration in MiT (``patch_embed1`` to 4 come first)."""
    children = list(module.named_children())
    if {"patch_embed1", "block1"} <= {name for name, _ in children}:
        children.sort(key=lambda child: child[0][-1])
    return children


def _holds_blocks(name: str, module: nn.Module) -> bool:
    if _BEFORE.match(name):
        return False
    children = dict(module.named_children())
    if any(isinstance(children.get(inner), nn.Sequential | nn.ModuleList) for inner in _INNER) or "model" in children:
        return True
    if isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        return any(not _is_layer(child) for child in children.values())
    return False


def _is_block(name: str, module: nn.Module) -> bool:
    return not _BEFORE.match(name) and not _is_layer(module)


def _is_layer(module: nn.Module) -> bool:
    """Whether a module is one layer: it, or one thing inside it, holds all parameters."""
    return sum(any(True for _ in child.parameters(recurse=False)) for child in module.modules()) < 2
