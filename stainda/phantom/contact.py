"""Glomeruli that touch: some are laid against another one, so that their outlines meet, or pressed into it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import shapely

from stainda.arrays import Array
from stainda.phantom.shapes import Surface

OVERLAP = 2.0  # micrometres by which two outlines overlap at the height where they meet
_SEEN, _NEAR = 0.9, 0.35  # distance of a centre from the plane, in radii: is it seen there, and nearly at its widest
_DIRECTIONS, _ANGLES, _DEPTHS, _HALVINGS = 24, 96, 160, 20


def bring_together(
    rng: np.random.Generator,
    outer: Surface,
    centre: Array,
    glomeruli: Array,
    *,
    z: float,
    share: float,
    depth: float = 0.0,
    is_free: Callable[[Array, int, Array, Array], Array],
) -> tuple[Array, Array]:
    """Centres of bodies of which about ``share`` of the glomeruli that are seen at ``z`` touch another one there.

    They touch in pairs. One stays where it is; the other is moved to the height ``z`` and against it, in a direction in
    which nothing else lies. Where there is no room there are fewer pairs.

    Args:
        depth: by which the second is pressed into the first, share of the smaller radius, at least :data:`OVERLAP`.
        outer: surfaces of all bodies. centre: (n, 3) micrometres. glomeruli: (k,) which bodies are glomeruli.
        is_free: given places (m, 3), which body is to lie there, and which others (i,) lie at which centres (i, 3):
            bool (m,), whether it may.

    Returns:
        (n, 3) micrometres, and (n,) the body that each one touches, -1: none.
    """
    away = np.abs(centre[glomeruli, 2] - z) / outer.radius[glomeruli]
    staying = rng.permutation(glomeruli[away < _NEAR]).tolist()
    moving = rng.permutation(glomeruli).tolist()
    centre, partner = centre.copy(), np.full(len(centre), -1)
    for fixed in staying:
        if (partner >= 0).sum() >= 2 * round(share * int((away < _SEEN).sum()) / 2):
            break
        if partner[fixed] >= 0:
            continue
        for moved in moving:
            if moved == fixed or partner[moved] >= 0:
                continue
            others = np.setdiff1d(np.arange(len(centre)), [fixed, moved])
            pressed = max(OVERLAP, depth * float(outer.radius[[fixed, moved]].min()))
            places = _against(rng, outer, (fixed, moved), centre[fixed], z, pressed)
            places = places[is_free(places, moved, others, centre[others])]
            if len(places):
                centre[moved] = places[0]
                partner[fixed], partner[moved] = moved, fixed
                break
    return centre, partner


def _against(
    rng: np.random.Generator, outer: Surface, pair: tuple[int, int], at: Array, z: float, pressed: float
) -> Array:
    """Places (k, 3) of the second of a ``pair`` at which its cut at ``z`` meets that of the first, which is ``at``.

    From where they meet it is moved on by ``pressed`` micrometres.
    """
    fixed, moved = pair
    still, other = outline(outer, fixed, z - at[2]), outline(outer, moved, 0.0)
    turns = rng.uniform(0, 2 * np.pi) + np.linspace(0, 2 * np.pi, _DIRECTIONS, endpoint=False)
    directions = np.column_stack([np.cos(turns), np.sin(turns)])
    near, far = np.zeros(len(turns)), np.full(len(turns), 1.0 + outer.reach[[fixed, moved]].sum())
    for _ in range(_HALVINGS):
        middle = (near + far) / 2
        laid = shapely.polygons(shapely.get_coordinates(other) + (directions * middle[:, None])[:, None])
        meet = shapely.intersects(still, laid)
        near, far = np.where(meet, middle, near), np.where(meet, far, middle)
    return np.column_stack([at[:2] + directions * (far - pressed)[:, None], np.full(len(turns), z)])


def outline(surface: Surface, index: int, dz: float) -> shapely.Polygon:
    """The cut of a body ``dz`` micrometres above its centre, about that centre."""
    turns = np.linspace(0, 2 * np.pi, _ANGLES, endpoint=False)
    depths = np.linspace(0, float(surface.reach[index]), _DEPTHS)
    dx, dy = depths * np.cos(turns)[:, None], depths * np.sin(turns)[:, None]
    inside = surface.distance(index, dx.astype(np.float32), dy.astype(np.float32), dz) < 0
    edge = np.where(inside, depths, 0).max(1)
    return shapely.Polygon(np.column_stack([edge * np.cos(turns), edge * np.sin(turns)]))
