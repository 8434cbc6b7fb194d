"""What happens to a trained network, or to its predictions, at a new slide."""

from __future__ import annotations

from stainda.strategies.parts import Part, register


class After(Part):
    """A step after training. Statistics of batch normalisation are the business of ``norm``."""


@register("after", "none")
class NothingAfter(After):
    """The trained network is applied as it is."""
