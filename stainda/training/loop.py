"""The loop: a fixed number of optimiser steps, validated each epoch on source patients, the best kept."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from stainda.errors import TrainingError
from stainda.files import output_errors, write_csv, write_json
from stainda.progress import SILENT, Progress
from stainda.randomness import generator_for, seed_for
from stainda.strategies import Strategy, build
from stainda.strategies.align import Batch, Site, Step
from stainda.strategies.detector import CHECKPOINTS, STATISTICS, Detector, Standard, load_weights_into, save_weights
from stainda.strategies.features import FeatureTap
from stainda.strategies.statistics import (
    DomainStatistics,
    Statistics,
    batchnorm_layers,
    estimate_statistics,
    save_statistics,
)
from stainda.training.batches import LabelledBatches, Origins, Patches, UnlabelledBatches, need_objects, shows_object
from stainda.training.job import Job
from stainda.training.losses import LOSSES
from stainda.training.machine import choose_device, choose_precision, make_optimiser, torch_for
from stainda.training.result import TrainingResult
from stainda.training.validation import Validation, validate

if TYPE_CHECKING:
    from stainda.patches import PatchStore

STATISTICS_PATCHES = 96
"""Patches from which the batch statistics of a domain are re-estimated after training."""

EPOCH_VALIDATION = 192
"""Validation patches scored each epoch, at most (a fixed random choice); all of them are scored at the end."""


def train(
    job: Job,
    store: PatchStore | str | Path,
    folder: str | Path,
    progress: Progress = SILENT,
    on_epoch: Callable[[int, float], None] | None = None,
) -> TrainingResult:
    """Train one job and write its folder.

    ``settings.json`` first, ``training.csv`` and ``log.txt`` while it runs, then ``model.safetensors`` (best epoch on
    source validation), ``last.safetensors``, ``view.json``, ``statistics.safetensors`` and, last of all,
    ``result.json``: a folder with it is complete. On the CPU the same job gives the same bytes.

    Args:
        store: the patch store, or its folder.
        on_epoch: called with the epoch (from 1) and its score; what it raises (a pruned trial) ends the job.

    Raises:
        TrainingError: a loss is not a number (with step and term), or nothing is labelled.
        ConfigError: the strategy, the network and the patches do not fit together.
        LeakError: a target label was asked for that the strategy may not see.
    """
    from stainda.cohort import Roles
    from stainda.patches import PatchStore, TrainingData

    strategy = build(job.strategy)
    opened = PatchStore.open(Path(store)) if isinstance(store, str | Path) else store
    roles = Roles(job.sources, job.targets, job.domain_keys, job.protocol.visible)
    data = TrainingData(opened, roles, labels=strategy.labels.rule, visible=job.protocol.visible)
    return train_on(job, data, folder, progress, on_epoch)


def train_on(
    job: Job,
    data: Patches,
    folder: str | Path,
    progress: Progress = SILENT,
    on_epoch: Callable[[int, float], None] | None = None,
) -> TrainingResult:
    """As :func:`train`, on data already opened."""
    folder = Path(folder)
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").unlink(missing_ok=True)
    write_json(folder / "settings.json", job.settings())
    with torch_for(job.training):
        return _Training(job, build(job.strategy), data, folder, progress, on_epoch).run()


class _Training:
    """One run of the loop; see :func:`train`."""

    def __init__(
        self,
        job: Job,
        strategy: Strategy,
        data: Patches,
        folder: Path,
        progress: Progress,
        on_epoch: Callable[[int, float], None] | None,
    ) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchmetrics 0.9.3 warns that pkg_resources is going away
            from lightning_fabric import Fabric

        self.job, self.strategy, self.data, self.folder = job, strategy, data, folder
        self.config, self.progress, self.on_epoch = job.training, progress, on_epoch
        self._started, self._cpu_started = time.perf_counter(), time.process_time()
        self._log_lines: list[str] = []
        self._domain_index = {name: index for index, name in enumerate((*job.sources, *job.targets))}
        self.device, self.precision = choose_device(self.config), choose_precision(self.config)
        self.fabric = Fabric(
            accelerator=self.device, devices=1, precision="bf16-mixed" if self.precision == "bf16" else "32-true"
        )
        self._choose_patches()
        self._fit_view()
        self._make_networks()

    # -- what is made before the first step ---------------------------------------------------------------------

    def _choose_patches(self) -> None:
        data, job, size = self.data, self.job, self.config.batch_size
        train, self.val = data.labelled("train"), data.labelled("val")
        visible = data.unlabelled()
        self._train, self._visible = train, visible
        self.origins = Origins(data, np.concatenate([train, self.val, visible]).astype(int))
        has_object = shows_object(data, train)
        need_objects(has_object, "source training", job.task.classes)
        need_objects(shows_object(data, self.val), "source validation", job.task.classes)
        one = self.strategy.norm.by_domain
        self.labelled = LabelledBatches(
            train, self.origins.domains(train), has_object, size, one, generator_for(job.seed, "labelled")
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
        chosen = generator_for(job.seed, "validation").permutation(len(self.val))[:EPOCH_VALIDATION]
        self._val_each_epoch = self.val[np.sort(chosen)]

    def _fit_view(self) -> None:
        pixels, origins = self.data.tissue_pixels, self.origins
        slides = dict.fromkeys(origins.slides(np.concatenate([self._train, self.val, self._visible]).astype(int)))
        named = zip(origins.slides(self._train), origins.domains(self._train), strict=True)
        templates = list(dict.fromkeys(slide for slide, domain in named if domain in self.job.sources))
        self.strategy.view.fit({slide: pixels[slide] for slide in slides}, templates)
        self.standard = Standard.fit(self.strategy, pixels, templates)

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
        parameters = [*network.parameters(), *self.modules.parameters()]
        optimiser = make_optimiser(config, parameters)
        self.forward, self.optimiser = self.fabric.setup(network, optimiser)
        self.by_domain = DomainStatistics(network) if self.strategy.norm.by_domain and self._bn else None
        layer = self.strategy.align.tapped
        self.tap = None if layer is None else FeatureTap(network, layer, self.forward)
        self.loss = LOSSES[config.loss]
        # on the CPU, so that a seed draws the same augmentation on any device
        self.generator = torch.Generator().manual_seed(seed_for(job.seed, "augment"))
        self.target_generator = torch.Generator().manual_seed(seed_for(job.seed, "augment target"))

    def _site(self) -> Site:
        channels, layer = 0, self.strategy.align.tapped
        if layer is not None:
            network, size = self.detector.network, self.job.patches.size
            tap = FeatureTap(network, layer)
            network.eval()
            with torch.no_grad():
                probe = torch.zeros(1, self.strategy.view.channels, size, size, device=self.fabric.device)
                channels = tap.until(probe).shape[1]
        return Site(channels, len(self._domain_index), len(self.job.task.classes) + 1)

    # -- steps --------------------------------------------------------------------------------------------------

    def run(self) -> TrainingResult:
        config = self.config
        total = config.epochs * config.steps_per_epoch
        self._log(
            f"{self.strategy.name}, seed {self.job.seed}: {config.epochs} epochs of {config.steps_per_epoch} steps"
        )
        self._log(f"patches: {self._counts()}; {self.strategy.norm.statement(self.detector.network)}")
        rows: list[dict[str, Any]] = []
        best, best_epoch, step, steps_seconds = -1.0, 0, 0, 0.0
        with self.progress.task(f"{self.strategy.name} seed {self.job.seed}", total) as bar:
            for epoch in range(1, config.epochs + 1):
                begun = time.perf_counter()
                sums: dict[str, float] = {}
                self.detector.network.train()
                self.modules.train()
                for _ in range(config.steps_per_epoch):
                    self._set_rate(step / total)
                    for name, value in self._step(step, total).items():
                        sums[name] = sums.get(name, 0.0) + value
                    step += 1
                    if step == 1:  # pays for imports
                        begun = time.perf_counter()
                    bar.advance(1.0)
                steps_seconds += time.perf_counter() - begun
                scored = self._validate_epoch()
                rows.append(self._row(epoch, step, sums, scored))
                self._write_rows(rows)
                if scored.score > best:
                    best, best_epoch = scored.score, epoch
                    save_weights(self.detector.network, self.folder / CHECKPOINTS["best"])
                if self.on_epoch is not None:
                    self.on_epoch(epoch, scored.score)
                if config.patience is not None and epoch - best_epoch >= config.patience:
                    self._log(f"stopped after epoch {epoch}: no better score for {config.patience} epochs")
                    break
        save_weights(self.detector.network, self.folder / CHECKPOINTS["last"])
        return self._finish(best_epoch, len(rows), step, (step - 1) / max(steps_seconds, 1e-9))

    def _step(self, step: int, total: int) -> dict[str, float]:
        """One optimiser step; the loss terms, for the record."""
        source = self._labelled_batch(self.labelled.draw())
        target = None
        if self.strategy.align.needs_targets:
            assert self.unlabelled is not None
            target = self._target_batch(self.unlabelled.draw())
        share = step / max(total - 1, 1)
        terms = self.strategy.align.losses(Step(source, target, share, self.modules, self.detector.network))
        if "task" not in terms:
            assert source.logits is not None and source.labels is not None
            terms = {"task": self.loss(source.logits, source.labels), **terms}
        loss = torch.stack([*terms.values()]).sum()
        values = {name: float(value.detach()) for name, value in terms.items()}
        if wrong := [name for name, value in values.items() if not math.isfinite(value)]:
            reason = f"step {step + 1}: the loss term {wrong[0]!r} is not a number ({values[wrong[0]]})"
            self._log(reason)
            raise TrainingError(
                f"{self.strategy.name}, seed {self.job.seed}, {reason}",
                file=self.folder / "log.txt",
                remedy="Lower training.learning_rate or the weight of the strategy's align part",
            )
        self.optimiser.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        self.optimiser.step()
        return values

    def _labelled_batch(self, indices: np.ndarray) -> Batch:
        images = self.detector.images(self.data.images(indices))
        labels = torch.from_numpy(self.data.labels(indices).astype(np.int64)).to(images.device)
        images, labels = self._augmented(images, labels, indices, self.generator)
        self._use_statistics(indices)
        logits, features = (self.forward(images), None) if self.tap is None else self.tap(images)
        return Batch(images, self._numbers(indices), features, logits, self.detector.network.crop(labels))

    def _target_batch(self, indices: np.ndarray) -> Batch:
        images = self.detector.images(self.data.images(indices))
        nothing = torch.zeros(len(images), *images.shape[2:], dtype=torch.long, device=images.device)
        images, _ = self._augmented(images, nothing, indices, self.target_generator)
        self._use_statistics(indices)
        if self.tap is None:
            return Batch(images, self._numbers(indices), logits=self.forward(images))
        if self.strategy.align.target_logits or (self._bn and self.by_domain is None):
            # with shared batch statistics every layer has to see the target, or the average is of other images
            # in some layers than in others
            logits, features = self.tap(images)
            return Batch(images, self._numbers(indices), features, logits)
        return Batch(images, self._numbers(indices), self.tap.until(images))

    def _augmented(
        self, images: Tensor, labels: Tensor, indices: np.ndarray, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Normalisers, then augmentation, then views that drop colour, then standardisation."""
        view, slides = self.strategy.view, self.origins.slides(indices)
        if view.is_colour:
            images = view(images, slides)
        for part in self.strategy.augment:
            images, labels = part(images, labels, generator)
        if not view.is_colour:
            images = view(images, slides)
        return self.standard(images).contiguous(memory_format=torch.channels_last), labels

    def _use_statistics(self, indices: np.ndarray) -> None:
        if self.by_domain is not None:
            self.by_domain.use(self.origins.domains(indices[:1])[0])

    def _numbers(self, indices: np.ndarray) -> Tensor:
        numbers = [self._domain_index[domain] for domain in self.origins.domains(indices)]
        return torch.tensor(numbers, device=self.fabric.device)

    def _set_rate(self, share: float) -> None:
        factor = 1.0 if self.config.schedule == "constant" else 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * share))
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * factor

    # -- scores and files ---------------------------------------------------------------------------------------

    def _validate_epoch(self) -> Validation:
        if self.by_domain is None:
            return validate(self.detector, self.data, self.origins, self._val_each_epoch, own_statistics=False)
        self.detector.statistics = self.by_domain.read(self.job.sources)
        return validate(self.detector, self.data, self.origins, self._val_each_epoch)

    def _finish(self, best_epoch: int, epochs: int, step: int, rate: float) -> TrainingResult:
        detector, job = self.detector, self.job
        last = self._final_statistics(CHECKPOINTS["last"])
        save_statistics(self.folder / STATISTICS["last"], last)
        detector.statistics = self._final_statistics(CHECKPOINTS["best"])
        final = validate(detector, self.data, self.origins, self.val)
        detector.save(self.folder)
        for slide, reason in self.strategy.view.fallbacks.items():
            self._log(f"view {self.strategy.view.name} fell back on {slide}: {reason}")
        result = TrainingResult(
            score=final.score,
            thresholds=final.thresholds,
            dice=final.dice,
            best_epoch=best_epoch,
            epochs=epochs,
            steps=step,
            seconds=round(time.perf_counter() - self._started, 2),
            cpu_seconds=round(time.process_time() - self._cpu_started, 2),
            steps_per_second=round(rate, 3),
            n_parameters=sum(one.numel() for one in detector.network.parameters()),
            norm=self.strategy.norm.statement(detector.network),
            precision=self.precision,
            device=str(self.fabric.device),
            patches=self._counts(),
            fallbacks=dict(self.strategy.view.fallbacks),
        )
        self._log(f"best epoch {best_epoch}: source validation Dice {final.score:.4f} at {final.thresholds}")
        write_json(self.folder / "result.json", {**asdict(result), "job": job.hash, "strategy": job.strategy.name})
        return result

    def _final_statistics(self, weights: str) -> dict[str, Statistics]:
        """Per domain, with these weights, from unlabelled patches drawn as in training, without augmentation."""
        load_weights_into(self.detector.network, self.folder / weights)
        if self.by_domain is None:
            return {}
        count = max(1, STATISTICS_PATCHES // self.config.batch_size)
        found: dict[str, Statistics] = {}
        for batches in (self.labelled, self.unlabelled):
            if batches is None:
                continue
            for domain in batches.domains:
                if domain not in found:
                    drawn = [batches.draw_from(domain) for _ in range(count)]
                    found[domain] = estimate_statistics(self.detector.network, map(self._seen, drawn))
        return found

    def _seen(self, indices: np.ndarray) -> Tensor:
        return self.detector.see(self.detector.images(self.data.images(indices)), self.origins.slides(indices))

    def _counts(self) -> dict[str, int]:
        return {"labelled": len(self._train), "validation": len(self.val), "unlabelled": len(self._visible)}

    def _row(self, epoch: int, step: int, sums: dict[str, float], scored: Validation) -> dict[str, Any]:
        losses = {f"loss_{name}": round(value / self.config.steps_per_epoch, 6) for name, value in sums.items()}
        seconds = round(time.perf_counter() - self._started, 2)
        row = {"epoch": epoch, "step": step, "seconds": seconds, **losses, "val_dice": round(scored.score, 6)}
        self._log(", ".join(f"{key} {value}" for key, value in row.items()))
        return row

    def _write_rows(self, rows: list[dict[str, Any]]) -> None:
        columns = list(dict.fromkeys(key for row in rows for key in row))
        write_csv(self.folder / "training.csv", rows, columns)

    def _log(self, line: str) -> None:
        self._log_lines.append(line)
        (self.folder / "log.txt").write_text("\n".join(self._log_lines) + "\n", encoding="utf-8")
