"""JPEG as scanners write it: the losses of the discrete cosine transform's quantisation, batched and on any device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

# ITU-T T.81, Annex K, tables K.1 and K.2
_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
_CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99), (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99), *(((99,) * 8,) * 4),
)  # fmt: skip
_YCC = ((0.299, 0.587, 0.114), (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))


@dataclass(frozen=True)
class JpegLoss:
    """What compression as JPEG does to patches, without writing files.

    Args:
        low, high: the quality is a whole number drawn evenly between them, 1 to 100, in the scale of libjpeg.
        p: share of the patches that are compressed.
    """

    low: int = 30
    high: int = 90
    p: float = 0.5

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor | None, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        chosen = torch.rand(len(images), generator=generator) < self.p
        quality = torch.randint(self.low, self.high + 1, (len(images),), generator=generator)
        index = chosen.nonzero()[:, 0]
        if not len(index):
            return images, labels
        out = images.clone()
        out[index.to(images.device)] = compress(images[index.to(images.device)], quality[index])
        return out, labels


def compress(images: torch.Tensor, quality: torch.Tensor) -> torch.Tensor:
    """Patches [N, 3, H, W] in 0..1 as they come back from a JPEG file of these qualities (whole numbers [N]).

    Baseline JPEG with chroma at half the resolution (4:2:0), as Pillow writes it; values are rounded to 8 bit.
    """
    height, width = images.shape[-2:]
    levels = (images.float().clamp(0, 1) * 255).round()
    levels = functional.pad(levels, (0, -width % 16, 0, -height % 16), mode="replicate")
    ycc = torch.einsum("kc,nchw->nkhw", levels.new_tensor(_YCC), levels)
    ycc = (ycc + ycc.new_tensor([0.0, 128.0, 128.0])[:, None, None]).round()
    chroma = functional.avg_pool2d(ycc[:, 1:], 2).round()
    luma = _quantised(ycc[:, :1], _table(_LUMINANCE, quality))
    chroma = _quantised(chroma, _table(_CHROMINANCE, quality))
    chroma = functional.interpolate(chroma, scale_factor=2.0, mode="bilinear", align_corners=False)
    back = torch.linalg.inv(torch.tensor(_YCC, dtype=torch.float64)).to(levels)
    centred = torch.cat([luma, chroma - 128], dim=1)
    decoded = torch.einsum("ck,nkhw->nchw", back, centred)[..., :height, :width]
    return (decoded.round().clamp(0, 255) / 255).to(images.dtype)


def _table(base: tuple[tuple[int, ...], ...], quality: torch.Tensor) -> torch.Tensor:
    """Quantisation steps [N, 8, 8] of qualities [N], as libjpeg scales them."""
    quality = quality.clamp(1, 100)
    scale = torch.where(quality < 50, 5000 // quality.clamp_min(1), 200 - 2 * quality)
    steps = (torch.tensor(base) * scale[:, None, None] + 50) // 100
    return steps.clamp(1, 255).float()


def _quantised(planes: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """Planes [N, C, H, W] of levels 0..255 after rounding their cosine coefficients to multiples of ``steps``."""
    n, c, height, width = planes.shape
    basis = _cosines().to(planes)
    blocks = (planes - 128).reshape(n, c, height // 8, 8, width // 8, 8).permute(0, 1, 2, 4, 3, 5)
    steps = steps.to(planes)[:, None, None, None]
    kept = (basis @ blocks @ basis.T / steps).round() * steps
    out = (basis.T @ kept @ basis).permute(0, 1, 2, 4, 3, 5).reshape(n, c, height, width)
    return (out + 128).round().clamp(0, 255)


def _cosines() -> torch.Tensor:
    """The orthonormal DCT-II of 8 samples, [8, 8]."""
    frequency, place = torch.arange(8.0)[:, None], torch.arange(8.0)[None, :]
    rows = torch.cos((2 * place + 1) * frequency * math.pi / 16) / 2
    return torch.cat([rows[:1] / math.sqrt(2), rows[1:]])
