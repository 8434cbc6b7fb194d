"""How the verbs show how far they are: a bar in notebooks, nothing in scripts unless requested."""

from __future__ import annotations

from stainda.notebook import NotebookProgress, in_notebook
from stainda.progress import SILENT, Progress


def chosen_progress(wanted: bool | Progress | None) -> Progress:
    """What shows the progress of a call.

    Args:
        wanted: ``None``: a bar in a notebook, nothing elsewhere. ``True``: also elsewhere, as the commands show it.
            ``False``: nothing. Or what is to be informed of it.
    """
    if wanted is None:
        wanted = in_notebook()
    if not isinstance(wanted, bool):
        return wanted
    if not wanted:
        return SILENT
    if in_notebook():
        return NotebookProgress()
    from stainda.terminal import ConsoleProgress

    return ConsoleProgress()
