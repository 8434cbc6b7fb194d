"""The list of the strategies that come with stainda, from their files."""

from __future__ import annotations

from pathlib import Path

import yaml
from tables import prose, table

_HEAD = """# Strategies that come with stainda

This page is generated from `configs/strategies/`. `stainda list strategies` groups them by family and
`stainda list strategies dann` tells all about one. What a strategy is made of: [Strategies](../concepts/strategies.md).
Each can also be given a start, a part of the network that learns, and a share of the labels:
[What learns](../concepts/strategies.md#what-learns).

"""


def page(folder: Path) -> str:
    rows = []
    for path in sorted(folder.glob("*.yaml")):
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        text = prose(raw.get("description", ""))
        rows.append((f"`{path.stem}`", text.split(". ")[0].rstrip("."), prose(raw.get("reference", ""))))
    return _HEAD + table(("name", "what it does", "paper"), rows) + "\n"
