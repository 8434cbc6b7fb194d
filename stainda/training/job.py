"""One training: everything that decides its outcome, and the folder name that follows from it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from stainda.config import (
    ModelConfig,
    PatchConfig,
    ProtocolConfig,
    StrategyConfig,
    TaskConfig,
    TrainConfig,
    TrainingConfig,
)
from stainda.config.load import validated
from stainda.errors import ConfigError, TrainingError
from stainda.files import load_json, stable_hash
from stainda.models.weight_files import start_of
from stainda.run_directory.contents import SETTINGS

if TYPE_CHECKING:
    from stainda.evaluation.thresholds import Rule

_CONFIGS: dict[str, type[BaseModel]] = {
    "strategy": StrategyConfig, "model": ModelConfig, "task": TaskConfig, "patches": PatchConfig,
    "training": TrainingConfig, "protocol": ProtocolConfig,
}  # fmt: skip


_OF_OUTLINES = (
    "min_object_um2", "min_object_px", "split_touching", "stride", "objects", "object_um", "object_px",
)  # fmt: skip
"""Settings of a task that are read when slides are predicted, and not in training."""

OF_KINDS = {"instances": "instances", "instances_weight": "instances", "sigma_um": "points", "sigma_px": "points"}
"""Settings of a task that one kind of task reads."""

_NO_SETTING_OF_THE_NETWORK = (
    "description", "reference", "weights_optional", "weights_source", "weights_sha256", "weights_missing",
    "pretraining", "million_parameters",
)  # fmt: skip
"""Of a model: the start is in the job's name as the fingerprint of its weights."""

_OF_THE_START = ("standardise", "start")
"""Settings of the loop that are in the job's name by what follows from them."""

_NEWER: dict[str, Any] = {
    "init": None, "train": TrainConfig().model_dump(mode="json"), "layer_decay": None, "cache": None,
    "validation_patches": None, "rare_classes": None, "compile": False,
}  # fmt: skip
"""Settings of the loop that came later, with the values that change nothing."""

ALGORITHM = 6
"""Raised whenever the same settings come to train to other weights: jobs of older code are not taken for new ones."""


DENSITIES = 2
"""As :data:`ALGORITHM`, of trainings whose colours pass through optical densities (HED, Macenko, Vahadane)."""

OBJECTS = {"regions": 2, "horizontal_vertical": 3}
"""As :data:`ALGORITHM`, of trainings with a head: it learns otherwise, or divides what it learned otherwise."""


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
        threshold: how probability thresholds are chosen on validation (``evaluation.threshold``); which epoch is best
            follows from it.
        without: a training patient of whom nothing is seen; empty: all teach.
        repeats: :attr:`hash` of the training that this one makes again from all source patients, with its thresholds;
            empty: it validates itself.
        pretrained: :attr:`hash` of the self-supervised training (``training.init``) that it starts from; empty: none.
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
    threshold: Rule = "robust"
    without: str = ""
    repeats: str = ""
    pretrained: str = ""

    def again(self) -> Job:
        """The job that makes this training again from all source patients. It may see what this one may, the patches
        and labels that this one validates on among them, so ``data_key`` is the same."""
        return replace(self, repeats=self.hash)

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

        Prose, the study's name, search ranges, device, devices, threads, how patches are chosen (the patches themselves
        are in ``data_key``), who else is in the protocol and how outlines are made of probabilities do not change it;
        other weights to start from, or another :data:`ALGORITHM`, do.
        """
        from stainda.strategies import build
        from stainda.training.rare_settings import rare_settings

        values = self.settings()
        del values["study"]
        if not self.repeats:  # trainings made before there was this keep their names
            del values["repeats"]
        if not self.pretrained:
            del values["pretrained"]
        # network and head are settings of the job itself
        for key in ("title", "description", "reference", "space", "model", "instances"):
            values["strategy"].pop(key)
        for key in ("device", "devices", "threads"):
            values["training"].pop(key)
        for key in _NO_SETTING_OF_THE_NETWORK:
            values["model"].pop(key)
        for key in (*_OF_OUTLINES, "name", "description"):
            values["task"].pop(key)
        for key in (key for key, kind in OF_KINDS.items() if kind != self.task.kind):
            values["task"].pop(key)  # trainings of other kinds of tasks keep the names they had before there were these
        values["patches"] = {key: values["patches"][key] for key in ("size", "mpp", "downsample")}
        values["protocol"] = values["protocol"]["visible"]
        values["model"]["weights"] = start_of(self.model) or None
        if self.model.weights_part is None:  # trainings that start from published weights keep their names
            del values["model"]["weights_part"]
        for key in _OF_THE_START:
            del values["training"][key]
        for key, plain in _NEWER.items():  # trainings without them keep the names they had before there were these
            if values["training"][key] == plain:
                del values["training"][key]
        if (init := values["training"].get("init")) and not init["sparsity"]:
            del init["sparsity"]
        if cache := values["training"].get("cache"):
            del cache["limit_gb"]
        if given := self.encoder_standard():  # trainings standardised by tissue keep their names
            values["standardised"] = [list(colour) for colour in given]
        if self._mixes_densities():
            values["densities"] = DENSITIES
        values |= rare_settings(build(self.strategy), self.task, self.training)
        if self.task.kind == "instances" and self.task.instances.name in OBJECTS:
            values["objects"] = OBJECTS[self.task.instances.name]
        return stable_hash([ALGORITHM, values])

    def _mixes_densities(self) -> bool:
        from stainda.strategies import build

        init = self.training.init
        return build(self.strategy).mixes_densities or (init is not None and init.colour != "none")

    def encoder_standard(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and standard deviation of the encoder's weights (red, green, blue in 0..1) where images are standardised
        by them; ``None`` where they are by those of tissue."""
        from stainda.strategies import build

        known = self.model.pretraining
        if self.training.standardise == "tissue" or known is None or not start_of(self.model):
            return None
        return (known.mean, known.std) if build(self.strategy).view.is_colour else None

    def of_prediction(self) -> list[Any]:
        """What decides predictions on a slide and the names they are stored under, next to the trained weights."""
        task = self.task.model_dump(mode="json")
        return [self.study, self.patches.min_tissue, {key: task[key] for key in _OF_OUTLINES}]

    @classmethod
    def from_settings(cls, values: dict[str, Any], source: str | Path = "settings") -> Job:
        """The job whose :meth:`settings` these are.

        Raises:
            ConfigError: a field is missing, unknown or wrong.
        """
        known = {field.name for field in fields(cls)}
        values = {"repeats": "", "pretrained": "", **values}
        if wrong := known.symmetric_difference(values):
            raise ConfigError(f"fields missing or unknown: {', '.join(sorted(wrong))}", file=source)
        built: dict[str, Any] = {}
        for key, value in values.items():
            if key in _CONFIGS:
                built[key] = validated(_CONFIGS[key], value, source)
            else:
                built[key] = tuple(value) if isinstance(value, list) else value
        return cls(**built)

    @classmethod
    def load(cls, folder: str | Path) -> Job:
        """The job of a job folder, from its ``settings.json``.

        Raises:
            TrainingError: there is none, or it is not JSON.
        """
        path = SETTINGS.inside(Path(folder))
        try:
            values = load_json(path)
        except (OSError, ValueError) as error:
            raise TrainingError(
                f"not a job's settings ({error})", file=path, remedy="Name a folder RUN/jobs/HASH of a finished study"
            ) from error
        return cls.from_settings(values, path)


def resolve_start(model: ModelConfig, training: TrainingConfig) -> ModelConfig:
    """A model with the start that the loop's settings ask for: without weights for ``start: random``."""
    if training.start != "random":
        return model
    none = {"weights": None, "weights_sha256": "", "weights_missing": "", "weights_part": None}
    return model.model_copy(update=none)


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
