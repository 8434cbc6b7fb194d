"""What is made before the first step of a training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from stainda.errors import ConfigError
from stainda.models import parameter_counts, rate_factors
from stainda.randomness import seed_for
from stainda.strategies import Strategy
from stainda.strategies.align.base import Site
from stainda.strategies.align.support.buffers import Copy
from stainda.strategies.detector import Detector, Standard
from stainda.strategies.features import FeatureTap
from stainda.strategies.norm.statistics import DomainStatistics, batchnorm_layers
from stainda.training.batch_pipeline import BatchPipeline, PatchAccess, RunningNetwork
from stainda.training.batches import Patches
from stainda.training.cached_passes import CachedPasses, Kept
from stainda.training.chosen_patches import choose_patches, make_batches
from stainda.training.compiled import CompiledNetwork, CompiledPasses
from stainda.training.compiling import refuse_what_cannot_be_compiled, refuse_without_compiler
from stainda.training.fitting import fit_augments
from stainda.training.job import Job
from stainda.training.losses import make_loss
from stainda.training.machine import choose_device, choose_precision, make_optimiser, parameter_groups
from stainda.training.ranks import Ranks
from stainda.training.sharing import refuse_what_cannot_be_shared
from stainda.training.tasks import class_weights
from stainda.training.windows import Windows

_GENERATORS = {
    "labelled": "augment", "target": "augment target", "compared": "augment compared", "redraw": "augment again",
    "pairs": "augment pairs", "align": "align draws", "effect": "effect draws",
}  # fmt: skip
"""Generators of a training, and the names their seeds come from."""


class Preparation:
    """What a training is made of before its first step: patches, batches, view, networks, optimiser.

    Args:
        start: file of the encoder that ``job.pretrained`` names.
        ranks: the processes of the training, of which this is one.

    Attributes:
        chosen: the patches. batches: how they are dealt. passes: how they go through the network.
        detector: view and network. forward: the network as the loop runs it.
        modules: the align part's own. average: a running average of the network's weights, where one is kept.
        passes: from features, where these are kept (``training.cache``).
        compiled: passes of the network as torch.compile runs them; ``None`` without ``training.compile``.
        by_domain: running batch statistics per domain, where the strategy keeps them and the network has any.
        parameters: how many the network has, and how many learn.
        batchnorm: the network has batch normalisation whose statistics are not fixed.
        loss: of the task. generators: on the CPU, by kind of batch.

    Raises:
        TrainingError: nothing is labelled, or the align part needs what the data do not have.
        ConfigError: the strategy, the network and the patches do not fit together.
    """

    def __init__(
        self,
        job: Job,
        strategy: Strategy,
        data: Patches,
        start: Path | None = None,
        features: Path | None = None,
        *,
        ranks: Ranks | None = None,
    ) -> None:
        self.job, self.strategy, self.data, self.config = job, strategy, data, job.training
        self.device, self.precision = choose_device(self.config), choose_precision(self.config)
        self.ranks = ranks or Ranks()
        refuse_what_cannot_be_shared(self.config, strategy)
        refuse_what_cannot_be_compiled(self.config, strategy, job.model.name)
        if self.config.compile:
            refuse_without_compiler(self.device)
        self.fabric = self.ranks.fabric(self.device, "bf16-mixed" if self.precision == "bf16" else "32-true")
        self.chosen = choose_patches(job, strategy, data)
        self.origins = self.chosen.origins
        self.batches = make_batches(job, strategy, data, self.chosen)
        standard = self._fit_view()
        self._make_networks(standard, start)
        # on the CPU, so that a seed draws the same augmentation on any device
        self.generators = {
            kind: torch.Generator().manual_seed(seed_for(job.seed, name)) for kind, name in _GENERATORS.items()
        }
        self.compiled = self._compile()
        self.passes = self._make_passes(features)

    def _fit_view(self) -> Standard:
        chosen, pixels, origins = self.chosen, self.data.tissue_pixels, self.origins
        shown = np.concatenate([chosen.train, chosen.validation, chosen.unlabelled]).astype(int)
        slides = dict.fromkeys(origins.slides(shown))
        named = zip(origins.slides(chosen.train), origins.domains(chosen.train), strict=True)
        templates = list(dict.fromkeys(slide for slide, domain in named if domain in self.job.sources))
        self.strategy.view.fit({slide: pixels[slide] for slide in slides}, templates)
        given = self.job.encoder_standard()
        standard = Standard.of(*given) if given else Standard.fit(self.strategy, pixels, templates)
        source = chosen.train[np.isin(origins.domains(chosen.train), self.job.sources)]
        fit_augments(self.strategy, self.data, origins, source, chosen.unlabelled, self.job.seed)
        return standard

    def _make_networks(self, standard: Standard, start: Path | None) -> None:
        job, config, align = self.job, self.config, self.strategy.align
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(job.seed, "network"))
            self.detector = Detector.build(self.strategy, job.model, job.task, standard, config.train, start)
        network = self.detector.network.to(memory_format=torch.channels_last)
        self.detector.network = network.to(self.fabric.device)
        self.parameters = parameter_counts(network)
        self.batchnorm = bool(batchnorm_layers(network))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(job.seed, "align"))
            self.modules = nn.ModuleDict(align.modules(self._site())).to(self.fabric.device)
        kept = config.averaging is not None and not align.averages
        self.average = Copy(network) if kept else None
        factors = {} if config.layer_decay is None else rate_factors(network, config.layer_decay)
        self.optimiser = make_optimiser(config, parameter_groups(network, self.modules, align.rates(), factors))
        self.by_domain = DomainStatistics(network) if self.strategy.norm.by_domain and self.batchnorm else None
        answers = self.chosen.answers
        weights = class_weights(job.task, answers, config.object_share, answers.rare(config.rare_classes))
        self.loss = make_loss(config.loss, None if weights is None else weights.to(self.fabric.device))

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float32, of images under the precision of the training.

        ``Fabric.setup`` would wrap the network, and refuse gradients of its outputs other than by ``Fabric.backward``
        where the precision is bf16: those of ``gradient_ratio`` and of parts that differentiate by themselves.
        """
        if self.compiled is not None and self.compiled.runs:
            return self.compiled(images)[0]
        with self.fabric.autocast():
            logits: Tensor = self.detector.network(images)
        return logits.float()

    def _compile(self) -> CompiledNetwork | None:
        """Passes of the network, to be compiled when they are first run."""
        if not self.config.compile:
            return None
        align, detector = self.strategy.align, self.detector
        layers = (*align.also_tapped, *detector.watched)
        return CompiledNetwork(detector.network, align.tapped, layers, self.fabric.autocast)

    def _make_passes(self, features: Path | None) -> BatchPipeline:
        job, chosen, layer = self.job, self.chosen, self.strategy.align.tapped
        forward = self.ranks.forward(self.forward)
        tap = None if layer is None else FeatureTap(self.detector.network, layer, forward)
        patches = PatchAccess(
            data=self.data,
            origins=self.origins,
            domain_index={name: index for index, name in enumerate((*job.sources, *job.targets))},
            windows=Windows.of(self.strategy, job.task, job.patches.size, self.data.margin),
            groups=None if chosen.groups is None else chosen.groups.number,
        )
        running = RunningNetwork(self.detector.network, forward, tap, self.by_domain, self.batchnorm, self.ranks)
        if self.compiled is not None:
            running = CompiledPasses(**vars(running), compiled=self.compiled)
        if self.config.cache is not None:
            assert features is not None, "trainings from features need a folder to keep them in"
            indices = {
                "labelled": chosen.train, "target": chosen.unlabelled, "compared": chosen.compared,
                "validation": chosen.validation,
            }  # fmt: skip
            kept = Kept(features, job, indices, self.fabric.autocast, self.precision)
            return CachedPasses(self.strategy, self.detector, patches, running, self.generators, kept)
        return BatchPipeline(self.strategy, self.detector, patches, running, self.generators)

    def _site(self) -> Site:
        job, config, align, network = self.job, self.config, self.strategy.align, self.detector.network
        layers = (() if align.tapped is None else (align.tapped,)) + align.also_tapped
        channels = [0]
        if layers:
            network.eval()
            size = job.patches.size
            probe = torch.zeros(1, self.strategy.view.channels, size, size, device=self.fabric.device)
            features = {layer: FeatureTap(network, layer).until(probe) for layer in layers}
            channels = [maps.shape[1] for maps in features.values()]
            if fixed := [layer for layer, maps in features.items() if not maps.requires_grad]:
                dense = "Set align.layer to decoder, or " if job.task.network == "segmentation" else "Set "
                raise ConfigError(
                    f"align {align.name!r} acts on layer {fixed[0]!r}, before which nothing learns (training.train: "
                    f"{config.train})",
                    file=f"strategy {self.strategy.name}",
                    remedy=f"{dense}training.train to {{mode: head, adapter: 64}}, last_n, lora or all",
                )
        return Site(
            channels[0],
            n_domains=len({*job.sources, *job.targets}),
            n_classes=len(job.task.classes) + 1,
            n_sources=len(job.sources),
            groups=() if self.chosen.groups is None else self.chosen.groups.names,
            network=network,
            steps=config.epochs * config.steps_per_epoch,
            steps_per_epoch=config.steps_per_epoch,
            more_channels=tuple(channels[1:]),
            annotators=self.data.annotators if align.needs_votes else (),
        )
