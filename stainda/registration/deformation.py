"""Dense deformation between two sections that lie on each other already, by matching of neighbourhoods.

From coarse to fine, every neighbourhood of the fixed section is sought in the moving one within a few pixels. What is
compared are the directions of optical-density gradients (normalised gradient fields: Haber and Modersitzki, MICCAI
2006), which lumens and borders give in every stain. The best shifts are coupled to their neighbours (Steinbrücker et
al., ICCV 2009; Siebert et al., MICCAI Learn2Reg 2021) and averaged, each weighted by how far its peak stands above the
other shifts, so that places that show nothing follow those that do.

The sum of these shifts is a stationary velocity field ``v``; the deformation is ``exp(v)`` (scaling and squaring:
Arsigny et al., MICCAI 2006). It is smooth, has ``exp(-v)`` as its inverse, and does not fold where the lattice resolves
``v``. Everything is written in torch, without random numbers and without gradients, for the CPU or a GPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from stainda.arrays import Array

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class DeformationLevel:
    """One resolution: longest side in pixels, how far shifts are sought (pixels of it), how often, and over how many
    pixels a side likenesses are summed up before they are averaged."""

    side: int
    reach: int
    passes: int
    pool: int


LEVELS = (
    DeformationLevel(64, 4, 2, 1),
    DeformationLevel(128, 4, 2, 2),
    DeformationLevel(256, 3, 2, 2),
    DeformationLevel(512, 2, 1, 4),
)
SOFTNESS = (
    2.0  # gradients of this many times the median length have 0.7 of full weight: texture counts less than borders
)
GRADIENT = 1.0  # standard deviation of the gradient filter, pixels of the level
COUPLING = (
    0.005  # cost of a shift by one pixel away from its neighbours', in the last of ROUNDS; a quarter in each before
)
ROUNDS = 4
SMOOTHING = 1.5  # of the velocity after each pass, pixels of the level
SQUARINGS = 6


@dataclass(frozen=True)
class Stiffness:
    """How far neighbours are bound to each other.

    Attributes:
        window: standard deviation of the neighbourhood that is compared, pixels of each level.
        smoothing: standard deviation of the average of the shifts, pixels of each level.
    """

    window: float
    smoothing: float


SOFT, FIRM, STIFF = Stiffness(6.0, 10.0), Stiffness(8.0, 14.0), Stiffness(12.0, 24.0)


def velocity(
    fixed: Array,
    moving: Array,
    compared: Array,
    shown: Array,
    *,
    stiffness: Stiffness = FIRM,
    levels: tuple[DeformationLevel, ...] = LEVELS,
    device: str = "cpu",
) -> Array:
    """The velocity field whose exponential takes points of ``fixed`` to the same structures in ``moving``.

    Args:
        fixed, moving: optical density, float (h, w), on one lattice.
        compared: bool (h, w), where of ``fixed`` evidence may be taken. shown: bool (h, w), what ``moving`` shows.
        device: of torch. One thread of a CPU always gives the same result.

    Returns:
        float32 (2, h, w), pixels; see :func:`exponential`.
    """
    import torch

    def tensor(values: Array) -> Tensor:
        return torch.as_tensor(np.asarray(values, np.float32), device=device)[None, None]

    layers = torch.cat([tensor(part) for part in (fixed, moving, compared, shown)], 1)
    height, width = fixed.shape
    flow: Tensor | None = None
    with torch.no_grad():
        for level in levels:
            share = min(1.0, level.side / max(height, width))
            shape = max(8, round(height * share)), max(8, round(width * share))
            fixed_layer, moving_layer, where, inside = resized(layers, shape).split(1, 1)
            target = structures(fixed_layer, where)
            flow = torch.zeros_like(fixed_layer).repeat(1, 2, 1, 1) if flow is None else rescaled(flow, shape)
            for _ in range(level.passes):
                moved = warped(torch.cat([moving_layer, inside], 1), exponential_of(flow))
                source = structures(moved[:, :1], moved[:, 1:])
                shift = _shifts(target, source, where, moved[:, 1:], level, stiffness)
                flow = blurred(flow + shift, SMOOTHING)
        assert flow is not None
        return np.asarray(rescaled(flow, (height, width))[0].cpu().numpy(), np.float32)


def exponential(field: Array) -> Array:
    """The displacement float32 (2, h, w) that a velocity field (2, h, w) leads to in unit time; of ``-field`` it is the
    inverse."""
    import torch

    with torch.no_grad():
        return np.asarray(exponential_of(torch.as_tensor(np.asarray(field, np.float32))[None])[0].numpy(), np.float32)


def exponential_of(field: Tensor) -> Tensor:
    """The same of tensors (1, 2, h, w)."""
    moved = field / 2**SQUARINGS
    for _ in range(SQUARINGS):
        moved = moved + warped(moved, moved)
    return moved


def structures(density: Tensor, where: Tensor) -> Tensor:
    """Gradient directions (1, 2, h, w) of densities (1, 1, h, w), soft against the median length ``where`` > 0.5."""
    import torch
    import torch.nn.functional as nn

    smooth = nn.pad(blurred(density, GRADIENT), (1, 1, 1, 1), mode="replicate")
    across = (smooth[:, :, 1:-1, 2:] - smooth[:, :, 1:-1, :-2]) / 2
    down = (smooth[:, :, 2:, 1:-1] - smooth[:, :, :-2, 1:-1]) / 2
    length = torch.hypot(across, down)
    known = length[where > 0.5]
    typical = SOFTNESS * float(known.median()) if known.numel() else 0.0
    return torch.cat([across, down], 1) / torch.hypot(length, torch.full_like(length, max(typical, 1e-6)))


def _shifts(
    target: Tensor, source: Tensor, where: Tensor, shown: Tensor, level: DeformationLevel, stiffness: Stiffness
) -> Tensor:
    """Smooth shifts (1, 2, h, w), pixels, that lead from each place of the target to its like in the source."""
    import torch
    import torch.nn.functional as nn

    steps, likeness, weight = _likeness(target, source, where, shown, level, stiffness.window / level.pool)
    length = (steps**2).sum(1)[:, None, None]
    smooth = torch.zeros_like(weight).repeat(1, 2, 1, 1)
    for turn in range(ROUNDS):
        coupling = COUPLING * 4.0 ** (turn + 1 - ROUNDS)
        apart = length - 2 * (steps[:, 0, None, None] * smooth[0, 0] + steps[:, 1, None, None] * smooth[0, 1])
        best = first_best(likeness - coupling * apart)
        smooth = averaged(steps[best].permute(2, 0, 1)[None], weight, stiffness.smoothing / level.pool)
    return nn.interpolate(smooth, target.shape[2:], mode="bilinear", align_corners=False)


def first_best(values: Tensor) -> Tensor:
    """The index of the largest of values (n, h, w) at every place, the first of several; int64 (h, w).

    Two maxima, since torch's ``argmax`` over the first of several axes takes four times as long on a CPU.
    """
    import torch

    number = len(values)
    countdown = torch.arange(number, 0, -1, dtype=torch.int32, device=values.device)[:, None, None]
    return (number - ((values == values.amax(0)) * countdown).amax(0)).long()


def _likeness(
    target: Tensor, source: Tensor, where: Tensor, shown: Tensor, level: DeformationLevel, window: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Shifts (n, 2) x and y, the likeness of every neighbourhood under each (n, h, w), and its weight (1, 1, h, w); h
    and w are those of the pooled lattice."""
    import torch
    import torch.nn.functional as nn

    (height, width), reach = target.shape[2:], level.reach
    padded = nn.pad(torch.cat([source, shown], 1), (reach,) * 4)
    steps = [
        (x, y) for y in range(-reach, reach + 1) for x in range(-reach, reach + 1) if x * x + y * y <= reach**2 + 1
    ]
    agreed, seen = [], []
    for x, y in steps:
        shifted = padded[:, :, reach + y : reach + y + height, reach + x : reach + x + width]
        both = shifted[:, 2:] * where
        agreed.append((target * shifted[:, :2]).sum(1, keepdim=True) * both)
        seen.append(both)
    layers = torch.cat([torch.cat(agreed, 1), torch.cat(seen, 1)], 0)
    if level.pool > 1:
        layers = nn.avg_pool2d(layers, level.pool, ceil_mode=True, count_include_pad=False)
    sums = blurred(layers, window)
    likeness = sums[0] / (sums[1] + 0.05)
    peak = (likeness.max(0).values - likeness.mean(0)).clamp(min=0)
    weight = (peak**2 * sums[1].mean(0))[None, None]
    return torch.tensor(steps, dtype=target.dtype, device=target.device), likeness, weight


def averaged(values: Tensor, weight: Tensor, sigma: float) -> Tensor:
    """Weighted Gaussian average (1, 2, h, w); far from everything that has weight, the wider average, and beyond that
    zero (normalised convolution: Knutsson and Westin, CVPR 1993)."""
    import torch

    usual = weight.mean()
    layers = torch.cat([values * weight, weight], 1)
    near, wide = blurred(layers, sigma), blurred(layers, 3 * sigma)
    trust = near[:, 2:] / (near[:, 2:] + 0.1 * usual + 1e-12)
    close, far = near[:, :2] / (near[:, 2:] + 1e-12), wide[:, :2] / (wide[:, 2:] + 1e-3 * usual + 1e-12)
    return close * trust + far * (1 - trust)


def warped(layers: Tensor, field: Tensor) -> Tensor:
    """Layers (1, c, h, w) at ``u + field(u)`` (field (1, 2, h, w), pixels), linear; the border is continued."""
    import torch
    import torch.nn.functional as nn

    height, width = layers.shape[2:]
    y = torch.arange(height, dtype=layers.dtype, device=layers.device)[:, None]
    x = torch.arange(width, dtype=layers.dtype, device=layers.device)[None]
    grid = torch.stack([(x + field[0, 0]) * 2 / (width - 1) - 1, (y + field[0, 1]) * 2 / (height - 1) - 1], dim=-1)
    return nn.grid_sample(layers, grid[None], align_corners=True, padding_mode="border")


def blurred(layers: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of layers (n, c, h, w), the border continued.

    Both passes are products with a matrix: ten times as fast as a convolution on one core, as images are small, kernels
    wide and layers many.
    """
    import torch

    down, across = (_smoothing(length, sigma, layers.dtype, layers.device) for length in layers.shape[2:])
    return torch.matmul(torch.matmul(down, layers), across.T)


@lru_cache(maxsize=64)
def _smoothing(length: int, sigma: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The matrix (length, length) of a Gaussian blur of so many pixels."""
    import torch

    reach = max(1, math.ceil(3 * sigma))
    step = torch.arange(-reach, reach + 1, device=device)
    kernel = torch.exp(-0.5 * (step.to(dtype) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    place = (torch.arange(length, device=device)[:, None] + step[None]).clamp(0, length - 1)
    matrix = torch.zeros(length, length, dtype=dtype, device=device)
    return matrix.scatter_add_(1, place, kernel.expand(length, -1).contiguous())


def resized(layers: Tensor, shape: tuple[int, int]) -> Tensor:
    """Layers (1, c, h, w) with another number of pixels, corner to corner."""
    import torch.nn.functional as nn

    step = layers.shape[3] / shape[1]
    return nn.interpolate(blurred(layers, step / 2) if step > 1 else layers, shape, mode="bilinear", align_corners=True)


def rescaled(field: Tensor, shape: tuple[int, int]) -> Tensor:
    """A field (1, 2, h, w) on another lattice, in pixels of that."""
    import torch
    import torch.nn.functional as nn

    height, width = field.shape[2:]
    scale = torch.tensor(
        [(shape[1] - 1) / (width - 1), (shape[0] - 1) / (height - 1)], dtype=field.dtype, device=field.device
    )
    return nn.interpolate(field, shape, mode="bicubic", align_corners=True) * scale.view(1, 2, 1, 1)
