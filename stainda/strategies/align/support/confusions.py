"""How probable each annotator's answers are, given the truth; and a loss whose labels are probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

IGNORE = 255
PRIOR_RIGHT, PRIOR_WRONG = 8.0, 2.0
"""Places that count as seen before any is, right and wrong: annotators start better than chance, and no answer is
impossible."""


class Confusions(nn.Module):
    """Counts of the answers of each annotator by truth: a buffer ``counts``, float ``[A, K, K]``, truth first."""

    counts: Tensor

    def __init__(self, annotators: Sequence[str], n_classes: int) -> None:
        super().__init__()
        self.annotators, self.n_classes = tuple(annotators), n_classes
        self.register_buffer("counts", torch.zeros(len(self.annotators), n_classes, n_classes))

    def rates(self) -> Tensor:
        """``π``, float ``[A, K, K]``: probability of each answer (last) where the truth is that class."""
        wrong = PRIOR_WRONG / max(self.n_classes - 1, 1)
        prior = torch.full_like(self.counts, wrong)
        prior.diagonal(dim1=1, dim2=2).fill_(PRIOR_RIGHT)
        weighed = self.counts + prior
        return weighed / weighed.sum(-1, keepdim=True)

    def shares(self) -> Tensor:
        """Of each class among the places counted, float ``[K]``, none of them 0."""
        seen = self.counts.sum((0, 2)) + 1.0
        return seen / seen.sum()

    def posterior(self, votes: Tensor, log_prior: Tensor) -> Tensor:
        """Probability of each class ``[..., K]``.

        Args:
            votes: of :func:`answers_of`, ``[A, ..., K]``. log_prior: ``[..., K]``, up to a constant.
        """
        evidence = torch.einsum("a...v,akv->...k", votes, self.rates().log())
        return torch.softmax(log_prior + evidence, -1)

    def count(self, votes: Tensor, truth: Tensor, keep: float) -> None:
        """Add the answers of a batch; ``truth`` is a probability of each class ``[..., K]``, 0 where not known."""
        self.counts.mul_(keep).add_(torch.einsum("a...v,...k->akv", votes, truth))

    def statements(self) -> list[str]:
        """A line per annotator: sensitivity and specificity, or with more classes the share of each that is right."""
        right = self.rates().diagonal(dim1=1, dim2=2).tolist()
        words = ("specificity", "sensitivity") if self.n_classes == 2 else ()
        return [
            f"{name}: "
            + ", ".join(
                f"{words[index] if words else f'class {index} right'} {rate:.3f}" for index, rate in enumerate(rates)
            )
            for name, rates in zip(self.annotators, right, strict=True)
        ]


def answers_of(labels: Tensor, n_classes: int) -> Tensor:
    """Labels ``[...]`` (255: none) as float ``[..., K]``, 1 for the class and 0 everywhere where there is none."""
    known = labels != IGNORE
    return functional.one_hot(labels.where(known, 0).long(), n_classes) * known[..., None].float()


def expected_loss(loss: Callable[..., Tensor], logits: Tensor, truth: Tensor) -> Tensor:
    """A task loss whose labels are probabilities: every place stands once for each class, weighted by its probability.

    Cross-entropy becomes ``-Σ_k μ_k log p_k``, Dice ``1 - 2 Σ p μ / (Σ p + Σ μ)``; class weights weigh as with labels.

    Args:
        loss: logits ``[N, K, ...]``, labels ``[N, ...]``, weights; of the study.
        truth: ``[N, ..., K]``, 0 for all classes where nothing is known.
    """
    n_classes, spatial = logits.shape[1], truth.shape[:-1]
    classes = torch.arange(n_classes, device=logits.device)
    labels = classes.repeat_interleave(spatial[0]).view(-1, *[1] * (len(spatial) - 1)).expand(-1, *spatial[1:])
    weights = truth.movedim(-1, 0).flatten(0, 1)
    return loss(logits.repeat(n_classes, *[1] * (logits.dim() - 1)), labels, weights)
