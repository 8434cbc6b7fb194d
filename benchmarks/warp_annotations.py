"""10,000 polygons of 100 vertices warped from one section to another: ours against VALIS's own GeoJSON warp.

``python benchmarks/warp_annotations.py [--polygons 10000] [--sample 20] [--data FOLDER] [--json]``

Both use one and the same VALIS registration of two sections, made here. VALIS warps a sample of the polygons, one call
per ring, and its time is scaled to all of them; stainda reads the VALIS result folder through its importer (nothing is
unpickled), warps all of them, and must put the vertices of the sample where VALIS puts them. Without the real pair
(``--data``, ``STAINDA_DATA`` or ``../shared/data``) two sections of the phantom are taken. Needs about two minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely

from stainda.registration.exchange.valis_folder import from_valis, read_valis
from stainda.slides import open_slide

LIMIT_SECONDS = 2.0
CLOSE_PIXELS = 0.01


def sections(data: Path, folder: Path) -> tuple[Path, Path]:
    """Two sections: the real pair where it is, else two of the phantom."""
    pair = data / "rat_kidney" / "HE.jpg", data / "rat_kidney" / "PanCK.jpg"
    if all(path.is_file() for path in pair):
        return pair
    from stainda.cohort import read_manifest
    from stainda.config import PhantomConfig
    from stainda.phantom import make_cohort

    config = PhantomConfig(patients=1, stains=("PAS", "JONES"), centres=("A",), size=2048)
    first, second = (row.path for row in read_manifest(make_cohort(config, folder / "phantom")))
    return first, second


def circles(count: int, vertices: int, size: tuple[int, int]) -> gpd.GeoDataFrame:
    """Polygons the size of glomeruli all over the section."""
    turns = np.linspace(0, 2 * np.pi, vertices, endpoint=False)
    circle = np.stack([np.cos(turns), np.sin(turns)], axis=1) * 0.012 * min(size)
    low, high = np.array(size) * 0.15, np.array(size) * 0.85
    centres = np.random.default_rng(0).uniform(low, high, (count, 1, 2))
    return gpd.GeoDataFrame({"class": ["glomerulus"] * count}, geometry=list(shapely.polygons(centres + circle)))


def write_sample(shapes: gpd.GeoDataFrame, path: Path) -> None:
    """Plain GeoJSON as VALIS reads it: a FeatureCollection."""
    features = [
        {"type": "Feature", "id": str(number), "properties": {}, "geometry": shapely.geometry.mapping(shape)}
        for number, shape in enumerate(shapes.geometry)
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--polygons", type=int, default=10_000)
    parser.add_argument("--vertices", type=int, default=100)
    parser.add_argument("--sample", type=int, default=20, help="polygons that VALIS warps")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("STAINDA_DATA", "../shared/data")))
    parser.add_argument("--json", action="store_true", help="the last line is JSON")
    options = parser.parse_args()

    from stainda.registration.valis_import import import_valis

    print("registering two sections with VALIS ...", flush=True)
    with contextlib.redirect_stdout(sys.stderr):
        import_valis()
        from valis import registration

        from stainda.registration.valis_reader import make_matcher
    with tempfile.TemporaryDirectory(prefix="stainda-warp-") as name:
        folder = Path(name)
        paths = sections(options.data, folder)
        matcher = make_matcher("kaze_extended")
        with (folder / "log").open("w") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            registrar = registration.Valis(
                str(paths[0].parent), str(folder), name="pair", img_list=[str(path) for path in paths],
                reference_img_f=str(paths[1]), imgs_ordered=True, align_to_reference=True, matcher=matcher,
                matcher_for_sorting=matcher,
            )  # fmt: skip
            done, _, _ = registrar.register()
        if done is None:
            sys.exit(f"VALIS gave up: {(folder / 'log').read_text() if (folder / 'log').exists() else ''}"[-2000:])
        source, target = (registrar.get_slide(str(path)) for path in paths)
        with open_slide(paths[0]) as one, open_slide(paths[1]) as other:
            sizes = one.size, other.size
        shapes = circles(options.polygons, options.vertices, sizes[0])

        transform = from_valis(read_valis(folder), paths[0].stem, paths[1].stem, *sizes)
        wall, cpu = time.perf_counter(), time.process_time()
        ours = transform.shapes(shapes)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu

        sample = shapes.iloc[np.linspace(0, len(shapes) - 1, options.sample).astype(int)]
        write_sample(sample, folder / "sample.geojson")
        their_wall, their_cpu = time.perf_counter(), time.process_time()
        with (folder / "log").open("w") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            theirs = source.warp_geojson_from_to(str(folder / "sample.geojson"), target)
        scale = len(shapes) / len(sample)
        their_wall = (time.perf_counter() - their_wall) * scale
        their_cpu = (time.process_time() - their_cpu) * scale
        put = [np.asarray(feature["geometry"]["coordinates"][0]) for feature in theirs["features"]]
        moved = transform.shapes(sample)
        off = max(
            float(np.abs(shapely.get_coordinates(shape) - there).max())
            for shape, there in zip(moved.geometry, put, strict=True)
        )

    rows = [
        ("stainda", len(shapes), wall, cpu),
        (f"VALIS, from {options.sample}", len(shapes), their_wall, their_cpu),
    ]
    print(f"{'':24}{'polygons':>10}{'wall s':>12}{'CPU s':>12}")
    for title, count, seconds, processor in rows:
        print(f"{title:24}{count:>10,}{seconds:>12.2f}{processor:>12.2f}")
    ratio = their_cpu / cpu
    print(f"ratio of CPU time: {ratio:,.0f}; vertices of the sample differ by at most {off:.2g} px")
    print(f"under {LIMIT_SECONDS:g} s of CPU: {'yes' if cpu < LIMIT_SECONDS else 'NO'}")
    if options.json:
        print(json.dumps({
            "polygons": len(shapes), "vertices": options.vertices, "stainda_seconds": round(cpu, 3),
            "valis_seconds": round(their_cpu, 1), "ratio": round(ratio), "largest_difference_px": off,
            "repaired": int(ours.attrs["repaired"]),
        }))  # fmt: skip
    if cpu >= LIMIT_SECONDS or off > CLOSE_PIXELS:
        sys.exit(1)


if __name__ == "__main__":
    main()
