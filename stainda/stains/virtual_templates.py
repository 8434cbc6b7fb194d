"""RandStainNA: every patch is normalised to a random template drawn from the colours of the training stains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from stainda.errors import ConfigError
from stainda.stains.colour import density_tensor, lab_from_rgb, rgb_from_lab

_GLASS, _TISSUE = 0.03, 0.10  # length of optical density between which a pixel becomes tissue
_FEWEST = 64.0  # tissue pixels from which a patch has statistics of its own
_FLATTEST = 0.5  # least standard deviation of L*, a* or b*: a black or otherwise even patch has no stain


@dataclass(frozen=True)
class TemplateStatistics:
    """How the mean and the standard deviation of L*, a*, b* vary over training patches, each (3,).

    ``mean_of_means`` and ``std_of_means`` describe the patches' means, the others their standard deviations.
    """

    mean_of_means: tuple[float, ...]
    std_of_means: tuple[float, ...]
    mean_of_stds: tuple[float, ...]
    std_of_stds: tuple[float, ...]
    n_patches: int

    @classmethod
    def fit(cls, patches: torch.Tensor) -> TemplateStatistics:
        """Fit to training patches, float [N, 3, H, W] in 0..1; those with hardly any tissue are left out.

        Raises:
            ConfigError: fewer than two patches have tissue.
        """
        mean, std, usable = tissue_statistics(patches)
        if int(usable.sum()) < 2:
            raise ConfigError(
                f"{int(usable.sum())} of {len(patches)} training patches have tissue, too few for RandStainNA",
                remedy="Raise patches.min_tissue, or take another augmentation",
            )
        mean, std = mean[usable], std[usable]
        rows = (mean.mean(0), mean.std(0), std.mean(0), std.std(0))
        first, second, third, fourth = (tuple(float(number) for number in row) for row in rows)
        return cls(first, second, third, fourth, int(usable.sum()))


@dataclass(frozen=True)
class RandStainNA:
    """Mean and spread of each patch's tissue colours made those of a random template (Shen et al. 2022, arXiv
    2206.12694).

    The template's mean and standard deviation of L*, a*, b* are normal draws around those of the training patches;
    the patch is brought to it as by Reinhard et al. 2001. Glass stays white; a patch without tissue, or of one colour
    (ink), stays as it is.

    Args:
        statistics: of training patches of the training domains alone.
        spread: factor on the standard deviations of the draws; 1 is the training patches' own.
        p: share of the patches that are changed.
    """

    statistics: TemplateStatistics
    spread: float = 1.0
    p: float = 0.5

    def __call__(
        self, images: torch.Tensor, labels: torch.Tensor | None, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        n, known = len(images), self.statistics
        chosen = torch.rand(n, generator=generator) < self.p
        draws = self.spread * torch.randn(n, 2, 3, generator=generator)
        aim_mean = torch.tensor(known.mean_of_means) + draws[:, 0] * torch.tensor(known.std_of_means)
        aim_std = torch.tensor(known.mean_of_stds) + draws[:, 1] * torch.tensor(known.std_of_stds)
        changed = restain(images, aim_mean.to(images), aim_std.clamp_min(0.1).to(images))
        return torch.where(chosen.to(images.device)[:, None, None, None], changed, images), labels


def restain(images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Patches [N, 3, H, W] whose tissue gets mean and standard deviation of L*, a*, b* [N, 3]; glass stays."""
    lab, weight = lab_from_rgb(images), _tissue(images)
    own_mean, own_std, usable = _moments(lab, weight)
    gain = std / own_std.clamp_min(0.1)
    moved = (lab - own_mean[:, :, None, None]) * gain[:, :, None, None] + mean[:, :, None, None]
    share = weight * usable[:, None, None, None]
    return images + share * (rgb_from_lab(moved) - images)


def tissue_statistics(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean and standard deviation [N, 3] of L*, a*, b* over each patch's tissue, and whether it has any, bool [N]."""
    return _moments(lab_from_rgb(images), _tissue(images))


def _moments(lab: torch.Tensor, weight: torch.Tensor) -> Any:
    total = weight.sum((2, 3))
    mean = (lab * weight).sum((2, 3)) / total.clamp_min(1e-6)
    spread = ((lab - mean[:, :, None, None]).square() * weight).sum((2, 3)) / total.clamp_min(1e-6)
    std = spread.clamp_min(0).sqrt()
    enough = total[:, 0] >= min(_FEWEST, 0.05 * lab.shape[-1] * lab.shape[-2])
    return mean, std, enough & (std.amax(1) > _FLATTEST)


def _tissue(images: torch.Tensor) -> torch.Tensor:
    """[N, 1, H, W], 0 for glass to 1 for tissue."""
    length = density_tensor(images).square().sum(1, keepdim=True).sqrt()
    return ((length - _GLASS) / (_TISSUE - _GLASS)).clamp(0, 1)
