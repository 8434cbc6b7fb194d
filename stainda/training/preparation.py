"""What is made before the first step of a training."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import nn

from stainda.errors import TrainingError
from stainda.randomness import generator_for, seed_for
from stainda.strategies import Strategy
from stainda.strategies.align.base import Site
from stainda.strategies.align.support.buffers import Copy
from stainda.strategies.detector import Detector, Standard
from stainda.strategies.features import FeatureTap
from stainda.strategies.norm.statistics import DomainStatistics, batchnorm_layers
from stainda.training.batches import (
    LabelledBatches,
    Origins,
    PairBatches,
    Patches,
    UnlabelledBatches,
)
from stainda.training.fitting import fit_augments
from stainda.training.job import Job
from stainda.training.losses import make_loss
from stainda.training.machine import choose_device, choose_precision, make_optimiser, parameter_groups
from stainda.training.passes import Passes, numbered_groups
from stainda.training.tasks import class_weights, need_answers, task_of
from stainda.training.windows import Windows

EPOCH_VALIDATION = 192
"""Validation patches scored each epoch, at most (a fixed random choice); all of them are scored at the end."""


SETTLING = 32
"""Training patches of each domain from which batch statistics are estimated for weights that were never trained
themselves (a teacher's), each epoch."""


class Preparation:
    """What a training is made of before its first step: patches, batches, view, networks, optimiser.

    Raises:
        TrainingError: nothing is labelled, or the align part needs what the data do not have.
        ConfigError: the strategy, the network and the patches do not fit together.
    """

    def __init__(self, job: Job, strategy: Strategy, data: Patches) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchmetrics 0.9.3 warns that pkg_resources is going away
            from lightning_fabric import Fabric

        self.job, self.strategy, self.data, self.config = job, strategy, data, job.training
        self._domain_index = {name: index for index, name in enumerate((*job.sources, *job.targets))}
        self.device, self.precision = choose_device(self.config), choose_precision(self.config)
        self.fabric = Fabric(
            accelerator=self.device, devices=1, precision="bf16-mixed" if self.precision == "bf16" else "32-true"
        )
        self._choose_patches()
        self._fit_view()
        self._make_networks()

    def _choose_patches(self) -> None:
        data, job, size = self.data, self.job, self.config.batch_size
        task, asked, visible = task_of(job.task), data.labelled("train"), data.unlabelled()
        self._found, found = task.sort(data, asked), task.sort(data, data.labelled("val"))
        compared = data.source_unlabelled() if self.config.compared_patches == "tissue" else np.zeros(0, int)
        train, self.val = self._found.indices, found.indices
        self._neither = len(asked) - len(train)
        self._train, self._visible = train, visible
        self.origins = Origins(data, np.concatenate([train, self.val, visible, compared]).astype(int))
        need_answers(self._found, len(asked), "source training", job.task)
        if not job.repeats:
            need_answers(found, len(data.labelled("val")), "source validation", job.task)
        one, grouping = self.strategy.norm.by_domain, self.strategy.align.grouping
        kinds = self.origins.domains(train)
        self.group_of: dict[int, int] | None = None
        self.group_names: tuple[str, ...] = ()
        if grouping is not None:
            self.group_of, self.group_names = numbered_groups(grouping, data, train)
            kinds = [self.group_names[self.group_of[index]] for index in train.tolist()]
        self.labelled = LabelledBatches(
            train, kinds, self._found.has_object, size, one, generator_for(job.seed, "labelled"),
            self.config.object_share,
        )  # fmt: skip
        self.compared: UnlabelledBatches | None = None
        if len(compared):
            self.compared = UnlabelledBatches(
                compared, self.origins.domains(compared), size, one, generator_for(job.seed, "compared")
            )
        self.unlabelled: UnlabelledBatches | None = None
        if len(visible):
            self.unlabelled = UnlabelledBatches(
                visible, self.origins.domains(visible), size, one, generator_for(job.seed, "unlabelled")
            )
        elif self.strategy.align.needs_targets:
            raise TrainingError(
                f"align {self.strategy.align.name!r} needs unlabelled target patches and there are none",
                remedy="Set protocol.visible to targets, and check that target domains have training patients",
            )
        self.pairs = self._pair_batches()
        own = np.asarray(self.origins.domains(train))
        order = generator_for(job.seed, "settling").permutation(len(train))
        self._settling = {name: train[order[own[order] == name][:SETTLING]] for name in dict.fromkeys(own.tolist())}
        chosen = generator_for(job.seed, "validation").permutation(len(self.val))[:EPOCH_VALIDATION]
        self._val_each_epoch = self.val[np.sort(chosen)]

    def _pair_batches(self) -> PairBatches | None:
        if not self.strategy.align.needs_pairs:
            return None
        found = self.data.serial
        if found is None or not len(found):
            raise TrainingError(
                f"align {self.strategy.align.name!r} needs patches of registered neighbouring sections and there are "
                "none",
                remedy="Set protocol.visible to targets, and check in registration/quality.csv that sections of "
                "training patients are registered",
            )
        one = self.strategy.norm.by_domain
        return PairBatches(found, max(2, self.config.batch_size // 2), one, generator_for(self.job.seed, "pairs"))

    def _fit_view(self) -> None:
        pixels, origins = self.data.tissue_pixels, self.origins
        slides = dict.fromkeys(origins.slides(np.concatenate([self._train, self.val, self._visible]).astype(int)))
        named = zip(origins.slides(self._train), origins.domains(self._train), strict=True)
        templates = list(dict.fromkeys(slide for slide, domain in named if domain in self.job.sources))
        self.strategy.view.fit({slide: pixels[slide] for slide in slides}, templates)
        given = self.job.encoder_standard()
        self.standard = Standard.of(*given) if given else Standard.fit(self.strategy, pixels, templates)
        of_source = np.isin(origins.domains(self._train), self.job.sources)
        fit_augments(self.strategy, self.data, origins, self._train[of_source], self._visible, self.job.seed)

    def _make_networks(self) -> None:
        job, config = self.job, self.config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(job.seed, "network"))
            self.detector = Detector.build(self.strategy, job.model, job.task, self.standard)
        network = self.detector.network.to(memory_format=torch.channels_last)
        self.detector.network = network.to(self.fabric.device)
        self._bn = bool(batchnorm_layers(network))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(job.seed, "align"))
            self.modules = nn.ModuleDict(self.strategy.align.modules(self._site())).to(self.fabric.device)
        kept = config.averaging is not None and not self.strategy.align.averages
        self.average = Copy(network) if kept else None
        groups = parameter_groups(network, self.modules, self.strategy.align.rates())
        optimiser = make_optimiser(config, groups)
        self.forward, self.optimiser = self.fabric.setup(network, optimiser)
        self.by_domain = DomainStatistics(network) if self.strategy.norm.by_domain and self._bn else None
        layer = self.strategy.align.tapped
        tap = None if layer is None else FeatureTap(network, layer, self.forward)
        weights = class_weights(job.task, self._found, config.object_share)
        self.loss = make_loss(config.loss, None if weights is None else weights.to(self.fabric.device))
        # on the CPU, so that a seed draws the same augmentation on any device
        self.generators = {
            kind: torch.Generator().manual_seed(seed_for(job.seed, name))
            for kind, name in {
                "labelled": "augment", "target": "augment target", "compared": "augment compared",
                "redraw": "augment again", "pairs": "augment pairs",
                "align": "align draws", "effect": "effect draws",
            }.items()
        }  # fmt: skip
        self.passes = Passes(
            self.strategy, self.detector, self.data, self.origins, self._domain_index, self.forward, tap,
            self.by_domain, self._bn, Windows.of(self.strategy, job.task, job.patches.size, self.data.margin),
            self.group_of, self.generators,
        )  # fmt: skip

    def _site(self) -> Site:
        align, network, size = self.strategy.align, self.detector.network, self.job.patches.size
        layers = (() if align.tapped is None else (align.tapped,)) + align.also_tapped
        channels = [0]
        if layers:
            network.eval()
            probe = torch.zeros(1, self.strategy.view.channels, size, size, device=self.fabric.device)
            channels = []
            for layer in layers:
                with torch.no_grad():
                    channels.append(FeatureTap(network, layer).until(probe).shape[1])
        config = self.config
        return Site(
            channels[0], len(self._domain_index), len(self.job.task.classes) + 1, len(self.job.sources),
            self.group_names, self.detector.network, config.epochs * config.steps_per_epoch, config.steps_per_epoch,
            tuple(channels[1:]),
        )  # fmt: skip
