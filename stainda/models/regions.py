"""The two stages of Faster and Mask R-CNN on a feature pyramid, put together of torchvision's parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torchvision.models.detection.image_list import ImageList

RATIOS = (0.5, 1.0, 2.0)
"""Height over width of anchors; those of the papers."""

SMALLEST_SIDE = 2
"""Pixels: what augmentation left of an object at the rim of a patch is none, if its box is narrower."""

BLOCK = 32
"""Masks that are laid on an image at once."""


@dataclass(frozen=True)
class RegionTargets:
    """The objects of one patch.

    Attributes:
        boxes: float ``[n, 4]``, left, top, right, bottom in pixels. labels: long ``[n]``, from 1.
        masks: uint8 ``[n, H, W]``. known: bool ``[H, W]``, not ignored.
    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor
    known: Tensor

    @classmethod
    def of(cls, classes: Tensor, numbers: Tensor) -> RegionTargets:
        """Of whole numbers ``[H, W]``: the class of each pixel (0 background, 255 ignored) and its object (0 none).

        The class of an object is the first of those that most of its pixels have.
        """
        from torchvision.ops import masks_to_boxes

        known = classes != 255
        shown = torch.where((classes > 0) & known, numbers, 0)
        values = torch.unique(shown)
        masks = shown == values[values > 0, None, None]
        if not len(masks):
            return cls(classes.new_zeros(0, 4).float(), classes.new_zeros(0).long(), masks.to(torch.uint8), known)
        boxes = masks_to_boxes(masks)
        boxes[:, 2:] += 1  # theirs end at the middle of the last pixel
        labels = torch.stack([torch.bincount(classes[mask]).argmax() for mask in masks])
        kept = ((boxes[:, 2:] - boxes[:, :2]) >= SMALLEST_SIDE).all(1)
        return cls(boxes[kept], labels[kept], masks[kept].to(torch.uint8), known)


@dataclass(frozen=True)
class Detections:
    """Objects detected in one image.

    Attributes:
        boxes: float ``[n, 4]``, pixels. scores: float ``[n]``, falling.
        masks: float ``[n, 1, m, m]``, probability over the box; ``None``: the network has boxes alone.
    """

    boxes: Tensor
    scores: Tensor
    masks: Tensor | None


class Regions(nn.Module):
    """Regions proposed on a pyramid, then classified, fitted and (``masks``) outlined.

    Losses, sampling and non-maximum suppression are torchvision's, with the thresholds of the papers; what lies on
    ignored pixels teaches nothing (:mod:`~stainda.models.ignored_regions`).

    Args:
        levels: maps of the pyramid. channels: of each. n_classes: with the background.
        hidden, proposals, sampled: see :class:`~stainda.models.two_stage.TwoStageNetwork`.
    """

    def __init__(
        self, levels: int, channels: int, n_classes: int, *, masks: bool, hidden: int, proposals: int, sampled: int
    ) -> None:
        super().__init__()
        from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
        from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
        from torchvision.models.detection.rpn import AnchorGenerator, RPNHead
        from torchvision.ops import MultiScaleRoIAlign

        from stainda.models.ignored_regions import KnownHeads, KnownProposals

        self._names = [str(level) for level in range(levels)]
        self.smooth = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(levels))
        anchors = AnchorGenerator(_sizes(levels, 32.0), (RATIOS,) * levels)
        most = {"training": proposals, "testing": proposals}
        self.rpn = KnownProposals(
            anchors, RPNHead(channels, anchors.num_anchors_per_location()[0]), 0.7, 0.3, 256, 0.5, most, most, 0.7
        )
        self.roi_heads = KnownHeads(
            MultiScaleRoIAlign(self._names, 7, 2), TwoMLPHead(channels * 7**2, hidden),
            FastRCNNPredictor(hidden, n_classes), 0.5, 0.5, sampled, 0.25, None, 0.05, 0.5, proposals,
        )  # fmt: skip
        self.head_names: tuple[str, ...] = ("roi_heads.box_predictor.",)
        if masks:
            self.roi_heads.mask_roi_pool = MultiScaleRoIAlign(self._names, 14, 2)
            self.roi_heads.mask_head = MaskRCNNHeads(channels, (channels,) * 4, 1)
            self.roi_heads.mask_predictor = MaskRCNNPredictor(channels, channels, n_classes)
            self.head_names += ("roi_heads.mask_predictor.mask_fcn_logits.",)

    def propose(self, diameter: float) -> None:
        """Anchors for objects of about this diameter d, pixels.

        Level k of the pyramid, from 0, has anchors of d 2^k and half of that, each in three proportions: objects from
        half to eight times d have an anchor of their size, and those up to twice d one on the finest or the next level.
        """
        from torchvision.models.detection.rpn import AnchorGenerator

        levels = len(self._names)
        self.rpn.anchor_generator = AnchorGenerator(_sizes(levels, diameter), (RATIOS,) * levels)

    def loss(self, levels: Sequence[Tensor], targets: Sequence[RegionTargets], size: tuple[int, int]) -> Tensor:
        """Sum of the losses: objectness and boxes of anchors; classes, boxes and masks of sampled regions."""
        wanted = [vars(target) for target in targets]
        features, images = self._seen(levels, size)
        proposals, first = self.rpn(images, features, wanted)
        _, second = self.roi_heads(features, proposals, images.image_sizes, wanted)
        return torch.stack([*first.values(), *second.values()]).sum()

    def detect(self, levels: Sequence[Tensor], size: tuple[int, int], least_score: float) -> list[Detections]:
        """Objects by image, their scores falling, none below ``least_score``; the module must be in evaluation."""
        features, images = self._seen(levels, size)
        self.roi_heads.score_thresh = least_score
        proposals, _ = self.rpn(images, features)
        objects, _ = self.roi_heads(features, proposals, images.image_sizes)
        return [Detections(each["boxes"], each["scores"], each.get("masks")) for each in objects]

    def _seen(self, levels: Sequence[Tensor], size: tuple[int, int]) -> tuple[dict[str, Tensor], ImageList]:
        """Smoothed maps by name, and what torchvision wants to know of images: their size alone."""
        from torchvision.models.detection.image_list import ImageList

        smoothed = [smooth(maps) for smooth, maps in zip(self.smooth, levels, strict=True)]
        images = ImageList(levels[0].new_empty(len(levels[0]), 0, *size), [size] * len(levels[0]))
        return dict(zip(self._names, smoothed, strict=True)), images


def _sizes(levels: int, diameter: float) -> tuple[tuple[float, float], ...]:
    return tuple((diameter * 2.0 ** (level - 1), diameter * 2.0**level) for level in range(levels))


def paint(detections: Detections, size: tuple[int, int]) -> Tensor:
    """Long ``[H, W]``: number of the object of each pixel, from 1 in the order of scores; 0 where none covers it.

    Of masks that overlap, those are left out of which better ones take more than half (as Kirillov et al. 2019 merge
    them); a pixel that several of the others cover is of the most probable there.
    """
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    boxes, masks = detections.boxes, detections.masks
    if masks is None:
        masks = _ellipses(28).to(boxes).expand(len(boxes), 1, -1, -1)
    kept, best = _kept(masks, boxes, size), boxes.new_full(size, 0.5)
    numbers = torch.zeros(size, dtype=torch.long, device=boxes.device)
    for start in range(0, len(kept), BLOCK):
        part = kept[start : start + BLOCK]
        value, index = paste_masks_in_image(masks[part], boxes[part], size)[:, 0].max(0)
        numbers = torch.where(value > best, index + start + 1, numbers)
        best = torch.maximum(best, value)
    return numbers


def _kept(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> list[int]:
    """Which masks show something new: at least half of it is not of better ones that are kept."""
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    taken, kept = torch.zeros(size, dtype=torch.bool, device=boxes.device), []
    for start in range(0, len(boxes), BLOCK):
        part = slice(start, start + BLOCK)
        for index, mask in enumerate(paste_masks_in_image(masks[part], boxes[part], size)[:, 0] >= 0.5, start=start):
            free = mask & ~taken
            if mask.any() and 2 * int(free.sum()) >= int(mask.sum()):
                taken |= mask
                kept.append(index)
    return kept


def _ellipses(side: int) -> Tensor:
    """``1 - r² / 2`` with r the distance from the middle in half axes: above .5 in the ellipse, float ``[side, side]``.

    Of two ellipses that overlap, a pixel is so of the one in which it lies deeper.
    """
    away = (torch.arange(side) + 0.5) * 2 / side - 1
    return 1 - (away[:, None] ** 2 + away[None, :] ** 2) / 2
