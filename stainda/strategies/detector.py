"""A trained network together with all that is needed to apply it to patches of any slide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from stainda.arrays import Array
from stainda.config import ModelConfig, StrategyConfig, TaskConfig, TrainConfig
from stainda.errors import TrainingError
from stainda.files import load_json, whole_file, write_json
from stainda.instances import DenseHead, InstanceHead, RegionHead, build_head
from stainda.models import (
    MAPS,
    Network,
    TwoStageNetwork,
    add_maps,
    build_model,
    choose_parameters,
    merge_low_rank,
    merged_state,
    transfer,
    weights_at_hand,
)
from stainda.run_directory.contents import LAST_MODEL, LAST_STATISTICS, MODEL, VIEW
from stainda.run_directory.contents import STATISTICS as STATISTICS_FILE
from stainda.strategies.align.base import DenseBatch
from stainda.strategies.capture import listening
from stainda.strategies.norm.statistics import (
    Statistics,
    load_statistics,
    save_statistics,
    statistics_of,
)
from stainda.strategies.strategy import Strategy, build

EVERYTHING = TrainConfig()
CHECKPOINTS = {"best": MODEL.name, "last": LAST_MODEL.name}
STATISTICS = {"best": STATISTICS_FILE.name, "last": LAST_STATISTICS.name}
"""Batch statistics per domain belong to the weights they were estimated with."""


@dataclass
class Standard:
    """Mean and standard deviation per channel that the network's input is standardised by, float32 ``(C,)``."""

    mean: Array
    std: Array

    def __call__(self, images: Tensor) -> Tensor:
        mean, std = images.new_tensor(self.mean), images.new_tensor(self.std)
        pixels = images.permute(0, 2, 3, 1)
        if not pixels.is_contiguous():
            return (images - mean.view(1, -1, 1, 1)).div_(std.view(1, -1, 1, 1))
        # the channels of a pixel lie together: a row of pixels at once is ten times as fast as three numbers at once
        rows = pixels.flatten(2)
        width = pixels.shape[2]
        return (rows - mean.repeat(width)).div_(std.repeat(width)).view(pixels.shape).permute(0, 3, 1, 2)

    @classmethod
    def of(cls, mean: Sequence[float], std: Sequence[float]) -> Standard:
        """From the numbers that an encoder's weights were trained with, one per channel."""
        return cls(np.asarray(mean, np.float32), np.asarray(std, np.float32))

    @classmethod
    def fit(cls, strategy: Strategy, tissue_pixels: Mapping[str, Array], slides: Sequence[str]) -> Standard:
        """From tissue pixels (uint8 ``(n, 3)``) of the source training slides, seen through the view."""
        seen = []
        for slide in slides:
            pixels = torch.from_numpy(np.ascontiguousarray(tissue_pixels[slide])).float() / 255.0
            seen.append(strategy.view(pixels.T[None, :, :, None], [slide])[0, :, :, 0])
        values = torch.cat(seen, dim=1)
        return cls(values.mean(1).numpy(), values.std(1).clamp(min=0.02).numpy())


@dataclass
class Detector:
    """Network, view, standardisation and batch statistics per domain.

    Attributes:
        statistics: of batch normalisation by domain, for ``norm`` parts that keep them.
        task: what it predicts. head: separates objects, where the task is of instances.
    """

    strategy: Strategy
    network: Network
    classes: tuple[str, ...]
    standard: Standard
    statistics: dict[str, Statistics] = field(default_factory=dict)
    task: TaskConfig = field(default_factory=TaskConfig)
    head: InstanceHead | None = None

    @classmethod
    def build(
        cls,
        strategy: Strategy,
        model: ModelConfig,
        task: TaskConfig,
        standard: Standard,
        train: TrainConfig = EVERYTHING,
        start: str | Path | None = None,
    ) -> Detector:
        """A new network, its weights drawn from torch's global generator.

        Args:
            train: which of its parameters learn.
            start: file of an encoder that was trained without labels (``training.init``).
        """
        head = head_of(task)
        further = head.channels if isinstance(head, DenseHead) else 0
        network = build_model(model, strategy.view.channels, len(task.classes) + 1 + further, task.network)
        if further:
            add_maps(network, further)
        if isinstance(head, RegionHead):
            assert isinstance(network, TwoStageNetwork), "instances.task_for gives this head to no other network"
            network.propose(head.object_px)
        strategy.norm.prepare(network)
        if model.weights_part is not None and (file := weights_at_hand(model)) is not None:
            transfer(network, file, model.weights_part)
        if start is not None:
            put_encoder(network, Path(start))
        choose_parameters(network, train)
        network.standardised_by(standard.mean, standard.std)
        strategy.view.prepare(network)
        for part in strategy.augment:
            part.prepare(network)
        return cls(strategy, network, task.classes, standard, task=task, head=head)

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def images(self, patches: Array) -> Tensor:
        """uint8 ``(N, H, W, 3)`` to float ``[N, 3, H, W]`` in 0..1 on the network's device."""
        tensor = torch.from_numpy(np.ascontiguousarray(patches)).to(self.device)
        return tensor.permute(0, 3, 1, 2).float().div_(255.0)

    def see(self, images: Tensor, slides: Sequence[str]) -> Tensor:
        """RGB patches in 0..1 to the network's input: view, then standardisation."""
        return self.standard(self.strategy.view(images, slides)).contiguous(memory_format=torch.channels_last)

    @property
    def watched(self) -> tuple[str, ...]:
        """Layers of the network that objects are made of; none for tasks without a head, or with one without maps."""
        if self.head is None or not self.head.channels:
            return ()
        return self.network.pyramid if isinstance(self.network, TwoStageNetwork) else (MAPS,)

    def object_loss(self, outputs: Sequence[Tensor], labels: Tensor, dense: DenseBatch) -> Tensor:
        """Of the head, a scalar: ``outputs`` of the layers :attr:`watched`, labels ``[N, H, W]``."""
        if isinstance(self.network, TwoStageNetwork):
            return self.network.region_loss(outputs, labels, dense.targets[:, 0].long())
        assert isinstance(self.head, DenseHead)
        return self.head.loss(outputs[0], dense.targets, dense.inside, dense.known)

    def object_maps(self, outputs: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Maps that the head separates, float32 ``[N, channels, H, W]``, of images whose logits have this size."""
        if isinstance(self.network, TwoStageNetwork):
            assert isinstance(self.head, RegionHead)
            numbers = self.network.detect(outputs, size, self.head.least_score)
            depths = np.stack([self.head.targets(patch) for patch in numbers.cpu().numpy()])
            return torch.from_numpy(depths).to(numbers.device)
        assert isinstance(self.head, DenseHead)
        return self.head.activate(outputs[0])

    @torch.no_grad()
    def probabilities(self, patches: Array, slides: Sequence[str], statistics: Statistics | None = None) -> Tensor:
        """Probability of each foreground class, float32 ``[N, n_classes - 1, H - 2 margin, W - 2 margin]``; of a patch
        classifier ``[N, n_classes - 1]``.

        Args:
            patches: uint8 RGB ``(N, H, W, 3)``; H and W divisible by the network's stride.
            slides: the slide of each patch.
            statistics: of batch normalisation; ``None`` keeps those in the network.
        """
        self.network.eval()
        with statistics_of(self.network, statistics):
            return _shares(self.network(self.see(self.images(patches), slides)))

    @torch.no_grad()
    def answers(self, patches: Array, slides: Sequence[str], statistics: Statistics | None = None) -> Tensor:
        """As :meth:`probabilities`, with the maps of the head, where there is one, behind the classes."""
        self.network.eval()
        with statistics_of(self.network, statistics):
            with listening(self.network, self.watched) as outputs:
                logits = self.network(self.see(self.images(patches), slides))
            shares = _shares(logits)
            if not outputs:
                return shares
            height, width = logits.shape[-2:]
            return torch.cat([shares, self.object_maps(outputs, (height, width))], 1)

    def save(self, folder: str | Path) -> None:
        """Write ``view.json`` and ``statistics.safetensors`` (the weights are written by :func:`save_weights`)."""
        state = {
            "view": self.strategy.view.state(),
            "mean": [float(value) for value in self.standard.mean],
            "std": [float(value) for value in self.standard.std],
        }
        folder = Path(folder)
        write_json(VIEW.inside(folder), state)
        save_statistics(folder / STATISTICS["best"], self.statistics)

    @classmethod
    def load(cls, folder: str | Path, settings: Mapping[str, Any], checkpoint: str = "best") -> Detector:
        """The detector of a job folder; nothing but JSON and safetensors is read.

        Args:
            settings: what ``settings.json`` holds.
            checkpoint: ``best`` or ``last``.

        Raises:
            TrainingError: a file is missing or does not fit the settings.
        """
        folder = Path(folder)
        strategy = build(StrategyConfig.model_validate(settings["strategy"]))
        model = ModelConfig.model_validate({**settings["model"], "weights": None, "weights_sha256": ""})
        train = TrainConfig.model_validate(settings["training"].get("train", {}))
        state = _read_state(VIEW.inside(folder))
        strategy.view.restore(state["view"])
        standard = Standard(np.asarray(state["mean"], np.float32), np.asarray(state["std"], np.float32))
        with torch.random.fork_rng(devices=[]):
            detector = cls.build(strategy, model, TaskConfig.model_validate(settings["task"]), standard, train)
        merge_low_rank(detector.network)
        load_weights_into(detector.network, folder / CHECKPOINTS[checkpoint])
        if (folder / STATISTICS[checkpoint]).is_file():
            detector.statistics = load_statistics(folder / STATISTICS[checkpoint])
        detector.network.to(memory_format=torch.channels_last)
        detector.network.eval()
        return detector


def _shares(logits: Tensor) -> Tensor:
    """Probability of each class but the background, float32."""
    return torch.softmax(logits.float(), dim=1)[:, 1:]


def head_of(task: TaskConfig) -> InstanceHead | None:
    """The head that separates a task's objects; ``None`` for other tasks than those of instances.

    Raises:
        ConfigError: no such head or parameter.
    """
    return build_head(task.instances) if task.kind == "instances" else None


def save_weights(network: nn.Module, path: Path) -> None:
    """The network's weights and buffers as safetensors, written whole or not at all; low-rank changes are merged."""
    save_tensors(merged_state(network), path)


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Tensors by name as safetensors, written whole or not at all."""
    state = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    with whole_file(path) as aside:
        save_file(state, str(aside))


def put_encoder(network: Network, path: Path) -> None:
    """Put tensors of an encoder into a network; all others stay as they are.

    Raises:
        TrainingError: the file is missing or of another network.
    """
    try:
        given = load_file(str(path))
        wrong = network.load_state_dict(given, strict=False).unexpected_keys
    except Exception as error:
        wrong, given = [str(error).splitlines()[0]], {}
    if wrong or not given:
        raise TrainingError(
            f"the self-supervised start does not fit the network ({wrong[0] if wrong else 'it is empty'})",
            file=path, remedy="Delete its folder and run the study again",
        )  # fmt: skip


def load_weights_into(network: nn.Module, path: Path) -> None:
    """Load what :func:`save_weights` wrote.

    Raises:
        TrainingError: the file is missing, not safetensors, or of another network.
    """
    if not path.is_file():
        raise TrainingError("the job has no such checkpoint", file=path, remedy="Run the study again to finish the job")
    try:
        network.load_state_dict(load_file(str(path)))
    except Exception as error:
        raise TrainingError(
            f"the checkpoint does not fit the job's settings ({str(error).splitlines()[0]})",
            file=path, remedy="Delete the job's folder and run the study again",
        ) from error  # fmt: skip


def _read_state(path: Path) -> dict[str, Any]:
    try:
        return load_json(path)
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"cannot be read ({error})", file=path, remedy="Run the study again to finish the job"
        ) from error
