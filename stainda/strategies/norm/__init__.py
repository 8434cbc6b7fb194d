"""Norm parts: how batch statistics are handled per domain."""

from stainda.strategies.norm import base

__all__ = ["base"]
