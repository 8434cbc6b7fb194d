"""Heads: maps of a network from which objects that touch are distinguished; one module per paper.

A head is a registered class (:func:`register`) in a module of this folder; nothing else names it.
"""

from __future__ import annotations

from stainda.instances.base import HEADS, DenseHead, InstanceHead, build_head, describe_heads, register
from stainda.instances.regions import RegionHead, task_for

__all__ = ["HEADS", "DenseHead", "InstanceHead", "RegionHead", "build_head", "describe_heads", "register", "task_for"]
