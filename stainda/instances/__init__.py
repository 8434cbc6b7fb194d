"""Dense heads: maps of a network from which objects that touch are distinguished; one module per paper.

A head is a registered class (:func:`register`) in a module of this folder; nothing else names it.
"""

from __future__ import annotations

from stainda.instances.base import HEADS, InstanceHead, build_head, describe_heads, register

__all__ = ["HEADS", "InstanceHead", "build_head", "describe_heads", "register"]
