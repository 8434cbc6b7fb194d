"""Landmarks: named points that correspond between sections."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING

from stainda.annotations.frames import bounds_of, check_frame
from stainda.annotations.guarded import read_bytes
from stainda.errors import AnnotationError
from stainda.files import write_csv

if TYPE_CHECKING:
    import pandas as pd

    from stainda.slides import Slide


def read_landmarks(path: str | Path) -> pd.DataFrame:
    """Read landmarks from CSV: columns ``id, x, y``, or an unnamed index with ``X, Y`` (as BIRL and ImageJ write).

    Returns:
        DataFrame ``id`` (str), ``x``, ``y`` (float, level-0 pixels). Landmarks of two sections correspond by id.

    Raises:
        AnnotationError: columns are missing, a coordinate is not a number, or an id is used twice; all at once.
    """
    import pandas as pd

    path = Path(path)
    text = read_bytes(path, 50_000_000).decode("utf-8-sig", errors="replace")
    header_line = text.splitlines()[0]
    separator = next((mark for mark in (",", ";", "\t") if mark in header_line), ",")
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))  # not lines: an id may hold \x1d
    except csv.Error as error:
        raise AnnotationError(f"not a CSV file ({error})", file=path, remedy="Export it again") from error
    header = [cell.strip().lower() for cell in rows[0]]
    if "x" not in header or "y" not in header:
        raise AnnotationError(
            f"the landmarks have the columns {', '.join(map(repr, header))}, not x and y",
            file=path,
            row=1,
            remedy="Write a CSV with the columns id, x, y (level-0 pixels)",
        )
    at_x, at_y = header.index("x"), header.index("y")
    at_id = next((header.index(name) for name in ("id", "name", "landmark", "") if name in header), None)
    landmarks: dict[str, tuple[float, float]] = {}
    faults = []
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        try:
            x, y = float(row[at_x]), float(row[at_y])
            identity = str(number - 1) if at_id is None else row[at_id].strip()
        except (ValueError, IndexError):
            faults.append((number, "x or y is no number"))
            continue
        if not (math.isfinite(x) and math.isfinite(y)):
            faults.append((number, "x or y is no number"))
        elif identity in landmarks:
            faults.append((number, f"the id {identity!r} is used twice"))
        else:
            landmarks[identity] = (x, y)
    if faults:
        listed = "; ".join(f"row {number}: {reason}" for number, reason in faults[:20])
        raise AnnotationError(f"landmarks that cannot be used: {listed}", file=path, remedy="Correct these rows")
    columns = {
        "id": list(landmarks),
        "x": [xy[0] for xy in landmarks.values()],
        "y": [xy[1] for xy in landmarks.values()],
    }
    return pd.DataFrame(columns).astype({"id": object, "x": float, "y": float})


def check_landmarks(path: str | Path, slide: Slide) -> None:
    """Refuse landmarks that lie on glass as level-0 pixels, and on tissue if they count from the slide's scanned part.

    Args:
        path: the file. slide: the open slide.

    Raises:
        AnnotationError: as stated, with what to add to the coordinates; or the file cannot be read.
    """
    import numpy as np
    import shapely

    table = read_landmarks(path)
    points = np.asarray(shapely.points(table[["x", "y"]].to_numpy(float)), object)
    try:
        check_frame(points, "level0", slide, Path(path))
    except AnnotationError as error:
        bounds = bounds_of(slide) or (0, 0, 0, 0)
        raise AnnotationError(
            error.message.replace("shapes cover", "landmarks lie on"),
            file=path,
            remedy=f"Landmarks are level-0 pixels of the slide: add {bounds[0]} to x and {bounds[1]} to y",
        ) from error


def write_landmarks(landmarks: pd.DataFrame, path: str | Path) -> Path:
    """Write landmarks with the columns ``id, x, y``."""
    return write_csv(path, landmarks[["id", "x", "y"]].to_dict("records"), ("id", "x", "y"))
