"""Figures of the search: its course, which settings mattered, what they were, and what selection cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stainda.report.figures import BLUE, INK, LINE, MUTED, STYLE, WIDTH_MM, Look, new_figure, panels

MOST_TRIALS = 300
"""Of a strategy that are drawn one by one: ten thousand marks show no more, and make a page of megabytes."""


def thinned(trials: pd.DataFrame) -> pd.DataFrame:
    """At most about :data:`MOST_TRIALS` trials of each strategy, evenly spaced, the chosen and the best among them.

    Args:
        trials: columns ``strategy``, ``value``, ``chosen``.
    """
    kept = [pd.Index([])]
    for _, mine in trials.groupby("strategy", sort=False):
        places = np.linspace(0, len(mine) - 1, min(len(mine), MOST_TRIALS)).round().astype(int)
        kept += [mine.index[places], mine.index[mine["chosen"].to_numpy(bool)]]
        if mine["value"].notna().any():
            kept.append(pd.Index([mine["value"].idxmax()]))
    return trials[trials.index.isin(np.concatenate(kept))]


def history(trials: pd.DataFrame, look: Look) -> Figure:
    """Score of each trial on source validation and the best so far, one panel per strategy.

    Args:
        trials: columns ``strategy``, ``trial``, ``value`` (``nan``: failed), ``chosen``.
    """
    with mpl.rc_context(STYLE):
        names = look.present(list(trials["strategy"]))
        figure, axes = panels(len(names), 4, 14, 32, titles=[look.title(name) for name in names])
        floor = float(trials["value"].min())
        for place, name in zip(axes.flat, names, strict=False):
            rows = trials[trials["strategy"] == name].sort_values("trial")
            done = rows[rows["value"].notna()]
            course = done["value"].cummax()
            step = course.diff().ne(0) | (done["trial"] == done["trial"].max())
            place.plot(done["trial"][step], course[step], color=look.colour(name), linewidth=1, drawstyle="steps-post")
            some = thinned(done)
            place.plot(some["trial"], some["value"], "o", markerfacecolor="none", markeredgecolor=MUTED, markersize=3.5)
            chosen = done[done["chosen"]]
            place.plot(chosen["trial"], chosen["value"], look.marker(name), color=look.colour(name), markersize=4.5)
            failed = rows[rows["value"].isna()]
            place.plot(failed["trial"], [floor] * len(failed), "x", color=INK, markersize=4)
            place.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True, nbins=5))
            place.margins(x=0.08, y=0.12)
            place.grid(axis="y")
        figure.supxlabel("trial", fontsize=8)
        figure.supylabel("Dice on source validation", fontsize=8)
        return figure


def importance(table: pd.DataFrame, look: Look) -> Figure:
    """How much of the score each setting explains, one panel per strategy.

    Args:
        table: columns ``strategy``, ``setting``, ``importance``.
    """
    with mpl.rc_context(STYLE):
        names = look.present(list(table["strategy"]))
        settings = list(dict.fromkeys(table["setting"]))
        figure, axes = panels(
            len(names),
            4,
            16,
            12 + 4.6 * len(settings),
            titles=[look.title(name) for name in names],
            row_labels=[short(name) for name in settings],
        )
        for place, name in zip(axes.flat, names, strict=False):
            rows = table[table["strategy"] == name].set_index("setting")["importance"].reindex(settings)
            place.barh(range(len(settings)), rows.fillna(0), height=0.6, color=BLUE)
            for y, value in enumerate(rows):
                if np.isnan(value):
                    place.text(0.02, y, "not searched", va="center", fontsize=7, color=INK)
            place.set_xlim(0, 1)
            place.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
            place.grid(axis="x")
        axes.flat[0].set_yticks(range(len(settings)), [short(name) for name in settings])
        axes.flat[0].set_ylim(len(settings) - 0.4, -0.6)
        figure.supxlabel("share of importance", fontsize=8)
        return figure


def slices(trials: pd.DataFrame, settings: Sequence[str], look: Look) -> Figure:
    """Score against each setting: a row per strategy, a column per setting.

    Args:
        trials: ``strategy``, ``value``, ``chosen`` and one column per setting.
    """
    with mpl.rc_context(STYLE):
        names = look.present(list(trials["strategy"]))
        each = max(
            30.0, 1.4 * max(map(len, (line for name in names for line in _broken(look.title(name)).split("\n"))))
        )
        figure, axes = new_figure(
            12 + each * len(names), min(WIDTH_MM, 24 + 44 * len(settings)), nrows=len(names), ncols=len(settings),
            squeeze=False, sharey=True, sharex="col",
        )  # fmt: skip
        for column, setting in enumerate(settings):
            scale = Scale.of(trials[setting])
            for row, name in enumerate(names):
                place = axes[row, column]
                mine = trials[(trials["strategy"] == name) & trials["value"].notna() & trials[setting].notna()]
                x = scale.place(mine[setting])
                place.plot(x, mine["value"], "o", markerfacecolor="none", markeredgecolor=MUTED, markersize=3.5)
                best = mine["chosen"].to_numpy(bool)
                place.plot(x[best], mine["value"][best], look.marker(name), color=look.colour(name), markersize=5)
                if mine.empty:
                    place.text(0.5, 0.5, "not searched", transform=place.transAxes, ha="center", fontsize=7)
                place.set_xlim(-0.08, 1.08)
                place.set_xticks(scale.ticks, scale.labels)
                place.grid(axis="y")
                if column == 0:
                    place.set_ylabel(_broken(look.title(name)), fontsize=7.5)
            axes[-1, column].set_xlabel(short(setting))
        return figure


def parallel_coordinates(
    trials: Mapping[str, pd.DataFrame], settings: Mapping[str, Sequence[str]], look: Look
) -> Figure:
    """Each trial as a line over its settings to its score, dark where the score is low, light where high.

    Args:
        trials: by strategy, ``value`` and one column per setting.
        settings: by strategy, the settings that were searched.
    """
    with mpl.rc_context(STYLE):
        names = look.present(list(trials))
        figure, axes = new_figure(8 + 46 * len(names), 150, nrows=len(names), squeeze=False)
        values = pd.concat([table["value"] for table in trials.values()])
        norm = mpl.colors.Normalize(float(values.min()), float(values.max()))
        colours = mpl.colormaps["cividis"]
        for place, name in zip(axes.flat, names, strict=True):
            table = trials[name][trials[name]["value"].notna()]
            columns = [*settings[name], "value"]
            scales = [Scale.of(table[column]) for column in columns]
            lines = np.stack([scale.place(table[column]) for scale, column in zip(scales, columns, strict=True)], 1)
            order = np.argsort(table["value"].to_numpy(float))
            for index in order:
                value = float(table["value"].iloc[index])
                place.plot(range(len(columns)), lines[index], color=colours(norm(value)), linewidth=1.2)
            _coordinates(place, columns, scales)
            place.set_title(look.title(name), loc="left")
        return figure


def _coordinates(place: Axes, columns: Sequence[str], scales: Sequence[Scale]) -> None:
    for x, scale in enumerate(scales):
        place.axvline(x, color=LINE, linewidth=1, zorder=0)
        for tick, label in zip(scale.ticks, scale.labels, strict=True):
            place.annotate(
                label, (x, tick), xytext=(3, 0), textcoords="offset points", va="center", fontsize=7, color=INK,
                bbox={"facecolor": LINE, "edgecolor": "none", "pad": 0.8, "alpha": 0.85},
            )  # fmt: skip
    titles = [short(column) if column != "value" else "source validation" for column in columns]
    place.set_xticks(range(len(columns)), titles)
    place.set_yticks([])
    place.set_xlim(-0.15, len(columns) - 0.65)
    place.set_ylim(-0.1, 1.1)
    place.spines[:].set_visible(False)


def regret(table: pd.DataFrame, titles: Mapping[str, str], axis: str) -> Figure:
    """What each selection rule loses against choosing on the test labels; a dot per strategy, the mean as a mark.

    Args:
        table: columns ``selection``, ``strategy``, ``regret``.
        titles: of the rules, in the order to show.
    """
    with mpl.rc_context(STYLE):
        rules = [name for name in titles if name in set(table["selection"])]
        figure, place = new_figure(14 + 5.6 * len(rules), 150)
        for y, rule in enumerate(rules):
            values = table.loc[table["selection"] == rule, "regret"].to_numpy(float)
            place.plot(values, np.full(len(values), y + 0.18), "o", markerfacecolor="none", markeredgecolor=MUTED,
                       markersize=3)  # fmt: skip
            place.plot(values.mean(), y - 0.12, "D", color=BLUE, markersize=4.5)
        place.axvline(0, color=INK, linewidth=0.7, zorder=0)
        place.set_yticks(range(len(rules)), [titles[name][0].upper() + titles[name][1:] for name in rules])
        place.set_ylim(len(rules) - 0.4, -0.6)
        place.margins(x=0.08)
        place.set_xlabel(axis)
        place.grid(axis="x")
        return figure


class Scale:
    """Where values of a setting lie between 0 and 1: numbers linearly or by their logarithm, words evenly."""

    def __init__(self, words: list[str] | None, low: float, high: float, log: bool) -> None:
        self.words, self.low, self.high, self.log = words, low, high, log
        if words is not None:
            self.ticks = [self._word(word) for word in words]
            self.labels = [word if len(word) <= 14 else f"{word[:13]}…" for word in words]
        elif high == low:
            self.ticks, self.labels = [0.5], [f"{low:.3g}"]
        else:
            middle = float(np.sqrt(low * high)) if log else (low + high) / 2
            self.ticks, self.labels = [0.0, 0.5, 1.0], [f"{value:.3g}" for value in (low, middle, high)]

    @classmethod
    def of(cls, values: pd.Series) -> Scale:
        known = values.dropna()
        numbers = pd.to_numeric(known, errors="coerce")
        if known.map(lambda value: isinstance(value, bool)).any() or numbers.isna().any() or known.empty:
            return cls(sorted({str(value) for value in known}), 0.0, 1.0, False)
        low, high = float(numbers.min()), float(numbers.max())
        return cls(None, low, high, low > 0 and high / low >= 20)

    def place(self, values: pd.Series) -> Any:
        if self.words is not None:
            return np.array([np.nan if pd.isna(value) else self._word(str(value)) for value in values], float)
        numbers = pd.to_numeric(values, errors="coerce").to_numpy(float)
        if self.high == self.low:
            return np.where(np.isfinite(numbers), 0.5, np.nan)
        if self.log:
            return np.log(numbers / self.low) / np.log(self.high / self.low)
        return (numbers - self.low) / (self.high - self.low)

    def _word(self, word: str) -> float:
        assert self.words is not None
        return 0.5 if len(self.words) < 2 else self.words.index(word) / (len(self.words) - 1)


def short(setting: str) -> str:
    """The last two parts of a dotted path, in words: ``align.params.weight`` is ``align weight``."""
    parts = [part for part in setting.split(".") if part != "params"]
    return " ".join(parts[-2:] if parts[0] != "training" else parts[-1:]).replace("_", " ")


def _broken(words: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(words, 18))
