"""Logistic models from measurements to probabilities, with coefficients in ``calibration.yaml``.

The table was fitted on synthetic blocks, whose truth is known, by ``benchmarks/propagation_calibration.py --fit``; run
without ``--fit``, the same script shows on other blocks how well the probabilities hold. Nothing is fitted at run time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.special import expit

from stainda.arrays import Array
from stainda.errors import RegistrationError

TABLE = Path(__file__).with_name("calibration.yaml")


@dataclass(frozen=True)
class Logistic:
    """``P = 1 / (1 + exp(-(intercept + Σ weight · (x - centre) / scale)))``.

    Attributes:
        features: names, in the order of the other three, (k,) each.
    """

    features: tuple[str, ...]
    centre: Array
    scale: Array
    weight: Array
    intercept: float

    def __call__(self, measured: Mapping[str, Array]) -> Array:
        """Probabilities (n,) from arrays (n,) by name; what is not a number counts as typical."""
        columns = [np.nan_to_num((np.asarray(measured[name], float) - c) / s, posinf=0.0, neginf=0.0)
                   for name, c, s in zip(self.features, self.centre, self.scale, strict=True)]  # fmt: skip
        return expit(self.intercept + np.stack(columns, axis=-1) @ self.weight)

    @classmethod
    def fit(
        cls,
        measured: Mapping[str, Array],
        truth: Array,
        weights: Array | None = None,
        ridge: float = 1.0,
        rounds: int = 50,
    ) -> Logistic:
        """Penalised maximum likelihood by Newton's method.

        Args:
            measured: arrays (n,) by name.
            truth: bool (n,).
            weights: of the rows, (n,); default all 1.
            ridge: penalty on the squared weights of standardised features; not on the intercept.
        """
        names = tuple(measured)
        table = np.stack([np.asarray(measured[name], float) for name in names], axis=1)
        centre = np.nanmean(table, axis=0)
        scale = np.maximum(np.nanstd(table, axis=0), 1e-6)
        x = np.column_stack([np.ones(len(table)), np.nan_to_num((table - centre) / scale)])
        y = np.asarray(truth, float)
        rows = np.ones(len(y)) if weights is None else np.asarray(weights, float)
        beta = np.zeros(x.shape[1])
        penalty = np.diag([1e-6, *([ridge] * len(names))])
        for _ in range(rounds):
            p = expit(x @ beta)
            slope = x.T @ (rows * (p - y)) + penalty @ beta
            curve = (x * (rows * p * (1 - p))[:, None]).T @ x + penalty
            step = np.linalg.solve(curve, slope)
            beta -= step
            if np.abs(step).max() < 1e-8:
                break
        return cls(names, centre, scale, beta[1:], float(beta[0]))

    def as_table(self) -> dict[str, Any]:
        """Plain values, as the YAML table holds them."""
        rows = zip(self.features, self.centre, self.scale, self.weight, strict=True)
        return {
            "intercept": round(self.intercept, 5),
            "features": {
                name: {"centre": round(float(c), 5), "scale": round(float(s), 5), "weight": round(float(w), 5)}
                for name, c, s, w in rows
            },
        }

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> Logistic:
        features = table["features"]
        centre, scale, weight = (
            np.array([float(feature[key]) for feature in features.values()]) for key in ("centre", "scale", "weight")
        )
        return cls(tuple(features), centre, scale, weight, float(table["intercept"]))


@lru_cache(maxsize=4)
def load_models(path: Path = TABLE) -> dict[str, Logistic]:
    """The models by name: ``right`` (Dice of at least 0.5 with the true outline) and ``exists`` (is there at all), and
    ``right_plain`` and ``exists_plain`` for objects of a kind of which there are too few to know its looks.

    Raises:
        RegistrationError: the table is missing or not one.
    """
    try:
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {name: Logistic.from_table(model) for name, model in table["models"].items()}
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise RegistrationError(
            f"cannot read the calibration ({error})",
            file=path,
            remedy="Make it again: python benchmarks/propagation_calibration.py --fit",
        ) from error
