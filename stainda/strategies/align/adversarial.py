"""Alignment by a discriminator that tries to name the domain while the network tries to prevent it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from stainda.strategies.align.base import FeatureAlign, JudgedAlign, Site, Step
from stainda.strategies.parts import Field, register

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stainda.strategies.align.support.rows import Rows

BOTH = ("segmentation", "classification")


class Adversarial(JudgedAlign, FeatureAlign):
    """Base of the parts with a domain discriminator: what it is asked about, and which domains it tells apart."""

    tasks: ClassVar[tuple[str, ...]] = BOTH
    compares: ClassVar[bool] = True

    weight: float = Field(1.0, ge=0, description="λ, strength of the network's side at the end of the schedule")
    schedule: Literal["warm_up", "constant"] = Field("warm_up", description="λ grows from 0 (Ganin) or is constant")
    features: Literal["spatial", "pooled", "sampled"] = Field(
        "spatial", description="one verdict per position, per patch, or at sampled positions"
    )
    samples: int = Field(16, ge=1, description="positions per patch, for features: sampled")
    domains: Literal["source_target", "each"] = Field(
        "source_target", description="D tells source from target, or names each domain"
    )
    hidden: int = Field(64, ge=1, description="channels of the discriminator's hidden layers")

    def strength(self, step: Step) -> float:
        """λ at this step."""
        return self.weight * self.growth(step)

    def outputs(self, site: Site) -> int:
        """Domains the discriminator tells apart."""
        return site.n_domains if self.domains == "each" else 2

    def labels(self, domains: Tensor, n_sources: int) -> Tensor:
        """What the discriminator is to answer, long ``[M]``: each domain's number, or 0 for sources and 1 for targets.

        The side is that of the patch's domain, not of its batch: a labelled patch may lie on a target.
        """
        return domains if self.domains == "each" else (domains >= n_sources).long()

    def judged(self, step: Step) -> list[tuple[Tensor, Tensor]]:
        """What the discriminator reads of source and target, and the domain of each patch or row of it."""
        return [(rows.features, rows.domains) for rows in self.rows(step)]

    def verdicts(self, step: Step) -> dict[str, tuple[Tensor, Tensor]]:
        from torch import cat

        from stainda.strategies.align.support.rows import rows_of

        found = []
        for seen, domains in self.judged(step):
            logits = step.modules["discriminator"](seen)
            labels = self.labels(domains, step.n_sources).repeat_interleave(logits[0, 0].numel())
            found.append((rows_of(logits), labels))
        return {"discriminator": (cat([one for one, _ in found]), cat([one for _, one in found]))}

    def rows(self, step: Step) -> tuple[Rows, Rows]:
        """The chosen rows of source and target."""
        from stainda.strategies.align.support.rows import both_rows

        return both_rows(step, self.features, self.samples, self.target_logits)


@register("align", "dann")
class Dann(Adversarial):
    """Domain-adversarial training: features from which a discriminator cannot name the domain.

    The discriminator D minimises the cross-entropy of the domain; behind a gradient reversal of weight λ the network
    maximises it: ``L = L_task(source) + L_domain(D(reverse_λ(features)))``, where ``reverse_λ`` is the identity
    forward and multiplies by -λ backward. D learns at full strength whatever λ is.

    pytorch-adapt does the work (``FeaturesForDomainLossHook``, ``GradientReversalHook``, ``DomainLossHook``: the domain
    half of its ``DANNHook``). The reversal is built with a float weight: the library's default of 1 is an integer
    buffer that stores any scheduled weight below 1 as 0, which silently trains without adaptation.

    ``features: spatial`` asks D at every position of the layer's map; ``pooled`` asks it once per patch; ``sampled`` at
    some positions.
    """

    reference: ClassVar[str] = "Ganin et al. 2016, Domain-Adversarial Training of Neural Networks, arXiv 1505.07818"

    def modules(self, site: Site) -> dict[str, nn.Module]:
        from stainda.strategies.align.support.discriminators import PooledDiscriminator, SpatialDiscriminator

        made = PooledDiscriminator if self.features == "pooled" else SpatialDiscriminator
        return {"discriminator": made(site.channels, self.hidden, self.outputs(site), self.discriminator_norm)}

    def losses(self, step: Step) -> dict[str, Tensor]:
        assert step.target is not None
        reversal, hook = self._hooks
        reversal.update_weight(self.strength(step))
        (source, own), (target, others) = self.judged(step)
        context = {
            "src_imgs_features": source,
            "target_imgs_features": target,
            "D": step.modules["discriminator"],
            "src_domain": self.labels(own, step.n_sources),
            "target_domain": self.labels(others, step.n_sources),
        }
        _, losses = hook(context, {})
        return {"domain": 0.5 * (losses["src_domain_loss"].mean() + losses["target_domain_loss"].mean())}

    def judged(self, step: Step) -> list[tuple[Tensor, Tensor]]:
        if self.features == "sampled":
            return super().judged(step)
        assert step.target is not None
        return list(zip(step.features(), (step.compared.domains, step.target.domains), strict=True))

    @cached_property
    def _hooks(self) -> tuple[Any, Any]:
        """The gradient reversal and the chain of pytorch-adapt's hooks around it."""
        from stainda.strategies.align.support.pytorch_adapt import ChainHook, OnlyNewOutputsHook, hooks

        features = hooks.FeaturesForDomainLossHook()
        reversal = hooks.GradientReversalHook(weight=1.0, apply_to=features.out_keys)  # a float, see the docstring
        domain = hooks.DomainLossHook(d_loss_fn=dense_cross_entropy, f_hook=features)
        return reversal.fn, ChainHook(features, OnlyNewOutputsHook(ChainHook(reversal, domain, overwrite=[1])))


@register("align", "bsp")
class Bsp(Dann):
    """DANN with batch spectral penalisation: no direction of the features may dominate for being transferable.

    To DANN's loss is added ``η Σ_{i≤k} (σ_i(F_s)² + σ_i(F_t)²) / M``, with σ the singular values in falling order of
    the features of each batch as a matrix of M rows; pytorch-adapt's ``BatchSpectralLoss``, divided by M so that η does
    not depend on the number of rows (the authors' 1e-4 for 36 rows is 3.6e-3 here).
    """

    reference: ClassVar[str] = (
        "Chen et al. 2019, Transferability vs. Discriminability: Batch Spectral Penalization, ICML, PMLR 97:1081"
    )

    penalty: float = Field(0.004, ge=0, description="η, weight of the largest squared singular values")
    directions: int = Field(1, ge=1, description="k, how many singular values are penalised")

    def losses(self, step: Step) -> dict[str, Tensor]:
        from stainda.strategies.align.support.pytorch_adapt import layers

        loss = layers.BatchSpectralLoss(k=self.directions)
        spectra = [loss(rows.features) / len(rows.features) for rows in self.rows(step)]
        return {**super().losses(step), "spectrum": self.penalty * (spectra[0] + spectra[1])}


@register("align", "cdan")
class Cdan(Adversarial):
    """Conditional adversarial: the discriminator sees what was predicted beside the features.

    D reads ``f ⊗ p``, every product of a feature and a class probability at the same place, or, where that would be
    more than ``width`` numbers, the randomised product ``(R_f f) ∘ (R_p p) / √width`` of pytorch-adapt's
    ``RandomizedDotProduct``. Gradients are reversed as in DANN; p is a condition and passes none on, as in the authors'
    code. With ``entropy`` (CDAN-E) each row weighs ``1 + exp(-H(p))``, scaled to mean 1 within its batch: sure
    predictions count more.
    """

    reference: ClassVar[str] = "Long et al. 2018, Conditional Adversarial Domain Adaptation, arXiv 1705.10667"
    target_logits: ClassVar[bool] = True

    entropy: bool = Field(False, description="rows weighed by how sure their prediction is (CDAN-E)")
    width: int = Field(1024, ge=1, description="numbers the discriminator reads, at most")

    def modules(self, site: Site) -> dict[str, nn.Module]:
        from stainda.strategies.align.support.discriminators import PooledDiscriminator
        from stainda.strategies.align.support.pytorch_adapt import layers

        full = site.channels * site.n_classes
        made: dict[str, nn.Module] = {}
        if full > self.width:
            made["product"] = layers.RandomizedDotProduct([site.channels, site.n_classes], self.width)
        made["discriminator"] = PooledDiscriminator(
            min(full, self.width), self.hidden, self.outputs(site), self.discriminator_norm
        )
        return made

    def losses(self, step: Step) -> dict[str, Tensor]:
        from stainda.strategies.align.support.rows import reversed_gradient

        verdicts = []
        for rows in self.rows(step):
            assert rows.probabilities is not None
            condition = rows.probabilities.detach()
            joint = reversed_gradient(self.joint(rows.features, condition, step), self.strength(step))
            loss = dense_cross_entropy(step.modules["discriminator"](joint), self.labels(rows.domains, step.n_sources))
            verdicts.append((loss * certainty(condition) if self.entropy else loss).mean())
        return {"domain": 0.5 * (verdicts[0] + verdicts[1])}

    def judged(self, step: Step) -> list[tuple[Tensor, Tensor]]:
        found = []
        for rows in self.rows(step):
            assert rows.probabilities is not None
            found.append((self.joint(rows.features, rows.probabilities, step), rows.domains))
        return found

    @staticmethod
    def joint(features: Tensor, probabilities: Tensor, step: Step) -> Tensor:
        """``[M, C]`` and ``[M, K]`` to what the discriminator reads, ``[M, C K]`` or ``[M, width]``."""
        if "product" in step.modules:
            return step.modules["product"](features, probabilities)
        return (features.unsqueeze(2) * probabilities.unsqueeze(1)).flatten(1)


def certainty(probabilities: Tensor) -> Tensor:
    """Weights ``[M]`` ``1 + exp(-H(p))`` of rows ``[M, K]``, scaled to mean 1 (Long et al. 2018, eq. 7)."""
    from stainda.strategies.align.support.pytorch_adapt import layers

    weights = layers.EntropyWeights(after_softmax=True)(probabilities)  # its default scales them to the sum 1
    return weights * len(probabilities)


def dense_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy ``[N]`` of one label per patch with logits ``[N, K]`` or ``[N, K, h, w]``, mean over positions."""
    from torch.nn.functional import cross_entropy

    flat = logits.flatten(2) if logits.dim() > 2 else logits.unsqueeze(2)
    return cross_entropy(flat, labels.long().unsqueeze(1).expand(-1, flat.shape[2]), reduction="none").mean(1)
