"""Transforms of points from a section to the frame of its block, and to the other sections of the block.

The frame of a block is the level-0 pixel grid of its reference section. A transform is three steps: an affine map
``pre`` from the section's level-0 pixels to a lattice, a displacement on that lattice, and an affine map ``post`` from
the lattice to the frame. VALIS computes it; after that NumPy and SciPy are all that is needed.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from stainda.arrays import Array
from stainda.errors import RegistrationError
from stainda.files import load_json, whole_file, write_json
from stainda.registration.affine import apply_affine, fit_affine
from stainda.registration.fields import coefficients, invert, jacobian, sample
from stainda.registration.maps import PointMap, as_points
from stainda.registration.moved_shapes import move_shapes
from stainda.registration.pieces import Pieces
from stainda.registration.shapes_in_pieces import MapStep

if TYPE_CHECKING:
    import geopandas as gpd

FORMAT = "stainda-transform"
VERSION = 1
PIECES_VERSION = 2  # of a transform with pieces, which older readers would take for one without


@dataclass(frozen=True, eq=False)
class Transform(PointMap):
    """The map between one section and the frame of its block, both ways.

    ``to_frame(p) = post(v)`` with ``v = u + forward(u)`` and ``u = pre(p)``;
    ``from_frame(q) = pre⁻¹(v + backward(v))`` with ``v = post⁻¹(q)``.

    Attributes:
        slide, frame: names of the section and of the section whose level-0 pixels are the frame.
        size, frame_size: (width, height) of both in level-0 pixels.
        pre, post: float64 (3, 3), acting on column vectors (x, y, 1).
        forward, backward: float32 (2, h, w) displacements in lattice units (see ``fields.py``), or both ``None``.
            Outside the lattice the displacement of its nearest border point holds.
        about: what made it and how good it is; plain JSON values.
        unsure: float32 (h, w) on the lattice of the fields, 0 (sure) to 1: where the deformation was damped to the
            affine placement because it could not be trusted, or only one section shows tissue; ``None``: nowhere.
        pieces: of tissue with a transform each, which then hold instead; between them points have no place (NaN).
            ``pre`` and ``post`` are those of the largest.
    """

    slide: str
    frame: str
    size: tuple[int, int]
    frame_size: tuple[int, int]
    pre: Array
    post: Array
    forward: Array | None = None
    backward: Array | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    unsure: Array | None = None
    pieces: Pieces | None = None

    def __post_init__(self) -> None:
        if (self.forward is None) != (self.backward is None):
            raise ValueError("give both displacement fields or none")
        if self.unsure is not None and (self.backward is None or self.unsure.shape != self.backward.shape[1:]):
            raise ValueError("unsure places lie on the lattice of the displacement fields")
        for matrix in (self.pre, self.post):
            if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:2, :2])) < 1e-12:
                raise RegistrationError(f"the transform of {self.slide} is not an invertible affine map")

    @classmethod
    def identity(
        cls,
        slide: str,
        size: tuple[int, int],
        frame: str | None = None,
        frame_size: tuple[int, int] | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> Transform:
        """Level-0 pixels of the section are those of the frame."""
        eye = np.eye(3)
        return cls(slide, frame or slide, size, frame_size or size, eye, eye, about=about or {})

    @classmethod
    def affine(
        cls,
        slide: str,
        size: tuple[int, int],
        frame: str,
        frame_size: tuple[int, int],
        matrix: Array,
        about: Mapping[str, Any] | None = None,
    ) -> Transform:
        """``matrix`` (3, 3) takes level-0 pixels of the section to those of the frame."""
        return cls(slide, frame, size, frame_size, np.asarray(matrix, float), np.eye(3), about=about or {})

    @cached_property
    def _splines(self) -> tuple[Array, Array]:
        assert self.forward is not None and self.backward is not None
        return coefficients(self.forward), coefficients(self.backward)

    @property
    def torn(self) -> bool:
        return self.pieces is not None

    def steps(self, back: bool = False) -> tuple[MapStep, ...]:
        if self.pieces is None:
            return super().steps(back)
        parts = self.pieces.transforms
        if back:
            return (MapStep(tuple(part.from_frame for part in parts), self.pieces.frame),)
        return (MapStep(tuple(part.to_frame for part in parts), self.pieces.section),)

    def to_frame(self, xy: Array) -> Array:
        """Frame coordinates (n, 2) of level-0 pixels ``xy`` (n, 2) of the section; NaN stays NaN."""
        if self.pieces is not None:
            return self.pieces.to_frame(as_points(xy))
        points = apply_affine(self.pre, as_points(xy))
        if self.forward is not None:
            points = points + sample(self._splines[0], points)
        return apply_affine(self.post, points)

    def from_frame(self, xy: Array) -> Array:
        """Level-0 pixels (n, 2) of the section at frame coordinates ``xy`` (n, 2); NaN stays NaN."""
        if self.pieces is not None:
            return self.pieces.from_frame(as_points(xy))
        points = apply_affine(np.linalg.inv(self.post), as_points(xy))
        if self.backward is not None:
            points = points + sample(self._splines[1], points)
        return apply_affine(np.linalg.inv(self.pre), points)

    def doubt(self, frame_xy: Array) -> Array:
        """How unsure it is at frame points (n, 2), float (n,) 0 to 1; outside the lattice as on its border."""
        from scipy import ndimage

        points = as_points(frame_xy)
        if self.pieces is not None:
            return self.pieces.doubt(points)
        if self.unsure is None:
            return np.zeros(len(points))
        x, y = apply_affine(np.linalg.inv(self.post), points).T
        height, width = self.unsure.shape
        where = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
        return np.clip(ndimage.map_coordinates(self.unsure.astype(float), where, order=1, mode="nearest"), 0, 1)

    @property
    def bends(self) -> bool:
        """Whether it, or the transform of one of its pieces, has a deformation."""
        if self.pieces is not None:
            return any(part.bends for part in self.pieces.transforms)
        return self.forward is not None

    @property
    def rigid(self) -> Transform:
        """The same without the displacement fields."""
        pieces = None if self.pieces is None else self.pieces.rigid
        return replace(self, forward=None, backward=None, unsure=None, pieces=pieces)

    @property
    def matrix(self) -> Array:
        """The affine part (3, 3), section to frame."""
        return self.post @ self.pre

    def pixel_in_lattice(self) -> float:
        """How many level-0 pixels of the section one lattice unit spans."""
        return float(1 / np.sqrt(abs(np.linalg.det(self.pre[:2, :2]))))

    def grain(self) -> float:
        if self.pieces is not None:
            return self.pieces.grain()
        return float("inf") if self.forward is None else self.pixel_in_lattice()

    def folds(self) -> Array:
        """Where the displacement folds the lattice, bool (h, w); empty (0, 0) without a field."""
        return np.zeros((0, 0), bool) if self.backward is None else jacobian(self.backward) <= 0

    def arrays(self) -> dict[str, Array]:
        """To be stored, without those of its pieces."""
        fields = {"forward": self.forward, "backward": self.backward, "unsure": self.unsure}
        stored = {name: values.astype(np.float32) for name, values in fields.items() if values is not None}
        return {"pre": self.pre, "post": self.post, **stored}

    def save(self, path: str | Path) -> Path:
        """Write ``<path>.npz`` (arrays) and then ``<path>.json`` (everything else); returns the JSON's path."""
        arrays = self.arrays() | ({} if self.pieces is None else self.pieces.arrays())
        with whole_file(_with(path, ".npz")) as aside, aside.open("wb") as stream:
            np.savez_compressed(stream, **arrays)
        return write_json(
            _with(path, ".json"),
            {
                "format": FORMAT,
                "version": VERSION if self.pieces is None else PIECES_VERSION,
                "slide": self.slide,
                "frame": self.frame,
                "size": list(self.size),
                "frame_size": list(self.frame_size),
                "about": dict(self.about),
                **({} if self.pieces is None else {"pieces": len(self.pieces.transforms)}),
                "convention": "level-0 pixels, x right, y down; frame = post(u + forward(u)), u = pre(section)",
            },
        )

    @classmethod
    def load(cls, path: str | Path) -> Transform:
        """Read what :meth:`save` wrote (``path`` with or without suffix).

        Raises:
            RegistrationError: a file is missing, damaged, of a newer version, or says that the section was refused.
        """
        about_file, array_file = _with(path, ".json"), _with(path, ".npz")
        remedy = "Register the block again"
        try:
            head = load_json(about_file)
            if head.get("format") != FORMAT or int(head["version"]) > PIECES_VERSION:
                raise RegistrationError(
                    "is not a transform this version of stainda reads", file=about_file, remedy=remedy
                )
            if head.get("status") == "refused":
                raise RegistrationError(f"section was refused: {head['reason']}", file=about_file)
            with np.load(array_file, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            names, sizes = (head["slide"], head["frame"]), (tuple(head["size"]), tuple(head["frame_size"]))

            def made(of: Mapping[str, Array]) -> Transform:
                forward, backward, unsure = of.get("forward"), of.get("backward"), of.get("unsure")
                return cls(*names, *sizes, of["pre"], of["post"], forward, backward, head["about"], unsure)

            if "pieces" not in head:
                return made(arrays)
            return replace(made(arrays), pieces=Pieces.read(arrays, int(head["pieces"]), made))
        except (
            OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, OverflowError, RuntimeError, BadZipFile,
            zlib.error,
        ) as error:  # fmt: skip
            raise RegistrationError(f"cannot read the transform ({error})", file=about_file, remedy=remedy) from error


@dataclass(frozen=True, eq=False)
class Between(PointMap):
    """The map from one section to another of the same block: level-0 pixels of ``source`` to those of ``target``.

    It answers to the names of a :class:`Transform` whose frame is the target, so that either can be handed on.
    """

    source: Transform
    target: Transform

    @property
    def slide(self) -> str:  # type: ignore[override]
        return self.source.slide

    @property
    def frame(self) -> str:  # type: ignore[override]
        return self.target.slide

    @property
    def size(self) -> tuple[int, int]:  # type: ignore[override]
        return self.source.size

    @property
    def frame_size(self) -> tuple[int, int]:  # type: ignore[override]
        return self.target.size

    @property
    def torn(self) -> bool:
        return self.source.torn or self.target.torn

    @property
    def inverse(self) -> Between:
        return Between(self.target, self.source)

    def grain(self) -> float:
        return min(self.source.grain(), self.target.grain())

    def steps(self, back: bool = False) -> tuple[MapStep, ...]:
        first, second = (self.target, self.source) if back else (self.source, self.target)
        return () if first is second else first.steps() + second.steps(True)

    def doubt(self, xy: Array) -> Array:
        """How unsure the map is at level-0 pixels ``xy`` (n, 2) of the source: the larger of both transforms', (n,)."""
        frame = self.source.to_frame(xy)
        return np.maximum(self.source.doubt(frame), self.target.doubt(frame))

    def nowhere(self, xy: Array) -> str:
        """Why section points (n, 2) of the source have no place in the target; empty where all have one."""
        if self.source.pieces is not None and (reason := self.source.pieces.nowhere(as_points(xy))):
            return f"lies {reason} in {self.source.slide}"
        if self.target.pieces is not None and not np.isfinite(self.to_frame(xy)).all():
            return f"lies where {self.target.slide} has no piece of tissue that belongs to it"
        return ""

    def to_frame(self, xy: Array) -> Array:
        return map_points(xy, self.source, self.target)

    def from_frame(self, xy: Array) -> Array:
        return map_points(xy, self.target, self.source)

    @property
    def matrix(self) -> Array:
        return np.linalg.inv(self.target.matrix) @ self.source.matrix

    def area_change(self, xy: Array) -> Array:
        """Local area in the target per area in the source (n,), at level-0 pixels ``xy`` of the source."""
        in_target = self.to_frame(xy)
        return self.source.area_change(xy) / self.target.area_change(in_target)


def from_backward(affine: Transform, backward: Array) -> Transform:
    """A transform with the matrices of ``affine`` and a displacement, float32 (2, h, w); its forward field is the
    numerical inverse of ``backward``, so that both ways agree."""
    return replace(affine, forward=invert(backward), backward=backward)


def from_pull(
    slide: str,
    frame: str,
    size: tuple[int, int],
    frame_size: tuple[int, int],
    pull: Callable[[Array], Array],
    spacing: float,
    *,
    about: Mapping[str, Any] | None = None,
) -> Transform:
    """A transform from any function that takes frame points (n, 2) to section points (n, 2), such as a composition.

    The function is computed on a lattice of ``spacing`` level-0 pixels over the frame; beyond it the displacement is
    continued. It may not fold (see ``Transform.folds``): there it has no inverse.
    """
    post, lattice = _lattice(frame_size, spacing)
    pulled = pull(apply_affine(post, lattice.reshape(-1, 2)))
    pre = np.linalg.inv(post) @ fit_affine(pulled, apply_affine(post, lattice.reshape(-1, 2)))
    moved = apply_affine(pre, pulled).reshape(lattice.shape) - lattice
    affine = Transform(slide, frame, size, frame_size, pre, post, about=about or {})
    return from_backward(affine, np.moveaxis(moved, 2, 0).astype(np.float32))


def from_push(
    slide: str,
    frame: str,
    size: tuple[int, int],
    frame_size: tuple[int, int],
    push: Callable[[Array], Array],
    spacing: float,
    *,
    about: Mapping[str, Any] | None = None,
) -> Transform:
    """The same from a function that takes section points (n, 2) to frame points, computed over the section."""
    grid, lattice = _lattice(size, spacing)
    section = apply_affine(grid, lattice.reshape(-1, 2))
    pushed = push(section)
    post = fit_affine(section, pushed) @ grid
    moved = apply_affine(np.linalg.inv(post), pushed).reshape(lattice.shape) - lattice
    forward = np.moveaxis(moved, 2, 0).astype(np.float32)
    return Transform(slide, frame, size, frame_size, np.linalg.inv(grid), post, forward, invert(forward), about or {})


def _lattice(size: tuple[int, int], spacing: float) -> tuple[Array, Array]:
    """The matrix from lattice to level-0 pixels, and the lattice points (h, w, 2) that cover a picture of ``size``."""
    width, height = (max(2, int(np.ceil(side / spacing)) + 1) for side in size)
    columns, rows = np.meshgrid(np.arange(width, dtype=float), np.arange(height, dtype=float))
    return np.diag([spacing, spacing, 1.0]), np.stack([columns, rows], axis=2)


def map_points(xy: Array, source: Transform, target: Transform) -> Array:
    """Level-0 pixels (n, 2) of ``source`` as level-0 pixels of ``target``; both must share a frame.

    Raises:
        RegistrationError: the two sections were not registered into one frame.
    """
    if source.frame != target.frame:
        raise RegistrationError(
            f"{source.slide} lies in the frame of {source.frame}, {target.slide} in that of {target.frame}",
            remedy="Register both sections in one block",
        )
    return as_points(xy) if source is target else target.from_frame(source.to_frame(xy))


def map_shapes(shapes: gpd.GeoDataFrame, source: Transform, target: Transform) -> gpd.GeoDataFrame:
    """All geometries warped from ``source`` to ``target`` in one call; every other column is kept as it is.

    Any geometry is allowed, also with holes and of several parts. Polygons that come out invalid are repaired. The
    result's ``attrs`` count what had to be done: ``z_dropped`` (a registration of flat images says nothing about Z),
    ``repaired``, and see :func:`stainda.registration.moved_shapes.move_shapes`.
    """
    return move_shapes(shapes, lambda xy: map_points(xy, source, target), Between(source, target).steps())


def _with(path: str | Path, suffix: str) -> Path:
    path = Path(path)
    name = path.name.removesuffix(".json").removesuffix(".npz")
    return path.with_name(name + suffix)
