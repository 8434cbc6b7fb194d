"""Values of QuPath's GeoJSON that its reader and its writer both know."""

from __future__ import annotations

import math

import numpy as np

OWN_ID = "stainda_id"
"""Member of ``metadata``: the id of a shape whose own id is no UUID."""


def number_of(value: object) -> float | None:
    """A number, or a text of one (``NaN`` too); ``None`` for all else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def is_nan(value: object) -> bool:
    """Whether this is a float that is not finite."""
    return isinstance(value, float | np.floating) and not math.isfinite(value)
