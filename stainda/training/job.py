"""One training: everything that decides its outcome, and the folder name that follows from it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from stainda.config import (
    ModelConfig,
    PatchConfig,
    ProtocolConfig,
    StrategyConfig,
    TaskConfig,
    TrainingConfig,
)
from stainda.config.load import validated
from stainda.errors import ConfigError, TrainingError
from stainda.files import stable_hash

_CONFIGS: dict[str, type[BaseModel]] = {
    "strategy": StrategyConfig, "model": ModelConfig, "task": TaskConfig, "patches": PatchConfig,
    "training": TrainingConfig, "protocol": ProtocolConfig,
}  # fmt: skip


_OF_OUTLINES = (
    "min_object_um2", "min_object_px", "split_touching", "stride", "objects", "object_um", "object_px",
)  # fmt: skip
"""Settings of a task that are read when slides are predicted, and not in training."""

ALGORITHM = 5
"""Raised whenever the same settings come to train to other weights: jobs of older code are not taken for new ones."""


@dataclass(frozen=True)
class Job:
    """One training of one strategy with one seed.

    Attributes:
        study: name of the study.
        strategy, model, task, patches, protocol: resolved pieces of the study.
        training: settings of the loop with the strategy's own changes applied (:func:`resolve_training`).
        sources, targets: domain names, as ``cohort.resolve_roles`` gives them.
        seed: of the network's start, the batches and the augmentation; strategies with the same seed start from the
            same weights and see the same source batches.
        data_key: hash of the patches and labels that this training may see (``TrainingData.key``): others make another
            job, and what is hidden from it does not.
        domain_keys: columns of the manifest that make a domain.
    """

    study: str
    strategy: StrategyConfig
    model: ModelConfig
    task: TaskConfig
    patches: PatchConfig
    training: TrainingConfig
    protocol: ProtocolConfig
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    seed: int
    data_key: str = ""
    domain_keys: tuple[str, ...] = ("stain", "centre")

    def settings(self) -> dict[str, Any]:
        """All fields as JSON-like values."""
        values: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, BaseModel):
                value = value.model_dump(mode="json")
            values[field.name] = list(value) if isinstance(value, tuple) else value
        return values

    @property
    def hash(self) -> str:
        """Name of the job's folder: what decides the weights that come out.

        Prose, the study's name, search ranges, device, threads, how patches are chosen (the patches themselves are in
        ``data_key``), who else is in the protocol and how outlines are made of probabilities do not change it; other
        weights to start from, or another :data:`ALGORITHM`, do.
        """
        values = self.settings()
        del values["study"]
        for key in ("title", "description", "reference", "space"):
            values["strategy"].pop(key)
        for key in ("device", "threads"):
            values["training"].pop(key)
        for key in ("description", "reference"):
            values["model"].pop(key)
        for key in (*_OF_OUTLINES, "name", "description"):
            values["task"].pop(key)
        values["patches"] = {key: values["patches"][key] for key in ("size", "mpp", "downsample")}
        values["protocol"] = values["protocol"]["visible"]
        if self.model.weights is not None and self.model.weights.is_file():
            values["model"]["weights"] = hashlib.sha256(self.model.weights.read_bytes()).hexdigest()
        return stable_hash([ALGORITHM, values])

    def of_prediction(self) -> list[Any]:
        """What decides predictions on a slide and the names they are stored under, beside the trained weights."""
        task = self.task.model_dump(mode="json")
        return [self.study, self.patches.min_tissue, {key: task[key] for key in _OF_OUTLINES}]

    @classmethod
    def from_settings(cls, values: dict[str, Any], source: str | Path = "settings") -> Job:
        """The job whose :meth:`settings` these are.

        Raises:
            ConfigError: a field is missing, unknown or wrong.
        """
        known = {field.name for field in fields(cls)}
        if wrong := known.symmetric_difference(values):
            raise ConfigError(f"fields missing or unknown: {', '.join(sorted(wrong))}", file=source)
        made: dict[str, Any] = {}
        for key, value in values.items():
            if key in _CONFIGS:
                made[key] = validated(_CONFIGS[key], value, source)
            else:
                made[key] = tuple(value) if isinstance(value, list) else value
        return cls(**made)

    @classmethod
    def load(cls, folder: str | Path) -> Job:
        """The job of a job folder, from its ``settings.json``.

        Raises:
            TrainingError: there is none, or it is not JSON.
        """
        path = Path(folder) / "settings.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise TrainingError(
                f"not a job's settings ({error})", file=path, remedy="Name a folder RUN/jobs/HASH of a finished study"
            ) from error
        return cls.from_settings(values, path)


def resolve_training(training: TrainingConfig, strategy: StrategyConfig) -> TrainingConfig:
    """The study's settings of the loop with those the strategy changes put in.

    Raises:
        ConfigError: the strategy names a setting that does not exist, or changes the number of steps, which must be
            the same for all.
    """
    budget = {"epochs", "steps_per_epoch"} & set(strategy.training)
    if budget:
        raise ConfigError(
            f"the strategy changes {', '.join(sorted(budget))}, which is the same for all strategies",
            file=f"strategy {strategy.name}",
            remedy="Set it under training: of the study",
        )
    return validated(
        TrainingConfig, {**training.model_dump(), **strategy.training}, f"strategy {strategy.name}, training"
    )
