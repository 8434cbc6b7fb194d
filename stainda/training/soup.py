"""The mean of the weights of several trainings as one network, where source validation says that it helps.

Trainings that start from the same weights often end in one valley of the loss; the mean of their weights then predicts
as well as all of them together, at the cost of one (Wortsman et al. 2022, Model soups, arXiv 2203.05482). Networks that
start at random, or decoders that do, do not: their mean can be worse than each. So a greedy soup begins with the best
member on source validation, and takes in another only where the mean is no worse there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor

from stainda.config import TrainConfig
from stainda.errors import TrainingError, did_you_mean
from stainda.files import load_json, output_errors, write_json
from stainda.run_directory.contents import RESULT, SETTINGS
from stainda.strategies import build
from stainda.strategies.detector import CHECKPOINTS, STATISTICS, save_tensors
from stainda.strategies.norm.statistics import estimate_statistics, put_statistics, save_statistics
from stainda.training.job import Job
from stainda.training.machine import torch_for
from stainda.training.preparation import Preparation
from stainda.training.result import read_result
from stainda.training.validation import Validation, validate

if TYPE_CHECKING:
    from stainda.training.batches import Patches

Method = Literal["greedy", "uniform"]
METHODS: tuple[Method, ...] = ("greedy", "uniform")


@dataclass(frozen=True)
class Soup:
    """What was made.

    Attributes:
        folder: as a job's, so that ``stainda predict FOLDER`` takes it.
        score: on source validation. scores: of the members, by name of their jobs, at the best checkpoint.
        members: names of the jobs whose weights are in the mean.
    """

    folder: Path
    method: Method
    score: float
    scores: Mapping[str, float]
    members: tuple[str, ...]


def make_soup(folders: Sequence[Path], data: Patches, out: str | Path, method: Method = "greedy") -> Soup:
    """Average the weights of trainings that differ in their seed alone, and write a folder like a job's.

    Batch statistics are estimated anew for a mean of several, from the same source training patches each time.
    Thresholds are chosen on source validation, as those of a training are.

    Args:
        folders: of finished jobs.
        data: what the jobs may see.
        method: ``greedy``, or ``uniform``: the mean of all, whatever validation says.

    Raises:
        TrainingError: fewer than two jobs, one that did not end, other settings than those of the first, batch
            statistics that are kept by domain, or ``out`` holds something else than a soup.
    """
    if method not in METHODS:
        raise TrainingError(f"there is no soup {method!r}", remedy=did_you_mean(method, METHODS))
    _refuse_other_work(Path(out))
    jobs = _alike(folders)
    with torch_for(jobs[0].training):
        judge = _Judge(jobs[0], data)
        weights = {folder.name: load_file(str(folder / CHECKPOINTS["best"])) for folder in folders}
        alone = {name: judge.judged([own]) for name, own in weights.items()}
        ranked = sorted(weights, key=lambda name: -alone[name].score)  # of equal ones the first that was named
        members = ranked if method == "uniform" else ranked[:1]
        best = alone[ranked[0]].score
        for name in () if method == "uniform" else ranked[1:]:
            tried = judge.judged([weights[member] for member in (*members, name)]).score
            if tried >= best:
                members, best = [*members, name], tried
        final = judge.judged([weights[name] for name in members])
        folder = Path(out)
        own = folders[[job.name for job in folders].index(ranked[0])]
        judge.write(folder, own, final, {"method": method, "members": members})
    return Soup(folder, method, final.score, {name: judged.score for name, judged in alone.items()}, tuple(members))


def _refuse_other_work(folder: Path) -> None:
    """A soup may be made anew in its folder; a training, or anything else, is not overwritten."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    result = RESULT.inside(folder)
    if not (result.is_file() and "soup" in load_json(result)):
        raise TrainingError("holds files that are no soup", file=folder, remedy="Give --out a new folder")


def _alike(folders: Sequence[Path]) -> list[Job]:
    """The jobs of these folders, once they can be averaged."""
    if len(folders) < 2:
        raise TrainingError("a soup needs two trainings", remedy="Set protocol.seeds to 2 or more and run the study")
    jobs = []
    for folder in folders:
        if read_result(folder) is None:
            raise TrainingError("this training is not complete", file=folder, remedy="Run the study again")
        jobs.append(Job.load(folder))
    about = [replace(job, seed=0, pretrained="", data_key="").settings() for job in jobs]
    if other := [folder for folder, settings in zip(folders, about, strict=True) if settings != about[0]]:
        raise TrainingError(
            f"it has other settings than {folders[0].name}", file=other[0],
            remedy="Average trainings of one strategy and one trial",
        )  # fmt: skip
    if build(jobs[0].strategy).norm.by_domain:
        raise TrainingError(
            f"batch statistics of norm {jobs[0].strategy.norm.name} are kept by domain, and belong to one training",
            remedy="Average a strategy whose norm is shared",
        )
    return jobs


def mean_weights(weights: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of tensors of the same names; of whole numbers those of the first."""
    return {
        name: torch.stack([tensors[name].double() for tensors in weights]).mean(0).to(first.dtype)
        if first.is_floating_point()
        else first
        for name, first in weights[0].items()
    }


class _Judge:
    """Judges weights on source validation as a training judges its own."""

    def __init__(self, job: Job, data: Patches) -> None:
        plain = {"cache": None, "averaging": None, "init": None, "compile": False}
        if job.training.train.mode == "lora":  # checkpoints are those of the plain network
            plain["train"] = TrainConfig()  # type: ignore[assignment]
        job = replace(job, training=job.training.model_copy(update=plain), pretrained="")
        self._made = Preparation(job, build(job.strategy), data)
        self._weights: dict[str, Tensor] = {}

    def judged(self, weights: Sequence[Mapping[str, Tensor]]) -> Validation:
        """Of the mean of these weights, which the network then has; those of one training keep their statistics."""
        made = self._made
        network = made.detector.network
        network.load_state_dict(mean_weights(weights))
        if len(weights) > 1 and made.batchnorm:
            put_statistics(network, estimate_statistics(network, map(made.passes.plain, made.chosen.settling.values())))
        self._weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
        return validate(made.detector, made.data, made.origins, made.chosen.validation, threshold=made.job.threshold)

    def write(self, folder: Path, member: Path, scored: Validation, about: dict[str, object]) -> None:
        """The weights judged last, in a folder like that of ``member``; ``result.json`` is the last file."""
        with output_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        RESULT.inside(folder).unlink(missing_ok=True)
        write_json(SETTINGS.inside(folder), Job.load(member).settings())
        for name in CHECKPOINTS:
            save_tensors(self._weights, folder / CHECKPOINTS[name])
            save_statistics(folder / STATISTICS[name], {})
        self._made.detector.save(folder)
        result = read_result(member)
        assert result is not None
        values = replace(
            result, score=scored.score, thresholds=scored.thresholds, dice=scored.dice,
            last_thresholds=scored.thresholds,
        )  # fmt: skip
        write_json(RESULT.inside(folder), {**asdict(values), "soup": about})
