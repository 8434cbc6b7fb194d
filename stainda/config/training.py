"""What a recipe holds, the same for all strategies: network, patches, geometry and the training loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from stainda.config.fine_tuning import CacheConfig, TrainConfig
from stainda.config.frozen import Frozen
from stainda.config.initialisation import InitConfig
from stainda.config.other_runs import WeightsPart
from stainda.config.pretraining import PretrainingConfig


class PatchConfig(Frozen):
    """Where patches are cut. Exactly one of ``mpp`` and ``downsample`` fixes the scale."""

    size: int = Field(128, ge=16, description="pixels of a square patch at the working scale")
    mpp: float | None = Field(None, gt=0, description="micrometres per pixel the network sees")
    downsample: float | None = Field(
        None, gt=0, description="level-0 pixels per pixel the network sees, where mpp is unknown"
    )
    per_object: int = Field(2, ge=0, description="patches around each labelled object, shifted at random")
    negatives_per_object: float = Field(1.0, ge=0, description="patches without any object, per patch with one")
    min_per_slide: int = Field(8, ge=1, description="patches of a slide that has no label (target domains), at least")
    max_per_slide: int = Field(
        1000,
        ge=1,
        description="patches around the objects of a slide, at most: where there would be more (nuclei, large "
        "regions), they are drawn at random, equally many of each class as far as there are so many",
    )
    grid: bool = Field(False, description="cover the tissue in a grid instead of sampling around objects")
    stride: int | None = Field(None, description="of the grid, in pixels at the working scale; default half the size")
    min_tissue: float = Field(0.3, ge=0, le=1, description="share of a patch that must be tissue")
    margin: float = Field(
        0.25,
        ge=0,
        le=0.5,
        description="stored around every patch, as a share of its side: training crops from patch and margin anew each "
        "time; 0 stores the patch alone",
    )

    @property
    def margin_pixels(self) -> int:
        """Pixels stored on each side of a patch."""
        return round(self.margin * self.size)

    @model_validator(mode="after")
    def _one_scale(self) -> PatchConfig:
        if (self.mpp is None) == (self.downsample is None):
            raise ValueError("give exactly one of mpp (micrometres per pixel) and downsample (for slides without mpp)")
        return self


class ModelConfig(Frozen):
    """A network by name; ``params`` go to its constructor."""

    name: str = Field(
        "unet",
        description="unet, smp, dpt, linear, fcn, segnet, deconvnet, pangnet, cnn, cnn_handcrafted, timm, torchvision, "
        "lenet5 or encoder",
    )
    params: dict[str, Any] = Field(default_factory=dict, description="arguments of the network")
    weights: Path | None = Field(
        None, description="a local safetensors file to start from; also {file: NAME.safetensors, optional: true}"
    )
    weights_optional: bool = Field(False, description="start from random weights, and say so, where they are not here")
    weights_source: str = Field("", description="where the file is published, for those who lack it")
    weights_sha256: str = Field("", description="of the file that was used; another file is refused")
    weights_missing: str = Field("", description="the optional file that was not here, so that the start was random")
    weights_part: WeightsPart | None = Field(
        None, description="what is taken of the weights, which are of a training of another study; set by starts"
    )
    pretraining: PretrainingConfig | None = Field(
        None, description="what is known of the weights; their mean and std standardise the images"
    )
    description: str = Field("", description="for stainda list models")
    reference: str = Field("", description="the paper")
    million_parameters: dict[str, float] = Field(
        default_factory=dict, description="by kind of task, with two classes; for stainda list models"
    )

    @model_validator(mode="before")
    @classmethod
    def _written_out(cls, value: object) -> object:
        if not isinstance(value, dict) or not isinstance(value.get("weights"), dict):
            return value
        given = dict(value["weights"])
        if set(given) - {"file", "optional", "source", "sha256"} or "file" not in given:
            raise ValueError("weights is a file, or {file: NAME.safetensors, optional: true, sha256: ...}")
        rest = {key: inner for key, inner in value.items() if key != "weights"}
        renamed = {f"weights_{key}": inner for key, inner in given.items() if key != "file"}
        return {**rest, **renamed, "weights": given["file"]}


class GeometryConfig(Frozen):
    """What every strategy's ``geometry`` augment does unless the strategy sets it itself; see that part for meanings.

    Empty: the part's own default.
    """

    rotation: float | None = Field(None, ge=0, le=180, description="largest angle either way, degrees")
    scale: float | None = Field(None, ge=0, le=2, description="largest relative change of size: 0.5 is 1/1.5 to 1.5")
    shift: float | None = Field(None, ge=0, le=0.5, description="largest shift, as a share of the patch")
    p: float | None = Field(None, ge=0, le=1, description="share of patches rotated, scaled and shifted")


class RecipeConfig(Frozen):
    """The recipe of a resolved study, whose settings are in the study itself.

    Attributes:
        name: empty for a study that was not made from a file.
        changed: dotted settings in which the study, as it was run, departs from the recipe of that name.
    """

    name: str = Field("", description="of the file in configs/recipes")
    title: str = Field("", description="for the report")
    description: str = Field("", description="for the report and stainda list recipes")
    changed: tuple[str, ...] = Field((), description="settings in which the study departs from the recipe")


class TrainingConfig(Frozen):
    """The loop. An epoch is ``steps_per_epoch`` optimiser steps, so that every strategy takes equally many."""

    epochs: int = Field(10, ge=1, description="validations of a training")
    steps_per_epoch: int = Field(20, ge=1, description="optimiser steps of an epoch")
    batch_size: int = Field(
        16,
        ge=2,
        description="labelled patches per step; as many unlabelled ones in addition to them where a strategy uses them",
    )
    learning_rate: float = Field(1e-3, gt=0, description="at its highest")
    weight_decay: float = Field(1e-4, ge=0, description="of the optimiser")
    optimiser: Literal["adam", "adamw", "sgd"] = Field("adamw", description="which one")
    schedule: Literal["constant", "cosine", "one_cycle"] = Field(
        "cosine",
        description="of the learning rate: as it is, falling to 1 %, or risen to over the first tenth of the steps and "
        "fallen from to nothing (Smith & Topin 2018, arXiv 1708.07120), which bears a higher one",
    )
    loss: Literal["cross_entropy", "dice", "cross_entropy_dice", "focal", "focal_dice", "hinge"] = Field(
        "cross_entropy_dice",
        description="of the labelled pixels or patches; hinge with train: head makes a linear support vector machine",
    )
    object_share: float | None = Field(
        0.5,
        ge=0,
        le=1,
        description="share of a labelled batch that is cut around objects; the rest shows none or, where a slide has "
        "too few such places, lies anywhere on tissue; empty: as the patches come",
    )
    rare_classes: float | None = Field(
        None,
        gt=0,
        description="temperature of rare-class sampling (DAFormer, Hoyer et al. 2022; there 0.01): of the patches with "
        "an object, those of rare classes come more often, the lower the more; empty: each patch as often",
    )
    compared_patches: Literal["tissue", "labelled"] = Field(
        "tissue",
        description="source patches that alignment compares with those of targets, and that batch statistics per "
        "domain are estimated from: on tissue at random, as those of targets are, or the labelled batch with its "
        "object_share",
    )
    standardise: Literal["encoder", "tissue"] = Field(
        "encoder",
        description="what images are standardised by: the mean and standard deviation that the encoder's weights were "
        "trained with (of the sources' tissue where the start is random, the model states none, or the view gives no "
        "RGB colours), or always those of the sources' tissue",
    )
    start: str = Field(
        "weights",
        description="what the network starts from: the model's weights where it names some (weights), random ones "
        "(random), or a training of another study (its name in starts)",
    )
    init: InitConfig | None = Field(
        None,
        description="self-supervised training of the encoder on the study's unlabelled patches before the task, from "
        "that start: {name: simclr, pairs: serial}; empty: none",
    )
    train: TrainConfig = Field(
        TrainConfig(), description="which parameters learn: all, head, last_n or lora; also {mode: last_n, blocks: 3}"
    )
    layer_decay: float | None = Field(
        None,
        gt=0,
        le=1,
        description="learning rate of each block of the encoder as a factor on that of the next, for example 0.75; "
        "empty: one rate",
    )
    cache: CacheConfig | None = Field(
        None,
        description="train: head only. What the encoder gives is computed once for each patch and view, kept in the "
        "run directory, and trained on, for example {views: 4}; empty: the encoder runs in every step",
    )
    validation_patches: int | None = Field(
        None,
        ge=8,
        description="source validation patches that are scored after every epoch, the same ones throughout a training; "
        "the best epoch is chosen on them, thresholds on all; empty: 192",
    )
    averaging: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="what of the average of the weights stays at each step, for example 0.99: the average is validated "
        "and kept; empty: the weights as they are",
    )
    patience: int | None = Field(
        None, ge=1, description="epochs without a better source validation score before stopping"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="number format; auto: bf16 on a GPU, fp32 on a CPU"
    )
    compile: bool = Field(
        False,
        description="whether torch.compile compiles the passes of training through the network: a minute or several at "
        "the start of every training, meant for thousands of steps on large patches on a GPU (on a CPU steps were "
        "slower); results differ in the last digits, and the training has a name of its own",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU where there is one")
    devices: int = Field(
        1, ge=1, description="GPUs (on a CPU: processes) that share every batch of a training; batch_size is a multiple"
    )
    threads: int = Field(1, ge=1, description="torch threads per training process")

    @property
    def cores(self) -> int:
        """Threads of all processes of a training."""
        return self.threads * self.devices

    @model_validator(mode="after")
    def _shares_of_a_batch(self) -> TrainingConfig:
        if self.batch_size % self.devices:
            raise ValueError(f"batch_size {self.batch_size} is not a multiple of devices {self.devices}")
        return self

    @model_validator(mode="after")
    def _cache_of_a_frozen_encoder(self) -> TrainingConfig:
        if self.cache is not None and self.train.mode != "head":
            raise ValueError(f"cache keeps what a frozen encoder gives, and train is {self.train}; set train: head")
        return self
