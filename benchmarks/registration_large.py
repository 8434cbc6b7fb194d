"""Registering one block: how much memory and time, for large slides or for many sections.

    python benchmarks/registration_large.py --size 30000 --sections 4       # four whole slides of 30,000 x 30,000 px
    python benchmarks/registration_large.py --size 2048 --sections 50       # the longest block there may be

Synthetic sections (``stainda phantom``) are enlarged to tiled pyramids of the size requested (pixels 0.25 µm wide where
that is larger than 8,192), so that what is measured is reading and registering, not drawing. Memory is the sum of the
proportional set sizes of ``stainda register`` and its children, ten times a second: what is shared counts once.
Landmarks of the phantom, enlarged alike, give the error.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import psutil

STAINS = ("PAS", "JONES", "SR", "CD68")
DRAWN = 3000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=30_000, help="width and height, pixels")
    parser.add_argument("--sections", type=int, default=4)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, help="default: a temporary folder, removed at the end")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        out = arguments.out or Path(temporary)
        factor = max(1, round(arguments.size / DRAWN)) if arguments.size > 8192 else 1
        manifest = make_block(out / "block", arguments.size // factor, arguments.sections, factor)
        command = [sys.executable, "-m", "stainda", "register", str(manifest), "--out", str(out / "run"), "--quiet"]
        peak, seconds, processor = watched([*command, "--workers", str(arguments.workers)])
        quality = pd.read_csv(out / "run" / "registration" / "quality.csv")
        print(quality[["source", "status", "tre_rigid_um", "tre_nonrigid_um"]].to_string(index=False))
        pairs = max(arguments.sections - 1, 1)
        print(
            f"{arguments.sections} sections of {arguments.size} x {arguments.size} px: {peak / 2**30:.2f} GiB at most, "
            f"{seconds:.0f} s, {processor:.0f} CPU s ({processor / pairs:.1f} per pair)"
        )


def make_block(folder: Path, size: int, sections: int, factor: int) -> Path:
    """Slides, landmarks and manifest of one block whose sections are ``size * factor`` pixels wide."""
    stains = ",".join(STAINS[index % len(STAINS)] for index in range(sections))
    mpp = 0.25 * factor if factor > 1 else 1536 / size
    command = [sys.executable, "-m", "stainda", "phantom", str(folder), "--patients", "1", "--stains", stains]
    subprocess.run([*command, "--centres", "A", "--size", str(size), "--mpp", str(mpp), "--quiet"], check=True)
    manifest = folder / "manifest.csv"
    if factor == 1:
        return manifest
    table = pd.read_csv(manifest)
    for row in table.to_dict("records"):
        enlarge(folder / row["path"], factor)
        points = pd.read_csv(folder / row["landmarks"])
        points[["x", "y"]] = points[["x", "y"]] * factor + (factor - 1) / 2
        points.to_csv(folder / row["landmarks"], index=False)
    table["annotations"] = ""
    table.to_csv(manifest, index=False)
    return manifest


def enlarge(path: Path, factor: int) -> None:
    """The slide, ``factor`` times as wide, as a tiled JPEG pyramid with its resolution in the file."""
    import pyvips

    image = pyvips.Image.new_from_file(str(path), access="sequential")
    finer = path.with_suffix(".large.tif")
    large = image.resize(factor, kernel="linear").copy(xres=image.xres * factor, yres=image.yres * factor)
    large.tiffsave(
        str(finer), tile=True, tile_width=512, tile_height=512, pyramid=True, compression="jpeg", Q=80, bigtiff=True
    )
    finer.replace(path)


def watched(command: list[str]) -> tuple[int, float, float]:
    """Peak memory of the command and its children in bytes, seconds, and processor seconds."""
    before, start, peak = _processor_time(), time.perf_counter(), 0
    process = psutil.Popen(command)
    while process.poll() is None:
        held = 0
        for one in (process, *_children(process)):
            try:
                held += one.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue  # it has ended between being listed and being asked
        peak = max(peak, held)
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return peak, time.perf_counter() - start, _processor_time() - before


def _processor_time() -> float:
    """Seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


if __name__ == "__main__":
    main()
