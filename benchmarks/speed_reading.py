"""Reading of aligned 256-pixel JPEG tiles, one thread: stainda beside OpenSlide, and beside decoding alone.

    python benchmarks/speed_reading.py [--slide FILE]

Every round reads other tiles, each once. "Decoding alone" is libjpeg-turbo through imagecodecs on the same tiles,
already in memory. All give the same pixels; that is checked first. "As in a run" is what a run does: a child process
decodes, and its CPU time counts. "In this process" is ``STAINDA_DECODE_HERE=1``, which no run sets by itself.
"""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path

import numpy as np
from side_by_side import arguments, ratio, show, take_turns, write_slide

SIZE = 256


def main() -> None:
    parser = arguments(__doc__, rounds=7)
    parser.add_argument("--slide", type=Path, help="a tiled JPEG TIFF; default: made-up tissue")
    parser.add_argument("--tiles", type=int, default=256, help="of a round")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = given.slide or write_slide(Path(folder) / "slide.tif", 12_288)
        _compare(path, given)


def _compare(path: Path, given) -> None:  # type: ignore[no-untyped-def]
    import openslide
    import tifffile
    from imagecodecs import jpeg8_decode

    from stainda.slides import open_slide

    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        side, tables = page.tilewidth, page.jpegtables
        across, columns, rows = -(-page.imagewidth // side), page.imagewidth // side, page.imagelength // side
        places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        space = {2: "RGB", 6: "YCBCR"}[int(page.photometric)]
    grid = [(x, y) for y in range(rows) for x in range(columns)]
    random.Random(0).shuffle(grid)
    data, count = path.read_bytes(), min(given.tiles, len(grid))

    def tiles(number: int) -> list[tuple[int, int]]:
        start = (number + 1) * count % max(1, len(grid) - count + 1)
        return grid[start : start + count]

    raw = {
        number: [data[o : o + n] for o, n in (places[y * across + x] for x, y in tiles(number))]
        for number in range(-1, given.rounds)
    }
    peer = openslide.OpenSlide(str(path))
    through_a_process = open_slide(path)
    os.environ["STAINDA_DECODE_HERE"] = "1"
    with open_slide(path) as slide, through_a_process:

        def ours(number: int) -> float:
            for x, y in tiles(number):
                slide.read(x * side, y * side, side, side)
            return count

        def in_a_run(number: int) -> float:
            for x, y in tiles(number):
                through_a_process.read(x * side, y * side, side, side)
            return count

        def theirs(number: int) -> float:
            for x, y in tiles(number):
                np.asarray(peer.read_region((x * side, y * side), 0, (side, side)).convert("RGB"))
            return count

        def decoding(number: int) -> float:
            for one in raw[number]:
                jpeg8_decode(one, tables=tables, colorspace=space, outcolorspace="RGB")
            return count

        x, y = grid[0]
        shown = np.asarray(peer.read_region((x * side, y * side), 0, (side, side)).convert("RGB"))
        assert np.array_equal(slide.read(x * side, y * side, side, side), shown)
        assert np.array_equal(through_a_process.read(x * side, y * side, side, side), shown)
        ways = {"as in a run": in_a_run, "in this process": ours, "openslide": theirs, "decoding alone": decoding}
        rates = take_turns(ways, given.rounds)
    work = f"reading {side} px JPEG tiles"
    bars = {"openslide": 4.5, "decoding alone": 0.9}
    lines = [
        ratio(work, rates, way, other, unit="tiles/CPU s", least=bar)
        for way in ("as in a run", "in this process")
        for other, bar in bars.items()
    ]
    lines.append(ratio(work, rates, "as in a run", "in this process", unit="tiles/CPU s"))
    lines.append(ratio(work, rates, "as in a run", "openslide", unit="tiles/s", wall=True))
    show(lines, given, "openslide-python", "openslide-bin", "imagecodecs", "tifffile")


if __name__ == "__main__":
    main()
