"""How a file of a run directory is declared: its path, what it means, who writes it; of a table also every column."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from stainda.errors import RecordError
from stainda.files import whole_file, write_csv
from stainda.names import file_name
from stainda.run_directory.text_rows import read_text_rows

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["text", "integer", "number", "truth"]

_NAME = re.compile(r"<(\w+)>")
_AGAIN = "Run the stage again"


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        kind: ``text`` (empty is ``""``), ``integer``, ``number`` or ``truth`` (``True`` or ``False``); an empty cell of
            the last three means *not known* or *not applicable*.
        meaning: one sentence without a full stop, with the unit.
        optional: not every table has it.
    """

    name: str
    kind: Kind
    meaning: str
    optional: bool = False


@dataclass(frozen=True)
class File:
    """A file of a run directory.

    Attributes:
        path: below the run directory; ``<slide>``, ``<block>``, ``<job>``, ``<rotation>`` stand for file names of them,
            ``*`` for anything.
        meaning: what it holds. written_by: the room that writes it. see: the page of the documentation about it.
    """

    path: str
    meaning: str
    written_by: str
    see: str = ""

    @property
    def name(self) -> str:
        """Its name without folders."""
        return PurePosixPath(self.path).name

    @property
    def folder(self) -> str:
        """The path of its folder below the run directory; empty for the run directory itself."""
        parent = str(PurePosixPath(self.path).parent)
        return "" if parent == "." else parent

    def at(self, root: str | Path, **names: str) -> Path:
        """Its place in the run directory ``root``; ``names`` are the block, slide, job or rotation it belongs to."""
        return Path(root) / _NAME.sub(lambda match: file_name(names[match[1]]), self.path)

    def inside(self, folder: str | Path, **names: str) -> Path:
        """Its place in the folder that holds it."""
        return Path(folder) / _NAME.sub(lambda match: file_name(names[match[1]]), self.name)

    def matches(self, path: str) -> bool:
        """Whether a path below a run directory is one of these files."""
        parts = (re.escape(part) for part in re.split(r"(<\w+>|\*\*?)", self.path))
        words = (
            ".+" if part == r"\*\*" else "[^/]+" if part == r"\*" or part[0] == "<" else part for part in parts if part
        )
        return re.fullmatch("".join(words), path) is not None


@dataclass(frozen=True)
class Table(File):
    """A table of a run directory: CSV, or Parquet where its path says so.

    Attributes:
        columns: in their order. more: columns that depend on the study (``px_<class>``), and stand after any other.
        per_rotation: a study of several rotations puts the column ``rotation`` before all others.
    """

    columns: tuple[Column, ...] = field(default=(), kw_only=True)
    more: Column | None = field(default=None, kw_only=True)
    per_rotation: bool = field(default=False, kw_only=True)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(column.name for column in self.columns)

    @property
    def needed(self) -> tuple[str, ...]:
        """The names of the columns that every such table has."""
        return tuple(column.name for column in self.columns if not column.optional)

    def without(self, *names: str) -> tuple[str, ...]:
        """The names of the other columns."""
        return tuple(name for name in self.names if name not in names)

    def kinds(self, header: Iterable[str]) -> dict[str, Kind]:
        """What each column of a table's header holds; a column that is not declared is no key."""
        known: dict[str, Kind] = {column.name: column.kind for column in self.columns}
        if self.per_rotation:
            known["rotation"] = "text"
        if self.more is not None:
            known |= {name: self.more.kind for name in header if name not in known and self._is_more(name)}
        return {name: known[name] for name in header if name in known}

    def _is_more(self, name: str) -> bool:
        return self.more is not None and name.startswith(self.more.name.partition("<")[0])

    def faults(self, header: Sequence[str]) -> list[str]:
        """What a header has that is not declared, lacks, or has in another order; empty where it is as declared."""
        known = self.kinds(header)
        messages = [f"{name} is not declared" for name in header if name not in known]
        messages += [f"{name} is missing" for name in self.needed if name not in header]
        listed = [name for name in header if name in self.names]
        if listed != [name for name in self.names if name in listed]:
            messages.append("the columns are in another order")
        if self.per_rotation and "rotation" in header and header[0] != "rotation":
            messages.append("rotation is not the first column")
        return messages

    def write(self, folder: str | Path, rows: Iterable[Mapping[str, Any]]) -> Path:
        """Write rows as CSV into the folder that holds the table, with all declared columns.

        ``None`` and what a row lacks are empty cells.

        Raises:
            ValueError: a row has a key that is no column.
        """
        return write_csv(self.inside(folder), rows, self.names)

    def write_frame(self, folder: str | Path, frame: pd.DataFrame, float_format: str | None = None) -> Path:
        """Write a DataFrame into the folder that holds the table.

        Raises:
            ValueError: its columns are not those declared.
        """
        if faults := self.faults(list(frame.columns)):
            raise ValueError(f"{self.path}: {'; '.join(faults)}")
        path = self.inside(folder)
        with whole_file(path) as aside:
            if path.suffix == ".parquet":
                frame.to_parquet(aside, index=False)
            else:
                frame.to_csv(aside, index=False, float_format=float_format)
        return path

    def complete(self, frame: pd.DataFrame) -> pd.DataFrame:
        """A frame that an earlier version wrote, with the needed columns that it lacks, empty, in their places."""
        wanted = [name for name in self.names if name in self.needed or name in frame.columns]
        return frame.reindex(columns=[*(name for name in frame.columns if name not in wanted), *wanted])

    def read(self, folder: str | Path) -> pd.DataFrame:
        """The table in the folder that holds it. Text stays text also where it looks like numbers (patient ``007``).

        Raises:
            RecordError: it is not there yet, or is no such table.
        """
        return self.read_file(self.inside(folder))

    def read_file(self, path: Path) -> pd.DataFrame:
        """As :meth:`read`, of the file itself."""
        import pandas as pd

        if not path.is_file():
            raise RecordError(
                f"there is no {path.name} here yet", file=path, remedy="Run the study to its end: 'stainda run'"
            )
        try:
            if path.suffix == ".parquet":
                return pd.read_parquet(path)
            columns = list(pd.read_csv(path, nrows=0).columns)
            kinds = self.kinds(columns)
            text = [name for name, kind in kinds.items() if kind == "text"]
            table = pd.read_csv(
                path, dtype=dict.fromkeys(text, str),
                na_values={name: ["", "nan"] for name in columns if name not in text},
                keep_default_na=False, low_memory=False,
            )  # fmt: skip
            for name, kind in kinds.items():
                if kind in ("integer", "number"):
                    table[name] = pd.to_numeric(table[name])
        except (ValueError, UnicodeDecodeError) as error:
            raise RecordError(f"not a readable table ({error})", file=path, remedy=_AGAIN) from error
        if lacking := [name for name in self.needed if name not in columns]:
            raise RecordError(f"columns {', '.join(lacking)} are missing", file=path, remedy=_AGAIN)
        return table

    def rows(self, folder: str | Path) -> list[dict[str, str]]:
        """The rows of the table in the folder that holds it, every cell as text; pandas is not needed.

        Raises:
            RecordError: it is not there yet, or is no table.
        """
        path = self.inside(folder)
        try:
            return read_text_rows(path, (), _AGAIN)[1]
        except FileNotFoundError:
            raise RecordError(
                f"there is no {path.name} here yet", file=path, remedy="Run the study to its end: 'stainda run'"
            ) from None
