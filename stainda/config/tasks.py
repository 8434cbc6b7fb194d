"""What a study looks for, and how the network answers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from stainda.config.frozen import Frozen
from stainda.config.parts import PartConfig


class TaskConfig(Frozen):
    """What is to be found: pixels (segmentation), pixels and objects that touch (instances), middles (points), or an
    answer for each patch (classification)."""

    name: str = Field("task", description="as tables and report call it")
    kind: Literal["segmentation", "classification", "instances", "points"] = Field(
        "segmentation",
        description="whether pixels or patches are classified, objects that touch are separated by a head of their "
        "own, or middles of objects are found",
    )
    instances: PartConfig = Field(
        PartConfig(name="contours"),
        description="instances: the head that separates objects, by name (stainda list heads) or with its parameters",
    )
    instances_weight: float = Field(1.0, gt=0, description="instances: of the head's loss next to that of the classes")
    sigma_um: float | None = Field(
        None, gt=0, description="points: standard deviation of the disc about a point, micrometres; needs mpp"
    )
    sigma_px: float | None = Field(None, gt=0, description="points: the same in level-0 pixels, for slides without mpp")
    classes: tuple[str, ...] = Field(
        ("glomerulus",), min_length=1, description="classes of the annotations that are to be found"
    )
    min_object_um2: float | None = Field(None, description="smaller objects are not reported; needs mpp")
    min_object_px: float = Field(0, ge=0, description="the same in level-0 pixels squared, for slides without mpp")
    split_touching: bool = Field(
        False, description="cut objects that touch at their necks (watershed on the distance to their outline)"
    )
    class_weights: Literal["none", "balanced"] | dict[str, float] = Field(
        "none",
        description="of the classes in the loss: all alike, by how rare each is in the batches, or by name "
        "('background' too; classes that are not named weigh 1)",
    )
    centre: float = Field(
        0.25, gt=0, le=1, description="classification: a patch has the class of a square of this share of its side"
    )
    covered: float = Field(
        0.5, gt=0, le=1, description="classification: share of the square from which the patch is of a class"
    )
    clear: float = Field(
        0.1, ge=0, lt=1, description="classification: share up to which it is of none; between the two it is ignored"
    )
    stride: int | None = Field(
        None, ge=1, description="classification: pixels from window to window at prediction; default the square's side"
    )
    objects: Literal["components", "peaks"] = Field(
        "components", description="classification: outlines of the map of answers, or discs at its peaks"
    )
    object_um: float | None = Field(
        None,
        gt=0,
        description="diameter of an object: of the discs at peaks (classification), and about which two-stage networks "
        "propose objects (instances); needs mpp",
    )
    object_px: float | None = Field(None, gt=0, description="the same in level-0 pixels, for slides without mpp")
    description: str = Field("", description="for stainda list tasks")

    @model_validator(mode="after")
    def _consistent(self) -> TaskConfig:
        if "background" in (name.strip().casefold() for name in self.classes):
            raise ValueError("background is what is of no class; leave it out of classes")
        if self.clear >= self.covered:
            raise ValueError(f"clear ({self.clear}) must be below covered ({self.covered})")
        if isinstance(self.class_weights, dict):
            known = ("background", *self.classes)
            if unknown := [name for name in self.class_weights if name not in known]:
                raise ValueError(f"class_weights names {unknown[0]!r}; the classes are {', '.join(known)}")
            if min(self.class_weights.values(), default=1) < 0 or not any(
                self.class_weights.get(name, 1) > 0 for name in known
            ):
                raise ValueError("class_weights must be at least 0, and one above 0")
        if self.kind == "classification" and self.objects == "peaks" and not (self.object_um or self.object_px):
            raise ValueError("objects: peaks needs the diameter of an object: object_um or object_px")
        if self.kind == "points" and not (self.sigma_um or self.sigma_px):
            raise ValueError("kind: points needs the size of the disc about a point: sigma_um or sigma_px")
        if self.kind in ("instances", "points") and self.split_touching:
            raise ValueError(f"split_touching is of a segmentation; kind: {self.kind} separates objects by itself")
        return self

    @property
    def network(self) -> Literal["segmentation", "classification"]:
        """Kind of network that answers: one that scores every pixel, or one that scores a patch."""
        return "classification" if self.kind == "classification" else "segmentation"

    def cell(self, size: int) -> int:
        """Pixels from window to window of a classification whose patches have ``size`` pixels."""
        return self.stride or max(1, round(self.centre * size))
