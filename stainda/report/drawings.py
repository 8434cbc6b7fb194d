"""A figure as the page carries it: SVG inside the page, SVG, PNG and CSV next to it."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from stainda.files import whole_file, write_text
from stainda.report import figures as look

# Colours of the figures that follow the page's light or dark scheme.
_SCHEME = {
    look.INK: "currentColor", look.MUTED: "var(--muted)", look.LINE: "var(--line)", look.BLUE: "var(--blue)",
    look.ORANGE: "var(--orange)",
}  # fmt: skip


@dataclass(frozen=True)
class Drawing:
    """A figure with its words. ``frame`` holds the numbers that are drawn."""

    name: str
    svg: str
    caption: str
    alt: str
    files: tuple[str, ...] = ()


def draw(figure: Figure, name: str, caption: str, alt: str, frame: pd.DataFrame, folder: Path) -> Drawing:
    """Write ``figures/<name>.svg``, ``.png`` (on white, 200 dpi) and ``.csv`` under ``folder``; the SVG inline too."""
    with mpl.rc_context({**look.STYLE, "svg.hashsalt": name}):
        figure.draw_without_rendering()
        with mpl.rc_context({"figure.constrained_layout.use": False}):
            figure.set_layout_engine(None)  # laid out once; with an engine, also a placeholder, savefig draws twice
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": "stainda"})
        text = stream.getvalue()
        with whole_file(folder / "figures" / f"{name}.png") as aside:
            figure.savefig(aside, format="png", dpi=200, facecolor="white", metadata={"Software": "stainda"})
    write_text(folder / "figures" / f"{name}.svg", text)
    write_frame(frame, folder / "figures" / f"{name}.csv")
    files = tuple(f"figures/{name}.{ending}" for ending in ("csv", "svg", "png"))
    return Drawing(name, inline_svg(text, name, alt), caption, alt, files)


def inline_svg(text: str, name: str, alt: str) -> str:
    """An SVG file as an element of the page: its ids made unique, its neutral colours those of the page."""
    body = text[text.index("<svg") :]
    ids = re.findall(r'\bid="([^"]+)"', body)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', body))
    for identifier in ids:
        if identifier not in used:
            body = body.replace(f' id="{identifier}"', "", 1)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'(href="#|url\(#)', rf"\1{name}-", body)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.S)
    for colour, scheme in _SCHEME.items():
        body = re.sub(re.escape(colour), scheme, body, flags=re.I)
    body = re.sub(r"\s*\n\s*", "\n", body)
    label = alt.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    points = re.search(r'<svg[^>]*? width="([\d.]+)pt"', body)
    width = f' style="--w: {float(points.group(1)) / 0.75:.0f}px"' if points else ""
    return re.sub(r"<svg ", f'<svg role="img" aria-label="{label}"{width} ', body, count=1)


def write_frame(frame: pd.DataFrame, path: Path) -> Path:
    with whole_file(path) as aside:
        frame.to_csv(aside, index=False)
    return path


def picture(path: Path, longest: int, quality: int = 72) -> tuple[str, int, int]:
    """An image file as a ``data:`` address, at most ``longest`` pixels, with its width and height."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality, optimize=True)
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    return f"data:image/jpeg;base64,{data}", image.width, image.height
