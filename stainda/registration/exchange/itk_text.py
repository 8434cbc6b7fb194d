"""Transforms that ITK and elastix write as text: ``.tfm`` / ``.txt`` and ``TransformParameters.N.txt``."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from stainda.annotations.guarded import read_bytes
from stainda.arrays import Array
from stainda.errors import AnnotationError, RegistrationError
from stainda.names import is_file
from stainda.registration.exchange.world import STRAIGHT, PointFunction, bspline, linear_from

MAX_BYTES = 200_000_000
MAX_CHAIN = 16
ITK_HEAD = "#Insight Transform File"


def text_of(path: Path) -> str:
    try:
        return read_bytes(path, MAX_BYTES).decode("utf-8", errors="replace")
    except AnnotationError as error:
        raise RegistrationError(error.message, file=path, remedy=error.remedy) from error


def read_itk_text(path: Path) -> tuple[PointFunction, float]:
    """From the fixed to the moving image, points (n, 2) in physical units; and its grain in these.

    Linear and B-spline transforms of flat images, also several of them; the last in the file is applied first, as
    in ITK's CompositeTransform.

    Raises:
        RegistrationError: another kind of transform, three dimensions, or damaged.
    """
    text = text_of(path)
    if not text.startswith(ITK_HEAD):
        raise RegistrationError(f"not an ITK transform as text: it does not start with {ITK_HEAD!r}", file=path)
    steps: list[tuple[PointFunction, float]] = []
    for part in re.split(r"^#Transform \d+.*$", text, flags=re.MULTILINE)[1:]:
        entries = dict(re.findall(r"^(\w+):[ \t]*(.*)$", part, flags=re.MULTILINE))
        name = entries.get("Transform", "")
        if name.startswith("CompositeTransform"):
            continue
        try:
            steps.append(_itk_step(name, _numbers(entries["Parameters"]), _numbers(entries["FixedParameters"])))
        except RegistrationError as error:
            raise RegistrationError(error.message, file=path, remedy=error.remedy) from error
        except (KeyError, ValueError, IndexError) as error:
            raise RegistrationError(f"{name or 'a transform'} is damaged ({error})", file=path) from error
    if not steps:
        raise RegistrationError("holds no transform", file=path)
    return _one_after_another([step for step, _ in steps[::-1]]), min(grain for _, grain in steps)


def _numbers(text: str) -> Array:
    values = np.array([float(word) for word in text.split()])
    if not np.isfinite(values).all():
        raise ValueError("a parameter is not a finite number")
    return values


def _itk_step(name: str, parameters: Array, fixed: Array) -> tuple[PointFunction, float]:
    kind, _, rest = name.partition("_")
    if not rest.endswith("_2_2"):
        raise RegistrationError(f"{name or 'a transform'} is not one of flat images (…_2_2)")
    if kind.startswith("BSpline"):
        if len(fixed) != 10:
            raise RegistrationError(f"{name}: {len(fixed)} fixed parameters, not the 10 of a flat grid")
        size = fixed[:2].astype(int).tolist()
        return bspline(size, fixed[2:4], fixed[4:6], fixed[6:].reshape(2, 2), parameters), float(fixed[4:6].min())
    matrix = linear_from(kind, parameters, fixed[:2] if len(fixed) >= 2 else np.zeros(2))
    if matrix is None:
        raise RegistrationError(
            f"{name} is not read", remedy="Export it as a displacement field (NIfTI, MHA or NRRD) and import that"
        )
    return matrix, STRAIGHT


def _one_after_another(steps: list[PointFunction]) -> PointFunction:
    def move(xy: Array) -> Array:
        for step in steps:
            xy = step(xy)
        return xy

    return move


def read_elastix(path: Path) -> tuple[PointFunction, float]:
    """From the fixed to the moving image, points (n, 2) in the physical units of the images; and its grain in these.

    Affine, Euler, similarity, translation and cubic B-spline transforms, with the chain of initial transforms.
    Those are looked for next to the file only, whatever folder is written in it.

    Raises:
        RegistrationError: another kind of transform, three dimensions, a missing initial transform, or damaged.
    """
    return _elastix(path, 0)


def _elastix(path: Path, depth: int) -> tuple[PointFunction, float]:
    if depth > MAX_CHAIN:
        raise RegistrationError(f"a chain of more than {MAX_CHAIN} initial transforms", file=path)
    entries = {
        key: values.split() for key, values in re.findall(r"^\s*\((\w+)\s+(.*?)\)\s*(?://.*)?$", text_of(path), re.M)
    }
    word = {key: " ".join(values).strip('"') for key, values in entries.items()}
    if "Transform" not in word:
        raise RegistrationError("not an elastix parameter file: it has no (Transform …)", file=path)
    if word.get("FixedImageDimension", "2") != "2" or word.get("MovingImageDimension", "2") != "2":
        raise RegistrationError("a transform of volumes; sections are flat images", file=path)
    try:
        own, grain = _elastix_step(word["Transform"], entries, word)
    except RegistrationError as error:
        raise RegistrationError(error.message, file=path, remedy=error.remedy) from error
    except (KeyError, ValueError, IndexError) as error:
        raise RegistrationError(f"{word['Transform']} is damaged ({error})", file=path) from error
    initial = word.get(
        "InitialTransformParameterFileName", word.get("InitialTransformParametersFileName", "NoInitialTransform")
    )
    if initial == "NoInitialTransform":
        return own, grain
    name = re.split(r"[/\\]", initial)[-1]
    before = path.parent / name
    if not is_file(before):
        raise RegistrationError(
            f"its initial transform {name!r} is not next to it", file=path, remedy="Put both together"
        )
    first, finest = _elastix(before, depth + 1)
    grain = min(grain, finest)
    if word.get("HowToCombineTransforms", "Compose") == "Add":
        return lambda xy: first(xy) + own(xy) - xy, grain
    return lambda xy: own(first(xy)), grain


def _elastix_step(kind: str, entries: dict[str, list[str]], word: dict[str, str]) -> tuple[PointFunction, float]:
    parameters = _numbers(" ".join(entries.get("TransformParameters", [])))
    if kind == "BSplineTransform":
        if word.get("BSplineTransformSplineOrder", "3") != "3":
            raise RegistrationError("a B-spline that is not cubic is not read")
        if word.get("UseCyclicTransform", "false") != "false":
            raise RegistrationError("a cyclic B-spline is not read")
        size = [int(side) for side in entries["GridSize"]]
        spacing = _numbers(" ".join(entries["GridSpacing"]))
        # elastix writes the direction column by column
        direction = _numbers(" ".join(entries.get("GridDirection", ["1", "0", "0", "1"]))).reshape(2, 2).T
        index = _numbers(" ".join(entries.get("GridIndex", ["0", "0"])))
        origin = _numbers(" ".join(entries["GridOrigin"])) + direction @ (spacing * index)
        return bspline(size, origin, spacing, direction, parameters), float(spacing.min())
    centre = _numbers(" ".join(entries.get("CenterOfRotationPoint", ["0", "0"])))
    matrix = linear_from(kind, parameters, centre)
    if matrix is None:
        raise RegistrationError(
            f"elastix's {kind} is not read",
            remedy="Let transformix write the displacement field (transformix -def all) and import that",
        )
    return matrix, STRAIGHT
