"""Augment parts: random changes of training patches."""
