"""Identity of glomeruli across the sections of synthetic blocks, and their volumes, under registration error.

    python benchmarks/microenvironment_identity.py [seeds of the blocks, default 201 to 208; 50 to 57 are those on which
    the rules were decided]

Outlines of 14 sections, 15 micrometres apart, are displaced by a smooth registration error of known median, 10 % are
missed, 5 % more are false, and each is drawn up to 5 % too large or too small. IDF1 (E. Ristani et al. 2016) counts
outlines under the best assignment of found identities to true ones; volumes are those of the true bodies.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import shapely
from microenvironment_blocks import LATER_SEEDS, LAW, TrueSection, true_sections
from scipy.optimize import linear_sum_assignment
from shapely.affinity import scale

from stainda.microenvironment.identities import Identity, Profiles, identify

ERRORS_UM = (0.0, 5.0, 10.0, 20.0)
SECTIONS, GAP = 14, 4
SPACING_UM = 3.0 * (GAP + 1)
MISSED, FALSE, DRAWN = 0.10, 0.05, 0.05


@dataclass(frozen=True)
class Displaced:
    """A map that is off by smooth waves; ``amplitude`` in micrometres."""

    amplitude: float
    phase: np.ndarray

    def to_frame(self, xy: np.ndarray) -> np.ndarray:
        x, y = xy.T
        waves = np.column_stack([
            np.sin(x / 150 + self.phase[0]) + np.sin(y / 170 + self.phase[1]),
            np.sin(y / 160 + self.phase[2]) + np.sin(x / 180 + self.phase[3]),
        ])  # fmt: skip
        return xy + self.amplitude * waves


def displaced(error: float, rng: np.random.Generator) -> Displaced:
    """Of that median error."""
    one = Displaced(1.0, rng.uniform(0, 2 * np.pi, 4))
    places = rng.uniform(-1000, 1000, (2000, 2))
    return Displaced(error / float(np.median(np.linalg.norm(one.to_frame(places) - places, axis=1))), one.phase)


def seen(one: TrueSection, number: int, rng: np.random.Generator) -> tuple[Profiles, list[str]]:
    """What a detector finds of a section, and the true name of every outline ("" of a false one)."""
    found, names = [], []
    for outline, name in zip(one.outlines, one.names, strict=True):
        if rng.random() > MISSED:
            factor = 1 + rng.uniform(-DRAWN, DRAWN)
            found.append(scale(outline, factor, factor))
            names.append(name)
    x0, y0, x1, y1 = one.tissue.bounds
    for _ in range(rng.binomial(len(one.outlines), FALSE)):
        found.append(shapely.Point(rng.uniform(x0, x1), rng.uniform(y0, y1)).buffer(rng.uniform(30, 80)))
        names.append("")
    ids = np.array([f"{number}/{k}" for k in range(len(found))], dtype=object)
    classes, drawn = np.full(len(found), "glomerulus", object), np.ones(len(found), bool)
    return Profiles(number, np.array(found, dtype=object), ids, classes, drawn, one.tissue), names


def true_volumes(one: TrueSection) -> dict[str, float]:
    """Volume of every body: the integral of its radius cubed over all directions, by points on the sphere."""
    bodies = one.section.anatomy.bodies
    k = np.arange(4000) + 0.5
    polar, turn = np.arccos(1 - 2 * k / len(k)), np.pi * (1 + np.sqrt(5)) * k
    way = np.column_stack([np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn), np.cos(polar)])
    outer = bodies.outer
    found = {}
    for index, name in enumerate(bodies.name):
        lobes = np.exp(outer.sharpness * (way @ outer.lobes[index].T - 1)) @ outer.heights[index]
        found[name] = float((4 * np.pi / 3 * (outer.radius[index] * (1 + lobes)) ** 3).mean())
    return found


def identity_score(true: list[str], given: list[str], missed: int) -> float:
    """IDF1 of outlines with true names ("" false) and given identities; ``missed`` true outlines were not found."""
    names, identities = sorted({*true} - {""}), sorted({*given})
    table = np.zeros((len(names), len(identities)))
    for name, identity in zip(true, given, strict=True):
        if name:
            table[names.index(name), identities.index(identity)] += 1
    hits = table[linear_sum_assignment(table, maximize=True)].sum()
    return float(2 * hits / (len(given) + sum(bool(name) for name in true) + missed))


Named = tuple[list[str], list[str], int, dict[str, Identity]]
"""True and found names of all outlines, how many were missed, and the structures found."""


def block(sections: list[TrueSection], error: float, rng: np.random.Generator) -> Named:
    profiles, true = {}, {}
    missed = 0
    for number, one in enumerate(sections):
        profiles[f"S{number}"], true[f"S{number}"] = seen(one, number, rng)
        missed += len(one.outlines) - sum(bool(name) for name in true[f"S{number}"])
    maps = {slide: displaced(error, rng) for slide in profiles}
    names, found = identify("B", profiles, maps, dict.fromkeys(profiles, error), 1.0, SPACING_UM)  # type: ignore[arg-type]
    given = [names[slide][key] for slide in profiles for key in profiles[slide].ids]
    return [name for slide in profiles for name in true[slide]], given, missed, {one.identity: one for one in found}


def main() -> None:
    blocks = []
    for seed in tuple(map(int, sys.argv[1:])) or LATER_SEEDS:
        blocks.append(true_sections(
            LAW, patients=1, stains=("PAS",) * SECTIONS, centres=("A",), size=2560, gap_sections=GAP, seed=seed
        ))  # fmt: skip
    volumes = [true_volumes(one[0]) for one in blocks]
    for error in ERRORS_UM:
        rng = np.random.default_rng(7)
        true, given, missed, pairs = [], [], 0, []
        for number, (sections, truth) in enumerate(zip(blocks, volumes, strict=True)):
            mine, identities, more, found = block(sections, error, rng)
            true += [name and f"{number}/{name}" for name in mine]
            given += [f"{number}/{name}" for name in identities]
            missed += more
            for identity, one in found.items():
                names = [
                    name for name, given_name in zip(mine, identities, strict=True) if given_name == identity and name
                ]
                if names and one.volume.whole and one.volume.profiles > 2:
                    real = truth[max(set(names), key=names.count)]
                    low, high = one.volume.interval(1.96)
                    pairs.append((real, one.volume.um3, one.volume.error, low <= real <= high))
        real, estimated, told, held = np.array(pairs).T
        r, ratio = np.corrcoef(real, estimated)[0, 1], estimated / real
        print(f"error {error:4.1f} um: IDF1 {identity_score(true, given, missed):.3f}; {len(pairs)} whole glomeruli:")
        print(
            f"  volume correlation {r:.3f}, mean ratio {ratio.mean():.3f}, spread of the ratio {ratio.std():.3f} "
            f"(told {np.mean(told):.3f}), 95 % intervals that hold the true volume {np.mean(held):.3f}"
        )


if __name__ == "__main__":
    main()
