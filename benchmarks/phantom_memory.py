"""How much memory and time a large synthetic section takes; the image itself would be width x height x 3 bytes.

    python benchmarks/phantom_memory.py --size 20000 --out /tmp/large

Renders one section and prints its size on disk, seconds, and the peak resident memory of this process.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from stainda.config import PhantomConfig
from stainda.memory import peak_mib
from stainda.phantom.section import RenderedSection, plan_sections


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=20_000)
    parser.add_argument("--stain", default="PAS")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    config = PhantomConfig(patients=1, stains=(arguments.stain,), centres=("A",), size=arguments.size)
    before = peak_mib()
    start = time.process_time()
    section = RenderedSection(plan_sections(config)[0])
    drawn = time.process_time()
    anatomy = section.anatomy
    print(
        f"anatomy: {len(anatomy.tubules.radius)} tubules, {len(section.scene.outlines)} bodies, {drawn - start:.1f} s"
    )
    path = section.write(arguments.out / f"{section.plan.slide}.tif")
    after = peak_mib()
    print(f"{path}: {path.stat().st_size / 2**20:.0f} MiB in {time.process_time() - drawn:.0f} CPU s")
    print(f"image {3 * arguments.size**2 / 2**20:.0f} MiB; peak memory {after:.0f} MiB, {before:.0f} MiB before")


if __name__ == "__main__":
    main()
