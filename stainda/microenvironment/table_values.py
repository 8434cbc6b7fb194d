"""Numbers as they stand in tables."""

from __future__ import annotations

from typing import Any

import numpy as np

Row = dict[str, Any]


def known(value: Any, digits: int = 3) -> float | None:
    """A number of a table; empty where it is not known."""
    number = float(value)
    return round(number, digits) if np.isfinite(number) else None
