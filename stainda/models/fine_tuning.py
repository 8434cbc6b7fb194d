"""Which parameters of a network learn: all, those behind the encoder, its last blocks too, or low-rank changes of it.

Layers that do not learn are left exactly as they are. Batch normalisations among them normalise by the statistics that
they were trained with, in training, at validation and at prediction, whatever the strategy's ``norm`` does with the
others: what follows them learns from what they give, and must be given the same later. Dropout and stochastic depth of
such layers are off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from stainda.config import TrainConfig
from stainda.errors import ConfigError
from stainda.models.base import Network
from stainda.models.depth import block_of_parameters, encoder_blocks
from stainda.models.low_rank import add_low_rank


@dataclass(frozen=True)
class ParameterCounts:
    """Numbers of a network: all of them (changes that are added in training among them), and those that learn."""

    total: int
    trained: int

    def __str__(self) -> str:
        return f"{self.trained:,} of {self.total:,} parameters learn"


class Adapter(nn.Module):
    """``x + U relu(D x)`` on channels: a bottleneck whose last layer is zero at the start.

    Takes ``[N, C, h, w]`` or ``[N, C]``.

    Reference: Houlsby et al. 2019, Parameter-Efficient Transfer Learning for NLP, arXiv 1902.00751; on features of a
    frozen encoder, Gao et al. 2021, CLIP-Adapter, arXiv 2110.04544.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, width, 1), nn.Conv2d(width, channels, 1)
        nn.init.zeros_(self.up.weight)
        assert self.up.bias is not None
        nn.init.zeros_(self.up.bias)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        x = features if features.dim() == 4 else features[:, :, None, None]
        return features + self.up(torch.relu(self.down(x))).view(features.shape)


def parameter_counts(network: nn.Module) -> ParameterCounts:
    """Of a network as it trains; scale and shift of batch normalisations that are fixed are counted too."""
    fixed = [module for module in network.modules() if type(module).__name__.startswith("FrozenBatchNorm")]
    buffers = sum(module.get_buffer(name).numel() for module in fixed for name in ("weight", "bias"))
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in network.parameters()]
    return ParameterCounts(buffers + sum(size for size, _ in sizes), sum(size for size, learns in sizes if learns))


def choose_parameters(network: Network, config: TrainConfig) -> None:
    """Let the parameters learn that ``config`` says, and no others; the network is changed for that.

    Draws of adapters and low-rank changes come from torch's generator.

    Raises:
        ConfigError: the encoder has fewer blocks than are to learn.
    """
    if config.everything:
        return
    if config.adapter is not None:
        _add_adapter(network, config.adapter)
    frozen = [name for name, _ in network.named_parameters() if network.in_encoder(name)]
    if config.mode == "last_n":
        assert config.blocks is not None
        frozen = _before_the_last(network, config.blocks)
    for name in frozen:
        network.get_parameter(name).requires_grad_(False)
    if config.mode == "lora":
        assert config.rank is not None and config.alpha is not None
        _freeze_batch_norms(network, lambda name: network.in_encoder(f"{name}."))
        add_low_rank(network, lambda name: network.in_encoder(f"{name}."), config.rank, config.alpha)
    else:
        network.frozen = _whole_modules(network, set(frozen))
        _freeze_batch_norms(
            network, lambda name: f"{name}.".startswith(tuple(f"{prefix}." for prefix in network.frozen))
        )


def _add_adapter(network: Network, width: int) -> None:
    """Behind the module that hands the encoder's features on: as its last layer, or in place of one that does
    nothing."""
    module = network.get_submodule(network.handed_on)
    adapter = Adapter(network.handed_channels, width)
    if isinstance(module, nn.Identity):
        parent, _, name = network.handed_on.rpartition(".")
        setattr(network.get_submodule(parent), name, nn.Sequential())
        module = network.get_submodule(network.handed_on)
    module.add_module("adapter", adapter)


def _before_the_last(network: Network, blocks: int) -> list[str]:
    """Parameters of the encoder that lie before its last blocks."""
    last = len(encoder_blocks(network)) - 1
    if blocks > last:
        raise ConfigError(
            f"training.train.blocks is {blocks}, and the encoder of this network has {last} blocks",
            remedy="Name fewer, or take train: all",
        )
    return [name for name, block in block_of_parameters(network).items() if block <= last - blocks]


def _whole_modules(network: nn.Module, frozen: set[str]) -> tuple[str, ...]:
    """Paths of the largest modules none of whose parameters learns."""
    whole: list[str] = []

    def look(path: str, module: nn.Module) -> None:
        names = [f"{path}.{name}" if path else name for name, _ in module.named_parameters()]
        if names and all(name in frozen for name in names):
            whole.append(path)
            return
        for name, child in module.named_children():
            look(f"{path}.{name}" if path else name, child)

    look("", network)
    return tuple(whole)


def _freeze_batch_norms(network: nn.Module, chosen: Callable[[str], bool]) -> None:
    """Replace batch normalisations by layers that are fixed: their scale, shift and statistics are buffers of the same
    names."""
    from timm.utils.model import freeze_batch_norm_2d

    for path, layer in list(network.named_modules()):
        if isinstance(layer, _BatchNorm) and chosen(path):
            parent, _, name = path.rpartition(".")
            assert layer.running_mean is not None
            with layer.running_mean.device:
                setattr(network.get_submodule(parent), name, freeze_batch_norm_2d(layer))
