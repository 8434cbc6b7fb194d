"""The study file as validated, frozen models. Units are in the names or the docstrings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from stainda.config.engine import EngineConfig
from stainda.config.frozen import Frozen
from stainda.config.microenvironment import MicroenvironmentConfig
from stainda.config.other_runs import OWN_STARTS, StartConfig
from stainda.config.parts import PartConfig
from stainda.config.preparation import FusionConfig, PhantomConfig, PropagationConfig, RegistrationConfig
from stainda.config.protocol import ProtocolConfig, SearchConfig
from stainda.config.slide_level import SlideLevelConfig
from stainda.config.space import SearchRange, set_path
from stainda.config.tasks import TaskConfig
from stainda.config.training import GeometryConfig, ModelConfig, PatchConfig, RecipeConfig, TrainingConfig
from stainda.errors import did_you_mean

DomainKey = Literal["stain", "centre", "scanner", "patient", "slide"]


class EvaluationConfig(Frozen):
    rope: float = Field(
        0.01, ge=0, description="differences of a score up to this are practically nothing (region of equivalence)"
    )
    iou: float = Field(0.5, gt=0, lt=1, description="overlap from which a detected object is a hit")
    threshold: Literal["robust", "pooled"] | float = Field(
        "robust",
        description="probability from which a pixel is called a class: chosen on source validation by patient with a "
        "prior at 0.5, on its pooled pixels, or a number",
    )
    point_um: float = Field(
        10.0, gt=0, description="distance up to which the centre of a detection hits an annotated point, micrometres"
    )
    resamples: int = Field(2000, ge=100, description="of the patient bootstrap of curves and of scores of slides")
    level: float = Field(0.95, gt=0, lt=1, description="of intervals")

    def overlap(self, kind: str) -> float:
        """What an annotated object and a detection of a kind of task must be worth to be a hit.

        Of outlines it is ``iou``; points and the centres of detections are worth 0.5 at ``point_um``.
        """
        return 0.5 if kind == "points" else self.iou

    def distance_um(self, overlap: float) -> float:
        """How far a centre lies from the annotated point where the pair is worth ``overlap``, micrometres."""
        return 2 * (1 - overlap) * self.point_um

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_versions(cls, value: object) -> object:
        """``interval``, the kind of the intervals of one training, which have none any more."""
        return {key: inner for key, inner in value.items() if key != "interval"} if isinstance(value, dict) else value

    @field_validator("threshold", mode="before")
    @classmethod
    def _rule_or_number(cls, value: object) -> object:
        if isinstance(value, str) and value in ("robust", "pooled"):
            return value
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1:
            return float(value)
        options = ("robust", "pooled")
        hint = f"; {did_you_mean(value, options)}" if isinstance(value, str) else ""
        raise ValueError(f"must be robust, pooled or a number between 0 and 1{hint}")


class StrategyConfig(Frozen):
    """A way to train across domains, composed of parts; see docs/concepts/strategies.md."""

    name: str = Field(description="as results call it")
    title: str = Field("", description="as the report calls it")
    description: str = Field("", description="for stainda list strategies")
    reference: str = Field("", description="the paper")
    view: PartConfig = Field(PartConfig(name="rgb"), description="what the network sees")
    augment: tuple[PartConfig, ...] = Field(
        (PartConfig(name="geometry"),), description="what is drawn at random in training"
    )
    labels: PartConfig = Field(PartConfig(name="source"), description="whose labels are learned from")
    align: PartConfig = Field(PartConfig(name="none"), description="a loss on unlabelled target images")
    norm: PartConfig = Field(PartConfig(name="per_domain"), description="whose batch statistics are used")
    after: PartConfig = Field(PartConfig(name="none"), description="what happens to the trained network at test")
    training: dict[str, Any] = Field(default_factory=dict, description="settings of the loop this strategy changes")
    model: ModelConfig | None = Field(
        None, description="another network than the study's, by name or written out: for a comparison of networks"
    )
    instances: PartConfig | None = Field(
        None, description="another head than the task's, where that is of instances: for a comparison of heads"
    )
    space: dict[str, SearchRange] = Field(
        default_factory=dict, description="search ranges by dotted path, split from the file"
    )

    @field_validator("augment", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return [value] if isinstance(value, str | dict) else value

    @property
    def label(self) -> str:
        return self.title or self.name.replace("_", " ")

    def with_values(self, values: dict[str, Any]) -> StrategyConfig:
        """A copy with entries at dotted paths replaced: ``align.weight``, ``training.loss``, ``augment.0.strength``;
        ``geometry.scale`` is that of every ``geometry`` augment."""
        data = self.model_dump()
        for path, value in values.items():
            head, _, rest = path.partition(".")
            if head == "training":
                data = set_path(data, path, value)
            elif head == "geometry":
                data["augment"] = [
                    set_path(part, f"params.{rest}", value) if part["name"] == "geometry" else part
                    for part in data["augment"]
                ]
            elif head == "augment":
                index, _, key = rest.partition(".")
                parts = list(data["augment"])
                parts[int(index)] = set_path(parts[int(index)], f"params.{key}", value)
                data["augment"] = parts
            else:
                data = set_path(data, f"{head}.params.{rest}", value)
        return StrategyConfig.model_validate(data)


class StudyConfig(Frozen):
    """A study file, resolved: names replaced by the files they name, ranges split from defaults."""

    study: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="names the run directory")
    title: str = Field("", description="heading of the report")
    question: str = Field("", description="the question, printed at the top of the report")
    seed: int = Field(1, description="start of all random numbers")
    manifest: Path | None = Field(None, description="the table of slides")
    data: Path | None = Field(
        None, description="folder that the manifest's paths are relative to; default: the manifest's own"
    )
    phantom: PhantomConfig | None = Field(None, description="make this synthetic cohort instead of reading a manifest")
    domain: tuple[DomainKey, ...] = Field(
        ("stain", "centre"), min_length=1, description="columns of the manifest that make a domain"
    )
    registration: RegistrationConfig = Field(
        RegistrationConfig(), description="how sections are brought into one frame"
    )
    propagation: PropagationConfig = Field(PropagationConfig(), description="how annotations reach other sections")
    task: TaskConfig = Field(TaskConfig(), description="what is to be found")
    classes: dict[str, str] | Path = Field(
        default_factory=dict,
        description="new names of classes, or a table of them; 'ignore' makes ignored pixels, 'drop' leaves shapes out",
    )
    unknown_classes: Literal["keep", "error"] = Field(
        "keep",
        description="what happens to classes that neither the task nor 'classes' names: kept as background, reported",
    )
    fusion: FusionConfig = Field(FusionConfig(), description="how several annotators of one slide are combined")
    recipe: RecipeConfig = Field(RecipeConfig(), description="where the settings come from that all strategies share")
    patches: PatchConfig = Field(description="size, scale and place of patches")
    geometry: GeometryConfig = Field(GeometryConfig(), description="rotation, scale and shift in training")
    model: ModelConfig = Field(ModelConfig(), description="the network of all strategies")
    protocol: ProtocolConfig = Field(description="who teaches, who is tested, what is seen")
    training: TrainingConfig = Field(TrainingConfig(), description="the training loop")
    starts: dict[str, StartConfig] = Field(
        default_factory=dict, description="trainings of other studies that strategies start from, by name"
    )
    search: SearchConfig = Field(SearchConfig(), description="how settings are searched")
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="scores, thresholds and intervals")
    strategies: tuple[StrategyConfig, ...] = Field(
        (), description="what is compared; may be left out where slide_level is given"
    )
    baseline: str = Field("source_only", description="the strategy the others are compared with")
    ceiling: str = Field("oracle", description="the strategy that may use target labels")
    microenvironment: MicroenvironmentConfig | None = Field(
        None, description="count cells about structures on every section of a stain; empty: do not"
    )
    slide_level: SlideLevelConfig | None = Field(
        None, description="learn labels of whole slides or patients from frozen features; empty: do not"
    )
    on_bad_slide: Literal["leave_out", "stop"] = Field(
        "leave_out",
        description="what happens to a slide that cannot be read (gone, cut short, no picture): the study goes on "
        "without it and says so, or stops",
    )
    workers: int | None = Field(None, ge=1, description="processes side by side; default: the free cores")
    engine: EngineConfig = Field(EngineConfig(), description="where the stages run")
    retries: int = Field(
        1, ge=0, description="how often a training is tried again that ended by no memory, a full disk or a crash"
    )
    log_to: Literal["none", "tensorboard", "mlflow"] = Field(
        "none", description="where curves of trainings are written as well, to look at while they train"
    )
    mlflow_uri: str = Field(
        "",
        description="tracking store of MLflow for log_to: mlflow, such as http://HOST:5000; default: a file in the run "
        "directory",
    )
    space: dict[str, SearchRange] = Field(default_factory=dict, description="ranges in training, by dotted path")

    @field_validator("engine", mode="before")
    @classmethod
    def _engine_by_name(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("mlflow_uri")
    @classmethod
    def _no_password(cls, value: str) -> str:
        if urlsplit(value).password:
            raise ValueError("has a password in it, and study.yaml would keep it; set MLFLOW_TRACKING_PASSWORD instead")
        return value

    @model_validator(mode="after")
    def _one_cohort(self) -> StudyConfig:
        if (self.manifest is None) == (self.phantom is None):
            raise ValueError("give exactly one of manifest and phantom")
        if not self.strategies and self.slide_level is None:
            raise ValueError("'strategies' is empty, and there is no slide_level either: nothing would be compared")
        names = [strategy.name for strategy in self.strategies]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"strategies named twice: {', '.join(sorted(twice))}")
        self._check_starts()
        wanted = self.protocol.leave_one_patient_out
        if not isinstance(wanted, bool) and (unknown := [name for name in wanted if name not in names]):
            raise ValueError(f"leave_one_patient_out: no strategy {unknown[0]!r}; {did_you_mean(unknown[0], names)}")
        if self.microenvironment is not None and self.microenvironment.needs_training:
            self._check_detector(self.microenvironment, names)
        return self

    def _check_starts(self) -> None:
        """What trainings start from is there, and no name stands for two things."""
        if taken := [name for name in self.starts if name in OWN_STARTS]:
            raise ValueError(f"starts: {taken[0]!r} names the study's own weights or none already; take another name")
        named = {self.training.start, *(self.start_name(strategy) for strategy in self.strategies)}
        options = (*OWN_STARTS, *self.starts)
        if unknown := sorted(name for name in named if name not in options):
            raise ValueError(f"training.start: there is no start {unknown[0]!r}; {did_you_mean(unknown[0], options)}")

    def _check_detector(self, measured: MicroenvironmentConfig, names: Sequence[str]) -> None:
        """The detector of this study finds the structures: it must be trained, and for them."""
        wanted = measured.detector_strategy
        if wanted is not None and wanted not in names:
            raise ValueError(
                f"microenvironment.detector_strategy: no strategy {wanted!r}; {did_you_mean(wanted, names)}"
            )
        if lacking := [name for name in measured.structures if name not in self.task.classes]:
            raise ValueError(
                f"microenvironment.outlines: [detected] needs a task with the class {lacking[0]!r}; that of the study "
                f"finds {', '.join(self.task.classes)}"
            )

    def model_of(self, strategy: StrategyConfig) -> ModelConfig:
        """The network of a strategy: its own, or the study's."""
        return strategy.model or self.model

    def start_name(self, strategy: StrategyConfig) -> str:
        """What a strategy's network starts from: ``weights``, ``random``, or a name of ``starts``."""
        return str(strategy.training.get("start", self.training.start))

    def searched(self, strategy: StrategyConfig) -> dict[str, SearchRange]:
        """Search ranges of a strategy by dotted path: its own, and the study's of what it does not set itself."""
        shared = {
            path: values
            for path, values in self.space.items()
            if not (path.startswith("training.") and path.split(".")[1] in strategy.training)
        }
        return {**shared, **strategy.space}

    @property
    def network_names(self) -> list[str]:
        """The kinds of networks that are trained, each once."""
        return list(dict.fromkeys(model.name for model, _ in self.networks()))

    def networks(self) -> list[tuple[ModelConfig, list[str]]]:
        """The networks that are trained, each with the names of its strategies, in their order."""
        result: list[tuple[ModelConfig, list[str]]] = []
        for strategy in self.strategies:
            names = next((names for model, names in result if model == self.model_of(strategy)), None)
            if names is None:
                result.append((self.model_of(strategy), [strategy.name]))
            else:
                names.append(strategy.name)
        return result

    @property
    def left_out_of(self) -> tuple[str, ...]:
        """Strategies that are trained again without each source patient."""
        choice = self.protocol.leave_one_patient_out
        wanted = ((self.baseline,) if choice else ()) if isinstance(choice, bool) else choice
        return tuple(strategy.name for strategy in self.strategies if strategy.name in wanted)

    def strategy(self, name: str) -> StrategyConfig:
        return next(strategy for strategy in self.strategies if strategy.name == name)
