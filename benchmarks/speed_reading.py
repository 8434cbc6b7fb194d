"""Reading of aligned 256-pixel JPEG tiles, one thread: stainda beside OpenSlide, and beside decoding alone.

    python benchmarks/speed_reading.py [--slide FILE]

Every round reads other tiles, each once. "Decoding alone" is libjpeg-turbo through imagecodecs on the same tiles,
already in memory. The three give the same pixels; that is checked first. stainda decodes in this process here
(``STAINDA_DECODE_HERE=1``); "as in a run" is the way through the process that slides are read in, by the clock.
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
        ways = {"stainda": ours, "as in a run": in_a_run, "openslide": theirs, "decoding alone": decoding}
        rates = take_turns(ways, given.rounds)
    work = f"reading {side} px JPEG tiles"
    lines = [
        ratio(work, rates, "stainda", "openslide", unit="tiles/CPU s", least=4.5),
        ratio(work, rates, "stainda", "decoding alone", unit="tiles/CPU s", least=0.9),
        ratio(work, rates, "as in a run", "stainda", unit="tiles/s", wall=True),
        ratio(work, rates, "as in a run", "openslide", unit="tiles/s", wall=True),
    ]
    show(lines, given, "openslide-python", "openslide-bin", "imagecodecs", "tifffile")


if __name__ == "__main__":
    main()
