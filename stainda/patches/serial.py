"""Patches of the same tissue on two registered sections, with where each pixel of one lies on the other.

They are cut for strategies that ask neighbouring sections to agree, into a folder ``serial`` of the patch store:
``images.npy`` (the patch of the second section; that of the first is a patch of the store), ``grid.npy`` and
``certainty.npy`` (on a lattice over the first patch), ``table.parquet``, ``meta.json``. No label is read or written.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from stainda.arrays import Array
from stainda.cohort import Cohort, Roles, Section
from stainda.errors import LeakError, StaindaError
from stainda.files import load_json, output_errors, stable_hash
from stainda.patches.pixels import WorkingPixels
from stainda.patches.store import PatchStore
from stainda.progress import SILENT, Progress
from stainda.randomness import generator_for
from stainda.run_directory.contents import SERIAL_META
from stainda.run_directory.tables import SERIAL
from stainda.slides import TissueMask, open_slide, tissue_mask

Which = Literal["serial", "serial_tissue", "serial_validation"]

FOLDER: Which = "serial"
TISSUE: Which = "serial_tissue"
VALIDATION: Which = "serial_validation"
"""Where pairs lie below the patch store: those that strategies train on; those on tissue at random, which no annotation
chose, for training without labels; and those of validation patients."""

NODES = 17
"""Nodes of the lattice along each side of a patch: registrations bend over larger distances than a sixteenth of it."""

PER_SECTION = 0.98  # certainty lost for each section between the two (see registration/confidence.py)
UNMEASURED_UM, UNMEASURED_PX = 10.0, 2.0
"""Error taken for a registration without landmarks, per section between the two: consecutive sections 6.5-24 µm at the
median (Lotz 2023); in working pixels where the pixel size is not known."""

LEAST_CERTAINTY = 0.2  # of a patch on average, for it to be kept

Points = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class SectionLink:
    """Two sections registered to each other.

    Attributes:
        one, two: their slides.
        there, back: level-0 pixels (n, 2) of one to those of the other, and back.
        error: typical distance in level-0 pixels of ``two`` between where ``there`` puts a point and where it belongs;
            ``None`` where nobody measured it.
        apart: sections from one to the other in the order of the cut, 1 for neighbours.
        key: names the registration, so that another makes other pairs.
    """

    one: str
    two: str
    there: Points
    back: Points
    error: float | None
    apart: int
    key: str


@dataclass(frozen=True)
class Pairs:
    """Some pairs, for one step.

    Attributes:
        one, two: uint8 ``(n, size, size, 3)``.
        one_slides, two_slides, one_domains, two_domains: of each pair.
        grid: float32 ``(n, size, size, 2)``: where each pixel of ``one`` lies in ``two``, x and y from -1 to 1 over the
            patch (``grid_sample`` with ``align_corners=False``).
        certainty: float32 ``(n, size, size)`` in 0..1. radius: float32 ``(n,)``, error in working pixels.
    """

    one: NDArray[np.uint8]
    two: NDArray[np.uint8]
    one_slides: list[str]
    two_slides: list[str]
    one_domains: list[str]
    two_domains: list[str]
    grid: NDArray[np.float32]
    certainty: NDArray[np.float32]
    radius: NDArray[np.float32]


class SerialPairs:
    """The pairs of a store, or those of them a job may see.

    Attributes:
        table: per pair ``one`` (row of the store), ``one_slide``, ``one_domain``, ``two_slide``, ``two_domain``, ``x``,
            ``y`` (corner of the second patch, its level-0 pixels), ``radius``, ``apart``, ``sure`` (mean certainty).
    """

    def __init__(self, store: PatchStore, table: pd.DataFrame, arrays: dict[str, Array], key: str) -> None:
        self._store, self.table, self._arrays, self.key = store, table, arrays, key

    @classmethod
    def open(cls, store: PatchStore, which: Which = "serial") -> SerialPairs | None:
        """The pairs of a store, or ``None`` where it has none.

        Raises:
            StaindaError: a file of them is missing or damaged.
        """
        folder = store.folder / which
        if not SERIAL_META.inside(folder).is_file():
            return None
        try:
            meta = load_json(SERIAL_META.inside(folder))
            table = pd.read_parquet(SERIAL.inside(folder))
            mode: Literal["r"] | None = "r" if len(table) else None
            names = ("images", "grid", "certainty")
            arrays = {name: np.load(folder / f"{name}.npy", mmap_mode=mode, allow_pickle=False) for name in names}
        except (OSError, ValueError) as error:
            raise StaindaError(
                "the pairs of serial sections cannot be read", file=folder, remedy="Remove this folder and run again"
            ) from error
        return cls(store, table, arrays, meta["key"])

    def __len__(self) -> int:
        return len(self.table)

    @property
    def kinds(self) -> list[str]:
        """The two domains of each pair, joined."""
        return [f"{first}|{two}" for first, two in zip(self.table["one_domain"], self.table["two_domain"], strict=True)]

    @property
    def content(self) -> str:
        """Hash of what can be read here, wherever the first patches lie in the store."""
        at, columns = self.table.index.to_numpy(), self.table.columns.drop("one")
        digest = hashlib.sha256(self.table[columns].to_csv(index=False).encode())
        digest.update(self._store.digests("images")[self.table["one"].to_numpy(int)].tobytes())
        for array in self._arrays.values():
            digest.update(np.ascontiguousarray(array[at]).tobytes())
        return digest.hexdigest()[:24]

    def within(self, domains: Sequence[str], gone: Collection[str] = ()) -> SerialPairs:
        """Those pairs both of whose sections are in these domains, and neither in the slides ``gone``."""
        seen = self.table["one_domain"].isin(domains) & self.table["two_domain"].isin(domains)
        seen &= ~self.table["one_slide"].isin(gone) & ~self.table["two_slide"].isin(gone)
        return SerialPairs(self._store, self.table[seen], self._arrays, self.key)

    def chosen(self, kept: NDArray[np.bool_]) -> SerialPairs:
        """Some of the pairs, by a mask over :attr:`table`."""
        return SerialPairs(self._store, self.table[kept], self._arrays, self.key)

    def read(self, indices: ArrayLike) -> Pairs:
        """Pairs by their position in :attr:`table`."""
        rows = self.table.iloc[np.atleast_1d(np.asarray(indices))]
        at = rows.index.to_numpy()
        size = self._store.images.shape[1]
        return Pairs(
            np.asarray(self._store.images[rows["one"].to_numpy()]),
            np.asarray(self._arrays["images"][at]),
            rows["one_slide"].tolist(), rows["two_slide"].tolist(),
            rows["one_domain"].tolist(), rows["two_domain"].tolist(),
            refine(np.asarray(self._arrays["grid"][at]), size),
            refine(np.asarray(self._arrays["certainty"][at])[..., None], size)[..., 0],
            rows["radius"].to_numpy(np.float32),
        )  # fmt: skip


def refine(nodes: Array, size: int) -> NDArray[np.float32]:
    """Values at nodes that span a patch, (n, g, g, c), at its pixel centres, (n, size, size, c), bilinear."""
    at = (np.arange(size) + 0.5) / size * (nodes.shape[1] - 1)
    low = np.minimum(at.astype(int), nodes.shape[1] - 2)
    share = (at - low).astype(np.float32)
    rows = nodes[:, low] * (1 - share)[None, :, None, None] + nodes[:, low + 1] * share[None, :, None, None]
    columns = share[None, None, :, None]
    return (rows[:, :, low] * (1 - columns) + rows[:, :, low + 1] * columns).astype(np.float32)


def build_serial(
    store: PatchStore,
    cohort: Cohort,
    roles: Roles,
    links: Sequence[SectionLink],
    seed: int,
    *,
    per_link: int = 24,
    progress: Progress = SILENT,
    which: Which = "serial",
) -> SerialPairs:
    """Cut the pairs of all links between sections of training patients, and write them next to the store's patches.

    The first patch of a pair is one of the store that training sees (labelled of a source, unlabelled of a target;
    never one cut around a target's annotation); the second is cut about the point its centre is mapped to, as it lies
    there: nothing is turned or resampled. The certainty of a place is the product of its round trip ``exp(-d / r)``
    (r the error), its local stretch ``exp(-|ln a|)`` relative to the patch's median, 0.98 per section, and of lying on
    tissue and inside the patch on both sides. Pairs that are there already are used again where nothing has changed.

    Args:
        per_link: pairs of a link, at most, drawn at random, half of them with an object where there are such.
        which: ``serial_tissue`` starts from patches on tissue at random alone; ``serial_validation`` is of validation
            patients, whom no training sees.

    Raises:
        LeakError: a link names a section that is not of a training patient (of a validation patient).
        SlideError: a slide cannot be read.
    """
    key = stable_hash(
        [store.key, seed, per_link, NODES, [[link.one, link.two, link.error, link.apart, link.key] for link in links]],
        24,
    )
    ready = SerialPairs.open(store, which)
    if ready is not None and ready.key == key:
        return ready
    sections = {section.slide: section for section in cohort}
    for link in links:
        for slide in (link.one, link.two):
            if sections[slide].split not in (("val",) if which == VALIDATION else ("train", "all")):
                raise LeakError(f"slide {slide!r} is not of a training patient and may not be paired for training")
    out, aside = store.folder / which, store.folder / f".{which}-unfinished"
    with output_errors(out):
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
    try:
        cut = _Cutter(store, cohort, roles, seed, per_link, which)
        results = list(cut.all(links, progress))
        size, n = store.images.shape[1], len(results)
        np.save(aside / "images.npy", _stack([result[1] for result in results], (n, size, size, 3), np.uint8))
        np.save(aside / "grid.npy", _stack([result[2] for result in results], (n, NODES, NODES, 2), np.float32))
        np.save(aside / "certainty.npy", _stack([result[3] for result in results], (n, NODES, NODES), np.float32))
        table = pd.DataFrame([result[0] for result in results], columns=list(SERIAL.names))
        table.to_parquet(SERIAL.inside(aside), index=False)
        SERIAL_META.inside(aside).write_text(json.dumps({"key": key, "pairs": n}, indent=1) + "\n", encoding="utf-8")
        with output_errors(out):
            shutil.rmtree(out, ignore_errors=True)
            aside.rename(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    opened = SerialPairs.open(store, which)
    assert opened is not None
    return opened


class _Cutter:
    """Cuts the second patches, slide by slide."""

    def __init__(self, store: PatchStore, cohort: Cohort, roles: Roles, seed: int, per_link: int, which: Which) -> None:
        self._store, self._cohort, self._roles, self._seed, self._count = store, cohort, roles, seed, per_link
        self._sections = {section.slide: section for section in cohort}
        self._tissue: dict[str, TissueMask] = {}
        table = store.table
        of_target = (table["kind"] == "unlabelled") & table["domain"].isin(roles.targets)
        known = "unlabelled" if which == TISSUE else "labelled"
        of_source = (table["kind"] == known) & table["domain"].isin(roles.sources)
        self._seen = (of_source | of_target) & (table["split"] == ("val" if which == VALIDATION else "train"))

    def all(self, links: Sequence[SectionLink], progress: Progress) -> Iterator[tuple[Any, ...]]:
        with progress.task("Pairing serial sections", len(links)) as bar:
            for two in dict.fromkeys(link.two for link in links):
                section = self._sections[two]
                with open_slide(section.path, section.mpp) as slide:
                    downsample = self._store.meta["downsample"].get(two)
                    pixels = None if downsample is None else WorkingPixels(slide, downsample)
                    for link in (link for link in links if link.two == two):
                        if pixels is not None:
                            yield from self._link(link, section, pixels, float(downsample), slide.mpp)
                        bar.advance(note=f"{link.one} → {two}")

    def _link(
        self, link: SectionLink, section: Section, pixels: WorkingPixels, step: float, mpp: float | None
    ) -> Iterator[tuple[Any, ...]]:
        size = self._store.images.shape[1]
        nodes = np.linspace(0, size, NODES)
        lattice = np.stack(np.meshgrid(nodes, nodes), -1).reshape(-1, 2)
        first, second = self._tissue_of(link.one), self._tissue_of(link.two)
        radius = _radius(link, step, mpp)
        for index in self._drawn(link.one, link.two):
            row = self._store.table.iloc[index]
            own = np.array([row["x"], row["y"]], float) + lattice * float(row["downsample"])
            mapped = link.there(own)
            centre = mapped.reshape(NODES, NODES, 2)[NODES // 2, NODES // 2]
            if not np.isfinite(centre).all():
                continue
            corner = np.round(centre / step - size / 2) * step
            inside = (mapped - corner) / (size * step)
            trip = np.linalg.norm(link.back(mapped) - own, axis=1) / float(row["downsample"])
            sure = np.exp(-trip / radius) * _stretch(mapped.reshape(NODES, NODES, 2)) * PER_SECTION ** (link.apart - 1)
            sure *= first.contains(own) & second.contains(mapped) & ((inside >= 0) & (inside <= 1)).all(1)
            sure = np.nan_to_num(sure).reshape(NODES, NODES).astype(np.float32)
            if sure.mean() < LEAST_CERTAINTY:
                continue
            values = {
                "one": index, "one_slide": link.one, "one_domain": row["domain"], "two_slide": link.two,
                "two_domain": self._cohort.domain(section), "x": corner[0], "y": corner[1], "radius": radius,
                "apart": link.apart, "sure": float(sure.mean()),
            }  # fmt: skip
            grid = np.nan_to_num(2 * inside - 1, nan=-2.0).reshape(NODES, NODES, 2).astype(np.float32)
            yield values, pixels.square(float(corner[0]), float(corner[1]), size), grid, sure

    def _drawn(self, slide: str, other: str) -> list[int]:
        """Rows of the store to start from, half with an object where some have."""
        rows = self._store.table[self._seen & (self._store.table["slide"] == slide)]
        generator = generator_for(self._seed, "serial", slide, other)
        with_object = (rows["n_objects"].fillna(0) > 0).to_numpy(bool)
        parts = [generator.permutation(rows.index.to_numpy()[with_object == flag]) for flag in (True, False)]
        half = self._count // 2
        taken = min(len(parts[0]), max(half, self._count - len(parts[1])))
        return sorted([*parts[0][:taken].tolist(), *parts[1][: self._count - taken].tolist()])

    def _tissue_of(self, slide: str) -> TissueMask:
        if slide not in self._tissue:
            section = self._sections[slide]
            with open_slide(section.path, section.mpp) as opened:
                self._tissue[slide] = tissue_mask(opened, 512 if max(opened.size) <= 8192 else 1024)
        return self._tissue[slide]


def _radius(link: SectionLink, step: float, mpp: float | None) -> float:
    """Error in working pixels, at least half a pixel."""
    if link.error is not None and np.isfinite(link.error):
        return max(0.5, link.error / step)
    return max(0.5, UNMEASURED_UM * link.apart / (mpp * step) if mpp else UNMEASURED_PX * link.apart)


def _stretch(mapped: Array) -> Array:
    """``exp(-|ln a|)`` at nodes (g, g, 2), flat: a the local area relative to the patch's median; 0 at folds."""
    across, along = np.gradient(mapped, axis=1), np.gradient(mapped, axis=0)
    area = across[..., 0] * along[..., 1] - across[..., 1] * along[..., 0]
    area = area * np.sign(np.nanmedian(area))  # a mirrored section is no fold
    with np.errstate(divide="ignore", invalid="ignore"):
        similarity = np.exp(-np.abs(np.log(area / np.nanmedian(area))))
    return np.where(area > 0, similarity, 0.0).ravel()


def _stack(arrays: Sequence[Array], shape: tuple[int, ...], dtype: type) -> Array:
    return np.stack(arrays).astype(dtype) if arrays else np.zeros(shape, dtype)
