"""Colours and shading of one image on the structure of another, by their Fourier amplitudes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

Styles = Callable[[int, torch.Generator], torch.Tensor | None]
"""Gives so many images [N, 3, H, W] in 0..1 to take amplitudes from; ``None``: take those of the batch."""


@dataclass(frozen=True)
class FourierMix:
    """Low frequencies take their amplitude from another image, their phase stays (FDA: Yang & Soatto 2020, arXiv
    2004.05498; mixed by a random share as Xu et al. 2021, arXiv 2105.14327).

    ``amplitude' = (1 - share) amplitude + share other_amplitude`` for frequencies of at most ``floor(beta min(H, W))``
    cycles per patch along each axis, share drawn evenly from 0 to ``share``.

    Args:
        beta: 0 exchanges the mean colour alone; the authors use 0.01 to 0.09.
        share: the largest share; 1 lets an image take the other's amplitudes wholly.
        p: share of the patches that are changed.
        styles: where the other images come from; by default the batch, every patch from another one of it.
    """

    beta: float = 0.05
    share: float = 1.0
    p: float = 0.5
    styles: Styles | None = None

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor | None, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        n = len(images)
        draws = torch.rand(n, 2, generator=generator)
        other = None if self.styles is None else self.styles(n, generator)
        if other is None:
            turn = int(torch.randint(1, max(2, n), (1,), generator=generator))
            other = images.roll(turn, 0)
        share = draws[:, 0] * self.share * (draws[:, 1] < self.p)
        return mix_amplitudes(images, other.to(images), self.beta, share.to(images)), labels


def mix_amplitudes(images: torch.Tensor, others: torch.Tensor, beta: float, share: torch.Tensor) -> torch.Tensor:
    """Images [N, 3, H, W] with low amplitudes mixed with those of ``others`` by ``share`` [N]; clipped to 0..1.

    Others of another size have their frequencies counted per patch as well.
    """
    height, width = images.shape[-2:]
    if others.shape[-2:] != (height, width):
        others = torch.nn.functional.interpolate(others, (height, width), mode="bilinear", antialias=True)
    spectrum, aim = torch.fft.fft2(images.float()), torch.fft.fft2(others.float()).abs()
    reach = int(beta * min(height, width))
    low = _low(height, reach)[:, None] & _low(width, reach)[None, :]
    weight = low.to(images.device) * share.float()[:, None, None, None]
    amplitude = spectrum.abs()
    mixed = amplitude + weight * (aim - amplitude)
    out = torch.fft.ifft2(torch.polar(mixed, spectrum.angle())).real
    changed = out.clamp(0.0, 1.0).to(images.dtype)
    return torch.where(share[:, None, None, None] > 0, changed, images)


def _low(size: int, reach: int) -> torch.Tensor:
    """Which entries of an FFT of this size are of at most ``reach`` cycles."""
    return torch.fft.fftfreq(size, 1 / size).abs() <= reach
