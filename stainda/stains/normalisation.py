"""Normalising colour: every slide's tissue is given the colours of a template.

The fit is per slide, on a sample of its tissue, never per patch: a patch of pure glass has no stain to estimate
(torchstain issue 55, pathml issue 329). A slide whose stain cannot be estimated is left as it is, and says why.
Normalisation can do harm (arXiv 2301.03418): compare with none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from stainda.errors import ConfigError, SlideError
from stainda.stains.colour import density_tensor, intensity_tensor, lab_from_rgb, mix_channels, rgb_from_lab
from stainda.stains.deconvolution import completed, optical_density

Method = Literal["reinhard", "macenko"]

FEWEST_PIXELS = 200
"""A fit on fewer tissue pixels is refused."""

_FAINTEST = 0.15  # Euclidean length of optical density from which a pixel counts as stained; Macenko's beta
_NARROWEST = 0.1  # sine of the smallest angle between two stain vectors that still are two
_GLASS, _TISSUE = 0.03, 0.10  # length of optical density between which Reinhard's shift fades in


@dataclass(frozen=True)
class ReinhardStatistics:
    """Mean and standard deviation of L*, a*, b* over tissue (Reinhard et al. 2001, doi 10.1109/38.946629).

    ``fallback`` says why the statistics cannot be used (empty: they can).
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    n_pixels: int
    fallback: str = ""

    @classmethod
    def fit(cls, pixels: NDArray[np.uint8]) -> ReinhardStatistics:
        """Fit to tissue pixels, uint8 (n, 3)."""
        pixels = _checked(pixels)
        if len(pixels) < FEWEST_PIXELS:
            reason = f"{len(pixels)} tissue pixels, at least {FEWEST_PIXELS} are needed"
            return cls((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), len(pixels), reason)
        rgb = torch.from_numpy(pixels.astype(np.float64) / 255).T[None, :, None]
        lab = lab_from_rgb(rgb)[0, :, 0].numpy()
        mean, std = lab.mean(axis=1), lab.std(axis=1)
        reason = "tissue of a single colour" if std.min() < 1e-2 else ""
        return cls(_three(mean), _three(std), len(pixels), reason)


@dataclass(frozen=True)
class MacenkoFit:
    """Two stain vectors and how strongly they are present (Macenko et al. 2009, doi 10.1109/ISBI.2009.5193250).

    ``vectors`` is (2, 3), unit rows of optical density, the one that takes more red light first (haematoxylin beside
    eosin, Schiff or DAB); ``strengths`` the 99th percentiles of their amounts. ``fallback`` says why the fit cannot be
    used (empty: it can).
    """

    vectors: tuple[tuple[float, float, float], tuple[float, float, float]]
    strengths: tuple[float, float]
    n_pixels: int
    fallback: str = ""

    @classmethod
    def fit(cls, pixels: NDArray[np.uint8], percentile: float = 1.0) -> MacenkoFit:
        """Fit to tissue pixels, uint8 (n, 3): the extreme angles in the plane of the two first singular vectors."""
        density = optical_density(_checked(pixels)).astype(np.float64)
        stained = density[np.linalg.norm(density, axis=1) > _FAINTEST]
        if len(stained) < FEWEST_PIXELS:
            return cls._none(len(stained), f"{len(stained)} stained pixels, at least {FEWEST_PIXELS} are needed")
        if stained.std(axis=0).max() < 1e-3:
            return cls._none(len(stained), "tissue of a single colour")
        _, directions = np.linalg.eigh(stained.T @ stained)
        plane = directions[:, [2, 1]]
        plane = plane * np.where(stained.mean(axis=0) @ plane < 0, -1, 1)
        projected = stained @ plane
        angles = np.arctan2(projected[:, 1], projected[:, 0])
        low, high = np.percentile(angles, [percentile, 100 - percentile])
        rows = np.stack([plane @ [np.cos(angle), np.sin(angle)] for angle in (low, high)]).clip(min=0)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        if lengths.min() < 1e-6:
            return cls._none(len(stained), "a stain vector without positive optical density")
        rows /= lengths
        if np.linalg.norm(np.cross(rows[0], rows[1])) < _NARROWEST:
            return cls._none(len(stained), "the two stain vectors coincide: only one colour is found")
        rows = rows[np.argsort(-rows[:, 0], kind="stable")]
        amounts = stained @ np.linalg.inv(completed(rows))[:, :2]
        strengths = np.percentile(amounts, 99, axis=0)
        if strengths.min() < 0.02:
            return cls._none(len(stained), "one of the two stains is not present")
        vectors = (_three(rows[0]), _three(rows[1]))
        return cls(vectors, (float(strengths[0]), float(strengths[1])), len(stained))

    @classmethod
    def _none(cls, n_pixels: int, reason: str) -> MacenkoFit:
        return cls(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)), (1.0, 1.0), n_pixels, reason)


Fit = ReinhardStatistics | MacenkoFit
_FITS: dict[str, type[ReinhardStatistics] | type[MacenkoFit]] = {"reinhard": ReinhardStatistics, "macenko": MacenkoFit}


@dataclass(frozen=True)
class ColourNormaliser:
    """A template and the fits of the slides that are brought to it.

    Attributes:
        method: ``reinhard`` or ``macenko``.
        template: the fit of the pooled tissue of the template slides.
        fits: by slide.
    """

    method: Method
    template: Fit
    fits: Mapping[str, Fit] = field(default_factory=dict)

    @classmethod
    def fit(
        cls, method: Method, tissue: Mapping[str, NDArray[np.uint8]], template_slides: Sequence[str]
    ) -> ColourNormaliser:
        """Fit a template and every slide.

        Args:
            tissue: tissue pixels, uint8 (n, 3), of every slide to be normalised, by slide.
            template_slides: slides whose colours are the aim: of the source domains, of the train split. Each
                contributes equally many pixels.

        Raises:
            ConfigError: unknown method.
            SlideError: the template slides together have no usable stain.
        """
        if method not in _FITS:
            raise ConfigError(f"unknown normalisation {method!r}", remedy=f"Known: {', '.join(_FITS)}")
        parts = [_checked(tissue[slide]) for slide in template_slides if len(tissue[slide])]
        share = min((len(part) for part in parts if len(part) >= FEWEST_PIXELS), default=0)
        evenly = [part[np.linspace(0, len(part) - 1, share).astype(int)] for part in parts if len(part) >= share > 0]
        pooled = np.concatenate(evenly) if evenly else np.zeros((0, 3), np.uint8)
        template = _FITS[method].fit(pooled)
        if template.fallback:
            raise SlideError(
                f"{method} normalisation has no template: {template.fallback} (slides {', '.join(template_slides)})",
                remedy="Use training slides with more tissue, or a strategy without normalisation",
            )
        return cls(method, template).with_slides(tissue)

    def with_slides(self, tissue: Mapping[str, NDArray[np.uint8]]) -> ColourNormaliser:
        """A copy that also knows these slides, by their tissue pixels uint8 (n, 3); the template stays."""
        fits = {slide: _FITS[self.method].fit(pixels) for slide, pixels in tissue.items()}
        return replace(self, fits={**self.fits, **fits})

    @property
    def fallbacks(self) -> list[tuple[str, str]]:
        """Slides that are left as they are, each with the reason."""
        return [(slide, fit.fallback) for slide, fit in self.fits.items() if fit.fallback]

    def apply(self, images: torch.Tensor, slides: Sequence[str]) -> torch.Tensor:
        """Normalise a batch.

        Args:
            images: float [N, 3, H, W] in 0..1.
            slides: the slide of each of the N patches.

        Raises:
            ConfigError: a slide was not fitted.
        """
        if missing := sorted(set(slides) - set(self.fits)):
            raise ConfigError(
                f"slide {missing[0]!r} has no {self.method} fit", remedy="Add its tissue with with_slides()"
            )
        fits = [self.fits[slide] for slide in slides]
        keep = torch.tensor([bool(fit.fallback) for fit in fits], device=images.device)[:, None, None, None]
        if self.method == "reinhard":
            changed = _reinhard(images, fits, self.template)  # type: ignore[arg-type]
        else:
            changed = _macenko(images, fits, self.template)  # type: ignore[arg-type]
        return torch.where(keep, images, changed)

    def apply_array(self, image: NDArray[np.uint8], slide: str) -> NDArray[np.uint8]:
        """The same for one uint8 image (h, w, 3)."""
        batch = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
        out = self.apply(batch, [slide])[0].permute(1, 2, 0)
        return (out * 255).round().to(torch.uint8).numpy()

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, words and lists: fit for JSON."""
        fits = {slide: _plain(fit) for slide, fit in self.fits.items()}
        return {"method": self.method, "template": _plain(self.template), "fits": fits}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ColourNormaliser:
        """The normaliser that :meth:`to_dict` wrote."""
        method = values["method"]
        fits = {slide: _from_plain(method, fit) for slide, fit in values["fits"].items()}
        return cls(method, _from_plain(method, values["template"]), fits)


def _reinhard(images: torch.Tensor, fits: Sequence[ReinhardStatistics], template: ReinhardStatistics) -> torch.Tensor:
    """(lab - mean) / std * std of the template + mean of the template; glass, which no fit has seen, stays white."""
    mean = images.new_tensor([fit.mean for fit in fits])[:, :, None, None]
    std = images.new_tensor([fit.std for fit in fits])[:, :, None, None].clamp_min(1e-6)
    aim_mean = images.new_tensor(template.mean)[:, None, None]
    aim_std = images.new_tensor(template.std)[:, None, None]
    moved = rgb_from_lab((lab_from_rgb(images) - mean) / std * aim_std + aim_mean)
    length = density_tensor(images).square().sum(1, keepdim=True).sqrt()
    tissue = ((length - _GLASS) / (_TISSUE - _GLASS)).clamp(0, 1)
    return images + tissue * (moved - images)


def _macenko(images: torch.Tensor, fits: Sequence[MacenkoFit], template: MacenkoFit) -> torch.Tensor:
    """Amounts of the slide's two stains, scaled to the template's strengths, in the template's vectors.

    The part of the density outside the plane of the two stains (pigment, a third dye) is carried over as it is.
    """
    matrices = []
    aim = completed(template.vectors)
    for fit in fits:
        ratio = np.diag([*(np.asarray(template.strengths) / np.asarray(fit.strengths)), 1.0])
        matrices.append((np.linalg.inv(completed(fit.vectors)) @ ratio @ aim).T)
    return intensity_tensor(mix_channels(density_tensor(images), images.new_tensor(np.stack(matrices))))


def _checked(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    pixels = np.asarray(pixels)
    if pixels.ndim != 2 or pixels.shape[1] != 3 or pixels.dtype != np.uint8:
        raise ConfigError(f"tissue pixels must be uint8 of shape (n, 3), not {pixels.dtype} {pixels.shape}")
    return pixels


def _three(values: NDArray) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


def _plain(fit: Fit) -> dict[str, Any]:
    if isinstance(fit, ReinhardStatistics):
        numbers: dict[str, Any] = {"mean": list(fit.mean), "std": list(fit.std)}
    else:
        numbers = {"vectors": [list(row) for row in fit.vectors], "strengths": list(fit.strengths)}
    return {**numbers, "n_pixels": fit.n_pixels, "fallback": fit.fallback}


def _from_plain(method: str, values: Mapping[str, Any]) -> Fit:
    n_pixels, fallback = int(values["n_pixels"]), str(values["fallback"])
    if method == "reinhard":
        return ReinhardStatistics(tuple(values["mean"]), tuple(values["std"]), n_pixels, fallback)
    first, second = (tuple(row) for row in values["vectors"])
    return MacenkoFit((first, second), tuple(values["strengths"]), n_pixels, fallback)
