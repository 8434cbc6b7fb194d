"""Structure map of one section: the structure at each pixel, before colour.

A scene is a block's anatomy seen through a section's map. It answers for a tile at a time and looks only at the objects
that touch the tile.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from shapely.geometry import Polygon
from skimage.measure import find_contours

from stainda.arrays import Array
from stainda.phantom.anatomy import BODY_KINDS, Anatomy
from stainda.phantom.bodies import draw_body
from stainda.phantom.grids import NODE, TileGrid, repeat, upsample
from stainda.phantom.maps import TrueMap
from stainda.phantom.noise import NoisePlane, noise_plane
from stainda.phantom.nuclei import draw_macrophages, draw_nuclei
from stainda.phantom.shapes import Tubes
from stainda.phantom.structures import OTHER, POSITIVE, TUBULE, VESSEL
from stainda.phantom.tile import Tile
from stainda.randomness import generator_for
from stainda.stains.table import STRUCTURES

CODE = {name: index for index, name in enumerate(STRUCTURES)}
# micrometres from its surface within which a tubule presses its neighbours, and a vessel does
TUBULE_REACH, VESSEL_REACH = 10.0, 40.0
MEMBRANE, POSITIVE_MEMBRANE = 1.1, 3.0  # micrometres
MARGIN_UM = 9.0  # what may reach into a tile from next to it: a macrophage
SMALLEST_PROFILE = 30.0  # micrometres: a body cut smaller than this across is neither drawn nor annotated
_TUBULE = np.array([CODE["proximal"], CODE["distal"], CODE["collecting_duct"], 0], dtype=np.uint8)


@dataclass
class Scene:
    """A section of a block.

    Attributes:
        positive: share of tubules whose membranes are stained, where the stain marks any.
        keeps_kinds: its tiles say which pixels are of a tubule or a vessel.
    """

    anatomy: Anatomy
    map: TrueMap
    positive: float | None = None
    keeps_kinds: bool = False

    def __post_init__(self) -> None:
        anatomy, z, scale = self.anatomy, self.map.z, self.map.mpp
        self.step = int(np.clip(2 ** round(np.log2(1.0 / scale)), 1, 8))
        self.margin = NODE * int(np.ceil((MARGIN_UM / scale + 8) / NODE))
        self._stretch = self._pixels_per_um()
        self._tubules = self._placed(*anatomy.tubules.discs(z, TUBULE_REACH + 4))
        self._vessels = self._placed(*anatomy.vessels.discs(z, VESSEL_REACH + 4))
        self.outlines = self._body_outlines()
        names = generator_for(anatomy.seed, anatomy.block, "positive tubules")
        self._positive = np.append(names.random(len(anatomy.tubules.radius)) < (self.positive or 0.0), False)
        visible = np.array(sorted(self.outlines), dtype=np.int64)
        self._bodies = self._placed(
            visible, anatomy.bodies.centre[visible, :2], anatomy.bodies.outer.reach[visible] + 34
        )
        self._macrophages = self._visible_macrophages()

    def follow_law(self, cells: Array) -> None:
        """Take macrophages (n, 3) in the place of those of the block."""
        self.anatomy = replace(self.anatomy, macrophages=cells, by_law=True)
        self._macrophages = self._visible_macrophages()

    def _visible_macrophages(self) -> tuple[Array, ...]:
        cells = self.anatomy.macrophages
        near = np.flatnonzero(np.abs(cells[:, 2] - self.map.z) < 4.5)
        return self._placed(near, cells[near, :2], np.full(len(near), 9.0))

    def noise(self, name: str, wavelength: float) -> NoisePlane:
        return noise_plane(self.anatomy.seed, f"{self.anatomy.block}/{name}", wavelength, self.map.z)

    def _pixels_per_um(self) -> float:
        """The most level-0 pixels that a micrometre of the frame may span anywhere on the section."""
        side = np.linspace(-self.anatomy.half, self.anatomy.half, 24)
        places = self.map.from_frame(np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2))
        least = np.linalg.svd(self.map.jacobian(places), compute_uv=False)[:, -1].min()
        return float(1.03 / least)

    def bent(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Places in the frame pushed about a little, so that round bodies come out as irregular as real ones."""
        push = np.float32(3.6)
        return (
            x + push * self.noise("bend x", 70.0).smooth(x, y),
            y + push * self.noise("bend y", 70.0).smooth(x, y),
        )

    def tile(self, grid: TileGrid) -> Tile:
        """The structures of one tile."""
        px, py = grid.node_pixels()
        frame = self.map.to_frame(np.column_stack([px.ravel(), py.ravel()])).reshape(*px.shape, 2)
        nx, ny = frame[..., 0], frame[..., 1]
        edge = self.anatomy.tissue.depth(nx, ny).astype(np.float32)
        nx, ny = nx.astype(np.float32), ny.astype(np.float32)
        bx, by = self.bent(nx, ny)
        x, y = grid.to_pixels(nx), grid.to_pixels(ny)
        grain_plane = self.noise("grain", 2.6)
        where = grain_plane.indices(x, y)
        grain = grain_plane.values.ravel().take(where)
        blotch = self.noise("blotch", 7.0).at(x, y)
        middle = grid.to_middle(nx), grid.to_middle(ny)
        medium = upsample(self.noise("medium", 15.0).smooth(*middle), grid.step)
        shade_nodes = 1 + np.float32(0.07) * self.noise("shade", 260.0).smooth(nx, ny)
        tile = Tile(
            grid, x, y, np.zeros(x.shape, np.uint8), grain, blotch, np.full(x.shape, 0.5, np.float32),
            grid.to_pixels(shade_nodes), np.zeros(x.shape, np.float32), middle,
            (grid.to_middle(bx), grid.to_middle(by)),
        )  # fmt: skip
        ragged = grid.to_pixels(edge) + 1.5 * medium + 0.3 * blotch
        if ragged.max() <= 0:
            return tile
        self._draw_parenchyma(tile, grid, nx, ny, medium)
        parenchyma = tile.labels.copy() if tile.kinds is not None else None
        self._draw_capsule(tile, grid, nx, ny, edge)
        for index in self._touching(self._bodies, grid):
            body, centre, reach = (self._bodies[k][index] for k in range(3))
            window = grid.window(centre[0], centre[1], reach)
            if window is not None:
                draw_body(self, tile, int(body), window, medium)
        if tile.kinds is not None:
            tile.kinds[(tile.labels != parenchyma) | (ragged <= 0)] = OTHER
        draw_macrophages(self, tile, self._macrophages[0][self._touching(self._macrophages, grid)])
        draw_nuclei(self, tile)
        tile.labels[ragged <= 0] = CODE["glass"]
        return tile

    def _draw_parenchyma(self, tile: Tile, grid: TileGrid, nx: Array, ny: Array, medium: Array) -> None:
        """Interstitium, tubules and vessels."""
        warp = np.float32(2.6)
        mx = grid.to_middle(nx + warp * self.noise("warp x", 42.0).smooth(nx, ny))
        my = grid.to_middle(ny + warp * self.noise("warp y", 42.0).smooth(nx, ny))
        widening = self.noise("gap", 170.0).smooth(nx, ny)
        gap_nodes = 1.0 + 2.4 * np.clip(widening - 0.35, 0, 2.5).astype(np.float32) ** 1.5
        z = self.map.z
        tubules, vessels = self.anatomy.tubules, self.anatomy.vessels
        nearest, second, which = self._nearest(tubules, self._tubules, grid, mx, my, TUBULE_REACH)
        vessel, _, vessel_of = self._nearest(vessels, self._vessels, grid, mx, my, VESSEL_REACH)
        depth = np.minimum(-nearest, (second - nearest) * np.float32(0.5) - grid.to_middle(gap_nodes))
        np.minimum(depth, vessel - np.float32(4.0), out=depth)
        for index in self._touching(self._bodies, grid):
            body, centre, reach = (self._bodies[k][index] for k in range(3))
            window = grid.window(centre[0], centre[1], reach)
            if window is not None:
                apart = self.anatomy.bodies.distance(int(body), tile.bent[0][window], tile.bent[1][window], z)
                tile.body_distance[int(body)] = apart
                depth[window] = np.minimum(depth[window], apart - np.float32(2.0))
        tile.depth = upsample(depth, grid.step)
        of_tubule = repeat(which, grid.step)
        self._label_interstitium(tile, grid.to_pixels(widening), medium)
        self._label_tubules(tile, of_tubule, medium)
        if self.keeps_kinds:
            of_tubules = np.where(self._positive, POSITIVE, TUBULE).astype(np.uint8)[of_tubule]
            tile.kinds = np.where(tile.depth > 0, of_tubules, OTHER).astype(np.uint8)
            tile.kinds[upsample(vessel, grid.step) < 0] = VESSEL
        if (vessel < 10).any():
            self._label_vessels(tile, upsample(vessel, grid.step), repeat(vessel_of, grid.step), medium)

    def _label_interstitium(self, tile: Tile, widening: Array, medium: Array) -> None:
        labels = tile.labels
        labels[:] = CODE["interstitium"]
        labels[widening + 0.35 * medium + 0.3 * tile.blotch > 1.25] = CODE["fibrosis"]
        labels[medium > 0.0] = CODE["capillary_wall"]
        labels[(medium > 0.55) & (tile.depth < -1.3)] = CODE["capillary_lumen"]

    def _label_tubules(self, tile: Tile, of_tubule: Array, medium: Array) -> None:
        tubules = self.anatomy.tubules
        wall = np.append(tubules.wall, 1e3).astype(np.float32)[of_tubule]
        kind = np.append(tubules.kind, 3)[of_tubule]
        tile.tint = np.append(tubules.tint, 0.5).astype(np.float32)[of_tubule]
        labels, depth, tint = tile.labels, tile.depth, tile.tint
        inside = depth > 0
        labels[inside] = _TUBULE[kind][inside]
        height = depth - wall - 1.9 * medium - 1.0 * tile.blotch
        np.minimum(height, depth - np.float32(4.5), out=height)
        height += np.float32(0.5) * tile.grain
        brush = (kind == 0) & (height > -2.4) & inside
        labels[brush] = CODE["brush_border"]
        foamy = (tint > 0.78) & (tile.blotch > 0.75) & (depth > 2.2)
        labels[foamy] = CODE["lumen"]
        lumen = (height > 0) & inside
        labels[lumen] = CODE["lumen"]
        labels[lumen & (tint < 0.3) & (tile.blotch + 0.6 * tile.grain > 0.9 + 2 * tint)] = CODE["debris"]
        labels[lumen & (kind > 0) & (tint < 0.07)] = CODE["cast"]
        if self.positive:
            stained = self._positive[of_tubule] & inside
            labels[stained & (depth < POSITIVE_MEMBRANE + 0.6 * tile.blotch)] = CODE["positive_membrane"]
            return
        labels[inside & (depth < MEMBRANE + 0.25 * tile.blotch)] = CODE["tubule_membrane"]

    def _label_vessels(self, tile: Tile, away: Array, of_vessel: Array, medium: Array) -> None:
        vessels = self.anatomy.vessels
        labels = tile.labels
        artery = np.append(vessels.kind == 0, False)[of_vessel]
        wall = np.append(vessels.wall, 1e3).astype(np.float32)[of_vessel]
        tint = np.append(vessels.tint, 0.5).astype(np.float32)[of_vessel]
        labels[(away < np.where(artery, 4.2, 1.5) + 2.0 * medium) & (away >= 0) & (tile.depth <= 0)] = CODE["fibrosis"]
        inside = away < 0
        labels[inside] = np.where(artery, CODE["muscle"], CODE["fibrosis"]).astype(np.uint8)[inside]
        inner = -away - wall + 0.7 * tile.blotch
        labels[inside & (inner > -1.6)] = CODE["endothelium"]
        hollow = inside & (inner > 0)
        labels[hollow] = CODE["lumen"]
        labels[hollow & (tint > 0.55) & (medium + 0.8 * tile.blotch > 0.3)] = CODE["red_cell"]

    def _draw_capsule(self, tile: Tile, grid: TileGrid, nx: Array, ny: Array, edge: Array) -> None:
        """The fibrous capsule of the kidney along one side of the tissue."""
        facing = np.cos(np.arctan2(ny, nx) - np.float32(self.anatomy.tissue.capsule))
        thickness = np.clip((facing - 0.55) * 90, 0, 26).astype(np.float32)
        under = grid.to_pixels(edge - thickness)
        tile.labels[under + 1.5 * tile.blotch < 0] = CODE["fibrosis"]

    def _nearest(
        self, tubes: Tubes, placed: tuple[Array, ...], grid: TileGrid, x: Array, y: Array, reach: float
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        """Distance from the nearest tube and from the next, at most ``reach``, and which the nearest is (-1: none)."""
        far = np.float32(reach)
        nearest, second = np.full(x.shape, far), np.full(x.shape, far)
        which = np.full(x.shape, -1, dtype=np.int32)
        segments, centres, reaches = placed
        several = np.bincount(tubes.tube, minlength=len(tubes.radius)) > 1
        for index in self._touching(placed, grid):
            window = grid.window(centres[index, 0], centres[index, 1], reaches[index])
            if window is None:
                continue
            segment = int(segments[index])
            tube = tubes.tube[segment]
            away = tubes.distance(segment, x[window], y[window], self.map.z)
            first, other, name = nearest[window], second[window], which[window]
            closer = away < first
            farther = np.maximum(first, away)
            if several[tube]:  # segments of one tube do not press each other
                farther[name == tube] = far
            np.minimum(other, farther, out=other)
            np.minimum(first, away, out=first)
            name[closer] = tube
        return nearest, second, which

    def _placed(self, names: Array, centres: Array, reach: Array) -> tuple[Array, ...]:
        """Names, level-0 centres and reaches in pixels of what may change the section."""
        return names, self.map.from_frame(centres), reach * self._stretch

    @staticmethod
    def _touching(placed: tuple[Array, ...], grid: TileGrid) -> Array:
        _, centres, reach = placed
        x, y = centres[:, 0], centres[:, 1]
        near = (x > grid.x - reach) & (x < grid.x + grid.width + reach)
        near &= (y > grid.y - reach) & (y < grid.y + grid.height + reach)
        return np.flatnonzero(near)

    def _body_outlines(self) -> dict[int, Polygon]:
        """The cut of each visible body's outer surface, in the frame, micrometres."""
        bodies, z = self.anatomy.bodies, self.map.z
        outlines: dict[int, Polygon] = {}
        for index in np.flatnonzero(np.abs(bodies.centre[:, 2] - z) < bodies.outer.reach):
            reach = bodies.outer.reach[index] + 16
            axis = np.arange(-reach, reach + 2, 2.0, dtype=np.float32)
            dx, dy = np.meshgrid(axis, axis)
            cx, cy = bodies.centre[index, :2].astype(np.float32)
            bx, by = self.bent(dx + cx, dy + cy)
            away = bodies.distance(int(index), bx, by, z)
            lines = find_contours(-away, 0.0)
            if not lines:
                continue
            line = max(lines, key=len)[:, ::-1] * 2.0 - reach + bodies.centre[index, :2]
            polygon = Polygon(line) if len(line) > 3 else Polygon()
            if polygon.is_valid and polygon.area > np.pi * (SMALLEST_PROFILE / 2) ** 2:
                outlines[int(index)] = polygon
        return outlines

    def body_kind(self, index: int) -> str:
        return BODY_KINDS[self.anatomy.bodies.kind[index]]
