"""The loop: a fixed number of optimiser steps, validated each epoch on source patients, the best kept."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from stainda.arrays import Array
from stainda.errors import TrainingError
from stainda.files import write_json
from stainda.models import merge_low_rank, trained_start
from stainda.progress import Progress
from stainda.randomness import seed_for
from stainda.run_directory.contents import JOB_LOG, RESULT
from stainda.strategies.align.base import ScheduledAlign, Step
from stainda.strategies.detector import CHECKPOINTS, STATISTICS, save_weights
from stainda.strategies.norm.statistics import Statistics, save_statistics
from stainda.training.cached_passes import CachedPasses
from stainda.training.compiled import compiled_steps
from stainda.training.effect import ShareKeeper, gradient_ratio, measure, measured_steps
from stainda.training.log import TrainingLog
from stainda.training.machine import set_rates
from stainda.training.metering import Clock, Costs
from stainda.training.preparation import Preparation
from stainda.training.repeating import read_first
from stainda.training.result import TrainingResult
from stainda.training.resume import EVERY_SECONDS, TrainingState, remove_state
from stainda.training.schedule import averaging_share, rate_factor
from stainda.training.tasks import task_of
from stainda.training.validation import Validation, validate
from stainda.training.weights import final_statistics, judged_weights, take_final_weights


class TrainingLoop:
    """One run of the loop; see :func:`stainda.training.running.train`.

    Args:
        kept_in: the folder of the training, where it is not that of the log.
    """

    def __init__(
        self,
        prepared: Preparation,
        log: TrainingLog,
        clock: Clock,
        progress: Progress,
        on_epoch: Callable[[int, float], None] | None,
        *,
        kept_in: Path | None = None,
    ) -> None:
        self._prepared, self._log, self._clock, self._ranks = prepared, log, clock, prepared.ranks
        self._progress, self._on_epoch = progress, on_epoch
        job, config, align = prepared.job, prepared.config, prepared.strategy.align
        folder = log.folder if kept_in is None else kept_in
        self._first = first = read_first(folder.parent / job.repeats) if job.repeats else None
        self._folder, self._config, self._align = log.folder, config, align
        self._network, self._task = prepared.detector.network, task_of(job.task)
        self._epochs = config.epochs if first is None else len(first.scores)
        self._kept_share = ShareKeeper(align.share if isinstance(align, ScheduledAlign) else None)
        total = config.epochs * config.steps_per_epoch
        self._measured = measured_steps(total, config.epochs) if align.adds_loss else frozenset()
        self._scores: list[float] = []
        self._best, self._best_epoch, self._steps, self._steps_seconds = -1.0, 0, 0, 0.0
        key = f"{job.hash}/{len(prepared.chosen.train)}/{len(prepared.chosen.unlabelled)}"
        average = {} if prepared.average is None else {"average": prepared.average}
        networks = {"network": self._network, "modules": prepared.modules, **average}
        self._state = TrainingState(
            folder, key, networks, prepared.optimiser, prepared.generators, prepared.by_domain
        )  # fmt: skip

    # -- steps --------------------------------------------------------------------------------------------------

    def take_steps(self) -> None:
        """Train; torch's own generators are as before afterwards."""
        prepared = self._prepared
        with torch.random.fork_rng(devices=[prepared.fabric.device] if prepared.device == "cuda" else []):
            torch.manual_seed(seed_for(prepared.job.seed, "steps"))  # dropout, and parts that draw from it
            with compiled_steps(self._config.compile):
                self._take_steps()

    def _take_steps(self) -> None:
        config = self._config
        total = config.epochs * config.steps_per_epoch
        done = self._take_up()
        step, kept_at = done * config.steps_per_epoch, time.perf_counter()
        with self._progress.task(f"{self._prepared.strategy.name} seed {self._prepared.job.seed}", total) as bar:
            bar.advance(float(step), earlier=True)
            for epoch in range(done + 1, self._epochs + 1):
                if self._waited_long(epoch):
                    self._log.line(f"stopped after epoch {epoch - 1}: no better score for {config.patience} epochs")
                    break
                begun = time.perf_counter()
                sums: dict[str, float] = {}
                self._network.train()
                self._prepared.modules.train()
                for _ in range(config.steps_per_epoch):
                    self._set_rate(step / total)
                    for name, value in self._step(step, total).items():
                        sums[name] = sums.get(name, 0.0) + value
                    step += 1
                    if step == 1:  # pays for imports
                        begun = time.perf_counter()
                    bar.advance(1.0)
                self._steps_seconds += time.perf_counter() - begun
                self._end_epoch(epoch, step, sums)
                if self._ranks.leads and time.perf_counter() - kept_at >= EVERY_SECONDS and epoch < self._epochs:
                    self._keep(epoch)
                    kept_at = time.perf_counter()
        self._steps = step

    def _waited_long(self, epoch: int) -> bool:
        patience = self._config.patience
        return self._first is None and patience is not None and epoch - 1 - self._best_epoch >= patience

    def _end_epoch(self, epoch: int, step: int, sums: dict[str, float]) -> None:
        with judged_weights(self._prepared) as statistics:
            scored = self._validate_epoch(epoch, statistics)
            self._clock.count_others(self._ranks.sum)
            self._log.add_epoch(self._row(epoch, step, sums, scored))
            self._scores.append(scored.score)
            self._align.after_epoch(self._prepared.modules, self._network, scored.score)
            if self._first is None and scored.score > self._best:
                self._best, self._best_epoch = scored.score, epoch
                save_weights(self._network, self._folder / CHECKPOINTS["best"])
            if epoch == self._epochs or self._config.patience is not None:
                save_weights(self._network, self._folder / CHECKPOINTS["last"])
        if self._on_epoch is not None:
            self._on_epoch(epoch, scored.score)

    def _step(self, index: int, total: int) -> dict[str, float]:
        """One optimiser step; the loss terms, for the record."""
        prepared, align = self._prepared, self._align
        if prepared.compiled is not None:
            prepared.compiled.paused = self._is_measured(index)
        step = self._draw(index, total)
        added = align.losses(step)
        task = {} if "task" in added else {"task": self._task.loss(step.source, prepared.loss)}
        terms = task | added | self._task.more_terms(step.source)
        loss = torch.stack([*terms.values()]).sum()
        self._measure(step, added, loss)
        values = {name: float(value.detach()) for name, value in terms.items()}
        self._refuse_what_is_no_number(index, values)
        prepared.optimiser.zero_grad(set_to_none=True)
        prepared.fabric.backward(loss)
        self._ranks.average_gradients([p for group in prepared.optimiser.param_groups for p in group["params"]])
        prepared.optimiser.step()
        align.after_step(step)
        if prepared.average is not None:
            prepared.average.follow(self._network, averaging_share(self._config.averaging or 0.0, index))
        return values

    def _draw(self, index: int, total: int) -> Step:
        """The batches of one step after the network, with all that the align part may use."""
        prepared, align, passes, batches = self._prepared, self._align, self._prepared.passes, self._prepared.batches
        source = passes.labelled(batches.labelled.draw())
        target = None
        if align.needs_targets:
            assert batches.unlabelled is not None
            target = passes.target(batches.unlabelled.draw())
        compared = None
        if align.compares and batches.compared is not None:
            compared = passes.source_unlabelled(batches.compared.draw())
        pairs = None if batches.pairs is None else passes.pairs(batches.pairs.read(batches.pairs.draw()))
        return Step(
            source,
            target,
            progress=index / max(total - 1, 1),
            modules=prepared.modules,
            network=self._network,
            index=index,
            n_sources=len(prepared.job.sources),
            loss=prepared.loss,
            generator=prepared.generators["align"],
            forward=prepared.forward,
            as_domain=passes.as_domain,
            pairs=pairs,
            autocast=prepared.fabric.autocast,
            source_unlabelled=compared,
            scale=self._kept_share.scale,
            middle=prepared.job.task.centre,
        )

    def _task_loss(self, step: Step) -> torch.Tensor:
        """All terms that the task alone has."""
        own = self._task.loss(step.source, self._prepared.loss)
        return torch.stack([own, *self._task.more_terms(step.source).values()]).sum()

    def _refuse_what_is_no_number(self, index: int, values: dict[str, float]) -> None:
        wrong = [name for name, value in values.items() if not math.isfinite(value)]
        if not wrong:
            return
        reason = f"step {index + 1}: the loss term {wrong[0]!r} is not a number ({values[wrong[0]]})"
        self._log.line(reason)
        raise TrainingError(
            f"{self._prepared.strategy.name}, seed {self._prepared.job.seed}, {reason}",
            file=JOB_LOG.inside(self._folder),
            remedy="Lower training.learning_rate or the weight of the strategy's align part",
        )

    def _measure(self, step: Step, added: dict[str, torch.Tensor], total: torch.Tensor) -> None:
        """Compare the gradient of all terms with the task's, at the steps at which that is recorded or needed.

        Args:
            added: the terms of the align part. total: the sum of all terms.
        """
        if not self._is_measured(step.index):
            return
        measured, due = step.index in self._measured, self._kept_share.is_due(step.index)
        task, align, parameters = self._task_loss(step), self._align, list(step.network.parameters())
        ratio = gradient_ratio(task, total, parameters, self._ranks.mean)
        if measured:
            self._log.add_effect(measure(align, step, ratio, self._prepared.generators["effect"]))
        if due and isinstance(align, ScheduledAlign):
            if align.unscaled:
                scaled = [value for name, value in added.items() if name not in align.unscaled]
                ratio = gradient_ratio(task, torch.stack([task, *scaled]).sum(), parameters, self._ranks.mean)
            self._kept_share.take(ratio, align.growth(step))

    def _is_measured(self, index: int) -> bool:
        return index in self._measured or self._kept_share.is_due(index)

    def _set_rate(self, share: float) -> None:
        set_rates(self._prepared.optimiser, self._config.learning_rate * rate_factor(self._config.schedule, share))

    # -- scores and files ---------------------------------------------------------------------------------------

    def _validate_epoch(self, epoch: int, statistics: dict[str, Statistics] | None = None) -> Validation:
        prepared = self._prepared
        if self._first is not None:
            return Validation(self._first.scores[epoch - 1], {}, self._first.thresholds)
        if not self._ranks.leads:
            return Validation(self._ranks.of_first(math.nan), {}, {})
        if prepared.by_domain is not None:
            prepared.detector.statistics = statistics or prepared.by_domain.read(prepared.job.sources)
        scored = self._validate(prepared.chosen.validation_each_epoch, own_statistics=prepared.by_domain is not None)
        self._ranks.of_first(scored.score)
        return scored

    def _validate(self, indices: Array, own_statistics: bool = True) -> Validation:
        prepared = self._prepared
        return validate(
            prepared.detector, prepared.data, prepared.origins, indices,
            own_statistics=own_statistics, threshold=prepared.job.threshold,
            probabilities=prepared.passes.probabilities if isinstance(prepared.passes, CachedPasses) else None,
        )  # fmt: skip

    def finish(self) -> TrainingResult:
        """Score, and write what is left behind."""
        prepared, detector, validation = self._prepared, self._prepared.detector, self._prepared.chosen.validation
        name = prepared.strategy.align.name
        if take_final_weights(prepared, self._folder):
            self._log.line(f"align {name}: its own weights are the result, as best and as last checkpoint")
        for line in self._align.statements(prepared.modules):
            self._log.line(f"align {name}: {line}")
        merge_low_rank(detector.network)
        last = final_statistics(prepared, self._folder / CHECKPOINTS["last"])
        save_statistics(self._folder / STATISTICS["last"], last)
        detector.statistics = last
        if self._first is None:
            ended = self._validate(validation)
            detector.statistics = final_statistics(prepared, self._folder / CHECKPOINTS["best"])
            final = self._validate(validation)
        else:
            save_weights(detector.network, self._folder / CHECKPOINTS["best"])
            self._best_epoch = len(self._log.rows)
            ended = final = Validation(math.nan, {}, self._first.thresholds)
        detector.save(self._folder)
        for slide, reason in prepared.strategy.view.fallbacks.items():
            self._log.line(f"view {prepared.strategy.view.name} fell back on {slide}: {reason}")
        for slide, reason in final.fallbacks.items():
            self._log.line(f"validation slide {slide}: {reason}")
        result = self._result(final, ended)
        self._log.line(self._verdict(final))
        values = {**asdict(result), "job": prepared.job.hash, "strategy": prepared.job.strategy.name}
        write_json(RESULT.inside(self._folder), values if self._first is None else {**values, "score": None})
        remove_state(self._folder)
        return result

    def _result(self, final: Validation, ended: Validation) -> TrainingResult:
        """From the validations of the best checkpoint and of the last."""
        prepared, network = self._prepared, self._prepared.detector.network
        return TrainingResult(
            score=final.score,
            thresholds=final.thresholds,
            dice=final.dice,
            best_epoch=self._best_epoch,
            epochs=len(self._log.rows),
            steps=self._steps,
            seconds=round(self._clock.seconds()[0], 2),
            cpu_seconds=round(self._clock.seconds()[1], 2),
            steps_per_second=round((self._steps - 1) / max(self._steps_seconds, 1e-9), 3),
            n_parameters=prepared.parameters.total,
            n_trained=prepared.parameters.trained,
            norm=prepared.strategy.norm.statement(network),
            precision=prepared.precision,
            device=str(prepared.fabric.device),
            patches=prepared.chosen.counts(),
            fallbacks=dict(prepared.strategy.view.fallbacks),
            last_thresholds=ended.thresholds,
            costs=self._clock.costs(),
            thresholds_of=prepared.job.repeats,
        )

    def _verdict(self, final: Validation) -> str:
        if self._first is not None:
            return f"weights of the last step; thresholds of job {self._first.name}: {final.thresholds}"
        measure = task_of(self._prepared.job.task).score
        return f"best epoch {self._best_epoch}: source validation {measure} {final.score:.4f} at {final.thresholds}"

    def _row(self, epoch: int, step: int, sums: dict[str, float], scored: Validation) -> dict[str, Any]:
        losses = {f"loss_{name}": round(value / self._config.steps_per_epoch, 6) for name, value in sums.items()}
        seconds = round(self._clock.seconds()[0], 2)
        row: dict[str, Any] = {"epoch": epoch, "step": step, "seconds": seconds, **losses}
        if self._first is None:
            row["val_dice"] = round(scored.score, 6)
        self._log.line(", ".join(f"{key} {value}" for key, value in row.items()))
        if self._first is not None:
            return row
        patients = {patient: round(dice, 6) for patient, dice in sorted(scored.patients.items())}
        return {**row, "val_patients": json.dumps(patients)}

    # -- going on after an interruption -------------------------------------------------------------------------

    def _keep(self, epoch: int) -> None:
        self._state.save({
            "epoch": epoch, "scores": self._scores, "best": self._best, "best_epoch": self._best_epoch,
            "steps_seconds": self._steps_seconds, "seconds": self._clock.seconds(),
            "costs": asdict(self._clock.costs()), "share": [self._kept_share.scale, self._kept_share.measured],
            **self._log.state(),
        })  # fmt: skip

    def _take_up(self) -> int:
        """Epochs already trained by a process that was cut off; everything is then as it left it."""
        rest = self._state.load()
        if rest is None:
            self._say_what_is_trained()
            return 0
        done = int(rest["epoch"])
        self._log.take_up(rest)
        self._scores, self._best, self._best_epoch = rest["scores"], rest["best"], rest["best_epoch"]
        self._kept_share.scale, self._kept_share.measured = rest["share"]
        self._steps_seconds = rest["steps_seconds"]
        wall, processor = rest["seconds"]
        self._clock.go_on_from((wall, processor), Costs.read(rest.get("costs")))
        dealt = self._prepared.batches.drawn_each_step(self._align.needs_targets, self._align.compares)
        for _ in range(done * self._config.steps_per_epoch):  # decks are where they were once they have been dealt
            for batches in dealt:
                batches.draw()
        for epoch, score in enumerate(self._scores, 1):
            if self._on_epoch is not None:
                self._on_epoch(epoch, score)
        self._log.line(f"goes on after epoch {done}, where it was interrupted")
        return done

    def _say_what_is_trained(self) -> None:
        prepared, config, model = self._prepared, self._config, self._prepared.job.model
        self._log.line(
            f"{prepared.strategy.name}, seed {prepared.job.seed}: "
            f"{config.epochs} epochs of {config.steps_per_epoch} steps"
        )
        start = f"{model.weights}, SHA-256 {model.weights_sha256}" if model.weights else "random weights"
        start = f"{trained_start(model)}: {start}" if model.weights_part else start
        start += f", then {config.init} (pretraining/{prepared.job.pretrained})" if config.init else ""
        lacking = f" ({model.weights_missing} was not here)" if model.weights_missing else ""
        by = "those of the encoder" if prepared.job.encoder_standard() else "those of the sources' tissue"
        self._log.line(f"starts from {start}{lacking}; standardised by mean and standard deviation, {by}")
        if not config.train.everything:
            self._log.line(f"training.train {config.train}: {prepared.parameters}")
        self._log.line(f"patches: {prepared.chosen.counts()}; {prepared.strategy.norm.statement(self._network)}")
        if config.averaging is not None and prepared.average is None:
            self._log.line(f"training.averaging is not used: align {self._align.name} averages by itself")
