"""Starting weights that a training of another study came to."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from stainda.config.frozen import Frozen

WeightsPart = Literal["encoder", "body", "network"]
"""What of a trained network is taken: the encoder; all but the last layer; all."""

OWN_STARTS = ("weights", "random")
"""Values of ``training.start`` that name no other run."""


class StartConfig(Frozen):
    """A training of another study from which strategies start: ``training: {start: NAME}``.

    ``starts: {NAME: RUN}`` is short for ``starts: {NAME: {run: RUN}}``.
    """

    run: Path = Field(
        description="the run directory of the other study, or of one training in it (RUN/jobs/HASH), from the working "
        "directory or from the folder of the study file"
    )
    strategy: str | None = Field(None, description="whose training; empty: of the strategy that its page names first")
    seed: int | None = Field(None, description="which training; empty: the best on its source validation")
    part: Literal["encoder", "network"] = Field(
        "encoder",
        description="what is taken: the encoder, with all behind it new; or the whole network, the last layer only "
        "where both studies have the same classes",
    )
    unrelated_patients: bool = Field(
        False, description="patients of the other study are other people than those of the same names here"
    )

    @model_validator(mode="before")
    @classmethod
    def _run_alone(cls, value: object) -> object:
        return {"run": value} if isinstance(value, str | Path) else value
