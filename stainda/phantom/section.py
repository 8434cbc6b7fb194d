"""One section of the cohort: rendered tile by tile into a slide, with its truth next to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from stainda.arrays import Array
from stainda.config import PhantomConfig
from stainda.config.preparation import AnnotatorConfig, MacrophageLawConfig
from stainda.phantom.anatomy import SCLEROTIC_SHARE, Anatomy, build_anatomy
from stainda.phantom.artefacts import Artefact, make_artefacts, plan_artefacts
from stainda.phantom.centres import Centre, dyes_at, make_centre
from stainda.phantom.colour import NOISE_PERIOD, Camera
from stainda.phantom.grids import NODE, TileGrid
from stainda.phantom.law import MacrophageLaw
from stainda.phantom.maps import TrueMap, random_map
from stainda.phantom.scene import Scene
from stainda.phantom.structures import StructureMap
from stainda.phantom.tiff import write_pyramid
from stainda.randomness import generator_for
from stainda.stains.table import stain

RENDER_TILE = 512  # level-0 pixels rendered at once, a multiple of NODE and of the TIFF's tiles


@dataclass(frozen=True)
class SectionPlan:
    """Which section this is. ``number`` counts from 1 within its block; ``positive`` is the share of its tubules whose
    membranes are stained, of PDL1."""

    slide: str
    patient: str
    block: str
    number: int
    stain: str
    centre: Centre
    artefacts: tuple[str, ...]
    size: int
    seed: int
    difficulty: float
    heights: tuple[float, ...]
    group: str = ""
    macrophages: MacrophageLawConfig | None = None
    sclerotic: float = SCLEROTIC_SHARE
    touching: float = 0.0
    contact_depth: float = 0.0
    medulla: float = 0.0
    annotated: tuple[str, ...] = ()
    positive: float | None = None
    annotators: tuple[tuple[str, AnnotatorConfig], ...] = ()

    @property
    def law(self) -> MacrophageLaw | None:
        """Of the macrophages of this patient, where they follow one."""
        if self.macrophages is None:
            return None
        return MacrophageLaw.of(self.macrophages, self.seed, self.patient, self.group)

    @property
    def z(self) -> float:
        return self.heights[self.number - 1]

    @property
    def blank(self) -> bool:
        return "blank" in self.artefacts


def plan_sections(config: PhantomConfig) -> list[SectionPlan]:
    """Every section of a cohort, in the order of its manifest.

    Raises:
        ConfigError: a stain is not in the table.
    """
    stains = [stain(name).name for name in config.stains]
    centres = [
        make_centre(config.seed, name, index, config.mpp, config.thickness_um, config.difficulty)
        for index, name in enumerate(config.centres)
    ]
    plans = []
    for index in range(config.patients):
        centre = centres[index % len(centres)]
        patient = f"P{index + 1:02d}"
        block = f"{patient}B1"
        group = config.groups[index // len(centres) % len(config.groups)] if config.groups else ""
        pitch = centre.thickness * (1 + config.gap_sections)
        heights = tuple(pitch * k for k in range(len(stains)))
        given = plan_artefacts(config.seed, block, len(stains), config.artefacts)
        plans += [
            SectionPlan(
                slide=f"{block}_{k + 1:02d}_{name}", patient=patient, block=block, number=k + 1, stain=name,
                centre=centre,
                artefacts=given[k], size=config.size, seed=config.seed, difficulty=config.difficulty, heights=heights,
                group=group, macrophages=config.macrophage_law,
                sclerotic=config.sclerotic_shares.get(group, SCLEROTIC_SHARE), annotated=config.annotated,
                touching=config.touching, contact_depth=config.contact_depth, medulla=config.medulla,
                positive=_positive_share(config, patient) if name == "PDL1" else None,
                annotators=_annotators(config, centre.name),
            )
            for k, name in enumerate(stains)
        ]  # fmt: skip
    return plans


def _annotators(config: PhantomConfig, centre: str) -> tuple[tuple[str, AnnotatorConfig], ...]:
    return tuple(config.annotators.items()) if centre in (config.annotated_at or config.centres) else ()


def _positive_share(config: PhantomConfig, patient: str) -> float | None:
    if config.positive_tubules is None:
        return None
    return float(generator_for(config.seed, patient, "positive tubules").uniform(*config.positive_tubules))


@lru_cache(maxsize=2)
def _block_anatomy(seed: int, block: str, half: float, heights: tuple[float, ...], **shares: float) -> Anatomy:
    return build_anatomy(seed, block, half, heights, **shares)


def anatomy_of(plan: SectionPlan) -> Anatomy:
    """The anatomy of a section's block, kept for its other sections."""
    half = plan.size * plan.centre.mpp / 2
    return _block_anatomy(
        plan.seed, plan.block, half, plan.heights,
        sclerotic=plan.sclerotic, touching=plan.touching, contact_depth=plan.contact_depth, medulla=plan.medulla,
    )  # fmt: skip


class RenderedSection:
    """A section ready to be rendered.

    Attributes:
        plan, anatomy, map, scene, camera, artefacts: what it is made of.
        macrophages: after rendering, the macrophages drawn (indices into the anatomy's), in order.
        structures: after rendering, the structures to be annotated besides glomeruli; ``None`` where there are none.
    """

    def __init__(self, plan: SectionPlan) -> None:
        self.plan = plan
        self.anatomy = anatomy_of(plan)
        self.map: TrueMap = random_map(
            generator_for(plan.seed, plan.slide, "map"), plan.size, plan.centre.mpp, plan.z,
            difficulty=plan.difficulty, mirrored="mirror" in plan.artefacts, artefacts=plan.artefacts,
        )  # fmt: skip
        self.structures = (
            StructureMap.of(plan.size, plan.centre.mpp) if {"tubules", "vessels"} & {*plan.annotated} else None
        )
        self.scene = Scene(self.anatomy, self.map, plan.positive, keeps_kinds=self.structures is not None)
        if (law := plan.law) is not None:
            cells = law.cells(self.scene, generator_for(plan.seed, plan.slide, "macrophages by law"))
            self.scene.follow_law(cells)
            self.anatomy = self.scene.anatomy
        self.camera = _camera(plan)
        self.artefacts: list[Artefact] = make_artefacts(plan.seed, plan.slide, plan.size, plan.artefacts, self.scene)
        self._drawn: set[int] = set()

    @property
    def macrophages(self) -> Array:
        return np.array(sorted(self._drawn), dtype=np.int64)

    def region(self, x: int, y: int, width: int, height: int) -> Array:
        """Pixels uint8 (height, width, 3) of a region of level 0; the same whatever regions a section is cut into."""
        margin = self.scene.margin
        left, top = (x // NODE) * NODE - margin, (y // NODE) * NODE - margin
        right, bottom = x + width + margin, y + height + margin
        grid = TileGrid(
            left, top, -(-(right - left) // NODE) * NODE, -(-(bottom - top) // NODE) * NODE, self.scene.step
        )
        if self.plan.blank:
            density = np.zeros((grid.height, grid.width, 3), dtype=np.float32)
        else:
            tile = self.scene.tile(grid)
            density = self.camera.density(tile)
            self._drawn.update(tile.macrophages)
            if self.structures is not None and tile.kinds is not None:
                inside = tile.kinds[y - top : y - top + height, x - left : x - left + width]
                self.structures.put(x, y, inside)
        for artefact in self.artefacts:
            artefact.apply(density, grid, self.camera)
        image = self.camera.expose(density, left, top)
        return image[y - top : y - top + height, x - left : x - left + width]

    def bands(self) -> Iterator[Array]:
        """The whole section as bands of RENDER_TILE rows, from the top."""
        size = self.plan.size
        for top in range(0, size, RENDER_TILE):
            height = min(RENDER_TILE, size - top)
            yield np.concatenate(
                [self.region(left, top, min(RENDER_TILE, size - left), height) for left in range(0, size, RENDER_TILE)],
                axis=1,
            )

    def write(self, path: Path) -> Path:
        """Render into a pyramidal TIFF."""
        size = self.plan.size
        return write_pyramid(path, self.bands(), size, size, self.plan.centre.mpp, self.plan.centre.jpeg)


def _camera(plan: SectionPlan) -> Camera:
    vectors, amounts = dyes_at(stain(plan.stain), plan.centre, plan.seed, plan.slide)
    rng = generator_for(plan.seed, plan.slide, "sensor")
    noise = rng.standard_normal((NOISE_PERIOD, NOISE_PERIOD, 3), dtype=np.float32) * np.float32(plan.centre.noise)
    noise = np.pad(noise, ((0, RENDER_TILE + 128), (0, RENDER_TILE + 128), (0, 0)), mode="wrap")
    return Camera(vectors, amounts, plan.centre, plan.centre.thickness / 3.0, noise)
