"""Random changes of training patches, on whole batches, every patch with its own draw.

One implementation for CPU and GPU: the numbers are drawn on the CPU from the generator given, so that a seed means the
same on both. Every augmentation is called as ``images, labels = augment(images, labels, generator)``: images float
[N, 3, H, W] in 0..1; labels integer [N, H, W] or ``None``. Only :class:`Geometry` and ``elastic.Elastic`` move labels;
what comes from outside the patch is 255, ignored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch.nn import functional

from stainda.errors import ConfigError, did_you_mean
from stainda.stains.colour import greyscale, mix_channels, mix_densities
from stainda.stains.deconvolution import HED_MATRIX

IGNORE = 255
Strength = Literal["light", "strong"]


class Augmentation(Protocol):
    """Anything called like this changes patches; it keeps shapes, dtypes and the range 0..1."""

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor | None, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor | None]: ...


@dataclass(frozen=True)
class Sequential:
    """Several augmentations, one after the other."""

    steps: Sequence[Augmentation]

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor | None, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        for step in self.steps:
            images, labels = step(images, labels, generator)
        return images, labels


@dataclass(frozen=True)
class Geometry:
    """Sections lie on the glass in any direction: mirror images, quarter turns, and (optionally) any angle and scale.

    Mirror images and quarter turns move whole pixels. Rotation, scale and shift interpolate (images bilinear with
    the rim mirrored, labels nearest with 255 outside).

    Args:
        flips, quarter_turns: whether to draw them (each of the 8 orientations equally likely with both).
        rotation: largest angle either way, degrees.
        scale: largest relative enlargement or reduction: 0.2 draws factors from 1/1.2 to 1.2, evenly on a log scale.
        shift: largest shift either way, as a share of the patch.
        p: share of the patches that are rotated, scaled and shifted.
    """

    flips: bool = True
    quarter_turns: bool = True
    rotation: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    p: float = 1.0

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor | None, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        n = len(images)
        mirror = torch.randint(2, (n,), generator=generator) * int(self.flips)
        flop = torch.randint(2, (n,), generator=generator) * int(self.flips)
        turns = torch.randint(4, (n,), generator=generator) * int(self.quarter_turns)
        if images.shape[-1] != images.shape[-2]:  # a quarter turn would change the shape
            turns = turns // 2 * 2
        affine = self._draw_affine(n, generator)
        images = _orient(images, mirror, flop, turns)
        labels = None if labels is None else _orient(labels, mirror, flop, turns)
        if affine is None:
            return images, labels
        return _warp(images, labels, affine)

    def _draw_affine(self, n: int, generator: torch.Generator) -> torch.Tensor | None:
        """Matrices [N, 2, 3] from output to input, in units of half a patch; ``None`` where nothing is to be drawn."""
        if not (self.rotation or self.scale or self.shift):
            return None
        draws = torch.rand(n, 5, generator=generator)
        chosen = (draws[:, 0] < self.p).float()
        signed = (2 * draws - 1) * chosen[:, None]
        angle = signed[:, 1] * math.radians(self.rotation)
        factor = torch.exp(signed[:, 2] * math.log1p(self.scale))
        shift = signed[:, 3:5] * self.shift * 2
        cos, sin = angle.cos() / factor, angle.sin() / factor
        return torch.stack([torch.stack([cos, sin, shift[:, 0]], 1), torch.stack([-sin, cos, shift[:, 1]], 1)], 1)


@dataclass(frozen=True)
class ColourJitter:
    """Brightness, contrast, saturation and hue, as cameras and eyes know them.

    Factors are drawn evenly from ``1 - x`` to ``1 + x``. ``hue`` is the largest rotation about the grey axis, in
    turns. :meth:`of` gives the two settings of this package; ``strong`` lets PAS pass through most colours of a kidney
    section.
    """

    brightness: float = 0.1
    contrast: float = 0.1
    saturation: float = 0.1
    hue: float = 0.02

    @classmethod
    def of(cls, strength: Strength) -> ColourJitter:
        """``light`` imitates another scanner, ``strong`` another stain."""
        return cls(0.3, 0.3, 0.6, 0.15) if _word(strength) == "strong" else cls()

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor | None, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        signed = 2 * torch.rand(len(images), 4, generator=generator) - 1
        gains = 1 + signed[:, :3] * torch.tensor([self.brightness, self.contrast, self.saturation])
        matrix = _saturation(gains[:, 2]) @ _hue(signed[:, 3] * self.hue) * (gains[:, 0] * gains[:, 1])[:, None, None]
        planes = images.contiguous()  # read twice
        level = greyscale(planes).mean(dim=(1, 2, 3), keepdim=True)
        kept = (gains[:, 0] * (1 - gains[:, 1])).to(images)[:, None, None, None]
        return mix_channels(planes, matrix.to(images)).add_(level * kept).clamp_(0.0, 1.0), labels


@dataclass(frozen=True)
class HedJitter:
    """More or less of each dye (Tellez et al. 2018, doi 10.1109/TMI.2018.2820199; 2019, arXiv 1902.06543).

    The patch is separated into haematoxylin, eosin and DAB; each amount ``a`` becomes ``a * alpha + beta``, alpha from
    ``1 - sigma`` to ``1 + sigma``, beta from ``-sigma`` to ``sigma`` times ``offset``; and is put together again.

    Args:
        sigma: 0.05 is light, 0.2 strong (the values of Tellez 2019).
        offset: unit of beta in base-10 optical density; the default is 1 in natural units.
    """

    sigma: float = 0.05
    offset: float = 1 / math.log(10)

    @classmethod
    def of(cls, strength: Strength) -> HedJitter:
        """``light`` or ``strong`` as in Tellez 2019."""
        return cls(0.2) if _word(strength) == "strong" else cls()

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor | None, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        signed = (2 * torch.rand(len(images), 2, 3, generator=generator) - 1) * self.sigma
        rows = torch.tensor(HED_MATRIX, dtype=torch.float32)
        matrix = (torch.linalg.inv(rows) * (1 + signed[:, :1])) @ rows  # densities as rows: separate, scale, combine
        beta = signed[:, 1] * self.offset @ rows
        return mix_densities(images, matrix.transpose(1, 2).to(images), beta.to(images)), labels


@dataclass(frozen=True)
class BlurNoise:
    """Blur and noise of scanners.

    Args:
        blur: largest standard deviation of a Gaussian, pixels.
        noise: largest standard deviation of noise, in units of the range 0..1.
        p: share of the patches that are blurred, and (drawn apart) that get noise.
    """

    blur: float = 1.0
    noise: float = 0.02
    p: float = 0.5

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor | None, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        n = len(images)
        draws = torch.rand(n, 4, generator=generator)
        seed = int(torch.randint(2**31, (1,), generator=generator))
        sigma = draws[:, 0] * self.blur * (draws[:, 1] < self.p)
        spread = draws[:, 2] * self.noise * (draws[:, 3] < self.p)
        blurred = blur_each(images, sigma) if self.blur > 0 else images
        if self.noise > 0:
            private = torch.Generator().manual_seed(seed)
            grain = torch.randn(images.shape, generator=private).to(images) * spread.to(images)[:, None, None, None]
            blurred = (blurred + grain).clamp(0.0, 1.0)
        return blurred, labels


@dataclass(frozen=True)
class ChannelShuffle:
    """Red, green and blue in another order (the ``channelswap`` strategy of Lampert et al. 2018, arXiv 1810.10338)."""

    p: float = 1.0

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor | None, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        order = torch.rand(len(images), 3, generator=generator).argsort(dim=1)
        stay = torch.rand(len(images), generator=generator) >= self.p
        order[stay] = torch.arange(3)
        index = order.to(images.device)[:, :, None, None].expand(-1, -1, *images.shape[-2:])
        return images.gather(1, index), labels


def _word(strength: str) -> str:
    if strength not in ("light", "strong"):
        raise ConfigError(f"unknown strength {strength!r}", remedy=did_you_mean(strength, ("light", "strong")))
    return strength


def _orient(maps: torch.Tensor, mirror: torch.Tensor, flop: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Mirror left-right and top-bottom, then turn by quarters, each sample as stated; [N, ..., H, W]."""
    out = torch.empty_like(maps)
    code = mirror * 8 + flop * 4 + turns
    for value in code.unique().tolist():
        index = (code == value).nonzero()[:, 0].to(maps.device)
        part = maps[index]
        dims = [dim for dim, bit in ((-1, 8), (-2, 4)) if value & bit]
        if dims:
            part = part.flip(dims)
        out[index] = torch.rot90(part, value & 3, dims=(-2, -1))
    return out


def _warp(
    images: torch.Tensor, labels: torch.Tensor | None, affine: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    grid = functional.affine_grid(affine.to(images), list(images.shape), align_corners=False)
    return sample_at(images, labels, grid)


def sample_at(
    images: torch.Tensor, labels: torch.Tensor | None, grid: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Images and labels at the places of ``grid`` [N, H, W, 2] (x, y, -1..1 over the patch, pixel edges outermost).

    Images are interpolated, their rim mirrored; labels are those of the nearest pixel, 255 outside.
    """
    moved = functional.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    if labels is None:
        return moved.clamp(0.0, 1.0), None
    shifted = labels[:, None].to(images.dtype) - IGNORE  # zeros outside then are 255
    sampled = functional.grid_sample(shifted, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return moved.clamp(0.0, 1.0), (sampled[:, 0] + IGNORE).round().to(labels.dtype)


def _saturation(gain: torch.Tensor) -> torch.Tensor:
    """[N, 3, 3]: colours moved away from (gain > 1) or towards their grey."""
    grey = greyscale(torch.eye(3)[None, :, :, None])[0, 0, :, 0].expand(3, 3)
    return gain[:, None, None] * torch.eye(3) + (1 - gain)[:, None, None] * grey


def _hue(turns: torch.Tensor) -> torch.Tensor:
    """[N, 3, 3]: rotation about the grey axis (1, 1, 1), by Rodrigues' formula."""
    angle = (2 * math.pi * turns)[:, None, None]
    cross = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    return angle.cos() * torch.eye(3) + angle.sin() * cross + (1 - angle.cos()) * torch.full((3, 3), 1 / 3)


def blur_each(images: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Gaussian blur with one standard deviation (pixels) per sample; 0 leaves a sample as it is."""
    n, channels, height, width = images.shape
    reach = max(1, math.ceil(3 * float(sigma.max())))
    if reach >= min(height, width):
        reach = min(height, width) - 1
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offsets / sigma.clamp_min(1e-3)[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).to(images).repeat_interleave(channels, 0)
    flat = images.reshape(1, n * channels, height, width)
    flat = functional.conv2d(
        functional.pad(flat, (reach, reach, 0, 0), mode="reflect"), kernel[:, None, None, :], groups=n * channels
    )
    flat = functional.conv2d(
        functional.pad(flat, (0, 0, reach, reach), mode="reflect"), kernel[:, None, :, None], groups=n * channels
    )
    return flat.reshape(n, channels, height, width)
