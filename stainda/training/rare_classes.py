"""Rare-class sampling: a class is drawn before a patch, rare ones more often."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stainda.arrays import Array


@dataclass(frozen=True, eq=False)
class RareClasses:
    """How often patches are drawn for each class (Hoyer et al. 2022, DAFormer, arXiv 2111.14887, equation 6).

    ``P(c) = exp((1 - f_c) / T) / Σ_k exp((1 - f_k) / T)``, ``f_c`` being the share of class c among the labelled places
    of all patches and T the temperature: the lower, the more often rare classes come; without bound all classes come
    alike. A patch is then drawn among those that show c. Unlike there, background is no class (``object_share`` says
    how many patches are without an object), and any place of c will do.

    Attributes:
        shows: whether each patch shows each class, bool ``(N, K)``. chances: P, float ``(K,)``; 0 of a class that no
            patch shows.
    """

    shows: Array
    chances: Array

    @classmethod
    def of(cls, places: Array, temperature: float, drawn: Array | None = None) -> RareClasses:
        """From how many labelled places of background and each class every patch has, ``(N, K + 1)``.

        ``drawn``: which patches may be drawn for a class, bool ``(N,)``; ``None``: all.
        """
        shows = places[:, 1:] > 0
        shows = shows if drawn is None else shows & drawn[:, None]
        frequency = places.sum(0)[1:] / max(places.sum(), 1)
        exponent = np.where(shows.any(0), (1 - frequency) / temperature, -np.inf)
        weights = np.exp(exponent - exponent.max()) if shows.any() else np.zeros(shows.shape[1])
        return cls(shows, weights / max(weights.sum(), 1e-300))

    def met(self, places: Array) -> Array:
        """Share of background and each class among the labelled places of the patches drawn, ``(K + 1,)``."""
        shares = places / np.maximum(places.sum(1, keepdims=True), 1)
        each = [
            shares[shown].mean(0) * chance for shown, chance in zip(self.shows.T, self.chances, strict=True) if chance
        ]
        return np.asarray(np.sum(each, 0)) if each else np.zeros(places.shape[1])
