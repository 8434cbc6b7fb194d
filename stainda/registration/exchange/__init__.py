"""Transforms made elsewhere, read through one door without unpickling; and ours written for other programs."""
