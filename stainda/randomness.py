"""Random generators seeded by the study's seed and the name of what is drawn."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def seed_for(seed: int, *names: object) -> int:
    """A 63-bit seed for one named thing; adding another thing does not change it (as DomainBed does)."""
    text = "/".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator_for(seed: int, *names: object) -> np.random.Generator:
    import numpy as np

    return np.random.default_rng(seed_for(seed, *names))
