"""Pixels are read while the network looks at those before them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Place = TypeVar("Place")
Pixels = TypeVar("Pixels")


def read_ahead(places: Iterable[Place], read: Callable[[Place], Pixels]) -> Iterator[tuple[Place, Pixels]]:
    """Each place with what was read there, in their order; the next is read by a thread meanwhile.

    Two batches are in memory at once. What ``read`` raises is raised when its place is due; places beyond the next are
    not read when the caller stops.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="read_ahead") as reader:
        waiting: tuple[Place, Future[Pixels]] | None = None
        for place in places:
            following = (place, reader.submit(read, place))
            if waiting is not None:
                yield waiting[0], waiting[1].result()
            waiting = following
        if waiting is not None:
            yield waiting[0], waiting[1].result()
