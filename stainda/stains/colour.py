"""Colour conversions on torch batches, float [N, 3, H, W] in 0..1 (sRGB unless said otherwise)."""

from __future__ import annotations

import math

import numpy as np
import torch

from stainda.stains.deconvolution import DARKEST

_XYZ_FROM_RGB = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_D65 = (0.95047, 1.0, 1.08883)
_GREY = (0.2125, 0.7154, 0.0721)
_LN10 = math.log(10.0)
_LOG2_10 = math.log2(10.0)


def mix_channels(images: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """``matrix`` (K, 3), or one per sample (N, K, 3), times the channels: [N, 3, H, W] to [N, K, H, W]."""
    return torch.matmul(matrix, images.flatten(2)).unflatten(2, images.shape[-2:])


def density_tensor(images: torch.Tensor) -> torch.Tensor:
    """Optical density [N, 3, H, W], base 10: 0 for white, 2.41 for black."""
    return images.clamp(DARKEST, 1.0).log() / -_LN10


def intensity_tensor(density: torch.Tensor) -> torch.Tensor:
    """Images in 0..1 of an optical density."""
    return (density * -_LN10).exp().clamp(0.0, 1.0)


def mix_densities(images: torch.Tensor, matrix: torch.Tensor, offset: torch.Tensor | None = None) -> torch.Tensor:
    """Images [N, 3, H, W] in 0..1 whose optical densities were mixed: ``matrix`` times density, plus ``offset``.

    Logarithms are to base 2, which takes a third of the time of others and no multiplication before or after. On a CPU
    image after image in two buffers that stay in its cache; the logarithm there is numpy's, five times as fast as
    torch's.

    Args:
        matrix: (N, 3, 3). offset: (N, 3), base-10 optical density.
    """
    shift = None if offset is None else offset * -_LOG2_10
    if images.device.type != "cpu" or images.requires_grad or matrix.requires_grad:
        mixed = mix_channels(images.clamp(DARKEST, 1.0).log2(), matrix)
        return (mixed if shift is None else mixed + shift[:, :, None, None]).exp2().clamp(0.0, 1.0)
    out = torch.empty(images.shape, dtype=images.dtype)
    light, mixed = (images.new_empty(1, 3, images.shape[2] * images.shape[3]) for _ in range(2))
    for index in range(len(images)):
        torch.clamp(images[index : index + 1], DARKEST, 1.0, out=light.unflatten(2, images.shape[-2:]))
        np.log2(light.numpy(), out=light.numpy())
        if shift is None:
            torch.matmul(matrix[index : index + 1], light, out=mixed)
        else:
            torch.baddbmm(shift[index : index + 1, :, None], matrix[index : index + 1], light, out=mixed)
        np.exp2(mixed.numpy(), out=mixed.numpy())
        torch.clamp(mixed, 0.0, 1.0, out=out[index : index + 1].flatten(2))
    return out


def separate_tensor(images: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Amounts of dye [N, 3, H, W]; ``matrix`` (3, 3) or (N, 3, 3) has one invertible row of unit density per dye."""
    return mix_channels(density_tensor(images), torch.linalg.inv(matrix).transpose(-1, -2))


def greyscale(images: torch.Tensor) -> torch.Tensor:
    """Luminance [N, 1, H, W] with the weights of Rec. 709 (as scikit-image)."""
    return mix_channels(images, images.new_tensor([_GREY]))


def lab_from_rgb(images: torch.Tensor) -> torch.Tensor:
    """CIE L*a*b* (D65, 2 degrees) of sRGB; L in 0..100."""
    linear = torch.where(images > 0.04045, ((images + 0.055) / 1.055).clamp_min(0).pow(2.4), images / 12.92)
    xyz = mix_channels(linear, images.new_tensor(_XYZ_FROM_RGB)) / images.new_tensor(_D65)[:, None, None]
    f = torch.where(xyz > 0.008856, xyz.clamp_min(1e-8).pow(1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = f.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def rgb_from_lab(lab: torch.Tensor) -> torch.Tensor:
    """sRGB in 0..1 of CIE L*a*b*; colours that no screen shows are clipped."""
    lightness, a, b = lab.unbind(1)
    y = (lightness + 16) / 116
    f = torch.stack([y + a / 500, y, (y - b / 200).clamp_min(0)], dim=1)
    xyz = torch.where(f > 0.2068966, f.pow(3), (f - 16 / 116) / 7.787) * lab.new_tensor(_D65)[:, None, None]
    linear = mix_channels(xyz, torch.linalg.inv(lab.new_tensor(_XYZ_FROM_RGB, dtype=torch.float64)).to(lab))
    rgb = torch.where(linear > 0.0031308, 1.055 * linear.clamp_min(1e-8).pow(1 / 2.4) - 0.055, 12.92 * linear)
    return rgb.clamp(0.0, 1.0)
