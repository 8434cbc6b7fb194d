"""Nuclei and macrophages: small solids with places in 3-D, drawn where the structure at their centre can hold them.

Nuclei are candidates on a jittered 3-D lattice, hashed from the seed, so none is stored however large the section;
whether a candidate is there, and of what form, depends on the structure it falls in.
"""

from __future__ import annotations

import numpy as np

from stainda.arrays import Array
from stainda.phantom.tile import CutSection, Tile
from stainda.randomness import seed_for
from stainda.stains.table import STRUCTURES

CODE = {name: index for index, name in enumerate(STRUCTURES)}
_LATTICE = np.array([6.6, 6.6, 5.0])  # micrometres between candidates
# structure: (share of candidates kept, half length, half width in micrometres, nucleus)
_NUCLEI = {
    "proximal": (0.5, 3.5, 3.3, "nucleus_tubule"),
    "distal": (0.8, 3.3, 3.1, "nucleus_tubule"),
    "collecting_duct": (0.8, 3.4, 3.1, "nucleus_tubule"),
    "interstitium": (0.30, 4.4, 1.7, "nucleus_stroma"),
    "fibrosis": (0.14, 4.8, 1.4, "nucleus_stroma"),
    "capillary_wall": (0.34, 4.2, 1.5, "nucleus_stroma"),
    "muscle": (0.30, 5.2, 1.4, "nucleus_stroma"),
    "endothelium": (0.5, 4.4, 1.3, "nucleus_stroma"),
    "podocyte": (0.55, 3.4, 2.7, "nucleus_tuft"),
    "mesangium": (0.55, 3.0, 2.5, "nucleus_tuft"),
    "tuft_wall": (0.40, 3.2, 2.2, "nucleus_tuft"),
    "sclerosis": (0.05, 3.0, 1.6, "nucleus_stroma"),
    "lymphoid_stroma": (0.97, 2.9, 2.8, "nucleus_lymphoid"),
    "macrophage": (0.5, 3.0, 2.2, "nucleus_stroma"),
}
_SHARE = np.zeros(len(STRUCTURES))
_HALF = np.zeros((len(STRUCTURES), 2))
_BECOMES = np.zeros(len(STRUCTURES), dtype=np.uint8)
for _name, (_share, _long, _short, _nucleus) in _NUCLEI.items():
    _SHARE[CODE[_name]], _HALF[CODE[_name]], _BECOMES[CODE[_name]] = _share, (_long, _short), CODE[_nucleus]
_EPITHELIUM = np.isin(np.arange(len(STRUCTURES)), [CODE[name] for name in ("proximal", "distal", "collecting_duct")])
_HOLDS_MACROPHAGE = np.isin(
    np.arange(len(STRUCTURES)),
    [CODE[name] for name in ("interstitium", "fibrosis", "capillary_wall", "lymphoid_stroma", "mesangium")],
)
_YIELDS = np.isin(
    np.arange(len(STRUCTURES)),
    [CODE[n] for n in ("interstitium", "fibrosis", "capillary_wall", "capillary_lumen", "lymphoid_stroma", "mesangium",
                       "tuft_wall", "tubule_membrane")],
)  # fmt: skip


def draw_nuclei(scene: CutSection, tile: Tile) -> None:
    """Draw every nucleus that reaches into the tile."""
    grid = tile.grid
    centres, numbers = _candidates(scene, tile)
    pixels = scene.map.from_frame(centres[:, :2])
    column = np.floor(pixels[:, 0]).astype(int) - grid.x
    row = np.floor(pixels[:, 1]).astype(int) - grid.y
    inside = (column >= 0) & (column < grid.width) & (row >= 0) & (row < grid.height)
    centres, numbers, pixels, row, column = (a[inside] for a in (centres, numbers, pixels, row, column))
    holder = tile.labels[row, column]
    kept = numbers[:, 3] < _SHARE[holder]
    depth = tile.depth[row, column]
    kept &= ~_EPITHELIUM[holder] | ((depth > 3.2) & (depth < 9.5))
    centres, numbers, pixels, row, column, holder = (a[kept] for a in (centres, numbers, pixels, row, column, holder))
    cut = 1 - ((centres[:, 2] - scene.map.z) / 3.2) ** 2
    half = _HALF[holder] * np.sqrt(np.clip(cut, 0.05, 1))[:, None] * (0.85 + 0.3 * numbers[:, 4:5])
    angle = _along_tissue(tile, row, column) + (numbers[:, 5] - 0.5) * 0.9
    _stamp_ellipses(scene, tile, pixels, half / scene.map.mpp, angle, _BECOMES[holder])


def _candidates(scene: CutSection, tile: Tile) -> tuple[Array, Array]:
    """Centres (n, 3) in the frame and six uniform numbers (n, 6) of the lattice cells that may reach the tile."""
    z = scene.map.z
    low = np.array([tile.x.min() - 6, tile.y.min() - 6, z - 3.2 - _LATTICE[2]])
    high = np.array([tile.x.max() + 6, tile.y.max() + 6, z + 3.2 + _LATTICE[2]])
    axes = [np.arange(np.floor(a / s), np.ceil(b / s) + 1) for a, b, s in zip(low, high, _LATTICE, strict=True)]
    cells = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3).astype(np.int64)
    numbers = hashed(seed_for(scene.anatomy.seed, scene.anatomy.block, "nuclei"), cells, 6)
    centres = (cells + 0.5 + 0.75 * (numbers[:, :3] - 0.5)) * _LATTICE
    near = np.abs(centres[:, 2] - z) < 3.1
    return centres[near], numbers[near]


def hashed(seed: int, cells: Array, number: int) -> Array:
    """Uniform numbers (n, number) in 0..1 from integer cells (n, 3), the same whenever they are requested."""
    mixed = np.uint64(seed)
    out = np.empty((len(cells), number))
    with np.errstate(over="ignore"):
        key = cells.astype(np.uint64) * np.array(
            [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64
        )
        base = _mix(key[:, 0] ^ mixed)
        base = _mix(base + key[:, 1])
        base = _mix(base + key[:, 2])
        for k in range(number):
            base = _mix(base + np.uint64(0x9E3779B97F4A7C15))
            out[:, k] = (base >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return out


def _mix(value: Array) -> Array:
    """The finaliser of SplitMix64 (Steele et al. 2014)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def _along_tissue(tile: Tile, row: Array, column: Array) -> Array:
    """The direction along the nearest tubule's surface, radians in pixel axes."""
    height, width = tile.depth.shape
    left, right = np.clip(column - 3, 0, width - 1), np.clip(column + 3, 0, width - 1)
    up, down = np.clip(row - 3, 0, height - 1), np.clip(row + 3, 0, height - 1)
    gx = tile.depth[row, right] - tile.depth[row, left]
    gy = tile.depth[down, column] - tile.depth[up, column]
    return np.arctan2(gy, gx) + np.pi / 2


def _stamp_ellipses(scene: CutSection, tile: Tile, centres: Array, half: Array, angle: Array, codes: Array) -> None:
    """Write ``codes`` into the labels within ellipses: centres (n, 2) level-0 pixels, half axes (n, 2) pixels."""
    if not len(centres):
        return
    grid = tile.grid
    reach = int(np.ceil(half.max()))
    steps = np.arange(-reach, reach + 1)
    gx, gy = np.meshgrid(steps, steps)
    gx, gy = gx.ravel(), gy.ravel()
    base = np.floor(centres).astype(int)
    dx = (gx[None] + (base[:, :1] + 0.5 - centres[:, :1])).astype(np.float32)
    dy = (gy[None] + (base[:, 1:] + 0.5 - centres[:, 1:])).astype(np.float32)
    cos, sin = np.cos(angle).astype(np.float32)[:, None], np.sin(angle).astype(np.float32)[:, None]
    half = np.maximum(half, 0.5).astype(np.float32)
    along = (dx * cos + dy * sin) / half[:, :1]
    across = (dy * cos - dx * sin) / half[:, 1:]
    hit = along * along + across * across < 1
    away = (along * along + across * across)[hit]
    which, place = np.nonzero(hit)
    rows, columns = base[which, 1] + gy[place] - grid.y, base[which, 0] + gx[place] - grid.x
    kept = (rows >= 0) & (rows < grid.height) & (columns >= 0) & (columns < grid.width)
    rows, columns, which, away = rows[kept], columns[kept], which[kept], away[kept]
    tile.labels[rows, columns] = codes[which]
    tile.grain[rows, columns] += np.where(away < 0.5, np.float32(-1.2), np.float32(0.5))  # pale within, dark at the rim


def draw_macrophages(scene: CutSection, tile: Tile, chosen: Array) -> None:
    """Draw those of the macrophages ``chosen`` that lie in interstitium here (all where they follow a
    law), and note them in the tile."""
    if not len(chosen):
        return
    grid, cells = tile.grid, scene.anatomy.macrophages
    pixels = scene.map.from_frame(cells[chosen, :2])
    row, column = np.floor(pixels[:, 1]).astype(int) - grid.y, np.floor(pixels[:, 0]).astype(int) - grid.x
    inside = (column >= 0) & (column < grid.width) & (row >= 0) & (row < grid.height)
    chosen, pixels, row, column = chosen[inside], pixels[inside], row[inside], column[inside]
    by_law = scene.anatomy.by_law
    holds = _HOLDS_MACROPHAGE[tile.labels[row, column]] | by_law
    chosen, pixels, row, column = chosen[holds], pixels[holds], row[holds], column[holds]
    if not len(chosen):
        return
    numbers = hashed(
        seed_for(scene.anatomy.seed, scene.anatomy.block, "macrophages"), np.stack([chosen] * 3, axis=1), 3
    )
    cut = np.sqrt(np.clip(1 - ((cells[chosen, 2] - scene.map.z) / 5.0) ** 2, 0.1, 1))
    half = np.stack([5.2 + 2.6 * numbers[:, 0], 2.8 + 1.6 * numbers[:, 1]], axis=1) * cut[:, None]
    angle = _along_tissue(tile, row, column) + (numbers[:, 2] - 0.5)
    before = tile.labels.copy()
    _stamp_ellipses(
        scene, tile, pixels, half / scene.map.mpp, angle, np.full(len(chosen), CODE["macrophage"], np.uint8)
    )
    if not by_law:
        spared = (tile.labels == CODE["macrophage"]) & (~_YIELDS[before] | (tile.blotch > 1.1))
        tile.labels[spared] = before[spared]
    tile.macrophages.extend(int(number) for number in chosen)
