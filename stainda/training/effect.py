"""Whether the alignment part of a training acted: its share of the gradient, its discriminators, its distance."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from stainda.run_directory.training_tables import EFFECT
from stainda.strategies.align.base import Align, DomainAnswers, Step

MEASUREMENTS = 12
"""How often a training is measured at least, evenly over its steps; each costs two backward passes."""

EFFECT_COLUMNS = EFFECT.names


@dataclass(frozen=True)
class Verdicts:
    """How well a discriminator tells the domains of one step.

    Attributes:
        accuracy: mean over domains of the share of their rows that are named right; chance is one over the domains.
        loss: cross-entropy, every domain counting alike, in nats; chance is the logarithm of their number.
        domains: how many domains are present.
        patches: as many patches, the same number of each domain, give the accuracy of a blind discriminator the same
            standard error. Positions of one patch are alike and count as one patch: with n_d patches of domain d, all
            with as many positions, it is ``K² / Σ 1/n_d``.
    """

    accuracy: float
    loss: float
    domains: int
    patches: float


def measured_steps(total: int, epochs: int, least: int = MEASUREMENTS) -> frozenset[int]:
    """Steps (from 0) at which a training of ``total`` steps is measured: the middles of equal parts.

    There are as many parts as epochs, but at least ``least``, so that every epoch is measured.
    """
    count = min(total, max(epochs, least))
    return frozenset(int((part + 0.5) * total / count) for part in range(count))


CALIBRATED_EVERY = 20
"""Steps between two comparisons of the gradients of a part with ``share``, after the first few."""


class ShareKeeper:
    """Scales a part's weights so that its gradient is a share of the task's.

    The part's gradient is proportional to the scale it was measured at. Measurements are smoothed (each counts half),
    since those of one batch are noisy.

    Attributes:
        scale: what the part's weights are multiplied by.
        measured: how many measurements it comes from.
    """

    def __init__(self, share: float | None) -> None:
        self.share, self.scale, self.measured = share, 1.0, 0

    def is_due(self, step: int) -> bool:
        """Whether gradients are compared at this step (from 0)."""
        return self.share is not None and (step in (0, 1, 3, 7) or step % CALIBRATED_EVERY == CALIBRATED_EVERY - 1)

    def take(self, ratio: float, growth: float) -> None:
        """Learn from a measurement.

        Args:
            ratio: of :func:`gradient_ratio` at the present scale.
            growth: the factor on the part's weights then, schedule and scale together.
        """
        if self.share is None or not ratio > 0 or not growth > 0:
            return  # the schedule has not begun, or nothing was sent
        wanted = self.share * growth / ratio  # the scale at which a full-grown schedule gives the share
        self.scale = math.sqrt(self.scale * wanted) if self.measured else wanted
        self.measured += 1


def gradient_ratio(
    task: Tensor, total: Tensor, parameters: Iterable[Tensor], mean: Callable[[Tensor], Tensor] = Tensor.detach
) -> float:
    """``‖∇(total - task)‖ / ‖∇ task‖`` over the network's parameters: what a part adds to the plain gradient.

    Args:
        task: the task loss alone, a scalar. total: the sum of all terms of the step, a scalar.
        parameters: of the network, without those of discriminators; their graph is kept.
        mean: of a gradient, over the ranks of the training.

    Returns:
        nan where the task has no gradient.
    """
    some = [parameter for parameter in parameters if parameter.requires_grad]
    plain = _flat(torch.autograd.grad(task, some, retain_graph=True, allow_unused=True), some)
    both = _flat(torch.autograd.grad(total, some, retain_graph=True, allow_unused=True), some)
    plain, both = mean(plain), mean(both)
    size = float(plain.norm())
    return float((both - plain).norm()) / size if size else math.nan


def judge(answers: DomainAnswers) -> Verdicts:
    """The verdicts of a discriminator; every domain counts alike."""
    logits, labels = answers.logits.detach(), answers.labels
    losses = functional.cross_entropy(logits.float(), labels, reduction="none")
    right = (logits.argmax(1) == labels).float()
    present = labels.unique()
    accuracy = torch.stack([right[labels == domain].mean() for domain in present]).mean()
    loss = torch.stack([losses[labels == domain].mean() for domain in present]).mean()
    patches = len(present) ** 2 / sum(1 / _patches(answers.patches[labels == domain]) for domain in present)
    return Verdicts(float(accuracy), float(loss), len(present), patches)


def _patches(patches: Tensor) -> float:
    """How many patches rows are of; fewer where some have more rows than others (Kish's effective sample size)."""
    rows = patches.unique(return_counts=True)[1].double()
    return float(rows.sum() ** 2 / (rows**2).sum())


def measure(align: Align, step: Step, ratio: float, generator: torch.Generator) -> list[dict[str, Any]]:
    """Rows of :data:`EFFECT_COLUMNS` for one step, one per discriminator, or one.

    Args:
        ratio: of :func:`gradient_ratio`.
        generator: for the draws of the measurement, so that it changes nothing of the training.
    """
    head: dict[str, Any] = {"step": step.index + 1, "gradient_ratio": _rounded(ratio)}
    apart = replace(step, generator=generator)  # not under no_grad: pytorch-adapt's hooks refuse that
    result = align.distance(apart)
    head["distance"] = None if result is None else _rounded(float(result.detach()))
    rows = []
    with _judges_in_evaluation(align, step):
        verdicts = align.verdicts(apart)
    for name, answers in verdicts.items():
        judged = judge(answers)
        rows.append(
            {
                **head,
                "discriminator": name,
                "discriminator_accuracy": _rounded(judged.accuracy),
                "chance_accuracy": _rounded(1 / judged.domains),
                "discriminator_loss": _rounded(judged.loss),
                "chance_loss": _rounded(math.log(judged.domains)),
                "patches": _rounded(judged.patches),
            }
        )
    return rows or [head]


@contextmanager
def _judges_in_evaluation(align: Align, step: Step) -> Iterator[None]:
    """Inside the block discriminators (what has a rate of its own) do not move their spectral norms."""
    judges = [step.modules.get_submodule(name) for name in align.rates()]
    before = [module.training for module in judges]
    for module in judges:
        module.eval()
    try:
        yield
    finally:
        for module, training in zip(judges, before, strict=True):
            module.train(training)


def _flat(gradients: Sequence[Tensor | None], like: Sequence[Tensor]) -> Tensor:
    pairs = zip(gradients, like, strict=True)
    return torch.cat(
        [(torch.zeros_like(to) if gradient is None else gradient).flatten().float() for gradient, to in pairs]
    )


def _rounded(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
