"""Batches of features instead of images: what the frozen encoder gave is read, and only what follows it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stainda.arrays import Array
from stainda.config import CacheConfig, TaskConfig
from stainda.errors import ConfigError
from stainda.models.weight_files import start_of
from stainda.strategies import Strategy
from stainda.strategies.align.base import Batch
from stainda.strategies.augment.base import Augment
from stainda.strategies.capture import listening
from stainda.strategies.detector import Detector
from stainda.strategies.norm.statistics import Statistics, statistics_of
from stainda.training.batch_pipeline import BatchPipeline, PatchAccess, RunningNetwork
from stainda.training.feature_cache import CachedView, Draw, FeatureCache, open_cache
from stainda.training.job import OF_KINDS, Job


@dataclass(frozen=True, eq=False)
class Kept:
    """Where features are kept, and of which patches.

    Attributes:
        root: folder of the caches.
        indices: of the patches by kind: ``labelled``, ``target``, ``compared`` and ``validation``.
        autocast: the loop's precision. precision: its name, ``fp32`` or ``bf16``.
    """

    root: Path
    job: Job
    indices: dict[str, Array]
    autocast: Callable[[], AbstractContextManager[None]]
    precision: str


def refuse_what_needs_pixels(strategy: Strategy) -> None:
    """Refuse parts that act on images or inside the encoder while the network trains.

    Raises:
        ConfigError: the part, and what to do.
    """
    remedy = "Leave training.cache out for this strategy, or take one that acts on features (dann, mmd, coral …)"
    where = f"strategy {strategy.name}"
    if strategy.align.needs_pixels or strategy.align.needs_pairs:
        raise ConfigError(
            f"align {strategy.align.name!r} looks at images in training, and with training.cache there are features "
            "alone",
            file=where, remedy=remedy,
        )  # fmt: skip
    inside = [part.name for part in strategy.augment if type(part).prepare is not Augment.prepare]
    if inside:
        raise ConfigError(
            f"augment {inside[0]!r} acts inside the network, whose encoder does not run with training.cache",
            file=where, remedy=remedy,
        )  # fmt: skip


def refuse_details(task: TaskConfig) -> None:
    """Refuse tasks whose targets are made of augmented patches.

    Raises:
        ConfigError: it is of instances or points.
    """
    if task.kind in ("instances", "points"):
        raise ConfigError(
            f"training.cache keeps classes of pixels, and a task of {task.kind} asks more of them",
            file="training.cache", remedy="Leave training.cache out",
        )  # fmt: skip


class CachedPasses(BatchPipeline):
    """As :class:`BatchPipeline`, from features: each step takes one of the views that were drawn of each patch.

    Batches have no ``redraw`` and no ``places``, and their ``images`` are the coarsest features.
    """

    def __init__(
        self,
        strategy: Strategy,
        detector: Detector,
        patches: PatchAccess,
        running: RunningNetwork,
        generators: Any,
        kept: Kept,
    ) -> None:
        refuse_what_needs_pixels(strategy)
        refuse_details(detector.task)
        tap = running.tap
        super().__init__(strategy, detector, patches, replace(running, tap=None), generators)
        self._kept, self._caches = kept, dict[str, FeatureCache]()
        config = kept.job.training.cache
        assert config is not None
        self._config: CacheConfig = config
        self._tap = None if tap is None else tap.through(self._answer)
        self._refuse_an_encoder_that_learns()

    def labelled(self, indices: Array) -> Batch:
        view = self._view("labelled", indices)
        self._use(indices)
        with listening(self._detector.network, self._strategy.align.also_tapped) as more:
            logits, features = self._run(view.features)
        groups, device = None, view.features[-1].device
        if self._patches.groups is not None:
            groups = torch.tensor(
                [self._patches.groups[index] for index in np.asarray(indices).tolist()], device=device
            )
        return Batch(
            view.features[-1], self._numbers(indices), features, logits, view.labels, weights=view.weights,
            groups=groups, more_features=tuple(more),
        )  # fmt: skip

    def target(self, indices: Array) -> Batch:
        return self._of_kind("target", indices)

    def source_unlabelled(self, indices: Array) -> Batch:
        return self._of_kind("compared", indices)

    def probabilities(self, indices: Array, statistics: Statistics | None = None) -> Tensor:
        """As ``Detector.probabilities``, of validation patches."""
        network = self._detector.network
        view = self._view("validation", indices)
        network.eval()
        with torch.no_grad(), statistics_of(network, statistics):
            logits = self._answer(view.features)
        return torch.softmax(logits.float(), dim=1)[:, 1:]

    def _of_kind(self, kind: str, indices: Array) -> Batch:
        view = self._view(kind, indices)
        self._use(indices)
        with listening(self._detector.network, self._strategy.align.also_tapped) as more:
            logits, features = self._run(view.features)
        images, domains = view.features[-1], self._numbers(indices)
        return Batch(images, domains, features, logits, more_features=tuple(more))

    def _run(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        return (self._answer(features), None) if self._tap is None else self._tap(features)

    def _answer(self, features: Sequence[Tensor]) -> Tensor:
        with self._kept.autocast():
            return self._detector.network.answer(features)

    # -- the cache ----------------------------------------------------------------------------------------------

    def _view(self, kind: str, indices: Array) -> CachedView:
        cache = self._cache(kind)
        views = np.zeros(len(indices), int)
        if cache.views > 1:
            generator = self._generators[kind]
            views = torch.randint(cache.views, (len(indices),), generator=generator).numpy()
        return cache.read(indices, views, self._detector.device)

    def _cache(self, kind: str) -> FeatureCache:
        if kind not in self._caches:
            plain = kind == "validation"
            draws: dict[str, Draw] = {"labelled": self._draw_labelled, "validation": self._draw_plain}
            self._caches[kind] = open_cache(
                self._kept.root, self._about(kind), self._kept.indices[kind], 1 if plain else self._config.views,
                draws.get(kind, self._draw_unlabelled), self._config.limit_gb,
            )  # fmt: skip
        return self._caches[kind]

    def _about(self, kind: str) -> dict[str, Any]:
        """All that the features of one kind of patches depend on."""
        job, strategy, detector = self._kept.job, self._strategy, self._detector
        config = strategy.config
        start = [job.pretrained] if job.pretrained else start_of(job.model) or ["random", job.seed]
        views = {"windows": repr(self._patches.windows), "augment": [part.model_dump() for part in config.augment]}
        if kind not in ("labelled", "validation"):
            views["manner"] = strategy.align.target_manner
        return {
            "data": job.data_key, "without": job.without, "kind": kind,
            "task": job.task.model_dump(mode="json", exclude=set(OF_KINDS)),
            "network": [job.model.name, job.model.params, start, config.norm.model_dump()],
            "standard": [detector.standard.mean.tolist(), detector.standard.std.tolist()],
            "view": [config.view.model_dump(), strategy.view.state()], "size": job.patches.size,
            **({} if kind == "validation" else views),
            **({} if self._kept.precision == "fp32" else {"precision": self._kept.precision}),
        }  # fmt: skip

    def _draw_labelled(self, indices: Array, generator: torch.Generator) -> CachedView:
        seen = self._labelled_images(indices, generator)
        return CachedView(self._encoded(seen.images), seen.labels, seen.weights)

    def _draw_unlabelled(self, indices: Array, generator: torch.Generator) -> CachedView:
        raw = self._raw(indices, self._patches.windows.draw(len(indices), generator))
        slides = self._patches.origins.slides(indices)
        return CachedView(self._encoded(self._drawn(raw, slides, generator, self._strategy.align.target_manner).images))

    def _draw_plain(self, indices: Array, generator: torch.Generator) -> CachedView:
        return CachedView(self._encoded(self.plain(indices)))

    def _encoded(self, images: Tensor) -> Sequence[Tensor]:
        network = self._detector.network
        was_training = network.training
        network.eval()
        try:
            with torch.no_grad(), self._kept.autocast():
                return [features.float() for features in network.encode(images)]
        finally:
            network.train(was_training)

    def _refuse_an_encoder_that_learns(self) -> None:
        """What lies before the encoder (a learned map of colours) must not learn either."""
        network = self._detector.network
        behind = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
        before = [name for name in behind if name.startswith("colour_map.")]
        if before:
            raise ConfigError(
                f"view {self._strategy.view.name!r} learns before the encoder, whose features then change at each step",
                file=f"strategy {self._strategy.name}", remedy="Leave training.cache out for this strategy",
            )  # fmt: skip
