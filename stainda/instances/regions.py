"""Objects that a two-stage network detects (Faster R-CNN, Mask R-CNN), and which head a study's networks have."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from stainda.config import ModelConfig, PartConfig, PatchConfig, StrategyConfig, StudyConfig, TaskConfig
from stainda.errors import ConfigError
from stainda.instances.base import DepthHead, build_head, register

REGIONS = "regions"
TWO_STAGE = ("faster_rcnn", "mask_rcnn")
"""Names of networks that detect objects themselves."""


@register(REGIONS)
class RegionHead(DepthHead):
    """Objects are proposed, fitted and outlined by a network of two stages: ``faster_rcnn`` or ``mask_rcnn``.

    The network learns from boxes and masks of objects. On a tile each of its detections with a score of at least
    ``least_score`` takes the pixels of its mask (of Faster R-CNN, which has boxes alone: of the ellipse in its box); a
    pixel that several cover is of the one whose mask is most probable there. One of which better ones cover more than
    half is left out (the merging of the third paper). What is blended over tiles is how deep a pixel lies in its
    detection, from 0 to 1, so that detections of neighbouring tiles meet as one object. Connected foreground of the
    classes is divided by the basins of that map, as by the head ``distance``: what no detection covers goes to its
    neighbours, and a piece without any is one object.
    """

    reference: ClassVar[str] = (
        "Ren et al. 2015, Faster R-CNN, arXiv 1506.01497; He et al. 2017, Mask R-CNN, arXiv 1703.06870; classes of "
        "pixels next to them: Kirillov et al. 2019, Panoptic Feature Pyramid Networks, arXiv 1901.02446"
    )

    object_px: float = Field(
        32.0, gt=1, description="diameter of an object, pixels the network sees; a study takes it from task.object_um"
    )
    least_score: float = Field(0.5, gt=0, lt=1, description="of a detection that divides foreground")


def task_for(study: StudyConfig, strategy: StrategyConfig) -> TaskConfig:
    """A study's task as the network of one of its strategies answers it: with the strategy's head, where it names one.

    A two-stage network brings the head ``regions``, whatever head the task names for other networks; the parameters
    that the task gives it are kept. The diameter of objects, about which sizes of anchors are laid, is ``object_um``
    (or ``object_px``) of the task in pixels the network sees.

    Raises:
        ConfigError: the task is not of instances, and the strategy names a head or its network is of two stages; the
            size of objects is not known; or ``regions`` is named, and the network is none of two stages.
    """
    model, head = study.model_of(strategy), strategy.instances
    if head is None:
        return with_regions(study.task, model, study.patches)
    place = f"strategy {strategy.name!r}: instances"
    if study.task.kind != "instances":
        raise ConfigError(
            f"head {head.name!r} separates objects, and the task is of {study.task.kind}",
            file=place, remedy="Leave it out, or take a task of kind: instances",
        )  # fmt: skip
    if model.name in TWO_STAGE and head.name != REGIONS:
        raise ConfigError(
            f"network {model.name!r} detects objects itself, and the head is {head.name!r}",
            file=place, remedy=f"Leave it out or take {REGIONS}, or another model",
        )  # fmt: skip
    build_head(head, place)
    return with_regions(study.task.model_copy(update={"instances": head}), model, study.patches, place)


def with_regions(
    task: TaskConfig, model: ModelConfig, patches: PatchConfig, place: str = "task.instances"
) -> TaskConfig:
    """A task with the head that the network brings, see :func:`task_for`; ``place`` names the task's head."""
    named = task.instances.name == REGIONS and task.kind == "instances"
    if model.name not in TWO_STAGE:
        if named:
            raise ConfigError(
                f"network {model.name!r} detects no regions", file=place,
                remedy="Take a model whose name is faster_rcnn or mask_rcnn, or another head: contours, distance, star",
            )  # fmt: skip
        return task
    if task.kind != "instances":
        raise ConfigError(
            f"network {model.name!r} detects objects, and the task is of {task.kind}", file="model",
            remedy="Take a task of kind: instances, or another network (the decoder fpn of smp has the same pyramid)",
        )  # fmt: skip
    params = dict(task.instances.params) if named else {}
    params.setdefault("object_px", round(_diameter(task, model, patches), 2))
    return task.model_copy(update={"instances": PartConfig(name=REGIONS, params=params)})


def _diameter(task: TaskConfig, model: ModelConfig, patches: PatchConfig) -> float:
    """Of objects, in pixels the network sees."""
    if task.object_um is not None and patches.mpp is not None:
        return task.object_um / patches.mpp
    if task.object_px is not None and patches.downsample is not None:
        return task.object_px / patches.downsample
    wanted, scale = ("object_um", "patches.mpp") if patches.mpp is not None else ("object_px", "patches.downsample")
    raise ConfigError(
        f"network {model.name!r} proposes objects of a known size, and task.{wanted} is not given", file="task",
        remedy=f"Set task.{wanted} to the diameter of an object: with {scale} it says how many pixels that is",
    )  # fmt: skip
