"""The share of one class among all classes, as pathologists report it: sclerotic of all glomeruli, positive of all.

Of the tumour proportion score (positive over positive and negative area, Kapil et al. 2018, doi
10.1038/s41598-018-35501-5) the classes are positive and negative tumour.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from stainda.evaluation.confusion import BACKGROUND


def class_shares(rows: pd.DataFrame, classes: Sequence[str], by: Sequence[str]) -> pd.DataFrame:
    """Predicted and annotated share of every class, by objects and by area.

    Args:
        rows: of the table of confusions, any number of slides and trainings.
        by: columns that name a group, such as strategy, training and patient.

    Returns:
        ``by``, ``class``, ``unit`` (``objects`` or ``pixels``), ``predicted`` and ``annotated`` in 0..1; ``nan`` where
        a group has none of the classes.
    """
    parts = []
    for side in ("predicted", "annotated"):
        shown = rows[rows[side].isin(classes) & (rows[side] != BACKGROUND)]
        counts = shown.pivot_table(
            index=[*by, "unit"], columns=side, values="count", aggfunc="sum", fill_value=0, observed=True
        ).reindex(columns=list(classes), fill_value=0)
        shares = counts.div(counts.sum(axis=1).replace(0, np.nan), axis=0)
        parts.append(shares.rename_axis(columns="class").stack().rename(side))
    table = pd.concat(parts, axis=1).reset_index()
    return table[[*by, "class", "unit", "predicted", "annotated"]]
