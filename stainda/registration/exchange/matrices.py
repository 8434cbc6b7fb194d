"""Affine matrices from CSV, JSON and NPY files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stainda.annotations.guarded import read_bytes, read_json
from stainda.arrays import Array
from stainda.errors import AnnotationError, RegistrationError
from stainda.names import ending

MAX_BYTES = 1_000_000
_SHAPES = "Write a 2 x 3 or 3 x 3 matrix, rows [a, b, tx], [c, d, ty] (and [0, 0, 1])"


def read_matrix(path: Path) -> Array:
    """The affine matrix (3, 3) in a file: ``.npy`` (no objects), ``.json`` (rows, or an object with a key ``matrix``)
    or text with two or three rows of three numbers, separated by commas, semicolons or blanks.

    Raises:
        RegistrationError: unreadable, of another shape, or not invertible.
    """
    try:
        suffix = ending(path)
        values = _npy(path) if suffix == ".npy" else _json(path) if suffix == ".json" else _text(path)
        matrix = np.asarray(values, dtype=np.float64)
    except AnnotationError as error:
        raise RegistrationError(error.message, file=path, remedy=error.remedy) from error
    except (ValueError, TypeError) as error:
        raise RegistrationError(f"no matrix of numbers ({error})", file=path, remedy=_SHAPES) from error
    if matrix.shape not in ((2, 3), (3, 3)):
        raise RegistrationError(f"a matrix of shape {matrix.shape}, not affine", file=path, remedy=_SHAPES)
    whole = np.eye(3)
    whole[: len(matrix)] = matrix
    if not np.isfinite(whole).all() or not np.allclose(whole[2], [0, 0, 1]):
        raise RegistrationError("not affine: the last row must be 0, 0, 1", file=path, remedy=_SHAPES)
    if abs(np.linalg.det(whole[:2, :2])) < 1e-12:
        raise RegistrationError("the matrix maps the plane to a line and has no inverse", file=path)
    return whole


def _npy(path: Path) -> Array:
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        raise RegistrationError("there is no such file, or it is far larger than a matrix", file=path)
    return np.load(path, allow_pickle=False)


def _json(path: Path) -> object:
    values = read_json(path, MAX_BYTES)
    return values.get("matrix") if isinstance(values, dict) else values


def _text(path: Path) -> list[list[float]]:
    text = read_bytes(path, MAX_BYTES).decode("utf-8-sig", errors="replace")
    rows = [line.replace(",", " ").replace(";", " ").split() for line in text.splitlines() if line.strip()]
    return [[float(cell) for cell in row] for row in rows]
