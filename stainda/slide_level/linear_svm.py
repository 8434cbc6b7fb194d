"""Fixed encodings of a bag under a linear support vector machine: its mean vector, or its Fisher vector."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

COMPONENTS, KEPT, MOST_VECTORS = 8, 32, 20_000
"""Fisher vectors: components of the mixture, numbers that vectors are brought to first, vectors it is fitted to."""


class FisherVector(nn.Module):
    r"""How the vectors of a bag differ from a mixture of Gaussians that was fitted to the teaching bags.

    Perronnin et al. 2010 (doi 10.1007/978-3-642-15561-1_11): with the responsibilities :math:`\gamma_{ik}` of component
    k (weight w, mean μ, standard deviation σ) for vector i of N, the gradients :math:`\frac{1}{N\sqrt{w_k}} \sum_i
    \gamma_{ik} \frac{x_i - \mu_k}{\sigma_k}` and :math:`\frac{1}{N\sqrt{2 w_k}} \sum_i \gamma_{ik}
    [(\frac{x_i - \mu_k}{\sigma_k})^2 - 1]`, then the signed square root, then length 1. Vectors are brought to their
    principal components first. (Song et al. 2017, Adapting Fisher vectors for histopathology image classification,
    ISBI, encode features of a network so.)
    """

    centre: Tensor
    axes: Tensor
    weights: Tensor
    means: Tensor
    variances: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        kept = min(KEPT, width)
        self.width = 2 * COMPONENTS * kept
        for name, shape in (("centre", (width,)), ("axes", (width, kept)), ("weights", (COMPONENTS,))):
            self.register_buffer(name, torch.zeros(shape))
        for name in ("means", "variances"):
            self.register_buffer(name, torch.ones(COMPONENTS, kept))

    def fit(self, vectors: Tensor, seed: int) -> None:
        """Find the principal components and the mixture; no label is looked at.

        Args:
            vectors: ``[n, width]`` of the teaching bags.
        """
        from sklearn.mixture import GaussianMixture

        if len(vectors) > MOST_VECTORS:
            generator = torch.Generator().manual_seed(seed)
            vectors = vectors[torch.randperm(len(vectors), generator=generator)[:MOST_VECTORS]]
        self.centre = vectors.mean(0)
        _, _, axes = torch.linalg.svd((vectors - self.centre).float(), full_matrices=False)
        self.axes = torch.zeros_like(self.axes)
        self.axes[:, : len(axes)] = axes[: self.axes.shape[1]].T
        kept = ((vectors - self.centre) @ self.axes).double().cpu().numpy()
        mixture = GaussianMixture(min(COMPONENTS, len(kept)), covariance_type="diag", reg_covar=1e-4, random_state=seed)
        mixture.fit(kept)
        for name, values in (
            ("weights", mixture.weights_), ("means", mixture.means_), ("variances", mixture.covariances_),
        ):  # fmt: skip
            getattr(self, name)[: len(values)] = torch.as_tensor(values, dtype=vectors.dtype)

    def forward(self, vectors: Tensor) -> Tensor:
        """Of one bag ``[n, width]``: float ``[2 · components · kept]`` of length 1."""
        kept = (vectors - self.centre) @ self.axes
        apart = (kept[:, None] - self.means) / self.variances.sqrt()
        log_density = -0.5 * (apart.pow(2) + torch.log(2 * math.pi * self.variances)).sum(2)
        share = torch.softmax(log_density + self.weights.clamp(min=1e-12).log(), dim=1)[..., None]
        scale = len(vectors) * self.weights.clamp(min=1e-12).sqrt()[:, None]
        first = (share * apart).sum(0) / scale
        second = (share * (apart.pow(2) - 1)).sum(0) / (math.sqrt(2) * scale)
        encoded = torch.cat([first.flatten(), second.flatten()])
        return nn.functional.normalize(encoded.sign() * encoded.abs().sqrt(), dim=0)


class SvmBag(nn.Module):
    """A linear support vector machine (squared hinge; its margin is the weight decay of the training).

    The encoding is the mean vector of the bag (Xu et al. 2015, doi 10.1109/ICASSP.2015.7178109, pool features of a
    network so), or its Fisher vector.
    """

    def __init__(self, width: int, fisher: bool) -> None:
        super().__init__()
        self.encoding = FisherVector(width) if fisher else None
        self.answer = nn.Linear(width if self.encoding is None else self.encoding.width, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, None]:
        encoded = features.mean(0) if self.encoding is None else self.encoding(features)
        return self.answer(encoded)[0], None

    @staticmethod
    def loss(margin: Tensor, positive: bool) -> Tensor:
        """Squared hinge of the answer to one bag."""
        return (1 - margin if positive else 1 + margin).clamp(min=0).pow(2)
