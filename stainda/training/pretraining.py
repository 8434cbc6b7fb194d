"""Training of an encoder on unlabelled patches, before any task: SimCLR, BYOL or an autoencoder.

A pair is two augmentations of a patch, or the same place on two registered serial sections. Every batch is of one
domain, or of one pair of domains: in a mixed one the stain alone would tell most of the negatives.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from stainda.config import InitConfig, StrategyConfig, TrainingConfig
from stainda.errors import TrainingError
from stainda.files import load_json, output_errors, write_json
from stainda.models import Network
from stainda.progress import SILENT, Progress
from stainda.randomness import seed_for
from stainda.run_directory.contents import ENCODER, PRETRAINING_LOCK, PRETRAINING_RESULT, PRETRAINING_SETTINGS
from stainda.run_directory.training_tables import PRETRAINING_CURVE
from stainda.strategies import build
from stainda.strategies.detector import Detector, Standard
from stainda.training.job import Job
from stainda.training.machine import choose_device, make_optimiser, torch_for
from stainda.training.metering import Clock, Costs, Meter
from stainda.training.objectives import OBJECTIVES
from stainda.training.pair_images import PairImages
from stainda.training.resume import EVERY_SECONDS, TrainingState
from stainda.training.schedule import rate_factor

if TYPE_CHECKING:
    from stainda.patches import PatchStore
    from stainda.patches.unlabelled_data import UnlabelledData
    from stainda.training.pretraining_measures import Measures

NAME = "pretraining"


@dataclass(frozen=True)
class PretrainingResult:
    """What a training without labels came to; measures as in :mod:`stainda.training.pretraining_measures`.

    Attributes:
        patches: it saw. pairs_used, pairs_left_out: of serial sections. tensors: handed on.
    """

    patches: int
    pairs_used: int
    pairs_left_out: int
    steps: int
    tensors: int
    loss_first: float
    loss_last: float
    before: dict[str, Any]
    after: dict[str, Any]
    seconds: float
    cpu_seconds: float
    costs: Costs = field(default_factory=Costs)


def encoder_file(root: Path, key: str) -> Path:
    """The encoder of a training without labels, in the run directory ``root``."""
    return ENCODER.at(root, key=key)


def pretraining_of(job: Job, data_key: str) -> Job:
    """The training without labels that a job starts from: what is of no matter to it is left out, so that strategies
    share it.

    Args:
        job: with ``training.init``. data_key: of the data it may see (``UnlabelledData.key``).
    """
    view, norm, given = job.strategy.view, job.strategy.norm, job.training
    kept = {"view": view, **({"norm": norm} if norm.name == "group" else {})}
    training = TrainingConfig(
        init=given.init, start=given.start, standardise=given.standardise, device=given.device,
        precision=given.precision, threads=given.threads,
    )  # fmt: skip
    return Job(
        study=job.study, strategy=StrategyConfig(name=NAME, augment=(), **kept), model=job.model, task=job.task,
        patches=job.patches, training=training, protocol=job.protocol, sources=job.sources, targets=job.targets,
        seed=job.seed, data_key=data_key, domain_keys=job.domain_keys, without=job.without,
    )  # fmt: skip


def read_pretraining(folder: Path) -> PretrainingResult | None:
    """The result of a finished training without labels, ``None`` where it is not complete."""
    try:
        values = load_json(PRETRAINING_RESULT.inside(folder))
        return PretrainingResult(**{**values, "costs": Costs.read(values.get("costs"))})
    except (OSError, ValueError, TypeError):
        return None


def pretrain(job: Job, store: PatchStore | Path, folder: Path, progress: Progress = SILENT) -> PretrainingResult:
    """Train, or take what is there; write ``encoder.safetensors``, ``loss.csv`` and, last, ``result.json``.

    Another process that trains the same is waited for. One that was cut off goes on from its last kept epoch.

    Raises:
        TrainingError: there is nothing to learn from, or a loss is not a number.
        LeakError: a patch would be seen that the protocol hides.
    """
    from filelock import FileLock

    from stainda.cohort import Roles
    from stainda.patches import PatchStore
    from stainda.patches.unlabelled_data import UnlabelledData

    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with FileLock(str(PRETRAINING_LOCK.inside(folder))):
        if (ready := read_pretraining(folder)) is not None and ENCODER.inside(folder).is_file():
            return ready
        opened = PatchStore.open(store) if isinstance(store, Path) else store
        roles = Roles(job.sources, job.targets, job.domain_keys, job.protocol.visible)
        return pretrain_on(job, UnlabelledData(opened, roles, job.without), folder, progress)


def pretrain_on(job: Job, data: UnlabelledData, folder: Path, progress: Progress = SILENT) -> PretrainingResult:
    """As :func:`pretrain`, on data already opened."""
    PRETRAINING_RESULT.inside(folder).unlink(missing_ok=True)
    write_json(PRETRAINING_SETTINGS.inside(folder), job.settings())
    with torch_for(job.training), Meter(choose_device(job.training)) as meter:
        clock = Clock(meter)
        with torch.random.fork_rng(devices=[]):
            return _Pretraining(job, data, folder, clock).run(progress)


class _Pretraining:
    """One run; see :func:`pretrain`."""

    def __init__(self, job: Job, data: UnlabelledData, folder: Path, clock: Clock) -> None:
        assert job.training.init is not None
        self._job, self._data, self._folder, self._clock = job, data, folder, clock
        self._config: InitConfig = job.training.init
        self._device = torch.device(choose_device(job.training))
        self._detector = self._make_detector()
        self._network: Network = self._detector.network
        self._images = PairImages(self._config, data, self._detector, job.seed)
        torch.manual_seed(seed_for(job.seed, "pretraining heads"))
        self._network.eval()
        self._objective = OBJECTIVES[self._config.name](self._config, self._network, self._images.probe())
        learned = TrainingConfig(learning_rate=self._config.learning_rate, weight_decay=self._config.weight_decay)
        heads, target = self._objective.heads, self._objective.target
        parameters = [*self._network.parameters(), *heads.parameters()]
        self._optimiser = make_optimiser(learned, [{"params": parameters}])
        networks = {"network": self._network, "heads": heads, **({} if target is None else {"target": target})}
        self._state = TrainingState(folder, job.hash, networks, self._optimiser, {}, None)
        self._steps = self._images.steps

    def run(self, progress: Progress) -> PretrainingResult:
        from stainda.training.pretraining_measures import measure_encoder

        before = measure_encoder(self._detector, self._data, self._job)
        rows, done = self._take_up()
        last_kept = self._clock.seconds()[0]
        with progress.task(f"{self._config}", self._config.epochs) as bar:
            bar.advance(done, earlier=True)
            for epoch in range(done, self._config.epochs):
                rows.append(self._epoch(epoch))
                PRETRAINING_CURVE.write(self._folder, rows)
                if self._clock.seconds()[0] - last_kept > EVERY_SECONDS and epoch + 1 < self._config.epochs:
                    self._state.save({"epoch": epoch + 1, "rows": rows, "seconds": self._clock.seconds()})
                    last_kept = self._clock.seconds()[0]
                bar.advance()
        kept = self._save()
        return self._finish(rows, kept, before, measure_encoder(self._detector, self._data, self._job))

    def _finish(self, rows: list[dict[str, Any]], kept: int, before: Measures, after: Measures) -> PretrainingResult:
        from stainda.training.resume import remove_state

        wall, processor = self._clock.seconds()
        result = PretrainingResult(
            patches=len(self._data.rows), pairs_used=self._images.pairs_used,
            pairs_left_out=self._images.pairs_left_out, steps=self._config.epochs * self._steps, tensors=kept,
            loss_first=rows[0]["loss"], loss_last=rows[-1]["loss"], before=asdict(before), after=asdict(after),
            seconds=round(wall, 2), cpu_seconds=round(processor, 2), costs=self._clock.costs(),
        )  # fmt: skip
        write_json(PRETRAINING_RESULT.inside(self._folder), asdict(result))
        remove_state(self._folder)
        return result

    def _take_up(self) -> tuple[list[dict[str, Any]], int]:
        """Rows and number of epochs that a process which was cut off has left; each epoch draws from its own seed."""
        rest = self._state.load()
        if rest is None:
            return [], 0
        wall, processor = rest["seconds"]
        self._clock.go_on_from((wall, processor), Costs())
        return list(rest["rows"]), int(rest["epoch"])

    def _epoch(self, epoch: int) -> dict[str, Any]:
        losses: list[float] = []
        total = self._config.epochs * self._steps
        self._network.train()
        self._objective.heads.train()
        if self._objective.target is not None:
            self._objective.target.train()
        torch.manual_seed(seed_for(self._job.seed, "pretraining steps", epoch))
        for first, second, same in self._images.batches(epoch):
            step = epoch * self._steps + len(losses)
            for group in self._optimiser.param_groups:
                group["lr"] = self._config.learning_rate * rate_factor("cosine", step / max(1, total - 1))
            loss = self._objective.loss(first, second, same)
            if not math.isfinite(float(loss.detach())):
                raise TrainingError(
                    f"{self._config}: the loss of step {step + 1} is not a number", file=self._folder,
                    remedy="Lower training.init.learning_rate, or raise its temperature (simclr)",
                )  # fmt: skip
            self._optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self._optimiser.step()
            self._objective.follow(step / max(1, total - 1))
            losses.append(float(loss.detach()))
        seconds = round(self._clock.seconds()[0], 2)
        values = (epoch + 1, epoch * self._steps + len(losses), round(float(np.mean(losses)), 6), seconds)
        return dict(zip(PRETRAINING_CURVE.names, values, strict=True))

    def _save(self) -> int:
        """Write the tensors of the encoder that learned, and the buffers of their layers; how many they are.

        What learned is what the optimiser has moved: unlike gradients, its state outlasts an interruption.
        """
        from stainda.strategies.detector import save_tensors

        moved = self._optimiser.state
        learned = {name for name, parameter in self._network.named_parameters() if parameter in moved}
        modules = {name.rpartition(".")[0] for name in learned}
        state = self._network.state_dict()
        kept = {
            name: value for name, value in state.items()
            if self._network.in_encoder(name) and (name in learned or name.rpartition(".")[0] in modules)
        }  # fmt: skip
        save_tensors(kept, ENCODER.inside(self._folder))
        return len(kept)

    def _make_detector(self) -> Detector:
        strategy, pixels, table = build(self._job.strategy), self._data.data.tissue_pixels, self._data.table
        slides = dict.fromkeys(table["slide"])
        templates = list(dict.fromkeys(table["slide"][table["domain"].isin(self._job.sources)]))
        if not templates:
            raise TrainingError(
                "there is no unlabelled patch of a source domain to learn from without labels",
                remedy="Check that annotated source slides of training patients are in the manifest",
            )
        strategy.view.fit({slide: pixels[slide] for slide in slides}, templates)
        given = self._job.encoder_standard()
        standard = Standard.of(*given) if given else Standard.fit(strategy, pixels, templates)
        torch.manual_seed(seed_for(self._job.seed, "network"))
        detector = Detector.build(strategy, self._job.model, self._job.task, standard)
        detector.network.to(self._device)
        detector.network.to(memory_format=torch.channels_last)
        return detector
