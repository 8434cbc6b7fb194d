"""Sections of the synthetic kidney that are not rendered: true outlines, true cells and the tissue, in the frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely

from stainda.config import PhantomConfig
from stainda.phantom.law import EDGE_UM, MacrophageLaw
from stainda.phantom.section import RenderedSection, plan_sections

LAW: dict[str, Any] = {
    "inside": 80.0, "rings_um": (25.0, 50.0, 100.0), "ring_rates": (400.0, 280.0, 180.0), "beyond": 100.0,
}  # fmt: skip

NEW_SEEDS = (101, 102, 103, 104, 105)
"""Synthetic patients on which nothing was chosen: rules and thresholds were fixed before they were first drawn."""
LATER_SEEDS = (201, 202, 203, 204, 205, 206, 207, 208)
"""The same for what was decided later: the error of volumes, and how touching cells are split."""


@dataclass(frozen=True, eq=False)
class TrueSection:
    """Micrometres in the frame. ``names``: of the glomeruli, the same in every section of their block."""

    section: RenderedSection
    outlines: np.ndarray
    names: tuple[str, ...]
    tissue: shapely.Geometry
    law: MacrophageLaw

    def cells(self, rng: np.random.Generator) -> np.ndarray:
        return self.law.cells(self.section.scene, rng)[:, :2]


def true_sections(law: dict[str, Any], **phantom: Any) -> list[TrueSection]:
    """The sections of a cohort."""
    config = PhantomConfig(**{"macrophage_law": law, "mpp": 0.75, **phantom})
    return [_true(RenderedSection(plan)) for plan in plan_sections(config)]


def _true(section: RenderedSection) -> TrueSection:
    bodies = section.anatomy.bodies
    kept = [index for index in sorted(section.scene.outlines) if bodies.is_glomerulus[index]]
    outlines = np.array([section.scene.outlines[index] for index in kept], dtype=object)
    law = section.plan.law
    assert law is not None
    return TrueSection(section, outlines, tuple(bodies.name[index] for index in kept), tissue_of(section), law)


def tissue_of(section: RenderedSection) -> shapely.Polygon:
    """Where cells can lie: the tissue less a border of EDGE_UM."""
    tissue = section.anatomy.tissue
    angle = np.linspace(-np.pi, np.pi, 2000, endpoint=False)
    ray = np.column_stack([np.cos(angle), np.sin(angle)])
    near, far = (tissue.depth(*(ray * r).T) for r in (1.0, 101.0))  # depth falls evenly along a ray
    reach = 1 + (near - EDGE_UM) * 100 / (near - far)
    return shapely.Polygon(ray * reach[:, None])
