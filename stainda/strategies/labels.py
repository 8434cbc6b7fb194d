"""Which labels a strategy may learn from."""

from __future__ import annotations

from typing import ClassVar, Literal

from stainda.strategies.parts import Part, register


class Labels(Part):
    """Choice of labels. The data layer enforces it: a label outside the choice cannot be read.

    Class attributes:
        rule: the word of ``patches.TrainingData`` for the choice.
        uses_targets: labelled patches of target domains are among those the network learns from.
        uses_target_truth: they are the targets' own annotations, which only the ceiling may see.
    """

    rule: ClassVar[Literal["source", "propagated", "all"]] = "source"
    uses_targets: ClassVar[bool] = False
    uses_target_truth: ClassVar[bool] = False


@register("labels", "source")
class SourceLabels(Labels):
    """Annotations of the source domains' training patients."""


@register("labels", "propagated")
class PropagatedLabels(Labels):
    """Those of the source, and what registration carried from them onto the target sections of training patients."""

    rule: ClassVar[Literal["source", "propagated", "all"]] = "propagated"
    uses_targets: ClassVar[bool] = True


@register("labels", "all")
class AllLabels(Labels):
    """The targets' own annotations of training patients too: the ceiling, not a method."""

    rule: ClassVar[Literal["source", "propagated", "all"]] = "all"
    uses_targets: ClassVar[bool] = True
    uses_target_truth: ClassVar[bool] = True
