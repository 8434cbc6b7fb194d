"""How far the sections of a long block lie from their true places, before and after they are adjusted together.

    python benchmarks/registration_drift.py --sections 50 --seed 23
    python benchmarks/registration_drift.py --sections 50 --seed 23 --from-slides

Synthetic sections are rendered in four stains in turn, 3 um apart. Instead of registering them, each gets its true
transform with the errors of all steps between it and the reference: every step shifts, turns, stretches and bends by
about a micrometre and a half (``--step``), in ways of its own. Only the adjustment itself is then run, on the pictures.
With ``--from-slides`` the block is registered instead, with all attempts and gates, and then adjusted; with ``--out``
what is registered is not registered again. Errors are medians and 90th percentiles over the tissue, micrometres.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from stainda.cohort import Cohort, Section
from stainda.config import RegistrationConfig
from stainda.phantom.centres import make_centre
from stainda.phantom.maps import TrueMap
from stainda.phantom.section import RenderedSection, SectionPlan
from stainda.phantom.tiff import write_pyramid
from stainda.randomness import generator_for
from stainda.registration import Transform, load_block, register_cohort
from stainda.registration.assessment import Assessment
from stainda.registration.block_adjustment import adjust_block
from stainda.registration.outcomes import Outcomes
from stainda.registration.results import REGISTERED, read_head
from stainda.registration.sections import SectionImage, open_section
from stainda.registration.transforms import from_pull

STAINS = ("PAS", "JONES", "SR", "CD68")
SIZE, MPP, THICKNESS = 640, 2.0, 3.0
Move = Callable[[np.ndarray], np.ndarray]


def render(sections: int, seed: int, folder: Path) -> tuple[dict[str, SectionImage], dict[str, TrueMap]]:
    heights = tuple(THICKNESS * k for k in range(sections))
    centre = make_centre(seed, "A", 0, MPP, THICKNESS, 1.0)
    images, maps = {}, {}
    for k in range(sections):
        name, stain = f"s{k:02d}", STAINS[k % len(STAINS)]
        section = RenderedSection(SectionPlan(name, "P", "B", k + 1, stain, centre, (), SIZE, seed, 1.0, heights))
        pixels = np.concatenate(list(section.bands()))
        path = folder / f"{name}.tif"
        write_pyramid(path, (pixels[top : top + 512] for top in range(0, SIZE, 512)), SIZE, SIZE, MPP, 90)
        image = open_section(name, path, MPP, 768)
        assert isinstance(image, SectionImage), image
        images[name], maps[name] = image, section.map
    return images, maps


def error_of_a_step(rng: np.random.Generator, um: float) -> Move:
    """Displacements (n, 2) in pixels of the reference at its points (n, 2)."""
    linear, shift = rng.normal(0, um / 2, (2, 2)) / (SIZE / 2) / MPP, rng.normal(0, um / 2, 2) / MPP
    waves, phase = rng.normal(0, 2 * np.pi / 900, (3, 2)) * MPP, rng.uniform(0, 2 * np.pi, 3)
    bend = rng.normal(0, 0.3 * um, (3, 2)) / MPP
    return lambda xy: (xy - SIZE / 2) @ linear.T + shift + np.sin(xy @ waves.T + phase) @ bend


def with_drift(
    images: dict[str, SectionImage], maps: dict[str, TrueMap], reference: int, steps: list[Move]
) -> dict[str, Transform]:
    """True transforms, each with the errors of the steps between the section and the reference."""
    names, transforms = list(images), {}
    fixed = names[reference]
    for k, name in enumerate(names):
        passed = steps[reference:k] if k > reference else steps[k:reference]

        def pull(xy: np.ndarray, name: str = name, passed: list[Move] = passed) -> np.ndarray:
            return maps[name].from_frame(maps[fixed].to_frame(xy + sum(step(xy) for step in passed)))

        if k != reference:
            transforms[name] = from_pull(name, fixed, images[name].size, images[fixed].size, pull, 12.0)
    return transforms


def registered(images: dict[str, SectionImage], reference: str, folder: Path) -> dict[str, Transform]:
    """Transforms of the sections by registration, not adjusted yet."""
    rows = [Section(name, "P", "B", k, STAINS[k % len(STAINS)], "A", folder / f"{name}.tif", mpp=MPP)
            for k, name in enumerate(images)]  # fmt: skip
    config = RegistrationConfig.model_validate({"reference": reference, "adjust": "none"})
    quality = register_cohort(Cohort(tuple(rows)), config, folder)
    block = load_block(folder / "registration", "B")
    seconds = (read_head(folder / "registration", "B") or {})["cpu_seconds"]
    print(f"{seconds / (len(images) - 1):.1f} CPU s a pair; {quality['status'].value_counts().to_dict()}", flush=True)
    return {name: transform for name, transform in block.transforms.items() if name != reference}


def errors_um(outcomes: Outcomes, maps: dict[str, TrueMap]) -> np.ndarray:
    """Median and 90th percentile of each section (n, 2)."""
    rows, columns = np.nonzero(outcomes.view.tissue)
    points = outcomes.view.points.reshape(*outcomes.view.tissue.shape, 2)[rows[::97], columns[::97]]
    out = []
    for name, transform in sorted(outcomes.transforms().items()):
        there = maps[name].from_frame(maps[outcomes.frame.slide].to_frame(points))
        shown = (there > 0).all(axis=1) & (there < SIZE).all(axis=1)
        distance = np.linalg.norm(transform.to_frame(there[shown]) - points[shown], axis=1) * MPP
        out.append((np.median(distance), np.percentile(distance, 90)))
    return np.array(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", type=int, default=50)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--step", type=float, default=1.5, help="error of one step, micrometres")
    parser.add_argument("--from-slides", action="store_true", help="register the sections instead")
    parser.add_argument("--out", type=Path, help="keep slides and transforms here")
    arguments = parser.parse_args()
    reference = 2 * arguments.sections // 3
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        images, maps = render(arguments.sections, arguments.seed, folder)
        if arguments.from_slides:
            transforms = registered(images, f"s{reference:02d}", folder)
        else:
            rng = generator_for(arguments.seed, "drift", "steps")
            steps = [error_of_a_step(rng, arguments.step) for _ in range(arguments.sections)]
            transforms = with_drift(images, maps, reference, steps)
    outcomes = Outcomes(images[f"s{reference:02d}"], 512)
    for name, transform in transforms.items():
        outcomes.assessments[name] = Assessment(REGISTERED, "", transform, {})
    before, started = errors_um(outcomes, maps), time.process_time()
    adjustment = adjust_block(images, outcomes)
    seconds, after = time.process_time() - started, errors_um(outcomes, maps)
    for title, errors in (("before", before), ("after", after)):
        print(f"{title}: medians {np.round(errors[:, 0], 1).tolist()}")
        print(f"{title}: largest median {errors[:, 0].max():.1f} um, largest P90 {errors[:, 1].max():.1f} um")
    contradicted = [f"{cycle.moving}-{cycle.fixed}" for cycle in adjustment.cycles if cycle.contradicts]
    print(
        f"{len(adjustment.cycles)} comparisons, {seconds / arguments.sections:.2f} CPU s a section; stay: "
        f"{dict(adjustment.kept)}; contradicted: {contradicted}"
    )


if __name__ == "__main__":
    main()
