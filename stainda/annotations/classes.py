"""Class names: maps the spellings of centres and programs to the class names of a study."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from stainda.annotations.guarded import read_csv
from stainda.annotations.records import ShapeRecords, as_objects
from stainda.arrays import Array
from stainda.errors import AnnotationError
from stainda.run_directory.tables import CLASSES

if TYPE_CHECKING:
    import geopandas as gpd

IGNORE = "Ignore*"
"""Shapes of this class are neither object nor background: ignored pixels. The name is QuPath's own."""

IGNORE_CLASSES = (IGNORE, "Ignore", "ignore", "ignored")
"""Classes that are read as :data:`IGNORE`."""

TO_IGNORE, TO_DROP = "ignore", "drop"
MAPPED_COLUMNS = CLASSES.without("slide", "annotator", "centre")

Fate = Literal["mapped", "matched", "kept", "ignored", "dropped", "unknown"]


@dataclass(frozen=True)
class ClassMap:
    """New names of classes, some of them only for one centre or one format.

    ``ignore`` as a new name makes ignored pixels of a class, ``drop`` leaves its shapes out. A name is looked up as it
    is written, then without regard to case, spaces, hyphens and underscores, then in the singular (see
    :func:`class_key`); a rule for the centre or format at hand goes before one for all. Classes without a rule are held
    against the known ones in the same way, and are ``matched`` where only the spelling differs.

    Attributes:
        rules: (old name, centre or "", format or "") -> new name.
        known: classes that need no rule (those of the task).
    """

    rules: Mapping[tuple[str, str, str], str]
    known: tuple[str, ...] = ()

    @classmethod
    def of(cls, names: Mapping[str, str], known: Iterable[str] = ()) -> ClassMap:
        """A map that holds for all centres and formats."""
        return cls({(old, "", ""): new for old, new in names.items()}, tuple(known))

    def __bool__(self) -> bool:
        return bool(self.rules)

    def becomes(self, name: str, centre: str = "", format: str = "") -> tuple[str, Fate]:
        """The new name of a class, empty where its shapes are dropped, and what that is."""
        new = self._rule(name, centre, format)
        if new is None:
            if name.strip().casefold() in _IGNORED:
                return IGNORE, "ignored"
            new = self._known(name)
            if new is None:
                return name, "unknown"
            return new, "kept" if new == name else "matched"
        if new.casefold() == TO_DROP:
            return "", "dropped"
        if new.casefold() in _IGNORED:
            return IGNORE, "ignored"
        new = self._known(new) or new
        return new, "mapped" if new != name else "kept"

    def _known(self, name: str) -> str | None:
        """The known class, or new name of a rule, that a name means."""
        for options in (self.known, self.rules.values()):
            for spelling in _SPELLINGS:
                for option in options:
                    if option.casefold() not in (TO_DROP, *_IGNORED) and spelling(option) == spelling(name):
                        return option
        return None

    def _rule(self, name: str, centre: str, format: str) -> str | None:
        for spelling in _SPELLINGS:
            for place in ((centre, format), (centre, ""), ("", format), ("", "")):
                for (old, *where), new in self.rules.items():
                    if tuple(where) == place and spelling(old) == spelling(name):
                        return new
        return None

    def nearest(self, name: str) -> str:
        """The known or mapped class that reads most like a name, or nothing."""
        options = {*self.known, *(old for old, _, _ in self.rules)}
        by_spelling = {_loosely(option): option for option in sorted(options)}
        near = difflib.get_close_matches(_loosely(name), by_spelling, n=1, cutoff=0.5)
        return by_spelling[near[0]] if near else ""

    def apply(
        self, shapes: gpd.GeoDataFrame, centre: str = "", format: str = ""
    ) -> tuple[gpd.GeoDataFrame, list[dict[str, Any]]]:
        """Shapes under their new names, and one row of :data:`MAPPED_COLUMNS` per class that was there.

        Classes without a rule are kept as they are; those the map does not know at all are reported as ``unknown``.
        """
        kept, names, rows = self._applied(shapes["class"], centre, format)
        left = shapes[kept].reset_index(drop=True)
        left["class"] = names
        return left, rows

    def apply_records(
        self, records: ShapeRecords, centre: str = "", format: str = ""
    ) -> tuple[ShapeRecords, list[dict[str, Any]]]:
        """As :meth:`apply`, of records."""
        kept, names, rows = self._applied(records.classes, centre, format)
        return records.take(kept).replaced(classes=names), rows

    def _applied(self, classes: Iterable[str], centre: str, format: str) -> tuple[Array, Array, list[dict[str, Any]]]:
        """Which shapes are kept (bool), the new names of those, and the rows of :meth:`apply`."""
        given = [str(name) for name in classes]
        counts = Counter(given)
        fates = {name: self.becomes(name, centre, format) for name in counts}
        rows: list[dict[str, Any]] = [
            {
                "class": name,
                "becomes": fates[name][0],
                "what": fates[name][1],
                "shapes": count,
                "nearest": self.nearest(name) if fates[name][1] == "unknown" else "",
            }
            for name, count in sorted(counts.items())
        ]
        kept = np.array([fates[name][1] != "dropped" for name in given], bool)
        return kept, as_objects([fates[name][0] for name in given if fates[name][1] != "dropped"]), rows


def read_class_table(path: str | Path, known: Iterable[str] = ()) -> ClassMap:
    """A table of classes: CSV with the columns ``from`` and ``to``, and if wanted ``centre`` and ``format``.

    Raises:
        AnnotationError: no such table, other columns, or a class with two new names in one place.
    """
    path = Path(path)
    header, *rows = read_csv(path)
    columns = [cell.strip().lower() for cell in header]
    if not {"from", "to"} <= set(columns) or not set(columns) <= {"from", "to", "centre", "format"}:
        names_found = ", ".join(map(repr, header))
        raise AnnotationError(
            f"the columns are {names_found}, not 'from' and 'to' (and, where needed, 'centre' and 'format')",
            file=path,
            row=1,
        )
    rules: dict[tuple[str, str, str], str] = {}
    for number, row in enumerate(rows, start=2):
        if len(row) != len(columns):
            raise AnnotationError(f"{len(row)} cells, where {len(columns)} are needed", file=path, row=number)
        cells = dict(zip(columns, (cell.strip() for cell in row), strict=True))
        old, new = cells["from"], cells["to"]
        if not new:
            raise AnnotationError(
                f"{old!r} has no new name", file=path, row=number, remedy="Write 'drop' to leave it out, or 'ignore'"
            )
        key = (old, cells.get("centre", ""), cells.get("format", ""))
        if rules.setdefault(key, new) != new:
            raise AnnotationError(f"{old!r} has two new names, {rules[key]!r} and {new!r}", file=path, row=number)
    return ClassMap(rules, tuple(known))


def matched_classes(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """One sentence per class that differs from a known one in spelling only, from rows of :meth:`ClassMap.apply`."""
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        if row["what"] == "matched":
            counts[row["class"], row["becomes"]] = counts.get((row["class"], row["becomes"]), 0) + row["shapes"]
    return [f"{old!r} is {new!r} ({count} shapes)" for (old, new), count in sorted(counts.items())]


def unknown_classes(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """One sentence per class that no rule knows, from rows of :meth:`ClassMap.apply`."""
    counts: dict[str, int] = {}
    nearest: dict[str, str] = {}
    for row in rows:
        if row["what"] == "unknown":
            counts[row["class"]] = counts.get(row["class"], 0) + row["shapes"]
            nearest[row["class"]] = row["nearest"]
    return [
        f"{name or '(no class)'} ({count} shapes{f', perhaps {nearest[name]!r}' if nearest[name] else ''})"
        for name, count in sorted(counts.items())
    ]


def class_key(name: str) -> str:
    """A key that is equal for names that differ only in case, number, spaces, hyphens or underscores.

    Plurals are English (``tubules``, ``arteries``, ``mitoses``) or Latin (``nuclei``, ``papillae``, ``lumina``).

    >>> class_key(" GLOMERULI") == class_key("Glomerulus") == class_key("glomeruluses")
    True
    >>> class_key("sclerotic_Nuclei") == class_key("Sclerotic nucleus")
    True
    """
    return " ".join(_singular(word) for word in _loosely(name).split())


def _loosely(text: str) -> str:
    return " ".join(re.sub(r"[_-]", " ", text.casefold()).split())


def _singular(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) < 4:
        return word
    for plural, singular in _PLURALS:
        if word.endswith(plural) and len(word) > len(plural) + 1:
            return word[: len(word) - len(plural)] + singular
    return word


_IGNORED = frozenset(name.casefold() for name in (TO_IGNORE, *IGNORE_CLASSES))
_IRREGULAR = {
    "lumina": "lumen", "foramina": "foramen", "corpora": "corpus", "ganglia": "ganglion",
    "mitochondria": "mitochondrion",
    "septa": "septum", "atria": "atrium", "epithelia": "epithelium", "endothelia": "endothelium",
    "mesothelia": "mesothelium", "interstitia": "interstitium", "mesangia": "mesangium", "ostia": "ostium",
    "cortices": "cortex", "matrices": "matrix", "apices": "apex", "cells": "cell", "pus": "pus", "lens": "lens",
}  # fmt: skip
# the first ending that fits decides: -us, -is, -ss and -as are singular
_PLURALS = (
    ("uses", "us"), ("us", "us"), ("ss", "ss"), ("is", "is"), ("mata", "ma"), ("ae", "a"), ("i", "us"), ("ies", "y"),
    ("sses", "ss"), ("oses", "osis"), ("yses", "ysis"), ("xes", "x"), ("ches", "ch"), ("shes", "sh"), ("s", ""),
)  # fmt: skip
_SPELLINGS: tuple[Callable[[str], str], ...] = (lambda text: text, _loosely, class_key)
