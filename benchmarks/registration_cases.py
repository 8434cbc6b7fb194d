"""The cases of the registration benchmark: small synthetic blocks, and what is done to their sections.

Every case is a list of :class:`Sheet`, a slide with its exact map to the frame of the tissue it shows. An edit (a turn,
a mirror, a cut, another magnification) changes pixels and map together, so that the truth stays exact. Nothing here
knows the gates or their thresholds.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from stainda.phantom.centres import make_centre
from stainda.phantom.maps import TrueMap
from stainda.phantom.section import RenderedSection, SectionPlan
from stainda.phantom.tiff import write_pyramid
from stainda.randomness import generator_for

SIZE = 512  # level-0 pixels of a section
MPP = (1.6, 2.2)  # micrometres per pixel: half of the blocks each
BLOCKS = 6  # of tissue, shared by the cases
GLASS = 243  # grey level of what lies next to a section that is laid on a larger glass
THICKNESS = 3.0


@dataclass(frozen=True, eq=False)
class Sheet:
    """One slide.

    Attributes:
        pixels: uint8 RGB (h, w, 3).
        valid: bool (h, w), where tissue is to be seen whose place is known.
        matrix: (3, 3), level-0 pixels of this slide -> level-0 pixels of the section as it was rendered.
        map: rendered section -> frame of its block, micrometres. tissue: name of the block it was cut from.
        mpp: micrometres per level-0 pixel; states_mpp: whether manifest and file say so.
        spoil: writes the file instead, where it is not to be a good one, or of another format.
    """

    pixels: np.ndarray
    valid: np.ndarray
    matrix: np.ndarray
    map: TrueMap
    tissue: str
    stain: str
    mpp: float
    states_mpp: bool = True
    quality: int = 90
    spoil: Callable[[Path], None] | None = None
    hopeless: str = ""

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels.shape[1], self.pixels.shape[0]

    def to_frame(self, xy: np.ndarray) -> np.ndarray:
        """Level-0 pixels (n, 2) to micrometres in the frame of the block (n, 2)."""
        return self.map.to_frame(xy @ self.matrix[:2, :2].T + self.matrix[:2, 2])

    def from_frame(self, frame: np.ndarray) -> np.ndarray:
        back = np.linalg.inv(self.matrix)
        return self.map.from_frame(frame) @ back[:2, :2].T + back[:2, 2]

    def shows(self, xy: np.ndarray) -> np.ndarray:
        """Whether level-0 points (n, 2) lie on tissue of a known place: bool (n,)."""
        x, y = np.floor(xy).astype(int).T
        inside = (x >= 0) & (y >= 0) & (x < self.size[0]) & (y < self.size[1])
        found = np.zeros(len(xy), bool)
        found[inside] = self.valid[y[inside], x[inside]]
        return found

    def resampled(self, matrix: np.ndarray, size: tuple[int, int], fill: int = GLASS) -> Sheet:
        """The slide drawn anew: ``matrix`` (3, 3) takes pixels of the new one to pixels of this one (corner to corner:
        the first pixel reaches from 0 to 1)."""
        step = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
        y, x = np.mgrid[: size[1], : size[0]] + 0.5
        where = [matrix[i, 0] * x + matrix[i, 1] * y + matrix[i, 2] - 0.5 for i in (1, 0)]
        layers = []
        for layer in self.pixels.transpose(2, 0, 1).astype(np.float32):
            blurred = ndimage.gaussian_filter(layer, 0.4 * step) if step > 1 else layer
            layers.append(ndimage.map_coordinates(blurred, where, order=1, cval=fill))
        valid = ndimage.map_coordinates(self.valid.astype(np.uint8), where, order=0, cval=0) > 0
        pixels = np.clip(np.stack(layers, axis=2), 0, 255).astype(np.uint8)
        return replace(self, pixels=pixels, valid=valid, matrix=self.matrix @ matrix, mpp=self.mpp * step)

    def turned(self, degrees: float) -> Sheet:
        """Turned about its middle, on a glass large enough to hold it."""
        turn = np.radians(degrees)
        linear = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        new = np.ceil(np.abs(linear) @ np.array(self.size) - 1e-6).astype(int)
        matrix = np.eye(3)
        matrix[:2, :2] = linear
        matrix[:2, 2] = np.array(self.size) / 2 - linear @ (new / 2)
        return self.resampled(matrix, (int(new[0]), int(new[1])))

    def mirrored(self) -> Sheet:
        return self.resampled(np.array([[-1.0, 0, self.size[0]], [0, 1, 0], [0, 0, 1]]), self.size)

    def magnified(self, factor: float) -> Sheet:
        size = round(self.size[0] * factor), round(self.size[1] * factor)
        return self.resampled(np.diag([1 / factor, 1 / factor, 1.0]), size)

    def on_glass(self, width: float, height: float, x: float, y: float, fill: int = GLASS) -> Sheet:
        """Laid on a glass ``width`` x ``height`` times as large, at a share ``x``, ``y`` of the free room."""
        size = round(self.size[0] * width), round(self.size[1] * height)
        shift = (size[0] - self.size[0]) * x, (size[1] - self.size[1]) * y
        return self.resampled(np.array([[1.0, 0, -round(shift[0])], [0, 1, -round(shift[1])], [0, 0, 1]]), size, fill)

    def only(self, x0: float, y0: float, x1: float, y1: float) -> Sheet:
        """Only the tissue in a box (shares of the slide) is left, with a ragged border; the rest is glass."""
        height, width = self.valid.shape
        y, x = np.mgrid[:height, :width]
        ragged = 0.012 * width * (np.sin(y / (0.021 * height)) + np.sin(y / (0.057 * height) + 1))
        ragged_y = 0.012 * height * (np.sin(x / (0.023 * width)) + np.sin(x / (0.051 * width) + 2))
        keep = (x + ragged >= x0 * width) & (x + ragged < x1 * width) | ((x0 <= 0) & (x1 >= 1))
        keep &= (y + ragged_y >= y0 * height) & (y + ragged_y < y1 * height) | ((y0 <= 0) & (y1 >= 1))
        return self.without(~keep)

    def without(self, gone: np.ndarray) -> Sheet:
        """Glass instead of tissue where ``gone`` (h, w)."""
        pixels = self.pixels.copy()
        pixels[gone] = GLASS
        return replace(self, pixels=pixels, valid=self.valid & ~gone)

    def exposed(self, gain: float, offset: float = 0.0, gamma: float = 1.0) -> Sheet:
        """Another scanner: grey levels times ``gain`` plus ``offset`` after ``gamma``."""
        light = 255 * (self.pixels / 255.0) ** gamma
        return replace(self, pixels=np.clip(light * gain + offset, 0, 255).astype(np.uint8))

    def blurred(self, sigma: float) -> Sheet:
        return replace(self, pixels=ndimage.gaussian_filter(self.pixels, (sigma, sigma, 0)))

    def noisy(self, rng: np.random.Generator, sigma: float) -> Sheet:
        noise = rng.normal(0, sigma, self.pixels.shape)
        return replace(self, pixels=np.clip(self.pixels + noise, 0, 255).astype(np.uint8))

    def compressed(self, quality: int) -> Sheet:
        stream = io.BytesIO()
        Image.fromarray(self.pixels).save(stream, "JPEG", quality=quality)
        return replace(self, pixels=np.asarray(Image.open(stream).convert("RGB")), quality=quality)

    def silent_on_mpp(self) -> Sheet:
        return replace(self, states_mpp=False)

    def blank(self, rng: np.random.Generator, level: float = GLASS, noise: float = 3.0) -> Sheet:
        pixels = np.clip(rng.normal(level, noise, self.pixels.shape), 0, 255).astype(np.uint8)
        return replace(self, pixels=pixels, valid=np.zeros_like(self.valid), hopeless="blank")

    def write(self, path: Path) -> None:
        if self.spoil is not None:
            self.spoil(path)
        elif self.states_mpp:
            width, height = self.size
            bands = (self.pixels[top : top + 512] for top in range(0, height, 512))
            write_pyramid(path, bands, width, height, self.mpp, self.quality)
        else:
            Image.fromarray(self.pixels).save(path, "TIFF", compression="tiff_deflate")


@dataclass(frozen=True, eq=False)
class PiecedSheet(Sheet):
    """A slide of pieces that lie elsewhere than when they were cut.

    Attributes:
        labels: int (h, w), the piece a pixel shows, from 1; 0: none.
        moves: (3, 3) per piece, level-0 pixels of this slide to level-0 pixels of the section as it was rendered.
    """

    labels: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), int))
    moves: tuple[np.ndarray, ...] = ()

    def to_frame(self, xy: np.ndarray) -> np.ndarray:
        x, y = np.floor(xy).astype(int).T
        inside = (x >= 0) & (y >= 0) & (x < self.size[0]) & (y < self.size[1])
        number = np.where(inside, self.labels[np.clip(y, 0, self.size[1] - 1), np.clip(x, 0, self.size[0] - 1)], 0)
        out = np.full(xy.shape, np.nan)
        for k, move in enumerate(self.moves, 1):
            here = number == k
            out[here] = self.map.to_frame(xy[here] @ move[:2, :2].T + move[:2, 2])
        return out

    @classmethod
    def of(
        cls, sheet: Sheet, boxes: tuple[tuple[float, ...], ...], moves: tuple[np.ndarray, ...], size: tuple[int, int]
    ) -> PiecedSheet:
        """Pieces of a section: ``boxes`` are shares of it (x0, y0, x1, y1), ``moves`` (3, 3) take pixels of the new
        slide, ``size`` (width, height), to those of the section."""
        shape = size[1], size[0]
        pixels, valid = np.full((*shape, 3), GLASS, np.uint8), np.zeros(shape, bool)
        labels = np.zeros(shape, int)
        for number, (box, move) in enumerate(zip(boxes, moves, strict=True), 1):
            # a piece ends at a ragged border, as ``only`` makes it
            alone = sheet.only(*box)
            kept = (alone.pixels != GLASS).any(axis=2)
            there = replace(alone, valid=kept).resampled(move, size)
            here = there.valid & (labels == 0)
            pixels[here], labels[here] = there.pixels[here], number
            valid |= alone.resampled(move, size).valid & here
        fields = {name: getattr(sheet, name) for name in ("matrix", "map", "tissue", "stain", "mpp")}
        return cls(pixels=pixels, valid=valid, **fields, labels=labels, moves=moves)


@dataclass(frozen=True, eq=False)
class StretchedSheet(Sheet):
    """A slide whose tissue is stretched in one place and pressed together in another.

    A pixel ``u`` shows what lay at ``w(u) = u + sum_k s_k (a_k . (u - c_k)) a_k exp(-|u - c_k|^2 / (2 r^2))``.

    Attributes:
        middles: (k, 2) level-0 pixels. directions: (k, 2), of length 1.
        strengths: (k,); at its middle a place is ``1 / (1 + strength)`` times as long in its direction. The sum of
            their sizes is below 1, so that ``w`` has an inverse. radius: level-0 pixels.
    """

    middles: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    directions: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    strengths: np.ndarray = field(default_factory=lambda: np.zeros(0))
    radius: float = 1.0

    def _displaced(self, xy: np.ndarray) -> np.ndarray:
        apart = xy[:, None] - self.middles
        near = np.exp(-(apart**2).sum(axis=2) / (2 * self.radius**2))
        along = (apart * self.directions).sum(axis=2)
        return (self.strengths * along * near) @ self.directions

    def to_frame(self, xy: np.ndarray) -> np.ndarray:
        return super().to_frame(xy + self._displaced(xy))

    def from_frame(self, frame: np.ndarray) -> np.ndarray:
        wanted = super().from_frame(frame)
        xy = wanted
        for _ in range(80):  # a contraction
            xy = wanted - self._displaced(xy)
        return xy

    @classmethod
    def of(
        cls, sheet: Sheet, middles: np.ndarray, directions: np.ndarray, strengths: np.ndarray, radius: float
    ) -> StretchedSheet:
        """``sheet``, stretched."""
        fields = {name: getattr(sheet, name) for name in ("matrix", "map", "tissue", "stain", "mpp")}
        made = cls(sheet.pixels, sheet.valid, **fields, middles=middles, directions=directions, strengths=strengths,
                   radius=radius)  # fmt: skip
        y, x = np.mgrid[: sheet.size[1], : sheet.size[0]] + 0.5
        points = np.stack([x.ravel(), y.ravel()], axis=1)
        column, row = (points + made._displaced(points) - 0.5).T.reshape(2, *x.shape)
        layers = [
            ndimage.map_coordinates(layer, (row, column), order=1, cval=GLASS)
            for layer in sheet.pixels.transpose(2, 0, 1).astype(np.float32)
        ]
        valid = ndimage.map_coordinates(sheet.valid.astype(np.uint8), (row, column), order=0, cval=0) > 0
        return replace(made, pixels=np.clip(np.stack(layers, axis=2), 0, 255).astype(np.uint8), valid=valid)


def around(middle: tuple[float, float], degrees: float, shift: tuple[float, float]) -> np.ndarray:
    """The matrix (3, 3) that turns about a point, and then shifts."""
    angle, turn = np.radians(degrees), np.eye(3)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turn[:2, 2] = np.array(middle) - turn[:2, :2] @ middle + shift
    return turn


@dataclass(frozen=True, eq=False)
class Case:
    """One block to be registered, and whether a careful person could register every section that is not hopeless."""

    name: str
    family: str
    sheets: tuple[Sheet, ...]
    registrable: bool = True


@dataclass(frozen=True)
class Maker:
    """A case that is rendered when it is requested."""

    name: str
    build: Callable[[], Case]


class Library:
    """Rendered sections of synthetic blocks. ``seed`` decides tissue, placement, and every random amount of a case."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._rendered: dict[tuple[object, ...], Sheet] = {}

    def rng(self, name: str) -> np.random.Generator:
        return generator_for(self.seed, "registration scenarios", name)

    def block(self, name: str) -> str:
        """The block a case takes its tissue from."""
        return f"block {int(self.rng(name).integers(BLOCKS))}"

    def sheet(
        self,
        block: str,
        number: int,
        stain: str,
        *,
        difficulty: float = 1.0,
        centre: int = 0,
        artefacts: tuple[str, ...] = (),
        gap: int = 0,
        size: int = SIZE,
    ) -> Sheet:
        """Section ``number`` (from 1) of ``block``, with ``gap`` sections thrown away between two kept ones."""
        key = block, number, stain, difficulty, centre, artefacts, gap, size
        if key not in self._rendered:
            self._rendered[key] = self._render(
                block, number, stain, difficulty=difficulty, centre=centre, artefacts=artefacts, gap=gap, size=size
            )
        return self._rendered[key]

    def _render(
        self, block: str, number: int, stain: str, *, difficulty: float, centre: int, artefacts: tuple[str, ...],
        gap: int, size: int,
    ) -> Sheet:  # fmt: skip
        mpp = MPP[int(self.rng(block).integers(1000)) % len(MPP)]
        where = make_centre(self.seed, f"centre {centre}", centre, mpp, THICKNESS, difficulty)
        heights = tuple(THICKNESS * (1 + gap) * k for k in range(12 if gap < 20 else 2))
        plan = SectionPlan(
            f"{block}_{number}_{stain}", block, block, number, stain, where, artefacts, size, self.seed, difficulty,
            heights,
        )  # fmt: skip
        section = RenderedSection(plan)
        pixels = np.concatenate(list(section.bands()))
        y, x = np.mgrid[:size:4, :size:4] + 2.0
        frame = section.map.to_frame(np.stack([x.ravel(), y.ravel()], axis=1))
        inner = section.anatomy.tissue.depth(frame[:, 0], frame[:, 1]).reshape(x.shape) > 10  # micrometres
        valid = np.kron(inner, np.ones((4, 4), bool))[:size, :size]
        tissue = f"{block} {where.mpp} {gap} {size}"  # another extent or thickness is another anatomy
        return Sheet(pixels, valid, np.eye(3), section.map, tissue, stain, where.mpp)


def partly_scanned(sheet: Sheet) -> Sheet:
    """Laid on a larger glass of which only the sheet itself was scanned: an SCN file, whose bounds OpenSlide tells."""
    from stainda.phantom.scn import write_scn

    width, height = sheet.size
    corner = round(0.4 * width), round(0.3 * height)
    laid = sheet.on_glass(1.8, 1.6, corner[0] / (0.8 * width), corner[1] / (0.6 * height), 255)

    def write(path: Path) -> None:
        write_scn(path, sheet.pixels, laid.size, corner, sheet.mpp)

    return replace(laid, spoil=write)


def spoiled(sheet: Sheet, kind: str) -> Sheet:
    """A slide whose file is damaged: truncated, garbage, empty, text, or missing."""

    def write(path: Path) -> None:
        if kind == "missing":
            return
        if kind == "truncated":
            sheet.write(path)
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
        else:
            content = {"empty": b"", "text": b"slide 17, see freezer 3\n", "garbage": bytes(range(256)) * 400}
            path.write_bytes((b"II*\0" if kind == "garbage" else b"") + content[kind])

    return replace(sheet, spoil=write, hopeless=f"{kind} file", valid=np.zeros_like(sheet.valid))
