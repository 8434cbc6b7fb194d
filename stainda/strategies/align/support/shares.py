"""Random shares by which patches or rows are mixed."""

from __future__ import annotations

import torch
from torch import Generator


def beta_draw(alpha: float, generator: Generator) -> float:
    """A draw from Beta(α, α), as ``a / (a + b)`` of two Gamma draws."""
    first, second = torch._standard_gamma(torch.full((2,), float(alpha), dtype=torch.float64), generator=generator)
    total = float(first + second)
    return float(first) / total if total > 0 else float(torch.randint(2, (1,), generator=generator))
