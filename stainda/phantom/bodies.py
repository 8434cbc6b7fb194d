"""Drawing glomeruli, and what resembles them, into a tile of structures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stainda.phantom.grids import upsample
from stainda.stains.table import STRUCTURES

if TYPE_CHECKING:
    from stainda.phantom.scene import Scene, Tile

CODE = {name: index for index, name in enumerate(STRUCTURES)}


def draw_body(scene: Scene, tile: Tile, body: int, window: tuple[slice, slice], medium: np.ndarray) -> None:
    """Draw body ``body`` into ``tile`` within ``window`` of the middle grid."""
    step, bodies = tile.grid.step, scene.anatomy.bodies
    part = (
        slice(window[0].start * step, (window[0].stop - 1) * step),
        slice(window[1].start * step, (window[1].stop - 1) * step),
    )
    outer = upsample(tile.body_distance[body], step)
    draw = _DRAWERS[scene.body_kind(body)]
    if draw is _glomerulus:
        centre = bodies.centre[body]
        dx, dy = tile.bent[0][window] - np.float32(centre[0]), tile.bent[1][window] - np.float32(centre[1])
        tuft = upsample(bodies.tuft.distance(body, dx, dy, scene.map.z - centre[2]), step)
        draw(scene, tile, part, outer, medium[part], tuft, window)
    else:
        draw(scene, tile, part, outer, medium[part], outer, window)


def _glomerulus(scene, tile, part, outer, medium, tuft, window) -> None:  # type: ignore[no-untyped-def]
    labels, blotch = tile.labels[part], tile.blotch[part]
    labels[(outer < 2.6 + 1.5 * medium) & (outer >= 0) & (tile.depth[part] <= 0)] = CODE["fibrosis"]
    inside = outer < 0
    labels[inside] = CODE["bowman_space"]
    labels[inside & (outer > -2.0 - 0.2 * blotch)] = CODE["bowman_membrane"]
    edge = tuft + 1.6 * medium + 0.8 * blotch
    filled = (edge < 0) & (outer < -2.4)
    loops, clefts = (upsample(noise, tile.grid.step) for noise in _loops(scene, tile, window))
    loops = loops + 0.22 * blotch
    filled &= (np.abs(clefts) > 0.10) | (edge < -26)
    labels[filled] = CODE["podocyte"]
    deep = filled & (edge < -2.2)
    labels[deep & (loops < 0.05)] = CODE["mesangium"]
    labels[deep & (np.abs(loops - 0.22) <= 0.2)] = CODE["tuft_wall"]
    hollow = deep & (loops > 0.42)
    labels[hollow] = CODE["tuft_lumen"]
    labels[hollow & (medium > 1.0) & (blotch > -0.4)] = CODE["red_cell"]


def _loops(scene: Scene, tile: Tile, window: tuple[slice, slice]) -> tuple[np.ndarray, np.ndarray]:
    """Noises on the middle grid: capillary loops (high inside, low in mesangium), clefts between lobules (near 0)."""
    x, y = tile.middle[0][window], tile.middle[1][window]
    return scene.noise("loops", 17.0).smooth(x, y), scene.noise("clefts", 75.0).smooth(x, y)


def _sclerotic(scene, tile, part, outer, medium, _, window) -> None:  # type: ignore[no-untyped-def]
    labels, blotch = tile.labels[part], tile.blotch[part]
    labels[(outer < 4 + 1.5 * medium) & (outer >= 0) & (tile.depth[part] <= 0)] = CODE["fibrosis"]
    inside = outer < 0
    labels[inside] = CODE["sclerosis"]
    loops = upsample(_loops(scene, tile, window)[0], tile.grid.step) + 0.3 * blotch
    labels[inside & (loops < -0.75)] = CODE["fibrosis"]
    labels[inside & (loops > 1.6)] = CODE["tuft_lumen"]
    labels[inside & (outer < -4) & (outer > -9) & (medium > 0.9)] = CODE["bowman_space"]
    labels[inside & (outer > -2.8)] = CODE["bowman_membrane"]


def _lymphoid(scene, tile, part, outer, medium, _, window) -> None:  # type: ignore[no-untyped-def]
    labels = tile.labels[part]
    labels[outer + 6 * medium < 0] = CODE["lymphoid_stroma"]


def _casts(scene, tile, part, outer, medium, _, window) -> None:  # type: ignore[no-untyped-def]
    labels = tile.labels[part]
    inside = outer + 2 * medium < 0
    cells = upsample(scene.noise("casts", 34.0).smooth(tile.middle[0][window], tile.middle[1][window]), tile.grid.step)
    labels[inside] = CODE["distal"]
    labels[inside & (cells > 0.05)] = CODE["cast"]
    labels[inside & (np.abs(cells + 0.75) < 0.14)] = CODE["tubule_membrane"]
    labels[inside & (cells < -0.9)] = CODE["interstitium"]


def _scar(scene, tile, part, outer, medium, _, window) -> None:  # type: ignore[no-untyped-def]
    labels, blotch = tile.labels[part], tile.blotch[part]
    inside = outer + 2.5 * medium < 0
    labels[inside] = CODE["fibrosis"]
    labels[inside & (medium + 0.6 * blotch > 1.15)] = CODE["interstitium"]
    labels[inside & (medium - 0.6 * blotch < -1.35)] = CODE["lumen"]


def _granuloma(scene, tile, part, outer, medium, _, window) -> None:  # type: ignore[no-untyped-def]
    labels = tile.labels[part]
    labels[outer + 4 * medium < 0] = CODE["lymphoid_stroma"]


def _plexus(scene, tile, part, outer, medium, _, window) -> None:  # type: ignore[no-untyped-def]
    labels = tile.labels[part]
    inside = outer + 2 * medium < 0
    loops = upsample(_loops(scene, tile, window)[0], tile.grid.step) + 0.3 * tile.blotch[part]
    labels[inside] = CODE["interstitium"]
    labels[inside & (loops > 0.0)] = CODE["capillary_wall"]
    labels[inside & (loops > 0.5)] = CODE["capillary_lumen"]


_DRAWERS = {
    "glomerulus": _glomerulus, "sclerotic": _sclerotic, "lymphoid": _lymphoid, "casts": _casts, "scar": _scar,
    "granuloma": _granuloma, "plexus": _plexus,
}  # fmt: skip
