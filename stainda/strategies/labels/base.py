"""Which labels a strategy may learn from."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import field_validator

from stainda.config import FusionMethod
from stainda.strategies.parts import Field, Part, register

Rule = Literal["source", "propagated", "few_shot", "all"]
CrowdOf = tuple[FusionMethod, "int | None", tuple[tuple[str, float], ...]]


class Labels(Part):
    """Choice of labels. The data layer enforces it: a label outside the choice cannot be read.

    Class attributes:
        rule: the word of ``patches.TrainingData`` for the choice.
        uses_targets: labelled patches of target domains are among those the network learns from.
        uses_target_truth: the targets' own annotations are among them: of a method with a few, or of the ceiling.
    """

    tasks: ClassVar[tuple[str, ...]] = ("segmentation", "classification")
    rule: ClassVar[Rule] = "source"
    uses_targets: ClassVar[bool] = False
    uses_target_truth: ClassVar[bool] = False

    @property
    def few(self) -> tuple[int, Literal["patches", "patients"]] | None:
        """How many of what are annotated in every target domain, where it is a few."""
        return None

    @property
    def of_objects(self) -> float | None:
        """The share of the source's annotated objects that is learned from; ``None``: all."""
        return None

    @property
    def crowd(self) -> CrowdOf | None:
        """How answers of several annotators are fused, how many teach, and the reliability of each; ``None``: the study
        fused their shapes."""
        return None

    @property
    def statement(self) -> str:
        """Whose annotations were learned from, in a phrase for the report."""
        return "annotations of the source"


class SharedLabels(Labels):
    """Labels of which a share can be used alone."""

    share: float | None = Field(
        None, gt=0, le=1,
        description="of the annotated objects of the source's training patients, for example 0.05 or '5 %'; drawn by "
        "the seed of the training, stratified by patient, a smaller share within a larger one; all other objects are "
        "ignored pixels. Empty: all",
    )  # fmt: skip

    @field_validator("share", mode="before")
    @classmethod
    def _percent(cls, value: object) -> object:
        text = value.strip() if isinstance(value, str) else ""
        if not text.endswith("%"):
            return value
        try:
            return float(text[:-1].strip()) / 100
        except ValueError:
            raise ValueError(f"must be a share such as 0.05 or '5 %', not {value!r}") from None

    @property
    def of_objects(self) -> float | None:
        return self.share


@register("labels", "source")
class SourceLabels(SharedLabels):
    """Annotations of the source domains' training patients, or of a share of their objects."""

    @property
    def statement(self) -> str:
        return super().statement if self.share is None else f"annotations of {self.share:.3g} of the source's objects"


@register("labels", "propagated")
class PropagatedLabels(SharedLabels):
    """Those of the source, and what registration propagated from them onto the target sections of training patients.

    Of a share, a propagated object counts where every annotation it was made from is in the share.
    """

    rule: ClassVar[Rule] = "propagated"
    uses_targets: ClassVar[bool] = True

    @property
    def statement(self) -> str:
        some = "annotations" if self.share is None else f"annotations of {self.share:.3g} of the objects"
        return f"{some} of the source, and those registration propagated to target sections"


@register("labels", "few_shot")
class FewShotLabels(Labels):
    """Those of the source, and ``k`` annotated patches (or all of ``k`` patients) of every target domain.

    A method for who can annotate a little, not one without target labels. Which ones is drawn by the seed of the
    training among the annotated patches of the targets' training patients, never by what is on them; patients are drawn
    in one order for all domains, so that as few of them as can be have to be annotated. Validation stays on the source.
    """

    reference: ClassVar[str] = "Motiian et al. 2017, Few-Shot Adversarial Domain Adaptation, arXiv 1711.02536"
    rule: ClassVar[Rule] = "few_shot"
    uses_targets: ClassVar[bool] = True
    uses_target_truth: ClassVar[bool] = True

    k: int = Field(8, ge=1, description="annotated patches or patients in every target domain")
    unit: Literal["patches", "patients"] = Field("patches", description="what k counts")

    @property
    def few(self) -> tuple[int, Literal["patches", "patients"]] | None:
        return self.k, self.unit

    @property
    def statement(self) -> str:
        return f"annotations of the source, and of {self.k} {self.unit} of every target domain"


@register("labels", "annotators")
class AnnotatorLabels(Labels):
    """Those of the source's annotators, fused pixel by pixel over all training patches, each class for itself.

    Where a slide has several annotators (files in the manifest's column ``annotations``). Majority; STAPLE (Warfield et
    al. 2004), one sensitivity and specificity per annotator over all patches; or weighted by reliability (Grote et al.
    2018). Undecided pixels are ignored. Slides with one annotator keep their labels, and validation those that the
    study fused (``fusion``). With ``align: aggnet`` the answers of each annotator are learned from.
    """

    reference: ClassVar[str] = (
        "Warfield et al. 2004 (STAPLE), doi 10.1109/TMI.2004.828354; Grote et al. 2018, IEEE Trans. Med. Imaging "
        "38:1284"
    )

    method: FusionMethod = Field("majority", description="majority, staple, or weighted (by reliability)")
    count: int | None = Field(
        None, ge=2, description="so many annotators, drawn by the seed of the training; empty: all"
    )
    reliability: dict[str, float] = Field(
        default_factory=dict,
        description="of each annotator, 0 to 1, for weighted; empty: the mean Dice with each of the others",
    )

    @property
    def crowd(self) -> CrowdOf:
        return self.method, self.count, tuple(sorted(self.reliability.items()))

    @property
    def statement(self) -> str:
        of = "all" if self.count is None else str(self.count)
        return f"annotations of the source by {of} of its annotators ({self.method})"


@register("labels", "all")
class AllLabels(Labels):
    """The targets' own annotations of training patients too: the ceiling, not a method."""

    rule: ClassVar[Rule] = "all"
    uses_targets: ClassVar[bool] = True
    uses_target_truth: ClassVar[bool] = True

    @property
    def statement(self) -> str:
        return "annotations of the source, and all of the targets' training patients"
