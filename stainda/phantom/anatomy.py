"""A block of kidney cortex in 3-D, drawn once from the seed; sections only cut it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace

import numpy as np

from stainda.arrays import Array
from stainda.phantom.contact import bring_together
from stainda.phantom.packing import Placed, Raster, curve, fill
from stainda.phantom.shapes import Surface, Tubes, unit_vectors
from stainda.randomness import generator_for

TUBULE_KINDS = ("proximal", "distal", "collecting")
VESSEL_KINDS = ("artery", "vein")
# What resembles a glomerulus: lymphoid in H&E, casts in PAS, scar in Sirius red, granuloma in CD68, plexus in CD34.
BODY_KINDS = ("glomerulus", "sclerotic", "lymphoid", "casts", "scar", "granuloma", "plexus")
MIMICS = BODY_KINDS[2:]
_LAYER = 45.0  # micrometres: tubules of one layer are packed together
GLOMERULI_PER_MM2 = 19.0
SCLEROTIC_SHARE = 0.12
MIMICS_PER_MM2 = 1.3  # of each kind
VESSELS_PER_MM2 = 9.0
CLUSTERS_PER_MM2 = 45.0


@dataclass(frozen=True)
class Tissue:
    """The outline of the tissue on the glass, in the frame: a rounded rectangle whose sides wander.

    ``axes`` (2,) half sides in micrometres; ``waves`` (k,), ``heights`` (k,) and ``phases`` (k,) of the wandering;
    ``capsule`` is the direction in which the renal capsule lies, radians.
    """

    axes: Array
    waves: Array
    heights: Array
    phases: Array
    capsule: float

    def depth(self, x: Array, y: Array) -> Array:
        """Micrometres below the edge of the tissue, negative on glass; exact near the edge to a few percent."""
        a, b = self.axes
        around = np.arctan2(y, x)
        wander = np.ones_like(around)
        for wave, height, phase in zip(self.waves, self.heights, self.phases, strict=True):
            wander += height * np.sin(wave * around + phase)
        level = (np.abs(x / a) ** 4 + np.abs(y / b) ** 4) ** 0.25
        return (wander - level) * min(a, b)


@dataclass(frozen=True)
class Bodies:
    """Glomeruli and similar bodies.

    Attributes:
        centre: (n, 3) micrometres.
        kind: (n,) index into :data:`BODY_KINDS`.
        outer: Bowman's capsule, or the edge of the look-alike.
        tuft: the glomerular tuft (equals ``outer``, a little smaller, for the others).
        name: (n,) for example ``G003``.
        uuid: (n,) the identity of a body in every section of its block.
        pressed: (n,) the body that each one is pressed flat against, -1: none.
    """

    centre: Array
    kind: Array
    outer: Surface
    tuft: Surface
    name: tuple[str, ...]
    uuid: tuple[str, ...]
    pressed: Array

    def distance(self, index: int, x: Array, y: Array, z: float) -> Array:
        """About how far, in the plane ``z``, places (micrometres in the frame) lie from the outline of a body.

        Negative inside. Of two bodies d_a and d_b away that are pressed against each other, each ends where the other
        is as deep: max(d_a, (d_a - d_b) / 2) of the first. Of two circles of one radius that border is their chord.
        """
        away, other = self._apart(index, x, y, z), int(self.pressed[index])
        if other < 0:
            return away
        return np.maximum(away, (away - self._apart(other, x, y, z)) * np.float32(0.5))

    def _apart(self, index: int, x: Array, y: Array, z: float) -> Array:
        at = self.centre[index]
        return self.outer.distance(index, x - np.float32(at[0]), y - np.float32(at[1]), z - at[2])

    @property
    def is_glomerulus(self) -> Array:
        return self.kind < 2


@dataclass(frozen=True)
class Anatomy:
    """Everything in one block, in micrometres about the middle of the frame; ``heights`` are the z of its sections."""

    seed: int
    block: str
    half: float
    heights: tuple[float, ...]
    tissue: Tissue
    bodies: Bodies
    tubules: Tubes
    vessels: Tubes
    macrophages: Array
    by_law: bool = False
    """Macrophages are drawn wherever they are, also where no structure could hold one."""


def build_anatomy(
    seed: int,
    block: str,
    half: float,
    heights: tuple[float, ...],
    *,
    sclerotic: float = SCLEROTIC_SHARE,
    touching: float = 0.0,
    contact_depth: float = 0.0,
    medulla: float = 0.0,
) -> Anatomy:
    """Draw the anatomy of a block whose canvas reaches from ``-half`` to ``half`` micrometres.

    Args:
        heights: of its sections.
        sclerotic: probability of each glomerulus to be so.
        touching: share of the glomeruli seen halfway between the sections that touch another one.
        contact_depth: by which these are pressed into each other, share of the smaller one's radius.
        medulla: share of the tissue that is medulla, which has no glomeruli, on one side of the block.
    """
    tissue = _tissue(generator_for(seed, block, "tissue"), half)
    low, high = min(heights), max(heights)
    wanted = _wanted_bodies(rng := generator_for(seed, block, "bodies"), tissue, low, high, sclerotic)
    bodies = _bodies(rng, seed, block, tissue, wanted)
    if medulla:
        bodies = _without(bodies, bodies.is_glomerulus & _in_medulla(seed, block, tissue, bodies, medulla))
    if touching:
        contact = generator_for(seed, block, "contact")
        bodies = _brought_together(contact, bodies, tissue, (low + high) / 2, share=touching, depth=contact_depth)
    vessels = _vessels(generator_for(seed, block, "vessels"), tissue, bodies, low, high)
    tubules = _tubules(generator_for(seed, block, "tubules"), half, tissue, bodies, vessels, (low, high))
    macrophages = _macrophages(generator_for(seed, block, "macrophages"), tissue, bodies, low, high)
    return Anatomy(seed, block, half, heights, tissue, bodies, tubules, vessels, macrophages)


def _tissue(rng: np.random.Generator, half: float) -> Tissue:
    waves = np.array([2, 3, 5, 7, 11])
    heights = rng.uniform(0.3, 1.0, 5) * np.array([0.03, 0.025, 0.014, 0.009, 0.006])
    return Tissue(
        half * rng.uniform(0.81, 0.86, 2), waves, heights, rng.uniform(0, 2 * np.pi, 5), rng.uniform(0, 2 * np.pi)
    )


def _area_mm2(tissue: Tissue) -> float:
    return float(4 * tissue.axes.prod() * 0.93) / 1e6


def _wanted_bodies(
    rng: np.random.Generator, tissue: Tissue, low: float, high: float, share: float
) -> list[tuple[int, float, float]]:
    """Kind, radius and height of the centre of every body, the largest first."""
    area = _area_mm2(tissue)
    wanted: list[tuple[int, float, float]] = []
    thickness = 1 + (high - low) / 150
    for _ in range(max(2, round(GLOMERULI_PER_MM2 * area * thickness))):
        sclerotic = rng.random() < share
        radius = float(np.clip(rng.normal(76, 12), 60, 125)) * (0.75 if sclerotic else 1.0)
        wanted.append((int(sclerotic), radius, rng.uniform(low - 0.92 * radius, high + 0.92 * radius)))
    for kind in MIMICS:
        for _ in range(max(1, round(MIMICS_PER_MM2 * area * thickness))):
            radius = rng.uniform(48, 78)
            wanted.append((BODY_KINDS.index(kind), radius, rng.uniform(low - 0.5 * radius, high + 0.5 * radius)))
    return sorted(wanted, key=lambda body: -body[1])


def _bodies(
    rng: np.random.Generator, seed: int, block: str, tissue: Tissue, wanted: list[tuple[int, float, float]]
) -> Bodies:
    centres: list[Array] = []
    kept: list[tuple[int, float]] = []
    for code, radius, height in wanted:
        spot = _free_spot(rng, tissue, radius, height, centres, [r for _, r in kept])
        if spot is not None:
            centres.append(spot)
            kept.append((code, radius))
    number = len(kept)
    kinds = np.array([kind for kind, _ in kept], dtype=np.int64)
    radii = np.array([radius for _, radius in kept])
    outer = Surface(radii, unit_vectors(rng, number, 5), rng.uniform(-0.12, 0.10, (number, 5)), 3.0)
    tuft_radius = radii * np.where(kinds == 0, rng.uniform(0.83, 0.92, number), np.where(kinds == 1, 0.86, 0.97))
    heights = rng.uniform(-0.07, 0.12, (number, 10)) * np.where(kinds == 0, 1.0, 0.35)[:, None]
    heights[:, 0] = np.where(kinds == 0, 0.25, 0.0)  # the vascular pole, where tuft and capsule meet
    tuft = Surface(tuft_radius, unit_vectors(rng, number, 10), heights, 9.0)
    names, counters = [], dict.fromkeys(("G", "M"), 0)
    for kind in kinds:
        letter = "G" if kind < 2 else "M"
        counters[letter] += 1
        names.append(f"{letter}{counters[letter]:03d}")
    identity = tuple(str(uuid.uuid5(uuid.NAMESPACE_OID, f"stainda phantom/{seed}/{block}/{name}")) for name in names)
    return Bodies(np.array(centres).reshape(-1, 3), kinds, outer, tuft, tuple(names), identity, np.full(number, -1))


def _free_spot(
    rng: np.random.Generator,
    tissue: Tissue,
    radius: float,
    height: float,
    centres: list[Array],
    radii: list[float],
) -> Array | None:
    """A place clear of the tissue's edge and of the bodies already placed, or None after many tries."""
    tries = np.column_stack([rng.uniform(-1, 1, (400, 2)) * tissue.axes, np.full(400, height)])
    free = _is_free(tissue, tries, radius, np.array(centres).reshape(-1, 3), np.array(radii))
    return tries[free.argmax()] if free.any() else None


def _is_free(tissue: Tissue, places: Array, radius: float, centres: Array, radii: Array) -> Array:
    """Whether a body of a radius lies at places (k, 3) clear of the tissue's edge and of other bodies, bool (k,)."""
    apart = np.linalg.norm(centres[None] - places[:, None], axis=2)
    clear = (apart > radii * 1.08 + radius * 1.08 + 7).all(1)
    return np.asarray(clear & (tissue.depth(places[:, 0], places[:, 1]) > radius * 1.15 + 25))


def _in_medulla(seed: int, block: str, tissue: Tissue, bodies: Bodies, share: float) -> Array:
    """Whether the centre of a body lies in the medulla, bool (n,): beyond a straight border across the tissue."""
    angle = generator_for(seed, block, "medulla").uniform(0, 2 * np.pi)
    along = np.array([np.cos(angle), np.sin(angle)])
    x, y = (np.linspace(-1.1, 1.1, 200) * axis for axis in tissue.axes)
    places = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    inside = places[tissue.depth(*places.T) > 0]
    return np.asarray(bodies.centre[:, :2] @ along > np.quantile(inside @ along, 1 - share))


def _without(bodies: Bodies, dropped: Array) -> Bodies:
    kept = np.flatnonzero(~dropped)
    outer, tuft = (
        replace(of, radius=of.radius[kept], lobes=of.lobes[kept], heights=of.heights[kept])
        for of in (bodies.outer, bodies.tuft)
    )
    names, identities = (tuple(of[index] for index in kept) for of in (bodies.name, bodies.uuid))
    return Bodies(bodies.centre[kept], bodies.kind[kept], outer, tuft, names, identities, np.full(len(kept), -1))


def _brought_together(
    rng: np.random.Generator, bodies: Bodies, tissue: Tissue, z: float, *, share: float, depth: float
) -> Bodies:
    """The bodies, of whose glomeruli a share is moved against another one (:mod:`stainda.phantom.contact`)."""
    radii = bodies.outer.radius

    def is_free(places: Array, body: int, others: Array, centres: Array) -> Array:
        return _is_free(tissue, places, float(radii[body]), centres, radii[others])

    glomeruli = np.flatnonzero(bodies.is_glomerulus)
    centre, partner = bring_together(
        rng, bodies.outer, bodies.centre, glomeruli, z=z, share=share, depth=depth, is_free=is_free
    )
    return replace(bodies, centre=centre, pressed=partner if depth else bodies.pressed)


def _vessels(rng: np.random.Generator, tissue: Tissue, bodies: Bodies, low: float, high: float) -> Tubes:
    placed: list[Placed] = []
    walls: list[float] = []
    lines: list[tuple[Array, float]] = []
    for _ in range(max(2, round(VESSELS_PER_MM2 * _area_mm2(tissue)))):
        kind = "artery" if rng.random() < 0.65 else "vein"
        radius = float(np.exp(rng.uniform(np.log(13), np.log(46))))
        for _try in range(250):
            spot = rng.uniform(-1, 1, 2) * tissue.axes
            if rng.random() < 0.55:
                lean = np.tan(np.deg2rad(abs(rng.normal(0, 22)))) * rng.choice((-1, 1))
                side, rise = rng.uniform(0, 2 * np.pi), (high - low) / 2 + 60
                drift = lean * rise * np.array([np.cos(side), np.sin(side)])
                middle = (low + high) / 2
                line = np.array([[*(spot - drift), middle - rise], [*(spot + drift), middle + rise]])
                course = spot[None]
            else:
                course = curve(rng, spot, rng.uniform(0, 2 * np.pi), rng.uniform(80, 320), 0.004)
                line = np.column_stack([course, np.full(len(course), rng.uniform(low, high))])
            if _clear(course, radius + 6, tissue, bodies, lines):
                placed.append(Placed(line, radius, kind))
                walls.append(radius * (rng.uniform(0.38, 0.55) if kind == "artery" else 0.1) + 1.5)
                lines.append((course, radius))
                break
    return _as_tubes(rng, placed, VESSEL_KINDS, np.array(walls))


def _clear(course: Array, radius: float, tissue: Tissue, bodies: Bodies, lines: list[tuple[Array, float]]) -> bool:
    if tissue.depth(course[:, 0], course[:, 1]).min() < radius + 15:
        return False
    apart = np.linalg.norm(course[:, None] - bodies.centre[None, :, :2], axis=2)
    if np.any(apart < bodies.outer.radius + radius):
        return False
    return all(np.linalg.norm(course[:, None] - other[None], axis=2).min() > radius + size + 8 for other, size in lines)


def _tubules(
    rng: np.random.Generator,
    half: float,
    tissue: Tissue,
    bodies: Bodies,
    vessels: Tubes,
    heights: tuple[float, float],
) -> Tubes:
    low, high = heights
    layers = max(1, int(np.ceil((high - low + 12) / _LAYER)))
    depth = (high - low + 12) / layers
    heading, ray_phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    placed: list[Placed] = []
    for layer in range(layers):
        middle = low - 6 + (layer + 0.5) * depth
        raster = Raster(half)
        axes = raster.axes
        for row, y in enumerate(axes):
            raster.taken[row] = tissue.depth(axes, np.full_like(axes, y)) < -10
        for centre, radius in zip(bodies.centre, bodies.outer.radius, strict=True):
            cut = radius**2 - (middle - centre[2]) ** 2
            if cut > 0:
                raster.stamp(raster.taken, centre[None, :2], float(np.sqrt(cut)))
        chosen, centres, _ = vessels.discs(middle, 0.0)
        for segment, centre in zip(chosen, centres, strict=True):
            ends = np.linspace(vessels.start[segment, :2], vessels.end[segment, :2], 4)
            flat = abs(vessels.end[segment, 2] - vessels.start[segment, 2]) < 1
            raster.stamp(raster.taken, ends if flat else centre[None], vessels.radius[vessels.tube[segment]])
        placed += fill(raster, rng, heading, middle, depth / 2 if layers > 1 else depth / 2 + 40, ray_phase)
    walls = {"proximal": 0.50, "distal": 0.42, "collecting": 0.42}
    wall = np.array([tubule.radius * walls[tubule.kind] * rng.uniform(0.75, 1.2) for tubule in placed])
    return _as_tubes(rng, placed, TUBULE_KINDS, wall, swell=5.0)


def _as_tubes(
    rng: np.random.Generator, placed: list[Placed], kinds: tuple[str, ...], wall: Array, swell: float = 0.0
) -> Tubes:
    """The tubes as arrays; ``swell`` micrometres are added to each radius, so that neighbours press each other flat."""
    starts = [tubule.line[:-1] for tubule in placed]
    ends = [tubule.line[1:] for tubule in placed]
    return Tubes(
        start=np.concatenate([*starts, np.zeros((0, 3))]),
        end=np.concatenate([*ends, np.zeros((0, 3))]),
        tube=np.repeat(np.arange(len(placed)), [len(start) for start in starts]),
        radius=np.array([tubule.radius for tubule in placed], dtype=float) + swell,
        kind=np.array([kinds.index(tubule.kind) for tubule in placed], dtype=np.int64),
        wall=np.asarray(wall, dtype=float),
        tint=rng.random(len(placed)),
    )


def _macrophages(rng: np.random.Generator, tissue: Tissue, bodies: Bodies, low: float, high: float) -> Array:
    """(n, 3) centres of macrophages that may be seen: in clusters, a few anywhere, and packed in granulomas."""
    area = _area_mm2(tissue)
    deep = high - low + 16
    clusters = np.column_stack(
        [
            rng.uniform(-1, 1, (round(CLUSTERS_PER_MM2 * area) + 1, 2)) * tissue.axes,
            rng.uniform(low - 8, high + 8, round(CLUSTERS_PER_MM2 * area) + 1),
        ]
    )
    sizes = rng.poisson(22 * max(1.0, deep / 28), len(clusters))
    spread = np.array([34.0, 34.0, max(12.0, deep / 3)])
    positions = [np.repeat(clusters, sizes, axis=0) + rng.normal(0, 1, (sizes.sum(), 3)) * spread]
    number = rng.poisson(260 * area * deep / 20)
    positions.append(
        np.column_stack([rng.uniform(-1, 1, (number, 2)) * tissue.axes, rng.uniform(low - 8, high + 8, number)])
    )
    for index in np.flatnonzero(bodies.kind == BODY_KINDS.index("granuloma")):
        radius = bodies.outer.radius[index]
        cloud = rng.uniform(-1, 1, (round(radius**3 * 8 / 2600), 3)) * radius
        cloud = cloud[np.linalg.norm(cloud, axis=1) < 0.9 * radius] + bodies.centre[index]
        positions.append(cloud[(cloud[:, 2] > low - 8) & (cloud[:, 2] < high + 8)])
    return np.concatenate(positions)
