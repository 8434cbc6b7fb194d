"""View parts: what the network sees of a patch."""

from stainda.strategies.view import base, channels, learncolour, normalisers, residual

__all__ = ["base", "channels", "learncolour", "normalisers", "residual"]
