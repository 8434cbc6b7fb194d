"""What every network of stainda offers in addition to ``forward``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from stainda.arrays import Array
from stainda.errors import ConfigError

if TYPE_CHECKING:
    from typing_extensions import Self


class Network(nn.Module):
    """A network from images to one score per class: at every pixel, or of the whole patch.

    ``forward`` takes float [N, in_channels, H, W]. H and W must be divisible by ``stride`` and at least
    ``minimum_size``.

    Attributes:
        task: kind of task the network is for.
        in_channels, n_classes: ``n_classes`` counts the background.
        stride: what H and W must be divisible by.
        margin: input pixels at each side for which there is no output; 0 unless the network pads nothing.
        default_layers: names (for ``get_submodule`` and forward hooks) of the modules whose output tensor is the
            ``bottleneck`` (coarsest features, a map) and the ``decoder`` (last features before the classes).
        head_names: what names of the last layer's tensors start with; their shape depends on the number of classes.
        encoder_names: what names of the encoder's tensors start with (those of the last layer may, too).
        handed_on: path of the module whose output is what the encoder gives to the rest. handed_channels: of it.
        frozen: paths of modules that do not learn and stay as in evaluation while the others train.
    """

    task: ClassVar[str] = "segmentation"
    head_names: tuple[str, ...] = ("head.",)
    encoder_names: tuple[str, ...] = ("encoder.", "bottleneck.")
    handed_on: str = "bottleneck"
    frozen: tuple[str, ...] = ()

    in_channels: int
    n_classes: int
    stride: int
    margin: int
    default_layers: dict[str, str]
    handed_channels: int

    def in_encoder(self, name: str) -> bool:
        """Whether a tensor or module (its path with a dot behind it) of this name belongs to the encoder."""
        return name.startswith(self.encoder_names) and not name.startswith(self.head_names) and ".adapter." not in name

    def train(self, mode: bool = True) -> Self:
        """As of torch; modules that are ``frozen`` stay as in evaluation."""
        super().train(mode)
        for path in self.frozen:
            self.get_submodule(path).eval()
        return self

    def standardised_by(self, mean: Array, std: Array) -> None:
        """What images are standardised by before ``forward``, float32 ``(C,)``; for networks that measure
        colours as they were."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images [N, in_channels, H, W] to logits."""
        self.check_input(images)
        return self.answer(self.encode(images))

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What the encoder gives for images: maps ``[N, C, h, w]``, from fine to coarse, or a vector ``[N, C]``.

        ``answer(encode(images))`` is ``forward(images)``.

        Raises:
            ConfigError: what follows the encoder takes more than that.
        """
        raise NotImplementedError

    def answer(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """The logits for what :meth:`encode` gave."""
        raise NotImplementedError

    @property
    def minimum_size(self) -> int:
        """The smallest height and width ``forward`` takes, pixels."""
        smallest = 2 * self.margin + 1
        return self.input_size(max(smallest, self.stride))

    def input_size(self, pixels: int) -> int:
        """The smallest height (or width) the network takes that is at least ``pixels``."""
        return -(-pixels // self.stride) * self.stride

    def crop(self, labels: torch.Tensor) -> torch.Tensor:
        """Labels or weights [..., H, W] cut to the pixels for which there is an output."""
        if self.margin == 0:
            return labels
        return labels[..., self.margin : -self.margin, self.margin : -self.margin]

    def check_input(self, images: torch.Tensor) -> None:
        """Refuse an image the network cannot take.

        Raises:
            ConfigError: number of channels, or a height or width that is no multiple of ``stride`` or too small.
        """
        if images.ndim != 4 or images.shape[1] != self.in_channels:
            raise ConfigError(
                f"the network takes images of {self.in_channels} channels, shape (N, {self.in_channels}, H, W); "
                f"it was given {tuple(images.shape)}",
                remedy="Build the model with in_channels of the strategy's view",
            )
        height, width = images.shape[-2:]
        if height % self.stride or width % self.stride or min(height, width) < self.minimum_size:
            raise ConfigError(
                f"this network takes sizes that are multiples of {self.stride} pixels and at least "
                f"{self.minimum_size}; it was given {height} x {width}",
                remedy=f"Set patches.size to {self.input_size(max(height, width, self.minimum_size))}",
            )


class SegmentationNetwork(Network):
    """A network whose logits are [N, n_classes, H - 2 margin, W - 2 margin], centred on the input.

    ``stride`` is also the number of input pixels per pixel of the bottleneck.
    """


class ClassificationNetwork(Network):
    """A network whose logits are [N, n_classes]: one answer per patch, about what lies at its centre.

    ``bottleneck`` is a map [N, C, h, w], ``decoder`` the vector [N, C] that the last layer reads.

    Attributes:
        smallest: the least height and width that leave a pixel at the bottleneck.
    """

    task: ClassVar[str] = "classification"
    stride = 1
    margin = 0
    smallest: int = 1

    @property
    def minimum_size(self) -> int:
        return self.input_size(self.smallest)
