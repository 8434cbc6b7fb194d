"""Synthetic kidney sections with known truth.

A block of cortex is drawn in 3-D from a seed, cut into consecutive sections, bent as sections are, stained by the
table of :mod:`stainda.stains.table`, and scanned by centres that differ. ``make_cohort`` writes it all; ``true_map``
reads a section's exact map between its pixels and its block.
"""

from stainda.phantom.cohort import make_cohort
from stainda.phantom.maps import TrueMap, true_map

__all__ = ["TrueMap", "make_cohort", "true_map"]
