"""Norm parts: how batch statistics are handled per domain."""
