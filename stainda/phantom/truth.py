"""Ground truth of a section as files: outlines, macrophages, landmarks and the true map."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stainda.arrays import Array
from stainda.files import write_csv, write_json
from stainda.names import file_name
from stainda.phantom.annotators import drawn_features
from stainda.phantom.section import RenderedSection, SectionPlan, anatomy_of
from stainda.phantom.structures import POSITIVE, TUBULE, VESSEL
from stainda.randomness import generator_for

GLOMERULUS = {"name": "glomerulus", "color": [0, 200, 80]}
SCLEROTIC = {"name": "sclerotic glomerulus", "color": [200, 60, 160]}
TUBULES = {TUBULE: {"name": "tubule", "color": [60, 120, 220]}}
VESSELS = {VESSEL: {"name": "vessel", "color": [200, 40, 40]}}
MARKED_TUBULES = {
    TUBULE: {"name": "negative tubule", "color": [60, 120, 220]},
    POSITIVE: {"name": "positive tubule", "color": [220, 90, 0]},
}
MACROPHAGE_COLOUR = (230, 120, 0)
LANDMARKS = 24


def write_truth(section: RenderedSection, out: Path) -> None:
    """Write annotations, macrophages, landmarks and the map of a section that has been rendered."""
    slide = section.plan.slide
    features = [*structure_features(section), *glomerulus_features(section)]
    if "macrophages" in section.plan.annotated:
        features += macrophage_features(section)
    write_json(out / "annotations" / f"{file_name(slide)}.geojson", _collection(features))
    for name, quality in section.plan.annotators:
        drawn = drawn_features(section, features, name, quality)
        write_json(out / "annotations" / file_name(name) / f"{file_name(slide)}.geojson", _collection(drawn))
    write_json(out / "macrophages" / f"{file_name(slide)}.geojson", _collection(macrophage_features(section)))
    write_csv(out / "landmarks" / f"{file_name(slide)}.csv", landmark_rows(section), ("id", "x", "y"))
    section.map.save(
        out / "truth" / f"{file_name(slide)}.npz",
        size=np.array(section.plan.size), macrophages=section.anatomy.macrophages[section.macrophages],
        landmarks=frame_landmarks(section),
    )  # fmt: skip


def write_law(plans: Sequence[SectionPlan], out: Path) -> None:
    """Write the rates of the macrophages by section and zone, and how much each glomerulus attracts them."""
    rates, factors = [], []
    for plan in plans:
        law = plan.law
        assert law is not None
        about = {"slide": plan.slide, "patient": plan.patient, "group": plan.group}
        rates += [{**about, **row} for row in law.rows()]
    for block, plan in {plan.block: plan for plan in plans}.items():
        law = plan.law
        assert law is not None
        bodies = anatomy_of(plan).bodies
        attraction = law.attraction(bodies, block)
        factors += [
            {"block": block, "id": bodies.uuid[index], "name": bodies.name[index], "attraction": attraction[index]}
            for index in np.flatnonzero(bodies.is_glomerulus)
        ]
    write_csv(out / "law.csv", rates, ("slide", "patient", "group", "zone", "from_um", "to_um", "per_mm2"))
    write_csv(out / "attraction.csv", factors, ("block", "id", "name", "attraction"))


def glomerulus_features(section: RenderedSection) -> list[dict[str, Any]]:
    """QuPath features of the glomeruli of a section, outlines in level-0 pixels; the id is that of the whole block."""
    bodies = section.anatomy.bodies
    features = []
    for index, outline in sorted(section.scene.outlines.items()):
        if section.plan.blank or not bodies.is_glomerulus[index]:
            continue
        ring = section.map.from_frame(np.asarray(outline.exterior.coords))
        sclerotic = section.scene.body_kind(index) == "sclerotic"
        properties = {
            "objectType": "annotation",
            "name": bodies.name[index],
            "classification": SCLEROTIC if sclerotic and "sclerosis" in section.plan.annotated else GLOMERULUS,
            "isLocked": True,
            "measurements": {"sclerotic": int(sclerotic), "area_um2": round(outline.area, 1)},
        }
        features.append(_feature(bodies.uuid[index], "Polygon", [np.round(ring, 2).tolist()], properties))
    return features


def structure_features(section: RenderedSection) -> list[dict[str, Any]]:
    """QuPath features of tubules and vessels, where the plan annotates them; outlines in level-0 pixels."""
    if section.structures is None or section.plan.blank:
        return []
    wanted: dict[int, dict[str, Any]] = {}
    if "tubules" in section.plan.annotated:
        wanted |= TUBULES if section.plan.positive is None else MARKED_TUBULES
    if "vessels" in section.plan.annotated:
        wanted |= VESSELS
    features = []
    for kind, classification in wanted.items():
        for number, outline in enumerate(section.structures.outlines(kind), 1):
            ring = np.round(np.asarray(outline.exterior.coords), 2).tolist()
            properties = {"objectType": "annotation", "classification": classification, "isLocked": True}
            identity = _uuid(section, f"{section.plan.slide}/{classification['name']}/{number}")
            features.append(_feature(identity, "Polygon", [ring], properties))
    return features


def macrophage_features(section: RenderedSection) -> list[dict[str, Any]]:
    """QuPath features of the macrophages that can be seen, as points."""
    if section.plan.blank:
        return []
    drawn = section.macrophages
    points = section.map.from_frame(section.anatomy.macrophages[drawn, :2])
    inside = np.all((points >= 0) & (points < section.plan.size), axis=1)
    properties = {
        "objectType": "annotation",
        "classification": {"name": "macrophage", "color": list(MACROPHAGE_COLOUR)},
    }
    return [
        _feature(
            _uuid(section, f"macrophage/{name}"),
            "Point",
            np.round(point, 2).tolist(),
            {**properties, "name": f"C{name:05d}"},
        )
        for name, point in zip(drawn[inside], points[inside], strict=True)
    ]


def frame_landmarks(section: RenderedSection) -> Array:
    """(n, 2) micrometres in the frame: centres of upright tubules and vessels, spread wide; one set per block."""
    anatomy = section.anatomy
    spots = []
    for tubes in (anatomy.vessels, anatomy.tubules):
        run = tubes.end - tubes.start
        upright = np.linalg.norm(run[:, :2], axis=1) < 0.25 * np.abs(run[:, 2])
        spots.append((tubes.start[upright, :2] + tubes.end[upright, :2]) / 2)
    points = np.concatenate(spots)
    deep = anatomy.tissue.depth(points[:, 0], points[:, 1]) > 20
    points = points[deep] if deep.sum() >= LANDMARKS else points
    return _spread(points, LANDMARKS, generator_for(anatomy.seed, anatomy.block, "landmarks"))


def landmark_rows(section: RenderedSection) -> list[dict[str, Any]]:
    """Landmarks of a section, level-0 pixels; the ids are shared by the sections of a block."""
    if section.plan.blank:
        return []
    points = section.map.from_frame(frame_landmarks(section))
    return [
        {"id": number, "x": round(float(x), 3), "y": round(float(y), 3)}
        for number, (x, y) in enumerate(points, start=1)
        if 0 <= x < section.plan.size and 0 <= y < section.plan.size
    ]


def _spread(points: Array, number: int, rng: np.random.Generator) -> Array:
    """Up to ``number`` of the points, each as far as can be from those before it."""
    if len(points) <= number:
        return points
    chosen = [int(rng.integers(len(points)))]
    away = np.linalg.norm(points - points[chosen[0]], axis=1)
    while len(chosen) < number:
        chosen.append(int(np.argmax(away)))
        away = np.minimum(away, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return points[chosen]


def _uuid(section: RenderedSection, name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"stainda phantom/{section.plan.seed}/{section.plan.block}/{name}"))


def _feature(identity: str, kind: str, coordinates: list[Any], properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "Feature", "id": identity, "properties": properties,
        "geometry": {"type": kind, "coordinates": coordinates},
    }  # fmt: skip


def _collection(features: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": features}
