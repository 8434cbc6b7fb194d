"""Two-stage networks: Faster R-CNN (Ren et al. 2015, arXiv 1506.01497), Mask R-CNN (He et al. 2017, arXiv 1703.06870).

Both propose objects on a feature pyramid (Lin et al. 2017, arXiv 1612.03144), and both have the semantic branch of
Panoptic FPN (Kirillov et al. 2019, arXiv 1901.02446) on the same pyramid: class scores at every pixel. These are the
network's logits, as of every other network, so that thresholds, Dice and align parts are what they are elsewhere. The
proposed objects divide the foreground.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch

from stainda.errors import ConfigError
from stainda.models.blocks import check_sizes
from stainda.models.pretrained import SmpNetwork
from stainda.models.regions import Regions, RegionTargets, paint

LEVELS = ("p2", "p3", "p4", "p5")
_OWN = {"decoder", "decoder_pyramid_channels", "decoder_segmentation_channels", "decoder_merge_policy"}


class TwoStageNetwork(SmpNetwork):
    """An encoder, a feature pyramid, a semantic branch on it, and torchvision's stages for regions.

    Args:
        in_channels, n_classes: ``n_classes`` counts the background.
        encoder: as of :class:`SmpNetwork`, with maps at strides of 4 to 32 pixels.
        width: features of the pyramid; 256 in the papers.
        semantic_width: features of the semantic branch, a multiple of 32; 128 in the paper.
        hidden: features of the two dense layers that see a region; 1024 in the papers.
        proposals: regions of an image that are looked at, at most, so that no more objects can come out.
        sampled: of these, how many of each patch teach; 512 in the papers.
        options: further arguments of the encoder or of the decoder ``fpn``.

    Raises:
        ConfigError: a value outside its range, or an encoder that the decoder does not take.
    """

    masks: ClassVar[bool]

    def __init__(
        self,
        in_channels: int = 3,
        n_classes: int = 2,
        *,
        encoder: str = "resnet50",
        width: int = 256,
        semantic_width: int = 128,
        hidden: int = 1024,
        proposals: int = 1000,
        sampled: int = 128,
        **options: object,
    ) -> None:
        name = type(self).__name__
        check_sizes(name, width=width, hidden=hidden, proposals=proposals, sampled=sampled)
        if semantic_width % 32 or semantic_width < 32:
            raise ConfigError(f"'semantic_width' of {name} must be a multiple of 32, not {semantic_width}")
        if own := sorted(_OWN & set(options)):
            raise ConfigError(
                f"{name} has no parameter {own[0]!r}", remedy="Its pyramid is set by width and semantic_width"
            )
        super().__init__(
            in_channels, n_classes, decoder="fpn", encoder=encoder, decoder_pyramid_channels=width,
            decoder_segmentation_channels=semantic_width, **options,
        )  # fmt: skip
        self.regions = Regions(
            len(LEVELS), width, n_classes, masks=self.masks, hidden=hidden, proposals=proposals, sampled=sampled
        )
        self.head_names = (*self.head_names, *(f"regions.{name}" for name in self.regions.head_names))

    @property
    def pyramid(self) -> tuple[str, ...]:
        """Paths of the layers that regions are read from, the finest first."""
        return tuple(f"net.decoder.{level}" for level in LEVELS)

    def propose(self, diameter: float) -> None:
        """Let objects of about this diameter be proposed, pixels; see :meth:`Regions.propose`."""
        self.regions.propose(diameter)

    def region_loss(self, levels: Sequence[torch.Tensor], classes: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """The sum of the losses of both stages, a scalar.

        Args:
            levels: outputs of :attr:`pyramid`.
            classes: whole numbers ``[N, H, W]``: 0 background, 1… classes, 255 ignored: anchors and proposals that lie
                mainly there, and masks there, teach nothing.
            numbers: whole numbers ``[N, H, W]``: of the object that a pixel is of, 0 none.
        """
        targets = [RegionTargets.of(*pair) for pair in zip(classes, numbers, strict=True)]
        height, width = classes.shape[-2:]
        return self.regions.loss(levels, targets, (height, width))

    @torch.no_grad()
    def detect(self, levels: Sequence[torch.Tensor], size: tuple[int, int], least_score: float) -> torch.Tensor:
        """Which detected object each pixel is of: long ``[N, H, W]``, 1…n, 0 none.

        A pixel that several objects cover is of the one whose mask is most probable there. Objects of a network without
        masks are the ellipses in their boxes.
        """
        return torch.stack([paint(objects, size) for objects in self.regions.detect(levels, size, least_score)])


class FasterRcnn(TwoStageNetwork):
    """Boxes of objects; see :class:`TwoStageNetwork`."""

    masks = False


class MaskRcnn(TwoStageNetwork):
    """Boxes of objects, and a mask in each; see :class:`TwoStageNetwork`."""

    masks = True
