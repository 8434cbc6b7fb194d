"""The README's lines from a laboratory's folder to objects on a new slide, typed as they stand, on small sections."""

from __future__ import annotations

import html
import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from document_pages import typed
from laboratory import make_laboratory
from typer.testing import CliRunner

from stainda.cli.app import app

SMALLER = (
    "recipe=small", "training.epochs=1", "training.steps_per_epoch=2", "search.trials=1", "protocol.seeds=1",
    "patches.size=32",
    "strategies=[source_only,adabn]",
)  # fmt: skip
"""Changes to the study that was written, so that its training takes seconds."""


def type_the_readme(place: Path, changes: Sequence[str]) -> dict[str, str]:
    """Make ``slides/`` and ``new_slide.svs`` in ``place``, the working directory, and type the README's lines.

    Args:
        changes: settings that are written into the study once ``init`` has made it.

    Returns:
        What each command printed, by its words from the name of the command on.
    """
    make_laboratory(place / "slides", patients=4)
    shutil.copy(next((place / "slides").rglob("*_SR.tif")), place / "new_slide.svs")
    said: dict[str, str] = {}
    for words in (one.words for one in typed("README.md")):
        if words[0] == "open":
            assert (place / words[1]).is_file()
        if words[0] != "stainda":
            continue
        done = CliRunner().invoke(app, list(words[1:]), catch_exceptions=False)
        assert done.exit_code == 0, f"{' '.join(words)}\n{done.output}"
        said[" ".join(words[1:])] = done.output
        if words[1] == "init":
            _change(place / "studies" / "mine" / "mine.yaml", [*SMALLER, *changes])
    return said


def check_what_came(place: Path, said: dict[str, str]) -> None:
    """What a reader of the README relies on after its last line."""
    first, *rest = said
    status = said["status runs/mine"]
    assert first.startswith("init ") and rest[-1].startswith("predict ")
    assert "this study can run" in said["manifest check studies/mine/mine.yaml"]
    assert status.startswith("mine: complete") and "waiting" not in status, status
    assert (place / "predictions" / "new_slide.geojson").is_file()
    carried = list((place / "runs" / "mine" / "annotations" / "propagated").glob("*.geojson"))
    assert carried, "nothing was propagated"
    _type_the_line_of_the_page(place)


def _type_the_line_of_the_page(place: Path) -> None:
    """The page's own command for other slides; ``place`` is the working directory."""
    page = (place / "runs" / "mine" / "report" / "index.html").read_text(encoding="utf-8")
    lines = re.findall(r"stainda (predict [^<>\"]* SLIDE --out )predictions/", page)
    assert lines, "the page has no command for other slides"
    words = shlex.split(html.unescape(lines[0]).replace("SLIDE", "new_slide.svs"))
    done = CliRunner().invoke(app, [*words, "from_page"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert (place / "from_page" / "new_slide.geojson").is_file()


def _change(study: Path, changes: Sequence[str]) -> None:
    import yaml

    from stainda.config import load_study

    values = yaml.safe_load(study.read_text(encoding="utf-8"))
    for change in changes:
        key, value = change.split("=")
        *parents, last = key.split(".")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = yaml.safe_load(value)
    study.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    load_study(study)
