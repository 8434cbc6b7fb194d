"""Torchvision's two stages of a detector, taught where labels are known alone.

An anchor or a proposal that lies mainly on ignored pixels, with more than half of its area within the patch, is neither
positive nor negative: nobody has said what is there. COCO's evaluation treats its crowd regions alike, by intersection
over the area of the box (Lin et al. 2014, arXiv 1405.0312; pycocotools ``iscrowd``). The loss of masks leaves out the
cells of a mask that ignored pixels reach. Where every pixel is known, torchvision's own code runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss, project_masks_on_boxes
from torchvision.models.detection.rpn import RegionProposalNetwork

MAINLY = 0.5
"""A box of which a larger share than this is ignored teaches nothing."""

_Targets = list[dict[str, Tensor]]


def ignored_share(boxes: Tensor, known: Tensor) -> Tensor:
    """Share of each box that is ignored, of its area within the patch: float ``[n]``, 0 where none of it is within.

    Exact for boxes that divide pixels: the sum over a box follows from four values of the integral image, which is
    bilinear within a pixel.

    Args:
        boxes: float ``[n, 4]``, left, top, right, bottom in pixels. known: bool ``[H, W]``.
    """
    height, width = known.shape
    left, right = (boxes[:, side].float().clamp(0, width) for side in (0, 2))
    top, bottom = (boxes[:, side].float().clamp(0, height) for side in (1, 3))
    sums = functional.pad((~known).float().cumsum(0).cumsum(1), (1, 0, 1, 0))

    def before(rows: Tensor, columns: Tensor) -> Tensor:
        row, column = rows.long().clamp(max=height - 1), columns.long().clamp(max=width - 1)
        upper = torch.lerp(sums[row, column], sums[row, column + 1], columns - column)
        lower = torch.lerp(sums[row + 1, column], sums[row + 1, column + 1], columns - column)
        return torch.lerp(upper, lower, rows - row)

    ignored = before(bottom, right) - before(top, right) - before(bottom, left) + before(top, left)
    return ignored / ((right - left) * (bottom - top)).clamp(min=1e-6)


def _without_ignored(labels: Sequence[Tensor], boxes: Sequence[Tensor], targets: _Targets) -> list[Tensor]:
    """Labels of boxes, by image, with -1, which nothing samples, for those that lie mainly on ignored pixels."""
    return [
        torch.where(ignored_share(where, target["known"]) > MAINLY, -1, label)
        for label, where, target in zip(labels, boxes, targets, strict=True)
    ]


class KnownProposals(RegionProposalNetwork):
    """Torchvision's first stage; anchors that lie mainly on ignored pixels (``known`` of the targets) are left out."""

    def assign_targets_to_anchors(self, anchors: list[Tensor], targets: _Targets) -> tuple[list[Tensor], list[Tensor]]:
        labels, boxes = super().assign_targets_to_anchors(anchors, targets)
        return _without_ignored(labels, anchors, targets), boxes

    def compute_loss(
        self, objectness: Tensor, pred_bbox_deltas: Tensor, labels: list[Tensor], regression_targets: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        if all((label < 0).all() for label in labels):  # theirs is the mean of nothing
            return objectness.sum() * 0, pred_bbox_deltas.sum() * 0
        losses = super().compute_loss(objectness, pred_bbox_deltas, labels, regression_targets)
        return losses[0], losses[1]


class KnownHeads(RoIHeads):
    """Torchvision's second stage; proposals that lie mainly on ignored pixels, and masks there, are left out.

    The box of an object of which a part is ignored is that of its known part.
    """

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: _Targets | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        if not self.training or targets is None or all(target["known"].all() for target in targets):
            return super().forward(features, proposals, image_shapes, targets)  # type: ignore[no-any-return]
        proposals, matched, labels, wanted = self._sampled(proposals, targets)
        seen = self.box_head(self.box_roi_pool(features, proposals, image_shapes))
        logits, deltas = self.box_predictor(seen)
        if len(logits):
            classes, boxes = fastrcnn_loss(logits, deltas, labels, wanted)
        else:
            classes, boxes = logits.sum() * 0, deltas.sum() * 0
        losses = {"loss_classifier": classes, "loss_box_reg": boxes}
        if self.has_mask():
            positive = [label > 0 for label in labels]
            inside = [boxes[these] for boxes, these in zip(proposals, positive, strict=True)]
            seen = self.mask_head(self.mask_roi_pool(features, inside, image_shapes))
            numbers = [index[these] for index, these in zip(matched, positive, strict=True)]
            losses["loss_mask"] = mask_loss(self.mask_predictor(seen), inside, targets, numbers)
        return [], losses

    def _sampled(
        self, proposals: list[Tensor], targets: _Targets
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        """As torchvision's ``select_training_samples``: proposals, their objects, classes and changes of the box."""
        objects = [target["boxes"].to(proposals[0].dtype) for target in targets]
        proposals = self.add_gt_proposals(proposals, objects)
        matched, labels = self.assign_targets_to_proposals(proposals, objects, [target["labels"] for target in targets])
        labels = _without_ignored(labels, proposals, targets)
        taken = self.subsample(labels)
        chosen: list[list[Tensor]] = [
            [part[index] for part, index in zip(parts, taken, strict=True)] for parts in (proposals, matched, labels)
        ]
        boxes = [
            there[index] if len(there) else there.new_zeros(len(index), 4)
            for there, index in zip(objects, chosen[1], strict=True)
        ]
        return chosen[0], chosen[1], chosen[2], self.box_coder.encode(boxes, chosen[0])


def mask_loss(logits: Tensor, boxes: Sequence[Tensor], targets: _Targets, objects: Sequence[Tensor]) -> Tensor:
    """Binary cross-entropy of the masks of objects in boxes, mean over the cells that no ignored pixel reaches.

    Args:
        logits: ``[n, classes, m, m]``. boxes: by image ``[k, 4]``. objects: by image ``[k]``, rows of its targets.
    """
    side, parts = logits.shape[-1], list(zip(boxes, targets, objects, strict=True))
    labels = torch.cat([target["labels"][rows] for _, target, rows in parts])
    masks = torch.cat([_on_boxes(target["masks"], where, rows, side) for where, target, rows in parts])
    known = torch.cat([_on_boxes(target["known"][None], where, rows * 0, side) for where, target, rows in parts])
    seen = known > 1 - 1e-3
    if not seen.any():
        return logits.sum() * 0
    chosen = logits[torch.arange(len(labels), device=labels.device), labels]
    return functional.binary_cross_entropy_with_logits(chosen[seen], masks[seen])


def _on_boxes(masks: Tensor, boxes: Tensor, rows: Tensor, side: int) -> Tensor:
    result: Any = project_masks_on_boxes(masks, boxes, rows, side)
    return result  # type: ignore[no-any-return]
