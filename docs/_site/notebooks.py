"""A tutorial's page from its notebook: text as it is, code as blocks, and what the code printed, where it is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def page(path: Path) -> str:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts = [_cell(cell) for cell in cells]
    parts.insert(1, f"*This page is the notebook `docs/tutorials/{path.name}`. Open it in Jupyter to run it.*")
    return "\n\n".join(parts) + "\n"


def _cell(cell: dict[str, Any]) -> str:
    text = "".join(cell["source"]).strip()
    if cell["cell_type"] == "markdown":
        return text
    return "\n\n".join([f"```python\n{text}\n```", *filter(None, map(_output, cell.get("outputs", ())))])


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    text = "".join(output.get("text", data.get("text/plain", ""))).strip()
    return f"```text\n{text}\n```" if text else ""
