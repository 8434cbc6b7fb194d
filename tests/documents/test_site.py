"""The documentation site builds without a warning, needs nothing from the internet, and its notebooks run."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stainda.config import StudyConfig, available

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
MOST_BYTES = 60_000


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs", reason="installed by make setup (extra docs)")
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def _text(page: Path) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


def test_no_page_loads_anything_from_elsewhere(site):
    """Links may lead out; scripts, styles, fonts, frames and pictures may not."""
    pages = list(site.rglob("*.html"))
    assert len(pages) > 50
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?((?:https?:)?//[^\"' >]+)", text)
        loaded += re.findall(r"<link\b[^>]*\bhref=[\"']?((?:https?:)?//[^\"' >]+)", text)
        assert not loaded, page
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", style.read_text(encoding="utf-8")), style


def test_the_search_works_from_the_disk(site):
    assert (site / "search" / "search_index.js").is_file()
    assert "iframe-worker.js" in (site / "index.html").read_text(encoding="utf-8")


def test_the_reference_holds_every_command_key_strategy_and_room(site):
    import typer.main

    from stainda.cli.app import app

    commands, keys = _text(site / "reference/commands.html"), _text(site / "reference/configuration.html")
    for name in typer.main.get_command(app).commands:
        assert f"stainda {name}" in commands
    for name in StudyConfig.model_fields:
        assert re.search(rf"\b{name}\b", keys), name
    strategies = _text(site / "reference/strategies.html")
    assert all(name in strategies for name in available("strategies"))
    for room in (ROOT / "stainda").glob("*/__init__.py"):
        assert room.parent.name == "cli" or (site / f"reference/api/{room.parent.name}.html").is_file()
        assert f"{room.parent.name}" in _text(site / "concepts/architecture.html")


def test_the_reference_shows_what_a_room_exports(site):
    text = _text(site / "reference/api/registration.html")
    assert "load_block" in text and "level-0 pixels" in text
    assert not re.search(r":(?:class|func|data|mod):", text), "a role of a docstring is shown as it stands"


def test_the_reference_shows_every_name_of_the_front_door(site):
    import stainda

    text = (site / "reference/api/index.html").read_text(encoding="utf-8")
    headings = set(re.findall(r'<span class="doc doc-object-name[^"]*">(\w+)</span>', text))
    assert set(stainda.__all__) <= headings


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_large_outputs(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert path.stat().st_size < MOST_BYTES
    assert not [one for cell in cells for one in cell.get("outputs", ()) if "image/png" in one.get("data", {})]
    assert cells[0]["cell_type"] == "markdown" and cells[0]["source"][0].startswith("# ")


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    """In an empty folder, as someone does who copied it there."""
    nbformat = pytest.importorskip("nbformat", reason="installed by make setup (extra docs)")
    nbclient = pytest.importorskip("nbclient", reason="installed by make setup (extra docs)")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    notebook = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=1800, kernel_name="python3", resources=place).execute()
    printed = "".join(one.get("text", "") for cell in notebook.cells for one in cell.get("outputs", ()))
    assert "Traceback" not in printed
