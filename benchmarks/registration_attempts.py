"""What each deformation gives on pairs whose truth is known: VALIS's alone, stainda's own alone, and both.

    python benchmarks/registration_attempts.py --data ../shared/data
    python benchmarks/registration_attempts.py --made 6 --seed 11
    python benchmarks/registration_attempts.py --pairs-of FOLDER --landmark-scale 0.1
    python benchmarks/registration_attempts.py --block-of FOLDER --landmark-scale 0.1

VALIS runs once per pair; each setting of ``registration.deformation`` then works on the same rigid result, and the
gates decide what is kept. Real pairs have landmarks (level-0 pixels), which serve measuring only; synthetic ones
(``--made``, neighbouring sections of the scenario benchmark at double difficulty) have exact maps (micrometres).
``--pairs-of`` takes every pair of the sections in a folder, ``NAME.jpg`` with ``NAME.csv`` (landmarks by number), and
ends with the errors of all pairs together; ``--block-of`` registers them as one block, in the order of their names, and
takes the pairs through its frame. Landmarks of a larger picture are scaled.

CPU seconds are those of the affine step, the deformations and the gates; VALIS's own are in the first row of a pair.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import get_args

import numpy as np
from registration_cases import Library, Sheet
from registration_families import PAIRS as STAINS
from registration_scenarios import errors_um

from stainda.cohort import Cohort, Section
from stainda.config import RegistrationConfig
from stainda.registration import Transform, load_block, register_cohort
from stainda.registration.affine import apply_affine, fit_affine
from stainda.registration.assessment import assess_proposal
from stainda.registration.landmarks import LandmarkPair
from stainda.registration.proposals import Proposal
from stainda.registration.refinement import Deformations
from stainda.registration.sections import SectionImage, open_section, working_dim
from stainda.registration.similarity import FrameView
from stainda.registration.valis_import import import_valis
from stainda.registration.valis_run import run_valis, to_transform

LUNG = "birl_Izd2-29-041-w35"
REAL = {
    "rat_kidney": ("rat_kidney/PanCK", "rat_kidney/HE", "rat_kidney/PanCK_landmarks", "rat_kidney/HE_landmarks"),
    "lung_lesion": tuple(
        f"lung_lesion/{kind}/{LUNG}_{stain}" for kind in ("images", "landmarks") for stain in ("proSPC", "HE")
    ),
}


@dataclass(frozen=True, eq=False)
class KnownPair:
    """Two sections, and the distances (n,) of a transform from the truth in ``unit``."""

    name: str
    moving: SectionImage
    frame: SectionImage
    errors: Callable[[Transform], np.ndarray]
    unit: str


def real_pairs(data: Path, max_dim: int) -> Iterator[KnownPair]:
    for name, (moving, frame, *landmarks) in REAL.items():
        pair = LandmarkPair.read(*(data / f"{file}.csv" for file in landmarks))
        images = [opened(slide, data / f"{slide}.jpg", None, max_dim) for slide in (moving, frame)]
        yield KnownPair(name, *images, pair.errors, "px")


def pairs_of(folder: Path, scale: float, max_dim: int) -> Iterator[KnownPair]:
    """Every pair of the sections of a folder; the later one is brought to the earlier one."""
    images = {path.stem: opened(path.stem, path, None, max_dim) for path in sorted(folder.glob("*.jpg"))}
    for fixed, moving in combinations(images, 2):
        pair = scaled_landmarks(folder, moving, fixed, scale)
        yield KnownPair(f"{moving}-{fixed}", images[moving], images[fixed], pair.errors, "px")


def scaled_landmarks(folder: Path, source: str, target: str, scale: float) -> LandmarkPair:
    pair = LandmarkPair.read(folder / f"{source}.csv", folder / f"{target}.csv")
    return LandmarkPair(scale * pair.source, scale * pair.target)


def show_block(folder: Path, scale: float, config: RegistrationConfig) -> None:
    """All sections of a folder registered as one block: every pair through the frame, and all of them together."""
    paths = sorted(folder.glob("*.jpg"))
    cohort = Cohort(
        tuple(Section(path.stem, "p", "block", number, path.stem, "c", path) for number, path in enumerate(paths, 1))
    )
    with tempfile.TemporaryDirectory() as out:
        quality = register_cohort(cohort, config, out)
        block = load_block(Path(out) / "registration", "block")
    for row in quality.to_dict("records"):
        print(f"{row['source']:10} on {row['target']}: {row['status']}, {row['model']}, {row['reason']}")
    pooled: dict[str, list[np.ndarray]] = {"registered": [], "best affine map": []}
    for fixed, moving in combinations(block.transforms, 2):
        pair = scaled_landmarks(folder, moving, fixed, scale)
        there = block.transforms[fixed].from_frame(block.transforms[moving].to_frame(pair.source))
        pooled["registered"].append(np.linalg.norm(there - pair.target, axis=1))
        best = apply_affine(fit_affine(pair.source, pair.target), pair.source)
        pooled["best affine map"].append(np.linalg.norm(best - pair.target, axis=1))
        print(f"{moving}-{fixed}: {line(pooled['registered'][-1])} px")
    for name, errors in pooled.items():
        together = line(np.concatenate(errors))
        print(f"{config.deformation}, {name}, {len(errors)} pairs together: {together} px", flush=True)


def made_pairs(number: int, seed: int, max_dim: int, folder: Path) -> Iterator[KnownPair]:
    library = Library(seed)
    for index in range(number):
        stains = STAINS[index % len(STAINS)]
        sheets = [library.sheet(f"block {index}", k, stains[k - 1], difficulty=2.0) for k in (1, 2)]
        images = []
        for k, sheet in enumerate(sheets):
            path = folder / f"{index}_{k}.tif"
            sheet.write(path)
            images.append(opened(path.stem, path, sheet.mpp, max_dim))
        yield KnownPair(f"made {'-'.join(stains)}", images[1], images[0], against(*reversed(sheets)), "um")


def against(moving: Sheet, fixed: Sheet) -> Callable[[Transform], np.ndarray]:
    return lambda transform: errors_um(moving, fixed, transform)[0]


def opened(slide: str, path: Path, mpp: float | None, max_dim: int) -> SectionImage:
    image = open_section(slide, path, mpp, working_dim(max_dim))
    assert isinstance(image, SectionImage), image
    return image


def proposal_of(pair: KnownPair, config: RegistrationConfig) -> Proposal:
    """What VALIS proposes for one pair."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        raw = run_valis([pair.frame, pair.moving], pair.frame.slide, config)
    moving = raw[pair.moving.slide]
    full = to_transform(moving, pair.moving, raw[pair.frame.slide], pair.frame)
    bent = full if full.backward is not None else None
    return Proposal(pair.moving, full.rigid, bent, moving.n_matches, "alone with the reference")


def show(pair: KnownPair, setting: str, transform: Transform | None, seconds: float, words: str) -> None:
    errors = np.full(1, np.nan) if transform is None else pair.errors(transform)
    print(f"{pair.name:14} {setting:8} {line(errors)} {pair.unit} {seconds:6.1f}  {words}", flush=True)


def line(errors: np.ndarray) -> str:
    """Median, 90th percentile and mean."""
    return f"{np.median(errors):7.2f} {np.percentile(errors, 90):7.2f} {errors.mean():7.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--made", type=int, default=0, help="so many synthetic pairs instead of the real ones")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--pairs-of", type=Path, help="all pairs of the sections in this folder instead")
    parser.add_argument("--block-of", type=Path, help="the sections in this folder as one block instead")
    parser.add_argument("--landmark-scale", type=float, default=1.0, help="of a folder's landmarks")
    arguments = parser.parse_args()
    if arguments.block_of:
        for wanted in get_args(Deformations):
            config = RegistrationConfig.model_validate({"deformation": wanted})
            show_block(arguments.block_of, arguments.landmark_scale, config)
        return
    config = RegistrationConfig()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        import_valis()
    import cv2

    cv2.setNumThreads(1)
    print("pair           setting   median     P90    mean       CPU s  kept as, unsure, model, reason")
    with tempfile.TemporaryDirectory() as folder:
        if arguments.pairs_of:
            pairs = pairs_of(arguments.pairs_of, arguments.landmark_scale, config.max_dim)
        elif arguments.made:
            pairs = made_pairs(arguments.made, arguments.seed, config.max_dim, Path(folder))
        else:
            pairs = real_pairs(arguments.data, config.max_dim)
        show_pairs(pairs, config)


def show_pairs(pairs: Iterator[KnownPair], config: RegistrationConfig) -> None:
    """Each pair with every setting, and with every setting all pairs that were placed together."""
    pooled: dict[str, list[np.ndarray]] = {wanted: [] for wanted in get_args(Deformations)}
    unit = ""
    for pair in pairs:
        started, unit = time.process_time(), pair.unit
        proposal = proposal_of(pair, config)
        show(pair, "(rigid)", proposal.rigid, time.process_time() - started, "VALIS's rigid placement, no gates")
        view = FrameView.of(pair.frame)
        for wanted in get_args(Deformations):
            started = time.process_time()
            kept = assess_proposal(view, pair.frame, proposal, config.max_dim, deformations=wanted)
            seconds = time.process_time() - started
            measures = kept.measures.get("unsure", 0.0), kept.measures.get("model", "")
            words = f"{kept.status}, {measures[0]:.2f}, {measures[1]}, {kept.reason}"
            show(pair, wanted, kept.transform, seconds, words)
            if kept.transform is not None:
                pooled[wanted].append(pair.errors(kept.transform))
    for wanted, errors in pooled.items():
        if errors:
            print(f"{f'{len(errors)} pairs':14} {wanted:8} {line(np.concatenate(errors))} {unit}", flush=True)


if __name__ == "__main__":
    main()
