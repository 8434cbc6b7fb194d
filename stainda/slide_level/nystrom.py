r"""Nyström attention as TransMIL's authors use it: with a depth-wise convolution of the values.

For queries, keys and values :math:`Q, K, V` of n tokens and m landmarks :math:`\tilde Q, \tilde K` (means of runs of
tokens), Xiong et al. 2021 (https://arxiv.org/abs/2102.03902, eq. 13 and fig. 2) give

.. math:: \sigma(Q \tilde K^T)\, \sigma(\tilde Q \tilde K^T)^+ \sigma(\tilde Q K^T)\, V + \mathrm{conv}(V)

with :math:`\sigma` the softmax and conv a convolution over the tokens, one kernel a head. torchmil 1.0.2 has the first
term alone; the second, and the linear layer that mixes the heads after it, are here as in the code of the authors
(github.com/szc19990412/TransMIL, with ``residual=True`` and the kernel of 33 of lucidrains' nystrom-attention).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torchmil.models import TransMIL
from torchmil.nn.attention import NystromAttention

KERNEL = 33
"""Tokens that the convolution of values spans."""


class ResidualNystrom(nn.Module):
    """Attention of torchmil, plus the convolution of its values, then a linear layer.

    Args:
        attention: with learned queries, keys and values, and no layer after it.
    """

    def __init__(self, attention: NystromAttention) -> None:
        super().__init__()
        heads = attention.n_heads
        width = heads * attention.head_dim
        self.attention, self.mixed = attention, nn.Linear(width, width)
        self.values = nn.Conv2d(heads, heads, (KERNEL, 1), padding=(KERNEL // 2, 0), groups=heads, bias=False)

    def forward(self, tokens: Tensor, return_att: bool = False, **options: Any) -> Any:
        """Of tokens ``[N, n, width]`` as many, and with ``return_att`` the attention ``[N, heads, n, n]``."""
        seen = self.attention(tokens, return_att=return_att, **options)
        attended = seen[0] if return_att else seen
        values = self.attention._qkv(tokens)[2].unflatten(2, (self.attention.n_heads, -1))
        convolved = self.values(values.transpose(1, 2)).transpose(1, 2).flatten(2)
        out = self.mixed(attended + convolved)
        return (out, seen[1]) if return_att else out


def trans_mil(width: int, att_dim: int, heads: int, embed: nn.Module) -> TransMIL:
    """TransMIL with the convolution of values in each of its layers."""
    network = TransMIL((width,), att_dim=att_dim, n_heads=heads, feat_ext=embed)
    for layer in network.layers:
        layer.att_module = ResidualNystrom(layer.att_module)
    return network
