"""Whether the package of the larger aggregators is installed; it is not imported, which takes seconds."""

from __future__ import annotations

from importlib.util import find_spec

from stainda.config.slide_level import Aggregator
from stainda.errors import ConfigError

OF_TORCHMIL = ("attention", "clam", "transmil")


def torchmil_is_here() -> bool:
    """Whether the package is installed."""
    return find_spec("torchmil") is not None


def check_torchmil(aggregators: tuple[Aggregator, ...]) -> None:
    """Refuse aggregators whose networks are not installed.

    Raises:
        ConfigError: the aggregator, and what to install.
    """
    if (wanted := [name for name in aggregators if name in OF_TORCHMIL]) and not torchmil_is_here():
        raise ConfigError(
            f"slide_level.aggregators: {wanted[0]!r} needs the package torchmil, which is not installed",
            remedy="pip install 'stainda[bags]', or take aggregators: [mean, max]",
        )
