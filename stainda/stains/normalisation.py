"""Colour normalisation: the tissue of every slide is given the colours of a template.

The fit is per slide, on a sample of its tissue, never per patch: a patch of pure glass has no stain to estimate
(torchstain issue 55, pathml issue 329). A slide whose stain cannot be estimated is left as it is, and says why.
Normalisation can do harm (arXiv 2301.03418): compare with none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from stainda.errors import ConfigError, SlideError, did_you_mean
from stainda.stains.colour import density_tensor, lab_from_rgb, mix_densities, rgb_from_lab
from stainda.stains.deconvolution import completed
from stainda.stains.fits import FEWEST_PIXELS, MacenkoFit, ReinhardStatistics, checked
from stainda.stains.histograms import HistogramFit, apply_levels, level_map
from stainda.stains.vahadane import VahadaneFit

Method = Literal["reinhard", "macenko", "vahadane", "histogram"]
Fit = ReinhardStatistics | MacenkoFit | VahadaneFit | HistogramFit

METHODS: tuple[str, ...] = get_args(Method)
_GLASS, _TISSUE = 0.03, 0.10  # length of optical density between which Reinhard's shift fades in


@dataclass(frozen=True)
class ColourNormaliser:
    """A template and the fits of the slides that are brought to it.

    Attributes:
        method: ``reinhard``, ``macenko``, ``vahadane`` or ``histogram``.
        template: the fit of the pooled tissue of the template slides.
        fits: by slide.
        stains: dyes per slide that ``vahadane`` looks for, 2 or 3; the other methods do not ask.
    """

    method: Method
    template: Fit
    fits: Mapping[str, Fit] = field(default_factory=dict)
    stains: int = 2

    @classmethod
    def fit(
        cls,
        method: Method,
        tissue: Mapping[str, NDArray[np.uint8]],
        template_slides: Sequence[str],
        stains: int = 2,
    ) -> ColourNormaliser:
        """Fit a template and every slide.

        Args:
            tissue: tissue pixels, uint8 (n, 3), of every slide to be normalised, by slide.
            template_slides: slides whose colours are the aim: of the source domains, of the train split. Each
                contributes equally many pixels.
            stains: dyes that ``vahadane`` looks for.

        Raises:
            ConfigError: unknown method.
            SlideError: the template slides together have no usable stain.
        """
        if method not in METHODS:
            raise ConfigError(f"unknown normalisation {method!r}", remedy=did_you_mean(method, METHODS))
        parts = [checked(tissue[slide]) for slide in template_slides if len(tissue[slide])]
        share = min((len(part) for part in parts if len(part) >= FEWEST_PIXELS), default=0)
        evenly = [part[np.linspace(0, len(part) - 1, share).astype(int)] for part in parts if len(part) >= share > 0]
        pooled = np.concatenate(evenly) if evenly else np.zeros((0, 3), np.uint8)
        template = _fit(method, pooled, stains)
        if template.fallback:
            raise SlideError(
                f"{method} normalisation has no template: {template.fallback} (slides {', '.join(template_slides)})",
                remedy="Use training slides with more tissue, or a strategy without normalisation",
            )
        return cls(method, template, stains=stains).with_slides(tissue)

    def with_slides(self, tissue: Mapping[str, NDArray[np.uint8]]) -> ColourNormaliser:
        """A copy that also knows these slides, by their tissue pixels uint8 (n, 3); the template stays."""
        fits = {slide: _fit(self.method, pixels, self.stains) for slide, pixels in tissue.items()}
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
        if self.method == "reinhard":
            changed = _reinhard(images, fits, self.template)  # type: ignore[arg-type]
        elif self.method == "histogram":
            changed = _histogram(images, fits, self.template)  # type: ignore[arg-type]
        else:
            changed = _stain_vectors(images, fits, self.template)  # type: ignore[arg-type]
        if not any(fit.fallback for fit in fits):
            return changed
        keep = torch.tensor([bool(fit.fallback) for fit in fits], device=images.device)[:, None, None, None]
        return torch.where(keep, images, changed)

    def apply_array(self, image: NDArray[np.uint8], slide: str) -> NDArray[np.uint8]:
        """The same for one uint8 image (h, w, 3)."""
        batch = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
        out = self.apply(batch, [slide])[0].permute(1, 2, 0)
        return (out * 255).round().to(torch.uint8).numpy()

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, words and lists: fit for JSON."""
        fits = {slide: _plain(fit) for slide, fit in self.fits.items()}
        return {"method": self.method, "template": _plain(self.template), "fits": fits, "stains": self.stains}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ColourNormaliser:
        """The normaliser that :meth:`to_dict` wrote."""
        method = values["method"]
        fits = {slide: _from_plain(method, fit) for slide, fit in values["fits"].items()}
        return cls(method, _from_plain(method, values["template"]), fits, int(values.get("stains", 2)))


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


def _histogram(images: torch.Tensor, fits: Sequence[HistogramFit], template: HistogramFit) -> torch.Tensor:
    """Levels of the slide's tissue to the template's of the same rank."""
    usable = [template if fit.fallback else fit for fit in fits]  # what fell back is not changed by who calls
    maps = {fit: level_map(fit, template) for fit in dict.fromkeys(usable)}
    return apply_levels(images, images.new_tensor(np.stack([maps[fit] for fit in usable])))


def _stain_vectors(
    images: torch.Tensor, fits: Sequence[MacenkoFit | VahadaneFit], template: MacenkoFit | VahadaneFit
) -> torch.Tensor:
    """Amounts of the slide's stains, scaled to the template's strengths, in the template's vectors.

    Of two stains, the part of the density outside their plane (pigment, a third dye) is kept as it is.
    """
    matrices = []
    aim = completed(template.vectors)
    for fit in fits:
        ratio = np.ones(3)
        ratio[: len(fit.strengths)] = np.asarray(template.strengths) / np.asarray(fit.strengths)
        matrices.append((np.linalg.inv(completed(fit.vectors)) @ np.diag(ratio) @ aim).T)
    return mix_densities(images, images.new_tensor(np.stack(matrices)))


def _fit(method: str, pixels: NDArray[np.uint8], stains: int) -> Fit:
    if method == "vahadane":
        return VahadaneFit.fit(pixels, stains)
    kinds: dict[str, type[ReinhardStatistics] | type[MacenkoFit] | type[HistogramFit]] = {
        "reinhard": ReinhardStatistics, "macenko": MacenkoFit, "histogram": HistogramFit,
    }  # fmt: skip
    return kinds[method].fit(pixels)


def _plain(fit: Fit) -> dict[str, Any]:
    if isinstance(fit, ReinhardStatistics):
        numbers: dict[str, Any] = {"mean": list(fit.mean), "std": list(fit.std)}
    elif isinstance(fit, HistogramFit):
        numbers = {"counts": [list(channel) for channel in fit.counts]}
    else:
        numbers = {"vectors": [list(row) for row in fit.vectors], "strengths": list(fit.strengths)}
    return {**numbers, "n_pixels": fit.n_pixels, "fallback": fit.fallback}


def _from_plain(method: str, values: Mapping[str, Any]) -> Fit:
    n_pixels, fallback = int(values["n_pixels"]), str(values["fallback"])
    if method == "reinhard":
        return ReinhardStatistics(tuple(values["mean"]), tuple(values["std"]), n_pixels, fallback)
    if method == "histogram":
        return HistogramFit(tuple(tuple(channel) for channel in values["counts"]), n_pixels, fallback)
    rows = tuple((float(red), float(green), float(blue)) for red, green, blue in values["vectors"])
    strengths = tuple(values["strengths"])
    if method == "vahadane":
        return VahadaneFit(rows, strengths, n_pixels, fallback)
    return MacenkoFit((rows[0], rows[1]), (strengths[0], strengths[1]), n_pixels, fallback)
