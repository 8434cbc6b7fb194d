"""The values written in a pickle, read without running it.

Unpickling imports and calls whatever the file names, so a pickle from elsewhere is a program from elsewhere. Here its
instructions are only parsed (``pickletools.genops``): numbers, texts, lists, dicts and NumPy arrays come out as such,
every object as a :class:`Record` that names its class and holds its attributes. Nothing is imported, nothing is called.
"""

from __future__ import annotations

import io
import os
import pickletools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stainda.arrays import Array
from stainda.errors import RegistrationError

MAX_BYTES = 4_000_000_000
MAX_INSTRUCTIONS = 30_000_000
_MARK = object()
_KINDS = {"f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}
_STEPPED_OVER = {"PROTO", "FRAME", "STOP"}
_TEXTS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"}
_NUMBERS = {"BININT", "BININT1", "BININT2", "LONG1", "LONG4", "INT", "LONG", "BINFLOAT", "FLOAT"}
_BYTES = {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "BINSTRING", "SHORT_BINSTRING", "STRING"}
_EMPTY = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple, "EMPTY_SET": list}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


@dataclass(frozen=True)
class Name:
    """A class or function as the file names it; it is not looked up."""

    name: str


@dataclass(eq=False)
class Record:
    """An object of the file: the name of its maker, what it was made from, and what was set on it."""

    maker: str
    arguments: tuple[Any, ...] = ()
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)
    values: list[Any] = field(default_factory=list)

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, as it was set on the object."""
        parts = self.state if isinstance(self.state, tuple) else (self.state,)
        for part in parts:
            if isinstance(part, dict) and name in part:
                return part[name]
        return default


def read_inert(path: Path) -> Any:
    """What a pickle holds.

    Raises:
        RegistrationError: not a pickle, damaged, too large, or of instructions that no registration result needs.
    """
    if path.stat().st_size > MAX_BYTES:
        raise RegistrationError(f"larger than is read ({MAX_BYTES / 1e9:.0f} GB)", file=path)
    with _WithinFile(path.open("rb", buffering=0)) as stream:
        try:
            return _Reader(path).read(pickletools.genops(stream))
        except RegistrationError:
            raise
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, EOFError, OverflowError) as error:
            raise RegistrationError(f"damaged, or not a pickle ({error})", file=path) from error


class _WithinFile(io.BufferedReader):
    """A stream of which no more is read than the file holds: a text in a pickle may claim any length, for which memory
    would be set aside."""

    def read(self, size: int | None = -1, /) -> bytes:
        rest = os.fstat(self.fileno()).st_size - self.tell()
        return super().read(rest if size is None or size < 0 else min(size, rest))


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def read(self, instructions: Iterator[tuple[Any, Any, int | None]]) -> Any:
        for count, (operation, argument, _) in enumerate(instructions):
            if count > MAX_INSTRUCTIONS:
                raise RegistrationError("more instructions than any registration result has", file=self.path)
            self.step(operation.name, argument)
        return array_or_self(self.stack.pop())

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _STEPPED_OVER:
            return
        if name in _TEXTS or name in _NUMBERS or name in _BYTES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[int(argument)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self.memo[int(argument)])
        elif name == "POP":
            stack.pop()
        elif name == "POP_MARK":
            self.marked()
        elif name == "DUP":
            stack.append(stack[-1])
        else:
            self.collect(name, argument)

    def collect(self, name: str, argument: Any) -> None:
        """Instructions that put several values together."""
        stack = self.stack
        if name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            parts = self.popped(int(name[-1]))
            stack.append(tuple(parts))
        elif name == "TUPLE":
            stack.append(tuple(self.marked()))
        elif name in ("LIST", "FROZENSET"):
            stack.append(self.marked())
        elif name == "DICT":
            parts = self.marked()
            stack.append(dict(zip(_keys(parts[::2]), parts[1::2], strict=True)))
        elif name in ("APPEND", "APPENDS", "ADDITEMS"):
            parts = self.popped(1) if name == "APPEND" else self.marked()
            whole = stack[-1]
            (whole.values if isinstance(whole, Record) else whole).extend(parts)
        elif name in ("SETITEM", "SETITEMS"):
            parts = self.popped(2) if name == "SETITEM" else self.marked()
            whole = stack[-1]
            target = whole.items if isinstance(whole, Record) else whole
            target.update(zip(_keys(parts[::2]), parts[1::2], strict=True))
        elif name == "GLOBAL":
            stack.append(Name(argument.replace(" ", ".")))
        elif name == "STACK_GLOBAL":
            module, attribute = self.popped(2)
            stack.append(Name(f"{module}.{attribute}"))
        elif name in ("REDUCE", "NEWOBJ"):
            maker, arguments = self.popped(2)
            stack.append(_made(maker, arguments))
        elif name == "NEWOBJ_EX":
            maker, arguments, _ = self.popped(3)
            stack.append(_made(maker, arguments))
        elif name in ("OBJ", "INST"):
            parts = self.marked()
            maker = Name(argument.replace(" ", ".")) if name == "INST" else parts.pop(0)
            stack.append(_made(maker, tuple(parts)))
        elif name == "BUILD":
            (state,) = self.popped(1)
            if isinstance(stack[-1], Record):
                stack[-1].state = state
        else:
            raise RegistrationError(f"uses the instruction {name}, which no registration result needs", file=self.path)

    def popped(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise ValueError("it ends too early")
        parts = self.stack[-count:]
        del self.stack[-count:]
        return parts

    def marked(self) -> list[Any]:
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise ValueError("a mark is missing")
        parts = self.stack[at + 1 :]
        del self.stack[at:]
        return parts


def _keys(keys: list[Any]) -> list[Any]:
    """Keys of a dict; an object as key is of no use here and stands for itself."""
    return [key if isinstance(key, (str, int, float, bool, bytes, type(None))) else id(key) for key in keys]


def _made(maker: Any, arguments: Any) -> Any:
    name = maker.name if isinstance(maker, Name) else str(maker)
    given = arguments if isinstance(arguments, tuple) else (arguments,)
    if name == "_codecs.encode" and len(given) == 2 and isinstance(given[0], str):
        return given[0].encode("latin-1")  # how protocol 2 writes bytes
    return Record(name, given)


def array_or_self(value: Any) -> Any:
    """A NumPy array, scalar or type of the file as such; anything else as it is.

    Raises:
        RegistrationError: the array is damaged, or of a kind that holds no numbers.
    """
    if not isinstance(value, Record):
        return value
    kind = value.maker.replace("numpy._core", "numpy.core")
    if kind == "numpy.core.multiarray.scalar" and len(value.arguments) == 2:
        return np.frombuffer(value.arguments[1], _dtype(value.arguments[0]))[0]
    if kind == "numpy.core.multiarray._reconstruct" and isinstance(value.state, tuple) and len(value.state) == 5:
        _, shape, dtype, fortran, data = value.state
        return _array(data, dtype, shape, bool(fortran))
    if kind == "numpy.core.numeric._frombuffer" and len(value.arguments) == 4:  # protocol 5
        data, dtype, shape, order = value.arguments
        return _array(data, dtype, shape, order == "F")
    return value


def _array(data: Any, dtype: Any, shape: Any, fortran: bool) -> Array:
    kind = _dtype(dtype)
    if not isinstance(data, bytes | bytearray) or len(data) != kind.itemsize * int(np.prod(shape, dtype=np.int64)):
        raise RegistrationError("an array is damaged: its size is not that of its shape")
    return np.frombuffer(data, kind).reshape(shape, order="F" if fortran else "C")


def _dtype(value: Any) -> np.dtype[Any]:
    code = value.arguments[0] if isinstance(value, Record) and value.maker.endswith("dtype") else None
    if code not in _KINDS:
        raise RegistrationError(f"an array of {code!r} where numbers are expected")
    order = value.state[1] if isinstance(value.state, tuple) and len(value.state) > 1 else "<"
    return np.dtype((order if order in "<>" else "") + code) if isinstance(order, str) else np.dtype(code)
