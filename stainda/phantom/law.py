"""A known law of macrophages about glomeruli: a Poisson process on each section, for checking spatial statistics.

On a section of group ``g`` the rate at a point whose signed distance to the nearest glomerulus ``k`` is ``d`` (negative
inside) is, in cells per mm² of the block's frame::

    rate(d) = base(d) * patient,                           d beyond the last ring
    rate(d) = base(d) * patient * factor_g * attraction_k,   else

with ``base`` constant inside and in each ring. What resembles a glomerulus is none. Cells of different sections are
independent, and lie on tissue at least :data:`EDGE_UM` from its edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import shapely

from stainda.arrays import Array
from stainda.config.preparation import MacrophageLawConfig
from stainda.phantom.anatomy import Anatomy, Bodies
from stainda.phantom.maps import TrueMap
from stainda.randomness import generator_for

EDGE_UM = 3.0


class LawScene(Protocol):
    """What the law reads of a section: outlines (by index of the body) in the frame, micrometres."""

    anatomy: Anatomy
    map: TrueMap
    outlines: dict[int, shapely.Polygon]


@dataclass(frozen=True)
class MacrophageLaw:
    """The law of one patient.

    Attributes:
        edges: (k + 1,) outer signed distances of the zones, micrometres: 0, then those of the rings.
        rates: (k + 2,) cells per mm² inside, in each ring, and beyond, of a glomerulus that does not attract.
    """

    edges: Array
    rates: Array
    attracting: float
    strength: float
    seed: int

    @classmethod
    def of(cls, config: MacrophageLawConfig, seed: int, patient: str, group: str) -> MacrophageLaw:
        edges = np.array([0.0, *config.rings_um])
        near = np.array([config.inside, *config.ring_rates]) * config.group_factors.get(group, 1.0)
        level = np.exp(config.patient_sd * generator_for(seed, patient, "macrophage rate").standard_normal())
        return cls(edges, np.append(near, config.beyond) * level, config.attracting, config.attraction, seed)

    def attraction(self, bodies: Bodies, block: str) -> Array:
        """(n,) factor of each body of a block on the rates in and around it."""
        drawn = generator_for(self.seed, block, "attraction").random(len(bodies.kind)) < self.attracting
        return np.where(drawn & bodies.is_glomerulus, self.strength, 1.0)

    def rows(self) -> list[dict[str, Any]]:
        """The rates as rows: ``zone, from_um, to_um, per_mm2``; empty where a zone has no end."""
        inner = [None, *self.edges.tolist()]
        outer = [*self.edges.tolist(), None]
        names = ["inside", *(f"{a:g}-{b:g}" for a, b in zip(self.edges, self.edges[1:], strict=False)), "beyond"]
        return [
            {"zone": name, "from_um": a, "to_um": b, "per_mm2": round(float(rate), 6)}
            for name, a, b, rate in zip(names, inner, outer, self.rates, strict=True)
        ]

    def rate_at(self, xy: Array, outlines: Array, attraction: Array) -> Array:
        """Cells per mm² (n,) at points (n, 2) of the frame, micrometres.

        Args:
            outlines: (m,) polygons of the glomeruli. attraction: (m,) of each.
        """
        if not len(outlines):
            return np.full(len(xy), self.rates[-1])
        points = shapely.points(xy)
        near = shapely.STRtree(outlines).query_nearest(points, all_matches=False)[1]
        hull = shapely.boundary(outlines[near])
        distance = shapely.distance(points, hull)
        distance = np.where(shapely.contains(outlines[near], points), -distance, distance)
        zone = np.searchsorted(self.edges, distance, side="left")
        return self.rates[zone] * np.where(zone < len(self.rates) - 1, attraction[near], 1.0)

    def cells(self, scene: LawScene, rng: np.random.Generator) -> Array:
        """(n, 3) centres of the cells of a section, micrometres in the frame."""
        anatomy, bodies = scene.anatomy, scene.anatomy.bodies
        kept = [index for index in scene.outlines if bodies.is_glomerulus[index]]
        outlines = np.array([scene.outlines[index] for index in kept], dtype=object)
        factors = self.attraction(bodies, anatomy.block)[kept]
        highest = float(self.rates.max() * max(1.0, factors.max(initial=1.0)))
        reach = 1.15 * anatomy.tissue.axes
        number = rng.poisson(highest * 4 * reach.prod() / 1e6)
        xy = rng.uniform(-1, 1, (number, 2)) * reach
        lot = rng.random(number) * highest
        xy, lot = (values[anatomy.tissue.depth(xy[:, 0], xy[:, 1]) > EDGE_UM] for values in (xy, lot))
        xy = xy[lot < self.rate_at(xy, outlines, factors)]
        return np.column_stack([xy, np.full(len(xy), scene.map.z)])
