"""One object across the sections of its block as an SVG file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from xml.sax.saxutils import escape

from stainda.report.gallery import FATES, OUTLINES
from stainda.report.object_gallery import FollowedObject

PANEL, GAP, LABEL, LINE = 170.0, 8.0, 128.0, 13.0


def object_svg(followed: FollowedObject) -> str:
    """Rows are sections, columns the photograph with the truth and then the strategies."""
    columns = 1 + len(followed.strategies)
    width = LABEL + columns * (PANEL + GAP)
    row_height = PANEL + 2 * LINE + GAP
    heights = [row_height if row.image else 3 * LINE for row in followed.rows]
    top = 5 * LINE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{top + sum(heights):.0f}" '
        'font-family="DejaVu Sans, sans-serif" font-size="9.5">',
        f'<rect width="100%" height="100%" fill="#fff"/><style>{OUTLINES}{BAR}</style>',
        _text(0, LINE, followed.title, "bold"),
        _text(0, 2.2 * LINE, f"{followed.words} {followed.field}."),
    ]
    for index, title in enumerate(("Photograph, truth", *followed.strategies)):
        parts.append(_text(LABEL + index * (PANEL + GAP), top - 0.6 * LINE, title, "bold"))
    y = top
    for number, (row, height) in enumerate(zip(followed.rows, heights, strict=True)):
        parts += [_text(0, y + LINE, row.title, "bold"), _text(0, y + 2 * LINE, row.about)]
        if not row.image:
            parts.append(_text(LABEL, y + LINE, row.reason))
        else:
            parts.append(
                f'<defs><image id="photo{number}" width="{followed.size}" height="{followed.size}" '
                f'href="{row.image}"/></defs>'
            )
            panels = [({"truth": row.truth}, row.text), *((cell.paths, cell.text) for cell in row.cells)]
            for index, (paths, text) in enumerate(panels):
                x = LABEL + index * (PANEL + GAP)
                parts.append(_panel(x, y, number, followed, paths, bar=index == 0))
                parts.append(_text(x, y + PANEL + LINE, text))
        y += height
    return "".join([*parts, "</svg>\n"])


BAR = (
    ".bar{stroke:#111;stroke-width:4;fill:none}.bar-under{stroke:#fff;stroke-width:8;fill:none;stroke-opacity:.85}"
    ".bar-text{font-size:17px;fill:#111;stroke:#fff;stroke-width:4px;stroke-opacity:.85;paint-order:stroke}"
)
"""The scale bar on a photograph, in pixels of it."""


def _panel(x: float, y: float, number: int, object_: FollowedObject, paths: Mapping[str, str], *, bar: bool) -> str:
    box = f'x="{x:.0f}" y="{y:.0f}" width="{PANEL:.0f}" height="{PANEL:.0f}"'
    parts = [
        f'<svg {box} viewBox="0 0 {object_.size} {object_.size}">',
        f'<use href="#photo{number}"/>',
    ]
    for fate in FATES:
        if paths.get(fate):
            parts.append(f'<path class="under" d="{paths[fate]}"/><path class="{fate}" d="{paths[fate]}"/>')
    if bar and object_.bar:
        line = f"M10 {object_.size - 12}h{object_.bar:.1f}"
        parts.append(f'<path class="bar-under" d="{line}"/><path class="bar" d="{line}"/>')
        parts.append(f'<text class="bar-text" x="10" y="{object_.size - 22}">{escape(object_.bar_text)}</text>')
    return "".join([*parts, "</svg>"])


def _text(x: float, y: float, text: str, weight: str = "normal") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" font-weight="{weight}">{escape(text)}</text>'
