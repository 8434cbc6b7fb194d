"""Who teaches, who is tested, and how long each strategy may look for its settings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from stainda.config.frozen import Frozen


class ProtocolConfig(Frozen):
    """Who teaches, who is tested, and what may be seen.

    ``sources`` and ``targets`` are domain names (``PAS@A``), ``*`` standing for anything (``PAS@*``); ``rest`` is every
    domain that is not a source. Patients are split into train, val and test by the manifest, or at random by patient.
    Every scheme but ``one_to_all`` and ``pooled``, and ``folds``, make a study of several rotations: see
    docs/concepts/protocol.md.
    """

    scheme: Literal["one_to_all", "all_pairs", "leave_one_centre_out", "leave_one_stain_out", "pooled"] = Field(
        "one_to_all", description="how the roles of domains are assigned"
    )
    sources: tuple[str, ...] = Field(
        (), description="one_to_all: the domains that teach; other schemes: those that may, by default all"
    )
    targets: tuple[str, ...] = Field(("rest",), description="domains that are tested; rest: all that are no source")
    leave_out: tuple[str, ...] = Field(
        ("*",), description="of leave_one_centre_out and leave_one_stain_out: which centres or stains take their turn"
    )
    left_out_patients: Literal["split", "test"] = Field(
        "split",
        description="patients of a left-out centre: split as all others, or all tested (nothing of it is seen then)",
    )
    folds: int | None = Field(None, ge=2, description="patient-wise folds: every patient is tested once")
    split_within: Literal["centre", "cohort"] = Field(
        "centre", description="shares of patients hold in each centre, or over all (for centres of one or two patients)"
    )
    visible: Literal["targets", "nothing"] = Field(
        "targets", description="unlabelled images visible in training: adaptation or generalisation"
    )
    leave_one_patient_out: bool | tuple[str, ...] = Field(
        False,
        description="train again without each source training patient, one seed each, to see how the result depends on "
        "who taught: true for the baseline, or names of strategies",
    )
    refit: bool = Field(
        False,
        description="train the chosen setting of each strategy again from the training and validation patients of the "
        "source, and report these trainings; the first ones choose settings and thresholds",
    )
    seeds: int = Field(2, ge=1, description="trainings of the chosen setting, each with another seed")
    split: tuple[float, float, float] = Field(
        (0.5, 0.2, 0.3), description="train, val, test shares where the manifest does not say"
    )

    @field_validator("split")
    @classmethod
    def _shares(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(value) < 0 or abs(sum(value) - 1) > 1e-6:
            raise ValueError("the three shares must be at least 0 and add up to 1")
        return value

    @model_validator(mode="after")
    def _scheme_fits(self) -> ProtocolConfig:
        if self.scheme == "one_to_all" and not self.sources:
            raise ValueError("scheme one_to_all needs sources, the domains that teach")
        if self.scheme == "pooled" and self.targets != ("rest",):
            raise ValueError("scheme pooled has no targets: every domain teaches and is tested")
        leaves_out = self.scheme in ("leave_one_centre_out", "leave_one_stain_out")
        if not leaves_out and self.leave_out != ("*",):
            raise ValueError(f"leave_out is for leave_one_centre_out and leave_one_stain_out, not for {self.scheme}")
        if self.left_out_patients == "test" and (self.scheme != "leave_one_centre_out" or self.folds):
            raise ValueError("left_out_patients: test is for leave_one_centre_out without folds")
        return self

    @property
    def teachers(self) -> tuple[str, ...]:
        """The source domains in words: as they were given, or that all are."""
        return self.sources or ("every domain",)

    @property
    def rotates(self) -> bool:
        """Whether the study is several trainings of every strategy, each with other sources, targets or patients."""
        return self.scheme not in ("one_to_all", "pooled") or self.folds is not None


Objective = Literal["source_validation", "worst_source_domain", "worst_source_patient"]


class SearchConfig(Frozen):
    """One Optuna study per strategy, all with this budget; every objective is a score on source validation."""

    trials: int = Field(2, ge=1, description="per strategy; the first is its default setting")
    batch: int = Field(1, ge=1, description="trials of a strategy drawn at once, none of which knows the others")
    sampler: Literal["tpe", "random", "cmaes", "gp", "qmc", "nsga2"] = Field("tpe", description="of Optuna")
    objective: tuple[Objective, ...] = Field(
        ("source_validation",), min_length=1, max_length=2, description="one, or two that are traded off"
    )
    pruner: Literal["none", "median", "hyperband", "wilcoxon"] = Field(
        "none", description="ends trials that fall behind the earlier ones of their strategy"
    )
    startup_trials: int = Field(3, ge=1, description="trials that are never pruned: there is little to compare with")
    warmup_epochs: int = Field(1, ge=0, description="epochs after which pruning begins")
    storage: str | None = Field(
        None,
        description="where trials are stored: postgresql://…, mysql://…, journal:FILE; default: study.db in the run",
    )

    @field_validator("objective", mode="before")
    @classmethod
    def _one_or_two(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _sampler_fits(self) -> SearchConfig:
        if len(set(self.objective)) < len(self.objective):
            raise ValueError(f"the objective {self.objective[0]!r} is named twice")
        if len(self.objective) == 2 and self.sampler == "cmaes":
            raise ValueError("sampler cmaes takes one objective; nsga2, tpe, gp, qmc and random take two")
        if len(self.objective) == 2 and self.pruner != "none":
            raise ValueError("trials are pruned by one objective; take pruner: none with two")
        return self
