"""Files of annotations as they are exported, or packed with gzip or zip: opened as streams, bounded in size.

Nothing is unpacked to disk, and the names of members are only compared, never used as paths.
"""

from __future__ import annotations

import contextlib
import gzip
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from stainda.errors import AnnotationError

GZIP, ZIP = b"\x1f\x8b", b"PK"
TEXTS = (".geojson", ".json", ".csv", ".txt", ".xml", ".ndpa", ".annotations")
MAX_MEMBERS = 1000
_PIECE = 1 << 20
_BROKEN = (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class Member:
    """A file, or one inside an archive.

    Attributes:
        path: the file on disk. name: of the content, without the ending of the packing; a name, never a path.
        entry: of the zip; ``None``: the file itself. packed: whether it has to be unpacked.
    """

    path: Path
    name: str
    entry: zipfile.ZipInfo | None = None
    packed: bool = False

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix.lower()

    @contextlib.contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The content as a stream.

        Raises:
            AnnotationError: it cannot be read, or the archive is damaged or locked with a password.
        """
        try:
            with contextlib.ExitStack() as stack:
                if self.entry is not None:
                    archive = stack.enter_context(zipfile.ZipFile(self.path))
                    yield stack.enter_context(archive.open(self.entry))  # type: ignore[misc]
                elif self.packed:
                    yield stack.enter_context(gzip.open(self.path, "rb"))  # type: ignore[misc]
                else:
                    yield stack.enter_context(self.path.open("rb"))
        except _BROKEN as error:
            raise AnnotationError(
                f"cannot be unpacked ({error})", file=self.path, remedy="Unpack it yourself, or export it again"
            ) from error
        except OSError as error:
            raise AnnotationError(
                f"cannot be read ({error.strerror or error})", file=self.path, remedy="Check its permissions"
            ) from error

    def read(self, max_bytes: int) -> bytes:
        """All of the content.

        Raises:
            AnnotationError: as :meth:`open`; or it is larger than ``max_bytes``, which is seen without unpacking it.
        """
        pieces, size = [], 0
        with self.open() as stream:
            while piece := stream.read(_PIECE):
                size += len(piece)
                if size > max_bytes:
                    raise too_large(self.path, max_bytes, "unpacked, it")
                pieces.append(piece)
        return b"".join(pieces)


def too_large(path: Path, max_bytes: int, what: str, remedy: str = "") -> AnnotationError:
    """The error about a file larger than is read."""
    return AnnotationError(
        f"{what} is more than is read ({max_bytes / 1e6:.0f} MB)",
        file=path,
        remedy=remedy
        or "Export fewer objects, or QuPath GeoJSON, of which 4 GB are read (in QuPath: select objects, "
        "then File > Export objects as GeoJSON > Selected objects)",
    )


def members(path: Path) -> list[Member]:
    """What a file holds: itself, or the files of annotations in a gzip or zip file, recognised by its first bytes.

    Of a zip with regions of ImageJ nothing is listed: that archive is a format of its own.

    Raises:
        AnnotationError: not a readable zip file, too many members, or none that could be annotations.
    """
    with Member(path, path.name).open() as stream:
        magic = stream.read(4)
    if magic.startswith(GZIP):
        return [Member(path, path.name[:-3] if path.name.lower().endswith(".gz") else path.name, packed=True)]
    if not magic.startswith(ZIP) or path.suffix.lower() in (".png", ".tif", ".tiff"):
        return [Member(path, path.name)]
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except (*_BROKEN, ValueError, OSError) as error:
        raise AnnotationError(f"not a readable zip file ({error})", file=path, remedy="Save it again") from error
    names = [PurePosixPath(info.filename.replace("\\", "/")) for info in infos]
    if any(name.suffix.lower() == ".roi" for name in names) or not infos:
        return [Member(path, path.name)]
    usable = [
        Member(path, name.name, info, packed=True)
        for info, name in zip(infos, names, strict=True)
        if name.suffix.lower() in TEXTS and not name.name.startswith(".") and "__MACOSX" not in name.parts
    ]
    if not usable:
        shown = ", ".join(str(name) for name in names[:3])
        raise AnnotationError(
            f"a zip file without annotations (it holds {shown})", file=path, remedy="Unpack it, and name the right file"
        )
    if len(usable) > MAX_MEMBERS:
        raise AnnotationError(f"a zip file of {len(usable)} files", file=path, remedy="Unpack it, and name one of them")
    return usable


def only_member(path: Path) -> Member:
    """The one file of annotations in a file.

    Raises:
        AnnotationError: there are several: only GeoJSON is read from several files as one.
    """
    candidates = members(path)
    if len(candidates) > 1:
        shown = ", ".join(candidate.name for candidate in candidates[:3])
        raise AnnotationError(
            f"a zip file of {len(candidates)} files ({shown}), which are read as one only where all are GeoJSON",
            file=path,
            remedy="Unpack it, and name the right file",
        )
    return candidates[0]


def ends(member: Member, head_bytes: int, tail_bytes: int, max_bytes: int) -> bytes:
    """The first and the last bytes of the content; of what is packed, the last are those of its first ``max_bytes``."""
    with member.open() as stream:
        head = stream.read(head_bytes)
        if not member.packed:
            stream.seek(max(stream.tell(), member.path.stat().st_size - tail_bytes))
            return head + stream.read(tail_bytes)
        tail, seen = b"", len(head)
        while seen < max_bytes and (piece := stream.read(_PIECE)):
            tail, seen = (tail + piece)[-tail_bytes:], seen + len(piece)
    return head + tail
