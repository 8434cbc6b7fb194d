"""SagNet: what a patch shows is learned from its content, whatever its style."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from stainda.strategies.align.base import FeatureAlign, Site, Step
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor, nn


@register("align", "sagnet")
class SagNet(FeatureAlign):
    """The task is learned under styles of other patches, and styles alone are not to tell the classes.

    Style is mean and standard deviation of a layer's channels over a patch. The network learns the task with the
    layer's style moved towards that of another patch by a random share (in place of the plain task loss). A head of
    the part's own sees the layer with the patch's style on the content of another patch and learns which classes the
    patch shows; up to the layer the network learns to make that head answer evenly (``weight``). Of a segmentation the
    head answers with the class of most labelled object pixels, or background. Gradients do not pass through the styles
    that are mixed in, as in MixStyle. Each step runs the network once more.
    """

    reference: ClassVar[str] = "Nam et al. 2021, Reducing Domain Gap by Reducing Style Bias, arXiv 1910.11645"
    needs_targets: ClassVar[bool] = False
    needs_pixels: ClassVar[bool] = True
    replaces_task: ClassVar[bool] = True

    layer: str = Field("early", description="layer whose style is changed: early, bottleneck, decoder or a module path")
    weight: float = Field(0.1, ge=0, description="of the loss that makes styles say nothing of the classes")
    hidden: int = Field(64, ge=1, description="channels of the head that reads styles")

    def modules(self, site: Site) -> dict[str, nn.Module]:
        from torch import nn

        return {
            "style_head": nn.Sequential(
                nn.Conv2d(site.channels, self.hidden, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                nn.Linear(self.hidden, site.n_classes),
            )
        }  # fmt: skip

    def losses(self, step: Step) -> dict[str, Tensor]:
        import torch
        from torch.nn import functional

        from stainda.strategies.align.support.rows import frozen_call
        from stainda.strategies.augment.mixstyle import mix_styles
        from stainda.strategies.capture import changing
        from stainda.strategies.norm.frozen_statistics import quiet

        source, n = step.source, len(step.source.images)
        assert source.labels is not None and source.features is not None
        share, order = torch.rand(n, generator=step.generator), torch.randperm(n, generator=step.generator)
        with quiet(step.network), changing(step.network, self.layer, lambda maps: mix_styles(maps, share, order)):
            logits = step.run(source.images, source)
        styled = with_content_of(source.features, torch.randperm(n, generator=step.generator))
        head = step.modules["style_head"]
        answer = functional.cross_entropy(head(styled.detach()), shown_class(source.labels), ignore_index=255)
        return {
            "task": step.task_loss_of(logits),
            "style": torch.nan_to_num(answer),
            "evenness": self.weight * unevenness(frozen_call(head, styled)),
        }

    def distance(self, step: Step) -> Tensor | None:
        import torch

        features = step.source.features
        assert features is not None
        order = torch.randperm(len(features), generator=step.generator)
        return unevenness(step.modules["style_head"](with_content_of(features, order)))


def with_content_of(features: Tensor, order: Tensor) -> Tensor:
    """Features ``[N, C, h, w]`` with their own means and standard deviations over space, on the content of others.

    Args:
        order: long ``[N]``, whose content each gets; no gradient passes through it.
    """
    mean, spread = features.mean((2, 3), keepdim=True), (features.var((2, 3), keepdim=True) + 1e-6).sqrt()
    content = ((features - mean) / spread).detach()[order.to(features.device)]
    return content * spread + mean


def unevenness(logits: Tensor) -> Tensor:
    """Mean cross-entropy of the even answer with ``softmax(logits)``, less what it is at best: 0 for even answers."""
    import math

    return -logits.float().log_softmax(1).mean() - math.log(logits.shape[1])


def shown_class(labels: Tensor) -> Tensor:
    """What each patch shows, long ``[N]``: of label maps ``[N, H, W]`` the class of most object pixels, 0 where there
    are none, 255 where nothing is labelled; of labels ``[N]`` themselves."""
    import torch

    if labels.dim() == 1:
        return labels
    flat = labels.flatten(1)
    objects = torch.where((flat > 0) & (flat != 255), flat, -1)
    result = torch.stack([own[own > 0].mode().values if (own > 0).any() else own.new_zeros(()) for own in objects])
    return torch.where((flat == 255).all(1), 255, result)
