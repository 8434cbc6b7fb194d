"""The families of cases: what goes wrong with the sections of a block, one function per kind of trouble."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
from registration_cases import (
    BLOCKS,
    SIZE,
    Case,
    Library,
    Maker,
    PiecedSheet,
    Sheet,
    StretchedSheet,
    around,
    partly_scanned,
    spoiled,
)

Edit = Callable[[Sheet], Sheet]
PAIRS = (("PAS", "HE"), ("PAS", "CD68"), ("JONES", "SR"), ("HE", "PANCK"), ("SR", "CD34"))
# Where sections are turned, mirrored and so on, the pair is drawn from these, so that no stain is everywhere.


def _pair(
    library: Library,
    name: str,
    family: str,
    moving: Edit = lambda sheet: sheet,
    fixed: Edit = lambda sheet: sheet,
    *,
    stains: tuple[str, str] | None = None,
    registrable: bool = True,
    artefacts: tuple[str, ...] = (),
    **section: object,
) -> Maker:
    """Two neighbouring sections of one block; the first is the reference, the second is ``moving``."""

    def make() -> Case:
        rng = library.rng(name)
        first, second = stains or PAIRS[int(rng.integers(len(PAIRS)))]
        block = library.block(name)
        one = library.sheet(block, 1, first, **section)  # type: ignore[arg-type]
        two = library.sheet(block, 2, second, artefacts=artefacts, **section)  # type: ignore[arg-type]
        return Case(name, family, (fixed(one), moving(two)), registrable)

    return Maker(name, make)


def plain(library: Library) -> Iterator[Maker]:
    for index, stains in enumerate(PAIRS):
        for difficulty in (1.0, 2.0) if index % 2 == 0 else (1.0,):
            name = f"{stains[0]}-{stains[1]} difficulty {difficulty:g}"
            yield _pair(library, name, "plain pair", stains=stains, difficulty=difficulty, centre=int(difficulty) - 1)


def turned(library: Library) -> Iterator[Maker]:
    for degrees in (90.0, 180.0):
        yield _pair(library, f"turned {degrees:g}", "turned", partial(Sheet.turned, degrees=degrees))
    for index in (1, 2):
        degrees = float(library.rng(f"turned {index}").uniform(20, 340))
        yield _pair(library, f"turned at random {index}", "turned", partial(Sheet.turned, degrees=degrees))


def mirrored(library: Library) -> Iterator[Maker]:
    yield _pair(library, "mirrored", "mirrored", Sheet.mirrored)
    yield _pair(library, "mirrored CD68", "mirrored", Sheet.mirrored, stains=("PAS", "CD68"))
    degrees = float(library.rng("mirrored turned").uniform(20, 340))
    yield _pair(library, "mirrored and turned", "mirrored", lambda sheet: sheet.mirrored().turned(degrees))
    yield _pair(library, "mirrored reference", "mirrored", fixed=Sheet.mirrored)


def artefacts(library: Library) -> Iterator[Maker]:
    for artefact, difficulty in (("pen", 1.0), ("pen", 2.0), ("bubble", 2.0), ("tear", 1.0), ("fold", 2.0)):
        name = f"{artefact}, difficulty {difficulty:g}"
        yield _pair(library, name, "artefact", artefacts=(artefact,), difficulty=difficulty)
    yield _pair(library, "everything at once", "artefact", artefacts=("pen", "bubble", "tear", "fold"))


def partly(library: Library) -> Iterator[Maker]:
    boxes = {"left half": (0, 0, 0.5, 1), "upper half": (0, 0, 1, 0.5), "lower right": (0.35, 0.35, 1, 1)}
    for name, box in boxes.items():
        yield _pair(library, f"only the {name}", "part missing", lambda sheet, box=box: sheet.only(*box))
    yield _pair(library, "half of the reference", "part missing", fixed=lambda sheet: sheet.only(0.5, 0, 1, 1))
    yield _pair(
        library, "two halves that do not overlap", "nothing in common", lambda sheet: sheet.only(0, 0, 0.47, 1),
        lambda sheet: sheet.only(0.53, 0, 1, 1), registrable=False,
    )  # fmt: skip


def magnified(library: Library) -> Iterator[Maker]:
    def silent(sheet: Sheet, factor: float = 1.0) -> Sheet:
        return sheet.magnified(factor).silent_on_mpp()

    yield _pair(library, "half the magnification", "magnification", partial(Sheet.magnified, factor=0.5))
    yield _pair(library, "a quarter of the magnification", "magnification", partial(Sheet.magnified, factor=0.25))
    yield _pair(library, "double, no mpp", "magnification", partial(silent, factor=2.0), silent)
    yield _pair(library, "0.4 times, no mpp", "magnification", partial(silent, factor=0.4), silent)
    yield _pair(library, "mpp of one only", "magnification", partial(silent, factor=0.7))


def scanners(library: Library) -> Iterator[Maker]:
    looks: dict[str, Edit] = {
        "very dark": lambda sheet: sheet.exposed(0.45),
        "very bright": lambda sheet: sheet.exposed(0.9, 70),
        "flat": lambda sheet: sheet.exposed(0.35, 150),
        "steep": lambda sheet: sheet.exposed(1.0, 0, 2.2),
        "JPEG quality 12": lambda sheet: sheet.compressed(12),
        "out of focus": lambda sheet: sheet.blurred(2.5),
    }
    for name, look in looks.items():
        yield _pair(library, name, "scanner", look)
    yield _pair(library, "sensor noise", "scanner", lambda sheet: sheet.noisy(library.rng("noise"), 18))
    yield _pair(library, "far apart centres", "scanner", difficulty=2.0, centre=3)


def glass(library: Library) -> Iterator[Maker]:
    yield _pair(library, "small on a long glass", "glass", lambda sheet: sheet.on_glass(4, 1.6, 0.9, 0.2))
    yield _pair(library, "unscanned white around", "glass", lambda sheet: sheet.on_glass(1.7, 1.7, 0.1, 0.8, 255))
    yield _pair(library, "unscanned black around", "glass", lambda sheet: sheet.on_glass(1.3, 1.3, 0.1, 0.8, 0))
    yield _pair(library, "scanner bounds", "glass", partly_scanned)
    yield _pair(library, "tiny tissue", "glass", lambda sheet: sheet.on_glass(2.5, 2.5, 0.7, 0.7), size=224)
    cuts = [lambda sheet, bottom=bottom: sheet.only(0, 0.4, 1, bottom) for bottom in (0.58, 0.6)]
    yield _pair(library, "a needle biopsy", "glass", *cuts)


def missing(library: Library) -> Iterator[Maker]:
    for gap in (3, 8):
        yield _pair(library, f"{gap} sections lost between", "missing sections", gap=gap)
    yield _pair(library, "100 sections lost between", "nothing in common", gap=100, registrable=False)


def unrelated(library: Library) -> Iterator[Maker]:
    def other(name: str, stains: tuple[str, str], edit: Edit = lambda sheet: sheet, difficulty: float = 1.0) -> Maker:
        def make() -> Case:
            first, second = library.rng(name).permutation(BLOCKS)[:2]
            one = library.sheet(f"block {first}", 1, stains[0], difficulty=difficulty)
            two = library.sheet(f"block {second}", 1, stains[1], difficulty=difficulty)
            return Case(name, "other patient", (one, edit(two)), registrable=False)

        return Maker(name, make)

    yield other("other patient, PAS", ("PAS", "PAS"))
    yield other("other patient, HE", ("HE", "HE"))
    yield other("other patient, PAS-CD68", ("PAS", "CD68"))
    yield other("other patient, JONES-SR", ("JONES", "SR"), difficulty=0.2)
    yield other("other patient, mirrored", ("HE", "PANCK"), Sheet.mirrored)
    yield other("other patient, half", ("PAS", "HE"), lambda sheet: sheet.only(0, 0, 0.5, 1))


def empty(library: Library) -> Iterator[Maker]:
    rng = library.rng("blank")
    yield _pair(library, "blank", "no tissue", lambda sheet: sheet.blank(rng), registrable=False)
    yield _pair(library, "blank reference", "no tissue", fixed=lambda sheet: sheet.blank(rng), registrable=False)
    yield _pair(library, "grey glass with noise", "no tissue", lambda s: s.blank(rng, 215, 9), registrable=False)
    yield _pair(library, "dust only", "no tissue", artefacts=("blank",), registrable=False)
    yield _pair(
        library, "uneven light, no tissue", "no tissue", lambda sheet: _shaded(sheet.blank(rng)), registrable=False
    )


def _shaded(sheet: Sheet) -> Sheet:
    ramp = np.linspace(1, 0.82, sheet.size[0])[None, :, None]
    return replace(sheet, pixels=(sheet.pixels * ramp).astype(np.uint8))


def files(library: Library) -> Iterator[Maker]:
    for kind in ("truncated", "garbage", "missing", "empty", "text"):

        def make(kind: str = kind) -> Case:
            sheets = [library.sheet("block 0", number, "PAS") for number in (1, 2)]
            return Case(f"{kind} file", "file", (sheets[0], spoiled(sheets[1], kind)), registrable=False)

        yield Maker(f"{kind} file", make)

    def among_good() -> Case:
        sheets = [library.sheet("block 1", number, stain) for number, stain in enumerate(("PAS", "HE", "SR"), 1)]
        return Case("one garbage file of three", "file", (sheets[0], spoiled(sheets[1], "garbage"), sheets[2]))

    yield Maker("one garbage file of three", among_good)

    def alone() -> Case:
        return Case("one section alone", "file", (library.sheet("block 0", 1, "PAS"),))

    yield Maker("one section alone", alone)

    def twice() -> Case:
        sheet = library.sheet("block 2", 1, "HE")
        return Case("the same file twice", "file", (sheet, sheet))

    yield Maker("the same file twice", twice)


def blocks(library: Library) -> Iterator[Maker]:
    four = ("PAS", "JONES", "SR", "CD68")

    def make(
        name: str, stains: tuple[str, ...], edit: Callable[[list[Sheet]], list[Sheet]], **section: object
    ) -> Maker:
        def build() -> Case:
            sheets = [
                library.sheet(library.block(name), number, stain, **section)  # type: ignore[arg-type]
                for number, stain in enumerate(stains, 1)
            ]
            return Case(name, "block", tuple(edit(sheets)))

        return Maker(name, build)

    def swapped(sheets: list[Sheet]) -> list[Sheet]:
        return [*sheets[:2], _hopeless(library.sheet("another block", 3, "SR"), "of another block"), *sheets[3:]]

    def two_mirrored(sheets: list[Sheet]) -> list[Sheet]:
        return [sheets[0], sheets[1].mirrored(), sheets[2].turned(180), sheets[3].mirrored()]

    def one_blank(sheets: list[Sheet]) -> list[Sheet]:
        return [*sheets[:1], sheets[1].blank(library.rng("block blank")), *sheets[2:]]

    yield make("four stains", four, lambda sheets: sheets)
    yield make("swapped with another block", four, swapped)
    yield make("two of four mirrored", four, two_mirrored)
    yield make("one blank of four", four, one_blank)
    yield make("order of the cut wrong", four, lambda sheets: [sheets[i] for i in (2, 0, 3, 1)])
    yield make("six sections, 2 lost between", ("PAS", "HE", *four), lambda sheets: sheets, gap=2)
    yield make("section lost, centre 2", ("PAS", "HE", "CD34"), lambda s: [s[0], s[2]], gap=1, centre=2, difficulty=1.5)


CORES = ((0.02, 0.0, 0.3, 1.0), (0.37, 0.0, 0.63, 1.0), (0.7, 0.0, 0.98, 1.0))  # of the width: three strips of tissue


def pieces(library: Library) -> Iterator[Maker]:
    """Three strips of a section, each of which has slid and turned by itself; two have changed places; one is lost."""

    def make(name: str, stains: tuple[str, str], places: tuple[int, ...]) -> Maker:
        def build() -> Case:
            block, rng = library.block(name), library.rng(name)
            fixed = library.sheet(block, 1, stains[0]).without(_between(SIZE))
            sheet = library.sheet(block, 2, stains[1])
            boxes, moves = [], []
            for place, core in enumerate(places):
                box = CORES[core]
                boxes.append(box)
                middle = SIZE * (box[0] + box[2]) / 2, SIZE / 2
                here = SIZE * (0.22 + 0.43 * place + rng.uniform(-0.02, 0.02)), SIZE * (0.6 + rng.uniform(-0.06, 0.06))
                back = tuple(np.subtract(middle, here))
                moves.append(around(middle, float(rng.uniform(-5, 5)), (0, 0)) @ around((0, 0), 0, back))
            size = round(1.3 * SIZE), round(1.2 * SIZE)
            return Case(name, "pieces", (fixed, PiecedSheet.of(sheet, tuple(boxes), tuple(moves), size)))

        return Maker(name, build)

    yield make("three pieces, moved", ("PAS", "HE"), (0, 1, 2))
    yield make("three pieces, moved, PAS-CD68", ("PAS", "CD68"), (0, 1, 2))
    yield make("three pieces, two exchanged", ("HE", "PANCK"), (0, 2, 1))
    yield make("three pieces, one lost", ("JONES", "SR"), (0, 1))


def stretched(library: Library) -> Iterator[Maker]:
    """Tissue that is up to 1.7 times as long in one place, and up to 0.7 times in another."""
    for pair, strength in zip(PAIRS, (0.25, 0.4, 0.4, 0.4, 0.25), strict=True):
        name = f"stretched by {strength:g}, {pair[0]}-{pair[1]}"

        def edit(sheet: Sheet, name: str = name, strength: float = strength) -> Sheet:
            rng = library.rng(f"{name} places")
            middles = np.array(sheet.size) * (np.array([[0.32, 0.5], [0.68, 0.5]]) + rng.uniform(-0.06, 0.06, (2, 2)))
            angles = rng.uniform(0, np.pi, 2)
            directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
            return StretchedSheet.of(sheet, middles, directions, np.array([-strength, strength]), 0.15 * sheet.size[0])

        yield _pair(library, name, "stretched", edit, stains=pair)


def _between(size: int) -> np.ndarray:
    """Where there is glass between the strips, bool (size, size)."""
    columns = np.zeros(size, bool)
    for x0, _, x1, _ in CORES:
        columns[round(x0 * size) : round(x1 * size)] = True
    return np.broadcast_to(~columns, (size, size)).copy()


def _hopeless(sheet: Sheet, why: str) -> Sheet:
    return replace(sheet, hopeless=why)


FAMILIES: tuple[Callable[[Library], Iterator[Maker]], ...] = (
    plain, turned, mirrored, artefacts, partly, magnified, scanners, glass, missing, unrelated, empty, files, blocks,
    pieces, stretched,
)  # fmt: skip


def all_cases(seed: int) -> Iterator[Maker]:
    """Makers of the cases in a fixed order; each renders its own sections when called."""
    for family in FAMILIES:
        yield from family(Library(seed))
