"""Whether each alignment method did in its trainings what it claims, as a table."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stainda.evaluation.effect import ALWAYS_WON, DISTINGUISHED_LEVEL, LEAST_RATIO
from stainda.report.figure_registry import register_table
from stainda.report.result_tables import strategy_cell
from stainda.report.run import LoadedRun
from stainda.report.tables import Cell, PageTable, number, text


@register_table("method_effects")
def method_effects(run: LoadedRun) -> PageTable | None:
    """One row per strategy that aligns; ``None`` where none does, or nothing was recorded."""
    result = list(run.effects.values())
    if not result:
        return None
    columns = [
        "Strategy", "Gradient added", "Discriminator", "Its loss", "Distance, first", "Distance, last", "Trainings",
        "Acted", "Why not",
    ]  # fmt: skip
    rows = [
        [
            strategy_cell(run, measured.strategy),
            Cell(_ratio(measured.gradient_ratio), sort=measured.gradient_ratio, number=True),
            Cell(
                _against(measured.discriminator_accuracy, measured.chance_accuracy),
                sort=measured.discriminator_accuracy,
                number=True,
            ),
            Cell(
                _against(measured.discriminator_loss, measured.chance_loss),
                sort=measured.discriminator_loss,
                number=True,
            ),
            number(measured.distance_first, 4),
            number(measured.distance_last, 4),
            number(measured.jobs, 0),
            text(_acted(measured.jobs, measured.not_effective)),
            text(measured.reason, True),
        ]
        for measured in result
    ]
    note = (
        "Gradient added: size of what the method adds to the network's gradient, relative to the task's (medians over "
        "the second half of the steps and over trainings). Discriminator: share of patches or positions whose domain "
        "it names, every domain counting alike, against chance; its loss: cross-entropy in nats, against that of a "
        "blind discriminator (above it where the network deceives the discriminator). Distance: what the method "
        "minimises, without its weight. A method counts as not effective here where its terms never reached "
        f"{LEAST_RATIO:.0%} of the task's gradient, or its discriminator was not shown to be better than "
        "chance in either half of the training "
        f"(one-sided test, level {DISTINGUISHED_LEVEL:.2f}, patches as units) or stayed at {ALWAYS_WON:.2f} and more "
        "to the end, in half of its trainings or more: its score then says nothing about the method."
    )
    caption = "What the alignment methods did in training."
    return PageTable(
        "alignment_effects", caption, columns, rows, pd.DataFrame([vars(measured) for measured in result]), note
    )


def _ratio(value: float) -> str:
    return "" if not np.isfinite(value) else f"{value:.2%}" if value < 0.1 else f"{value:.0%}"


def _against(value: float, chance: float) -> str:
    return f"{value:.2f} (chance {chance:.2f})" if np.isfinite(value) else ""


def _acted(jobs: int, idle: int) -> str:
    return "yes" if idle == 0 else "no" if idle == jobs else f"in {jobs - idle} of {jobs}"
