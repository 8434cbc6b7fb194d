"""How the vectors of the patches of a slide become one answer, and what each patch had to do with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from stainda.config.slide_level import Aggregator
from stainda.slide_level.linear_svm import SvmBag
from stainda.slide_level.torchmil_here import OF_TORCHMIL

REFERENCES: dict[str, str] = {
    "mean": "mean of the vectors",
    "max": "the patch that speaks most for the label",
    "svm": "mean of the vectors, linear support vector machine; Xu et al. 2015, doi 10.1109/ICASSP.2015.7178109",
    "fisher": "Fisher vector, linear support vector machine; Perronnin et al. 2010, doi 10.1007/978-3-642-15561-1_11",
    "attention": "Ilse et al. 2018, https://arxiv.org/abs/1802.04712 (gated)",
    "clam": "Lu et al. 2021, https://arxiv.org/abs/2004.09666 (single branch)",
    "transmil": "Shao et al. 2021, https://arxiv.org/abs/2106.00908",
}
SUMMARIES: dict[Aggregator, str] = {
    "mean": "The mean of the vectors of the patches: the baseline.",
    "max": "The patch that speaks most for the label.",
    "svm": "The mean of the vectors under a linear support vector machine.",
    "fisher": "The Fisher vector of the patches under a linear support vector machine.",
    "attention": "A mean whose weights are learned (gated attention).",
    "clam": "Gated attention, and the patches with most and least weight are distinguished.",
    "transmil": "A transformer over the patches, folded into a square in their order.",
}
EVIDENCE: dict[str, str] = {"max": "probability", **dict.fromkeys(OF_TORCHMIL, "attention")}
"""What each patch is given, by aggregator; the mean gives nothing."""
HEADS, CLUSTERED, BAG_SHARE = 4, 8, 0.7
"""TransMIL: heads of its attention. CLAM: patches of a side in its clustering, and the share of the bag in its loss."""


class BagNetwork(nn.Module):
    """An aggregator of one bag.

    Every aggregator first brings the vectors to ``hidden`` numbers (linear, ReLU, dropout), so that they differ in how
    patches are put together, not in what is learned of each; ``svm`` and ``fisher`` take the vectors as they are.

    Args:
        width: of the vectors. hidden: see above.
    """

    def __init__(self, name: Aggregator, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.name = name
        embed = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout))
        self.body: nn.Module
        if name in ("svm", "fisher"):
            self.body = SvmBag(width, name == "fisher")
        elif name in ("mean", "max"):
            self.body = PooledBag(embed, hidden, name)
        else:
            self.body = _of_torchmil(name, embed, width, hidden)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """Of a bag (n, width): its logit, a scalar, and what each patch is given (n,), or ``None``."""
        if isinstance(self.body, PooledBag | SvmBag):
            return self.body(features)  # type: ignore[no-any-return]
        logit, attention = self.body(features[None], return_att=True)
        weights = attention[0].clamp(min=0) if self.name == "transmil" else torch.softmax(attention[0], dim=0)
        return logit[0], weights / weights.sum().clamp(min=1e-12)

    def fit(self, vectors: Callable[[], Tensor], seed: int) -> None:
        """What is fitted to the vectors (n, width) of the teaching bags before labels are learned."""
        if isinstance(self.body, SvmBag) and self.body.encoding is not None:
            self.body.encoding.fit(vectors(), seed)

    def loss(self, features: Tensor, positive: bool) -> Tensor:
        """Cross-entropy of a bag; CLAM adds that of its clustering, 0.7 to 0.3 as Lu et al. weigh them."""
        if isinstance(self.body, SvmBag):
            return self.body.loss(self(features)[0], positive)
        label = features.new_tensor([float(positive)])
        if self.name != "clam":
            return nn.functional.binary_cross_entropy_with_logits(self(features)[0][None], label)
        _, parts = self.body.compute_loss(label, features[None])  # type: ignore[operator,union-attr]
        return BAG_SHARE * parts["BCEWithLogitsLoss"] + (1 - BAG_SHARE) * parts["InstLoss"]


class PooledBag(nn.Module):
    """Mean of the embedded vectors before the last layer, or the largest of the patches' answers behind it."""

    def __init__(self, embed: nn.Module, hidden: int, name: str) -> None:
        super().__init__()
        self.embed, self.answer, self._largest = embed, nn.Linear(hidden, 1), name == "max"

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        embedded = self.embed(features)
        if not self._largest:
            return self.answer(embedded.mean(0))[0], None
        answers = self.answer(embedded)[:, 0]
        return answers.max(), torch.sigmoid(answers)


def _of_torchmil(name: str, embed: nn.Module, width: int, hidden: int) -> Any:
    from torchmil.models import ABMIL, CLAM_SB

    from stainda.slide_level.nystrom import trans_mil

    shape = (width,)
    if name == "attention":
        return ABMIL(shape, att_dim=hidden, gated=True, feat_ext=embed)
    if name == "clam":
        clam = CLAM_SB(shape, att_dim=hidden, k_sample=CLUSTERED, gated=True, feat_ext=embed)
        clam.inst_loss_fn = SmoothMargin()
        return clam
    return trans_mil(width, hidden - hidden % HEADS, HEADS, embed)


class SmoothMargin(nn.Module):
    r"""Smooth top-1 SVM with temperature and margin 1 (Berrada et al. 2018, https://arxiv.org/abs/1802.07595):
    :math:`\log \sum_j e^{\Delta_j + s_j} - s_y`, :math:`\Delta_j = 1` of every class but the true one y.

    That of torchmil 1.0.2 ends with an error of shapes where some patches are far on the wrong side.
    """

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Mean over patches: scores (n, 2), labels (n, 1)."""
        true = labels.long()
        margins = torch.ones_like(scores).scatter_(1, true, 0.0)
        return (torch.logsumexp(scores + margins, dim=1) - scores.gather(1, true)[:, 0]).mean()
