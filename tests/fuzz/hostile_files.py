"""Manifests, study files, annotations, transforms: a good one of each, and hostile changes of it."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from hypothesis import strategies as st

from stainda.annotations import make_shapes
from stainda.annotations.formats import FORMATS, read_annotations, write_annotations

SHAPES = [shapely.box(10, 10, 60, 50), shapely.Point(100, 100).buffer(30), shapely.box(200, 150, 260, 220)]

TOKENS = (
    b"NaN", b"Infinity", b"-1", b"1e999", b"99999999999999999999", b"0", b"null", b"true", b"\x00", b"\xff\xfe", b"",
    b"../../../escape", b"/etc/passwd", b"[[[[", b"{", b"}", b"]", b'"', b",", b"\n", b";", b"'", b"<", b"&a;",
    b"<!ENTITY", b"!!python/object/apply:os.system ['touch escape']", b"*a", b"&a [*a]", b"${HOME}", b"%s%n",
    b"\xe2\x80\xae\xf0\x9f\x98\x80", b"<script>alert(1)</script>", b"A" * 3000, b"[" * 3000, b"coordinates",
    b"- " * 300, b"[]", b"{}", b'""', b"-0.0", b"1e-320", b"2147483648", b"0x10", b"_", b"*", b"..", b".",
)  # fmt: skip
NUMBERS = (
    b"\0", b"\xff", b"\0\0", b"\1\0", b"\xff\xff", b"\xff\x7f", b"\0\0\0\0", b"\1\0\0\0", b"\0\0\0\1",
    b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x40", b"\0\0\1\0", b"\0\0\0\x80", b"\xff" * 8, b"\0" * 8,
    b"\xff" * 7 + b"\x7f", b"\0" * 100, b"\xff" * 100, b"\0\0\xc0\x7f", b"\0\0\x80\x7f",
)  # fmt: skip
"""Whole numbers of binary files, at the ends of their ranges."""


NDPA = """<?xml version="1.0"?><annotations><ndpviewstate id="1"><title>glomerulus</title><coordformat>nanometers
</coordformat><annotation type="freehand" displayname="AnnotateFreehand" color="#ff0000"><closed>1</closed><pointlist>
<point><x>1000</x><y>1000</y></point><point><x>9000</x><y>1000</y></point><point><x>9000</x><y>9000</y></point>
</pointlist></annotation></ndpviewstate></annotations>"""


@dataclass(frozen=True)
class OnGlass:
    """What annotation formats ask of a slide; its file says where its picture lies on the glass."""

    path: Path
    size: tuple[int, int] = (400, 300)
    mpp: float = 0.4


def _slide(folder: Path) -> OnGlass:
    path = folder / "slide.ndpi"
    if not path.is_file():  # a TIFF with 64-bit offsets, and the high words of values behind its directory
        tags = [(256, 4, 40), (257, 4, 30), (65420, 4, 1), (65422, 9, -1_500_000), (65423, 9, 2_000_000)]
        entries = b"".join(struct.pack("<HHIi", tag, kind, 1, value) for tag, kind, value in tags)
        directory = struct.pack("<H", len(tags)) + entries + struct.pack("<Q", 0) + bytes(4 * len(tags))
        path.write_bytes(b"II" + struct.pack("<HQ", 42, 12) + directory)
    return OnGlass(path)


@dataclass(frozen=True)
class Case:
    """A kind of file.

    Attributes:
        make: writes a good one into a folder, and whatever it needs next to it. read: reads one.
        tokens: what is put into it.
        places: of a file, the bytes that are changed; default: all.
        share: of the examples of the full run: less for what takes long.
        refused: the good one is refused already. writes: what the reader may write next to it.
        seconds: of CPU that reading one may take.
    """

    name: str
    make: Callable[[Path], Path]
    read: Callable[[Path], object]
    tokens: Sequence[bytes] = TOKENS
    places: Callable[[Path], Sequence[int]] | None = None
    share: float = 1.0
    refused: bool = False
    writes: tuple[str, ...] = ()
    seconds: float = 5


def _annotations(name: str) -> Case:
    def make(folder: Path) -> Path:
        path = folder / f"a{FORMATS[name].suffixes[0]}"
        shapes = make_shapes(SHAPES, "glomerulus")
        try:
            write_annotations(shapes, path, name, _slide(folder))
        except Exception:  # a format that is read only
            path.write_text(NDPA)
        return path

    return Case(f"annotations as {name}", make, lambda path: read_annotations(path, name, _slide(path.parent)))


def _manifest(folder: Path) -> Path:
    from small_cohorts import write_rows

    from stainda.cohort import COLUMNS

    rows = []
    for patient in range(3):
        for section, stain in enumerate(("PAS", "SR")):
            (folder / f"P{patient}_{stain}.png").write_bytes(b"x")
            slide = f"P{patient}_{stain}"
            row = dict.fromkeys(COLUMNS, "")
            row |= {"slide": slide, "patient": f"P{patient}", "block": f"B{patient}", "section": section + 1}
            rows.append({**row, "stain": stain, "centre": "A", "path": f"{slide}.png", "mpp": 0.5})
    return write_rows(rows, folder / "manifest.csv")


def _read_manifest(path: Path) -> object:
    from stainda.cohort import read_manifest

    return read_manifest(path)


def _study(folder: Path) -> Path:
    from small_cohorts import STUDY, write_study

    return write_study(folder / "manifest.csv", folder / "study.yaml", STUDY)


def _read_study(path: Path) -> object:
    from stainda.config import load_study

    return load_study(path)


def _transform(folder: Path) -> Path:
    from stainda.registration.transforms import Transform

    path = folder / "transform.json"
    made = Transform.affine("a", (400, 300), "b", (400, 300), np.array([[1, 0.01, 3], [0, 1, 5], [0, 0, 1]]))
    made.save(path)
    return path


def _read_transform(path: Path) -> object:
    from stainda.registration.transforms import Transform

    return Transform.load(path)


def _landmarks(folder: Path) -> Path:
    path = folder / "landmarks.csv"
    path.write_text("name,x,y\n" + "\n".join(f"L{number},{number * 10.5},{number * 7}" for number in range(8)) + "\n")
    return path


def _read_landmarks(path: Path) -> object:
    from stainda.annotations.landmarks import read_landmarks

    return read_landmarks(path)


def _matrix(folder: Path) -> Path:
    path = folder / "matrix.json"
    path.write_text(json.dumps([[1, 0, 3], [0, 1, 5], [0, 0, 1]]))
    return path


def _read_matrix(path: Path) -> object:
    from stainda.registration.exchange.matrices import read_matrix

    return read_matrix(path)


CASES = [
    Case("manifest", _manifest, _read_manifest),
    Case("study", _study, _read_study),
    Case("transform", _transform, _read_transform),
    Case("arrays of a transform", lambda folder: _transform(folder).with_suffix(".npz"), _read_transform),
    Case("landmarks", _landmarks, _read_landmarks),
    Case("matrix of a transform", _matrix, _read_matrix),
    *(_annotations(name) for name in FORMATS),
]


@st.composite
def changes(draw: Callable, tokens: Sequence[bytes]) -> list[tuple[str, float, bytes]]:
    """Some changes of a file: what, where (as a share of its length), and with what."""
    what = st.sampled_from(["word", "put", "replace", "cut", "flip", "repeat", "end"])
    payload = st.one_of(st.sampled_from(tokens), st.binary(max_size=8))
    return draw(st.lists(st.tuples(what, st.floats(0, 1), payload), min_size=1, max_size=4))


WORD = re.compile(rb"[\w.+-]+")


def changed(good: bytes, edits: list[tuple[str, float, bytes]], places: Sequence[int] | None = None) -> bytes:
    """The file with the changes made; a ``word`` is a name or a number of a text, whose syntax stays as it is."""
    data = bytearray(good)
    for what, share, payload in edits:
        place = int(share * len(data)) if places is None else places[int(share * (len(places) - 1))]
        if what == "word" and places is None:
            words = [match.span() for match in WORD.finditer(data)]
            start, end = words[int(share * (len(words) - 1))] if words else (0, 0)
            data[start:end] = payload
        elif what == "put":
            data[place:place] = payload
        elif what in ("replace", "word"):
            data[place : place + max(1, len(payload))] = payload
        elif what == "cut":
            del data[place : place + max(1, len(payload)) * 4]
        elif what == "flip" and data:
            data[min(place, len(data) - 1)] ^= 1 << (len(payload) % 8)
        elif what == "repeat":
            data[place:place] = data[place : place + 40] * 20
        elif what == "end":
            del data[place:]
    return bytes(data)
