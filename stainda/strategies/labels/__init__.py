"""Labels parts: which annotations the task loss learns from."""

from stainda.strategies.labels import base

__all__ = ["base"]
