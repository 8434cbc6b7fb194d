"""Running one training: from a patch store and a job to the folder of a detector, alone or as one of several ranks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from stainda.files import output_errors, write_json
from stainda.progress import SILENT, Progress
from stainda.run_directory.contents import RESULT, SETTINGS
from stainda.strategies import build
from stainda.training.batches import Patches
from stainda.training.feature_cache import features_folder
from stainda.training.job import Job
from stainda.training.log import TrainingLog
from stainda.training.loop import TrainingLoop
from stainda.training.machine import choose_device, torch_for
from stainda.training.metering import Clock, Meter
from stainda.training.preparation import Preparation
from stainda.training.pretraining import encoder_file
from stainda.training.rank_processes import started_ranks
from stainda.training.ranks import Ranks
from stainda.training.result import TrainingResult

if TYPE_CHECKING:
    from stainda.patches import PatchStore, TrainingData


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
    (``job.repeats``, whose folder lies next to) has the weights of its last step in both files (``repeating.py``).

    Args:
        store: the patch store, or its folder.
        on_epoch: called with the epoch (from 1) and its score; what it raises (a pruned trial) ends the job.

    Raises:
        TrainingError: a loss is not a number (with step and term), or nothing is labelled.
        ConfigError: the strategy, the network and the patches do not fit together.
        LeakError: a target label was requested that the strategy may not see.
    """
    data = seen_data(job, store)
    return train_on(job, data, folder, progress, on_epoch)


def seen_data(job: Job, store: PatchStore | str | Path) -> TrainingData:
    """What a job may see of a patch store (or of the store in this folder)."""
    from stainda.cohort import Roles
    from stainda.patches import PatchStore, TrainingData
    from stainda.patches.crowd import Crowd
    from stainda.patches.few_shot import FewShot
    from stainda.patches.label_share import LabelShare

    strategy = build(job.strategy)
    few = None if strategy.labels.few is None else FewShot(*strategy.labels.few, seed=job.seed)
    of, crowd = strategy.labels.of_objects, strategy.labels.crowd
    opened = PatchStore.open(Path(store)) if isinstance(store, str | Path) else store
    roles = Roles(job.sources, job.targets, job.domain_keys, job.protocol.visible)
    return TrainingData(
        opened, roles, labels=strategy.labels.rule, visible=job.protocol.visible, few_shot=few, without=job.without,
        refit=bool(job.repeats), share=None if of is None else LabelShare(of, job.seed),
        crowd=None if crowd is None else Crowd(*crowd, seed=job.seed),
    )  # fmt: skip


def train_on(
    job: Job,
    data: Patches,
    folder: str | Path,
    progress: Progress = SILENT,
    on_epoch: Callable[[int, float], None] | None = None,
    *,
    ranks: AbstractContextManager[Ranks] | None = None,
) -> TrainingResult:
    """As :func:`train`, on data already opened.

    Args:
        ranks: the processes of the training, of which this is the first; default: ``training.devices`` are started.
    """
    folder = Path(folder)
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    RESULT.inside(folder).unlink(missing_ok=True)
    write_json(SETTINGS.inside(folder), job.settings())
    with torch_for(job.training), Meter(choose_device(job.training)) as meter:
        clock = Clock(meter)
        with ranks or started_ranks(job.training, partial(take_part, job, data, folder)) as joined:
            training = TrainingLoop(prepare(job, data, folder, joined), TrainingLog(folder), clock, progress, on_epoch)
            training.take_steps()
        return training.finish()


def prepare(job: Job, data: Patches, folder: Path, ranks: Ranks) -> Preparation:
    """What a training in this folder is made of, for one of its ranks."""
    start = encoder_file(folder.parent.parent, job.pretrained) if job.pretrained else None
    return Preparation(job, build(job.strategy), data, start, features_folder(folder), ranks=ranks)


def take_part(job: Job, data: Patches, folder: Path, ranks: Ranks) -> None:
    """What a further rank does: the steps. What it writes is thrown away."""
    with torch_for(job.training), Meter() as meter, TemporaryDirectory() as aside:
        prepared = prepare(job, data, folder, ranks)
        TrainingLoop(prepared, TrainingLog(Path(aside)), Clock(meter), SILENT, None, kept_in=folder).take_steps()
