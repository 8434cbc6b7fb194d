"""What a batch of random windows costs next to fixed patches, and next to crops of whole images held in memory.

    python benchmarks/window_reading.py

A store of regions is written to a temporary folder and read through its memory map; with ``--plain`` the other
script's own ``batch`` crops whole images in memory. A step of the small U-Net stands next to it. Milliseconds per batch
(median), and the ratio to fixed patches.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from stainda.models.unet import UNet
from stainda.patches.windows import cut_windows
from stainda.training.windows import Windows


def median_ms(work: Callable[[], object], repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return 1000 * float(np.median(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plain", type=Path, help="plain_unet.py, with common.py next to it")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--patches", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    size, margin, n = options.size, options.size // 4, options.patches
    side, random_rows = size + 2 * margin, np.random.default_rng(0)
    windows, generator = Windows(size, margin, scale=0.5), torch.Generator().manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        images, labels = (
            np.lib.format.open_memmap(Path(folder) / name, "w+", np.uint8, shape)
            for name, shape in (("images.npy", (n, side, side, 3)), ("labels.npy", (n, side, side)))
        )
        for row in range(n):
            images[row] = random_rows.integers(0, 255, (side, side, 3), np.uint8)
        images, labels = (np.load(Path(folder) / name, mmap_mode="r") for name in ("images.npy", "labels.npy"))
        inner = slice(margin, margin + size)

        def fixed() -> None:
            rows = random_rows.integers(n, size=options.batch)
            np.asarray(images[rows, inner, inner]), np.asarray(labels[rows, inner, inner])

        def cropped() -> None:
            rows = random_rows.integers(n, size=options.batch)
            drawn = windows.draw(options.batch, generator)
            cut_windows(images, rows, drawn, size, smooth=True)
            cut_windows(labels, rows, drawn, size, smooth=False)

        found = {"fixed patches": median_ms(fixed, options.repeats), "windows": median_ms(cropped, options.repeats)}
    if options.plain is not None:
        sys.path.insert(0, str(options.plain.parent))
        spec = importlib.util.spec_from_file_location("plain", options.plain)
        assert spec is not None and spec.loader is not None
        plain = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(plain)
        image = random_rows.integers(0, 255, (1000, 1000, 3), np.uint8)
        mask = random_rows.random((1000, 1000)) < 0.2
        data = [(None, image, mask, mask)]
        asked, rng = SimpleNamespace(batch=options.batch, zoom=1.5, patch=size), random.Random(0)
        found["whole images in memory"] = median_ms(lambda: plain.batch(data, rng, asked), options.repeats)
    network = UNet(depth=4, width=16, upsampling="bilinear").to(memory_format=torch.channels_last)
    batch = torch.rand(options.batch, 3, size, size).to(memory_format=torch.channels_last)

    def step() -> None:
        network.zero_grad(set_to_none=True)
        network(batch).square().mean().backward()

    found["step of a U-Net (4, 16)"] = median_ms(step, 5)
    for name, value in found.items():
        print(f"{name:26}{value:9.2f} ms{value / found['fixed patches']:9.2f}")


if __name__ == "__main__":
    main()
