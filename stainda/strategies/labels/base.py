"""Which labels a strategy may learn from."""

from __future__ import annotations

from typing import ClassVar, Literal

from stainda.strategies.parts import Field, Part, register

Rule = Literal["source", "propagated", "few_shot", "all"]


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
    def statement(self) -> str:
        """Whose annotations were learned from, in a phrase for the report."""
        return "annotations of the source"


@register("labels", "source")
class SourceLabels(Labels):
    """Annotations of the source domains' training patients."""


@register("labels", "propagated")
class PropagatedLabels(Labels):
    """Those of the source, and what registration propagated from them onto the target sections of training patients."""

    rule: ClassVar[Rule] = "propagated"
    uses_targets: ClassVar[bool] = True

    @property
    def statement(self) -> str:
        return "annotations of the source, and those registration propagated to target sections"


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


@register("labels", "all")
class AllLabels(Labels):
    """The targets' own annotations of training patients too: the ceiling, not a method."""

    rule: ClassVar[Rule] = "all"
    uses_targets: ClassVar[bool] = True
    uses_target_truth: ClassVar[bool] = True

    @property
    def statement(self) -> str:
        return "annotations of the source, and all of the targets' training patients"
