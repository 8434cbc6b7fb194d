"""Which words of a figure are written over each other or cut off."""

from __future__ import annotations

import itertools

import shapely
import shapely.affinity
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

CLOSE = 1.0  # pixels that boxes of letters may share: their corners are empty


def written(figure: Figure) -> list[tuple[str, Text]]:
    """Every text that is drawn, with where it is."""
    found = [("figure", text) for text in figure.texts]
    found += [("legend", text) for legend in figure.legends for text in legend.get_texts()]
    for place in figure.axes:
        if place.get_visible() and place.axison:
            found += [(f"{one.axis_name} axis", text) for one in (place.xaxis, place.yaxis) for text in _axis(one)]
        if place.get_visible():
            found += [("title", text) for text in (place.title, place._left_title, place._right_title)]
            found += [("axes", text) for text in place.texts]
            legend = place.get_legend()
            found += [("legend", text) for text in legend.get_texts()] if legend else []
    found += [("figure", one) for one in (figure._supxlabel, figure._supylabel, figure._suptitle) if one is not None]
    distinct = {id(text): (where, text) for where, text in found}
    return [(where, text) for where, text in distinct.values() if text.get_visible() and text.get_text().strip()]


def _axis(axis) -> list[Text]:
    ticks = [tick.label1 for tick in axis._update_ticks() if tick.label1.get_visible()]
    return [*ticks, axis.label, axis.offsetText]


def outline(text: Text) -> shapely.Polygon:
    """The rectangle that a text fills, turned as it is; pixels."""
    box, angle = text.get_window_extent(), text.get_rotation()
    centre = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
    text.set_rotation(0)
    flat = text.get_window_extent()
    text.set_rotation(angle)
    width, height = flat.width / 2, flat.height / 2
    shape = shapely.box(centre[0] - width, centre[1] - height, centre[0] + width, centre[1] + height)
    return shapely.affinity.rotate(shape, angle, origin=centre).buffer(-CLOSE, join_style="mitre")


def faults(figure: Figure) -> list[str]:
    """Pairs of texts that overlap, and texts that go beyond the edge."""
    figure.draw_without_rendering()
    texts = [(where, text, outline(text)) for where, text in written(figure)]
    edge = shapely.box(-1, -1, figure.bbox.width + 1, figure.bbox.height + 1)
    told = [f"cut off: {text.get_text()!r} ({where})" for where, text, box in texts if not edge.covers(box)]
    for (where, one, box), (there, two, other) in itertools.combinations(texts, 2):
        if box.intersects(other):
            told.append(f"{one.get_text()!r} ({where}) over {two.get_text()!r} ({there})")
    return told


def touches_the_axis(place: Axes, text: Text, least: float = 2.0) -> bool:
    """Whether a text inside the axes comes nearer than ``least`` pixels to their left or right end."""
    box, around = text.get_window_extent(), place.get_window_extent()
    return box.x0 < around.x0 + least or box.x1 > around.x1 - least
