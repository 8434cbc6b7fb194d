"""The loop: a fixed number of optimiser steps, validated each epoch on source patients, the best kept."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from stainda.errors import TrainingError
from stainda.files import output_errors, write_csv, write_json
from stainda.progress import SILENT, Progress
from stainda.randomness import seed_for
from stainda.run_directory.contents import JOB_LOG, RESULT, SETTINGS
from stainda.run_directory.result_tables import EFFECT, TRAINING
from stainda.strategies import Strategy, build
from stainda.strategies.align.base import ScheduledAlign, Step
from stainda.strategies.detector import CHECKPOINTS, STATISTICS, load_weights_into, save_weights
from stainda.strategies.norm.statistics import Statistics, estimate_statistics, put_statistics, save_statistics
from stainda.training.batches import LabelledBatches, PairBatches, Patches, UnlabelledBatches
from stainda.training.effect import ShareKeeper, gradient_ratio, measure, measured_steps
from stainda.training.job import Job
from stainda.training.machine import choose_device, set_rates, torch_for
from stainda.training.metering import Costs, Meter
from stainda.training.preparation import Preparation
from stainda.training.repeating import read_first
from stainda.training.result import TrainingResult
from stainda.training.resume import EVERY_SECONDS, load_state, remove_state, save_state
from stainda.training.schedule import averaging_share, rate_factor
from stainda.training.tasks import task_of
from stainda.training.validation import Validation, validate

if TYPE_CHECKING:
    from stainda.patches import PatchStore

"""What the alignment did at a few steps, see :mod:`stainda.training.effect`; not there where nothing is aligned."""

STATISTICS_PATCHES = 96
"""Patches from which the batch statistics of a domain are re-estimated after training."""


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
    ``result.json``: a folder with it is complete. On the CPU the same job gives the same bytes, also where it was cut
    off and started again: it goes on from the last epoch it kept (``training/resume.py``). One that repeats another
    (``job.repeats``, whose folder lies beside) has the weights of its last step in both files (``repeating.py``).

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
    from stainda.patches.few_shot import FewShot

    strategy = build(job.strategy)
    few = None if strategy.labels.few is None else FewShot(*strategy.labels.few, seed=job.seed)
    opened = PatchStore.open(Path(store)) if isinstance(store, str | Path) else store
    roles = Roles(job.sources, job.targets, job.domain_keys, job.protocol.visible)
    data = TrainingData(
        opened, roles, labels=strategy.labels.rule, visible=job.protocol.visible, few_shot=few, without=job.without,
        refit=bool(job.repeats),
    )  # fmt: skip
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
    RESULT.inside(folder).unlink(missing_ok=True)
    write_json(SETTINGS.inside(folder), job.settings())
    with torch_for(job.training), Meter(choose_device(job.training)) as meter:
        return _Training(job, build(job.strategy), data, folder, progress, on_epoch, meter).run()


class _Training(Preparation):
    """One run of the loop; see :func:`train`."""

    def __init__(
        self,
        job: Job,
        strategy: Strategy,
        data: Patches,
        folder: Path,
        progress: Progress,
        on_epoch: Callable[[int, float], None] | None,
        meter: Meter,
    ) -> None:
        self._started, self._cpu_started = time.perf_counter(), time.process_time()
        self._meter = meter
        self._costs_before: Costs | None = None
        self.folder, self.progress, self.on_epoch = folder, progress, on_epoch
        self.first = read_first(folder.parent / job.repeats) if job.repeats else None
        self.epochs = job.training.epochs if self.first is None else len(self.first.scores)
        self._log_lines: list[str] = []
        self.rows: list[dict[str, Any]] = []
        self.effect: list[dict[str, Any]] = []
        self.kept_share = ShareKeeper(strategy.align.share if isinstance(strategy.align, ScheduledAlign) else None)
        total = job.training.epochs * job.training.steps_per_epoch
        self._measured = measured_steps(total) if strategy.align.adds_loss else frozenset()
        self.scores: list[float] = []
        self.best, self.best_epoch, self.steps_seconds, self._seconds_before = -1.0, 0, 0.0, (0.0, 0.0)
        super().__init__(job, strategy, data)

    # -- steps --------------------------------------------------------------------------------------------------

    def run(self) -> TrainingResult:
        """Train, then score and write what is left behind; torch's own generators are as before afterwards."""
        with torch.random.fork_rng(devices=[self.fabric.device] if self.device == "cuda" else []):
            torch.manual_seed(seed_for(self.job.seed, "steps"))  # dropout, and parts that draw from it
            self._take_steps()
        return self._finish()

    def _take_steps(self) -> None:
        config = self.config
        total = config.epochs * config.steps_per_epoch
        done = self._take_up()
        step, kept_at = done * config.steps_per_epoch, time.perf_counter()
        with self.progress.task(f"{self.strategy.name} seed {self.job.seed}", total) as bar:
            bar.advance(float(step), earlier=True)
            for epoch in range(done + 1, self.epochs + 1):
                if self._waited_long(epoch):
                    self._log(f"stopped after epoch {epoch - 1}: no better score for {config.patience} epochs")
                    break
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
                self.steps_seconds += time.perf_counter() - begun
                self._end_epoch(epoch, step, sums)
                if time.perf_counter() - kept_at >= EVERY_SECONDS and epoch < self.epochs:
                    self._keep(epoch)
                    kept_at = time.perf_counter()
        self.steps = step

    def _waited_long(self, epoch: int) -> bool:
        patience = self.config.patience
        return self.first is None and patience is not None and epoch - 1 - self.best_epoch >= patience

    def _end_epoch(self, epoch: int, step: int, sums: dict[str, float]) -> None:
        align = self.strategy.align
        with self._standing_in() as statistics:
            scored = self._validate_epoch(epoch, statistics)
            self.rows.append(self._row(epoch, step, sums, scored))
            self._write_rows()
            self.scores.append(scored.score)
            align.after_epoch(self.modules, self.detector.network, scored.score)
            if self.first is None and scored.score > self.best:
                self.best, self.best_epoch = scored.score, epoch
                save_weights(self.detector.network, self.folder / CHECKPOINTS["best"])
            if epoch == self.epochs or self.config.patience is not None:
                save_weights(self.detector.network, self.folder / CHECKPOINTS["last"])
        if self.on_epoch is not None:
            self.on_epoch(epoch, scored.score)

    @contextmanager
    def _standing_in(self) -> Iterator[dict[str, Statistics] | None]:
        """Inside the block the network has the weights that are judged and kept where those are not its own: a
        teacher's, as its part says, or the average of ``training.averaging``.

        Batch statistics are then estimated anew, from the same training patches each time: given per source domain
        where the strategy keeps them so, else put into the network.
        """
        network = self.detector.network
        weights = self.strategy.align.epoch_weights(self.modules)
        if self.average is not None:
            weights = self.average.weights()
        if weights is None:
            yield None
            return
        before = {key: value.detach().clone() for key, value in network.state_dict().items()}
        network.load_state_dict({**before, **weights})
        found: dict[str, Statistics] | None = None
        if self._bn and self.by_domain is not None:
            some = {domain: self._settling[domain] for domain in self.job.sources if domain in self._settling}
            found = {domain: estimate_statistics(network, [self.passes.plain(one)]) for domain, one in some.items()}
        elif self._bn:
            put_statistics(network, estimate_statistics(network, map(self.passes.plain, self._settling.values())))
        try:
            yield found
        finally:
            network.load_state_dict(before)

    def _step(self, step: int, total: int) -> dict[str, float]:
        """One optimiser step; the loss terms, for the record."""
        align, passes = self.strategy.align, self.passes
        source = passes.labelled(self.labelled.draw())
        target = None
        if align.needs_targets:
            assert self.unlabelled is not None
            target = passes.target(self.unlabelled.draw())
        compared = None
        if align.compares and self.compared is not None:
            compared = passes.source_unlabelled(self.compared.draw())
        pairs = None if self.pairs is None else passes.pairs(self.pairs.read(self.pairs.draw()))
        given = Step(
            source, target, step / max(total - 1, 1), self.modules, self.detector.network, step,
            len(self.job.sources), self.loss, self.generators["align"], self.forward, passes.as_domain, pairs,
            self.fabric.autocast, compared, self.kept_share.scale,
        )  # fmt: skip
        terms = align.losses(given)
        if "task" not in terms:
            assert source.logits is not None and source.labels is not None
            terms = {"task": self.loss(source.logits, source.labels, source.weights), **terms}
        loss = torch.stack([*terms.values()]).sum()
        self._measure(given, loss)
        values = {name: float(value.detach()) for name, value in terms.items()}
        if wrong := [name for name, value in values.items() if not math.isfinite(value)]:
            reason = f"step {step + 1}: the loss term {wrong[0]!r} is not a number ({values[wrong[0]]})"
            self._log(reason)
            raise TrainingError(
                f"{self.strategy.name}, seed {self.job.seed}, {reason}",
                file=JOB_LOG.inside(self.folder),
                remedy="Lower training.learning_rate or the weight of the strategy's align part",
            )
        self.optimiser.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        self.optimiser.step()
        align.after_step(given)
        if self.average is not None:
            self.average.follow(self.detector.network, averaging_share(self.config.averaging or 0.0, step))
        return values

    def _measure(self, step: Step, total: torch.Tensor) -> None:
        """Compare the gradient of all terms with the task's, at the steps at which that is recorded or needed."""
        measured, due = step.index in self._measured, self.kept_share.is_due(step.index)
        if not (measured or due):
            return
        align, source = self.strategy.align, step.source
        assert source.logits is not None and source.labels is not None
        plain = self.loss(source.logits, source.labels, source.weights)
        ratio = gradient_ratio(plain, total, step.network.parameters())
        if measured:
            self.effect += measure(align, step, ratio, self.generators["effect"])
            EFFECT.write(self.folder, self.effect)
        if due and isinstance(align, ScheduledAlign):
            self.kept_share.take(ratio, align.growth(step))

    def _set_rate(self, share: float) -> None:
        set_rates(self.optimiser, self.config.learning_rate * rate_factor(self.config.schedule, share))

    # -- scores and files ---------------------------------------------------------------------------------------

    def _validate_epoch(self, epoch: int, statistics: dict[str, Statistics] | None = None) -> Validation:
        if self.first is not None:
            return Validation(self.first.scores[epoch - 1], {}, self.first.thresholds)
        if self.by_domain is not None:
            self.detector.statistics = statistics or self.by_domain.read(self.job.sources)
        return validate(
            self.detector, self.data, self.origins, self._val_each_epoch,
            own_statistics=self.by_domain is not None, threshold=self.job.threshold,
        )  # fmt: skip

    def _finish(self) -> TrainingResult:
        detector, job = self.detector, self.job
        self._take_final_weights()
        last = self._final_statistics(CHECKPOINTS["last"])
        save_statistics(self.folder / STATISTICS["last"], last)
        detector.statistics = last
        if self.first is None:
            ended = validate(detector, self.data, self.origins, self.val, threshold=job.threshold)
            detector.statistics = self._final_statistics(CHECKPOINTS["best"])
            final = validate(detector, self.data, self.origins, self.val, threshold=job.threshold)
        else:
            save_weights(detector.network, self.folder / CHECKPOINTS["best"])
            self.best_epoch = len(self.rows)
            ended = final = Validation(math.nan, {}, self.first.thresholds)
        detector.save(self.folder)
        for slide, reason in self.strategy.view.fallbacks.items():
            self._log(f"view {self.strategy.view.name} fell back on {slide}: {reason}")
        result = TrainingResult(
            score=final.score,
            thresholds=final.thresholds,
            dice=final.dice,
            best_epoch=self.best_epoch,
            epochs=len(self.rows),
            steps=self.steps,
            seconds=round(self._seconds()[0], 2),
            cpu_seconds=round(self._seconds()[1], 2),
            steps_per_second=round((self.steps - 1) / max(self.steps_seconds, 1e-9), 3),
            n_parameters=sum(one.numel() for one in detector.network.parameters()),
            norm=self.strategy.norm.statement(detector.network),
            precision=self.precision,
            device=str(self.fabric.device),
            patches=self._counts(),
            fallbacks=dict(self.strategy.view.fallbacks),
            last_thresholds=ended.thresholds,
            costs=self._costs(),
            thresholds_of=job.repeats,
        )
        self._log(self._verdict(final))
        values = {**asdict(result), "job": job.hash, "strategy": job.strategy.name}
        write_json(RESULT.inside(self.folder), values if self.first is None else {**values, "score": None})
        remove_state(self.folder)
        return result

    def _verdict(self, final: Validation) -> str:
        if self.first is not None:
            return f"weights of the last step; thresholds of job {self.first.name}: {final.thresholds}"
        measure = task_of(self.job.task).score
        return f"best epoch {self.best_epoch}: source validation {measure} {final.score:.4f} at {final.thresholds}"

    def _take_final_weights(self) -> None:
        """Where a part's own weights are the result, they become both checkpoints, with batch statistics to match."""
        weights = self.strategy.align.final_weights(self.modules)
        if weights is None:
            return
        network = self.detector.network
        network.load_state_dict({**network.state_dict(), **weights})
        if self._bn and self.by_domain is None:
            count = max(1, STATISTICS_PATCHES // self.config.batch_size)
            drawn = [self.labelled.draw() for _ in range(count)]
            put_statistics(network, estimate_statistics(network, map(self.passes.plain, drawn)))
        for name in CHECKPOINTS.values():
            save_weights(network, self.folder / name)
        self._log(f"align {self.strategy.align.name}: its own weights are the result, as best and as last checkpoint")

    # -- going on after an interruption -------------------------------------------------------------------------

    def _state(self) -> dict[str, Any]:
        average = {} if self.average is None else {"average": self.average}
        return {
            "folder": self.folder,
            "key": f"{self.job.hash}/{len(self._train)}/{len(self._visible)}",
            "networks": {"network": self.detector.network, "modules": self.modules, **average},
            "optimiser": self.optimiser,
            "generators": self.generators,
            "statistics": self.by_domain,
        }

    def _keep(self, epoch: int) -> None:
        rest = {
            "epoch": epoch, "rows": self.rows, "effect": self.effect, "scores": self.scores, "best": self.best,
            "best_epoch": self.best_epoch,
            "steps_seconds": self.steps_seconds, "seconds": self._seconds(), "log": self._log_lines,
            "costs": asdict(self._costs()), "share": [self.kept_share.scale, self.kept_share.measured],
        }  # fmt: skip
        save_state(**self._state(), rest=rest)

    def _take_up(self) -> int:
        """Epochs already trained by a process that was cut off; everything is then as it left it."""
        rest = load_state(**self._state())
        if rest is None:
            config = self.config
            self._log(
                f"{self.strategy.name}, seed {self.job.seed}: {config.epochs} epochs of {config.steps_per_epoch} steps"
            )
            model = self.job.model
            start = f"{model.weights}, SHA-256 {model.weights_sha256}" if model.weights else "random weights"
            lacking = f" ({model.weights_missing} was not here)" if model.weights_missing else ""
            self._log(f"starts from {start}{lacking}")
            self._log(f"patches: {self._counts()}; {self.strategy.norm.statement(self.detector.network)}")
            if config.averaging is not None and self.average is None:
                self._log(f"training.averaging is not used: align {self.strategy.align.name} averages by itself")
            return 0
        done = int(rest["epoch"])
        self.rows, self.scores, self._log_lines = rest["rows"], rest["scores"], rest["log"]
        self.effect = rest["effect"]
        self.kept_share.scale, self.kept_share.measured = rest["share"]
        self.best, self.best_epoch, self.steps_seconds = rest["best"], rest["best_epoch"], rest["steps_seconds"]
        self._seconds_before, self._costs_before = tuple(rest["seconds"]), Costs.read(rest.get("costs"))
        for _ in range(done * self.config.steps_per_epoch):  # decks are where they were once they have been dealt
            for batches in self._dealt_each_step():
                batches.draw()
        for epoch, score in enumerate(self.scores, 1):
            if self.on_epoch is not None:
                self.on_epoch(epoch, score)
        self._log(f"goes on after epoch {done}, where it was interrupted")
        return done

    def _dealt_each_step(self) -> list[LabelledBatches | UnlabelledBatches | PairBatches]:
        align = self.strategy.align
        dealt = (
            self.labelled,
            self.unlabelled if align.needs_targets else None,
            self.compared if align.compares else None,
            self.pairs,
        )
        return [batches for batches in dealt if batches is not None]

    def _seconds(self) -> tuple[float, float]:
        """Wall clock and processor, those of interrupted processes included."""
        before = self._seconds_before
        return before[0] + time.perf_counter() - self._started, before[1] + time.process_time() - self._cpu_started

    def _costs(self) -> Costs:
        """Memory and energy, those of interrupted processes included."""
        costs, before = self._meter.costs(), self._costs_before
        return costs if before is None else costs.after(before)

    def _final_statistics(self, weights: str) -> dict[str, Statistics]:
        """Per domain, with these weights, from unlabelled patches drawn as in training, without augmentation."""
        load_weights_into(self.detector.network, self.folder / weights)
        if self.by_domain is None:
            return {}
        count = max(1, STATISTICS_PATCHES // self.config.batch_size)
        found: dict[str, Statistics] = {}
        for batches in (self.compared, self.unlabelled, self.labelled):  # labelled: what nothing else shows
            if batches is None:
                continue
            for domain in batches.domains:
                if domain not in found:
                    drawn = [batches.draw_from(domain) for _ in range(count)]
                    found[domain] = estimate_statistics(self.detector.network, map(self.passes.plain, drawn))
        return found

    def _counts(self) -> dict[str, int]:
        counts = {"labelled": len(self._train), "validation": len(self.val), "unlabelled": len(self._visible)}
        return {**counts, "neither": self._neither} if self._neither else counts

    def _row(self, epoch: int, step: int, sums: dict[str, float], scored: Validation) -> dict[str, Any]:
        losses = {f"loss_{name}": round(value / self.config.steps_per_epoch, 6) for name, value in sums.items()}
        seconds = round(self._seconds()[0], 2)
        row: dict[str, Any] = {"epoch": epoch, "step": step, "seconds": seconds, **losses}
        if self.first is None:
            row["val_dice"] = round(scored.score, 6)
        self._log(", ".join(f"{key} {value}" for key, value in row.items()))
        if self.first is not None:
            return row
        patients = {patient: round(dice, 6) for patient, dice in sorted(scored.patients.items())}
        return {**row, "val_patients": json.dumps(patients)}

    def _write_rows(self) -> None:
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        write_csv(TRAINING.inside(self.folder), self.rows, columns)

    def _log(self, line: str) -> None:
        self._log_lines.append(line)
        JOB_LOG.inside(self.folder).write_text("\n".join(self._log_lines) + "\n", encoding="utf-8")
