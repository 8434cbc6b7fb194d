"""Elastic deformation of patches and their labels."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from stainda.stains.augmentation import blur_each, sample_at


@dataclass(frozen=True)
class Elastic:
    """Smooth elastic deformation of tissue (Simard et al. 2003, doi 10.1109/ICDAR.2003.1227801).

    Every pixel is taken from a place displaced by ``alpha`` times a field of even noise in -1..1, blurred by a
    Gaussian. The blur takes most of the noise away: the typical displacement is ``0.163 alpha / sigma`` pixels per
    axis. Images are interpolated with the rim mirrored; labels move along, 255 where they come from outside.

    Args:
        alpha, sigma: pixels; 100 and 10 are those of Lampert et al. 2018.
        p: share of the patches that are deformed.
    """

    alpha: float = 100.0
    sigma: float = 10.0
    p: float = 0.5

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor | None, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        n, _, height, width = images.shape
        chosen = torch.rand(n, generator=generator) < self.p
        seed = int(torch.randint(2**31, (1,), generator=generator))
        index = chosen.nonzero()[:, 0].to(images.device)
        if not len(index) or self.alpha == 0:
            return images, labels
        private = torch.Generator().manual_seed(seed)
        noise = 2 * torch.rand(len(index), 2, height, width, generator=private) - 1
        shift = self.alpha * blur_each(noise.to(images), torch.full((len(index),), float(self.sigma)))
        grid = _pixel_centres(height, width).to(images) + shift.movedim(1, -1)
        grid = 2 * grid / torch.tensor([width, height], dtype=torch.float32).to(images) - 1
        moved, with_them = sample_at(images[index], None if labels is None else labels[index], grid)
        out = images.clone()
        out[index] = moved
        if labels is None or with_them is None:
            return out, None
        deformed = labels.clone()
        deformed[index] = with_them
        return out, deformed


def _pixel_centres(height: int, width: int) -> torch.Tensor:
    """[H, W, 2], x and y in pixels from the corner."""
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([columns, rows], dim=-1)
