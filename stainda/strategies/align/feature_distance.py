"""Feature distance: objects keep the features they had before the network learned the task."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from stainda.strategies.align.base import FeatureAlign, Site, Step
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stainda.strategies.align.support.buffers import Copy


@register("align", "feature_distance")
class FeatureDistance(FeatureAlign):
    """Features of objects stay near those of the network at its start, whose weights know more than the source.

    ``mean_p ‖F_start(x)_p - F(x)_p‖`` over the positions p of the layer of which objects cover at least ``covered``
    (of a classification: all positions of patches with an object). Means something where the network starts from
    trained weights (``model.weights`` or ``training.init``); from random ones it holds the network back. Each step runs
    the first network up to the layer.
    """

    reference: ClassVar[str] = "Hoyer et al. 2022, DAFormer (thing-class ImageNet feature distance), arXiv 2111.14887"
    needs_targets: ClassVar[bool] = False
    needs_pixels: ClassVar[bool] = True

    weight: float = Field(0.005, ge=0, description="of the distance")
    covered: float = Field(0.75, ge=0, le=1, description="share of a position that objects cover; 0: all positions")

    def modules(self, site: Site) -> dict[str, nn.Module]:
        from stainda.strategies.align.support.buffers import Copy

        assert site.network is not None
        return {"start": Copy(site.network)}

    def losses(self, step: Step) -> dict[str, Tensor]:
        return {"feature_distance": self.weight * self._apart(step)}

    def distance(self, step: Step) -> Tensor | None:
        return self._apart(step)

    def _apart(self, step: Step) -> Tensor:
        import torch

        from stainda.strategies.features import FeatureTap

        source = step.source
        assert source.features is not None and source.labels is not None
        start = cast("Copy", step.modules["start"]).network.eval()
        with torch.no_grad(), step.autocast():
            known = FeatureTap(start, self.layer).until(source.images)
        apart = (source.features - known).norm(dim=1)
        where = covered_positions(source.labels, apart, self.covered)
        return (apart * where).sum() / where.sum().clamp(min=1)


def covered_positions(labels: Tensor, like: Tensor, share: float) -> Tensor:
    """Which positions of a layer show an object over at least this share of their pixels: float of the shape of
    ``like`` (``[N, h, w]`` or ``[N]``), 0 or 1.

    Args:
        labels: ``[N, H, W]`` or ``[N]``; 255 shows none.
    """
    from torch.nn import functional

    shown = ((labels > 0) & (labels != 255)).to(like)
    if shown.dim() == 1:
        shown = shown.view(-1, *[1] * (like.dim() - 1))
    elif like.dim() == 1:
        shown = shown.mean((1, 2))
    else:
        shown = functional.adaptive_avg_pool2d(shown[:, None], (like.shape[1], like.shape[2]))[:, 0]
    return (shown >= share).to(like).expand_as(like)
