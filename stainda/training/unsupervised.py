"""How good does a checkpoint look on targets without their labels? Scores for choosing between checkpoints.

Every score is computed from the same pixels: unlabelled target patches that training may see, and source patches of the
training and validation patients, each pixel with the network's probabilities and the features that its last layer
reads. Pixels of the target are drawn evenly by predicted class, because all pixels alike would mostly ask about
background. Higher is better, always.

=====================  ===========================================================================================
``entropy``            minus the mean entropy of predictions (Morerio et al. 2018)
``information``        entropy of the mean prediction minus mean entropy (information maximisation; Shi & Sha 2012)
``nuclear_norm``       nuclear norm of the matrix of predictions over its rows (BNM; Cui et al. 2020)
``neighbourhoods``     soft neighbourhood density (SND; Saito et al. 2021)
``clusters``           adjusted mutual information of clusters of features and predicted classes (Musgrave et al. 2022)
``nearest_source``     accuracy of the source validation pixels that lie nearest to target pixels
``mmd``                minus the squared maximum mean discrepancy of source and target features (Gaussian kernels)
``serial_agreement``   soft Dice of the predictions on registered serial sections, where registration is sure
``deep_embedded``      minus the importance-weighted validation loss with control variate (DEV; You et al. 2019)
=====================  ===========================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from stainda.randomness import generator_for
from stainda.run_directory.result_tables import JOB_UNSUPERVISED
from stainda.strategies.detector import Detector
from stainda.strategies.features import FeatureTap
from stainda.strategies.norm.statistics import Statistics, TooFewImages, estimate_statistics, statistics_of
from stainda.training.batches import Patches, PatchMetadata
from stainda.training.losses import IGNORE
from stainda.training.tasks import task_of

if TYPE_CHECKING:
    from stainda.patches.serial import Pairs, SerialPairs

Array = npt.NDArray[np.float64]

SCORES = JOB_UNSUPERVISED.without("checkpoint")
PATCHES = 32
"""Patches of each kind that are looked at."""
PIXELS = 1200
"""Pixels of each kind that are compared."""
_TINY = 1e-12


@dataclass(frozen=True)
class SampledPixels:
    """A sample of pixels.

    Attributes:
        probabilities: float64 ``(n, classes)``, background first.
        features: float64 ``(n, d)``, what the layer before the classifier gives.
        labels: int64 ``(n,)``; empty where they may not be known.
    """

    probabilities: Array
    features: Array
    labels: npt.NDArray[np.int64]


def unsupervised_scores(detector: Detector, data: Patches, seed: int = 0) -> dict[str, float]:
    """The scores of :data:`SCORES`; empty where the protocol shows no target image.

    Args:
        detector: with the weights of the checkpoint.
        data: opened with the label rule ``source``, so that no label of a target can be requested.
        seed: of the sample; the same for all checkpoints of a study, so that they are asked the same.
    """
    visible = data.unlabelled()
    if not len(visible):
        return {}
    generator = generator_for(seed, "unsupervised")
    target = _pixels(detector, data, _some(visible, generator), False, generator)
    train = _pixels(detector, data, _some(data.labelled("train"), generator), True, generator)
    val = _pixels(detector, data, _some(data.labelled("val"), generator), True, generator)
    pixels = score_pixels(target, train, val)
    if (pairs := data.serial) is not None and len(pairs):
        pixels["serial_agreement"] = serial_agreement(detector, pairs, generator)
    return pixels


@torch.no_grad()
def serial_agreement(detector: Detector, pairs: SerialPairs, generator: np.random.Generator) -> float:
    """Soft Dice ``2 Σ w p q / Σ w (p² + q²)`` of the foreground of both patches of pairs, in the frame of the first.

    ``w`` is the certainty of the registration there. Two patches without any object agree on nothing, so that a network
    that finds nothing has no agreement.
    """
    drawn = pairs.read(np.sort(generator.permutation(len(pairs))[:PATCHES]))
    by_slide = _of_slides(detector, drawn) if detector.strategy.norm.from_slide else None
    shares = []
    for images, slides, domains in (
        (drawn.one, drawn.one_slides, drawn.one_domains),
        (drawn.two, drawn.two_slides, drawn.two_domains),
    ):
        out: list[torch.Tensor] = []
        for index, domain in enumerate(domains):
            statistics = detector.statistics.get(domain) if by_slide is None else by_slide[slides[index]]
            out.append(detector.probabilities(images[index : index + 1], slides[index : index + 1], statistics))
        shares.append(torch.cat(out).cpu())
    grid, weight = torch.from_numpy(drawn.grid), torch.from_numpy(drawn.certainty)[:, None]
    if shares[0].dim() == 2:  # answers about the middle of patches, where both show the same tissue there
        middle = grid.shape[1] // 2
        warped = shares[1]
        weight = weight[:, :, middle, middle] * (grid[:, middle, middle].abs().amax(1, keepdim=True) <= 0.25)
    else:
        margin = (grid.shape[1] - shares[0].shape[2]) // 2
        warped = functional.grid_sample(functional.pad(shares[1], [margin] * 4), grid, align_corners=False)
        if margin:
            warped, weight = (layer[..., margin:-margin, margin:-margin] for layer in (warped, weight))
    both = float((weight * shares[0] * warped).sum())
    each = float((weight * (shares[0] ** 2 + warped**2)).sum())
    return 2 * both / each if each > _TINY else 0.0


def _of_slides(detector: Detector, pairs: Pairs) -> dict[str, Statistics | None]:
    """Batch statistics of each slide, from its patches on either side of pairs; ``None`` where they are too few."""
    images, slides = np.concatenate([pairs.one, pairs.two]), np.asarray([*pairs.one_slides, *pairs.two_slides])
    result: dict[str, Statistics | None] = {}
    for slide in dict.fromkeys(slides.tolist()):
        own = images[slides == slide]
        result[slide] = _estimated(detector, detector.see(detector.images(own), [slide] * len(own)))
    return result


def _estimated(detector: Detector, seen: torch.Tensor) -> Statistics | None:
    """Statistics of images as the network sees them; ``None``, those of training, where one is too few."""
    try:
        return estimate_statistics(detector.network, [seen])
    except TooFewImages:
        return None


def score_pixels(target: SampledPixels, train: SampledPixels, val: SampledPixels, seed: int = 0) -> dict[str, float]:
    """The scores from samples of pixels; the labels of ``target`` are never read."""
    scale = np.maximum(train.features.std(axis=0), _TINY)
    features, of_train, of_val = (
        (pixels.features - train.features.mean(axis=0)) / scale for pixels in (target, train, val)
    )
    correct = (val.probabilities.argmax(axis=1) == val.labels).astype(float)
    loss = -np.log(np.maximum(val.probabilities[np.arange(len(val.labels)), val.labels], _TINY))
    return {
        "entropy": -float(entropies(target.probabilities).mean()),
        "information": information(target.probabilities),
        "nuclear_norm": float(np.linalg.norm(target.probabilities, "nuc") / max(len(target.probabilities), 1)),
        "neighbourhoods": neighbourhood_density(target.probabilities),
        "clusters": cluster_agreement(features, target.probabilities.argmax(axis=1), seed),
        "nearest_source": nearest_source_accuracy(features, of_val, correct),
        "mmd": -squared_mmd(of_train, features),
        "deep_embedded": -deep_embedded_risk(of_train, features, of_val, loss),
    }


def entropies(probabilities: Array) -> Array:
    """Entropy of each row, in nats."""
    return -(probabilities * np.log(np.maximum(probabilities, _TINY))).sum(axis=1)


def information(probabilities: Array) -> float:
    """Mutual information of pixel and prediction: entropy of the mean minus mean entropy."""
    return float(entropies(probabilities.mean(axis=0, keepdims=True))[0] - entropies(probabilities).mean())


def neighbourhood_density(probabilities: Array, temperature: float = 0.05) -> float:
    """Mean entropy of the softmax of similarities of each pixel to the others (Saito et al. 2021, eq. 1-3)."""
    unit = probabilities / np.maximum(np.linalg.norm(probabilities, axis=1, keepdims=True), _TINY)
    similar = unit @ unit.T / temperature
    np.fill_diagonal(similar, -np.inf)
    shifted = np.exp(similar - similar.max(axis=1, keepdims=True))
    return float(entropies(shifted / shifted.sum(axis=1, keepdims=True)).mean())


def cluster_agreement(features: Array, predicted: npt.NDArray[np.int64], seed: int) -> float:
    """Adjusted mutual information of predicted classes and as many k-means clusters; 0 where one class is predicted."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_mutual_info_score

    names, classes = np.unique(predicted, return_inverse=True)
    if len(names) < 2:
        return 0.0
    clusters = KMeans(len(names), n_init=4, random_state=seed).fit_predict(features)
    return float(adjusted_mutual_info_score(classes, clusters))


def nearest_source_accuracy(features: Array, source: Array, correct: Array) -> float:
    """Share of correct predictions among the source pixels nearest to each target pixel."""
    from scipy.spatial import cKDTree

    return float(correct[cKDTree(source).query(features)[1]].mean())


def squared_mmd(first: Array, second: Array) -> float:
    """Biased estimate of the squared MMD with Gaussian kernels of 1/4, 1, 4 times the median squared distance."""
    from scipy.spatial.distance import cdist

    both = np.concatenate([first, second])
    squared = cdist(both, both, "sqeuclidean")
    middle = max(float(np.median(squared[np.triu_indices(len(both), 1)])), _TINY)
    n = len(first)
    total = 0.0
    for factor in (0.25, 1.0, 4.0):
        kernel = np.exp(-squared / (factor * middle))
        total += kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()
    return float(total / 3)


def deep_embedded_risk(train: Array, target: Array, val: Array, loss: Array) -> float:
    """Importance-weighted validation loss with a control variate (You et al. 2019, eq. 9-11).

    The density ratio comes from a logistic regression that tells target features from those of the source's training
    pixels; ``mean(w l) + eta mean(w) - eta`` with ``eta = -cov(w l, w) / var(w)``.
    """
    from sklearn.linear_model import LogisticRegression

    x = np.concatenate([train, target])
    y = np.repeat([0, 1], [len(train), len(target)])
    chance = LogisticRegression(C=0.1, max_iter=500).fit(x, y).predict_proba(val)[:, 1]
    weight = len(train) / len(target) * chance / np.maximum(1 - chance, 1e-6)
    weighted = weight * loss
    spread = weight.var(ddof=1)
    eta = -np.cov(weighted, weight)[0, 1] / spread if spread > _TINY else 0.0
    return float(weighted.mean() + eta * weight.mean() - eta)


def _some(indices: npt.NDArray[np.intp], generator: np.random.Generator) -> npt.NDArray[np.intp]:
    return np.sort(generator.permutation(indices)[:PATCHES])


@torch.no_grad()
def _pixels(
    detector: Detector, data: Patches, indices: npt.NDArray[np.intp], labelled: bool, generator: np.random.Generator
) -> SampledPixels:
    """Pixels of patches, as many of each class as there are: by label where they are known, else by prediction."""
    network = detector.network
    network.eval()
    origins = PatchMetadata(data, indices)
    by_slide = detector.strategy.norm.from_slide
    groups = np.asarray(origins.slides(indices) if by_slide else origins.domains(indices))
    tap = FeatureTap(network, "decoder")
    rows: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    for group in dict.fromkeys(groups.tolist()):
        members = indices[groups == group]
        seen = detector.see(detector.images(data.images(members)), origins.slides(members))
        statistics: Statistics | None = detector.statistics.get(group)
        if by_slide:
            statistics = _estimated(detector, seen)
        with statistics_of(network, statistics):
            logits, features = tap(seen)
        logits, features = (values[..., None, None] if values.dim() == 2 else values for values in (logits, features))
        if features.shape[2:] != logits.shape[2:]:
            features = functional.interpolate(features, size=logits.shape[2:], mode="bilinear", align_corners=False)
        truth = torch.full(logits.shape[:1] + logits.shape[2:], IGNORE)
        if labelled:
            truth, _ = task_of(detector.task).answers(
                network.crop(torch.from_numpy(data.labels(members).astype(np.int64)))
            )
        shares = torch.softmax(logits.float(), 1)
        rows.append((_flat(shares), _flat(features), truth.flatten()))
    probabilities, read, names = (torch.cat(parts).cpu().numpy() for parts in zip(*rows, strict=True))
    known = np.flatnonzero(names != IGNORE) if labelled else np.arange(len(names))
    classes_of = names if labelled else probabilities.argmax(axis=1)
    classes = np.unique(classes_of[known])
    each = -(-PIXELS // max(len(classes), 1))
    picked = [generator.permutation(known[classes_of[known] == name])[:each] for name in classes]
    chosen = np.sort(np.concatenate(picked))
    return SampledPixels(
        probabilities[chosen].astype(float),
        read[chosen].astype(float),
        names[chosen] if labelled else np.zeros(0, np.int64),
    )


def _flat(values: torch.Tensor) -> torch.Tensor:
    """``[N, C, H, W]`` to ``[N H W, C]``."""
    return values.permute(0, 2, 3, 1).flatten(0, 2)
