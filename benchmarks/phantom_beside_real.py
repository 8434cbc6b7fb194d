"""A rendered field of each stain next to the real patch it was fitted to, and how their optical densities compare.

    python benchmarks/phantom_beside_real.py --data ../shared/data --out /tmp/beside

Writes ``<stain>.png`` (left rendered, right real) per stain, ``all.png``, and prints per stain the quartiles of optical
density of tissue, rendered and real, and the extreme dye angles of the real patch (the fit the table was made from).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from stainda.config import PhantomConfig
from stainda.phantom.section import RenderedSection, plan_sections

REAL = {
    "PAS": "kidney_stains_hannover/orig_patch_stain_02.png",
    "HE": "kidney_stains_hannover/orig_patch_stain_01.png",
    "JONES": "kidney_stains_hannover/orig_patch_stain_03.png",
    "SR": "kidney_stains_hannover/orig_patch_stain_32.png",
    "CD68": "kidney_stains_hannover/orig_patch_stain_16.png",
    "CD34": "kidney_stains_hannover/orig_patch_stain_39.png",
    "PANCK": "kidney_stains_hannover/orig_patch_stain_37.png",
}
SIDE = 1000


def optical_density(image: np.ndarray) -> np.ndarray:
    """Optical density (n, 3) of slightly blurred pixels, against the image's own white."""
    soft = gaussian_filter(image.astype(np.float64), (0.7, 0.7, 0)).reshape(-1, 3)
    white = np.percentile(soft, 99.7, axis=0)
    return -np.log10(np.clip(soft, 1, None) / white)


def extreme_angles(density: np.ndarray) -> np.ndarray:
    """The two extreme unit vectors (2, 3) of tissue in its principal plane (Macenko et al. 2009)."""
    tissue = density[density.max(axis=1) > 0.12]
    plane = np.linalg.eigh(np.cov(tissue.T))[1][:, [2, 1]]
    plane *= np.sign(plane[0])
    angle = np.arctan2(tissue @ plane[:, 1], tissue @ plane[:, 0])
    found = [plane @ [np.cos(a), np.sin(a)] for a in np.percentile(angle, (0.5, 99.5))]
    return np.array([vector / np.linalg.norm(vector) for vector in found])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--mpp", type=float, default=0.42, help="of the rendered field; the real pixel size is not stated"
    )
    parser.add_argument(
        "--at", type=float, nargs=2, default=(0.25, 0.22), help="top left of the field, shares of the section"
    )
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    size = 2432
    config = PhantomConfig(
        patients=1, stains=tuple(REAL), centres=("A",), size=size, mpp=arguments.mpp, seed=3, difficulty=0.3
    )
    pairs = []
    for plan in plan_sections(config):
        left, top = (int(share * size) for share in arguments.at)
        rendered = RenderedSection(plan).region(left, top, SIDE, SIDE)
        real = np.asarray(Image.open(arguments.data / REAL[plan.stain]).convert("RGB"))
        pair = np.concatenate([rendered, np.full((SIDE, 20, 3), 255, np.uint8), real], axis=1)
        pairs.append(pair)
        Image.fromarray(pair).save(arguments.out / f"{plan.stain}.png")
        print(plan.stain)
        for name, image in (("rendered", rendered), ("real", real)):
            density = optical_density(image)
            shown = "  ".join(str(np.round(np.percentile(density, q, axis=0), 2)) for q in (10, 25, 50, 75, 90, 98))
            print(f"  {name:9s} density at 10..98 %: {shown}")
            print(f"            extreme dye angles: {np.round(extreme_angles(density), 2).tolist()}")
    Image.fromarray(np.concatenate([pair[::2, ::2] for pair in pairs])).save(arguments.out / "all.png")


if __name__ == "__main__":
    main()
