"""What mkdocs calls: pages made from the code and the notebooks at each build, and the last touches of every page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import api
import commands
import configuration
import notebooks
import strategies
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]

_ROLE = re.compile(r":(?:class|func|mod|data|meth|attr|exc):<code>~?(?:[\w.]+\.)?(\w+)</code>")
_ROOMS = re.compile(r"<!-- rooms:.*?-->", re.DOTALL)


def generated() -> dict[str, str]:
    """Every page that is made from code or notebooks, by its path below ``docs/``."""
    return {
        "reference/commands.md": commands.page(),
        "reference/configuration.md": configuration.page(),
        "reference/strategies.md": strategies.page(ROOT / "configs" / "strategies"),
        "reference/manifest.md": _manifest(),
        **api.pages(ROOT / "stainda"),
        **{f"tutorials/{path.stem}.md": notebooks.page(path) for path in (ROOT / "docs/tutorials").glob("*.ipynb")},
    }


def _manifest() -> str:
    """The page of the manifest is that of ``data_manifests/``."""
    return (ROOT / "data_manifests" / "README.md").read_text(encoding="utf-8").replace("](../docs/reference/", "](")


def on_config(config: Any) -> Any:
    """Put the rooms of the package into the navigation."""
    reference = next(entry["Reference"] for entry in config["nav"] if "Reference" in entry)
    python = next(entry for entry in reference if isinstance(entry, dict) and "Python" in entry)
    python["Python"] = list(api.pages(ROOT / "stainda"))
    return config


def on_files(files: Files, config: Any) -> Files:
    for path, text in generated().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the table of the rooms where a page asks for it."""
    return _ROOMS.sub(lambda _: api.rooms_by_floor(ROOT), markdown)


def on_page_content(html: str, **_: Any) -> str:
    """The roles of docstrings are shown as code."""
    return _ROLE.sub(r"<code>\1</code>", html)
