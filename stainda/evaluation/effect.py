"""Whether an alignment method did in its trainings what it claims, from what they recorded (``effect.csv``)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

import pandas as pd

LEAST_RATIO = 0.01
"""A method whose terms never add this share of the task's gradient did not act."""

LEAST_GAIN = 0.05
"""By how much a discriminator's accuracy has to exceed chance once, to have distinguished the domains at all."""

ALWAYS_WON = 0.98
"""A discriminator at this accuracy throughout the second half of a training was never deceived."""

_SIDES = {"pairs": "annotated from predicted masks"}
"""What a discriminator distinguishes, by its name; others the domains."""


@dataclass(frozen=True)
class Effect:
    """What the alignment of one training, or of several of one strategy, did.

    Attributes:
        strategy: its name.
        jobs: trainings; not_effective: those in which the method did not act.
        gradient_ratio: median over the second half of the training of the gradient that the method adds to the
            network, relative to the task's; largest_ratio: at any step.
        discriminator_accuracy: mean over the second half, every domain counting alike; of the discriminator that tells
            the domains best; nan for a method without. chance_accuracy: of a blind one.
        distance_first, distance_last: what the method minimises, without its weight, at the first and the last
            measurement; nan where that is no one number.
        reason: why the method was not effective; empty where it was.
    """

    strategy: str
    jobs: int
    not_effective: int
    gradient_ratio: float
    largest_ratio: float
    discriminator_accuracy: float
    chance_accuracy: float
    distance_first: float
    distance_last: float
    reason: str

    @property
    def effective(self) -> bool:
        """Whether the method acted in at least half of its trainings."""
        return 2 * self.not_effective <= self.jobs


EFFECT_SUMMARY_COLUMNS = tuple(field.name for field in fields(Effect))


def judge_effect(strategy: str, measured: pd.DataFrame) -> Effect:
    """What the alignment of one training did.

    Args:
        measured: the training's ``effect.csv``: one row per step and discriminator.

    Raises:
        ValueError: nothing was measured.
    """
    if measured.empty:
        raise ValueError("nothing was measured")
    steps = measured.drop_duplicates("step").sort_values("step")
    late_steps = steps["step"].iloc[len(steps) // 2 :]
    late = measured[measured["step"].isin(late_steps)]
    ratios = steps["gradient_ratio"].astype(float)
    gain = (measured["discriminator_accuracy"] - measured["chance_accuracy"]).astype(float)
    of_each = late.dropna(subset=["discriminator_accuracy"]).groupby("discriminator")["discriminator_accuracy"]
    accuracies = of_each.mean()
    best = None if accuracies.empty else str(accuracies.idxmax())
    distances = steps["distance"].astype(float).dropna()
    reason = ""
    late = ratios[steps["step"].isin(late_steps)].dropna()
    largest = float(ratios.max()) if ratios.notna().any() else math.nan
    if not largest >= LEAST_RATIO:
        reason = f"its terms never reached {LEAST_RATIO:.0%} of the task's gradient"
    elif best is not None and not gain.max() >= LEAST_GAIN:
        reason = f"its discriminator never distinguished {_SIDES.get(best, 'the domains')}"
    elif best is not None and of_each.min()[best] >= ALWAYS_WON:
        reason = f"its discriminator distinguished {_SIDES.get(best, 'the domains')} to the end"
    return Effect(
        strategy=strategy,
        jobs=1,
        not_effective=int(bool(reason)),
        gradient_ratio=float(late.median()) if len(late) else math.nan,
        largest_ratio=largest,
        discriminator_accuracy=math.nan if best is None else float(accuracies[best]),
        chance_accuracy=math.nan if best is None else float(measured["chance_accuracy"].min()),
        distance_first=float(distances.iloc[0]) if len(distances) else math.nan,
        distance_last=float(distances.iloc[-1]) if len(distances) else math.nan,
        reason=reason,
    )


def join_effects(effects: Iterable[Effect]) -> list[Effect]:
    """One :class:`Effect` per strategy, in the order they come: medians over its trainings, the commonest reason."""
    by_strategy: dict[str, list[Effect]] = {}
    for effect in effects:
        by_strategy.setdefault(effect.strategy, []).append(effect)
    joined = []
    for strategy, some in by_strategy.items():
        table = pd.DataFrame([vars(measured) for measured in some])
        reasons = table.loc[table["reason"] != "", "reason"]
        middle = table[
            ["gradient_ratio", "discriminator_accuracy", "chance_accuracy", "distance_first", "distance_last"]
        ].median()
        joined.append(
            Effect(
                strategy=strategy,
                jobs=int(table["jobs"].sum()),
                not_effective=int(table["not_effective"].sum()),
                largest_ratio=float(table["largest_ratio"].max()),
                reason=str(reasons.mode().iloc[0]) if len(reasons) else "",
                **{str(name): float(value) for name, value in middle.items()},
            )
        )
    return joined
