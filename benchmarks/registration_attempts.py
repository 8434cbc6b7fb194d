"""What each deformation gives on pairs whose truth is known: VALIS's alone, stainda's own alone, and both.

    python benchmarks/registration_attempts.py --data ../shared/data
    python benchmarks/registration_attempts.py --made 6 --seed 11

VALIS runs once per pair; each setting of ``registration.deformation`` then works on the same rigid result, and the
gates decide what is kept. Real pairs have landmarks (level-0 pixels), which serve measuring only; synthetic ones
(``--made``, neighbouring sections of the scenario benchmark at double difficulty) have exact maps (micrometres).
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
from pathlib import Path
from typing import get_args

import numpy as np
from registration_cases import Library, Sheet
from registration_families import PAIRS as STAINS
from registration_scenarios import errors_um

from stainda.config import RegistrationConfig
from stainda.registration import Transform
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
    return lambda transform: errors_um(moving, fixed, transform)


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
    values = float(np.median(errors)), float(np.percentile(errors, 90)), float(errors.mean())
    print(
        f"{pair.name:14} {setting:8} {values[0]:7.2f} {values[1]:7.2f} {values[2]:7.2f} {pair.unit} {seconds:6.1f}",
        f" {words}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--made", type=int, default=0, help="so many synthetic pairs instead of the real ones")
    parser.add_argument("--seed", type=int, default=2)
    arguments = parser.parse_args()
    config = RegistrationConfig()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        import_valis()
    import cv2

    cv2.setNumThreads(1)
    print("pair           setting   median     P90    mean       CPU s  kept as, unsure, model, reason")
    with tempfile.TemporaryDirectory() as folder:
        pairs = (
            made_pairs(arguments.made, arguments.seed, config.max_dim, Path(folder))
            if arguments.made
            else real_pairs(arguments.data, config.max_dim)
        )
        for pair in pairs:
            started = time.process_time()
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


if __name__ == "__main__":
    main()
