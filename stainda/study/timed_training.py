"""A strategy's own training on made patches, so that its step can be timed before there are any.

Network, head, loss, optimiser and what learns are those of the strategy (``stainda.training.preparation`` makes them of
patches that are cut). Patches are noise with discs of the task's objects; nothing is augmented, and nothing aligned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from stainda.arrays import Array
from stainda.config import StrategyConfig, StudyConfig, TaskConfig
from stainda.instances import task_for
from stainda.models import rate_factors
from stainda.models.patch_sizes import without_weights
from stainda.strategies import build
from stainda.strategies.align.base import Batch, DenseBatch
from stainda.strategies.capture import listening
from stainda.strategies.detector import Detector, Standard
from stainda.training import resolve_training
from stainda.training.losses import make_loss
from stainda.training.machine import make_optimiser, parameter_groups
from stainda.training.tasks import task_of


class TimedTraining:
    """What one strategy of a study trains, ready for a step.

    Attributes:
        detector: network and head. training: settings of the loop with those the strategy changes.
        images: float ``[N, C, S, S]``, a batch as the network sees it. pixels: of them all.
    """

    def __init__(self, config: StudyConfig, strategy: StrategyConfig) -> None:
        built, task = build(strategy), task_for(config, strategy)
        self.training = resolve_training(config.training, strategy)
        channels, size, count = built.view.channels, config.patches.size, self.training.batch_size
        standard = Standard.of([0.5] * channels, [0.25] * channels)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.detector = Detector.build(
                built, without_weights(config.model_of(strategy)), task, standard, self.training.train
            )
            self.images = torch.rand(count, channels, size, size).contiguous(memory_format=torch.channels_last)
        network = self._network = self.detector.network.to(memory_format=torch.channels_last)
        self._task, self._loss = task_of(task), make_loss(self.training.loss)
        factors = {} if self.training.layer_decay is None else rate_factors(network, self.training.layer_decay)
        self._optimiser = make_optimiser(self.training, parameter_groups(network, nn.ModuleDict(), {}, factors))
        labels, details = made_objects(config, task, count)
        self._labels, self._details = network.crop(labels), network.crop(details)
        self._features: Sequence[Tensor] | None = None
        if self.training.cache is not None:
            network.eval()
            with torch.no_grad():
                self._features = network.encode(self.images)

    @property
    def pixels(self) -> int:
        return self.images.shape[0] * self.images.shape[-1] ** 2

    def step(self) -> dict[str, float]:
        """One step of the optimiser, as ``TrainingLoop`` takes it; the terms of its loss."""
        self._network.train()
        batch = self._batch()
        terms = {"task": self._task.loss(batch, self._loss), **self._task.more_terms(batch)}
        self._optimiser.zero_grad(set_to_none=True)
        torch.stack([*terms.values()]).sum().backward()
        self._optimiser.step()
        return {name: float(term.detach()) for name, term in terms.items()}

    def _batch(self) -> Batch:
        """The labelled batch after it went through the network."""
        labels, dense = self._labels, None
        if self._task.has_details:  # targets are made of each augmented patch
            dense = self._task.dense(labels, self._details)
        with listening(self._network, self.detector.watched) as heard:
            logits = self._network(self.images) if self._features is None else self._network.answer(self._features)
        if dense is not None and self.detector.watched:
            dense = replace(dense, loss=self._object_loss(heard, labels, dense))
        answers, _ = self._task.answers(labels)
        domains = torch.zeros(len(labels), dtype=torch.long)
        return Batch(self.images, domains, logits=logits.float(), labels=answers, dense=dense)

    def _object_loss(self, heard: Sequence[Tensor], labels: Tensor, dense: DenseBatch) -> Tensor:
        return self.detector.object_loss(heard, labels, dense)

    @torch.no_grad()
    def look(self) -> None:
        """A pass over patches of a slide, with the maps that objects are separated by."""
        self._network.eval()
        with listening(self._network, self.detector.watched) as heard:
            logits = self._network(self.images)
        if heard:
            height, width = logits.shape[-2:]
            self.detector.object_maps(heard, (height, width))

    @torch.no_grad()
    def validate(self) -> None:
        """A pass over validation patches: class scores alone, from kept features where these are kept."""
        self._network.eval()
        if self._features is None:
            self._network(self.images)
        else:
            self._network.answer(self._features)


def made_objects(config: StudyConfig, task: TaskConfig, count: int) -> tuple[Tensor, Tensor]:
    """Labels and details of made patches, long ``[count, S, S]`` each.

    Every second patch of a classification shows its first class all over. Patches of other tasks show discs of the size
    of the task's objects (a quarter of the patch, where none is given), twice their width apart.
    """
    size = config.patches.size
    if task.network == "classification":
        labels = torch.zeros(count, size, size, dtype=torch.long)
        labels[::2] = 1
        return labels, torch.zeros_like(labels)
    numbers = torch.from_numpy(_discs(size, _diameter(config, task)))
    labels = (numbers > 0).long()
    details = labels * (256 + 255) if task.kind == "points" else numbers
    return labels.expand(count, -1, -1).clone(), details.expand(count, -1, -1).clone()


def _diameter(config: StudyConfig, task: TaskConfig) -> float:
    """Of an object, in pixels the network sees; at most half a patch."""
    patches, pixels = config.patches, config.patches.size / 4
    if patches.mpp is not None and (wide := task.object_um or (task.sigma_um and 4 * task.sigma_um)):
        pixels = wide / patches.mpp
    elif patches.downsample is not None and (wide := task.object_px or (task.sigma_px and 4 * task.sigma_px)):
        pixels = wide / patches.downsample
    return float(np.clip(pixels, 4, patches.size / 2))


def _discs(size: int, diameter: float) -> Array:
    """Numbers ``(size, size)``, int64: 1… in discs, 0 between them."""
    along = np.arange(size) + 0.5
    cell, inside = np.divmod(along, 2 * diameter)
    away = np.hypot(inside[:, None] - diameter, inside[None, :] - diameter)
    number = cell[:, None] * (cell.max() + 1) + cell[None, :] + 1
    return np.where(away <= diameter / 2, number, 0).astype(np.int64)
