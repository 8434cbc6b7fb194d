"""AggNet: the truth behind several annotators' answers is estimated with the network while it learns."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from stainda.strategies.align.base import Align, Site, Step
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stainda.strategies.align.support.confusions import Confusions


@register("align", "aggnet")
class AggNet(Align):
    """An aggregation layer: annotators' sensitivity and specificity, and the truth, by EM next to the network.

    E-step, at every pixel (or patch) of a batch: ``μ_k ∝ p_k^b q_k^(1-b) Π_a π^a_k(v_a)``, p the network's
    probabilities, q the share of each class so far (STAPLE's prior), v_a what annotator a answers, ``π^a_k(v)`` how
    probable that answer is where the truth is k: with one class ``π^a_1(1)`` is the sensitivity and ``π^a_0(0)`` the
    specificity, with several a matrix of confusion. Silent annotators have no factor. M-step:
    ``π^a_k(v) ∝ Σ μ_k [v_a = v]`` over the batches so far (older ones fade), and a step of the network on the expected
    task loss ``E_{y ~ μ}[loss]``, whatever ``training.loss`` is, classes weighted.

    For the first ``begin`` of the steps the truth is what ``labels: annotators`` makes of the answers. The paper takes
    patches of mitoses; here the task may be of pixels too, where the prior of each pixel is the network's answer to its
    surroundings; its b is 1, which here lets an overconfident network outvote the annotators. Errors that annotators
    share cannot be seen. The log of a training says what was estimated.
    """

    reference: ClassVar[str] = (
        "Albarqouni et al. 2016, AggNet: Deep Learning From Crowds for Mitosis Detection, doi 10.1109/TMI.2016.2528120;"
        " Raykar et al. 2010, Learning From Crowds, JMLR 11:1297"
    )
    needs_targets: ClassVar[bool] = False
    needs_votes: ClassVar[bool] = True
    needs_pixels: ClassVar[bool] = True
    replaces_task: ClassVar[bool] = True

    begin: float = Field(0.3, ge=0, lt=1, description="share of the steps before the network takes part in the truth")
    believed: float = Field(
        0.5, ge=0, le=1, description="power of the network's probabilities in the truth (b); 0: the annotators alone"
    )
    keep: float = Field(0.99, ge=0, lt=1, description="share of the counts of answers that is kept at each step")

    def modules(self, site: Site) -> dict[str, nn.Module]:
        from stainda.strategies.align.support.confusions import Confusions

        return {"confusions": Confusions(site.annotators, site.n_classes)}

    def losses(self, step: Step) -> dict[str, Tensor]:
        import torch

        from stainda.strategies.align.support.confusions import answers_of, expected_loss

        source, confusions = step.source, _confusions(step.modules)
        assert source.votes is not None and source.labels is not None and source.logits is not None
        with torch.no_grad():
            votes = answers_of(source.votes, confusions.n_classes)
            truth = answers_of(source.labels, confusions.n_classes)
            if step.progress >= self.begin:
                network = torch.log_softmax(source.logits.float(), 1).movedim(1, -1)
                prior = self.believed * network + (1 - self.believed) * confusions.shares().log()
                spoken = (source.votes != 255).any(0)[..., None]
                truth = torch.where(spoken, confusions.posterior(votes, prior), truth)
            confusions.count(votes, truth, self.keep)
        assert step.loss is not None
        return {"task": expected_loss(step.loss, source.logits, truth)}

    def statements(self, modules: nn.ModuleDict) -> list[str]:
        return _confusions(modules).statements()


def _confusions(modules: nn.ModuleDict) -> Confusions:
    from stainda.strategies.align.support.confusions import Confusions

    confusions = modules["confusions"]
    assert isinstance(confusions, Confusions)
    return confusions
