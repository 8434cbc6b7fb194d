"""Whether an alignment method did in its trainings what it claims, from what they recorded (``effect.csv``)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

import pandas as pd
from scipy import special

LEAST_RATIO = 0.01
"""A method whose terms never add this share of the task's gradient did not act."""

DISTINGUISHED_LEVEL = 0.05
"""How often a training with blind discriminators may pass for one that distinguished the domains."""

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
        discriminator_loss: its cross-entropy, the same mean, nats. chance_loss: of a blind one, the logarithm of the
            number of domains; nan both where an earlier version did not say them.
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
    discriminator_loss: float
    chance_loss: float
    distance_first: float
    distance_last: float
    reason: str

    @property
    def effective(self) -> bool:
        """Whether the method acted in more than half of its trainings; one of two is not enough."""
        return 2 * self.not_effective < self.jobs


EFFECT_SUMMARY_COLUMNS = tuple(field.name for field in fields(Effect))
_MIDDLE = (
    "gradient_ratio", "discriminator_accuracy", "chance_accuracy", "discriminator_loss", "chance_loss",
    "distance_first", "distance_last",
)  # fmt: skip


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
    of_each = late.dropna(subset=["discriminator_accuracy"]).groupby("discriminator")["discriminator_accuracy"]
    accuracies = of_each.mean()
    losses = late.groupby("discriminator")["discriminator_loss"].mean() if "discriminator_loss" in late else None
    best = None if accuracies.empty else str(accuracies.idxmax())
    distances = steps["distance"].astype(float).dropna()
    reason = ""
    late = ratios[steps["step"].isin(late_steps)].dropna()
    largest = float(ratios.max()) if ratios.notna().any() else math.nan
    if not largest >= LEAST_RATIO:
        reason = f"its terms never reached {LEAST_RATIO:.0%} of the task's gradient"
    elif best is not None and not distinguished(measured):
        reason = "its discriminator was never better than chance"
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
        discriminator_loss=math.nan if best is None or losses is None else float(losses[best]),
        chance_loss=math.nan if best is None or losses is None else float(measured["chance_loss"].max()),
        distance_first=float(distances.iloc[0]) if len(distances) else math.nan,
        distance_last=float(distances.iloc[-1]) if len(distances) else math.nan,
        reason=reason,
    )


def distinguished(measured: pd.DataFrame, level: float = DISTINGUISHED_LEVEL) -> bool:
    """Whether some discriminator of a training was better than chance in the first or in the second half of it.

    A discriminator that was deceived in the end distinguished the domains before, hence either half. The mean gain of
    a half's measurements over chance c is compared with its standard error when blind, ``√(Σ c (1 - c) / n) / m`` for
    m measurements of n patches, one-sided, at the level divided by the number of halves and discriminators
    (Bonferroni). Files of earlier versions do not have the numbers of patches: there Student's t of the scatter of the
    measurements decides.

    Args:
        measured: the training's ``effect.csv``.
        level: share of trainings with blind discriminators that pass for distinguishing ones, at most.
    """
    answered = measured.dropna(subset=["discriminator_accuracy"]).sort_values("step", kind="stable")
    halves = [
        half
        for _, rows in answered.groupby("discriminator", dropna=False)
        for half in (rows.iloc[: len(rows) // 2], rows.iloc[len(rows) // 2 :])
        if len(half)
    ]
    return any(_p_of_blind(half) <= level / len(halves) for half in halves)


def _p_of_blind(rows: pd.DataFrame) -> float:
    """p of the measurements of one discriminator under the hypothesis that it is blind, one-sided."""
    chance = rows["chance_accuracy"].to_numpy(dtype=float)
    gains = rows["discriminator_accuracy"].to_numpy(dtype=float) - chance
    if "patches" in rows and rows["patches"].notna().all():
        error = math.sqrt((chance * (1 - chance) / rows["patches"].to_numpy(dtype=float)).sum()) / len(rows)
        return float(special.ndtr(-gains.mean() / error))
    if len(rows) < 2:
        return 1.0
    error = float(gains.std(ddof=1)) / math.sqrt(len(rows))
    if error == 0:
        return 1.0 if gains.mean() <= 0 else 0.0
    return float(special.stdtr(len(rows) - 1, -gains.mean() / error))


def join_effects(effects: Iterable[Effect]) -> list[Effect]:
    """One :class:`Effect` per strategy, in the order they come: medians over its trainings, the commonest reason."""
    by_strategy: dict[str, list[Effect]] = {}
    for effect in effects:
        by_strategy.setdefault(effect.strategy, []).append(effect)
    joined = []
    for strategy, some in by_strategy.items():
        table = pd.DataFrame([vars(measured) for measured in some])
        reasons = table.loc[table["reason"] != "", "reason"]
        middle = table[list(_MIDDLE)].median()
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
