"""Settings of labels of whole slides or patients: whose column, which patches are read, how they become one answer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from stainda.config.frozen import Frozen
from stainda.config.training import ModelConfig

Aggregator = Literal["mean", "max", "svm", "fisher", "attention", "clam", "transmil"]
"""How the features of the patches of a slide become one answer."""


class SlidePatchesConfig(Frozen):
    """The grid of patches over the tissue of a slide that its answer is made of."""

    size: int = Field(224, ge=16, description="pixels of a square patch")
    mpp: float | None = Field(None, gt=0, description="micrometres per pixel; this or downsample")
    downsample: float | None = Field(None, gt=0, description="level-0 pixels per pixel, for slides without mpp")
    stride: int | None = Field(None, ge=1, description="pixels from patch to patch; default: size, without overlap")
    min_tissue: float = Field(0.25, ge=0, le=1, description="share of a patch that must be tissue")
    most: int | None = Field(None, ge=1, description="patches of a slide at most, a fixed random choice; default: all")

    @model_validator(mode="after")
    def _one_scale(self) -> SlidePatchesConfig:
        if (self.mpp is None) == (self.downsample is None):
            raise ValueError("give exactly one of mpp and downsample")
        return self


class SlideTrainingConfig(Frozen):
    """How an aggregator learns, bag by bag; the same for all of them."""

    epochs: int = Field(60, ge=1, description="passes over the slides that teach")
    bags_per_step: int = Field(8, ge=1, description="slides whose losses make one optimiser step")
    learning_rate: float = Field(1.0e-3, gt=0, description="of AdamW, falling to 0 as a cosine")
    weight_decay: float = Field(1.0e-2, ge=0, description="of AdamW")
    hidden: int = Field(64, ge=4, description="width that features are brought to, and of the attention")
    dropout: float = Field(0.25, ge=0, lt=1, description="of the hidden features")
    balanced: bool = Field(True, description="both labels weigh the same in the loss, however rare one is")
    standardise: Literal["source", "domain"] = Field(
        "source",
        description="features by their mean and spread on the training slides of the source, or of each domain (of "
        "targets from images without labels, where protocol.visible allows)",
    )


class SlideLevelConfig(Frozen):
    """One label for each slide or patient; see docs/howto/slides.md."""

    label: str = Field("group", description="column of the manifest with the labels; empty cells are not used")
    positive: tuple[str, ...] = Field(
        min_length=1, description="label or labels that are to be found; all others are the other class"
    )
    unit: Literal["patient", "slide"] = Field(
        "patient", description="what is scored: patients (mean log odds of their slides in a domain), or slides"
    )
    stains: tuple[str, ...] = Field((), description="stains of the slides that count; empty: all")
    encoder: ModelConfig = Field(
        description="the network whose features are read, by name or written out; it does not learn"
    )
    patches: SlidePatchesConfig = Field(description="the grid of patches over the tissue")
    aggregators: tuple[Aggregator, ...] = Field(
        ("mean", "max", "attention"),
        min_length=1,
        description="what is compared, the first with each of the others; attention, clam and transmil need torchmil",
    )
    training: SlideTrainingConfig = Field(SlideTrainingConfig(), description="how aggregators learn")
    maps: bool = Field(True, description="write the attention of each patch of test slides, for QuPath")
    limit_gb: float = Field(20.0, gt=0, description="of the features of one slide on disk; more is refused")

    @field_validator("positive", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        several = [value] if isinstance(value, str | int) else value
        if not isinstance(several, list | tuple):
            return several
        return [str(label) if isinstance(label, int) and not isinstance(label, bool) else label for label in several]

    @model_validator(mode="after")
    def _each_once(self) -> SlideLevelConfig:
        if len({*self.aggregators}) < len(self.aggregators):
            raise ValueError("aggregators names one twice")
        return self
