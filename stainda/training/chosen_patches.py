"""Which patches a training learns from, is validated on and compares: chosen once, before the first step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stainda.arrays import Array
from stainda.errors import TrainingError
from stainda.randomness import generator_for
from stainda.strategies import Strategy
from stainda.training.batches import (
    Batches,
    LabelledBatches,
    PairBatches,
    Patches,
    PatchMetadata,
    UnlabelledBatches,
)
from stainda.training.job import Job
from stainda.training.tasks import Sorted, need_answers, task_of

EPOCH_VALIDATION = 192
"""Validation patches scored each epoch, at most, unless the study says ``training.validation_patches`` (a fixed random
choice, fewer lie within more); all of them are scored at the end."""

SETTLING = 32
"""Training patches of each domain from which batch statistics are estimated for weights that were never trained
themselves (a teacher's), each epoch."""


@dataclass(frozen=True, eq=False)
class Groups:
    """Groups of labelled patches, for parts that compare them.

    Attributes:
        number: of each patch's group, by the patch's index. names: of the groups, in the order of their numbers.
    """

    number: Mapping[int, int]
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class ChosenPatches:
    """Indices of patches by what they are for: int arrays.

    Attributes:
        answers: labelled training patches, with what they show.
        validation: of source validation. validation_each_epoch: those of them that are scored after every epoch.
        unlabelled: of targets. compared: of sources, drawn by the rule of targets.
        settling: for each domain of labelled patches those from which batch statistics are estimated.
        neither: labelled training patches left out because they are neither background nor a class.
        origins: slide, domain and patient of all of them.
        groups: ``None`` where the strategy compares none.
    """

    answers: Sorted
    validation: Array
    validation_each_epoch: Array
    unlabelled: Array
    compared: Array
    settling: Mapping[str, Array]
    neither: int
    origins: PatchMetadata
    groups: Groups | None

    @property
    def train(self) -> Array:
        return self.answers.indices

    def counts(self) -> dict[str, int]:
        """How many of each kind, for the record."""
        counts = {
            "labelled": len(self.train), "validation": len(self.validation), "unlabelled": len(self.unlabelled)
        }  # fmt: skip
        return {**counts, "neither": self.neither} if self.neither else counts


def choose_patches(job: Job, strategy: Strategy, data: Patches) -> ChosenPatches:
    """Choose, and refuse what cannot be trained.

    Raises:
        TrainingError: nothing is labelled, or groups are compared and there is one.
    """
    task, labelled, unlabelled = task_of(job.task), data.labelled("train"), data.unlabelled()
    answers, validation = task.sort(data, labelled), task.sort(data, data.labelled("val"))
    tissue = job.training.compared_patches == "tissue"
    compared = data.source_unlabelled() if tissue else np.zeros(0, int)
    train, val = answers.indices, validation.indices
    origins = PatchMetadata(data, np.concatenate([train, val, unlabelled, compared]).astype(int))
    need_answers(answers, len(labelled), "source training", job.task)
    if not job.repeats:
        need_answers(validation, len(data.labelled("val")), "source validation", job.task)
    grouping = strategy.align.grouping
    own = np.asarray(origins.domains(train))
    order = generator_for(job.seed, "settling").permutation(len(train))
    some = generator_for(job.seed, "validation").permutation(len(val))[
        : job.training.validation_patches or EPOCH_VALIDATION
    ]
    return ChosenPatches(
        answers=answers,
        validation=val,
        validation_each_epoch=val[np.sort(some)],
        unlabelled=unlabelled,
        compared=compared,
        settling={name: train[order[own[order] == name][:SETTLING]] for name in dict.fromkeys(own.tolist())},
        neither=len(labelled) - len(train),
        origins=origins,
        groups=None if grouping is None else numbered_groups(grouping, data, train),
    )


def make_batches(job: Job, strategy: Strategy, data: Patches, chosen: ChosenPatches) -> Batches:
    """The batches of a training, each kind with a generator of its own.

    Raises:
        TrainingError: the align part needs target patches or pairs of sections, and there are none.
    """
    size, by_domain = job.training.batch_size, strategy.norm.by_domain
    kinds = chosen.origins.domains(chosen.train)
    if chosen.groups is not None:
        kinds = [chosen.groups.names[chosen.groups.number[index]] for index in chosen.train.tolist()]

    def unlabelled(indices: Array, name: str) -> UnlabelledBatches | None:
        if not len(indices):
            return None
        return UnlabelledBatches(
            indices, chosen.origins.domains(indices), size, by_domain, generator_for(job.seed, name)
        )

    labelled = LabelledBatches(
        chosen.train, kinds, chosen.answers.drawn_as_object, size, by_domain, generator_for(job.seed, "labelled"),
        object_share=job.training.object_share, rare=chosen.answers.rare(job.training.rare_classes),
    )  # fmt: skip
    targets = unlabelled(chosen.unlabelled, "unlabelled")
    if targets is None and strategy.align.needs_targets:
        raise TrainingError(
            f"align {strategy.align.name!r} needs unlabelled target patches and there are none",
            remedy="Set protocol.visible to targets, and check that target domains have training patches",
        )
    pairs = _pair_batches(job, strategy, data) if strategy.align.needs_pairs else None
    return Batches(labelled, targets, unlabelled(chosen.compared, "compared"), pairs)


def numbered_groups(grouping: str, data: Patches, indices: Array) -> Groups:
    """Groups of labelled patches, numbered in the sorted order of their names.

    Args:
        grouping: ``domain``, ``patient`` or ``slide``: a column of the data layer's rows.

    Raises:
        TrainingError: there is one group only.
    """
    values = data.rows(indices)[grouping].astype(str).tolist()
    names = tuple(sorted(set(values)))
    if len(names) < 2:
        raise TrainingError(
            f"the strategy compares groups of labelled patches by {grouping}, and there is one: {', '.join(names)}",
            remedy="Name a second source domain, or set groups of the align part to patient or slide",
        )
    numbers = {name: number for number, name in enumerate(names)}
    return Groups({int(index): numbers[value] for index, value in zip(indices, values, strict=True)}, names)


def _pair_batches(job: Job, strategy: Strategy, data: Patches) -> PairBatches:
    result = data.serial
    if result is None or not len(result):
        raise TrainingError(
            f"align {strategy.align.name!r} needs patches of registered neighbouring sections and there are none",
            remedy="Set protocol.visible to targets, and check in registration/quality.csv that sections of "
            "training patients are registered",
        )
    by_domain = strategy.norm.by_domain
    return PairBatches(result, max(2, job.training.batch_size // 2), by_domain, generator_for(job.seed, "pairs"))
