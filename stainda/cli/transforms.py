"""``stainda transform``: use the transforms of a run, write them for other programs, read those made elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stainda.cli.display import ConsoleProgress, Quiet, console, show_table
from stainda.names import stem

if TYPE_CHECKING:
    from stainda.registration.maps import PointMap
    from stainda.registration.transforms import Transform

app = typer.Typer(
    help="Warp points, shapes and pixels; export and import transforms; say what is in one.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

TransformFile = Annotated[
    Path,
    typer.Argument(metavar="TRANSFORM.json", help="RUN/registration/BLOCK/SLIDE.json: a section into its frame."),
]
Onto = Annotated[
    Path | None,
    typer.Option("--onto", metavar="OTHER.json", help="Another section of the block: go there, not to the frame."),
]
Back = Annotated[bool, typer.Option("--inverse", help="The other way: from the frame (or OTHER) to the section.")]
SlideFile = Annotated[Path, typer.Argument(metavar="SLIDE", help="The slide whose pixels are shown.")]
Mpp = Annotated[float | None, typer.Option(help="Micrometres per level-0 pixel of the section, where it is not known.")]
FrameMpp = Annotated[float | None, typer.Option("--frame-mpp", help="The same of the frame (or OTHER).")]


def _map(path: Path, onto: Path | None, inverse: bool) -> PointMap:
    from stainda.errors import RegistrationError
    from stainda.registration.transforms import Between, Transform

    first = Transform.load(path)
    point_map: PointMap = first
    if onto is not None:
        second = Transform.load(onto)
        if first.frame != second.frame:
            raise RegistrationError(
                f"{first.slide} lies in the frame of {first.frame}, {second.slide} in that of {second.frame}",
                remedy="Name two sections of one block",
            )
        point_map = Between(first, second)
    return point_map.inverse if inverse else point_map


def _say_nowhere(count: int, what: str) -> None:
    if count:
        _say(f"{count} {what} left out: they lie between pieces of tissue, or in one without a partner")


def _say(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


@app.command()
def points(
    transform: TransformFile,
    source: Annotated[Path, typer.Argument(metavar="IN.csv", help="Landmarks or points, columns id, x, y.")],
    target: Annotated[Path, typer.Argument(metavar="OUT.csv", help="The file to write.")],
    onto: Onto = None,
    inverse: Back = False,
) -> None:
    """Warp points (level-0 pixels) into the frame, or onto another section.

    Example: `stainda transform points runs/x/registration/b1/PAS.json in.csv out.csv`
    """
    from stainda.annotations import read_landmarks, write_landmarks

    mapping = _map(transform, onto, inverse)
    table = read_landmarks(source)
    table[["x", "y"]] = mapping.points(table[["x", "y"]].to_numpy(float))
    nowhere = table[["x", "y"]].isna().any(axis=1)
    table = table[~nowhere]
    write_landmarks(table, target)
    _say(f"{len(table)} points of {mapping.slide} in the pixels of {mapping.frame}: {target}")
    _say_nowhere(int(nowhere.sum()), "points")


@app.command()
def shapes(
    *,
    transform: TransformFile,
    source: Annotated[Path, typer.Argument(metavar="IN", help="A file of annotations in any format that is read.")],
    target: Annotated[Path, typer.Argument(metavar="OUT.geojson", help="QuPath GeoJSON to write.")],
    onto: Onto = None,
    inverse: Back = False,
    slide: Annotated[
        Path | None,
        typer.Option("--slide", help="The slide of IN, where its scanned part begins elsewhere than the slide (MRXS)."),
    ] = None,
    target_slide: Annotated[Path | None, typer.Option("--target-slide", help="The same of OUT, for QuPath.")] = None,
    origin: Annotated[
        str, typer.Option(help="Where IN's coordinates begin: auto, level0 or bounds; see `stainda annotations check`.")
    ] = "auto",
) -> None:
    """Warp annotations into the frame, or onto another section; nothing is assessed (see `propagate`).

    Areas that reach between tissue pieces registered one by one are cut where the pieces end. Other such shapes, and
    what lies in a piece without a partner, are left out.

    Examples:

    - `stainda transform shapes runs/x/registration/b1/PAS.json glomeruli.geojson out.geojson`
    - `stainda transform shapes runs/x/registration/b1/PAS.json in.geojson out.geojson --slide PAS.mrxs`
    """
    from contextlib import nullcontext

    from stainda.annotations import as_origin, bounds_of_file, load_shapes, write_geojson
    from stainda.slides import open_slide

    mapping = _map(transform, onto, inverse)
    with nullcontext() if slide is None else open_slide(slide) as opened:
        if opened is not None and slide is not None:
            _same_slide(mapping, opened.size, slide)
        table = load_shapes(source, slide=opened, origin=as_origin(origin))[0]
    moved = mapping.shapes(table)
    repaired, nowhere, cut = (moved.attrs[name] for name in ("repaired", "nowhere", "cut"))
    moved = moved[~(moved.geometry.is_empty & ~table.geometry.is_empty)]
    write_geojson(moved, target, bounds=None if target_slide is None else bounds_of_file(target_slide))
    _say(f"{len(moved)} shapes of {mapping.slide} in the pixels of {mapping.frame}: {target}")
    _say_nowhere(nowhere, "shapes")
    if cut:
        _say(f"{cut} areas reached beyond a tissue piece and were cut where it ends")
    if repaired:
        _say(f"{repaired} outlines crossed themselves afterwards and were repaired")


@app.command()
def image(
    *,
    transform: TransformFile,
    slide: SlideFile,
    target: Annotated[Path, typer.Argument(metavar="OUT.png", help="Picture to write.")],
    region: Annotated[str, typer.Option(help="x,y,width,height, level-0 pixels of the frame. Default: all.")] = "",
    downsample: Annotated[float | None, typer.Option(help="Level-0 pixels per pixel; default: 2000 px.")] = None,
    level: Annotated[int | None, typer.Option(help="Instead of --downsample: a level of the slide.")] = None,
    onto: Onto = None,
    inverse: Back = False,
) -> None:
    """Show a section as it lies in the frame, or in another section.

    Example: `stainda transform image runs/x/registration/b1/PAS.json slides/PAS.svs out.png --region 1000,2000,512,512`
    """
    from PIL import Image

    from stainda.files import whole_file
    from stainda.slides import open_slide

    mapping = _map(transform, onto, inverse)
    wanted = _region(region) or (0.0, 0.0, float(mapping.frame_size[0]), float(mapping.frame_size[1]))
    if downsample is None and level is None:
        downsample = max(1.0, max(wanted[2:]) / 2000)
    with open_slide(slide) as opened:
        _same_slide(mapping, opened.size, slide)
        pixels = mapping.image(opened, wanted, level=level, downsample=downsample)
    with whole_file(target) as aside:
        Image.fromarray(pixels).save(aside)
    _say(f"{mapping.slide} in {mapping.frame}, {pixels.shape[1]} x {pixels.shape[0]} px: {target}")


@app.command()
def export(
    *,
    transform: TransformFile,
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help=".nii.gz, .mha, .nrrd (displacement field) or .ome.tif (pixels).")
    ],
    slide: Annotated[Path | None, typer.Option("--slide", help="The slide, for .ome.tif.")] = None,
    units: Annotated[str, typer.Option(help="Physical units of a field: px, um or mm.")] = "px",
    mpp: Mpp = None,
    frame_mpp: FrameMpp = None,
    spacing: Annotated[float | None, typer.Option(help="Of a field's points, level-0 pixels of the frame.")] = None,
    downsample: Annotated[float, typer.Option(help="Of the OME-TIFF's finest level.")] = 1.0,
    compression: Annotated[str, typer.Option(help="Of the OME-TIFF: jpeg or deflate.")] = "jpeg",
    onto: Onto = None,
    inverse: Back = False,
    quiet: Quiet = False,
) -> None:
    """Write a transform for ITK, SimpleITK, elastix or ANTs, or the warped slide as a pyramid.

    See docs/howto/transforms.md.

    Examples:

    - `stainda transform export runs/x/registration/b1/PAS.json pas.nii.gz --units mm --mpp 0.25 --frame-mpp 0.25`
    - `stainda transform export runs/x/registration/b1/PAS.json pas.ome.tif --slide slides/PAS.svs`
    """
    from stainda.errors import StaindaError, did_you_mean

    mapping = _map(transform, onto, inverse)
    if target.name.lower().endswith((".tif", ".tiff")):
        from stainda.registration.exchange.ome_tiff import write_ome_tiff
        from stainda.slides import open_slide

        if slide is None:
            raise StaindaError("pixels need the slide", remedy="Give it with --slide")
        if compression not in ("jpeg", "deflate"):
            raise StaindaError(
                f"no compression {compression!r} is written", remedy=did_you_mean(compression, ("jpeg", "deflate"))
            )
        with open_slide(slide) as opened:
            _same_slide(mapping, opened.size, slide)
            scale = opened.mpp and _scale(mapping)
            size = frame_mpp or (opened.mpp * scale if opened.mpp and scale else None)
            write_ome_tiff(
                mapping, opened, target, downsample=downsample, mpp=size, compression=compression,  # type: ignore[arg-type]
                progress=ConsoleProgress(quiet),
            )  # fmt: skip
    else:
        from stainda.registration.exchange.itk_field import write_field

        write_field(mapping, target, units=units, mpp=mpp, frame_mpp=frame_mpp, spacing=spacing)  # type: ignore[arg-type]
    _say(f"{mapping.slide} in {mapping.frame}: {target}")


@app.command("import")
def import_(
    *,
    source: Annotated[Path, typer.Argument(metavar="FILE", help="The transform, or the folder of a VALIS result.")],
    target: Annotated[Path, typer.Argument(metavar="OUT.json", help="Written, with its arrays in OUT.npz.")],
    slide: Annotated[Path, typer.Option("--slide", help="The slide of the section.")],
    frame: Annotated[Path, typer.Option("--frame", help="The slide whose pixels are the frame.")],
    kind: Annotated[
        str | None, typer.Option(help="affine, landmarks, itk, field, elastix, valis. Default: by its content.")
    ] = None,
    direction: Annotated[
        str | None, typer.Option(help="push (section to frame) or pull (frame to section, as ITK and elastix map).")
    ] = None,
    units: Annotated[str | None, typer.Option(help="What coordinates count: px, um or mm.")] = None,
    downsample: Annotated[float, typer.Option(help="Of the registered picture of the section.")] = 1.0,
    frame_downsample: Annotated[float, typer.Option("--frame-downsample", help="The same of the frame.")] = 1.0,
    origin: Annotated[str | None, typer.Option(help="Where 0 is: corner or centre of the first pixel.")] = None,
    landmarks: Annotated[Path | None, typer.Option(help="The frame's landmarks; FILE has the section's.")] = None,
    smoothing: Annotated[float, typer.Option(help="Of the spline through landmarks; 0 meets each of them.")] = 0.0,
    mpp: Mpp = None,
    frame_mpp: FrameMpp = None,
) -> None:
    """Read a transform made elsewhere; nothing is unpickled and nothing guessed. See docs/howto/transforms.md.

    Examples:

    - `stainda transform import matrix.csv PAS.json --slide PAS.svs --frame HE.svs --direction push --units px`
    - `stainda transform import PAS.csv PAS.json --landmarks HE.csv --slide PAS.svs --frame HE.svs`
    - `stainda transform import valis_results/ PAS.json --slide PAS.svs --frame HE.svs`
    """
    from stainda.registration.exchange.importing import Ends, Import, import_transform
    from stainda.slides import open_slide

    with open_slide(slide, mpp) as slide_file, open_slide(frame, frame_mpp) as frame_file:
        ends = Ends(
            stem(slide),
            stem(frame),
            slide_file.size,
            frame_file.size,
            slide_file.mpp,
            frame_file.mpp,
            slide,
            frame,
            slide_file.bounds,
            frame_file.bounds,
        )
    settings: dict[str, Any] = {"kind": kind, "direction": direction, "units": units, "origin": origin}
    scales: dict[str, Any] = {"downsample": downsample, "frame_downsample": frame_downsample, "smoothing": smoothing}
    import_transform(Import(source, landmarks=landmarks, **settings, **scales), ends).save(target)
    info(target)


@app.command()
def info(transform: TransformFile) -> None:
    """Say what a transform is: sizes, scale, turn, the reach of its deformation, folds, and how exactly it goes back.

    Example: `stainda transform info runs/x/registration/b1/PAS.json`
    """
    import numpy as np

    from stainda.registration.affine import apply_affine
    from stainda.registration.gates import decompose
    from stainda.registration.transforms import Transform

    loaded = Transform.load(transform)
    scale, turn, shear, mirrored = decompose(loaded.matrix)
    grid = np.stack(np.meshgrid(*(np.linspace(0, side, 65) for side in loaded.size)), axis=2).reshape(-1, 2)
    if loaded.pieces is not None:
        grid = grid[np.isfinite(loaded.to_frame(grid)).all(axis=1)]
    bend = np.linalg.norm(loaded.to_frame(grid) - apply_affine(loaded.matrix, grid), axis=1)
    back = loaded.round_trip(grid)
    folds = loaded.folds()
    rows = [
        ("section", f"{loaded.slide}, {loaded.size[0]} x {loaded.size[1]} px"),
        ("frame", f"{loaded.frame}, {loaded.frame_size[0]} x {loaded.frame_size[1]} px"),
        ("affine part", f"scale {scale:.4g}, turned {turn:.4g}°, shear {shear:.3g}{', mirrored' if mirrored else ''}"),
        ("deformation", "none" if not folds.size else f"{np.median(bend):.3g} px median, {bend.max():.3g} px at most"),
        (
            "lattice",
            "none" if not folds.size else f"{folds.shape[1]} x {folds.shape[0]}, {loaded.pixel_in_lattice():.4g} px",
        ),
        ("folds", f"{int(folds.sum())} of {folds.size} lattice points"),
        ("there and back", f"{np.nanpercentile(back, 99):.3g} px (99th percentile over the section)"),
        *_piece_rows(loaded),
        *((f"about: {key}", str(value)) for key, value in sorted(loaded.about.items()) if value is not None),
    ]
    show_table(str(transform), ("", ""), rows)


def _piece_rows(loaded: Transform) -> list[tuple[str, str]]:
    """One row per piece of tissue that has a transform of its own."""
    from stainda.registration.gates import decompose

    rows = []
    for number, part in enumerate(() if loaded.pieces is None else loaded.pieces.transforms, 1):
        scale, turn, _, mirrored = decompose(part.matrix)
        words = f"scale {scale:.4g}, turned {turn:.4g}°{', mirrored' if mirrored else ''}"
        rows.append((f"piece {number}", f"{words}, {'with' if part.bends else 'without'} a deformation"))
    return rows


def _region(text: str) -> tuple[float, float, float, float] | None:
    from stainda.errors import StaindaError

    if not text:
        return None
    try:
        x, y, width, height = (float(part) for part in text.split(","))
    except ValueError:
        raise StaindaError(
            f"--region {text!r} is not x,y,width,height", remedy="Write four numbers with commas"
        ) from None
    return x, y, width, height


def _same_slide(mapping: PointMap, size: tuple[int, int], path: Path) -> None:
    from stainda.errors import RegistrationError

    if tuple(mapping.size) != tuple(size):
        raise RegistrationError(
            f"has {size[0]} x {size[1]} px, but the transform is of {mapping.slide} with {mapping.size[0]} x "
            f"{mapping.size[1]} px",
            file=path,
            remedy=f"Name the slide of {mapping.slide}",
        )


def _scale(mapping: PointMap) -> float:
    """Section pixels per frame pixel in the middle: the frame's pixel size, where only the section's is known."""
    import numpy as np

    middle = np.array([[mapping.frame_size[0] / 2, mapping.frame_size[1] / 2]])
    return float(np.sqrt(abs(1 / mapping.area_change(mapping.from_frame(middle))[0])))
