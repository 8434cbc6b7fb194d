"""AC-GAN: a generator makes patches of each class, and the classifier also tells real patches from made ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from stainda.strategies.align.base import DomainAnswers, FeatureAlign, JudgedAlign, Site, Step
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor, nn


@register("align", "ac_gan")
class AcGan(JudgedAlign, FeatureAlign):
    """The classifier of patches is the discriminator of a GAN with two heads: the class, and real or made.

    A generator ``G(z, c)`` turns noise and a class into a patch. With the probabilities ``D`` of being real (a head of
    the part's own on the layer) and ``P`` of the class (the network's own last layer):

    - the network learns, next to the task on labelled patches, ``weight · L_real + class_weight · L_class``, with
      ``L_real = - (mean log D(x) + mean log(1 - D(G(z, c)))) / 2`` over all real patches x, labelled or not, of
      sources and targets, and ``L_class = - mean log P(c | G(z, c))``;
    - the generator learns ``- mean log D(G(z, c)) - mean log P(c | G(z, c))``, through a network that stays as it is
      (Goodfellow et al. 2014, the form that does not saturate).

    So patches without labels shape the features that classes are read from. Kapil et al. train it on few labels for
    the tumour proportion score, where classes are tumour with and without stained membranes. Both sides take one
    step at once; made patches leave no trace in running batch statistics. Each step runs the network on made patches
    twice.
    """

    tasks: ClassVar[tuple[str, ...]] = ("classification",)
    compares: ClassVar[bool] = True
    needs_pixels: ClassVar[bool] = True
    reference: ClassVar[str] = (
        "Odena et al. 2017, Conditional Image Synthesis with Auxiliary Classifier GANs, arXiv 1610.09585; Kapil et al. "
        "2018, Deep Semi Supervised Generative Learning for Automated Tumor Proportion Scoring on NSCLC Tissue Needle "
        "Biopsies, Scientific Reports 8:17343"
    )

    layer: str = Field("decoder", description="layer that the head of real or made reads: decoder, or a module path")
    weight: float = Field(1.0, ge=0, description="of real or made, in the network")
    class_weight: float = Field(1.0, ge=0, description="of the classes of made patches, in the network")
    noise: int = Field(64, ge=1, description="numbers of noise that a patch is made of")
    hidden: int = Field(32, ge=1, description="channels of the generator at its finest, and of the head")

    def modules(self, site: Site) -> dict[str, nn.Module]:
        from stainda.strategies.align.support.discriminators import PooledDiscriminator
        from stainda.strategies.align.support.generator import PatchGenerator

        seen = int(getattr(site.network, "in_channels", 3))
        return {
            "generator": PatchGenerator(self.noise, site.n_classes, self.hidden, seen),
            "discriminator": PooledDiscriminator(site.channels, self.hidden, 2, self.discriminator_norm),
        }

    @property
    def judges_vectors(self) -> bool:
        return True

    def losses(self, step: Step) -> dict[str, Tensor]:
        from torch.nn import functional

        from stainda.strategies.align.support.rows import frozen_call

        growth, judge = self.growth(step), step.modules["discriminator"]
        images, classes = self._made(step)
        features, logits = self._seen(step, images.detach())
        real, made = judge(self._real(step)), judge(features)
        by_judge = 0.5 * (_answer(real, 1) + _answer(made, 0))
        features, logits_of_made = self._seen(step, images, frozen=True)
        fooled = _answer(frozen_call(judge, features), 1) + functional.cross_entropy(logits_of_made, classes)
        return {
            "real": self.weight * growth * by_judge,
            "made_class": self.class_weight * growth * functional.cross_entropy(logits, classes),
            "generator": fooled,
        }

    def verdicts(self, step: Step) -> dict[str, DomainAnswers]:
        import torch

        judge = step.modules["discriminator"]
        real, made = judge(self._real(step)), judge(self._seen(step, self._made(step)[0])[0])
        labels = torch.cat([real.new_ones(len(real)), real.new_zeros(len(made))]).long()
        return {
            "discriminator": DomainAnswers(torch.cat([real, made]), labels, torch.arange(len(labels)).to(labels.device))
        }

    def _made(self, step: Step) -> tuple[Tensor, Tensor]:
        """Patches ``[N, C, H, W]`` as many as are labelled, and the class ``[N]`` that each was made for."""
        import torch

        from stainda.strategies.align.support.generator import PatchGenerator

        images, generator = step.source.images, step.modules["generator"]
        assert isinstance(generator, PatchGenerator)
        n, kinds = len(images), generator.n_classes
        noise = torch.randn(n, self.noise, generator=step.generator).to(images.device)
        classes = torch.randint(kinds, (n,), generator=step.generator).to(images.device)
        with step.autocast():
            return generator(noise, classes, tuple(images.shape[2:])), classes

    def _real(self, step: Step) -> Tensor:
        """Features of all patches of the step, pooled over space: ``[N, C]``."""
        import torch

        from stainda.strategies.features import pooled

        batches = [batch for batch in (step.source, step.source_unlabelled, step.target) if batch is not None]
        return torch.cat([pooled(batch.features) for batch in batches if batch.features is not None])

    def _seen(self, step: Step, images: Tensor, frozen: bool = False) -> tuple[Tensor, Tensor]:
        """Features of the layer and logits for made patches, float32; ``frozen``: gradients reach the patches alone."""
        from stainda.strategies.align.support.rows import frozen_call
        from stainda.strategies.capture import listening
        from stainda.strategies.norm.frozen_statistics import quiet

        with quiet(step.network), listening(step.network, (self.layer,)) as outputs, step.autocast():
            logits = frozen_call(step.network, images) if frozen else step.network(images)
        return outputs[0], logits.float()


def _answer(logits: Tensor, label: int) -> Tensor:
    """Cross entropy of logits ``[N, 2]`` where all are of one side."""
    import torch
    from torch.nn import functional

    return functional.cross_entropy(logits, torch.full((len(logits),), label, device=logits.device))
