"""Joint adjustment of the sections of a block: corrections of all sections at once from all pairwise comparisons.

Sections that were laid on the reference one by one, or through each other, carry the errors of every step on the way.
But each can be compared directly with its neighbours on both sides, and with the ones after them. If a section is
moved by ``c_i(u)`` at a place ``u`` of the view, the comparison of two sections (``pair_evidence``) asks for ``c_i(u)
- c_j(u) = shift_ij(u)``. All comparisons together, with the reference held fixed, are a sparse linear least-squares
problem, as in the alignment of image stacks (Saalfeld et al., Nature Methods 2012). It is solved robustly:
comparisons that contradict the others count little, and are named.

``c_i`` is an affine map. Patches that took no part decide: a section they would agree worse with, by more than two
standard errors, stays where it is. Less is no objection: a section that stays holds its side of the block with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import spsolve

from stainda.arrays import Array
from stainda.registration import gates
from stainda.registration.held_back import Gain
from stainda.registration.pair_evidence import SURE, PairEvidence

PRIOR = 50.0  # view pixels: how far a section may be off without evidence; keeps what nothing connects where it is
ROUNDS = 12  # of reweighting
TRUSTED = 0.25  # of full weight: comparisons below it do not judge sections
COEFFICIENTS = 3  # of an affine map, for x and for y each


@dataclass(frozen=True)
class CycleError:
    """How far the comparison of two sections lies from what all comparisons together say.

    Attributes:
        moving, fixed: the sections. distance: root mean square over the patches after an affine fit, view pixels.
        significance: of the comparison. contradicts: the distance is too far to be an error of measurement.
    """

    moving: str
    fixed: str
    distance: float
    significance: float
    contradicts: bool


@dataclass(frozen=True, eq=False)
class Adjustment:
    """What a block's comparisons lead to.

    Attributes:
        corrections: by section, the matrix (3, 3) of view pixels: at ``u`` it shows afterwards what it showed at
            ``matrix @ u``. Sections that stay as they are have none.
        cycles: one per comparison.
        kept: sections that stay because held-back patches would agree worse, and that reason.
    """

    corrections: Mapping[str, Array] = field(default_factory=dict)
    cycles: Sequence[CycleError] = ()
    kept: Mapping[str, str] = field(default_factory=dict)


def adjust(evidence: Sequence[PairEvidence], reference: str, shape: tuple[int, ...]) -> Adjustment:
    """Corrections of all sections that the comparisons connect; the reference stays.

    Args:
        evidence: comparisons of pairs of sections. shape: of the view, (h, w).
    """
    kept: dict[str, str] = {}
    names = sorted({name for pair in evidence for name in (pair.moving, pair.fixed)} - {reference})
    corrections: dict[str, Array] = {}
    cycles: Sequence[CycleError] = ()
    while names:
        problem = _Problem(evidence, names, shape)
        solution = problem.solved()
        corrections = {name: problem.matrix(solution[k]) for k, name in enumerate(names)}
        cycles = problem.cycles(solution)
        if not (reasons := problem.objections(solution)):
            return Adjustment(corrections, cycles, kept)
        # one at a time: what speaks against a section often comes from another one's faults
        worst = max(reasons, key=lambda name: reasons[name][0])
        kept[worst] = reasons[worst][1]
        names.remove(worst)
    return Adjustment({}, cycles, kept)


class _Problem:
    """The least-squares problem of ``names``; other sections stay where they are."""

    def __init__(self, evidence: Sequence[PairEvidence], names: Sequence[str], shape: tuple[int, ...]) -> None:
        self.evidence, self.names = list(evidence), list(names)
        self.middle, self.half = (np.array(shape[::-1]) - 1) / 2, max(shape) / 2
        self.pair = np.concatenate([np.full(len(pair.points), k) for k, pair in enumerate(self.evidence)])
        points = np.concatenate([pair.points for pair in self.evidence])
        self.terms = np.column_stack([np.ones(len(points)), (points - self.middle) / self.half])
        self.shifts = np.concatenate([pair.shifts for pair in self.evidence])
        self.held = np.concatenate([pair.held for pair in self.evidence])
        weights = np.concatenate([pair.weights for pair in self.evidence])
        self.factor = np.linalg.cholesky(weights + 1e-9 * np.eye(2)).transpose(0, 2, 1)
        index = {name: k for k, name in enumerate(self.names)}
        sides = [e.moving for e in self.evidence], [e.fixed for e in self.evidence]
        # places (2, patches): the numbers of the two sections of each patch, -1 for one that stays
        self.places = np.array([[index.get(slide, -1) for slide in slides] for slides in sides])[:, self.pair]
        self.share = np.ones(len(self.evidence))
        # what hardly stands out is more often the nearest wrong place than a poor measurement of the right one
        self.sure = np.clip([pair.significance / SURE for pair in self.evidence], 0.0, 1.0) ** 2

    def solved(self) -> Array:
        """Coefficients (sections, 3, 2) of the affine maps."""
        seen = np.flatnonzero(~self.held)
        rows = self._rows()[_both(seen)]
        wanted = np.einsum("kab,kb->ka", self.factor, self.shifts)[seen].ravel()
        prior = sparse.eye(rows.shape[1]) / PRIOR**2
        solution, trust, scale = np.zeros(rows.shape[1]), self.sure[self.pair[seen]], 1.0
        for _ in range(ROUNDS):
            root = np.repeat(np.sqrt(trust) / scale, 2)
            weighted = sparse.diags(root) @ rows
            solution = spsolve((weighted.T @ weighted + prior).tocsc(), weighted.T @ (root * wanted))
            rest = np.linalg.norm((rows @ solution - wanted).reshape(-1, 2), axis=1)
            # of a two-dimensional normal distribution the median length is 1.18 standard deviations
            scale = max(float(np.median(rest)) / 1.18, 1e-6)
            self.share = self._trust(self._distances(solution.reshape(-1, COEFFICIENTS, 2)))
            trust = (self.sure * self.share)[self.pair[seen]] / (1 + (rest / (3 * scale)) ** 2)
        return np.asarray(solution.reshape(-1, COEFFICIENTS, 2))

    def matrix(self, coefficients: Array) -> Array:
        """The matrix (3, 3) of view pixels of one section's coefficients (3, 2)."""
        matrix, linear = np.eye(3), coefficients[1:].T / self.half
        matrix[:2, :2] += linear
        matrix[:2, 2] = coefficients[0] - linear @ self.middle
        return matrix

    def objections(self, solution: Array) -> dict[str, tuple[float, str]]:
        """Sections that should stay where they are: how much speaks for that, and the reason."""
        gain = self._costs(np.zeros_like(solution)) - self._costs(solution)
        judging = self.held & (self.share[self.pair] > TRUSTED)
        out: dict[str, tuple[float, str]] = {}
        for k, name in enumerate(self.names):
            change = gain[judging & (self.places == k).any(axis=0)]
            if reason := gates.refuse_affine(self.matrix(solution[k])):
                out[name] = 2.0, reason
            elif not len(change):
                out[name] = 1.0, "no comparison with its neighbours can be trusted"
            elif (worse := Gain.of(change, np.zeros(len(change)))).supported:
                misfit = f"{worse.mean:+.3f} ± {worse.error:.3f}"
                out[name] = worse.mean, f"misfit of {len(change)} held-back parts would change by {misfit}"
        return out

    def cycles(self, solution: Array) -> list[CycleError]:
        distances = self._distances(solution)
        usual = max(float(np.median(distances)), gates.LEAST_CYCLE)
        limit = max(gates.CONTRADICTION * usual, gates.MAX_CYCLE * 2 * self.half)
        return [
            CycleError(pair.moving, pair.fixed, float(distance), pair.significance, bool(distance > limit))
            for pair, distance in zip(self.evidence, distances, strict=True)
        ]

    def _rows(self) -> sparse.csr_matrix:
        """The matrix (2 patches, 6 sections): whitened differences of the corrections of each pair."""
        count = 2 * COEFFICIENTS
        # row: component of the residual; column: function, then component of its coefficient
        values = np.einsum("kf,kab->kafb", self.terms, self.factor).reshape(2 * len(self.terms), count)
        parts = []
        for sign, place in zip((1.0, -1.0), self.places, strict=True):
            known = _both(np.flatnonzero(place >= 0))
            columns = np.repeat(place, 2)[known, None] * count + np.arange(count)
            parts.append((sign * values[known], np.broadcast_to(known[:, None], columns.shape), columns))
        data, rows, columns = (np.concatenate([part[k].ravel() for part in parts]) for k in range(3))
        return sparse.csr_matrix((data, (rows, columns)), (len(values), count * len(self.names)))

    def _rest(self, solution: Array) -> Array:
        """What corrections leave of the shifts (k, 2) of all patches."""
        padded = np.concatenate([solution, np.zeros((1, COEFFICIENTS, 2))])  # place -1: the section that stays
        moving, fixed = (np.einsum("kf,kfb->kb", self.terms, padded[place]) for place in self.places)
        return self.shifts - (moving - fixed)

    def _distances(self, solution: Array) -> Array:
        """Cycle error of each comparison (pairs,): root mean square of a robust affine fit to what is left of it."""
        rest = self._rest(solution)
        strength = np.abs(np.linalg.det(self.factor))
        out = np.zeros(len(self.evidence))
        for k in range(len(out)):
            of_pair = self.pair == k
            terms, values = self.terms[of_pair], rest[of_pair]
            share = np.ones(len(values))
            for _ in range(3):
                root = np.sqrt(strength[of_pair] * share)[:, None]
                fitted = terms @ np.linalg.lstsq(terms * root, values * root, rcond=None)[0]
                left = np.linalg.norm(values - fitted, axis=1)
                share = 1 / (1 + (left / max(2 * float(np.median(left)), 1e-9)) ** 2)
            out[k] = np.sqrt((fitted**2).sum(axis=1).mean())
        return out

    @staticmethod
    def _trust(distances: Array) -> Array:
        """How far each comparison counts (pairs,): less, the farther it lies from what all say."""
        usual = max(float(np.median(distances)), gates.LEAST_CYCLE)
        return np.asarray(1 / (1 + (distances / (3 * usual)) ** 2) ** 2)

    def _costs(self, solution: Array) -> Array:
        """Robust cost (k,) of every patch, 0 to 1, the smaller the better (Geman and McClure 1985)."""
        length, own = (
            np.linalg.norm(np.einsum("kab,kb->ka", self.factor, rest), axis=1)
            for rest in (self._rest(solution), self.shifts)
        )
        square = (length / (2 * max(float(np.median(own)), 1e-9))) ** 2
        return np.asarray(square / (1 + square))


def _both(patches: Array) -> Array:
    """Rows of both components of so many patches."""
    return (2 * patches[:, None] + np.arange(2)).ravel()
