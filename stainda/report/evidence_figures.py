"""Figures of single objects and pixels: calibration, detections by score, counts and areas against the truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from stainda.evaluation import Agreement, Ranked
from stainda.report.figures import BLUE, INK, LINE, MUTED, STYLE, VERMILION, Look, panels
from stainda.report.off_scale import draw_beyond

Floats = npt.NDArray[np.float64]
_WIDEST = 4
THOUSANDS_FROM = 20_000.0


@dataclass(frozen=True)
class Reliability:
    """Mean probability and share of the class of each bin, float (bins,); the share's interval; the calibration error.

    ``nan`` in bins without pixels, and in ``low`` and ``high`` with one patient.
    """

    probability: Floats
    share: Floats
    low: Floats
    high: Floats
    error: float


def reliability(curves: Mapping[str, Reliability], look: Look) -> Figure:
    """Share of pixels of the class by predicted probability, one panel per strategy."""
    with mpl.rc_context(STYLE):
        names = look.present(list(curves))
        figure, axes = panels(len(names), _WIDEST, 14, 42, titles=[look.title(name) for name in names])
        for place, name in zip(axes.flat, names, strict=False):
            curve = curves[name]
            place.plot([0, 1], [0, 1], color=MUTED, linewidth=0.7, linestyle=(0, (3, 2)))
            finite = np.isfinite(curve.share)
            if np.isfinite(curve.low).any():
                place.fill_between(
                    curve.probability[finite], curve.low[finite], curve.high[finite], color=look.colour(name),
                    alpha=0.2, linewidth=0,
                )  # fmt: skip
            place.plot(
                curve.probability[finite], curve.share[finite], color=look.colour(name), marker=look.marker(name),
                markersize=2.6, linewidth=1,
            )  # fmt: skip
            place.text(0.03, 0.95, f"ECE {curve.error:.3f}", transform=place.transAxes, va="top", fontsize=7.5)
            _unit_axes(place)
        figure.supxlabel("predicted probability", fontsize=8)
        figure.supylabel("share of pixels of the class", fontsize=8)
        return figure


def precision_recall(curves: Mapping[str, Ranked], look: Look) -> Figure:
    """Precision of objects by recall as the score they need falls, one panel per strategy; grey: the baseline."""
    with mpl.rc_context(STYLE):
        names = look.present(list(curves))
        figure, axes = panels(len(names), _WIDEST, 14, 42, titles=[look.title(name) for name in names])
        drawn = {name: _precision_recall(curve) for name, curve in curves.items()}
        for place, name in zip(axes.flat, names, strict=False):
            if look.baseline in drawn and name != look.baseline:
                place.plot(*drawn[look.baseline], color=MUTED, linewidth=0.9, linestyle=(0, (3, 2)))
            place.plot(*drawn[name], color=look.colour(name), linewidth=1.2)
            _unit_axes(place)
        figure.supxlabel("recall: share of annotated objects that were hit", fontsize=8)
        figure.supylabel("precision", fontsize=8)
        return figure


def free_response(curves: Mapping[str, tuple[Ranked, float]], look: Look, rates: Sequence[float]) -> Figure:
    """Sensitivity by false detections per mm² of tissue (FROC), one panel per strategy; grey: the baseline.

    Args:
        curves: by strategy, its detections and the area of tissue, mm².
        rates: false detections per mm² at which the sensitivity is marked.
    """
    with mpl.rc_context(STYLE):
        names = look.present(list(curves))
        figure, axes = panels(len(names), _WIDEST, 14, 42, titles=[look.title(name) for name in names])
        drawn = {name: froc_steps(*curve) for name, curve in curves.items()}
        for place, name in zip(axes.flat, names, strict=False):
            if look.baseline in drawn and name != look.baseline:
                place.plot(
                    *drawn[look.baseline], color=MUTED, linewidth=0.9, linestyle=(0, (3, 2)), drawstyle="steps-post"
                )
            x, y = drawn[name]
            end = rates[-1] * 1.1
            inside = x <= end
            place.plot(np.append(x[inside], end), np.append(y[inside], y[inside][-1]), color=look.colour(name),
                       linewidth=1.2, drawstyle="steps-post")  # fmt: skip
            if not inside.all():  # the curve goes on: where it ends
                draw_beyond(
                    place, float(x[-1]), float(y[inside][-1]), (0.0, end), look.colour(name),
                    text=_always(f"{y[-1]:.2f} at {x[-1]:.0f}"), above=-3.0,
                )  # fmt: skip
            place.plot(rates, [y[x <= rate].max() for rate in rates], look.marker(name), color=look.colour(name),
                       markersize=3)  # fmt: skip
            place.set_xscale("symlog", base=2, linthresh=rates[0])
            place.set_xlim(0, rates[-1] * 1.1)
            place.set_xticks(list(rates), [f"{rate:g}" for rate in rates])
            place.minorticks_off()
            place.set_ylim(-0.02, 1.02)
            place.grid()
        figure.supxlabel("false detections per mm² of tissue", fontsize=8)
        figure.supylabel("sensitivity", fontsize=8)
        return figure


def bland_altman_panels(
    pairs: Mapping[str, pd.DataFrame], agreements: Mapping[str, Agreement], look: Look, unit: str
) -> Figure:
    """Difference against mean of found and annotated, a dot per patient, one panel per strategy.

    Args:
        pairs: by strategy, columns ``found`` and ``there``.
        agreements: of the same.
        unit: of both; large areas are shown in thousands of it.
    """
    with mpl.rc_context(STYLE):
        names = look.present(list(pairs))
        largest = max(float(np.nanmax(np.abs(pair.to_numpy(float)), initial=0.0)) for pair in pairs.values())
        factor = 1e-3 if unit == "µm²" and largest >= THOUSANDS_FROM else 1.0
        unit = unit if factor == 1 else f"10³ {unit}"
        figure, axes = panels(
            len(names), _WIDEST, 15, 40, shared=not own_scales(pairs), titles=[look.title(name) for name in names]
        )
        for place, name in zip(axes.flat, names, strict=False):
            rows, text = pairs[name].dropna() * factor, agreements[name]
            bias, lower, upper = (factor * value for value in (text.bias, text.lower, text.upper))
            place.axhline(0, color=INK, linewidth=0.7)
            if np.isfinite(lower):
                place.axhspan(lower, upper, color=LINE, alpha=0.5, linewidth=0)
                for end in (lower, upper):
                    place.axhline(end, color=VERMILION, linewidth=0.8, linestyle=(0, (4, 2)))
            if np.isfinite(bias):
                place.axhline(bias, color=BLUE, linewidth=1.1)
            place.plot(
                (rows["found"] + rows["there"]) / 2, rows["found"] - rows["there"], look.marker(name),
                markerfacecolor="none", markeredgecolor=look.colour(name), markersize=3.6, markeredgewidth=0.9,
            )  # fmt: skip
            place.margins(x=0.1, y=0.12)
            place.locator_params(nbins=4)
        figure.supxlabel(f"mean of found and annotated, {unit}", fontsize=8)
        figure.supylabel(f"found − annotated, {unit}", fontsize=8)
        return figure


def own_scales(pairs: Mapping[str, pd.DataFrame]) -> bool:
    """Whether one strategy is so far off that on its scale nothing could be seen of the others."""
    wide = [
        float(np.ptp([*(rows["found"] - rows["there"]), 0.0])) for pair in pairs.values() if len(rows := pair.dropna())
    ]
    return bool(wide) and max(wide) > 8 * float(np.median(wide)) > 0


def froc_steps(detections: Ranked, tissue_mm2: float) -> tuple[Floats, Floats]:
    """False detections per mm² of tissue and sensitivity at every threshold, from none to all."""
    score = detections.score
    ends = np.append(np.diff(score) != 0, True) if len(score) else np.zeros(0, bool)
    false = np.cumsum(~detections.hit)[ends] / tissue_mm2
    hits = np.cumsum(detections.hit)[ends] / max(detections.n_truth, 1)
    return np.concatenate([[0.0], false]), np.concatenate([[0.0], hits])


def _always(words: str) -> Callable[[float], str]:
    return lambda _: words


def _precision_recall(detections: Ranked) -> tuple[Floats, Floats]:
    ends = np.append(np.diff(detections.score) != 0, True) if len(detections.score) else np.zeros(0, bool)
    hits = np.cumsum(detections.hit)
    recall = hits / max(detections.n_truth, 1)
    precision = hits / np.arange(1, len(hits) + 1)
    return recall[ends].astype(float), precision[ends].astype(float)


def _unit_axes(place: mpl.axes.Axes) -> None:
    place.set_xlim(-0.02, 1.02)
    place.set_ylim(-0.02, 1.02)
    place.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    place.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    place.grid()
