"""Links in folders of other people: what they lead to is not read and not written, unless the user says so.

A link is invisible in a list of files. One in a data set or a run directory that came as an archive may lead to a
private slide, whose pixels would then be in patches and reports, or to a folder in which a run would write. So a link
may not lead out of the folder it came with. The folder itself may be a link, or lie below one: the user named it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from stainda.errors import StaindaError

FOLLOW = "STAINDA_FOLLOW_LINKS"
"""Set to 1 by a user who trusts them. No setting of a study: a study file may come from elsewhere too."""


def follows_links() -> bool:
    """Whether the user allows links that lead out of their folder."""
    return os.environ.get(FOLLOW, "") not in ("", "0")


def leads_outside(path: Path, folder: Path) -> Path | None:
    """Where ``path``, which lies below ``folder`` by its name, really lies, if that is outside; ``None``: inside, or
    not below it by its name either."""
    full, root = Path(os.path.abspath(path)), Path(os.path.abspath(folder))  # noqa: PTH100 (resolve follows links)
    if not full.is_relative_to(root):
        return None
    target = full.resolve()
    return None if target.is_relative_to(root.resolve()) else target


def refuse_links(folder: Path) -> None:
    """Refuse a folder with a link, at any depth, that leads out of it.

    Raises:
        StaindaError: there is one, and the user does not allow it (:data:`FOLLOW`).
    """
    if follows_links() or not folder.is_dir():
        return
    root = folder.resolve()
    for link in _links(folder):
        target = link.resolve()
        if not target.is_relative_to(root):
            raise StaindaError(
                f"this link leads out of {folder}, to {target}",
                file=link,
                remedy=f"Put what it leads to in its place, or set {FOLLOW}=1 if the folder is yours",
            )


def _links(folder: Path) -> Iterator[Path]:
    """Links below a folder; those to folders are not entered, and what another process removes meanwhile is none."""
    open_folders = [os.fspath(folder)]
    while open_folders:
        with contextlib.suppress(FileNotFoundError), os.scandir(open_folders.pop()) as entries:
            for entry in entries:
                if entry.is_symlink():
                    yield Path(entry.path)
                elif entry.is_dir(follow_symlinks=False):
                    open_folders.append(entry.path)
