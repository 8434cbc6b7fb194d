"""Overlay images for visual control of a registration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stainda.arrays import Array
from stainda.files import whole_file
from stainda.registration.similarity import Brought, FrameView

SQUARES = 8  # of the checkerboard, along the longer side
PANEL = 420  # longest side of one panel, pixels
MAX_BYTES = 150_000


def draw_overlay(
    path: Path,
    view: FrameView,
    before: Brought,
    after: Brought,
    colours: tuple[Array, Array],
    *,
    source: str,
    target: str,
) -> Path:
    """Three panels: the two sections in green and magenta before and after (grey where they agree), and a
    checkerboard of both after registration in their own ``colours`` (source, target: uint8 (h, w, 3) on the view).
    A JPEG below 150 kB."""
    reference = _grey(view.density, view.tissue)
    panels = [
        (_green_magenta(reference, _grey(before.density, before.tissue)), "before"),
        (_green_magenta(reference, _grey(after.density, after.tissue)), f"after: {source} (magenta), {target} (green)"),
        (_checkerboard(*colours), "checkerboard, after"),
    ]
    rows, columns = view.density.shape
    scale = PANEL / max(rows, columns)
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    gap, caption = 6, 18
    sheet = Image.new("RGB", (3 * size[0] + 2 * gap, size[1] + caption), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    for index, (panel, title) in enumerate(panels):
        x = index * (size[0] + gap)
        sheet.paste(Image.fromarray(panel).resize(size, Image.Resampling.LANCZOS), (x, caption))
        pen.text((x + 2, 3), _shortened(title, size[0] // 6), fill="black", font=font)
    for quality in (82, 70, 55, 40):
        with whole_file(path) as aside:
            sheet.save(aside, "JPEG", quality=quality, optimize=True)
        if path.stat().st_size < MAX_BYTES:
            break
    return path


def _grey(density: Array, tissue: Array) -> Array:
    """Optical density as brightness, float (h, w): glass 1; on tissue by rank, so that a dark and a pale stain weigh
    the same and what differs is position."""
    inside = density[tissue]
    if not inside.size:
        return np.ones_like(density)
    levels = np.percentile(inside, np.linspace(0, 100, 65))
    rank = np.interp(density, np.concatenate([[0.0], levels]), np.concatenate([[0.0], np.linspace(0.1, 0.9, 65)]))
    return 1 - np.where(tissue, rank, np.minimum(rank, 0.2))


def _green_magenta(target: Array, source: Array) -> Array:
    """Tissue of the target alone is green, of the source alone magenta, of both dark grey."""
    return (np.stack([target, source, target], axis=2) * 255).astype(np.uint8)


def _checkerboard(source: Array, target: Array) -> Array:
    side = max(1, max(target.shape) // SQUARES)
    rows, columns = np.indices(target.shape[:2]) // side
    return np.where(((rows + columns) % 2 == 1)[..., None], source, target)


def _shortened(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: max(1, letters - 1)] + "…"
