"""What each deformation gives on real pairs with landmarks: VALIS's alone, stainda's own alone, and both.

    python benchmarks/registration_attempts.py --data ../shared/data

VALIS runs once per pair; each setting of ``registration.deformation`` then works on the same rigid result, and the
gates decide what is kept. Landmarks are used for measuring only. Errors are level-0 pixels; CPU seconds are those of
the affine step, the deformations and the gates, without VALIS.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import get_args

import numpy as np

from stainda.config import RegistrationConfig
from stainda.registration.assessment import assess_proposal
from stainda.registration.landmarks import LandmarkPair
from stainda.registration.proposals import Proposal
from stainda.registration.refinement import Deformations
from stainda.registration.sections import SectionImage, open_section, working_dim
from stainda.registration.similarity import FrameView
from stainda.registration.valis_run import run_valis, to_transform

LUNG = "birl_Izd2-29-041-w35"
PAIRS = {
    "rat_kidney": ("rat_kidney/PanCK", "rat_kidney/HE", "rat_kidney/PanCK_landmarks", "rat_kidney/HE_landmarks"),
    "lung_lesion": tuple(
        f"lung_lesion/{kind}/{LUNG}_{stain}" for kind in ("images", "landmarks") for stain in ("proSPC", "HE")
    ),
}


def proposal_of(moving: SectionImage, frame: SectionImage, config: RegistrationConfig) -> Proposal:
    """What VALIS proposes for one pair."""
    raw = run_valis([frame, moving], frame.slide, config)
    full = to_transform(raw[moving.slide], moving, raw[frame.slide], frame)
    return Proposal(moving, full.rigid, full, raw[moving.slide].n_matches, "alone with the reference")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments = parser.parse_args()
    config = RegistrationConfig()
    print("pair         deformation status      median    P90   mean unsure  CPU s  model, reason")
    for name, (moving_file, frame_file, *landmarks) in PAIRS.items():
        images = []
        for slide in (moving_file, frame_file):
            image = open_section(slide, arguments.data / f"{slide}.jpg", None, working_dim(config.max_dim))
            assert isinstance(image, SectionImage), image
            images.append(image)
        moving, frame = images
        proposal = proposal_of(moving, frame, config)
        pair = LandmarkPair.read(*(arguments.data / f"{file}.csv" for file in landmarks))
        view = FrameView.of(frame)
        for wanted in get_args(Deformations):
            started = time.process_time()
            kept = assess_proposal(view, frame, proposal, config.max_dim, deformations=wanted)
            seconds = time.process_time() - started
            errors = np.full(1, np.nan) if kept.transform is None else pair.errors(kept.transform)
            values = float(np.median(errors)), float(np.percentile(errors, 90)), float(errors.mean())
            print(
                f"{name:12} {wanted:11} {kept.status:10} {values[0]:7.2f} {values[1]:6.2f} {values[2]:6.2f} "
                f"{kept.measures.get('unsure', 0):6.2f} {seconds:6.1f}  {kept.measures.get('model', '')}  {kept.reason}"
            )


if __name__ == "__main__":
    main()
