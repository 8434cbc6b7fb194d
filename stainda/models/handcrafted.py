"""Handcrafted features of a patch, and a patch classifier that reads them next to its convolutions.

Saha, Chakraborty and Racoceanu 2018, *Efficient deep learning model for mitosis detection using breast histopathology
images* (doi 10.1016/j.compmedimag.2017.12.001), feed 55 features of shape, texture and colour into the first dense
layer of a small network. The paper does not list each of them; :data:`FEATURES` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from stainda.arrays import Array
from stainda.models.blocks import Init, Norm, check_dropout, check_sizes, initialiser
from stainda.models.cnn import Cnn

Floats = npt.NDArray[np.float64]
Use = Literal["both", "features", "convolutions"]

_SHAPE = (
    "area", "perimeter", "circularity", "eccentricity", "solidity", "extent", "major_axis", "minor_axis",
    "hu_moment_1", "hu_moment_2", "hu_moment_3", "objects",
)  # fmt: skip
_MOMENTS = ("mean", "standard_deviation", "skewness", "kurtosis")
_HARALICK = ("contrast", "dissimilarity", "homogeneity", "energy", "correlation")
LEVELS, LBP_BINS = 16, 10

FEATURES: tuple[str, ...] = (
    *_SHAPE,
    *(f"{stain}_{moment}" for stain in ("haematoxylin", "eosin", "dab") for moment in _MOMENTS),
    *(f"{colour}_{moment}_inside" for colour in ("red", "green", "blue") for moment in _MOMENTS[:2]),
    *(f"{colour}_contrast" for colour in ("red", "green", "blue")),
    *(f"haralick_{name}_{of}" for name in _HARALICK for of in ("mean", "range")),
    *(f"lbp_{index}" for index in range(LBP_BINS)),
    "entropy", "edge_strength",
)  # fmt: skip
"""The 55 features, in their order.

Shape, of the object: the largest connected part of the darker pixels (Otsu on the mean optical density) that comes near
the middle; lengths as shares of the patch's side, area of its area; 0 where there is no object. ``hu_moment_k``: sign
and logarithm of Hu's invariants. ``objects``: connected parts of at least 0.5 % of the patch.
Colour: moments of the stains' densities (Ruifrok and Johnston 2001) over the patch, mean and standard deviation of the
colours inside the object, and ``contrast``: the mean inside less that outside.
Texture, of the grey patch in 16 levels: Haralick's measures of pairs one pixel apart, mean and range over four
directions; shares of uniform local binary patterns (8 neighbours); entropy of the levels, bits; mean Sobel edge.
"""


def measure(image: npt.NDArray[Any]) -> Floats:
    """The :data:`FEATURES` of one patch.

    Args:
        image: float (h, w, 3), red, green, blue in 0..1.

    Returns:
        float64 (55,), all finite.
    """
    image = np.clip(np.asarray(image, np.float64), 0.0, 1.0)
    inside, parts = _object(image)
    values = [*_shape(inside), parts, *_colour(image, inside), *_texture(image.mean(axis=2))]
    return np.nan_to_num(np.asarray(values, np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _object(image: Floats) -> tuple[npt.NDArray[np.bool_], int]:
    """The mask of the object, and how many parts there are."""
    from skimage.filters import gaussian, threshold_otsu
    from skimage.measure import label

    density = gaussian(-np.log((image * 255 + 1) / 256).mean(axis=2), 1.0)
    if np.ptp(density) < 1e-3:
        return np.zeros(density.shape, bool), 0
    labels = label(density > threshold_otsu(density), connectivity=1)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    parts = int((sizes >= 0.005 * labels.size).sum())
    rows, columns = labels.shape
    middle = labels[rows // 4 : rows - rows // 4, columns // 4 : columns - columns // 4]
    near = np.unique(middle[middle > 0])
    if not len(near):
        return np.zeros(density.shape, bool), parts
    return labels == near[np.argmax(sizes[near])], parts


def _shape(inside: npt.NDArray[np.bool_]) -> list[float]:
    from skimage.measure import regionprops

    if not inside.any():
        return [0.0] * (len(_SHAPE) - 1)
    region, side = regionprops(inside.astype(np.uint8))[0], float(np.sqrt(inside.size))
    around = max(float(region.perimeter), 1.0)
    hu = [float(-np.sign(moment) * np.log10(max(abs(moment), 1e-12))) for moment in region.moments_hu[:3]]
    return [
        region.area / inside.size, around / side, 4 * np.pi * region.area / around**2, region.eccentricity,
        region.solidity, region.extent, region.axis_major_length / side, region.axis_minor_length / side, *hu,
    ]  # fmt: skip


def _colour(image: Floats, inside: npt.NDArray[np.bool_]) -> list[float]:
    from skimage.color import rgb2hed

    values: list[float] = []
    for density in np.moveaxis(rgb2hed(image), -1, 0):
        mean, spread = float(density.mean()), float(density.std())
        scaled = (density - mean) / max(spread, 1e-6)
        values += [mean, spread, float((scaled**3).mean()), float((scaled**4).mean()) - 3]
    own, rest = image[inside], image[~inside]
    if not len(own) or not len(rest):
        return [*values, *[0.0] * 9]
    for channel in range(3):
        values += [float(own[:, channel].mean()), float(own[:, channel].std())]
    return [*values, *(own.mean(axis=0) - rest.mean(axis=0))]


def _texture(grey: Floats) -> list[float]:
    from skimage.feature import graycomatrix, graycoprops, local_binary_pattern
    from skimage.filters import sobel

    levels = np.minimum((grey * LEVELS).astype(np.uint8), LEVELS - 1)
    directions = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    pairs = graycomatrix(levels, [1], directions, levels=LEVELS, symmetric=True, normed=True)
    values: list[float] = []
    for name in _HARALICK:
        over = graycoprops(pairs, name)[0]
        values += [float(over.mean()), float(np.ptp(over))]
    patterns = local_binary_pattern((grey * 255).astype(np.uint8), 8, 1, "uniform").astype(int)
    shares = np.bincount(patterns.ravel(), minlength=LBP_BINS)[:LBP_BINS] / patterns.size
    used = np.bincount(levels.ravel(), minlength=LEVELS) / levels.size
    entropy = -float((used[used > 0] * np.log2(used[used > 0])).sum())
    return [*values, *shares.tolist(), entropy, float(sobel(grey).mean())]


class HandcraftedCnn(Cnn):
    """Convolutions and :data:`FEATURES` side by side into a first dense layer, then the classes.

    Features are measured from the patch as it was before standardisation (:meth:`standardised_by`), after augmentation,
    and scaled by batch statistics to mean 0 and standard deviation 1, at most 5. No gradient goes through them.

    Args:
        in_channels, n_classes: ``n_classes`` counts the background. One channel counts as red, green and blue alike.
        use: ``both``, or one of the two alone, for an ablation.
        depth, width, norm, convolutions, init: of the convolutions, as those of the network ``cnn``.
        hidden: features of the dense layer.
        dropout: share of them that is dropped in training.

    Raises:
        ConfigError: a value outside its range.
    """

    colour_mean: torch.Tensor
    colour_std: torch.Tensor

    def __init__(
        self,
        in_channels: int = 3,
        n_classes: int = 2,
        *,
        use: Use = "both",
        depth: int = 4,
        width: int = 16,
        norm: Norm = "batch",
        convolutions: int = 1,
        init: Init = "kaiming",
        hidden: int = 64,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            in_channels, n_classes, depth=depth, width=width, norm=norm, convolutions=convolutions, init=init
        )  # fmt: skip
        check_sizes("the CNN", hidden=hidden)
        check_dropout("the CNN", dropout)
        self.use = use
        self.scale = nn.BatchNorm1d(len(FEATURES), affine=False)
        self.first_dense = nn.Sequential(
            nn.Linear(self.handed_channels + len(FEATURES), hidden), nn.ReLU(inplace=True), nn.Dropout(dropout)
        )
        self.head = nn.Linear(hidden, n_classes)
        self.default_layers = {"bottleneck": "bottleneck", "decoder": "first_dense"}
        self.register_buffer("colour_mean", torch.zeros(in_channels))
        self.register_buffer("colour_std", torch.ones(in_channels))
        self.apply(initialiser(init))

    def standardised_by(self, mean: Array, std: Array) -> None:
        self.colour_mean = torch.as_tensor(mean, dtype=torch.float32).clone()
        self.colour_std = torch.as_tensor(std, dtype=torch.float32).clone()

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (*super().encode(images), self.features(images))

    def answer(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        convolved, measured = self.pooled(features[0]), self.scale(features[1]).clamp(-5, 5)
        if self.use == "features":
            convolved = 0 * convolved
        if self.use == "convolutions":
            measured = 0 * measured
        return self.head(self.first_dense(torch.cat([convolved, measured], 1)))

    @torch.no_grad()
    def features(self, images: torch.Tensor) -> torch.Tensor:
        """The :data:`FEATURES` of standardised patches ``[N, C, H, W]``, float ``[N, 55]``; 0 where they are not used,
        or only sizes are wanted (images without pixels)."""
        if self.use == "convolutions" or images.is_meta:
            return images.new_zeros(len(images), len(FEATURES))
        colours = images.float() * self.colour_std.view(1, -1, 1, 1) + self.colour_mean.view(1, -1, 1, 1)
        patches = colours.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy()
        return images.new_tensor(np.stack([measure(patch) for patch in patches]))
