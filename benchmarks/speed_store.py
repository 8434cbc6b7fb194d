"""Patches per second from the store, in random order: stainda beside a bare memory map of the same file.

    python benchmarks/speed_store.py

Batches of 8, 16 and 32 patches with their labels, of 128 and 256 pixels, from regions with a margin, as training reads
them. The bare way indexes the memory map itself; stainda also refuses what a strategy may not see.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from made_store import make_store, training_data
from side_by_side import Line, arguments, ratio, show, take_turns


def main() -> None:
    given = arguments(__doc__, rounds=7).parse_args()
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as folder:
        for size, margin in ((128, 32), (256, 64)):
            data = training_data(make_store(Path(folder) / str(size), size, margin, 512))
            lines += [_compare(data, size, margin, batch, given.rounds) for batch in (8, 16, 32)]
    show(lines, given, "numpy")


def _compare(data, size: int, margin: int, batch: int, rounds: int) -> Line:  # type: ignore[no-untyped-def]
    images, labels = (np.load(data.store.folder / f"{name}.npy", mmap_mode="r") for name in ("images", "labels_own"))
    inner, known = slice(margin, margin + size), data.labelled()
    batches = max(8, 1024 * 128**2 // (batch * size**2))

    def rows(number: int) -> list[np.ndarray]:
        rng = np.random.default_rng(number + 1)
        return [rng.permutation(known)[:batch] for _ in range(batches)]

    def ours(number: int) -> float:
        for chosen in rows(number):
            data.images(chosen)
            data.labels(chosen)
        return batch * batches

    def bare(number: int) -> float:
        for chosen in rows(number):
            np.asarray(images[chosen, inner, inner])
            np.asarray(labels[chosen, inner, inner])
        return batch * batches

    chosen = rows(0)[0]
    assert np.array_equal(data.images(chosen), images[chosen, inner, inner])
    assert np.array_equal(data.labels(chosen), labels[chosen, inner, inner])
    rates = take_turns({"stainda": ours, "memory map": bare}, rounds)
    work = f"patches and labels from the store, {size} px, batch {batch}"
    return ratio(work, rates, "stainda", "memory map", unit="patches/CPU s", least=0.9)


if __name__ == "__main__":
    main()
